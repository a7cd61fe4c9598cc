/**
 * What becomes of records that were given out: settled by who has them, their lock at its end, their member gone; and
 * dead letters.
 *
 * A delivery counts as failed when it was settled so, when its lock ended and when its member was removed; not when it was
 * given back or its member left. At the limit of failures a record is a dead letter: a held event with state dead, of which
 * the whole event is copied in the same decision. Where the copy is not at hand the record is `dying` until it is brought
 * (`queue-bury`): it is neither given out nor finished.
 */
import { splitPartitionKey, type PartitionKey } from '@naru/base';
import { refuse, type Refusal } from '@naru/protocol';
import type { EventCopy, GroupContext, GroupDecision, TimerChange } from './commands.ts';
import type { GroupRecord, GroupState } from './group-state.ts';
import { HeldChanges, type HeldChange } from './held-changes.ts';
import type { HeldEvent } from '../held/held-event.ts';
import {
  MAX_DELAY_MS,
  type PartitionSettlement,
  type QueueBuryCommand,
  type QueueBuryReply,
  type QueueSettleCommand,
  type QueueSettleReply,
  type RecordSettlement,
  type SettlementRefusal,
} from '../queue/queue-commands.ts';
import {
  acquired,
  available,
  cut,
  dying,
  finished,
  RunBuilder,
  type OffsetPair,
  type QueueRun,
  type QueueState,
} from '../queue/queue-state.ts';
import { queueTimers } from './queue-timers.ts';

/** Of topics that are gone; nothing of theirs matters any more. */
const FORGOTTEN = { deliveryLimit: 1, deliveryLockMs: 30_000 };

/** Why a record became a dead letter without a word of its handler. */
const EXHAUSTED = 'attempts-exhausted';

export function decideSettle(
  state: GroupState | undefined,
  command: QueueSettleCommand,
  context: GroupContext,
  nowMs: number,
): GroupDecision<QueueSettleReply> {
  const { groupId, memberId } = command;
  const held = new HeldChanges(groupId, state, context, nowMs);
  const records: GroupRecord[] = [];
  const timers: TimerChange[] = [];
  const refused: SettlementRefusal[] = [];
  for (const settlement of command.partitions) {
    const { partition } = settlement;
    const before = state?.queues.get(partition);
    if (before === undefined) {
      const refusal = lockLost(partition, memberId);
      refused.push(...settlement.records.map(({ from, to }) => ({ partition, from, to, refusal })));
      continue;
    }
    const { deliveryLimit, deliveryLockMs } = configOf(partition, context);
    const options = { memberId, deliveryLimit, nowMs };
    let settling = new Settling(before, state?.held.get(partition), options);
    settling.settle(settlement);
    const refusal = held.add(partition, settling.heldChanges);
    if (refusal !== null) {
      settling = new Settling(before, state?.held.get(partition), { ...options, mayDie: false });
      settling.settle(settlement);
      held.add(partition, settling.heldChanges);
      refused.push(...settling.spared.map(([from, to]) => ({ partition, from, to, refusal })));
    }
    refused.push(
      ...settling.lost.map(([from, to]) => ({ partition, from, to, refusal: lockLost(partition, memberId) })),
    );
    const after = settling.build();
    if (after === null) continue;
    records.push({ kind: 'queue', groupId, partition, value: after });
    timers.push(...queueTimers(partition, before, after, deliveryLockMs));
  }
  return { records: held.around(records), reply: { refused }, timers, appends: held.appends };
}

/** Locks whose time is over, or whose member is gone. */
export function releaseLocks(
  state: GroupState,
  partition: PartitionKey,
  isOver: (lockId: number, memberId: string) => boolean,
  counts: boolean,
  context: GroupContext,
  nowMs: number,
): Pick<GroupDecision<never>, 'records' | 'timers'> {
  const { groupId } = state;
  const before = state.queues.get(partition);
  const over = new Set(
    [...(before?.locks ?? [])].flatMap(([lockId, memberId]) => (isOver(lockId, memberId) ? [lockId] : [])),
  );
  if (before === undefined || over.size === 0) return { records: [], timers: [] };
  const { deliveryLimit, deliveryLockMs } = configOf(partition, context);
  const settling = new Settling(before, state.held.get(partition), { memberId: '', deliveryLimit, nowMs });
  settling.release(over, counts);
  // Nothing new is held here, so that no limit is in the way.
  const held = new HeldChanges(groupId, state, context, nowMs);
  held.add(partition, settling.heldChanges);
  const after = settling.build() ?? before;
  return {
    records: held.around([{ kind: 'queue', groupId, partition, value: after }]),
    timers: queueTimers(partition, before, after, deliveryLockMs),
  };
}

/** Offsets of records that a settlement makes dead letters, as things stand: their whole events have to be at hand. */
export function doomedOffsets(
  state: GroupState | undefined,
  memberId: string,
  { partition, records }: PartitionSettlement,
  context: Pick<GroupContext, 'topicConfig'>,
): number[] {
  const queue = state?.queues.get(partition);
  const isDeadly = records.some(({ kind }) => kind === 'fail' || kind === 'reject');
  if (queue === undefined || !isDeadly) return [];
  const { deliveryLimit } = configOf(partition, context);
  const offsets: number[] = [];
  for (const { kind, from, to } of records) {
    if (kind !== 'fail' && kind !== 'reject') continue;
    for (const run of queue.runs) {
      if (run.to <= from || run.from >= to || run.state !== 'acquired' || queue.locks.get(run.lockId) !== memberId)
        continue;
      if (kind === 'fail' && run.failures + 1 < deliveryLimit) continue;
      const piece = cut(run, from, to);
      for (let offset = piece.from; offset < piece.to; offset++) offsets.push(offset);
    }
  }
  return offsets;
}

/** Offsets of at most `max` records that are dying, ascending. */
export function dyingOffsets({ runs }: QueueState, max: number): number[] {
  const offsets: number[] = [];
  for (const { from, to, state } of runs) {
    if (state !== 'dying') continue;
    for (let offset = from; offset < to && offsets.length < max; offset++) offsets.push(offset);
  }
  return offsets;
}

export function decideBury(
  state: GroupState | undefined,
  { groupId, partition, copies }: QueueBuryCommand,
  context: GroupContext,
  nowMs: number,
): GroupDecision<QueueBuryReply> {
  const before = state?.queues.get(partition);
  if (before === undefined) return { records: [], reply: { refusal: null }, timers: [] };
  const { deliveryLimit, deliveryLockMs } = configOf(partition, context);
  const settling = new Settling(before, undefined, { memberId: '', deliveryLimit, nowMs });
  settling.bury(copies);
  const held = new HeldChanges(groupId, state, context, nowMs);
  const refusal = held.add(partition, settling.heldChanges);
  const after = settling.build();
  if (refusal !== null || after === null) return { records: [], reply: { refusal }, timers: [] };
  return {
    records: held.around([{ kind: 'queue', groupId, partition, value: after }]),
    reply: { refusal: null },
    timers: queueTimers(partition, before, after, deliveryLockMs),
    appends: held.appends,
  };
}

interface SettlingOptions {
  readonly memberId: string;
  readonly deliveryLimit: number;
  readonly nowMs: number;
  /** False: what would become a dead letter stays as it is. Default: true. */
  readonly mayDie?: boolean | undefined;
}

/** One change of one partition's queue. */
class Settling {
  readonly heldChanges: HeldChange[] = [];
  /** Not the member's any more. */
  readonly lost: OffsetPair[] = [];
  /** Would have become dead letters. */
  readonly spared: OffsetPair[] = [];
  readonly #queue: QueueState;
  readonly #held: ReadonlyMap<number, HeldEvent> | undefined;
  readonly #options: SettlingOptions;
  readonly #builder = new RunBuilder();
  readonly #heldLocks: Map<number, number>;
  #copies: ReadonlyMap<number, EventCopy> = new Map();
  #changed = false;
  #renewed = false;

  constructor(queue: QueueState, held: ReadonlyMap<number, HeldEvent> | undefined, options: SettlingOptions) {
    this.#queue = queue;
    this.#held = held;
    this.#options = options;
    this.#heldLocks = new Map(queue.heldLocks);
  }

  settle({ records, copies = new Map() }: PartitionSettlement): void {
    this.#copies = copies;
    const pieces = this.#inQueue(disjoint(records).flatMap((settlement) => this.#settleHeld(settlement)));
    let next = 0;
    for (const run of this.#queue.runs) {
      let at = run.from;
      for (let settlement = pieces[next]; settlement !== undefined; settlement = pieces[next]) {
        if (settlement.from >= run.to) break;
        const piece = cut(run, Math.max(at, settlement.from), settlement.to);
        this.#builder.add({ ...run, from: at, to: piece.from });
        this.#settleRun(piece, settlement);
        at = piece.to;
        // It goes on in the next run.
        if (settlement.to > run.to) break;
        next += 1;
      }
      this.#builder.add({ ...run, from: at, to: run.to });
    }
  }

  /** What was never given out, or is long finished, is nobody's. */
  #inQueue(settlements: readonly RecordSettlement[]): RecordSettlement[] {
    const { startOffset, endOffset } = this.#queue;
    return settlements.flatMap((settlement) => {
      const from = Math.max(settlement.from, startOffset);
      const to = Math.min(settlement.to, endOffset);
      this.#lose(settlement.from, Math.min(settlement.to, startOffset));
      this.#lose(Math.max(settlement.from, endOffset), settlement.to);
      return from < to ? [{ ...settlement, from, to }] : [];
    });
  }

  /** @param over locks that nobody has from now on */
  release(over: ReadonlySet<number>, counts: boolean): void {
    for (const run of this.#queue.runs) {
      if (run.state === 'acquired' && over.has(run.lockId))
        this.#giveBack(run, counts, 0, { reason: EXHAUSTED, error: '' });
      else this.#builder.add(run);
    }
    for (const [offset, lockId] of this.#queue.heldLocks) {
      if (!over.has(lockId)) continue;
      this.#heldLocks.delete(offset);
      this.#changed = true;
      const event = this.#held?.get(offset);
      if (counts && event !== undefined)
        this.#failHeld(offset, event, 0, { reason: EXHAUSTED, error: 'its lock ended' });
    }
  }

  bury(copies: ReadonlyMap<number, EventCopy | null>): void {
    for (const run of this.#queue.runs) {
      if (run.state !== 'dying') {
        this.#builder.add(run);
        continue;
      }
      for (let offset = run.from; offset < run.to; offset++) {
        const copy = copies.get(offset);
        const piece = cut(run, offset, offset + 1);
        if (copy === undefined) {
          this.#builder.add(piece);
          continue;
        }
        this.#builder.add(finished(offset, offset + 1));
        this.#changed = true;
        if (copy !== null) this.#deadLetter(offset, run.failures, copy, { reason: EXHAUSTED, error: 'its lock ended' });
      }
    }
  }

  /** Null when nothing changed. */
  build(): QueueState | null {
    if (!this.#changed) return null;
    const { locks, nextLockId } = this.#queue;
    const state = this.#renewed
      ? { ...this.#queue, locks: new Map([...locks, [nextLockId, this.#options.memberId]]), nextLockId: nextLockId + 1 }
      : this.#queue;
    return this.#builder.build(state, this.#heldLocks);
  }

  #lose(from: number, to: number): void {
    if (from >= to) return;
    const last = this.lost.at(-1);
    if (last?.[1] === from) this.lost[this.lost.length - 1] = [last[0], to];
    else this.lost.push([from, to]);
  }

  #settleRun(piece: QueueRun, settlement: RecordSettlement): void {
    const { from, to, state, failures, lockId } = piece;
    if (state !== 'acquired' || this.#queue.locks.get(lockId) !== this.#options.memberId) {
      this.#lose(from, to);
      this.#builder.add(piece);
      return;
    }
    this.#changed = true;
    switch (settlement.kind) {
      case 'accept':
        return this.#builder.add(finished(from, to));
      case 'renew':
        this.#renewed = true;
        return this.#builder.add(acquired(from, to, failures, this.#queue.nextLockId));
      case 'return':
        return this.#giveBack(piece, false, settlement.delayMs, settlement);
      case 'fail':
        return this.#giveBack(piece, true, settlement.delayMs, settlement);
      case 'reject':
        return this.#die(piece, failures + 1, settlement);
    }
  }

  #giveBack(run: QueueRun, counts: boolean, delayMs: number, why: Why): void {
    this.#changed = true;
    const failures = run.failures + (counts ? 1 : 0);
    if (failures >= this.#options.deliveryLimit && counts) return this.#die(run, failures, why);
    this.#builder.add(available(run.from, run.to, failures, this.#dueMs(delayMs)));
  }

  #die(run: QueueRun, failures: number, why: Why): void {
    const { from, to } = run;
    if (this.#options.mayDie === false) {
      this.spared.push([from, to]);
      this.#builder.add(run);
      return;
    }
    for (let offset = from; offset < to; offset++) {
      const copy = this.#copies.get(offset);
      if (copy === undefined) {
        this.#builder.add(dying(offset, offset + 1, failures));
        continue;
      }
      this.#builder.add(finished(offset, offset + 1));
      this.#deadLetter(offset, failures, copy, why);
    }
  }

  #deadLetter(offset: number, attempts: number, copy: EventCopy, why: Why): void {
    const { nowMs } = this.#options;
    const event: HeldEvent = {
      state: 'dead',
      keyId: '',
      copyOffset: 0,
      attempts,
      notBeforeMs: 0,
      reason: why.reason === '' ? EXHAUSTED : why.reason,
      error: why.error,
      firstFailureMs: nowMs,
      lastFailureMs: nowMs,
      atMs: nowMs,
      redrives: 0,
      sizeBytes: 0,
    };
    this.heldChanges.push({ offset, event, copy: { ...copy, keyId: '' } });
  }

  /** Takes the held events out of a settlement; the rest is about records of the log. */
  #settleHeld(settlement: RecordSettlement): RecordSettlement[] {
    if (this.#queue.heldLocks.size === 0) return [settlement];
    const rest: RecordSettlement[] = [];
    let at = settlement.from;
    const offsets = [...this.#queue.heldLocks.keys()].filter((offset) => offset >= at && offset < settlement.to);
    for (const offset of offsets.sort((a, b) => a - b)) {
      const lockId = this.#heldLocks.get(offset);
      if (lockId === undefined || this.#queue.locks.get(lockId) !== this.#options.memberId) continue;
      if (offset > at) rest.push({ ...settlement, from: at, to: offset });
      at = offset + 1;
      this.#settleHeldEvent(offset, settlement);
    }
    if (at < settlement.to) rest.push({ ...settlement, from: at });
    return rest;
  }

  #settleHeldEvent(offset: number, settlement: RecordSettlement): void {
    this.#changed = true;
    if (settlement.kind === 'renew') {
      this.#renewed = true;
      this.#heldLocks.set(offset, this.#queue.nextLockId);
      return;
    }
    this.#heldLocks.delete(offset);
    const event = this.#held?.get(offset);
    if (event === undefined) return;
    switch (settlement.kind) {
      case 'accept':
        this.heldChanges.push({ offset, event: null });
        return;
      case 'return':
        this.heldChanges.push({ offset, event: { ...event, notBeforeMs: this.#dueMs(settlement.delayMs) } });
        return;
      case 'fail':
        return this.#failHeld(offset, event, settlement.delayMs, settlement);
      case 'reject':
        return this.#failHeld(offset, event, null, settlement);
    }
  }

  /** @param delayMs null: a dead letter at once */
  #failHeld(offset: number, event: HeldEvent, delayMs: number | null, { reason, error }: Why): void {
    const { nowMs, deliveryLimit } = this.#options;
    const attempts = event.attempts + 1;
    const failed = { ...event, attempts, lastFailureMs: nowMs };
    if (delayMs !== null && attempts < deliveryLimit) {
      this.heldChanges.push({ offset, event: { ...failed, notBeforeMs: this.#dueMs(delayMs), error } });
      return;
    }
    const why = { reason: reason === '' ? EXHAUSTED : reason, error };
    this.heldChanges.push({ offset, event: { ...failed, state: 'dead', notBeforeMs: 0, atMs: nowMs, ...why } });
  }

  #dueMs(delayMs: number): number {
    return delayMs <= 0 ? 0 : this.#options.nowMs + Math.min(delayMs, MAX_DELAY_MS);
  }
}

/** In order. What two of them name is the first one's; but a renewal gives way to a last word, whichever was said first. */
function disjoint(settlements: readonly RecordSettlement[]): RecordSettlement[] {
  const renewals = firstOf(settlements.filter(({ kind }) => kind === 'renew'));
  const last = firstOf(settlements.filter(({ kind }) => kind !== 'renew'));
  if (renewals.length === 0 || last.length === 0) return renewals.length === 0 ? last : renewals;
  const left: RecordSettlement[] = [];
  let next = 0;
  for (const renewal of renewals) {
    let at = renewal.from;
    while (next < last.length && (last[next] as RecordSettlement).to <= at) next += 1;
    for (let i = next; i < last.length && at < renewal.to; i++) {
      const { from, to } = last[i] as RecordSettlement;
      if (from >= renewal.to) break;
      if (from > at) left.push({ ...renewal, from: at, to: from });
      at = to;
    }
    if (at < renewal.to) left.push({ ...renewal, from: at });
  }
  return [...last, ...left].sort((a, b) => a.from - b.from);
}

function firstOf(settlements: readonly RecordSettlement[]): RecordSettlement[] {
  let done = 0;
  return settlements
    .toSorted((a, b) => a.from - b.from)
    .flatMap((settlement) => {
      const from = Math.max(settlement.from, done);
      done = Math.max(done, settlement.to);
      return from < settlement.to ? [{ ...settlement, from }] : [];
    });
}

type Why = Pick<RecordSettlement, 'reason' | 'error'>;

function configOf(partition: PartitionKey, context: Pick<GroupContext, 'topicConfig'>): typeof FORGOTTEN {
  return context.topicConfig?.(splitPartitionKey(partition).topicId) ?? FORGOTTEN;
}

function lockLost(partition: PartitionKey, memberId: string): Refusal {
  return refuse('RECORD_LOCK_LOST', `these records of ${partition} are not member ${memberId}'s (any more)`);
}
