/**
 * Random lives of queues against what must always hold: members that take, settle, renew, dawdle, leave and die; records with
 * delays; dead letters that are redriven; brokers that crash. The same seed gives the same trace.
 */
// The model is the body of the test below, too long to stand inside it.
// oxlint-disable vitest/no-standalone-expect
import { assert, partitionKey, type PartitionKey, type TopicId } from '@naru/base';
import { encodeBatch } from '@naru/protocol/batch';
import { SeededRandom } from '@naru/testkit';
import { expect, test } from 'vitest';
import {
  decodeGroupRecord,
  DEFAULT_GROUP_LIMITS,
  encodeGroupRecord,
  evolveGroup,
  groupRecords,
  isRefusal,
  timersAfterRecovery,
  type EventCopy,
  type GroupCommand,
  type GroupContext,
  type GroupDecision,
  type GroupReplies,
  type GroupState,
} from './index.ts';
import { decideGroup } from './decide.ts';
import { topicConfig } from '../registry/topic-config.ts';
import { doomedOffsets, dyingOffsets } from './decide-settle.ts';
import type { RecordSettlement, SeenRange, SettlementKind } from '../queue/queue-commands.ts';
import { acquiredBy, countQueue } from '../queue/queue-state.ts';

/** NARU_TEST_LONG=1 makes it many. */
const SEEDS = process.env['NARU_TEST_LONG'] === '1' ? 500 : 40;
const STEPS = 300;
const LOCK_MS = 1_000;
const LIMIT = 3;
const MAX_IN_FLIGHT = 12;
const TOPIC_ID = '00000000-0000-4000-8000-000000000001' as TopicId;
const PARTITIONS = [partitionKey(TOPIC_ID, 0), partitionKey(TOPIC_ID, 1)] as const;
const GROUP = 'work';
const MEMBERS = ['a', 'b', 'c'];

const DEFAULTS = {
  retentionMs: 1,
  retentionBytes: 1,
  allowKeyReorder: false,
  segmentMs: 1,
  segmentBytes: 1,
  maxBatchBytes: 1,
};
const CONFIG = topicConfig(
  {
    'delivery.lock.ms': String(LOCK_MS),
    'delivery.limit': String(LIMIT),
    'delivery.max.in.flight': String(MAX_IN_FLIGHT),
  },
  DEFAULTS,
);

/** What is known of a record by somebody who only sees what was asked and answered. */
interface Known {
  failures: number;
  holder: { readonly member: string; untilMs: number } | null;
  notBeforeMs: number;
  state: 'open' | 'done' | 'dead';
}

type Without<C> = C extends GroupCommand ? Omit<C, 'groupId'> : never;

class Model {
  readonly trace: string[] = [];
  readonly #random: SeededRandom;
  #state: GroupState | undefined;
  #nowMs = 1_000_000;
  #timers = new Map<string, number>();
  #heldEnd = 0;
  readonly #epochs = new Map<string, number>();
  readonly #ends = new Map<PartitionKey, number>(PARTITIONS.map((partition) => [partition, 0]));
  readonly #gaps = new Set<string>();
  readonly #known = new Map<string, Known>();

  constructor(seed: number) {
    this.#random = new SeededRandom(seed);
  }

  run(): string[] {
    for (const member of MEMBERS) this.#join(member);
    for (let step = 0; step < STEPS; step++) {
      this.#step();
      this.#check();
    }
    this.#drain();
    return this.trace;
  }

  get #context(): GroupContext {
    return {
      topics: (name) => (name === 'jobs' ? { topicId: TOPIC_ID, partitionCount: 2, isParallel: true } : undefined),
      topicName: (topicId) => (topicId === TOPIC_ID ? 'jobs' : undefined),
      topicConfig: (topicId) => (topicId === TOPIC_ID ? CONFIG : undefined),
      ownLogEnd: () => this.#heldEnd,
      limits: { ...DEFAULT_GROUP_LIMITS, minSessionTimeoutMs: 1 },
    };
  }

  #decide<C extends Without<GroupCommand>>(command: C): GroupReplies[C['type']] | null {
    const whole = { groupId: GROUP, ...command } as unknown as GroupCommand;
    const decision = decideGroup(this.#state, whole, this.#context, this.#nowMs) as GroupDecision<object>;
    for (const { records } of decision.appends ?? []) this.#heldEnd += records.length;
    for (const record of decision.records) {
      const { key, value } = encodeGroupRecord(record);
      this.#state = evolveGroup(this.#state, decodeGroupRecord(key, value));
    }
    this.#setTimers(decision.timers);
    if (isRefusal(decision.reply)) this.trace.push(`refused ${decision.reply.code}`);
    return isRefusal(decision.reply) ? null : (decision.reply as GroupReplies[C['type']]);
  }

  #setTimers(timers: GroupDecision<object>['timers']): void {
    for (const { key, delayMs } of timers) {
      if (delayMs === null) this.#timers.delete(key);
      else this.#timers.set(key, this.#nowMs + delayMs);
    }
  }

  #step(): void {
    const random = this.#random;
    const member = random.pick(MEMBERS);
    const what = random.integer(100);
    if (what < 20) this.#publish();
    else if (what < 50) this.#acquire(member);
    else if (what < 75) this.#settle(member);
    else if (what < 85) this.#advance(random.integer(LOCK_MS));
    else if (what < 88) this.#leave(member);
    else if (what < 90) this.#die(member);
    else if (what < 93) this.#crash();
    else if (what < 96) this.#redrive();
    else this.#bury();
  }

  #publish(): void {
    const partition = this.#random.pick(PARTITIONS);
    const end = this.#ends.get(partition) as number;
    const count = 1 + this.#random.integer(4);
    for (let offset = end; offset < end + count; offset++) {
      if (this.#random.chance(0.15)) this.#gaps.add(`${partition}@${offset}`);
      else this.#known.set(`${partition}@${offset}`, { failures: 0, holder: null, notBeforeMs: 0, state: 'open' });
    }
    this.#ends.set(partition, end + count);
    this.trace.push(`stored ${partition.slice(-1)} to ${end + count}`);
  }

  #join(member: string): void {
    if (this.#epochs.has(member)) return;
    const reply = this.#decide({
      type: 'join',
      memberId: member,
      memberEpoch: 0,
      instanceId: null,
      topics: ['jobs'],
      clientId: '',
      clientHost: '',
      sessionTimeoutMs: 1_000_000,
      rebalanceTimeoutMs: 0,
      maxPollIntervalMs: null,
      owned: null,
    });
    assert(reply !== null, 'a member can join');
    expect(reply.assigned).toEqual([]);
    this.#epochs.set(member, reply.memberEpoch);
    const partitions = PARTITIONS.map((partition) => ({ partition, startOffset: 0 }));
    this.#decide({ type: 'queue-open', memberId: member, memberEpoch: reply.memberEpoch, partitions });
  }

  /** Everything that is stored, or a piece of it. */
  #seen(partition: PartitionKey): SeenRange[] {
    const end = this.#ends.get(partition) as number;
    const from = this.#random.chance(0.8) ? 0 : this.#random.integer(end + 1);
    const gaps: (readonly [number, number])[] = [];
    for (let offset = from; offset < end; offset++) {
      if (this.#gaps.has(`${partition}@${offset}`)) gaps.push([offset, offset + 1]);
    }
    return from === end ? [] : [{ from, to: end, gaps }];
  }

  #acquire(member: string, maxRecords = 1 + this.#random.integer(8)): number {
    this.#join(member);
    const readings = PARTITIONS.map((partition) => {
      const held = this.#state?.held.get(partition)?.deliverable(this.#nowMs, false, new Set(), 10).events ?? [];
      return {
        partition,
        logStartOffset: 0,
        endOffset: this.#ends.get(partition) as number,
        seen: this.#seen(partition),
        heldSeen: held.map(({ offset }) => offset),
      };
    });
    const sharers = this.#random.pick([1, 1, 2, 3]);
    const memberEpoch = this.#epochs.get(member) as number;
    const reply = this.#decide({
      type: 'queue-acquire',
      memberId: member,
      memberEpoch,
      maxRecords,
      sharers,
      partitions: readings,
    });
    let count = 0;
    for (const { partition, ranges, held, lockMs } of reply?.partitions ?? []) {
      expect(lockMs).toBe(LOCK_MS);
      for (const { from, to, deliveryCount } of [...held, ...ranges]) {
        for (let offset = from; offset < to; offset++) {
          const known = this.#known.get(`${partition}@${offset}`);
          assert(known !== undefined, `${partition}@${offset} was given, where there is no record`);
          assert(known.state === 'open', `${partition}@${offset} was given, which is ${known.state}`);
          assert(
            known.holder === null,
            `${partition}@${offset} was given to ${member}, ${known.holder?.member} has it`,
          );
          assert(known.notBeforeMs <= this.#nowMs, `${partition}@${offset} was given before its time`);
          assert(
            deliveryCount === known.failures + 1,
            `${partition}@${offset}: delivery ${deliveryCount} after ${known.failures} failures`,
          );
          assert(deliveryCount <= LIMIT, `${partition}@${offset} was given ${deliveryCount} times`);
          known.holder = { member, untilMs: this.#nowMs + LOCK_MS };
          known.notBeforeMs = 0;
          count += 1;
        }
      }
    }
    assert(count <= maxRecords, 'no more than asked for');
    this.trace.push(`${member} took ${count}`);
    return count;
  }

  #settle(member: string, only: SettlementKind | null = null): void {
    const random = this.#random;
    const partition = random.pick(PARTITIONS);
    const end = this.#ends.get(partition) as number;
    const records: RecordSettlement[] = [];
    const count = only === null ? 1 + random.integer(3) : 1;
    for (let index = 0; index < count; index++) {
      const from = only === null ? random.integer(end + 2) : 0;
      const to = only === null ? from + 1 + random.integer(5) : Math.max(1, end);
      const kind = only ?? random.pick(['accept', 'accept', 'return', 'fail', 'fail', 'reject', 'renew'] as const);
      const delayMs = random.pick([0, 0, 300, 3_000]);
      records.push({ from, to, kind, delayMs, reason: '', error: '', note: '', durationMs: 0, idempotencyId: '' });
    }
    const settlement = { partition, records };
    const doomed = doomedOffsets(this.#state, member, settlement, this.#context);
    const copies = new Map<number, EventCopy>(
      doomed.filter(() => random.chance(0.8)).map((offset) => [offset, copyOf()] as const),
    );
    const reply = this.#decide({ type: 'queue-settle', memberId: member, partitions: [{ ...settlement, copies }] });
    const lost = new Set(
      reply?.refused.flatMap(({ from, to, refusal }) => {
        assert(refusal.code === 'RECORD_LOCK_LOST', refusal.message);
        return Array.from({ length: to - from }, (_, index) => from + index);
      }),
    );
    const seen = new Set<number>();
    // A renewal gives way to a last word.
    const rank = ({ kind }: RecordSettlement): number => (kind === 'renew' ? 1 : 0);
    for (const { from, to, kind, delayMs } of records.toSorted((a, b) => rank(a) - rank(b) || a.from - b.from)) {
      for (let offset = from; offset < to; offset++) {
        if (seen.has(offset)) continue;
        seen.add(offset);
        const known = this.#known.get(`${partition}@${offset}`);
        const isHeld = known?.holder?.member === member;
        assert(
          isHeld !== lost.has(offset),
          `${partition}@${offset}: held by ${known?.holder?.member}, settled by ${member}`,
        );
        if (known !== undefined && isHeld) this.#settled(known, kind, delayMs);
      }
    }
    this.trace.push(
      `${member} settled ${records.map(({ from, to, kind }) => `${kind} ${from}–${to}`).join()}, lost ${lost.size}`,
    );
  }

  #settled(known: Known, kind: SettlementKind, delayMs: number): void {
    if (kind === 'renew') {
      known.holder = { member: known.holder?.member as string, untilMs: this.#nowMs + LOCK_MS };
      return;
    }
    known.holder = null;
    if (kind === 'accept') known.state = 'done';
    else if (kind === 'reject') known.state = 'dead';
    else {
      known.notBeforeMs = delayMs === 0 ? 0 : this.#nowMs + delayMs;
      if (kind === 'fail') fail(known);
    }
  }

  #advance(ms: number): void {
    const targetMs = this.#nowMs + ms;
    for (;;) {
      const due = [...this.#timers].filter(([, atMs]) => atMs <= targetMs).sort((a, b) => a[1] - b[1])[0];
      if (due === undefined) break;
      this.#nowMs = Math.max(this.#nowMs, due[1]);
      this.#timers.delete(due[0]);
      this.#decide({ type: 'timer', key: due[0] });
      this.#expire();
    }
    this.#nowMs = targetMs;
    this.#expire();
    this.trace.push(`${ms} ms`);
  }

  /** Locks end by themselves. */
  #expire(): void {
    for (const known of this.#known.values()) {
      if (known.holder === null || known.holder.untilMs > this.#nowMs) continue;
      known.holder = null;
      fail(known);
    }
  }

  #leave(member: string): void {
    if (!this.#epochs.delete(member)) return;
    this.#decide({ type: 'leave', memberId: member, memberEpoch: -1 });
    for (const known of this.#known.values()) if (known.holder?.member === member) known.holder = null;
    this.trace.push(`${member} left`);
  }

  #die(member: string): void {
    if (!this.#epochs.delete(member)) return;
    this.#decide({ type: 'timer', key: `session/${member}` });
    for (const known of this.#known.values()) {
      if (known.holder?.member !== member) continue;
      known.holder = null;
      fail(known);
    }
    this.trace.push(`${member} died`);
  }

  /** What is in the log is all there is; locks have their whole time again. */
  #crash(): void {
    const records = this.#state === undefined ? [] : groupRecords(this.#state);
    this.#state = undefined;
    for (const record of records) {
      const { key, value } = encodeGroupRecord(record);
      this.#state = evolveGroup(this.#state, decodeGroupRecord(key, value));
    }
    this.#timers = new Map();
    if (this.#state !== undefined) this.#setTimers(timersAfterRecovery(this.#state, this.#context));
    for (const { holder } of this.#known.values()) if (holder !== null) holder.untilMs = this.#nowMs + LOCK_MS;
    this.trace.push('crashed');
  }

  #redrive(): void {
    const filter = { places: null, topicId: null, keyId: null, reason: null, sinceMs: null, beforeMs: null };
    const reply = this.#decide({ type: 'redrive', dryRun: false, filter, limit: 2, cursor: null });
    // What was redriven is seen in the state: dead letters are nobody's else.
    for (const [partition, events] of this.#state?.held ?? []) {
      for (const [offset, event] of events) {
        const known = this.#known.get(`${partition}@${offset}`) as Known;
        if (event.state !== 'waiting' || known.state !== 'dead') continue;
        known.state = 'open';
        known.failures = 0;
        known.notBeforeMs = 0;
      }
    }
    this.trace.push(`redriven ${reply?.letters.map(({ offset }) => offset).join()}`);
  }

  #bury(): void {
    for (const partition of PARTITIONS) {
      const queue = this.#state?.queues.get(partition);
      const offsets = queue === undefined ? [] : dyingOffsets(queue, 3);
      if (offsets.length === 0) continue;
      const copies = new Map(offsets.map((offset) => [offset, copyOf()] as const));
      this.#decide({ type: 'queue-bury', partition, copies });
      this.trace.push(`buried ${offsets.join()}`);
    }
  }

  #check(): void {
    for (const partition of PARTITIONS) {
      const queue = this.#state?.queues.get(partition);
      if (queue === undefined) continue;
      let at = queue.startOffset;
      for (const [index, run] of queue.runs.entries()) {
        assert(run.from === at && run.to > run.from, `runs have a gap at ${at}`);
        assert(index > 0 || run.state !== 'finished', 'the first run is finished');
        at = run.to;
      }
      assert(at === queue.endOffset, 'the runs end before the queue does');
      assert(acquiredBy(queue, null) <= MAX_IN_FLIGHT, 'more is given out than may be');
      const { acquired } = countQueue(queue);
      const holders = [...this.#known].filter(([name, { holder }]) => name.startsWith(partition) && holder !== null);
      assert(
        holders.length === acquired + queue.heldLocks.size,
        `${holders.length} are held, the queue has ${acquired}`,
      );
    }
  }

  /** Everything that is not a dead letter is handled in the end. */
  #drain(): void {
    for (const member of MEMBERS) this.#leave(member);
    for (let round = 0; round < 1_000; round++) {
      this.#bury();
      const took = this.#acquire('a', 100);
      this.#settle('a', 'accept');
      this.#settle('a', 'accept');
      const open = [...this.#known.values()].filter(({ state }) => state === 'open').length;
      if (open === 0) break;
      if (took === 0) this.#advance(3_000);
      this.#check();
    }
    for (let round = 0; round < 1_000; round++) this.#bury();
    for (const [name, { state }] of this.#known) {
      const [partition, offset] = name.split('@') as [PartitionKey, string];
      const isDead = this.#state?.held.get(partition)?.get(Number(offset))?.state === 'dead';
      assert(state !== 'open', `${name} was never handled`);
      assert(isDead === (state === 'dead'), `${name} is ${state}`);
    }
    for (const partition of PARTITIONS) {
      const queue = this.#state?.queues.get(partition);
      expect([queue?.runs, queue?.startOffset]).toEqual([[], queue?.endOffset]);
    }
  }
}

function fail(known: Known): void {
  known.failures += 1;
  if (known.failures >= LIMIT) known.state = 'dead';
}

function copyOf(): EventCopy {
  return { keyId: '', batch: encodeBatch([{ key: null, value: new Uint8Array(1), timestampMs: 1 }]) };
}

test('no record has two holders, none is lost, none is given more often than allowed', () => {
  for (let seed = 1; seed <= SEEDS; seed++) {
    try {
      const trace = new Model(seed).run();
      expect(trace.length).toBeGreaterThan(STEPS / 2);
      if (seed <= 3) expect(new Model(seed).run()).toEqual(trace);
    } catch (error) {
      throw new Error(`seed ${seed}`, { cause: error });
    }
  }
});
