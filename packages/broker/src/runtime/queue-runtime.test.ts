/** Queues of a shard on a disk that crashes: what is given out is durable first, and nothing is given twice or lost. */
import { assert } from '@naru/base';
import { SeededRandom, SimDisk, VirtualClock } from '@naru/testkit';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { SettlementKind } from '../core/queue/queue-commands.ts';
import { openFileLogStore } from '../log/file/file-log-store.ts';
import { HeldStore } from './held-store.ts';
import { HELD_LOG_TOPIC, TRANSACTION_LOG_TOPIC } from './internal-topics.ts';
import type { AcquireRecordsReply } from './queue-commands.ts';
import { finished, turns, watched } from './settling.ts';
import { GROUP_LOG, keyOf, sampleTopic, ShardScenario, textBatch } from './shard-scenario.ts';
import { TransactionWriter } from './transaction-writer.ts';

const LIMITS = {
  journalFileBytes: 48 * 1024,
  journalBytes: 4 * 48 * 1024,
  maxAppendBytes: 10 * 1024,
  mergedFrameBytes: 6 * 1024,
  checkpointBytes: 64 * 1024,
  unwrittenBytes: 16 * 1024,
  cacheBytes: 16 * 1024,
  segmentBytes: 8 * 1024,
  segmentAgeMs: 2_000,
};
const LOCK_MS = 30_000;
const JOBS = { ...sampleTopic('jobs', 2), type: 'parallel' as const, config: { 'delivery.limit': '1000' } };
const HELD_LOG = sampleTopic(HELD_LOG_TOPIC, GROUP_LOG.partitionCount);
const TOPICS = [GROUP_LOG, HELD_LOG, sampleTopic(TRANSACTION_LOG_TOPIC, 8), JOBS];
const PARTITIONS = [keyOf(0, JOBS), keyOf(1, JOBS)] as const;
const SEEDS = 10;
const STEPS = 120;

let clock: VirtualClock;
let disk: SimDisk;
let held: HeldStore;
let running: ShardScenario | null;
let nextId = 1;

beforeEach(() => {
  clock = new VirtualClock();
  disk = new SimDisk(new SeededRandom(5));
  running = null;
});

afterEach(async () => {
  if (running !== null) await settled(running.shard.close());
});

function settled<T>(promise: Promise<T>): Promise<T> {
  return finished(promise, clock);
}

async function start(): Promise<ShardScenario> {
  const random = new SeededRandom(1);
  held = new HeldStore(openFileLogStore({ disk, path: '/data', clock, timers: clock, random, limits: LIMITS }));
  running = await settled(ShardScenario.start({ store: held.store, time: clock, topics: TOPICS }));
  return running;
}

/** As if the power went: what was not synced may be gone. The broker that was is left alone, on a disk that answers no more. */
function crash(seed: number): Promise<ShardScenario> {
  disk = disk.powerCut(new SeededRandom(seed));
  running = null;
  return start();
}

async function join(shard: ShardScenario, memberId: string): Promise<number> {
  const options = { groupId: 'work', topics: ['jobs'], sessionTimeoutMs: 1_800_000, maxPollIntervalMs: null };
  const { memberEpoch } = await settled(shard.join(memberId, options));
  const start = { at: 'beginning' } as const;
  const member = { groupId: 'work', memberId, memberEpoch };
  await settled(shard.ask({ type: 'open-queues', ...member, partitions: PARTITIONS, start }));
  return memberEpoch;
}

function acquire(shard: ShardScenario, memberId: string, memberEpoch: number, maxRecords = 10, maxWaitMs = 0) {
  const acquireId = nextId++;
  const limits = { maxRecords, maxBytes: 1_000_000, maxWaitMs };
  return shard.ask({
    type: 'acquire-records',
    acquireId,
    groupId: 'work',
    memberId,
    memberEpoch,
    partitions: PARTITIONS,
    ...limits,
  });
}

function settle(
  shard: ShardScenario,
  memberId: string,
  index: number,
  kind: SettlementKind,
  from: number,
  to = from + 1,
  delayMs = 0,
) {
  const record = { from, to, kind, delayMs, reason: '', error: '', note: '', durationMs: 0, idempotencyId: '' };
  const partitions = [{ partition: PARTITIONS[index] as (typeof PARTITIONS)[0], records: [record] }];
  return shard.ask({ type: 'settle-records', groupId: 'work', memberId, partitions });
}

function append(shard: ShardScenario, index: number, values: readonly string[]) {
  return shard.ask({
    type: 'append',
    partition: PARTITIONS[index] as (typeof PARTITIONS)[0],
    batch: textBatch(values),
  });
}

/** `partition/offset×delivery` of each record. */
function given({ partitions }: AcquireRecordsReply): string[] {
  return partitions.flatMap(({ partition, ranges }) =>
    ranges.flatMap(({ from, to, deliveryCount }) =>
      Array.from({ length: to - from }, (_, index) => `${partition.slice(-1)}/${from + index}×${deliveryCount}`),
    ),
  );
}

describe('What a member is given', () => {
  it('is told when it is durable that it is the member’s, and free after a crash before that', async () => {
    let shard = await start();
    const epoch = await join(shard, 'a');
    await settled(append(shard, 0, ['x']));
    held.isHeld = true;
    const answer = watched(acquire(shard, 'a', epoch));
    await turns(50);
    expect([answer, held.waiting]).toEqual([{}, 1]);
    // The disk never sees it.
    held.fail();
    await turns(50);
    expect(answer.error).toMatchObject({ code: 'STORAGE_ERROR' });
    shard = await crash(1);
    expect(given(await settled(acquire(shard, 'b', await join(shard, 'b'))))).toEqual(['0/0×1']);
  });

  it('comes in the order of offsets also where it was redriven and failed', async () => {
    const shard = await start();
    const epoch = await join(shard, 'a');
    await settled(append(shard, 0, ['x', 'y']));
    await settled(acquire(shard, 'a', epoch));
    await settled(settle(shard, 'a', 0, 'reject', 0, 2));
    const filter = { places: null, topicId: null, keyId: null, reason: null, sinceMs: null, beforeMs: null };
    const query = { filter, limit: 10, cursor: null, dryRun: false };
    await settled(shard.group({ type: 'redrive', groupId: 'work', ...query }));
    expect(given(await settled(acquire(shard, 'a', epoch)))).toHaveLength(2);
    await settled(settle(shard, 'a', 0, 'fail', 0, 1, 2_000));
    await settled(settle(shard, 'a', 0, 'fail', 1, 2, 1_000));
    clock.advance(3_000);
    const again = given(await settled(acquire(shard, 'a', epoch))).map((one) => one.split('×')[0]);
    expect(again).toEqual(['0/0', '0/1']);
  });

  it('stays the member’s for its whole lock after a crash, and is then free, counted', async () => {
    let shard = await start();
    const epoch = await join(shard, 'a');
    await settled(append(shard, 0, ['x']));
    await settled(acquire(shard, 'a', epoch));
    clock.advance(LOCK_MS - 1_000);
    shard = await crash(2);
    const other = await join(shard, 'b');
    clock.advance(LOCK_MS - 1_000);
    expect(given(await settled(acquire(shard, 'b', other)))).toEqual([]);
    clock.advance(1_000);
    expect(given(await settled(acquire(shard, 'b', other)))).toEqual(['0/0×2']);
    expect(await settled(settle(shard, 'a', 0, 'accept', 0))).toMatchObject({
      refused: [{ refusal: { code: 'RECORD_LOCK_LOST' } }],
    });
  });

  it('comes at once when somebody waits, and to nobody whose wait is over', async () => {
    const shard = await start();
    const epoch = await join(shard, 'a');
    const first = watched(acquire(shard, 'a', epoch, 10, 1_000));
    await turns(20);
    expect(first).toEqual({});
    clock.advance(1_000);
    await turns(20);
    expect(first.value).toEqual({ partitions: [], failed: [] });
    await settled(append(shard, 0, ['x']));
    const second = acquire(shard, 'a', epoch, 10, 1_000);
    expect(given(await settled(second))).toEqual(['0/0×1']);
  });
});

/** Members that take, settle and crash with the broker, against what they were told. */
class CrashRun {
  readonly trace: string[] = [];
  readonly #random: SeededRandom;
  readonly #epochs = new Map<string, number>();
  readonly #ends = [0, 0];
  /** Told to be a member's, and not settled by it. */
  readonly #holders = new Map<string, string>();
  readonly #accepted = new Set<string>();
  #shard: ShardScenario;

  constructor(seed: number, shard: ShardScenario) {
    this.#random = new SeededRandom(seed);
    this.#shard = shard;
  }

  async run(): Promise<void> {
    for (const member of ['a', 'b', 'c']) this.#epochs.set(member, await join(this.#shard, member));
    for (let step = 0; step < STEPS; step++) await this.#step(step);
    await this.#drain();
  }

  async #step(step: number): Promise<void> {
    const random = this.#random;
    const member = random.pick(['a', 'b', 'c']);
    const what = random.integer(100);
    if (what < 25) await this.#append();
    else if (what < 60) this.#take(member, await settled(this.#acquire(member)));
    else if (what < 90) await this.#settle(member);
    else if (what < 95) await this.#crashDuring(member, step);
    else {
      clock.advance(LOCK_MS + 1);
      this.#holders.clear();
      await turns(5);
      this.trace.push('locks ended');
    }
  }

  #acquire(member: string, maxRecords = 1 + this.#random.integer(5)): Promise<AcquireRecordsReply> {
    return acquire(this.#shard, member, this.#epochs.get(member) as number, maxRecords);
  }

  async #append(): Promise<void> {
    const index = this.#random.integer(2);
    const values = Array.from({ length: 1 + this.#random.integer(4) }, () => 'v');
    await settled(append(this.#shard, index, values));
    this.#ends[index] = (this.#ends[index] as number) + values.length;
    this.trace.push(`stored ${this.#ends.join()}`);
  }

  #take(member: string, reply: AcquireRecordsReply): void {
    const records = given(reply).map((text) => text.replace(/×.*/, ''));
    for (const record of records) {
      assert(!this.#accepted.has(record), `${record} was given to ${member} after it was accepted`);
      const holder = this.#holders.get(record);
      assert(holder === undefined, `${record} was given to ${member}, ${holder} has it`);
      this.#holders.set(record, member);
    }
    this.trace.push(`${member} took ${records.join()}`);
  }

  async #settle(member: string): Promise<void> {
    const own = [...this.#holders].filter(([, holder]) => holder === member).map(([record]) => record);
    if (own.length === 0) return;
    const record = this.#random.pick(own);
    const kind = this.#random.pick(['accept', 'accept', 'return', 'fail', 'renew'] as const);
    const { refused } = await settled(this.#say(member, record, kind));
    assert(refused.length === 0, `${member} has ${record}, and was refused`);
    if (kind !== 'renew') this.#holders.delete(record);
    if (kind === 'accept') this.#accepted.add(record);
    this.trace.push(`${member} ${kind} ${record}`);
  }

  #say(member: string, record: string, kind: SettlementKind) {
    const [index, offset] = record.split('/').map(Number) as [number, number];
    return settle(this.#shard, member, index, kind, offset);
  }

  /** The broker goes down with something under way, of which nobody knows whether it happened. */
  async #crashDuring(member: string, step: number): Promise<void> {
    const [record] = [...this.#holders].find(([, holder]) => holder === member) ?? [];
    if (record !== undefined) {
      this.#say(member, record, 'accept').catch(() => {});
      this.#holders.delete(record);
    }
    this.#acquire(member).catch(() => {});
    await turns(this.#random.integer(4));
    this.#shard = await crash(step);
    // What was under way may be the member's: it gives up all that it has.
    const last = this.#ends.map((end, index) => settle(this.#shard, member, index, 'return', 0, Math.max(1, end)));
    await settled(Promise.all(last));
    for (const [name, holder] of this.#holders) if (holder === member) this.#holders.delete(name);
    this.trace.push('crashed');
  }

  /** Everything that was stored is handled in the end. */
  async #drain(): Promise<void> {
    clock.advance(LOCK_MS + 1);
    this.#holders.clear();
    await turns(5);
    for (let empty = 0; empty < 2;) {
      const reply = await settled(this.#acquire('a', 100));
      this.#take('a', reply);
      for (const record of given(reply)) await settled(this.#say('a', record.replace(/×.*/, ''), 'accept'));
      empty = reply.partitions.length === 0 ? empty + 1 : 0;
    }
  }

  /** By partition: the start offset, and what of the group's queue is left. */
  async left(): Promise<number[][]> {
    const { queues } = await settled(this.#shard.ask({ type: 'describe-group', groupId: 'work' }));
    return queues.map(({ startOffset, acquired, available }) => [startOffset, acquired, available]);
  }

  get ends(): readonly number[] {
    return this.#ends;
  }
}

describe('Random lives with power cuts', () => {
  it.each(Array.from({ length: SEEDS }, (_, index) => index + 1))('keep what was told, seed %i', async (seed) => {
    const run = new CrashRun(seed, await start());
    await run.run();
    expect(await run.left()).toEqual(run.ends.map((end) => [end, 0, 0]));
    expect(run.trace.length).toBeGreaterThan(STEPS / 2);
  });
});

describe('records of transactions', () => {
  it('are given when they are committed, and count as finished when they were aborted', async () => {
    const shard = await start();
    const epoch = await join(shard, 'm');
    const [partition] = PARTITIONS;
    const tx = await settled(TransactionWriter.init(shard, 'tx', 7_000));
    const givenNow = async (): Promise<string[]> => given(await settled(acquire(shard, 'm', epoch)));
    await settled(append(shard, 0, ['a']));
    await settled(tx.write(partition, ['b', 'c']));
    await settled(append(shard, 0, ['d']));
    expect(await givenNow()).toEqual(['0/0×1']);
    const waiting = watched(acquire(shard, 'm', epoch, 10, 60_000));
    await turns(20);
    expect(waiting).toEqual({});
    await settled(tx.end(false));
    await turns(20);
    expect(waiting.value && given(waiting.value)).toEqual(['0/3×1']);
    await settled(tx.write(partition, ['e']));
    await settled(tx.end(true));
    expect(await givenNow()).toEqual(['0/5×1']);
    for (const [from, to] of [
      [0, 1],
      [3, 4],
      [5, 6],
    ] as const)
      await settled(settle(shard, 'm', 0, 'accept', from, to));
    // What was aborted holds nothing up: the queue begins behind it.
    await settled(tx.write(partition, ['f']));
    await settled(tx.end(false));
    await settled(append(shard, 0, ['g']));
    expect(await givenNow()).toEqual(['0/9×1']);
    const member = { groupId: 'work', memberId: 'm', memberEpoch: epoch };
    const opened = await settled(shard.ask({ type: 'open-queues', ...member, partitions: [partition], start: null }));
    expect(opened).toMatchObject([{ startOffset: 9 }]);
  });
});
