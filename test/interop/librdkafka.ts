/** librdkafka through Confluent's client for Node, which is built by librdkafka/build.sh: its parts that the tests use, typed. */
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import type { Admin, Consumer, EachMessagePayload, Message, Producer, RecordMetadata, TopicOffsets } from 'kafkajs';
import { PEER_CACHE } from './peer.ts';

const manifest = JSON.parse(readFileSync(join(import.meta.dirname, 'librdkafka/package.json'), 'utf8')) as {
  dependencies: Record<string, string>;
};
const PACKAGE = '@confluentinc/kafka-javascript';
const home = join(PEER_CACHE, `librdkafka-${manifest.dependencies[PACKAGE]}-node-${process.version}`);

/** Why it is not there; null when it is. */
export const librdkafkaMissing = existsSync(home) ? null : `${home} is not there: run test/interop/librdkafka/build.sh`;

/** librdkafka's own settings, such as `group.protocol`. */
export type LibrdkafkaSettings = Readonly<Record<string, string | number | boolean>>;

/** Its interface is made after kafkajs', with librdkafka's settings instead of kafkajs'. */
export interface LibrdkafkaConsumer extends Pick<Consumer, 'connect' | 'disconnect' | 'seek' | 'commitOffsets'> {
  subscribe(subscription: { topics: readonly (string | RegExp)[] }): Promise<void>;
  run(config: { eachMessage: (payload: EachMessagePayload) => Promise<void> }): Promise<void>;
  assignment(): readonly { readonly topic: string; readonly partition: number }[];
}

export interface LibrdkafkaProducer extends Pick<Producer, 'connect' | 'disconnect'> {
  send(record: { topic: string; messages: readonly Message[] }): Promise<RecordMetadata[]>;
  /** Of a producer with a `transactional.id`; it is the producer itself. */
  transaction(): Promise<LibrdkafkaTransaction>;
}

export interface LibrdkafkaTransaction extends Pick<LibrdkafkaProducer, 'send'> {
  sendOffsets(offsets: { consumer: LibrdkafkaConsumer; topics: readonly TopicOffsets[] }): Promise<void>;
  commit(): Promise<void>;
  abort(): Promise<void>;
}

export interface Librdkafka {
  producer(settings?: LibrdkafkaSettings): LibrdkafkaProducer;
  consumer(settings: LibrdkafkaSettings): LibrdkafkaConsumer;
  admin(): Pick<
    Admin,
    | 'connect'
    | 'disconnect'
    | 'createTopics'
    | 'deleteTopics'
    | 'listTopics'
    | 'listGroups'
    | 'describeGroups'
    | 'deleteGroups'
    | 'fetchOffsets'
    | 'fetchTopicOffsets'
    | 'deleteTopicRecords'
  >;
}

export function librdkafka(bootstrap: string): Librdkafka {
  const { KafkaJS } = createRequire(join(home, 'package.json'))(PACKAGE) as {
    KafkaJS: { Kafka: new (settings: LibrdkafkaSettings) => Librdkafka };
  };
  return new KafkaJS.Kafka({ 'bootstrap.servers': bootstrap, log_level: 0 });
}
