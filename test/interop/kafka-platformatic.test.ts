/** @platformatic/kafka, which speaks the flexible versions, topic ids and both group protocols. */
import {
  Admin,
  Consumer,
  MessagesStreamModes,
  ProduceAcks,
  Producer,
  stringDeserializers,
  stringSerializers,
  type ConsumerOptions,
  type Message,
} from '@platformatic/kafka';
import { afterAll, beforeAll, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { KafkaTarget, numbered, unusedName } from './kafka-target.ts';

type StringProducer = Producer<string, string, string, string>;
type StringConsumer = Consumer<string, string, string, string>;
type StringConsumerOptions = ConsumerOptions<string, string, string, string>;
type Taken = Message<string, string, string, string>;

const WAIT = { timeout: 30_000, interval: 20 };
const PARTITIONS = 4;
const all = [0, 1, 2, 3];

let target: KafkaTarget;
let topic: string;

beforeAll(async () => {
  target = await KafkaTarget.start({ defaultPartitions: 1 });
});

afterAll(() => target[Symbol.asyncDispose]());

beforeEach(() => {
  topic = unusedName('platformatic');
});

function common(): { clientId: string; bootstrapBrokers: string[]; retryDelay: number } {
  return { clientId: 'interop', bootstrapBrokers: [target.bootstrap], retryDelay: 100 };
}

function admin(): Admin {
  const client = new Admin(common());
  onTestFinished(() => client.close());
  return client;
}

function producer(idempotent = false): StringProducer {
  const client = new Producer<string, string, string, string>({
    ...common(),
    idempotent,
    autocreateTopics: true,
    serializers: stringSerializers,
  });
  onTestFinished(() => client.close());
  return client;
}

interface Member {
  readonly consumer: StringConsumer;
  readonly taken: readonly Taken[];
  readonly assigned: () => readonly number[];
}

async function member(options: Partial<StringConsumerOptions> = {}): Promise<Member> {
  const consumer = new Consumer<string, string, string, string>({
    ...common(),
    groupId: topic,
    deserializers: stringDeserializers,
    maxWaitTime: 200,
    ...options,
  });
  onTestFinished(() => consumer.close(true));
  const stream = await consumer.consume({ topics: [topic], mode: MessagesStreamModes.EARLIEST, autocommit: 100 });
  const taken: Taken[] = [];
  stream.on('data', (message) => taken.push(message));
  stream.on('error', (error) => process.stderr.write(`${String(error)}\n`));
  const assigned = (): readonly number[] =>
    (consumer.assignments ?? []).flatMap(({ partitions }) => partitions).toSorted((a, b) => a - b);
  return { consumer, taken, assigned };
}

/** It may hand over a partition before it has committed, and then the next member gets some messages again. */
function distinct(...members: readonly Member[]): number {
  return new Set(members.flatMap(({ taken }) => taken.map(({ partition, value }) => `${partition}/${value}`))).size;
}

async function createTopic(): Promise<void> {
  const client = admin();
  await client.createTopics({ topics: [topic], partitions: PARTITIONS, replicas: 1 });
  await vi.waitFor(async () => {
    const { topics } = await client.metadata({ topics: [topic] });
    expect(topics.get(topic)?.partitions.filter(({ leader }) => leader >= 0).length).toBe(PARTITIONS);
  }, WAIT);
}

async function fill(prefix: string, count: number): Promise<void> {
  const client = producer();
  const messages = all.flatMap((partition) => numbered(prefix, count).map((value) => ({ topic, value, partition })));
  await client.send({ messages, acks: ProduceAcks.ALL });
}

describe('@platformatic/kafka', () => {
  it.each(['none', 'gzip', 'snappy', 'lz4', 'zstd'] as const)(
    'with %s: keys, values, headers and timestamps come back as they were sent',
    async (compression) => {
      const messages = numbered('value', 100).map((value, index) => ({
        topic,
        partition: 0,
        key: `key-${index % 7}`,
        value,
        headers: { number: String(index) },
        timestamp: 1_700_000_000_000n + BigInt(index),
      }));
      await producer(true).send({ messages, compression, acks: ProduceAcks.ALL });
      const { taken } = await member();
      await vi.waitFor(() => expect(taken.length).toBe(100), WAIT);
      const seen = taken.map(({ key, value, headers, timestamp, offset }) => {
        return { key, value, headers: Object.fromEntries(headers), timestamp, offset };
      });
      expect(seen).toEqual(
        messages.map(({ key, value, headers, timestamp }, offset) => {
          return { key, value, headers, timestamp, offset: BigInt(offset) };
        }),
      );
    },
  );

  it('starts in the middle of a batch', async () => {
    await producer().send({
      messages: numbered('value', 10).map((value) => ({ topic, value })),
      acks: ProduceAcks.ALL,
    });
    const consumer = new Consumer({
      ...common(),
      groupId: topic,
      deserializers: stringDeserializers,
      maxWaitTime: 200,
    });
    onTestFinished(() => consumer.close(true));
    const offsets = [{ topic, partition: 0, offset: 6n }];
    const stream = await consumer.consume({ topics: [topic], mode: MessagesStreamModes.MANUAL, offsets });
    const taken: string[] = [];
    stream.on('data', ({ value }) => taken.push(value));
    await vi.waitFor(() => expect(taken).toEqual(['value-6', 'value-7', 'value-8', 'value-9']), WAIT);
  });

  it.each(['classic', 'consumer'] as const)('%s groups share partitions and hand them over', async (groupProtocol) => {
    await createTopic();
    await fill('first', 5);
    const one = await member({ groupProtocol });
    await vi.waitFor(() => expect(distinct(one)).toBe(5 * PARTITIONS), WAIT);
    const two = await member({ groupProtocol });
    await vi.waitFor(() => {
      expect([...one.assigned(), ...two.assigned()].toSorted((a, b) => a - b)).toEqual(all);
      expect(two.assigned().length).toBe(PARTITIONS / 2);
    }, WAIT);
    await fill('second', 5);
    await vi.waitFor(() => expect(distinct(one, two)).toBe(10 * PARTITIONS), WAIT);
    await one.consumer.close(true);
    await vi.waitFor(() => expect(two.assigned()).toEqual(all), WAIT);
    await fill('third', 1);
    await vi.waitFor(() => expect(distinct(one, two)).toBe(11 * PARTITIONS), WAIT);
    const inOrder = [...numbered('first', 5), ...numbered('second', 5), ...numbered('third', 1)];
    for (const partition of all) {
      const values = [...one.taken, ...two.taken].filter((message) => message.partition === partition);
      expect([...new Set(values.map(({ value }) => value))]).toEqual(inOrder);
    }
  });

  it('administers topics, settings, groups and records', async () => {
    await createTopic();
    await fill('value', 3);
    const client = admin();
    expect(await client.listTopics()).toContain(topic);
    const offsets = { topics: [{ name: topic, partitions: [{ partitionIndex: 1, timestamp: -1n }] }] };
    const [listed] = await client.listOffsets(offsets);
    expect(listed?.partitions[0]).toMatchObject({ partitionIndex: 1, offset: 3n });
    await client.deleteRecords({ topics: [{ name: topic, partitions: [{ partition: 1, offset: 2n }] }] });
    const earliest = { topics: [{ name: topic, partitions: [{ partitionIndex: 1, timestamp: -2n }] }] };
    expect((await client.listOffsets(earliest))[0]?.partitions[0]?.offset).toBe(2n);
    const { consumer, taken } = await member();
    await vi.waitFor(() => expect(taken.length).toBe(3 * PARTITIONS - 2), WAIT);
    expect((await client.listGroups()).get(topic)).toMatchObject({ id: topic, groupType: 'classic' });
    expect((await client.describeGroups({ groups: [topic] })).get(topic)).toMatchObject({ state: 'Stable' });
    await consumer.close(true);
    await client.deleteGroups({ groups: [topic] });
    expect((await client.listGroups()).has(topic)).toBe(false);
    await client.deleteTopics({ topics: [topic] });
    await vi.waitFor(async () => expect(await client.listTopics()).not.toContain(topic), WAIT);
  });
});
