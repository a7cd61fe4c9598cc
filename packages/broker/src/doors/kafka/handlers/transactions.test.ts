/** Transactions in frames, through the whole broker: both flows, what arrives late, and what readers are told. */
import { Broker } from '@naru/broker';
import { encodeBatch, readBatchHeader, splitBatches } from '@naru/protocol/batch';
import { kafkaErrorNameOf } from '@naru/protocol/kafka';
import { VirtualClock } from '@naru/testkit';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { finished } from '../../../runtime/settling.ts';
import { RawKafkaClient } from '../raw-kafka-client.ts';

const GROUP = 'payment';
/** Versions of the two flows. */
const FIRST = { produce: 11, endTxn: 4, txnOffsetCommit: 4 } as const;
const SECOND = { produce: 12, endTxn: 5, txnOffsetCommit: 5 } as const;
type Flow = typeof FIRST | typeof SECOND;

interface Identity {
  readonly producerId: number;
  readonly producerEpoch: number;
}

let clock: VirtualClock;
let broker: Broker;
let client: RawKafkaClient;

beforeEach(async () => {
  clock = new VirtualClock();
  broker = await Broker.start({ storage: 'memory', port: 0, defaultPartitions: 2 }, { clock, timers: clock });
  client = await RawKafkaClient.connect(broker.address);
  await client.call('metadata', 12, { topics: [{ name: 'orders' }] });
});

afterEach(async () => {
  client.destroy();
  await finished(broker.close(), clock);
});

async function init(transactionalId = 'tx', timeoutMs = 60_000, expected = {}): Promise<Identity & { error: string }> {
  const request = { transactionalId, transactionTimeoutMs: timeoutMs, ...expected };
  const { errorCode, producerId, producerEpoch } = await client.call('initProducerId', 5, request);
  return { error: nameOf(errorCode), producerId, producerEpoch };
}

function nameOf(errorCode: number | undefined): string {
  return kafkaErrorNameOf(errorCode ?? -2) ?? 'nothing';
}

async function produce(flow: Flow, identity: Identity | null, value: string, baseSequence = 0, index = 0) {
  const record = { key: null, value: Buffer.from(value), timestampMs: 1_000 };
  const { producerId, producerEpoch } = identity ?? {};
  const isTransactional = identity !== null;
  const records = encodeBatch(
    [record],
    isTransactional ? { producerId, producerEpoch, baseSequence, isTransactional } : {},
  );
  const topicData = [{ name: 'orders', partitionData: [{ index, records }] }];
  const transactionalId = isTransactional ? 'tx' : null;
  const { responses } = await client.call('produce', flow.produce, {
    transactionalId,
    acks: -1,
    timeoutMs: 1_000,
    topicData,
  });
  return nameOf(responses[0]?.partitionResponses[0]?.errorCode);
}

async function addPartitions({ producerId, producerEpoch }: Identity, ...partitions: number[]) {
  const { resultsByTopicV3AndBelow } = await client.call('addPartitionsToTxn', 3, {
    v3AndBelowTransactionalId: 'tx',
    v3AndBelowProducerId: producerId,
    v3AndBelowProducerEpoch: producerEpoch,
    v3AndBelowTopics: [{ name: 'orders', partitions }],
  });
  return nameOf(resultsByTopicV3AndBelow[0]?.resultsByPartition[0]?.partitionErrorCode);
}

async function end(flow: Flow, { producerId, producerEpoch }: Identity, committed: boolean) {
  const request = { transactionalId: 'tx', producerId, producerEpoch, committed };
  const answer = await client.call('endTxn', flow.endTxn, request);
  const next: Identity = { producerId: answer.producerId, producerEpoch: answer.producerEpoch };
  return { error: nameOf(answer.errorCode), next };
}

/** What a consumer is given of partition 0, and is told. */
async function fetch(isolationLevel: 0 | 1) {
  const partitions = [{ partition: 0, fetchOffset: 0, partitionMaxBytes: 1_000_000 }];
  const topics = [{ topic: 'orders', partitions }];
  const { responses } = await client.call('fetch', 11, { maxWaitMs: 0, minBytes: 0, isolationLevel, topics });
  const [answer] = responses[0]?.partitions ?? [];
  const headers = splitBatches(answer?.records ?? new Uint8Array()).map((bytes) => readBatchHeader(bytes));
  return {
    highWatermark: answer?.highWatermark,
    lastStableOffset: answer?.lastStableOffset,
    aborted: answer?.abortedTransactions,
    offsets: headers.map(({ baseOffset }) => baseOffset),
  };
}

async function latest(isolationLevel: 0 | 1): Promise<number | undefined> {
  const topics = [{ name: 'orders', partitions: [{ partitionIndex: 0, timestamp: -1 }] }];
  const answer = await client.call('listOffsets', 5, { isolationLevel, topics });
  return answer.topics[0]?.partitions[0]?.offset;
}

async function commitOffset(flow: Flow, { producerId, producerEpoch }: Identity, committedOffset: number, member = {}) {
  const partitions = [{ partitionIndex: 0, committedOffset, committedMetadata: 'note' }];
  const topics = [{ name: 'orders', partitions }];
  const request = { transactionalId: 'tx', producerId, producerEpoch, groupId: GROUP, topics, ...member };
  const answer = await client.call('txnOffsetCommit', flow.txnOffsetCommit, request);
  return nameOf(answer.topics[0]?.partitions[0]?.errorCode);
}

async function committedOffset(requireStable: boolean) {
  const topics = [{ name: 'orders', partitionIndexes: [0] }];
  const answer = await client.call('offsetFetch', 7, { groupId: GROUP, topics, requireStable });
  const [partition] = answer.topics[0]?.partitions ?? [];
  return { error: nameOf(partition?.errorCode), offset: partition?.committedOffset };
}

describe('a transaction of the second flow', () => {
  it('begins by being written to, and every end gives the next epoch', async () => {
    const first = await init();
    expect(await produce(SECOND, first, 'a')).toBe('NONE');
    expect(await produce(SECOND, first, 'b', 0, 1)).toBe('NONE');
    const { error, next } = await end(SECOND, first, true);
    expect(error).toBe('NONE');
    expect(next).toEqual({ producerId: first.producerId, producerEpoch: first.producerEpoch + 1 });
    expect(await produce(SECOND, first, 'late', 1)).toBe('INVALID_PRODUCER_EPOCH');
    expect(await produce(SECOND, next, 'c')).toBe('NONE');
    expect((await end(SECOND, next, false)).error).toBe('NONE');
  });

  it('is not ended by an EndTxn of an earlier one that comes late, nor are the others', async () => {
    const first = await init();
    await produce(SECOND, first, 'a');
    const { next: second } = await end(SECOND, first, true);
    // Asked again, since the answer may have been lost.
    expect(await end(SECOND, first, true)).toEqual({ error: 'NONE', next: second });
    expect((await end(SECOND, first, false)).error).toBe('INVALID_TXN_STATE');
    await produce(SECOND, second, 'b');
    for (const committed of [true, false]) {
      expect((await end(SECOND, first, committed)).error).toBe('PRODUCER_FENCED');
      expect(await fetch(1)).toMatchObject({ lastStableOffset: 2, offsets: [0, 1] });
    }
    const { next: third } = await end(SECOND, second, false);
    await produce(SECOND, third, 'c');
    expect((await end(SECOND, first, true)).error).toBe('PRODUCER_FENCED');
    expect(await fetch(1)).toMatchObject({ lastStableOffset: 4 });
    expect((await end(SECOND, third, true)).error).toBe('NONE');
    expect(await fetch(1)).toMatchObject({
      lastStableOffset: 6,
      aborted: [{ producerId: first.producerId, firstOffset: 2 }],
    });
  });

  it('takes the group with its offsets, which are unstable until it ends', async () => {
    const first = await init();
    expect(await commitOffset(SECOND, first, 5)).toBe('NONE');
    expect(await committedOffset(false)).toEqual({ error: 'NONE', offset: -1 });
    expect(await committedOffset(true)).toEqual({ error: 'UNSTABLE_OFFSET_COMMIT', offset: -1 });
    const { next: second } = await end(SECOND, first, true);
    expect(await committedOffset(true)).toEqual({ error: 'NONE', offset: 5 });
    await commitOffset(SECOND, second, 9);
    expect(await committedOffset(false)).toEqual({ error: 'NONE', offset: 5 });
    await end(SECOND, second, false);
    expect(await committedOffset(true)).toEqual({ error: 'NONE', offset: 5 });
    const stranger = { memberId: 'stranger', generationId: 3 };
    const { next: third } = await end(SECOND, await init(), false);
    expect(await commitOffset(SECOND, third, 6, stranger)).toMatch(/UNKNOWN_MEMBER_ID|ILLEGAL_GENERATION/);
  });
});

describe('a transaction of the first flow', () => {
  it('has to announce what it writes to, and keeps its epoch', async () => {
    const identity = await init();
    expect(await produce(FIRST, identity, 'too early')).toBe('TRANSACTION_ABORTABLE');
    expect(await addPartitions(identity, 0)).toBe('NONE');
    expect(await produce(FIRST, identity, 'a')).toBe('NONE');
    expect(await produce(FIRST, identity, 'elsewhere', 0, 1)).toBe('TRANSACTION_ABORTABLE');
    expect(await commitOffset(FIRST, identity, 5)).not.toBe('NONE');
    const add = { transactionalId: 'tx', ...identity, groupId: GROUP };
    expect(nameOf((await client.call('addOffsetsToTxn', 4, add)).errorCode)).toBe('NONE');
    expect(await commitOffset(FIRST, identity, 5)).toBe('NONE');
    expect((await end(FIRST, identity, true)).error).toBe('NONE');
    expect((await end(FIRST, identity, true)).error).toBe('NONE');
    expect((await end(FIRST, identity, false)).error).toBe('INVALID_TXN_STATE');
    expect(await committedOffset(true)).toEqual({ error: 'NONE', offset: 5 });
    await addPartitions(identity, 0);
    expect(await produce(FIRST, identity, 'b', 1)).toBe('NONE');
    expect((await end(FIRST, identity, false)).error).toBe('NONE');
    const aborted = [{ producerId: identity.producerId, firstOffset: 2 }];
    expect(await fetch(1)).toMatchObject({ aborted, offsets: [0, 1, 2, 3] });
  });

  it('can be ended by an EndTxn of an earlier one that comes late: the epoch does not tell them apart', async () => {
    const identity = await init();
    await addPartitions(identity, 0);
    await produce(FIRST, identity, 'a');
    await end(FIRST, identity, true);
    await addPartitions(identity, 0);
    await produce(FIRST, identity, 'b', 1);
    expect((await end(FIRST, identity, true)).error).toBe('NONE');
    expect(await fetch(1)).toMatchObject({ lastStableOffset: 4, aborted: [] });
  });
});

describe('the identity of a transactional id', () => {
  it('gets a new epoch each time, which ends what is open and fences who was before', async () => {
    const zombie = await init();
    await produce(SECOND, zombie, 'a');
    const successor = await init();
    expect(successor.producerId).toBe(zombie.producerId);
    expect(successor.producerEpoch).toBeGreaterThan(zombie.producerEpoch);
    expect((await fetch(1)).aborted).toEqual([{ producerId: zombie.producerId, firstOffset: 0 }]);
    expect(await produce(SECOND, zombie, 'late', 1)).toBe('INVALID_PRODUCER_EPOCH');
    expect(await commitOffset(SECOND, zombie, 5)).toBe('INVALID_PRODUCER_EPOCH');
    expect(await addPartitions(zombie, 0)).toBe('PRODUCER_FENCED');
    const { producerId, producerEpoch } = zombie;
    expect((await init('tx', 60_000, { producerId, producerEpoch: producerEpoch - 1 })).error).not.toBe('NONE');
    expect(await produce(SECOND, successor, 'b')).toBe('NONE');
  });

  it('is given anew to a producer that says which it has, also when the answer was lost, but to no other (KIP-360)', async () => {
    const { producerId, producerEpoch } = await init();
    const again = await init('tx', 60_000, { producerId, producerEpoch });
    expect(again).toEqual({ error: 'NONE', producerId, producerEpoch: producerEpoch + 1 });
    expect(await init('tx', 60_000, { producerId, producerEpoch })).toEqual(again);
    await init();
    expect((await init('tx', 60_000, { producerId, producerEpoch })).error).toBe('PRODUCER_FENCED');
    // Else it would have the identity of who came after it.
    const last = { producerId, producerEpoch: again.producerEpoch };
    expect((await init('tx', 60_000, last)).error).toBe('PRODUCER_FENCED');
    // @platformatic/kafka says so of an id that is new.
    expect((await init('new', 60_000, { producerId: 0, producerEpoch: 0 })).error).toBe('NONE');
  });

  it('has a time-out within limits', async () => {
    expect((await init('tx', 15 * 60_000)).error).toBe('NONE');
    expect((await init('tx', 15 * 60_000 + 1)).error).toBe('INVALID_TRANSACTION_TIMEOUT');
    expect((await init('tx', 0)).error).toBe('INVALID_TRANSACTION_TIMEOUT');
  });
});

describe('what readers are told while a transaction is open', () => {
  it('ends before it for who reads what is committed, and nowhere for others', async () => {
    await produce(SECOND, null, 'before');
    const identity = await init();
    await produce(SECOND, identity, 'open');
    await produce(SECOND, null, 'behind');
    expect(await fetch(0)).toEqual({ highWatermark: 3, lastStableOffset: 1, aborted: null, offsets: [0, 1, 2] });
    expect(await fetch(1)).toEqual({ highWatermark: 3, lastStableOffset: 1, aborted: [], offsets: [0] });
    expect([await latest(0), await latest(1)]).toEqual([3, 1]);
    const states = await client.call('describeTransactions', 0, { transactionalIds: ['tx'] });
    expect(states.transactionStates).toMatchObject([
      { transactionState: 'Ongoing', topics: [{ topic: 'orders', partitions: [0] }] },
    ]);
    const asked = { topics: [{ name: 'orders', partitionIndexes: [0] }] };
    const { topics } = await client.call('describeProducers', 0, asked);
    const { producerId, producerEpoch } = identity;
    expect(topics[0]?.partitions[0]?.activeProducers).toMatchObject([
      { producerId, producerEpoch, lastSequence: 0, currentTxnStartOffset: 1 },
    ]);
  });

  it('goes on when the time of the transaction is over, and its producer is fenced', async () => {
    const identity = await init('tx', 5_000);
    await produce(SECOND, identity, 'abandoned');
    clock.advance(5_001);
    expect(await finished(produce(SECOND, null, 'behind'), clock)).toBe('NONE');
    const aborted = [{ producerId: identity.producerId, firstOffset: 0 }];
    expect(await fetch(1)).toMatchObject({ aborted, offsets: [0, 1, 2], lastStableOffset: 3 });
    expect((await end(SECOND, identity, true)).error).toBe('PRODUCER_FENCED');
    const { transactionStates } = await client.call('listTransactions', 1, { stateFilters: [], producerIdFilters: [] });
    expect(transactionStates).toMatchObject([{ transactionalId: 'tx', transactionState: 'CompleteAbort' }]);
  });
});
