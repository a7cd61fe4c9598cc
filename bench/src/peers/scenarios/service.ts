/** Node services: one publishes JSON, the other handles it; all three processes at once. */
import { clientCpuPerGib, eventsPerSecond, p50Ms, p99Ms, serverCpuPerGib, serverPeakMib } from '../figures.ts';
import { EVENT_BYTES } from '../../peer-load/sample-events.ts';
import type { ClientName } from '../../peer-clients/clients.ts';
import type { TopicSpec } from '../../peer-clients/peer-client.ts';
import { subjectName } from '../peer-scenario.ts';
import type { PeerMeasurement, PeerScenario } from '../peer-scenario.ts';
import type { SubjectRun } from '../subject-run.ts';
import { withOwnServers } from './subjects.ts';

const PARTITIONS = 6;
/** Of what is measured, before it: so much has both sides warm. */
const WARM_UP_PART = 0.25;
const MAX_WARM_UP = 5_000;

interface ServiceShape {
  readonly groups: number;
  readonly members: number;
  readonly kind: TopicSpec['kind'];
}

/** Events that are handled, in all groups together, and the time until the last. */
async function serve(run: SubjectRun, { groups, members, kind }: ServiceShape): Promise<PeerMeasurement> {
  const client = run.subject.client as ClientName;
  const { address } = run.server;
  const names = Array.from({ length: groups }, (_, index) => `group-${index}`);
  const topic: TopicSpec = { name: run.nextTopic(), partitions: PARTITIONS, groups: names, kind };
  const events = Math.ceil(run.eventsOf(EVENT_BYTES * groups) / groups);
  const warmUp = Math.min(Math.ceil(events * WARM_UP_PART), MAX_WARM_UP);
  const sender = await run.start('peer-sender', { client, address, topic }, 'sender');
  const receiver = await run.start('peer-receiver', { client, address, topic, members }, 'receiver');
  await sender.call('pump', { events: warmUp });
  await receiver.call('until', { events: warmUp * groups });
  await receiver.call('takeLatency');
  return run.measure(async () => {
    const startMs = performance.now();
    const [received] = await Promise.all([
      receiver.call('until', { events: (warmUp + events) * groups }),
      sender.call('pump', { events }),
    ]);
    const seconds = (performance.now() - startMs) / 1_000;
    // More than once is what at least once allows; it is no more work done.
    const repeated = received - (warmUp + events) * groups;
    const handled = events * groups;
    const latency = await receiver.call('takeLatency');
    return { events: handled, bytes: handled * EVENT_BYTES, seconds, latency, notes: { repeated } };
  });
}

const figures = [eventsPerSecond, serverCpuPerGib, clientCpuPerGib, serverPeakMib, p50Ms, p99Ms];

const everyOther: readonly ClientName[] = [
  'platformatic',
  'librdkafka',
  'nats',
  'redis-streams',
  'rabbit-quorum',
  'rabbit-stream',
];

export const service: PeerScenario = {
  name: 'service',
  title: 'Node service, end to end: 1 KiB of JSON, publish → handler → commit',
  what: 'A publisher as fast as it goes, and one subscriber that parses and commits as its client does by default or best; until the last event is handled. Latency is with full buffers.',
  subjects: withOwnServers(['naru', ...everyOther, 'bullmq']),
  figures,
  targets: withOwnServers([...everyOther, 'bullmq']).map((peer) => ({
    subject: `naru ${peer.durability}`,
    peer: subjectName(peer),
    what: 'at least twice the best other (aim: 3 times)',
    figure: eventsPerSecond.name,
    atLeast: 2,
  })),
  run: (run) => serve(run, { groups: 1, members: 1, kind: 'log' }),
};

export const fanOut: PeerScenario = {
  name: 'fan-out',
  title: 'Fan-out to 10 groups: 1 KiB of JSON',
  what: 'As `service`, with ten groups in the subscribing process; events are counted once for each group.',
  subjects: withOwnServers(['naru', ...everyOther]),
  figures,
  targets: [],
  run: (run) => serve(run, { groups: 10, members: 1, kind: 'log' }),
};

export const parallelQueue: PeerScenario = {
  name: 'parallel-queue',
  title: 'Parallel queue: any of 4 members takes any event',
  what: 'As `service`, with four members; each event is acknowledged by itself. Naru: a parallel topic. NATS: a work queue. RabbitMQ: a quorum queue.',
  subjects: withOwnServers(['naru', 'nats', 'redis-streams', 'rabbit-quorum', 'bullmq']),
  figures,
  targets: [],
  run: (run) => serve(run, { groups: 1, members: 4, kind: 'queue' }),
};
