/** What partitions and groups cost that are merely there. */
import { Admin } from '@platformatic/kafka';
import { megabytesPerSecond, noted, serverCpuPerGib, serverPeakMib } from '../figures.ts';
import { producePerf } from '../../peer-load/perf-tools.ts';
import type { PeerScenario, Subject } from '../peer-scenario.ts';
import type { SubjectRun } from '../subject-run.ts';
import type { ServerAddress } from '../../peer-servers/server-kind.ts';
import { createKafkaTopic } from './kafka-topic.ts';
import { toolEventsOf } from './tool-events.ts';

const KIB = 1024;
const GROUPS_AT_ONCE = 50;
const GROUP_PARTITIONS = 6;
const client = 'kafka-tools';

function pairs(durabilityOfKafka: Subject['durability'], variant: string): Subject[] {
  return [
    { server: 'naru', durability: 'fsync', client, variant },
    { server: 'kafka', durability: durabilityOfKafka, client, variant },
  ];
}

const few = '10 partitions';
const thousand = '1,000 partitions';
const tenThousand = '10,000 partitions';
const counts: Readonly<Record<string, number>> = { [few]: 10, [thousand]: 1_000, [tenThousand]: 10_000 };
const IDLE_GROUPS = 1_000;

export const manyPartitions: PeerScenario = {
  name: 'many-partitions',
  title: 'kafka-producer-perf-test: 1 KiB into 10, 1,000 and 10,000 partitions',
  what: 'acks=all; the topic is made once and stays. Kafka without fsync, since with it nothing would be left to compare.',
  subjects: [few, thousand, tenThousand].flatMap((variant) => pairs('no-fsync', variant)),
  figures: [megabytesPerSecond, serverCpuPerGib, serverPeakMib, noted('created in ms', 'createdMs', 0)],
  targets: [
    {
      what: '10,000 partitions keep 80 % of the throughput at 10',
      subject: `naru (${client}) fsync, ${tenThousand}`,
      peer: `naru (${client}) fsync, ${few}`,
      figure: megabytesPerSecond.name,
      atLeast: 0.8,
    },
  ],
  prepare: async (run) => {
    const partitions = counts[run.subject.variant ?? ''] ?? 1;
    const topic = `partitions-${partitions}`;
    const startMs = performance.now();
    await createKafkaTopic(run, topic, partitions);
    Object.assign(run.kept, { topic, events: Math.round(performance.now() - startMs) });
  },
  run: produce,
};

async function produce(run: SubjectRun) {
  const { topic = '', events: createdMs = 0 } = run.kept;
  const { address } = run.server;
  const events = toolEventsOf(run, KIB);
  const measured = await run.measure(() => producePerf({ address, topic, events, recordBytes: KIB }));
  return { ...measured, notes: { createdMs } };
}

const without = 'no groups';
const withGroups = '1,000 idle groups';

export const idleGroups: PeerScenario = {
  name: 'idle-groups',
  title: 'kafka-producer-perf-test beside 1,000 idle groups',
  what: 'Servers without groups, and servers where a thousand have a committed offset in the topic and nothing is asked of them.',
  subjects: [without, withGroups].flatMap((variant) => pairs('no-fsync', variant)),
  figures: [megabytesPerSecond, serverCpuPerGib, serverPeakMib],
  targets: [
    {
      what: 'idle groups cost nothing measurable',
      subject: `naru (${client}) fsync, ${withGroups}`,
      peer: `naru (${client}) fsync, ${without}`,
      figure: megabytesPerSecond.name,
      atLeast: 0.95,
    },
  ],
  serverPerVariant: true,
  prepare: async (run) => {
    const topic = 'with-groups';
    await createKafkaTopic(run, topic, GROUP_PARTITIONS);
    if (run.subject.variant === withGroups) await createGroups(run.server.address, topic, IDLE_GROUPS);
    Object.assign(run.kept, { topic });
  },
  run: produce,
};

/** A group is there as soon as it has a committed offset. */
async function createGroups({ host, port }: ServerAddress, topic: string, count: number): Promise<void> {
  const admin = new Admin({ clientId: 'bench', bootstrapBrokers: [`${host}:${port}`], retries: 100, retryDelay: 100 });
  const partitionOffsets = Array.from({ length: GROUP_PARTITIONS }, (_, partition) => ({ partition, offset: 0n }));
  const names = Array.from({ length: count }, (_, index) => `idle-${index}`);
  const topics = [{ name: topic, partitionOffsets }];
  for (let at = 0; at < count; at += GROUPS_AT_ONCE) {
    const some = names.slice(at, at + GROUPS_AT_ONCE);
    await Promise.all(some.map((groupId) => admin.alterConsumerGroupOffsets({ groupId, topics })));
  }
  await admin.close();
}
