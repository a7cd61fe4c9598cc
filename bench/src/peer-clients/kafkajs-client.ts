/** kafkajs, and librdkafka behind the same interface: Confluent's client is made after it. */
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { Kafka, logLevel } from 'kafkajs';
import type { Admin, Consumer, ConsumerConfig, Producer, ProducerConfig } from 'kafkajs';
import { HOW_TO_FETCH, cached } from '../peer-servers/peer-cache.ts';
import type { ServerAddress } from '../peer-servers/server-kind.ts';
import { InFlight } from './in-flight.ts';
import type { PeerClient } from './peer-client.ts';

const BATCHES_IN_FLIGHT = 5;
const LIBRDKAFKA = '@confluentinc/kafka-javascript';

/** What both have. */
interface KafkaLike {
  admin(): Pick<Admin, 'connect' | 'disconnect' | 'createTopics'>;
  producer(): Pick<Producer, 'connect' | 'disconnect' | 'send'>;
  consumer(groupId: string): Pick<Consumer, 'connect' | 'disconnect' | 'run'> & {
    subscribe(subscription: { topics: string[]; fromBeginning?: boolean }): Promise<void>;
  };
  /** Given with each send, where the client takes it there. */
  readonly sendSettings: object;
}

export function openKafkajs({ host, port }: ServerAddress): PeerClient {
  const kafka = new Kafka({ clientId: 'bench', brokers: [`${host}:${port}`], logLevel: logLevel.ERROR });
  const producer: ProducerConfig = { allowAutoTopicCreation: false };
  const consumer: Partial<ConsumerConfig> = { maxWaitTimeInMs: 500 };
  return clientOf({
    admin: () => kafka.admin(),
    producer: () => kafka.producer(producer),
    consumer: (groupId) => {
      const one = kafka.consumer({ ...consumer, groupId });
      return {
        connect: () => one.connect(),
        disconnect: () => one.disconnect(),
        run: (config) => one.run(config),
        subscribe: ({ topics }) => one.subscribe({ topics, fromBeginning: true }),
      };
    },
    sendSettings: { acks: -1 },
  });
}

export function librdkafkaMissing(): string | null {
  return librdkafkaHome() === null ? `librdkafka's client is not there: ${HOW_TO_FETCH}` : null;
}

type Settings = Readonly<Record<string, string | number | boolean>>;
interface ConfluentKafka {
  admin(): ReturnType<KafkaLike['admin']>;
  producer(settings: Settings): ReturnType<KafkaLike['producer']>;
  consumer(settings: Settings): ReturnType<KafkaLike['consumer']>;
}

export function openLibrdkafka({ host, port }: ServerAddress): PeerClient {
  const { KafkaJS } = createRequire(join(librdkafkaHome() ?? '', 'package.json'))(LIBRDKAFKA) as {
    KafkaJS: { Kafka: new (settings: Settings) => ConfluentKafka };
  };
  const kafka = new KafkaJS.Kafka({ 'bootstrap.servers': `${host}:${port}`, log_level: 0 });
  return clientOf({
    admin: () => kafka.admin(),
    producer: () => kafka.producer({ acks: 'all' }),
    consumer: (groupId) =>
      kafka.consumer({
        'group.id': groupId,
        'auto.offset.reset': 'earliest',
        // As many as there are.
        'js.consumer.max.batch.size': -1,
      }),
    sendSettings: {},
  });
}

function librdkafkaHome(): string | null {
  return cached('librdkafka', `-node-${process.version}`)?.path ?? null;
}

function clientOf(kafka: KafkaLike): PeerClient {
  const open: { disconnect(): Promise<void> }[] = [];
  return {
    createTopic: async ({ name, partitions }) => {
      const admin = kafka.admin();
      await admin.connect();
      await admin.createTopics({ topics: [{ topic: name, numPartitions: partitions, replicationFactor: 1 }] });
      await admin.disconnect();
    },
    publisher: async ({ name: topic }) => {
      const producer = kafka.producer();
      await producer.connect();
      open.unshift(producer);
      const inFlight = new InFlight(BATCHES_IN_FLIGHT);
      const message = ({ key, value }: { key: string; value: object }) => ({ key, value: JSON.stringify(value) });
      return {
        publish: async (event) => {
          await producer.send({ topic, messages: [message(event)], ...kafka.sendSettings });
        },
        offer: async (events) => {
          await inFlight.room();
          inFlight.add(producer.send({ topic, messages: events.map(message), ...kafka.sendSettings }));
        },
        flush: () => inFlight.empty(),
      };
    },
    subscribe: async ({ name }, group, handler) => {
      const consumer = kafka.consumer(group);
      await consumer.connect();
      open.unshift(consumer);
      await consumer.subscribe({ topics: [name] });
      await consumer.run({
        eachBatch: ({ batch }) => {
          for (const { value } of batch.messages) handler(JSON.parse(String(value)) as object);
          return Promise.resolve();
        },
      });
    },
    close: async () => {
      for (const client of open) await client.disconnect();
    },
  };
}
