/** Consuming what is stored, with Kafka's consumer-perf-test and Kafka's Node clients, the same against Naru and Kafka. */
import {
  clientCpuPerGib,
  eventsPerSecond,
  megabytesPerSecond,
  noted,
  serverCpuPerGib,
  serverPeakMib,
} from '../figures.ts';
import { EVENT_BYTES } from '../../peer-load/sample-events.ts';
import { consumePerf, producePerf } from '../../peer-load/perf-tools.ts';
import type { ClientName } from '../../peer-clients/clients.ts';
import type { PeerScenario } from '../peer-scenario.ts';
import { createKafkaTopic } from './kafka-topic.ts';
import { bothWith, once } from './subjects.ts';

const KIB = 1024;
const PARTITIONS = 6;
/** More would take a Node client longer than the others together. */
const NODE_EVENTS_PART = 0.25;

function withPerfTest(name: string, recordBytes: number): PeerScenario {
  const pair = { subject: 'naru (kafka-tools) fsync', peer: 'kafka (kafka-tools) fsync' };
  return {
    name,
    title: `kafka-consumer-perf-test: ${recordBytes} B, ${PARTITIONS} partitions`,
    what: 'A stored topic from its beginning, a new group each time. The time is that of fetching, without the group coming together.',
    subjects: once(bothWith('kafka-tools')),
    figures: [
      megabytesPerSecond,
      eventsPerSecond,
      serverCpuPerGib,
      clientCpuPerGib,
      serverPeakMib,
      noted('rebalance ms', 'rebalanceMs', 0),
    ],
    targets: [
      { ...pair, what: 'at least as fast', figure: megabytesPerSecond.name, atLeast: 1 },
      { ...pair, what: 'server CPU for each GiB 1.5 times better (aim)', figure: serverCpuPerGib.name, atLeast: 1.5 },
    ],
    warmUps: 1,
    prepare: async (run) => {
      const topic = run.nextTopic();
      const { address } = run.server;
      await createKafkaTopic(run, topic, PARTITIONS);
      // Small events take more time for each byte.
      const events = Math.round(run.settings.storedBytes / Math.max(recordBytes, KIB / 3));
      await producePerf({ address, topic, events, recordBytes });
      Object.assign(run.kept, { topic, events });
    },
    run: (run) => {
      const { topic = '', events = 0 } = run.kept;
      return run.measure(() => consumePerf({ address: run.server.address, topic, events }, run.nextTopic()));
    },
  };
}

function withNodeClient(client: ClientName): PeerScenario {
  return {
    name: `consume-${client}`,
    title: `${client}: consuming 1 KiB of JSON, ${PARTITIONS} partitions`,
    what: 'A stored topic from its beginning, parsed; a new group each time. The time includes the group coming together.',
    subjects: once(bothWith(client)),
    figures: [eventsPerSecond, megabytesPerSecond, serverCpuPerGib, clientCpuPerGib, serverPeakMib],
    targets: [],
    warmUps: 1,
    prepare: async (run) => {
      const topic = { name: run.nextTopic(), partitions: PARTITIONS, groups: [], kind: 'log' } as const;
      const events = Math.round((run.settings.storedBytes * NODE_EVENTS_PART) / EVENT_BYTES);
      const sender = await run.start('peer-sender', { client, address: run.server.address, topic }, 'sender');
      await sender.call('pump', { events });
      Object.assign(run.kept, { topic: topic.name, events });
    },
    run: (run) => {
      const { topic: name = '', events = 0 } = run.kept;
      const topic = { name, partitions: PARTITIONS, groups: [run.nextTopic()], kind: 'log' } as const;
      return run.measure(async () => {
        const startMs = performance.now();
        const { address } = run.server;
        const receiver = await run.start('peer-receiver', { client, address, topic, members: 1 }, 'receiver');
        await receiver.call('until', { events });
        return { events, bytes: events * EVENT_BYTES, seconds: (performance.now() - startMs) / 1_000 };
      });
    },
  };
}

export const consumeScenarios: readonly PeerScenario[] = [
  withPerfTest('consume-1kb', KIB),
  withPerfTest('consume-100b', 100),
  withNodeClient('kafkajs'),
  withNodeClient('platformatic'),
  withNodeClient('librdkafka'),
];
