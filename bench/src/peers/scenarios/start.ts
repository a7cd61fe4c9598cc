/** A server's start and what it needs: until the first acknowledgement, idle, and under load. */
import { noted } from '../figures.ts';
import { EVENT_BYTES } from '../../peer-load/sample-events.ts';
import type { ClientName } from '../../peer-clients/clients.ts';
import type { TopicSpec } from '../../peer-clients/peer-client.ts';
import type { PeerScenario, PeerTarget } from '../peer-scenario.ts';
import type { SubjectRun } from '../subject-run.ts';
import { once, withOwnServers } from './subjects.ts';

const MIB = 1024 ** 2;
/** After the start, until memory and use of the CPU count as idle. */
const SETTLE_MS = 3_000;
/** A start with nothing stored but one topic. */
const topic: TopicSpec = { name: 'start', partitions: 6, groups: ['group'], kind: 'log' };

const coldStart = noted('to first ack ms', 'firstAckMs', 0);
const idleMib = noted('idle MiB', 'idleMib', 0);

const target = (what: string, figure: string, atLeast: number): PeerTarget => ({
  subject: 'naru fsync',
  peer: 'kafka (platformatic) fsync',
  what,
  figure,
  atLeast,
});

export const start: PeerScenario = {
  name: 'start',
  title: 'Cold start, idle and under load',
  what: 'From starting the process, on a directory with one empty topic, to the first acknowledgement to a client that was there before; resident memory and use of the CPU while nobody does anything; the highest memory while a client publishes.',
  subjects: once(withOwnServers(['naru', 'platformatic', 'nats', 'redis-streams', 'rabbit-quorum'])),
  figures: [
    coldStart,
    noted('to listening ms', 'listeningMs', 0),
    idleMib,
    noted('idle CPU %', 'idleCpuPercent', 2),
    noted('loaded MiB', 'loadedMib', 0),
  ],
  targets: [
    target('cold start at most a tenth of Kafka’s', coldStart.name, 10),
    target('idle memory at most a third of Kafka’s', idleMib.name, 3),
  ],
  warmUps: 0,
  prepare: async (run) => {
    const client = run.subject.client as ClientName;
    const sender = await run.start('peer-sender', { client, address: run.server.address, topic }, 'sender');
    await sender.call('pump', { events: 1 });
  },
  run: startOnce,
};

async function startOnce(run: SubjectRun) {
  const { server, settings } = run;
  const client = run.subject.client as ClientName;
  await server.stop();
  const probe = await run.start('peer-probe', { client, topic }, 'probe');
  const startMs = performance.now();
  const listening = server.restart();
  await probe.call('firstAck', server.address);
  const firstAckMs = performance.now() - startMs;
  const listeningMs = await listening;
  await run.endRound();
  await sleep(SETTLE_MS);
  const before = server.usage();
  const idleStartMs = performance.now();
  await sleep(settings.seconds * 1_000);
  const idleSeconds = (performance.now() - idleStartMs) / 1_000;
  const after = server.usage();
  const loaded = await load(run);
  return {
    ...loaded,
    notes: {
      firstAckMs,
      listeningMs,
      idleMib: after.rssBytes / MIB,
      idleCpuPercent: ((after.cpuSeconds - before.cpuSeconds) / idleSeconds) * 100,
      loadedMib: loaded.server.peakRssBytes / MIB,
    },
  };
}

async function load(run: SubjectRun) {
  const loadTopic: TopicSpec = { ...topic, name: run.nextTopic() };
  const client = run.subject.client as ClientName;
  const sender = await run.start('peer-sender', { client, address: run.server.address, topic: loadTopic }, 'sender');
  const events = run.eventsOf(EVENT_BYTES);
  return run.measure(() => sender.call('pump', { events }));
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
