/** Transactions in a shard: what they write is there as a whole or not at all, also after a restart. */
import { NaruError } from '@naru/protocol';
import { ClonedShardClient, SeededRandom, SimDisk, VirtualClock } from '@naru/testkit';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { CommitCommand } from '../core/group/index.ts';
import { openFileLogStore } from '../log/file/file-log-store.ts';
import type { Capacity } from '../log/log-store.ts';
import type { ShardClient } from './commands.ts';
import { HeldStore } from './held-store.ts';
import { finished, turns, watched } from './settling.ts';
import {
  GROUP_LOG,
  keyOf,
  ORDERS,
  ShardScenario,
  TRANSACTION_LOG,
  type ShardScenarioOptions,
} from './shard-scenario.ts';
import { committed, offsetCommit, offsetsOf, TransactionalProducer } from './transactional-producer.ts';

const LIMITS = {
  journalFileBytes: 256 * 1024,
  journalBytes: 2 * 1024 * 1024,
  maxAppendBytes: 64 * 1024,
  mergedFrameBytes: 64 * 1024,
  segmentBytes: 64 * 1024,
};

let clock: VirtualClock;
let disk: SimDisk;
let held: HeldStore;
let running: ShardScenario | null;
let starts: number;

beforeEach(() => {
  clock = new VirtualClock();
  disk = new SimDisk(new SeededRandom(3));
  running = null;
  starts = 0;
});

afterEach(async () => {
  if (running !== null) await settled(running.shard.close());
});

function settled<T>(promise: Promise<T>): Promise<T> {
  return finished(promise, clock);
}

async function start(options: Partial<ShardScenarioOptions> = {}): Promise<ShardScenario> {
  const random = new SeededRandom(1);
  held = new HeldStore(openFileLogStore({ disk, path: '/data', clock, timers: clock, random, limits: LIMITS }));
  const through = (shard: ShardClient): ShardClient => new ClonedShardClient(shard).client;
  const topics = [GROUP_LOG, TRANSACTION_LOG, ORDERS];
  const scenario = ShardScenario.start({
    store: held.store,
    time: clock,
    topics,
    through,
    leaderEpoch: starts++,
    ...options,
  });
  running = await settled(scenario);
  return running;
}

/** On what was durable, and with a checkpoint or without one. */
async function restart(isKilled: boolean): Promise<ShardScenario> {
  held.keepsLastSnapshot = !isKilled;
  await settled((running as ShardScenario).shard.close());
  if (isKilled) disk = disk.processKill(new SeededRandom(4));
  return start();
}

async function codeOf(promise: Promise<unknown>): Promise<string> {
  try {
    await settled(promise);
    return 'done';
  } catch (error) {
    return error instanceof NaruError ? error.code : String(error);
  }
}

async function statusOf(shard: ShardScenario, transactionalId = 'a'): Promise<string> {
  const { status, producerEpoch } = await settled(shard.ask({ type: 'describe-transaction', transactionalId }));
  return `${status} ${producerEpoch}`;
}

describe('a transaction', () => {
  it('is seen by nobody who asks for what is committed until it is, then everywhere at once', async () => {
    const shard = await start();
    const producer = new TransactionalProducer('a');
    expect(await settled(producer.init(shard, 7))).toEqual({ producerId: 7, producerEpoch: 0 });
    await settled(producer.write(shard, 0, 'x', 'y'));
    await settled(producer.write(shard, 1, 'z'));
    await settled(shard.append(1, ['plain']));
    expect(await settled(committed(shard, 0))).toEqual([]);
    expect(await settled(committed(shard, 1))).toEqual([]);
    expect((await settled(producer.end(shard, true))).next).toEqual({ producerId: 7, producerEpoch: 1 });
    expect(await settled(committed(shard, 0))).toEqual(['0:x', '1:y']);
    expect(await settled(committed(shard, 1))).toEqual(['0:z', '1:plain']);
    await settled(producer.write(shard, 0, 'again'));
    await settled(producer.end(shard, false));
    expect(await settled(committed(shard, 0))).toEqual(['0:x', '1:y']);
    expect(await statusOf(shard)).toBe('aborted 2');
  });

  it('is not touched by what comes late: batches, ends and producers of an earlier time', async () => {
    const shard = await start();
    const producer = new TransactionalProducer('a');
    await settled(producer.init(shard, 7));
    await settled(producer.write(shard, 0, 'x'));
    const late = producer.batch(0, ['late']);
    const lateElsewhere = producer.batch(2, ['late']);
    const first = producer.identity;
    await settled(producer.end(shard, true));
    expect(await codeOf(shard.ask(late))).toBe('INVALID_PRODUCER_EPOCH');
    expect(await codeOf(shard.ask(lateElsewhere)), 'no marker fences there').toBe('INVALID_PRODUCER_EPOCH');
    const repeated = {
      transaction: { transactionalId: 'a', ...first },
      flow: 2,
      freshProducerId: 9,
      groupCommit: null,
    } as const;
    expect(await settled(shard.ask({ type: 'end-transaction', ...repeated, commit: true }))).toEqual({
      next: producer.identity,
      results: [],
      isRepeated: true,
    });
    expect(await codeOf(shard.ask({ type: 'end-transaction', ...repeated, commit: false }))).toBe('INVALID_TXN_STATE');
    await settled(producer.write(shard, 0, 'y'));
    expect(await codeOf(shard.ask({ type: 'end-transaction', ...repeated, commit: true }))).toBe('PRODUCER_FENCED');
    const other = new TransactionalProducer('a');
    await settled(other.init(shard, 8));
    expect(await codeOf(producer.write(shard, 0, 'z'))).toBe('INVALID_PRODUCER_EPOCH');
    expect(await codeOf(producer.end(shard, true))).toBe('PRODUCER_FENCED');
    expect(await settled(committed(shard, 0))).toEqual(['0:x']);
  });

  it('of the first flow has the partitions that were added, and keeps its epoch', async () => {
    const shard = await start();
    const producer = new TransactionalProducer('a', 1);
    await settled(producer.init(shard, 7));
    expect(await codeOf(producer.write(shard, 0, 'x'))).toBe('INVALID_TXN_STATE');
    expect(await codeOf(producer.add(shard, 0, 7))).toBe('UNKNOWN_TOPIC_OR_PARTITION');
    const again = new TransactionalProducer('a', 1);
    again.identity = producer.identity;
    await settled(again.add(shard, 0));
    await settled(again.write(shard, 0, 'x'));
    expect(await codeOf(again.write(shard, 1, 'x'))).toBe('INVALID_TXN_STATE');
    expect((await settled(again.end(shard, true))).next).toEqual({ producerId: 7, producerEpoch: 0 });
    await settled(again.end(shard, true));
    expect(await codeOf(again.end(shard, false))).toBe('INVALID_TXN_STATE');
    await settled(again.add(shard, 0));
    await settled(again.write(shard, 0, 'y'));
    await settled(again.end(shard, false));
    expect(await settled(committed(shard, 0))).toEqual(['0:x']);
  });

  it('that takes too long is aborted, and its producer is fenced; one begun meanwhile has its own time', async () => {
    const shard = await start();
    const producer = new TransactionalProducer('a');
    await settled(producer.init(shard, 7, { timeoutMs: 1_000 }));
    await settled(producer.write(shard, 0, 'x'));
    clock.advance(600);
    await settled(producer.end(shard, true));
    await settled(producer.write(shard, 0, 'y'));
    clock.advance(600);
    await turns();
    expect(await statusOf(shard)).toBe('ongoing 1');
    clock.advance(600);
    await turns();
    expect(await statusOf(shard)).toBe('aborted 2');
    expect(await codeOf(producer.end(shard, true))).toBe('PRODUCER_FENCED');
    expect(await codeOf(producer.write(shard, 0, 'z'))).toBe('INVALID_PRODUCER_EPOCH');
    expect(await settled(committed(shard, 0))).toEqual(['0:x']);
  });

  it('refuses producers that it does not know, and batches of its producer outside of it', async () => {
    const shard = await start({ isIssuedProducerId: (id) => id < 100 });
    const producer = new TransactionalProducer('a');
    await settled(producer.init(shard, 7));
    const outside = { producerId: 7, producerEpoch: 0, baseSequence: 0 };
    expect(await codeOf(shard.append(0, ['x'], outside))).toBe('INVALID_TXN_STATE');
    const stranger = new TransactionalProducer('b');
    stranger.identity = { producerId: 8, producerEpoch: 0 };
    expect(await codeOf(stranger.write(shard, 0, 'x'))).toBe('INVALID_PRODUCER_ID_MAPPING');
    expect(await codeOf(shard.append(0, ['x'], { producerId: 100, baseSequence: 0 }))).toBe('UNKNOWN_PRODUCER_ID');
    expect(await codeOf(shard.append(0, ['x'], { producerId: 8, baseSequence: 0 }))).toBe('done');
  });

  it('whose topic is deleted ends where there is something left', async () => {
    const shard = await start();
    const producer = new TransactionalProducer('a');
    await settled(producer.init(shard, 7));
    await settled(producer.write(shard, 0, 'x'));
    const changes = [{ key: `topic/${ORDERS.name}`, topic: { ...ORDERS, state: 'deleting' } }] as const;
    await settled(shard.ask({ type: 'topics', changes }));
    expect((await settled(producer.end(shard, true))).next).toEqual({ producerId: 7, producerEpoch: 1 });
  });

  it.each<[string, Capacity]>([
    ['the disk is full', { state: 'full', reason: 'no room', exhausted: true }],
    ['the store cannot be reached', { state: 'unavailable', reason: 'no connection' }],
  ])(
    'that takes too long while %s is aborted all the same; what its producer asks is refused',
    async (_how, trouble) => {
      const shard = await start();
      const producer = new TransactionalProducer('a');
      await settled(producer.init(shard, 7, { timeoutMs: 1_000 }));
      await settled(producer.write(shard, 0, 'x'));
      held.say(trouble);
      held.isHeld = true;
      expect(await codeOf(producer.end(shard, true))).toMatch(/^STORAGE_(FULL|UNAVAILABLE)$/);
      clock.advance(1_000);
      await turns();
      held.say(null);
      held.isHeld = false;
      while (held.waiting > 0) held.release();
      await settled(shard.append(0, ['plain']));
      expect(await statusOf(shard)).toBe('aborted 1');
      expect(await settled(committed(shard, 0))).toEqual(['2:plain']);
    },
  );

  it('shows nothing before it is durable, and its beginning is durable with what it holds', async () => {
    const shard = await start();
    const producer = new TransactionalProducer('a');
    await settled(producer.init(shard, 7));
    held.isHeld = true;
    const write = watched(producer.write(shard, 0, 'x'));
    const described = watched(shard.ask({ type: 'describe-transaction', transactionalId: 'a' }));
    const listed = watched(shard.ask({ type: 'list-transactions' }));
    await turns();
    expect([write, described, listed]).toEqual([{}, {}, {}]);
    held.isHeld = false;
    held.release();
    await turns();
    expect(described.value).toMatchObject({ status: 'ongoing', partitions: [{ partition: keyOf(0), firstOffset: 0 }] });
    expect(write.value?.baseOffset).toBe(0);
  });
});

describe('offsets in a transaction', () => {
  const memberCommit = (memberEpoch: number, ...offsets: [number, number][]): CommitCommand => ({
    type: 'commit',
    groupId: 'payment',
    memberId: 'member',
    memberEpoch,
    offsets: offsets.map(([partition, offset]) => offsetCommit(partition, offset)),
  });

  it('of a member are committed with its end, or not at all when one of them is refused', async () => {
    const shard = await start();
    await settled(shard.append(0, ['a', 'b', 'c']));
    const { memberEpoch } = await settled(shard.join('member'));
    const producer = new TransactionalProducer('a');
    await settled(producer.init(shard, 7));
    await settled(producer.write(shard, 1, 'out'));
    const refused = await settled(producer.end(shard, true, memberCommit(memberEpoch, [0, 2], [2, 99])));
    expect(refused.next).toBeNull();
    expect(refused.results.map(({ refusal }) => refusal?.code ?? null)).toEqual([null, 'OFFSET_OUT_OF_RANGE']);
    expect(await settled(offsetsOf(shard, 'payment'))).toEqual({});
    expect(await statusOf(shard)).toBe('ongoing 0');
    const stale = producer.end(shard, true, { ...memberCommit(memberEpoch, [0, 2]), memberId: 'nobody' });
    expect(await codeOf(stale)).toBe('UNKNOWN_MEMBER_ID');
    const aborting = producer.end(shard, false, memberCommit(memberEpoch, [0, 2]));
    expect(await codeOf(aborting)).toBe('INVALID_REQUEST');

    const before = producer.identity;
    const done = await settled(producer.end(shard, true, memberCommit(memberEpoch, [0, 2])));
    expect(done).toEqual({
      next: { producerId: 7, producerEpoch: 1 },
      results: [{ partition: keyOf(0), refusal: null }],
    });
    expect(await settled(offsetsOf(shard, 'payment'))).toEqual({ 0: 2 });
    expect(await settled(committed(shard, 1))).toEqual(['0:out']);

    await settled(shard.commit('member', memberEpoch, 0, 3));
    producer.identity = before;
    expect((await settled(producer.end(shard, true, memberCommit(memberEpoch, [0, 2])))).next).toEqual({
      producerId: 7,
      producerEpoch: 1,
    });
    expect(await settled(offsetsOf(shard, 'payment')), 'the repeated end commits nothing again').toEqual({ 0: 3 });
  });

  it('are committed also with a transaction that has written nothing', async () => {
    const shard = await start();
    await settled(shard.append(0, ['a']));
    const { memberEpoch } = await settled(shard.join('member'));
    const producer = new TransactionalProducer('a');
    await settled(producer.init(shard, 7));
    await settled(producer.end(shard, true, memberCommit(memberEpoch, [0, 1])));
    expect(await settled(offsetsOf(shard, 'payment'))).toEqual({ 0: 1 });
  });

  it('wait for its end where they were kept before it, are not stable until then, and bar reset and deletion', async () => {
    const shard = await start();
    await settled(shard.append(0, ['a', 'b', 'c']));
    const producer = new TransactionalProducer('a');
    await settled(producer.init(shard, 7));
    await settled(producer.keep(shard, 'g', [[0, 1]]));
    await settled(producer.keep(shard, 'g', [[0, 2]]));
    expect(await settled(offsetsOf(shard, 'g'))).toEqual({ 0: '?' });
    const offsets = [{ partition: keyOf(0), offset: 0 }];
    expect(await codeOf(shard.group({ type: 'reset-offsets', groupId: 'g', offsets }))).toBe('NON_EMPTY_GROUP');
    expect(await codeOf(shard.group({ type: 'delete-group', groupId: 'g' }))).toBe('NON_EMPTY_GROUP');
    await settled(producer.end(shard, true));
    expect(await settled(offsetsOf(shard, 'g'))).toEqual({ 0: 2 });
    await settled(producer.keep(shard, 'g', [[0, 3]]));
    expect(await settled(offsetsOf(shard, 'g'))).toEqual({ 0: '2?' });
    await settled(producer.end(shard, false));
    expect(await settled(offsetsOf(shard, 'g'))).toEqual({ 0: 2 });
    expect(await codeOf(shard.group({ type: 'delete-group', groupId: 'g' }))).toBe('done');
  });

  it('do not come after what was committed later than they were kept', async () => {
    const shard = await start();
    await settled(shard.append(0, ['a', 'b', 'c']));
    await settled(shard.append(1, ['a', 'b', 'c']));
    const producer = new TransactionalProducer('a');
    await settled(producer.init(shard, 7));
    const plain = (offset: number) =>
      shard.group({ type: 'commit', groupId: 'g', memberId: '', memberEpoch: -1, offsets: [offsetCommit(0, offset)] });
    const from = [
      [0, 1],
      [1, 1],
    ] as const;
    await settled(producer.keep(shard, 'g', from));
    await settled(plain(2));
    expect(await settled(offsetsOf(shard, 'g'))).toEqual({ 0: 2, 1: '?' });
    await settled(producer.end(shard, true));
    expect(await settled(offsetsOf(shard, 'g'))).toEqual({ 0: 2, 1: 1 });
    await settled(plain(1));
    await settled(producer.keep(shard, 'g', [[0, 3]]));
    await settled(producer.end(shard, true));
    expect(await settled(offsetsOf(shard, 'g'))).toEqual({ 0: 3, 1: 1 });
  });

  it('do not come back when they were deleted', async () => {
    const shard = await start();
    await settled(shard.append(0, ['a', 'b', 'c']));
    const producer = new TransactionalProducer('a');
    await settled(producer.init(shard, 7));
    await settled(producer.keep(shard, 'g', [[0, 1]]));
    await settled(producer.end(shard, true));
    await settled(producer.keep(shard, 'g', [[0, 2]]));
    const partitions = [keyOf(0), keyOf(1)];
    await settled(shard.group({ type: 'delete-offsets', groupId: 'g', partitions }));
    await settled(producer.end(shard, true));
    expect(await settled(offsetsOf(shard, 'g'))).toEqual({});
  });

  it('are fenced by the member that is named, and begin nothing when all are refused', async () => {
    const shard = await start();
    await settled(shard.append(0, ['a']));
    const { memberEpoch } = await settled(shard.join('member'));
    const producer = new TransactionalProducer('a');
    await settled(producer.init(shard, 7));
    expect(await codeOf(producer.keep(shard, 'payment', [[0, 1]], { memberId: 'other', memberEpoch: 1 }))).toBe(
      'UNKNOWN_MEMBER_ID',
    );
    const { results } = await settled(producer.keep(shard, 'payment', [[0, 5]], { memberId: 'member', memberEpoch }));
    expect(results.map(({ refusal }) => refusal?.code)).toEqual(['OFFSET_OUT_OF_RANGE']);
    expect(await statusOf(shard)).toBe('empty 0');
    await settled(producer.keep(shard, 'payment', [[0, 1]], { memberId: 'member', memberEpoch }));
    expect(await statusOf(shard)).toBe('ongoing 0');
    await settled(producer.end(shard, true));
    expect(await settled(offsetsOf(shard, 'payment'))).toEqual({ 0: 1 });
  });

  it('that would not fit into one append are refused before anything is written, and aborting works', async () => {
    const shard = await start();
    await settled(shard.append(0, ['a', 'b']));
    const producer = new TransactionalProducer('a');
    await settled(producer.init(shard, 7));
    await settled(producer.write(shard, 1, 'out'));
    // Each is small enough; together they are more than the store takes at once.
    for (let group = 0; group < 20; group++) {
      const offsets = [{ ...offsetCommit(0, 1), metadata: 'm'.repeat(4_000) }];
      await settled(producer.keep(shard, `g${group}`, [], { offsets }));
    }
    expect(await codeOf(producer.end(shard, true))).toBe('TRANSACTION_TOO_LARGE');
    expect(await statusOf(shard)).toBe('ongoing 0');
    await settled(producer.end(shard, false));
    expect(await settled(committed(shard, 1))).toEqual([]);
    expect(await settled(offsetsOf(shard, 'g3'))).toEqual({});
  });

  it('of groups that share a log and its ledger are registered there in their places', async () => {
    const ledger = {
      ...GROUP_LOG,
      name: '__ledger',
      id: ORDERS.id.replace(/^../, 'ab') as typeof ORDERS.id,
      partitionCount: 1,
    };
    const shard = await start({ topics: [GROUP_LOG, TRANSACTION_LOG, ORDERS, ledger] });
    await settled(shard.append(0, ['a', 'b']));
    const producer = new TransactionalProducer('a');
    await settled(producer.init(shard, 7));
    for (const group of ['g', 'h', 'i']) await settled(producer.keep(shard, group, [[0, 2]]));
    await settled(producer.end(shard, true));
    const progress = await settled(
      shard.ask({ type: 'trace-event', partition: keyOf(0), offset: 1, keyId: null, groups: ['g', 'h', 'i'] }),
    );
    const intervals = progress.map((entry) => JSON.stringify(entry));
    expect(intervals.map((text) => /"ranges":\[\[(\d+),/.exec(text)?.[1] ?? text)).toEqual(['0', '1', '2']);
  });
});

describe.each([
  ['that was closed', false],
  ['that was killed', true],
])('after a broker %s', (_name, isKilled) => {
  it('open transactions are open, with their whole time; ended ones are ended, and epochs go on', async () => {
    let shard = await start();
    const [open, done] = [new TransactionalProducer('open'), new TransactionalProducer('done')];
    await settled(open.init(shard, 7, { timeoutMs: 10_000 }));
    await settled(done.init(shard, 8));
    await settled(open.write(shard, 0, 'o'));
    await settled(open.keep(shard, 'g', [[0, 1]]));
    // Known by the partition alone.
    await settled(open.write(shard, 2, 'q'));
    await settled(done.write(shard, 1, 'd'));
    const before = done.identity;
    await settled(done.end(shard, true));
    clock.advance(8_000);
    await turns();
    shard = await restart(isKilled);
    expect(await statusOf(shard, 'open')).toBe('ongoing 0');
    expect(await settled(offsetsOf(shard, 'g'))).toEqual({ 0: '?' });
    expect(await settled(committed(shard, 0))).toEqual([]);
    expect(await settled(committed(shard, 1))).toEqual(['0:d']);
    const repeated = new TransactionalProducer('done');
    repeated.identity = before;
    expect((await settled(repeated.end(shard, true))).next).toEqual(done.identity);
    await settled(open.write(shard, 0, 'p'));
    clock.advance(8_000);
    await turns();
    expect(await statusOf(shard, 'open')).toBe('ongoing 0');
    clock.advance(2_000);
    await turns();
    expect(await statusOf(shard, 'open')).toBe('aborted 1');
    await settled(shard.append(2, ['plain']));
    expect(await settled(committed(shard, 2))).toEqual(['2:plain']);
    expect(await settled(offsetsOf(shard, 'g'))).toEqual({});
    const next = await settled(new TransactionalProducer('open').init(shard, 9));
    expect(next).toEqual({ producerId: 7, producerEpoch: 2 });
    shard = await restart(isKilled);
    expect(await settled(shard.ask({ type: 'list-transactions' }))).toMatchObject([
      { transactionalId: 'done', producerEpoch: 1, status: 'committed' },
      { transactionalId: 'open', producerEpoch: 2, status: 'empty' },
    ]);
  });
});

it('ids that nobody uses are forgotten', async () => {
  const shard = await start({ transactionLimits: { idExpiryMs: 3_600_000, maxIds: 2 } });
  const producer = new TransactionalProducer('a');
  await settled(producer.init(shard, 7));
  await settled(new TransactionalProducer('b').init(shard, 8));
  expect(await codeOf(new TransactionalProducer('c').init(shard, 9))).toBe('TOO_MANY_TRANSACTIONS');
  for (let minute = 0; minute < 50; minute++) {
    clock.advance(60_000);
    await turns(1);
  }
  await settled(producer.init(shard, 9));
  for (let minute = 0; minute < 25; minute++) {
    clock.advance(60_000);
    await turns(1);
  }
  expect(await settled(shard.ask({ type: 'list-transactions' }))).toMatchObject([{ transactionalId: 'a' }]);
  expect(await codeOf(new TransactionalProducer('c').init(shard, 9))).toBe('done');
});

it('transactions are counted', async () => {
  const shard = await start();
  const producer = new TransactionalProducer('a');
  await settled(producer.init(shard, 7, { timeoutMs: 1_000 }));
  await settled(producer.end(shard, true));
  const metrics = { ids: 1, open: 0, committed: 0, aborted: 0, timedOut: 0 };
  expect(shard.shard.status().transactions, 'nothing was begun').toEqual(metrics);
  for (const isCommitted of [true, true, false]) {
    await settled(producer.write(shard, 0, 'x'));
    await settled(producer.end(shard, isCommitted));
  }
  await settled(producer.write(shard, 0, 'x'));
  expect(shard.shard.status().transactions).toEqual({ ...metrics, open: 1, committed: 2, aborted: 1 });
  clock.advance(1_000);
  await turns();
  expect(shard.shard.status().transactions).toEqual({ ...metrics, committed: 2, aborted: 2, timedOut: 1 });
});
