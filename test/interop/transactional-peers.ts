/** Kafka's JavaScript clients as transactional producers and as consumers of what they wrote, all behind one interface. */
import {
  Consumer,
  FetchIsolationLevels,
  MessagesStreamModes,
  Producer,
  stringDeserializers,
  stringSerializers,
  type Message,
} from '@platformatic/kafka';
import type { Consumer as KafkajsConsumer, EachMessagePayload } from 'kafkajs';
import { onTestFinished } from 'vitest';
import { unusedName } from './kafka-target.ts';
import { KafkajsClients } from './kafkajs-clients.ts';
import { librdkafka, librdkafkaMissing, type LibrdkafkaConsumer } from './librdkafka.ts';

/** All that is here is in partition 0. */
export interface TransactionalPeer {
  readonly name: string;
  /** Why it is not there; null when it is. */
  readonly missing: string | null;
  /** Has its identity, at the latest with its first transaction, and so fences who had it before. */
  producer(bootstrap: string, options: TransactionalOptions): Promise<TransactionalProducer>;
  /** Values of a topic from its beginning, as they come. */
  read(bootstrap: string, topic: string, isolation: Isolation): Promise<readonly string[]>;
  /** Hands over records from the beginning, one after the other, and commits nothing itself. */
  consume(
    bootstrap: string,
    topic: string,
    groupId: string,
    handle: (record: Consumed) => Promise<void>,
  ): Promise<void>;
}

export type Isolation = 'committed' | 'uncommitted';

export interface TransactionalOptions {
  readonly transactionalId: string;
  /** Default 30,000. */
  readonly timeoutMs?: number | undefined;
}

export interface TransactionalProducer {
  begin(): Promise<OpenTransaction>;
}

export interface OpenTransaction {
  send(topic: string, ...values: string[]): Promise<void>;
  /** The offset after the record becomes its group's with the transaction. */
  sendOffset(record: Consumed): Promise<void>;
  commit(): Promise<void>;
  abort(): Promise<void>;
}

/** A record, and with it what the client that read it needs to commit it. */
export interface Consumed {
  readonly value: string;
  readonly topic: string;
  readonly offset: number;
  readonly groupId: string;
  readonly source: unknown;
}

const TIMEOUT_MS = 30_000;
const WAIT_MS = 100;

const toMessages = (values: readonly string[]) => values.map((value) => ({ value, partition: 0 }));
const nextOffset = ({ topic, offset }: Consumed) => [
  { topic, partitions: [{ partition: 0, offset: String(offset + 1) }] },
];
const fromPayload = ({ topic, message: { offset, value } }: EachMessagePayload) => {
  return { topic, value: String(value), offset: Number(offset) };
};

const kafkajs: TransactionalPeer = {
  name: 'kafkajs',
  missing: null,
  async producer(bootstrap, { transactionalId, timeoutMs = TIMEOUT_MS }) {
    const producer = await new KafkajsClients(bootstrap).producer({
      transactionalId,
      transactionTimeout: timeoutMs,
      idempotent: true,
      maxInFlightRequests: 1,
    });
    return {
      async begin() {
        const transaction = await producer.transaction();
        return {
          send: async (topic, ...values) => void (await transaction.send({ topic, messages: toMessages(values) })),
          sendOffset: (record) =>
            transaction.sendOffsets({ consumerGroupId: record.groupId, topics: nextOffset(record) }),
          commit: () => transaction.commit(),
          abort: () => transaction.abort(),
        };
      },
    };
  },
  async read(bootstrap, topic, isolation) {
    const values: string[] = [];
    const consumer = await kafkajsConsumer(bootstrap, topic, unusedName('reader'), isolation);
    await consumer.run({ eachMessage: async ({ message }) => void values.push(String(message.value)) });
    return values;
  },
  async consume(bootstrap, topic, groupId, handle) {
    const consumer = await kafkajsConsumer(bootstrap, topic, groupId, 'committed');
    const eachMessage = (payload: EachMessagePayload) => handle({ ...fromPayload(payload), groupId, source: consumer });
    await consumer.run({ autoCommit: false, eachMessage });
  },
};

async function kafkajsConsumer(
  bootstrap: string,
  topic: string,
  groupId: string,
  isolation: Isolation,
): Promise<KafkajsConsumer> {
  const { kafka } = new KafkajsClients(bootstrap);
  const consumer = kafka.consumer({
    groupId,
    readUncommitted: isolation === 'uncommitted',
    maxWaitTimeInMs: WAIT_MS,
    heartbeatInterval: 200,
  });
  onTestFinished(() => consumer.disconnect());
  await consumer.connect();
  await consumer.subscribe({ topic, fromBeginning: true });
  return consumer;
}

const platformatic: TransactionalPeer = {
  name: '@platformatic/kafka',
  missing: null,
  async producer(bootstrap, { transactionalId, timeoutMs = TIMEOUT_MS }) {
    const producer = new Producer<string, string, string, string>({
      clientId: 'interop',
      bootstrapBrokers: [bootstrap],
      idempotent: true,
      transactionalId,
      serializers: stringSerializers,
      // Without it, it says that it has id 0 and epoch 0, and is fenced when the transactional id has others.
      producerId: -1n,
      producerEpoch: -1,
      timeout: timeoutMs,
      retryDelay: 100,
    });
    onTestFinished(() => producer.close());
    return {
      async begin() {
        const transaction = await producer.beginTransaction();
        return {
          async send(topic, ...values) {
            await transaction.send({ messages: toMessages(values).map((message) => ({ ...message, topic })) });
          },
          async sendOffset({ source }) {
            const { consumer, message } = source as PlatformaticSource;
            await transaction.addConsumer(consumer);
            await transaction.addOffset(message);
          },
          commit: () => transaction.commit(),
          abort: () => transaction.abort(),
        };
      },
    };
  },
  async read(bootstrap, topic, isolation) {
    const values: string[] = [];
    const { stream } = await platformaticStream(bootstrap, topic, unusedName('reader'), isolation);
    stream.on('data', ({ value }: StringMessage) => values.push(value));
    return values;
  },
  async consume(bootstrap, topic, groupId, handle) {
    const { consumer, stream } = await platformaticStream(bootstrap, topic, groupId, 'committed');
    const all = async (): Promise<void> => {
      for await (const message of stream) {
        const { value, offset } = message;
        await handle({ value, topic, offset: Number(offset), groupId, source: { consumer, message } });
      }
    };
    // It ends with the stream, which ends with its consumer. What is not handled is missed by the test.
    all().catch((error: unknown) => process.stderr.write(`${String(error)}\n`));
  },
};

type StringMessage = Message<string, string, string, string>;
interface PlatformaticSource {
  readonly consumer: Consumer<string, string, string, string>;
  readonly message: StringMessage;
}

async function platformaticStream(bootstrap: string, topic: string, groupId: string, isolation: Isolation) {
  const consumer = new Consumer<string, string, string, string>({
    clientId: 'interop',
    bootstrapBrokers: [bootstrap],
    groupId,
    deserializers: stringDeserializers,
    maxWaitTime: WAIT_MS,
    isolationLevel: FetchIsolationLevels[isolation === 'committed' ? 'READ_COMMITTED' : 'READ_UNCOMMITTED'],
  });
  onTestFinished(() => consumer.close(true));
  const stream = await consumer.consume({ topics: [topic], mode: MessagesStreamModes.EARLIEST, autocommit: false });
  return { consumer, stream };
}

const throughLibrdkafka: TransactionalPeer = {
  name: 'librdkafka',
  missing: librdkafkaMissing,
  async producer(bootstrap, { transactionalId, timeoutMs = TIMEOUT_MS }) {
    const producer = librdkafka(bootstrap).producer({
      'transactional.id': transactionalId,
      'transaction.timeout.ms': timeoutMs,
      'message.timeout.ms': timeoutMs,
      'linger.ms': 1,
    });
    await producer.connect();
    onTestFinished(() => producer.disconnect());
    return {
      async begin() {
        const transaction = await producer.transaction();
        return {
          send: async (topic, ...values) => void (await transaction.send({ topic, messages: toMessages(values) })),
          sendOffset: (record) =>
            transaction.sendOffsets({ consumer: record.source as LibrdkafkaConsumer, topics: nextOffset(record) }),
          commit: () => transaction.commit(),
          abort: () => transaction.abort(),
        };
      },
    };
  },
  async read(bootstrap, topic, isolation) {
    const values: string[] = [];
    const consumer = await librdkafkaConsumer(bootstrap, topic, unusedName('reader'), isolation);
    await consumer.run({ eachMessage: async ({ message }) => void values.push(String(message.value)) });
    return values;
  },
  async consume(bootstrap, topic, groupId, handle) {
    const consumer = await librdkafkaConsumer(bootstrap, topic, groupId, 'committed');
    const eachMessage = (payload: EachMessagePayload) => handle({ ...fromPayload(payload), groupId, source: consumer });
    await consumer.run({ eachMessage });
  },
};

async function librdkafkaConsumer(
  bootstrap: string,
  topic: string,
  groupId: string,
  isolation: Isolation,
): Promise<LibrdkafkaConsumer> {
  const consumer = librdkafka(bootstrap).consumer({
    'group.id': groupId,
    'auto.offset.reset': 'earliest',
    'enable.auto.commit': false,
    'isolation.level': `read_${isolation}`,
    'fetch.wait.max.ms': WAIT_MS,
  });
  await consumer.connect();
  onTestFinished(() => consumer.disconnect());
  await consumer.subscribe({ topics: [topic] });
  return consumer;
}

export const transactionalPeers = [kafkajs, platformatic, throughLibrdkafka] as const;
