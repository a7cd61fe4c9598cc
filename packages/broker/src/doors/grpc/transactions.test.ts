/** Transactions through the gRPC door, without an SDK, on time that the test owns. */
import { createClient, type Client } from '@connectrpc/connect';
import { createGrpcTransport } from '@connectrpc/connect-node';
import { Broker } from '@naru/broker';
import { encodeBatch } from '@naru/protocol/batch';
import {
  IsolationLevel,
  OutcomeKind,
  TopicType,
  TransactionService,
  TransactionState,
  type Committed,
  type PartitionRef,
  type PublishAck,
} from '@naru/protocol/proto';
import { VirtualClock } from '@naru/testkit';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { finished, turns } from '../../runtime/settling.ts';
import { RawClient, type RawPublisher, type RawSubscriber } from './raw-client.ts';

const TEXT = new TextEncoder();
const BEGINNING = { position: { case: 'beginning', value: true } } as const;

let clock: VirtualClock;
let broker: Broker;
let client: RawClient;
let transactions: Client<typeof TransactionService>;

beforeEach(async () => {
  clock = new VirtualClock();
  clock.advance(1_000_000);
  broker = await Broker.start({ storage: 'memory', port: 0 }, { clock, timers: clock });
  client = new RawClient(broker.bootstrap);
  transactions = createClient(TransactionService, createGrpcTransport({ baseUrl: `http://${broker.bootstrap}` }));
});

afterEach(async () => {
  client.destroy();
  await finished(broker.close(), clock);
});

interface Ref {
  readonly transactionalId: string;
  readonly producerId: bigint;
  readonly producerEpoch: number;
}

async function init(transactionalId = 'shop', timeoutMs = 0): Promise<Ref> {
  const { producerId, producerEpoch } = await transactions.initTransactions({ transactionalId, timeoutMs });
  return { transactionalId, producerId, producerEpoch };
}

/** The next transaction. */
async function end(transaction: Ref, commit: boolean): Promise<Ref> {
  const { producerId, producerEpoch } = await transactions.endTransaction({ transaction, commit });
  return { transactionalId: transaction.transactionalId, producerId, producerEpoch };
}

/** Offsets, or codes. */
async function publish(transaction: Ref, values: readonly string[], topic = 'orders', partition = 0) {
  const records = values.map((value) => ({ value: TEXT.encode(value), partition }));
  const { results } = await client.publisher.publish({ topic, records, transaction });
  return results.map(({ offset, error }) => error?.code ?? Number(offset));
}

async function codeOf(call: Promise<unknown>): Promise<string | undefined> {
  return (await client.error(call))?.code;
}

/** What a reader without a group is given from the beginning on. */
async function read(isolation = IsolationLevel.COMMITTED, topic = 'orders'): Promise<string[]> {
  const { sessionId } = await client.calls.join({ topics: [topic], start: BEGINNING, isolation });
  const { records } = await client.calls.poll({ sessionId });
  await client.calls.leave({ sessionId });
  return records.map(({ valueText }) => valueText ?? '');
}

async function member(topics = ['orders']): Promise<{ stream: RawSubscriber; partition: PartitionRef }> {
  const value = { groupId: 'payment', memberId: 'a', topics, start: BEGINNING };
  const stream = client.subscribe({ case: 'join', value });
  await stream.take('joined');
  const [assigned] = await stream.assigned(1);
  return { stream, partition: assigned?.partition as PartitionRef };
}

interface Told {
  readonly offset: number;
  readonly kind: OutcomeKind;
}

let lastCommitId = 0;

function commitIn(
  stream: RawSubscriber,
  transaction: Ref,
  partitions: readonly { partition: PartitionRef; offset: number; told?: readonly Told[] }[],
): Promise<Committed> {
  const value = {
    commitId: ++lastCommitId,
    transaction,
    partitions: partitions.map(({ partition, offset, told = [] }) => ({
      partition,
      offset: BigInt(offset),
      outcomes: told.map((one) => ({ offset: BigInt(one.offset), kind: one.kind, attempts: 1 })),
    })),
  };
  stream.send({ case: 'commit', value });
  return stream.take('committed');
}

async function committedOffsets(): Promise<(number | null)[]> {
  const { offsets } = await client.admin.describeGroup({ groupId: 'payment' });
  return offsets.map(({ committedOffset }) => (committedOffset === undefined ? null : Number(committedOffset)));
}

describe('a transactional producer', () => {
  it('gives readers of committed events all of a transaction or nothing', async () => {
    await client.createTopic('orders', 2);
    const first = await init();
    expect(await publish(first, ['a', 'b'])).toEqual([0, 1]);
    expect(await publish(first, ['c'])).toEqual([2]);
    expect(await publish(first, ['d'], 'orders', 1)).toEqual([0]);
    expect(await read()).toEqual([]);
    expect((await read(IsolationLevel.UNCOMMITTED)).sort()).toEqual(['a', 'b', 'c', 'd']);
    const second = await end(first, true);
    expect((await read()).sort()).toEqual(['a', 'b', 'c', 'd']);
    expect(await publish(second, ['x'])).toEqual([4]);
    const third = await end(second, false);
    expect(await publish(third, ['e'])).toEqual([6]);
    await end(third, true);
    expect((await read()).sort()).toEqual(['a', 'b', 'c', 'd', 'e']);
    expect((await read(IsolationLevel.UNCOMMITTED)).sort()).toEqual(['a', 'b', 'c', 'd', 'e', 'x']);
  });

  it('is told the same again when it repeats an end, and that it ended the other way', async () => {
    await client.createTopic('orders');
    const first = await init();
    await publish(first, ['a']);
    const next = await end(first, true);
    expect(await end(first, true)).toEqual(next);
    expect(next.producerEpoch).toBeGreaterThan(first.producerEpoch);
    expect(await codeOf(end(first, false))).toBe('INVALID_TXN_STATE');
    const later = await end(next, false);
    expect(await codeOf(end(first, true))).toBe('PRODUCER_FENCED');
    expect(await end(next, false)).toEqual(later);
  });

  it('cannot write to a transaction that is over, nor under an id that is not its own', async () => {
    await client.createTopic('orders');
    const first = await init();
    const next = await end(first, true);
    expect(await publish(first, ['a', 'b'])).toEqual(['PRODUCER_FENCED', 'PRODUCER_FENCED']);
    expect(await publish({ ...next, producerEpoch: next.producerEpoch + 1 }, ['a'])).toEqual([
      'INVALID_PRODUCER_EPOCH',
    ]);
    const other = await init('other');
    expect(await publish({ ...next, producerId: other.producerId }, ['a'])).toEqual(['INVALID_PRODUCER_ID_MAPPING']);
    expect(await publish({ ...next, transactionalId: 'nobody' }, ['a'])).toEqual(['TRANSACTIONAL_ID_NOT_FOUND']);
    expect(await read(IsolationLevel.UNCOMMITTED)).toEqual([]);
    const again = await init();
    expect(await publish(next, ['a'])).toEqual(['PRODUCER_FENCED']);
    expect(await codeOf(end(next, true))).toBe('PRODUCER_FENCED');
    expect(await publish(again, ['a'])).toEqual([0]);
  });

  it('loses what it leaves open for longer than its time-out, and hears of it', async () => {
    await client.createTopic('orders');
    const transaction = await init('shop', 5_000);
    await publish(transaction, ['a']);
    clock.advance(4_999);
    await turns(20);
    expect((await transactions.describeTransaction({ transactionalId: 'shop' })).summary).toMatchObject({
      state: TransactionState.ONGOING,
      timeoutMs: 5_000,
      partitionCount: 1,
    });
    clock.advance(1);
    await turns(20);
    const { summary } = await transactions.describeTransaction({ transactionalId: 'shop' });
    expect([summary?.state, summary?.startedMs]).toEqual([TransactionState.ABORTED, undefined]);
    expect(await publish(transaction, ['b'])).toEqual(['PRODUCER_FENCED']);
    expect(await codeOf(end(transaction, true))).toBe('PRODUCER_FENCED');
    expect(await read()).toEqual([]);
  });

  it('is refused bad names, times and references', async () => {
    await client.createTopic('orders');
    expect(await codeOf(init(''))).toBe('INVALID_TRANSACTIONAL_ID');
    expect(await codeOf(init('ä'.repeat(125)))).toBe('INVALID_TRANSACTIONAL_ID');
    expect(await codeOf(init('a\nb'))).toBe('INVALID_TRANSACTIONAL_ID');
    expect((await init('ä'.repeat(124))).producerEpoch).toBe(0);
    expect(await codeOf(init('shop', 900_001))).toBe('INVALID_TRANSACTION_TIMEOUT');
    expect(await codeOf(init('shop', -1))).toBe('INVALID_TRANSACTION_TIMEOUT');
    expect(await codeOf(transactions.endTransaction({ commit: true }))).toBe('INVALID_REQUEST');
    const ref = { transactionalId: 'shop', producerId: 1n, producerEpoch: 32_768 };
    expect(await codeOf(publish(ref, ['a']))).toBe('INVALID_REQUEST');
    expect(await codeOf(end({ ...ref, producerEpoch: 0 }, true))).toBe('INVALID_PRODUCER_ID_MAPPING');
    expect(await codeOf(transactions.describeTransaction({ transactionalId: 'nobody' }))).toBe(
      'TRANSACTIONAL_ID_NOT_FOUND',
    );
  });
});

describe('a member’s commit that is part of a transaction', () => {
  it('commits both, or neither when a partition is refused', async () => {
    await client.createTopic('orders');
    await client.createTopic('bills');
    await client.publish('orders', 0, ['a', 'b', 'c']);
    const { stream, partition } = await member();
    const first = await init();
    expect(await publish(first, ['A'], 'bills')).toEqual([0]);
    const refused = await commitIn(stream, first, [{ partition, offset: 99 }]);
    expect(refused.errors.map(({ error }) => error?.code)).toEqual(['OFFSET_OUT_OF_RANGE']);
    expect([refused.nextTransaction, refused.transactionError]).toEqual([undefined, undefined]);
    expect(await read(IsolationLevel.COMMITTED, 'bills')).toEqual([]);
    const done = await commitIn(stream, first, [{ partition, offset: 2 }]);
    expect([done.errors, done.transactionError]).toEqual([[], undefined]);
    expect(await committedOffsets()).toEqual([2]);
    expect(await read(IsolationLevel.COMMITTED, 'bills')).toEqual(['A']);
    // The answer names the next one.
    const second = done.nextTransaction as Ref;
    expect(await publish(second, ['B'], 'bills')).toEqual([2]);
    const fenced = await commitIn(stream, first, [{ partition, offset: 3 }]);
    expect([fenced.errors, fenced.nextTransaction]).toEqual([[], undefined]);
    expect(['PRODUCER_FENCED', 'INVALID_TXN_STATE']).toContain(fenced.transactionError?.code);
    expect(await committedOffsets()).toEqual([2]);
    await end(second, false);
    expect(await read(IsolationLevel.COMMITTED, 'bills')).toEqual(['A']);
  });

  it('has the broker keep events with it, and hears of the keys that are blocked by it', async () => {
    await client.createTopic('orders');
    const records = ['k', 'l'].map((key) => ({ key: TEXT.encode(key), value: TEXT.encode(key), partition: 0 }));
    await client.publisher.publish({ topic: 'orders', records });
    const { stream, partition } = await member();
    const told = [{ offset: 0, kind: OutcomeKind.HELD }];
    const transaction = await init();
    const refused = await commitIn(stream, { ...transaction, producerEpoch: 99 }, [{ partition, offset: 2, told }]);
    expect([refused.errors, refused.transactionError?.code]).toEqual([[], expect.any(String)]);
    const { held: none } = await client.admin.describeGroup({ groupId: 'payment' });
    expect(none?.events).toBe(0n);
    const done = await commitIn(stream, transaction, [{ partition, offset: 2, told }]);
    expect([done.errors, done.transactionError]).toEqual([[], undefined]);
    expect((await stream.take('blockedKeys')).blocked.length).toBe(1);
    const { held } = await client.admin.describeGroup({ groupId: 'payment' });
    expect(held?.events).toBe(1n);
  });

  it('is refused to readers without a group and for parallel topics', async () => {
    await client.createTopic('orders');
    const { topic } = await client.admin.createTopic({ name: 'jobs', partitionCount: 1, type: TopicType.PARALLEL });
    const transaction = await init();
    const reader = client.subscribe({ case: 'join', value: { memberId: 'r', topics: ['orders'], start: BEGINNING } });
    const [assigned] = await reader.assigned(1);
    const refused = await commitIn(reader, transaction, [
      { partition: assigned?.partition as PartitionRef, offset: 0 },
    ]);
    expect(refused.transactionError?.code).toBe('INVALID_REQUEST');
    const { stream, partition } = await member();
    const job = { ...partition, topicId: topic?.topicId as Uint8Array };
    const parallel = await commitIn(stream, transaction, [
      { partition, offset: 0 },
      { partition: job, offset: 0 },
    ]);
    expect(parallel.errors.map(({ error }) => error?.code)).toEqual(['INVALID_REQUEST']);
    expect(await committedOffsets()).toEqual([null]);
  });

  it('works in single calls, by the answer that was handled or partition by partition', async () => {
    await client.createTopic('orders');
    await client.createTopic('bills');
    await client.publish('orders', 0, ['a', 'b']);
    const { sessionId } = await client.calls.join({ groupId: 'payment', topics: ['orders'], start: BEGINNING });
    const { pollId, records } = await client.calls.poll({ sessionId, maxRecords: 1 });
    expect(records.map(({ valueText }) => valueText)).toEqual(['a']);
    const first = await init();
    await publish(first, ['A'], 'bills');
    const answer = await client.calls.commit({ sessionId, pollId, transaction: first });
    expect(answer).toMatchObject({ committed: [{ topic: 'orders', partition: 0, offset: 1n }], failed: [] });
    expect(await read(IsolationLevel.COMMITTED, 'bills')).toEqual(['A']);
    const second = answer.nextTransaction as Ref;
    await publish(second, ['B'], 'bills');
    const offsets = [{ topic: 'orders', partition: 0, offset: 99n }];
    expect(await codeOf(client.calls.commit({ sessionId, offsets, transaction: second }))).toBe('OFFSET_OUT_OF_RANGE');
    expect(await read(IsolationLevel.COMMITTED, 'bills')).toEqual(['A']);
    const offset = { topic: 'orders', partition: 0, offset: 2n };
    const last = await client.calls.commit({ sessionId, offsets: [offset], transaction: second });
    expect(last.nextTransaction?.producerEpoch).toBeGreaterThan(second.producerEpoch);
    expect([await committedOffsets(), await read(IsolationLevel.COMMITTED, 'bills')]).toEqual([[2], ['A', 'B']]);
    expect(await codeOf(client.calls.commit({ sessionId, offsets: [offset], transaction: first }))).toMatch(
      /PRODUCER_FENCED|INVALID_TXN_STATE/,
    );
  });
});

describe('an operator', () => {
  it('lists by state, age and page, describes what is open and aborts it', async () => {
    await client.createTopic('orders', 2);
    const opened: Ref[] = [];
    for (const id of ['c', 'a', 'b']) opened.push(await init(id));
    await publish(opened[0] as Ref, ['1', '2'], 'orders', 1);
    clock.advance(10_000);
    await publish(opened[1] as Ref, ['3'], 'orders', 1);
    const ids = async (question: Parameters<typeof transactions.listTransactions>[0]): Promise<string> => {
      const { transactions: found, nextPageToken } = await transactions.listTransactions(question);
      return `${found.map(({ transactionalId }) => transactionalId).join('')}/${nextPageToken}`;
    };
    expect(await ids({})).toBe('abc/');
    expect(await ids({ pageSize: 2 })).toBe('ab/b');
    expect(await ids({ pageSize: 2, pageToken: 'b' })).toBe('c/');
    expect(await ids({ states: [TransactionState.ONGOING] })).toBe('ac/');
    expect(await ids({ states: [TransactionState.EMPTY] })).toBe('b/');
    expect(await ids({ minOpenMs: 5_000n })).toBe('c/');
    expect(await codeOf(transactions.listTransactions({ pageSize: 1_001 }))).toBe('INVALID_REQUEST');
    expect(await codeOf(transactions.listTransactions({ states: [TransactionState.UNSPECIFIED] }))).toBe(
      'INVALID_REQUEST',
    );
    const described = await transactions.describeTransaction({ transactionalId: 'a' });
    expect(described).toMatchObject({
      summary: { state: TransactionState.ONGOING, startedMs: BigInt(clock.nowMs()) },
      partitions: [{ topic: 'orders', partition: 1, firstOffset: 2n, highWatermark: 3n, lastStableOffset: 0n }],
      groups: [],
    });
    expect(await transactions.abortTransaction({ transactionalId: 'c' })).toMatchObject({ aborted: true });
    expect(await codeOf(end(opened[0] as Ref, true))).toBe('PRODUCER_FENCED');
    expect(await transactions.abortTransaction({ transactionalId: 'b' })).toMatchObject({ aborted: false });
    expect(await publish(opened[2] as Ref, ['x'])).toEqual(['PRODUCER_FENCED']);
    await end(opened[1] as Ref, true);
    expect(await read()).toEqual(['3']);
    const { partitions } = await client.admin.describeTopic({ topic: { case: 'name', value: 'orders' } });
    expect(partitions[1]).toMatchObject({ highWatermark: 5n, lastStableOffset: 5n, dataEndOffset: 3n });
  });

  it('sees no lag for a group that has read everything before the markers at the end', async () => {
    await client.createTopic('orders');
    const transaction = await init();
    await publish(transaction, ['a']);
    await end(transaction, true);
    const { stream, partition } = await member();
    expect(await stream.commit(partition, 1)).toEqual([]);
    const { offsets } = await client.admin.describeGroup({ groupId: 'payment' });
    expect(offsets).toMatchObject([{ committedOffset: 1n, highWatermark: 2n, lag: 0n }]);
  });
});

describe('a commit behind its batches on a publish stream', () => {
  const batch = ({ producerId, producerEpoch }: Ref, baseSequence: number, value: string): Uint8Array =>
    encodeBatch([{ key: null, value: TEXT.encode(value), timestampMs: 1 }], {
      producerId: Number(producerId),
      producerEpoch,
      baseSequence,
      isTransactional: true,
    });

  async function open() {
    const topicId = await client.createTopic('orders');
    const transaction = await init();
    const publisher = client.openPublishing();
    publisher.send({ case: 'open', value: { producerId: transaction.producerId } });
    await publisher.take('opened');
    const commit = (correlationId: number, nextSequence: number): void => {
      const expected = [{ partition: { topicId, partition: 0 }, nextSequence }];
      publisher.send({ case: 'commit', value: { correlationId, transaction, expected } });
    };
    return { topicId, transaction, publisher, commit };
  }

  async function answers(publisher: RawPublisher, count: number): Promise<PublishAck[]> {
    const found: PublishAck[] = [];
    while (found.length < count) found.push(...(await publisher.take('acks')).acks);
    return found;
  }

  it('needs no wait for their acknowledgements, comes after them, and tells what the next transaction uses', async () => {
    const { topicId, transaction, publisher, commit } = await open();
    publisher.batch(1, topicId, batch(transaction, 0, 'a'));
    publisher.batch(2, topicId, batch(transaction, 1, 'b'));
    commit(3, 2);
    const acks = await answers(publisher, 3);
    expect(acks.map(({ correlationId, error }) => [correlationId, error?.code])).toEqual([
      [1, undefined],
      [2, undefined],
      [3, undefined],
    ]);
    const { producerId, producerEpoch } = transaction;
    const next = { transactionalId: 'shop', producerId, producerEpoch: producerEpoch + 1 };
    expect(acks[2]?.nextTransaction).toMatchObject(next);
    expect(await read()).toEqual(['a', 'b']);
    commit(4, 2);
    // Repeated, as after a lost answer: everything has happened.
    expect((await answers(publisher, 1))[0]?.nextTransaction).toMatchObject(next);
  });

  it('is refused when something of the transaction is not stored, and leaves it open', async () => {
    const { topicId, transaction, publisher, commit } = await open();
    publisher.batch(1, topicId, batch(transaction, 0, 'a'));
    publisher.batch(2, topicId, batch(transaction, 2, 'c'));
    commit(3, 3);
    const acks = await answers(publisher, 3);
    expect(acks.map(({ error }) => error?.code)).toEqual([
      undefined,
      'OUT_OF_ORDER_SEQUENCE_NUMBER',
      'OUT_OF_ORDER_SEQUENCE_NUMBER',
    ]);
    expect(await read()).toEqual([]);
    publisher.batch(4, topicId, batch(transaction, 1, 'b'));
    publisher.batch(5, topicId, batch(transaction, 2, 'c'));
    commit(6, 3);
    await answers(publisher, 3);
    expect(await read()).toEqual(['a', 'b', 'c']);
  });

  it('is refused when nothing of a partition that it names is stored', async () => {
    const { transaction, publisher, commit } = await open();
    commit(1, 1);
    expect((await answers(publisher, 1))[0]?.error?.code).toBe('OUT_OF_ORDER_SEQUENCE_NUMBER');
    expect(await transactions.describeTransaction(transaction)).toMatchObject({
      summary: { state: TransactionState.EMPTY },
    });
  });
});
