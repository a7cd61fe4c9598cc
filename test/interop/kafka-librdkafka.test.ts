/** librdkafka through Confluent's client for Node: topic ids, the new group protocol, an idempotent producer by default. */
import { afterAll, beforeAll, beforeEach, expect, it, onTestFinished, vi, describe } from 'vitest';
import { KafkaTarget, numbered, unusedName } from './kafka-target.ts';
import {
  librdkafka,
  librdkafkaMissing,
  type Librdkafka,
  type LibrdkafkaConsumer,
  type LibrdkafkaProducer,
  type LibrdkafkaSettings,
} from './librdkafka.ts';
import { peerIsMissing } from './peer.ts';

const WAIT = { timeout: 40_000, interval: 20 };
const PARTITIONS = 6;
const all = [0, 1, 2, 3, 4, 5];

interface Taken {
  readonly topic: string;
  readonly partition: number;
  readonly offset: number;
  readonly key: string | undefined;
  readonly value: string | undefined;
  readonly headers: Record<string, string>;
  readonly timestamp: number;
}

interface Member {
  readonly consumer: LibrdkafkaConsumer;
  readonly taken: readonly Taken[];
  readonly assigned: () => readonly number[];
}

let target: KafkaTarget;
let kafka: Librdkafka;
let topic: string;

beforeAll(async () => {
  target = await KafkaTarget.start({ defaultPartitions: 1 });
  if (librdkafkaMissing === null) kafka = librdkafka(target.bootstrap);
});

afterAll(() => target[Symbol.asyncDispose]());

beforeEach(() => {
  topic = unusedName('librdkafka');
});

async function producer(settings: LibrdkafkaSettings = {}): Promise<LibrdkafkaProducer> {
  const client = kafka.producer({ 'linger.ms': 1, ...settings });
  await client.connect();
  onTestFinished(() => client.disconnect());
  return client;
}

async function admin(): Promise<ReturnType<Librdkafka['admin']>> {
  const client = kafka.admin();
  await client.connect();
  onTestFinished(() => client.disconnect());
  return client;
}

async function createTopic(): Promise<void> {
  await (await admin()).createTopics({ topics: [{ topic, numPartitions: PARTITIONS, replicationFactor: 1 }] });
}

async function fill(prefix: string, count: number): Promise<void> {
  const client = await producer();
  const messages = all.flatMap((partition) => numbered(prefix, count).map((value) => ({ value, partition })));
  await client.send({ topic, messages });
}

async function member(
  settings: LibrdkafkaSettings = {},
  topics: readonly (string | RegExp)[] = [topic],
): Promise<Member> {
  const consumer = kafka.consumer({
    'group.id': topic,
    'auto.offset.reset': 'earliest',
    'auto.commit.interval.ms': 100,
    'fetch.wait.max.ms': 100,
    'topic.metadata.refresh.interval.ms': 1_000,
    ...settings,
  });
  await consumer.connect();
  onTestFinished(() => consumer.disconnect());
  await consumer.subscribe({ topics });
  const taken: Taken[] = [];
  await consumer.run({
    eachMessage: async ({ topic: from, partition, message: { offset, key, value, headers, timestamp } }) => {
      taken.push({
        topic: from,
        partition,
        offset: Number(offset),
        key: key?.toString(),
        value: value?.toString(),
        headers: Object.fromEntries(Object.entries(headers ?? {}).map(([name, bytes]) => [name, String(bytes)])),
        timestamp: Number(timestamp),
      });
    },
  });
  const assigned = (): number[] => consumer.assignment().map(({ partition }) => partition);
  return { consumer, taken, assigned: () => assigned().toSorted((a, b) => a - b) };
}

describe.skipIf(peerIsMissing('librdkafka', librdkafkaMissing))('librdkafka', () => {
  it.each(['none', 'gzip', 'snappy', 'lz4', 'zstd'])(
    'with %s: keys, values, headers and timestamps come back as they were sent',
    async (codec) => {
      const client = await producer({ 'compression.type': codec });
      const messages = numbered('value', 100).map((value, index) => ({
        partition: 0,
        key: `key-${index % 7}`,
        value: `${value} ${'x'.repeat(50)}`,
        headers: { number: String(index) },
        timestamp: String(1_700_000_000_000 + index),
      }));
      // It makes buffers of what it is given.
      await client.send({ topic, messages: structuredClone(messages) });
      const { taken } = await member();
      await vi.waitFor(() => expect(taken.length).toBe(100), WAIT);
      expect(taken).toEqual(
        messages.map((message, offset) => ({ ...message, topic, offset, timestamp: Number(message.timestamp) })),
      );
    },
  );

  it('an idempotent producer with five requests in flight keeps its order', async () => {
    const client = await producer({ 'enable.idempotence': true, 'batch.num.messages': 10 });
    const values = numbered('value', 2_000);
    await client.send({ topic, messages: values.map((value) => ({ value, partition: 0 })) });
    const { taken } = await member();
    await vi.waitFor(() => expect(taken.length).toBe(2_000), WAIT);
    expect(taken.map(({ value }) => value)).toEqual(values);
  });

  it('a message that is too large is refused with Kafka’s error', async () => {
    const client = await producer({ 'message.max.bytes': 3_000_000 });
    const value = 'x'.repeat(2_000_000);
    await expect(client.send({ topic, messages: [{ value }] })).rejects.toMatchObject({ code: 10 });
  });

  it.each(['classic', 'consumer'])('%s groups share partitions and hand them over', async (protocol) => {
    const settings = { 'group.protocol': protocol };
    await createTopic();
    await fill('first', 5);
    const one = await member(settings);
    await vi.waitFor(() => expect(one.taken.length).toBe(5 * PARTITIONS), WAIT);
    const two = await member(settings);
    await vi.waitFor(() => {
      expect([...one.assigned(), ...two.assigned()].toSorted((a, b) => a - b)).toEqual(all);
      expect(two.assigned().length).toBe(PARTITIONS / 2);
    }, WAIT);
    await fill('second', 5);
    await vi.waitFor(() => expect(one.taken.length + two.taken.length).toBe(10 * PARTITIONS), WAIT);
    await one.consumer.disconnect();
    await vi.waitFor(() => expect(two.assigned()).toEqual(all), WAIT);
    await fill('third', 1);
    await vi.waitFor(() => expect(one.taken.length + two.taken.length).toBe(11 * PARTITIONS), WAIT);
    const inOrder = [...numbered('first', 5), ...numbered('second', 5), ...numbered('third', 1)];
    for (const partition of all) {
      const values = [...one.taken, ...two.taken].filter((message) => message.partition === partition);
      expect(values.map(({ value }) => value)).toEqual(inOrder);
    }
  });

  // Of a whole name, since that is what brokers compare; a classic member compares for itself, and takes less.
  it.each(['classic', 'consumer'])('%s members may subscribe by a pattern', async (protocol) => {
    await createTopic();
    await fill('value', 1);
    const { taken } = await member({ 'group.protocol': protocol }, [new RegExp(`^${topic.slice(0, -2)}.*`)]);
    await vi.waitFor(() => expect(taken.length).toBe(PARTITIONS), WAIT);
  });

  it('administers topics, groups and records', async () => {
    await createTopic();
    await fill('value', 3);
    const client = await admin();
    expect(await client.listTopics()).toContain(topic);
    await client.deleteTopicRecords({ topic, partitions: [{ partition: 1, offset: '2' }] });
    const offsets = await client.fetchTopicOffsets(topic);
    expect(offsets.find(({ partition }) => partition === 1)).toMatchObject({ low: '2', high: '3' });
    const { consumer, taken } = await member({ 'group.protocol': 'consumer' });
    await vi.waitFor(() => expect(taken.length).toBe(3 * PARTITIONS - 2), WAIT);
    expect((await client.listGroups()).groups.map(({ groupId }) => groupId)).toContain(topic);
    const { groups } = await client.describeGroups([topic]);
    expect(groups[0]?.members.length).toBe(1);
    await consumer.disconnect();
    const [fetched] = await client.fetchOffsets({ groupId: topic, topics: [topic] });
    expect(fetched?.partitions.map(({ offset }) => Number(offset))).toEqual(all.map(() => 3));
    await client.deleteGroups([topic]);
    await client.deleteTopics({ topics: [topic] });
    await vi.waitFor(async () => expect(await client.listTopics()).not.toContain(topic), WAIT);
  });
});
