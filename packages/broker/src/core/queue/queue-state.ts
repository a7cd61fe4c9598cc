/**
 * What of a partition of a parallel topic is given out to a group, and what is finished.
 *
 * Owns: runs of offsets that are in the same state, and how they are cut and put together. Does not own any decision
 * (decide-*.ts) nor bytes (queue-codec.ts). Values: nothing here is changed in place.
 *
 * Invariants: the runs cover `startOffset` to `endOffset` without gaps, in order; neighbours differ in more than their
 * offsets; the first one is not finished; every acquired run has a lock that is in `locks`, and every lock is somebody's.
 */
import { assert, type PartitionKey } from '@naru/base';

/** Deliveries that were not counted: `available` for the first time, after a return. */
export type RunState = 'available' | 'acquired' | 'finished' | 'dying';

/** Offsets `from` (inclusive) to `to` (exclusive). */
export interface QueueRun {
  readonly from: number;
  readonly to: number;
  /** `dying`: it will be a dead letter as soon as the whole event was copied. Nobody is given it any more. */
  readonly state: RunState;
  /** Deliveries that failed. */
  readonly failures: number;
  /** Of an available one, by the wall clock; 0: at once. */
  readonly notBeforeMs: number;
  /** Of an acquired one; else 0. */
  readonly lockId: number;
}

export interface QueueState {
  /** Everything below is finished. */
  readonly startOffset: number;
  /** Nothing from here on was ever given out. */
  readonly endOffset: number;
  readonly runs: readonly QueueRun[];
  /** Who holds what is acquired: member id by lock. A lock is what was given, or renewed, at one time. */
  readonly locks: ReadonlyMap<number, string>;
  /** Locks of held events (core/held) that are given out again, by offset. Their copies are in the log of held events. */
  readonly heldLocks: ReadonlyMap<number, number>;
  readonly nextLockId: number;
}

export type OffsetPair = readonly [from: number, to: number];

export function newQueueState(startOffset: number): QueueState {
  const [locks, heldLocks] = [new Map<number, string>(), new Map<number, number>()];
  return { startOffset, endOffset: startOffset, runs: [], locks, heldLocks, nextLockId: 1 };
}

/** Puts runs together, from the start on; neighbours that are alike become one. */
export class RunBuilder {
  readonly #runs: QueueRun[] = [];

  /** @param run begins where the last one ended */
  add(run: QueueRun): void {
    if (run.from >= run.to) return;
    const last = this.#runs.at(-1);
    assert(
      last === undefined || last.to === run.from,
      `a run begins at ${run.from}, the last one ended at ${last?.to}`,
    );
    if (last !== undefined && sameKind(last, run)) this.#runs[this.#runs.length - 1] = { ...last, to: run.to };
    else this.#runs.push(run);
  }

  /** The whole state: without finished runs at the start, and without locks that nobody has. */
  build(state: QueueState, heldLocks: ReadonlyMap<number, number> = state.heldLocks): QueueState {
    const [first] = this.#runs;
    const skipped = first?.state === 'finished' ? 1 : 0;
    const runs = skipped === 0 ? this.#runs : this.#runs.slice(1);
    const endOffset = this.#runs.at(-1)?.to ?? state.endOffset;
    const startOffset = skipped === 0 ? (first?.from ?? state.startOffset) : (first?.to as number);
    return { ...state, startOffset, endOffset, runs, heldLocks, locks: usedLocks(state.locks, runs, heldLocks) };
  }
}

function sameKind(a: QueueRun, b: QueueRun): boolean {
  // What is finished has no past.
  if (a.state === 'finished') return b.state === 'finished';
  return a.state === b.state && a.failures === b.failures && a.notBeforeMs === b.notBeforeMs && a.lockId === b.lockId;
}

function usedLocks(
  locks: ReadonlyMap<number, string>,
  runs: readonly QueueRun[],
  heldLocks: ReadonlyMap<number, number>,
): ReadonlyMap<number, string> {
  if (locks.size === 0) return locks;
  const used = new Set(heldLocks.values());
  for (const { lockId } of runs) if (lockId !== 0) used.add(lockId);
  if (used.size === locks.size) return locks;
  return new Map([...locks].filter(([lockId]) => used.has(lockId)));
}

export function available(from: number, to: number, failures = 0, notBeforeMs = 0): QueueRun {
  return { from, to, state: 'available', failures, notBeforeMs, lockId: 0 };
}

export function acquired(from: number, to: number, failures: number, lockId: number): QueueRun {
  return { from, to, state: 'acquired', failures, notBeforeMs: 0, lockId };
}

export function finished(from: number, to: number): QueueRun {
  return { from, to, state: 'finished', failures: 0, notBeforeMs: 0, lockId: 0 };
}

export function dying(from: number, to: number, failures: number): QueueRun {
  return { from, to, state: 'dying', failures, notBeforeMs: 0, lockId: 0 };
}

/** A run within `from` and `to`. */
export function cut(run: QueueRun, from: number, to: number): QueueRun {
  const [start, end] = [Math.max(run.from, from), Math.min(run.to, to)];
  return start === run.from && end === run.to ? run : { ...run, from: start, to: end };
}

/** When the next of the records may be given out that may not be at `nowMs`, by the wall clock; null when there is none. */
export function nextDueMs({ runs }: QueueState, nowMs: number): number | null {
  let next: number | null = null;
  for (const { state, notBeforeMs } of runs) {
    if (state === 'available' && notBeforeMs > nowMs && (next === null || notBeforeMs < next)) next = notBeforeMs;
  }
  return next;
}

export interface QueueCounts {
  /** To be given out now or at their time, of what was given out before. What nobody was given is not in it. */
  readonly available: number;
  readonly acquired: number;
  /** Of those beyond `startOffset`. */
  readonly finished: number;
  readonly dying: number;
}

export function countQueue({ runs }: QueueState): QueueCounts {
  const counts = { available: 0, acquired: 0, finished: 0, dying: 0 };
  for (const { from, to, state } of runs) counts[state] += to - from;
  return counts;
}

/** Records that a member holds, or all of them for null; events that were held are among them. */
export function acquiredBy({ runs, locks, heldLocks }: QueueState, memberId: string | null): number {
  let count = 0;
  for (const { from, to, lockId } of runs) {
    if (lockId !== 0 && (memberId === null || locks.get(lockId) === memberId)) count += to - from;
  }
  for (const lockId of heldLocks.values()) if (memberId === null || locks.get(lockId) === memberId) count += 1;
  return count;
}

/** Whether everything about an offset is over, as far as the queue goes; a held event may have it. */
export function isFinished({ startOffset, endOffset, runs }: QueueState, offset: number): boolean {
  if (offset < startOffset) return true;
  if (offset >= endOffset) return false;
  return runs.some(({ from, to, state }) => state === 'finished' && offset >= from && offset < to);
}

export interface QueueDescription extends QueueCounts {
  readonly partition: PartitionKey;
  /** Everything below is finished. */
  readonly startOffset: number;
  /** Beyond it. */
  readonly finishedRanges: readonly OffsetPair[];
  /** Members that have records. */
  readonly holders: number;
}

export function describeQueue(partition: PartitionKey, queue: QueueState): QueueDescription {
  const { startOffset, runs, locks } = queue;
  const finishedRanges = runs.flatMap(({ from, to, state }): OffsetPair[] =>
    state === 'finished' ? [[from, to]] : [],
  );
  return { partition, startOffset, finishedRanges, holders: new Set(locks.values()).size, ...countQueue(queue) };
}
