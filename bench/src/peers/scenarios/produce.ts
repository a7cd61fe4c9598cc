/** Producing with Kafka's clients, the same against Naru and Kafka. */
import {
  clientCpuPerGib,
  eventsPerSecond,
  megabytesPerSecond,
  p99Ms,
  serverCpuPerGib,
  serverPeakMib,
} from '../figures.ts';
import { EVENT_BYTES } from '../../peer-load/sample-events.ts';
import { producePerf } from '../../peer-load/perf-tools.ts';
import type { ClientName } from '../../peer-clients/clients.ts';
import type { PeerScenario, PeerTarget } from '../peer-scenario.ts';
import { createKafkaTopic } from './kafka-topic.ts';
import { bothWith } from './subjects.ts';
import { toolEventsOf } from './tool-events.ts';

const KIB = 1024;
const NARU = 'naru (kafka-tools) fsync';
const KAFKA = 'kafka (kafka-tools) no-fsync';
const KAFKA_SYNCED = 'kafka (kafka-tools) fsync';

function withPerfTest(name: string, recordBytes: number, partitions: number): PeerScenario {
  return {
    name,
    title: `kafka-producer-perf-test: ${recordBytes} B, ${partitions} partitions`,
    what: `acks=all, everything else as the tool has it, ${recordBytes} B of random letters without keys; a new topic each time. Latency is the tool's: with full buffers.`,
    subjects: bothWith('kafka-tools'),
    figures: [megabytesPerSecond, eventsPerSecond, serverCpuPerGib, clientCpuPerGib, serverPeakMib, p99Ms],
    targets: targets(partitions),
    run: async (run) => {
      const topic = run.nextTopic();
      const { address } = run.server;
      await createKafkaTopic(run, topic, partitions);
      const events = toolEventsOf(run, recordBytes);
      return run.measure(() => producePerf({ address, topic, events, recordBytes }));
    },
  };
}

function targets(partitions: number): PeerTarget[] {
  const ahead = { subject: NARU, peer: KAFKA, figure: megabytesPerSecond.name, atLeast: 1 };
  const frugal = { subject: NARU, peer: KAFKA, figure: serverCpuPerGib.name, atLeast: 1.5 };
  const synced = { subject: NARU, peer: KAFKA_SYNCED, figure: megabytesPerSecond.name, atLeast: 5 };
  return [
    { ...ahead, what: 'with fsync at least as fast as Kafka without' },
    { ...frugal, what: 'server CPU for each GiB 1.5 times better (aim)' },
    ...(partitions < 100 ? [] : [{ ...synced, what: 'both with fsync: at least 5 times as fast (aim: 20)' }]),
  ];
}

function withNodeClient(client: ClientName): PeerScenario {
  return {
    name: `produce-${client}`,
    title: `${client}: 1 KiB of JSON, 6 partitions`,
    what: 'Batches of 200 events with keys, five batches under way, acks of all; a new topic each time.',
    subjects: bothWith(client),
    figures: [eventsPerSecond, megabytesPerSecond, serverCpuPerGib, clientCpuPerGib, serverPeakMib],
    targets: [],
    run: async (run) => {
      const topic = { name: run.nextTopic(), partitions: 6, groups: [], kind: 'log' } as const;
      const { address } = run.server;
      const events = run.eventsOf(EVENT_BYTES);
      const sender = await run.start('peer-sender', { client, address, topic }, 'sender');
      await sender.call('pump', { events: Math.ceil(events / 4) });
      return run.measure(() => sender.call('pump', { events }));
    },
  };
}

export const produceScenarios: readonly PeerScenario[] = [
  ...[1, 6, 100].flatMap((partitions) => [
    withPerfTest(`produce-1kb-${partitions}p`, KIB, partitions),
    withPerfTest(`produce-100b-${partitions}p`, 100, partitions),
  ]),
  withNodeClient('kafkajs'),
  withNodeClient('platformatic'),
  withNodeClient('librdkafka'),
];
