/** kafkajs as its users set it up, with the codecs that it leaves to plugins: those of @naru/protocol. */
import type { CompressionType } from '@naru/protocol/batch';
import { nodeCompressionCodecs } from '@naru/protocol/compression-node';
import type { Admin, Consumer, ConsumerConfig, IHeaders, Producer, ProducerConfig } from 'kafkajs';
import kafkajs from 'kafkajs';
import { onTestFinished } from 'vitest';

const MAX_DECOMPRESSED_BYTES = 16 * 1024 * 1024;

for (const [type, name] of [
  [kafkajs.CompressionTypes.Snappy, 'snappy'],
  [kafkajs.CompressionTypes.LZ4, 'lz4'],
  [kafkajs.CompressionTypes.ZSTD, 'zstd'],
] as const satisfies [number, CompressionType][]) {
  // Its types leave the codecs out that a program adds itself.
  (kafkajs.CompressionCodecs as Record<number, unknown>)[type] = () => ({
    compress: async ({ buffer }: { buffer: Buffer }) => Buffer.from(nodeCompressionCodecs.compress(name, buffer)),
    decompress: async (data: Buffer) =>
      Buffer.from(nodeCompressionCodecs.decompress(name, data, MAX_DECOMPRESSED_BYTES)),
  });
}

/** What a consumer got, in the order in which it got it. */
export interface Taken {
  readonly topic: string;
  readonly partition: number;
  readonly offset: number;
  readonly key: string | null;
  readonly value: string | null;
  readonly timestamp: number;
  readonly headers: Readonly<Record<string, string>>;
}

export interface KafkajsMember {
  readonly consumer: Consumer;
  readonly taken: readonly Taken[];
  /** Its partitions since the last rebalance, sorted. */
  readonly assigned: () => readonly number[];
}

function textOf(headers: IHeaders | undefined): Record<string, string> {
  return Object.fromEntries(Object.entries(headers ?? {}).map(([name, value]) => [name, String(value)]));
}

/** Clients of one broker, gone when the test is over. */
export class KafkajsClients {
  readonly kafka: kafkajs.Kafka;

  constructor(bootstrap: string) {
    this.kafka = new kafkajs.Kafka({
      brokers: [bootstrap],
      clientId: 'interop',
      logLevel: kafkajs.logLevel.NOTHING,
      retry: { initialRetryTime: 50, retries: 8 },
    });
  }

  async producer(config: ProducerConfig = {}): Promise<Producer> {
    const producer = this.kafka.producer({ createPartitioner: kafkajs.Partitioners.DefaultPartitioner, ...config });
    onTestFinished(() => producer.disconnect());
    await producer.connect();
    return producer;
  }

  async admin(): Promise<Admin> {
    const admin = this.kafka.admin();
    onTestFinished(() => admin.disconnect());
    await admin.connect();
    return admin;
  }

  /**
   * A consumer that reads from the beginning and leaves everything in `taken`.
   *
   * @param handle what it does before; while it waits, the member sends no heartbeats
   */
  async consume(
    topic: string,
    config: ConsumerConfig,
    handle: () => Promise<void> = () => Promise.resolve(),
  ): Promise<KafkajsMember> {
    const consumer = this.kafka.consumer({ maxWaitTimeInMs: 100, heartbeatInterval: 200, ...config });
    onTestFinished(() => consumer.disconnect());
    await consumer.connect();
    await consumer.subscribe({ topic, fromBeginning: true });
    const taken: Taken[] = [];
    let assigned: readonly number[] = [];
    consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
      assigned = (payload.memberAssignment[topic] ?? []).toSorted((a, b) => a - b);
    });
    await consumer.run({
      eachMessage: async ({ topic: from, partition, message }) => {
        await handle();
        taken.push({
          topic: from,
          partition,
          offset: Number(message.offset),
          key: message.key?.toString() ?? null,
          value: message.value?.toString() ?? null,
          timestamp: Number(message.timestamp),
          headers: textOf(message.headers),
        });
      },
    });
    return { consumer, taken, assigned: () => assigned };
  }
}
