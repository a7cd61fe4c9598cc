/** kafkajs, which speaks the classic versions of everything. */
import type { Admin } from 'kafkajs';
import kafkajs from 'kafkajs';
import { afterAll, beforeAll, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { numbered, outsideKafka, KafkaTarget, unusedName } from './kafka-target.ts';
import { KafkajsClients, type Taken } from './kafkajs-clients.ts';

const WAIT = { timeout: 30_000, interval: 20 };
const { CompressionTypes, ConfigResourceTypes } = kafkajs;

let target: KafkaTarget;
let clients: KafkajsClients;
let topic: string;

beforeAll(async () => {
  target = await KafkaTarget.start({ allowKeyReorder: true });
  clients = new KafkajsClients(target.bootstrap);
});

afterAll(() => target[Symbol.asyncDispose]());

beforeEach(() => {
  topic = unusedName('kafkajs');
});

async function createTopic(partitions = 1): Promise<void> {
  const admin = await clients.admin();
  const topics = [{ topic, numPartitions: partitions }];
  expect(await admin.createTopics({ topics, waitForLeaders: false })).toBe(true);
  await partitionsAre(admin, partitions);
}

/** Apache Kafka answers before everything is in place. */
async function partitionsAre(admin: Admin, count: number): Promise<void> {
  await vi.waitFor(async () => {
    const { topics } = await admin.fetchTopicMetadata({ topics: [topic] });
    expect(topics[0]?.partitions.filter(({ leader }) => leader >= 0).length).toBe(count);
    await admin.fetchTopicOffsets(topic);
  }, WAIT);
}

/** Values of every partition in the order in which they came. */
function valuesByPartition(taken: readonly Taken[]): Record<number, (string | null)[]> {
  const values: Record<number, (string | null)[]> = {};
  for (const { partition, value } of taken) (values[partition] ??= []).push(value);
  return values;
}

describe('producing and consuming', () => {
  it.each(['None', 'GZIP', 'Snappy', 'LZ4', 'ZSTD'] as const)(
    'with %s: keys, values, headers and timestamps come back as they were sent',
    async (codec) => {
      const producer = await clients.producer();
      const messages = numbered('value', 100).map((value, index) => ({
        key: index % 10 === 0 ? null : `key-${index % 7}`,
        value: index === 50 ? null : `${value} ${'x'.repeat(index)}`,
        headers: { number: String(index), empty: '' },
        timestamp: String(1_700_000_000_000 + index),
        partition: 0,
      }));
      const [metadata] = await producer.send({ topic, messages, compression: CompressionTypes[codec] });
      expect(metadata).toMatchObject({ partition: 0, errorCode: 0, baseOffset: '0' });
      const { taken } = await clients.consume(topic, { groupId: topic });
      await vi.waitFor(() => expect(taken.length).toBe(100), WAIT);
      expect(
        taken.map(({ key, value, headers, timestamp, offset }) => ({ key, value, headers, timestamp, offset })),
      ).toEqual(
        messages.map(({ key, value, headers, timestamp }, offset) => ({
          key,
          value,
          headers,
          timestamp: Number(timestamp),
          offset,
        })),
      );
    },
  );

  it('acknowledges as the producer asks: all, one, none', async () => {
    const producer = await clients.producer();
    for (const acks of [-1, 1, 0])
      await producer.send({ topic, acks, messages: [{ value: `acks ${acks}`, partition: 0 }] });
    const { taken } = await clients.consume(topic, { groupId: topic });
    await vi.waitFor(() => expect(taken.length).toBe(3), WAIT);
    expect(taken.map(({ value }) => value)).toEqual(['acks -1', 'acks 1', 'acks 0']);
  });

  it('an idempotent producer writes a sequence without gaps or repetitions', async () => {
    const producer = await clients.producer({ idempotent: true, maxInFlightRequests: 1 });
    await createTopic(3);
    const values = numbered('value', 60);
    await Promise.all(
      values.map((value, index) => producer.send({ topic, messages: [{ value, partition: index % 3 }] })),
    );
    const { taken } = await clients.consume(topic, { groupId: topic });
    await vi.waitFor(() => expect(taken.length).toBe(60), WAIT);
    expect(new Set(taken.map(({ value }) => value))).toEqual(new Set(values));
    expect(taken.length).toBe(values.length);
  });

  it('a record that is too large gets MESSAGE_TOO_LARGE, which kafkajs does not repeat', async () => {
    const producer = await clients.producer();
    const value = Buffer.alloc(2 * 1024 * 1024, 'x');
    await expect(producer.send({ topic, messages: [{ value }] })).rejects.toMatchObject({
      type: 'MESSAGE_TOO_LARGE',
      code: 10,
      retriable: false,
    });
  });

  it('starts in the middle of a batch when it seeks there', async () => {
    await createTopic();
    const producer = await clients.producer();
    await producer.send({ topic, messages: numbered('value', 10).map((value) => ({ value })) });
    const { taken, consumer } = await clients.consume(topic, { groupId: topic });
    await vi.waitFor(() => expect(taken.length).toBe(10), WAIT);
    consumer.seek({ topic, partition: 0, offset: '6' });
    await vi.waitFor(() => expect(taken.length).toBe(14), WAIT);
    expect(taken.slice(10).map(({ offset }) => offset)).toEqual([6, 7, 8, 9]);
  });
});

describe('offsets', () => {
  it('finds offsets by timestamp, the first and the last', async () => {
    await createTopic();
    const producer = await clients.producer();
    for (let batch = 0; batch < 3; batch++) {
      const messages = [0, 1, 2].map((index) => ({
        value: 'v',
        timestamp: String(1_000_000 + batch * 300 + index * 100),
      }));
      await producer.send({ topic, messages });
    }
    const admin = await clients.admin();
    const offsetAt = async (timestamp: number): Promise<string | undefined> =>
      (await admin.fetchTopicOffsetsByTimestamp(topic, timestamp))[0]?.offset;
    expect(await offsetAt(0)).toBe('0');
    expect(await offsetAt(1_000_400)).toBe('4');
    expect(await offsetAt(1_000_401)).toBe('5');
    // kafkajs answers the end where the broker says that there is none.
    expect(await offsetAt(2_000_000)).toBe('9');
    expect(await admin.fetchTopicOffsets(topic)).toEqual([{ partition: 0, offset: '9', high: '9', low: '0' }]);
  });

  it('records before an offset are gone after deleteTopicRecords, and a consumer begins behind them', async () => {
    await createTopic();
    const producer = await clients.producer();
    for (const value of numbered('value', 6)) await producer.send({ topic, messages: [{ value }] });
    const admin = await clients.admin();
    expect(await admin.fetchTopicOffsets(topic)).toEqual([{ partition: 0, offset: '6', high: '6', low: '0' }]);
    await admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: '4' }] });
    expect(await admin.fetchTopicOffsets(topic)).toEqual([{ partition: 0, offset: '6', high: '6', low: '4' }]);
    const { taken } = await clients.consume(topic, { groupId: topic });
    await vi.waitFor(() => expect(taken.map(({ offset }) => offset)).toEqual([4, 5]), WAIT);
  });

  // kafkajs itself waits 5 s in resetOffsets.
  it('commits with metadata, resets and lists what a group has', async () => {
    await createTopic(2);
    const producer = await clients.producer();
    await producer.send({ topic, messages: [0, 1].map((partition) => ({ value: 'v', partition })) });
    const { consumer, taken } = await clients.consume(topic, { groupId: topic });
    await vi.waitFor(() => expect(taken.length).toBe(2), WAIT);
    await consumer.commitOffsets([{ topic, partition: 1, offset: '1', metadata: 'a note: ü' }]);
    const admin = await clients.admin();
    const [fetched] = await admin.fetchOffsets({ groupId: topic, topics: [topic] });
    expect(fetched?.partitions.find(({ partition }) => partition === 1)).toMatchObject({
      offset: '1',
      metadata: 'a note: ü',
    });
    await consumer.disconnect();
    await admin.resetOffsets({ groupId: topic, topic, earliest: true });
    const [reset] = await admin.fetchOffsets({ groupId: topic, topics: [topic] });
    // Apache Kafka keeps the −2 with which kafkajs says where it begins.
    const beginning = outsideKafka === '' ? '0' : '-2';
    expect(reset?.partitions.map(({ offset }) => offset)).toEqual([beginning, beginning]);
  });
});

describe('topics', () => {
  it('are made when somebody produces to them, and only if the client allows it', async () => {
    const admin = await clients.admin();
    const strict = await clients.producer({
      allowAutoTopicCreation: false,
      retry: { retries: 1, initialRetryTime: 10 },
    });
    await expect(strict.send({ topic, messages: [{ value: 'v' }] })).rejects.toMatchObject({
      cause: { type: 'UNKNOWN_TOPIC_OR_PARTITION' },
    });
    expect(await admin.listTopics()).not.toContain(topic);
    const producer = await clients.producer();
    await producer.send({ topic, messages: [{ value: 'v' }] });
    expect(await admin.listTopics()).toContain(topic);
  });

  it('are created, described, grown, configured and deleted', async () => {
    const admin = await clients.admin();
    const configEntries = [{ name: 'retention.ms', value: '3600000' }];
    const spec = { topic, numPartitions: 2, replicationFactor: 1, configEntries };
    await admin.createTopics({ topics: [spec], validateOnly: true, waitForLeaders: false });
    expect(await admin.listTopics()).not.toContain(topic);
    expect(await admin.createTopics({ topics: [spec], waitForLeaders: false })).toBe(true);
    expect(await admin.createTopics({ topics: [spec] })).toBe(false);
    await partitionsAre(admin, 2);
    await admin.createPartitions({ topicPartitions: [{ topic, count: 5 }] });
    await partitionsAre(admin, 5);
    const resource = { type: ConfigResourceTypes.TOPIC, name: topic };
    const retention = async (): Promise<string | undefined> => {
      const { resources } = await admin.describeConfigs({ includeSynonyms: false, resources: [resource] });
      return resources[0]?.configEntries.find(({ configName }) => configName === 'retention.ms')?.configValue;
    };
    expect(await retention()).toBe('3600000');
    await admin.alterConfigs({
      validateOnly: false,
      resources: [{ ...resource, configEntries: [{ name: 'retention.ms', value: '7200000' }] }],
    });
    expect(await retention()).toBe('7200000');
    await admin.deleteTopics({ topics: [topic] });
    await vi.waitFor(async () => expect(await admin.listTopics()).not.toContain(topic), WAIT);
  });

  it('may have thousands of partitions, all in one answer', async () => {
    const partitions = outsideKafka === '' ? 4_000 : 400;
    await createTopic(partitions);
    const admin = await clients.admin();
    const producer = await clients.producer();
    const last = partitions - 1;
    await producer.send({ topic, messages: [{ value: 'v', partition: last }] });
    expect((await admin.fetchTopicOffsets(topic)).find(({ partition }) => partition === last)?.offset).toBe('1');
    await admin.deleteTopics({ topics: [topic] });
  });
});

describe('groups', () => {
  const PARTITIONS = 6;
  const all = [0, 1, 2, 3, 4, 5];

  /** Sends `count` values to every partition. */
  async function fill(count: number, prefix: string): Promise<void> {
    const producer = await clients.producer();
    const messages = all.flatMap((partition) => numbered(prefix, count).map((value) => ({ value, partition })));
    await producer.send({ topic, messages });
  }

  it('members share the partitions, and hand them over when one leaves', async () => {
    await createTopic(PARTITIONS);
    await fill(5, 'first');
    const one = await clients.consume(topic, { groupId: topic });
    await vi.waitFor(() => expect(one.taken.length).toBe(30), WAIT);
    const two = await clients.consume(topic, { groupId: topic });
    await vi.waitFor(() => {
      expect([...one.assigned(), ...two.assigned()].toSorted((a, b) => a - b)).toEqual(all);
      expect(two.assigned().length).toBe(3);
    }, WAIT);
    await fill(5, 'second');
    await vi.waitFor(() => expect(one.taken.length + two.taken.length).toBe(60), WAIT);
    expect(new Set(two.taken.map(({ partition }) => partition))).toEqual(new Set(two.assigned()));
    await one.consumer.disconnect();
    await vi.waitFor(() => expect(two.assigned()).toEqual(all), WAIT);
    await fill(1, 'third');
    await vi.waitFor(() => expect(one.taken.length + two.taken.length).toBe(66), WAIT);
    // Every partition in order, nothing twice: whoever left had committed.
    const values = valuesByPartition([...one.taken, ...two.taken]);
    for (const partition of all) {
      expect(values[partition]).toEqual([...numbered('first', 5), ...numbered('second', 5), ...numbered('third', 1)]);
    }
  });

  it('the partitions of a member that says nothing any more go to the other after its session', async () => {
    await createTopic(PARTITIONS);
    const { promise: released, resolve: release } = Promise.withResolvers<void>();
    const config = { groupId: topic, sessionTimeout: 6_000 };
    const survivor = await clients.consume(topic, config);
    const hanging = await clients.consume(topic, config, () => released);
    // Before its consumer is asked to stop, which waits for what it handles.
    onTestFinished(() => release());
    await vi.waitFor(() => {
      expect([...survivor.assigned(), ...hanging.assigned()].toSorted((a, b) => a - b)).toEqual(all);
      expect(hanging.assigned().length).toBe(3);
    }, WAIT);
    await fill(4, 'value');
    await vi.waitFor(() => expect(survivor.assigned()).toEqual(all), WAIT);
    await vi.waitFor(() => expect(survivor.taken.length).toBe(24), WAIT);
    expect(hanging.taken).toEqual([]);
  });

  it('are listed, described and deleted, the last only when nobody is in them', async () => {
    await createTopic(PARTITIONS);
    const { consumer, assigned } = await clients.consume(topic, { groupId: topic });
    await vi.waitFor(() => expect(assigned()).toEqual(all), WAIT);
    const admin = await clients.admin();
    const { groups } = await admin.listGroups();
    expect(groups).toContainEqual({ groupId: topic, protocolType: 'consumer' });
    const described = await admin.describeGroups([topic]);
    expect(described.groups[0]).toMatchObject({
      state: 'Stable',
      protocol: 'RoundRobinAssigner',
      protocolType: 'consumer',
    });
    const member = described.groups[0]?.members[0];
    expect(member).toMatchObject({ clientId: 'interop' });
    const assignment = kafkajs.AssignerProtocol.MemberAssignment.decode(member?.memberAssignment ?? Buffer.alloc(0));
    expect(assignment?.assignment[topic]?.toSorted()).toEqual(all);
    await expect(admin.deleteGroups([topic])).rejects.toMatchObject({
      groups: [{ groupId: topic, error: expect.objectContaining({ type: 'NON_EMPTY_GROUP' }) }],
    });
    await consumer.disconnect();
    expect(await admin.deleteGroups([topic])).toMatchObject([{ groupId: topic, errorCode: 0 }]);
  });
});
