/** What Kafka clients publish and read by, in frames: the answers, and the errors that clients know what to do with. */
import { Broker } from '@naru/broker';
import { encodeBatch, splitBatches, readBatchHeader, type EncodeBatchOptions } from '@naru/protocol/batch';
import { KAFKA_ERRORS, kafkaErrorNameOf } from '@naru/protocol/kafka';
import { VirtualClock } from '@naru/testkit';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { finished, turns } from '../../../runtime/settling.ts';
import { RawKafkaClient } from '../raw-kafka-client.ts';

const UNKNOWN_ID = '99999999-9999-4999-8999-999999999999' as never;

let clock: VirtualClock;
let broker: Broker;
let client: RawKafkaClient;

async function start(settings: Parameters<typeof Broker.start>[0] = {}): Promise<void> {
  clock = new VirtualClock();
  broker = await Broker.start(
    { storage: 'memory', port: 0, defaultPartitions: 2, ...settings },
    { clock, timers: clock },
  );
  client = await RawKafkaClient.connect(broker.address);
}

async function stop(): Promise<void> {
  client.destroy();
  await finished(broker.close(), clock);
}

beforeEach(() => start());
afterEach(stop);

async function createTopic(name = 'orders'): Promise<string> {
  const { topics } = await client.call('metadata', 12, { topics: [{ name }] });
  expect(topics[0]?.errorCode).toBe(0);
  return topics[0]?.topicId as string;
}

function batch(
  values: readonly string[],
  options: EncodeBatchOptions = {},
  timesMs: readonly number[] = [],
): Uint8Array {
  const records = values.map((value, i) => ({
    key: null,
    value: Buffer.from(value),
    timestampMs: timesMs[i] ?? 1_000,
  }));
  return encodeBatch(records, options);
}

interface Produced {
  readonly error: string | undefined;
  readonly baseOffset: number;
}

async function produce(
  records: Uint8Array | null,
  { topic = 'orders', index = 0, version = 9, acks = -1, transactionalId = null as string | null } = {},
): Promise<Produced> {
  const topicData = [{ name: topic, partitionData: [{ index, records }] }];
  const { responses } = await client.call('produce', version, { transactionalId, acks, timeoutMs: 1_000, topicData });
  const answer = responses[0]?.partitionResponses[0];
  return { error: kafkaErrorNameOf(answer?.errorCode ?? -2), baseOffset: answer?.baseOffset ?? -2 };
}

interface FetchOptions {
  readonly maxWaitMs?: number | undefined;
  readonly minBytes?: number | undefined;
  readonly maxBytes?: number | undefined;
  readonly currentLeaderEpoch?: number | undefined;
}

function sendFetch(offsets: readonly number[], options: FetchOptions = {}): number {
  const { maxWaitMs = 0, minBytes = 1, maxBytes = 1_000_000, currentLeaderEpoch = -1 } = options;
  const partitions = offsets.map((fetchOffset, partition) => ({
    partition,
    fetchOffset,
    currentLeaderEpoch,
    partitionMaxBytes: maxBytes,
  }));
  return client.send('fetch', 11, { maxWaitMs, minBytes, maxBytes, topics: [{ topic: 'orders', partitions }] });
}

async function takeFetch(correlationId: number) {
  const { responses } = await client.take('fetch', 11, correlationId);
  return (responses[0]?.partitions ?? []).map((partition) => ({
    error: kafkaErrorNameOf(partition.errorCode),
    highWatermark: partition.highWatermark,
    logStartOffset: partition.logStartOffset,
    baseOffsets: splitBatches(partition.records ?? new Uint8Array()).map((bytes) => readBatchHeader(bytes).baseOffset),
  }));
}

const fetchNow = (offsets: readonly number[], options?: FetchOptions) => takeFetch(sendFetch(offsets, options));

describe('Metadata', () => {
  it('names the broker at the address that the client came to, or at the one that is set', async () => {
    const { host, port } = broker.address;
    expect((await client.call('metadata', 9, { topics: [] })).brokers).toEqual([{ nodeId: 1, host, port, rack: null }]);
    await stop();
    await start({ advertised: { host: 'broker.example', port: 1234 } });
    const { brokers } = await client.call('metadata', 9, { topics: [] });
    expect(brokers).toEqual([{ nodeId: 1, host: 'broker.example', port: 1234, rack: null }]);
  });

  it('creates what is asked for, once, where both sides allow it', async () => {
    const ask = async (name: string, allowAutoTopicCreation: boolean) =>
      (await client.call('metadata', 9, { topics: [{ name }, { name }], allowAutoTopicCreation })).topics;
    const unknown = { errorCode: KAFKA_ERRORS.UNKNOWN_TOPIC_OR_PARTITION.code, partitions: [] };
    expect(await ask('orders', false)).toEqual([expect.objectContaining(unknown), expect.objectContaining(unknown)]);
    const [first, second] = await ask('orders', true);
    expect(first).toMatchObject({ errorCode: 0, name: 'orders', isInternal: false });
    expect(first?.partitions).toMatchObject([
      { partitionIndex: 0, leaderId: 1, replicaNodes: [1], isrNodes: [1], offlineReplicas: [] },
      { partitionIndex: 1, leaderId: 1 },
    ]);
    expect(second).toEqual(first);
    expect(await ask('a/b', true)).toMatchObject([{ errorCode: 17 }, { errorCode: 17 }]);
    expect(await ask('__mine', true)).toMatchObject([unknown, unknown]);
    await stop();
    await start({ kafka: { autoCreateTopics: false } });
    expect(await ask('orders', true)).toMatchObject([unknown, unknown]);
  });

  it('lists all topics for null, or for an empty list in version 0, and finds them by id', async () => {
    const topicId = (await createTopic()) as never;
    const names = async (version: number, asked: null | []) =>
      (await client.call('metadata', version, { topics: asked })).topics.map(({ name }) => name);
    const all = await names(1, null);
    expect(all).toContain('__groups');
    expect(all.filter((name) => name?.startsWith('__') !== true)).toEqual(['orders']);
    expect(await names(0, [])).toEqual(all);
    expect((await client.call('metadata', 1, { topics: [] })).topics).toEqual([]);
    const byId = await client.call('metadata', 12, {
      topics: [
        { topicId, name: null },
        { topicId: UNKNOWN_ID, name: null },
      ],
    });
    expect(byId.topics).toMatchObject([
      { errorCode: 0, name: 'orders', topicId },
      { errorCode: 100, name: null, topicId: UNKNOWN_ID },
    ]);
    const { topics } = await client.call('metadata', 1, { topics: [{ name: '__groups' }] });
    expect(topics[0]).toMatchObject({ errorCode: 0, isInternal: true });
  });
});

describe('Produce', () => {
  it('stores a batch for each partition, and answers a repeated one with its first offset', async () => {
    await createTopic();
    const { producerId } = await client.call('initProducerId', 4, { transactionalId: null, transactionTimeoutMs: 1 });
    const once = () => batch(['a', 'b'], { producerId, producerEpoch: 0, baseSequence: 0 });
    expect(await produce(once())).toEqual({ error: 'NONE', baseOffset: 0 });
    expect(await produce(once())).toEqual({ error: 'NONE', baseOffset: 0 });
    expect(await produce(batch(['c']), { acks: 1 })).toEqual({ error: 'NONE', baseOffset: 2 });
    const late = batch(['x'], { producerId, producerEpoch: 0, baseSequence: 7 });
    expect(await produce(late)).toMatchObject({ error: 'OUT_OF_ORDER_SEQUENCE_NUMBER' });
    const both = [0, 1].map((index) => ({ index, records: batch([`to ${index}`]) }));
    const { responses } = await client.call('produce', 7, {
      acks: -1,
      timeoutMs: 1_000,
      topicData: [{ name: 'orders', partitionData: both }],
    });
    expect(responses[0]?.partitionResponses).toMatchObject([
      { index: 0, errorCode: 0, baseOffset: 3, logStartOffset: 0, logAppendTimeMs: -1 },
      { index: 1, errorCode: 0, baseOffset: 0, logStartOffset: 0, logAppendTimeMs: -1 },
    ]);
    expect(await fetchNow([0, 0])).toMatchObject([{ baseOffsets: [0, 2, 3] }, { baseOffsets: [0] }]);
  });

  it('tells a producer that it does not know where the log begins, without which Java’s never begins anew', async () => {
    await createTopic();
    await produce(batch(['a', 'b']));
    await client.call('deleteRecords', 2, {
      topics: [{ name: 'orders', partitions: [{ partitionIndex: 0, offset: 1 }] }],
      timeoutMs: 1_000,
    });
    const records = batch(['x'], { producerId: 7, producerEpoch: 0, baseSequence: 7 });
    const topicData = [{ name: 'orders', partitionData: [{ index: 0, records }] }];
    const { responses } = await client.call('produce', 9, { acks: -1, timeoutMs: 1_000, topicData });
    const errorCode = KAFKA_ERRORS.UNKNOWN_PRODUCER_ID.code;
    expect(responses[0]?.partitionResponses[0]).toMatchObject({ errorCode, baseOffset: -1, logStartOffset: 1 });
  });

  it.each([
    ['an unknown topic', () => produce(batch(['x']), { topic: 'nope' }), 'UNKNOWN_TOPIC_OR_PARTITION'],
    ['an unknown partition', () => produce(batch(['x']), { index: 2 }), 'UNKNOWN_TOPIC_OR_PARTITION'],
    ['a partition below zero', () => produce(batch(['x']), { index: -1 }), 'UNKNOWN_TOPIC_OR_PARTITION'],
    ["the broker's own topic", () => produce(batch(['x']), { topic: '__groups' }), 'INVALID_TOPIC_EXCEPTION'],
    ['no batch', () => produce(null), 'INVALID_RECORD'],
    ['an empty batch', () => produce(new Uint8Array()), 'INVALID_RECORD'],
    ['two batches at once', () => produce(Buffer.concat([batch(['x']), batch(['y'])])), 'INVALID_RECORD'],
    ['half a batch', () => produce(batch(['x']).subarray(0, 40)), 'CORRUPT_MESSAGE'],
    ['a batch cut at its end', () => produce(batch(['x']).subarray(0, -1)), 'CORRUPT_MESSAGE'],
    ['an older format', () => produce(batch(['x']).map((byte, i) => (i === 16 ? 1 : byte))), 'INVALID_RECORD'],
    ['damage', () => produce(batch(['x']).map((byte, i) => (i === 65 ? byte ^ 1 : byte))), 'CORRUPT_MESSAGE'],
    ['a batch that is too large', () => produce(batch(['x'.repeat(2_000_000)])), 'MESSAGE_TOO_LARGE'],
    ['acks that do not exist', () => produce(batch(['x']), { acks: 2 }), 'INVALID_REQUIRED_ACKS'],
    ['a transactional batch of nobody', () => produce(batch(['x'], { isTransactional: true })), 'INVALID_REQUEST'],
    [
      'zstd before version 7',
      () =>
        produce(
          batch(['x']).map((byte, i) => (i === 22 ? byte | 4 : byte)),
          { version: 6 },
        ),
      'UNSUPPORTED_COMPRESSION_TYPE',
    ],
  ])('refuses %s, stores nothing, and goes on', async (_what, ask, error) => {
    await createTopic();
    expect(await ask()).toEqual({ error, baseOffset: -1 });
    expect(await produce(batch(['good']))).toEqual({ error: 'NONE', baseOffset: 0 });
  });
});

describe('Fetch', () => {
  it('gives the whole batch that holds the offset, and one batch although it is larger than allowed', async () => {
    await createTopic();
    await produce(batch(['a', 'b', 'c']));
    await produce(batch(['d']));
    expect(await fetchNow([2, 0], { maxBytes: 1 })).toEqual([
      { error: 'NONE', highWatermark: 4, logStartOffset: 0, baseOffsets: [0] },
      { error: 'NONE', highWatermark: 0, logStartOffset: 0, baseOffsets: [] },
    ]);
    expect(await fetchNow([3])).toMatchObject([{ baseOffsets: [3] }]);
  });

  it('waits for enough bytes, or for its time', async () => {
    await createTopic();
    const publisher = await RawKafkaClient.connect(broker.address);
    const publish = () =>
      publisher.call('produce', 9, {
        acks: -1,
        timeoutMs: 1_000,
        topicData: [{ name: 'orders', partitionData: [{ index: 1, records: batch(['x']) }] }],
      });
    const size = batch(['x']).length;
    const enough = sendFetch([0, 0], { maxWaitMs: 60_000, minBytes: 2 * size });
    await publish();
    await turns(20);
    expect(client.answers).toBe(0);
    await publish();
    expect(await takeFetch(enough)).toMatchObject([{ baseOffsets: [] }, { baseOffsets: [0, 1], highWatermark: 2 }]);
    const late = sendFetch([0, 1], { maxWaitMs: 60_000, minBytes: 2 * size });
    // Something that is answered after the fetch has begun.
    await publisher.call('metadata', 9, { topics: [] });
    await turns(20);
    clock.advance(60_000);
    expect(await takeFetch(late)).toMatchObject([{ baseOffsets: [] }, { baseOffsets: [1] }]);
    publisher.destroy();
  });

  it('answers at once when a partition cannot be read, and says why for each', async () => {
    await createTopic();
    await produce(batch(['a']));
    expect(await fetchNow([5, -1, 0], { maxWaitMs: 60_000 })).toMatchObject([
      { error: 'OFFSET_OUT_OF_RANGE', highWatermark: 1, logStartOffset: 0 },
      { error: 'OFFSET_OUT_OF_RANGE', highWatermark: 0 },
      { error: 'UNKNOWN_TOPIC_OR_PARTITION', highWatermark: -1, baseOffsets: [] },
    ]);
    expect(await fetchNow([0], { currentLeaderEpoch: 3 })).toMatchObject([{ error: 'UNKNOWN_LEADER_EPOCH' }]);
  });

  it('goes by topic ids from version 13 on', async () => {
    const topicId = (await createTopic()) as never;
    await produce(batch(['a']));
    const partitions = [{ partition: 0, fetchOffset: 0, partitionMaxBytes: 1_000 }];
    const topics = [
      { topicId: UNKNOWN_ID, partitions },
      { topicId, partitions },
    ];
    const { responses } = await client.call('fetch', 16, { maxWaitMs: 0, minBytes: 1, topics });
    expect(responses).toMatchObject([
      { topicId: UNKNOWN_ID, partitions: [{ errorCode: 100 }] },
      { topicId, partitions: [{ errorCode: 0, highWatermark: 1, lastStableOffset: 1 }] },
    ]);
  });

  it('creates no sessions, and knows none', async () => {
    await createTopic();
    const request = { maxWaitMs: 0, minBytes: 1, topics: [] };
    expect(await client.call('fetch', 11, { ...request, sessionEpoch: 0 })).toMatchObject({
      errorCode: 0,
      sessionId: 0,
    });
    const { errorCode } = await client.call('fetch', 11, { ...request, sessionId: 7, sessionEpoch: 3 });
    expect(kafkaErrorNameOf(errorCode)).toBe('FETCH_SESSION_ID_NOT_FOUND');
  });
});

describe('ListOffsets', () => {
  it('finds the ends, and records by their own time', async () => {
    await createTopic();
    await produce(batch(['a', 'b', 'c'], {}, [100, 300, 200]));
    await produce(batch(['d', 'e'], {}, [250, 400]));
    const find = async (timestamp: number, partitionIndex = 0) => {
      const partitions = [{ partitionIndex, timestamp }];
      const { topics } = await client.call('listOffsets', 9, { topics: [{ name: 'orders', partitions }] });
      const found = topics[0]?.partitions[0];
      return [kafkaErrorNameOf(found?.errorCode ?? -2), found?.offset, found?.timestamp, found?.leaderEpoch];
    };
    expect(await find(-1)).toEqual(['NONE', 5, -1, 0]);
    expect(await find(-2)).toEqual(['NONE', 0, -1, 0]);
    expect(await find(-4)).toEqual(['NONE', 0, -1, 0]);
    expect(await find(-3)).toEqual(['NONE', 4, 400, 0]);
    expect(await find(-5)).toEqual(['NONE', -1, -1, -1]);
    expect(await find(0)).toEqual(['NONE', 0, 100, 0]);
    expect(await find(150)).toEqual(['NONE', 1, 300, 0]);
    expect(await find(301)).toEqual(['NONE', 4, 400, 0]);
    expect(await find(401)).toEqual(['NONE', -1, -1, -1]);
    expect(await find(Number.MAX_SAFE_INTEGER)).toEqual(['NONE', -1, -1, -1]);
    expect(await find(-3, 1)).toEqual(['NONE', -1, -1, -1]);
    expect(await find(-1, 2)).toEqual(['UNKNOWN_TOPIC_OR_PARTITION', -1, -1, -1]);
  });
});

describe('OffsetForLeaderEpoch', () => {
  it('answers with the end of the log for the epoch in force, and with nothing beyond it', async () => {
    await createTopic();
    await produce(batch(['a', 'b']));
    const find = async (leaderEpoch: number, currentLeaderEpoch = -1) => {
      const partitions = [{ partition: 0, currentLeaderEpoch, leaderEpoch }];
      const { topics } = await client.call('offsetForLeaderEpoch', 4, { topics: [{ topic: 'orders', partitions }] });
      const found = topics[0]?.partitions[0];
      return [kafkaErrorNameOf(found?.errorCode ?? -2), found?.leaderEpoch, found?.endOffset];
    };
    expect(await find(0)).toEqual(['NONE', 0, 2]);
    expect(await find(1)).toEqual(['NONE', -1, -1]);
    expect(await find(0, 1)).toEqual(['UNKNOWN_LEADER_EPOCH', -1, -1]);
  });
});

describe('InitProducerId', () => {
  it('gives each its own id, also who has one', async () => {
    const ask = (identity = {}) =>
      client.call('initProducerId', 4, { transactionalId: null, transactionTimeoutMs: 60_000, ...identity });
    const first = await ask();
    const second = await ask({ producerId: first.producerId, producerEpoch: 0 });
    expect(first).toMatchObject({ errorCode: 0, producerEpoch: 0 });
    expect(second).toMatchObject({ errorCode: 0, producerEpoch: 0 });
    expect(second.producerId).not.toBe(first.producerId);
  });
});
