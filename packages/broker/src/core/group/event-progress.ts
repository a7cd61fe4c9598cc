/**
 * What became of one event in one group, as far as the group's state says: what is finished, held, or given out. When it
 * was, by whom, and what was noted is in the ledger.
 *
 * Pure. Owns no state.
 */
import type { PartitionKey } from '@naru/base';
import { isFinished } from '../ledger/newly-finished.ts';
import type { GroupState } from './group-state.ts';
import type { HeldPartition } from '../held/held-event.ts';
import type { QueueState } from '../queue/queue-state.ts';

export interface EventProgress {
  readonly groupId: string;
  readonly state: 'waiting' | 'delivered' | 'processed' | 'failed' | 'dead-lettered' | 'parked';
  /** Calls of handlers or deliveries; 0 when not known. */
  readonly attempts: number;
  /** When the state began; null when only the ledger knows, if anything does. */
  readonly atMs: number | null;
  /** Who holds the partition, or the event itself when it is `delivered`; null: nobody. */
  readonly memberId: string | null;
  readonly reason: string;
  readonly error: string;
  /** Of what failed: not before this time. */
  readonly nextAttemptMs: number | null;
  /** Of what is parked: the offset of the event that it waits behind. */
  readonly behind: number | null;
  /** Null: the group has committed nothing in the partition. */
  readonly committedOffset: number | null;
  /** Parts of the ledger's partition of this group where the event may be named, as pairs of from and to; null: none. */
  readonly ledger: LedgerPlaces | null;
}

export interface LedgerPlaces {
  readonly partition: PartitionKey;
  /** Ascending. The last may be open: its end is null. */
  readonly ranges: readonly (readonly [from: number, to: number | null])[];
}

export interface TracedEvent {
  readonly partition: PartitionKey;
  readonly offset: number;
  /** As protocol's keyId; null when the event is not known any more. */
  readonly keyId: string | null;
}

/** Whether what the group had to do with the event is done: it is finished and not kept for later. */
export function isProcessed({ state }: Pick<EventProgress, 'state'>): boolean {
  return state === 'processed';
}

/** @param parks whether a dead letter of this group holds up its key */
export function eventProgress(
  state: GroupState | undefined,
  groupId: string,
  event: TracedEvent,
  parks: boolean,
): Omit<EventProgress, 'ledger'> {
  const { partition, offset, keyId } = event;
  const committed = state?.offsets.get(partition);
  const queue = state?.queues.get(partition);
  const base = {
    groupId,
    attempts: 0,
    atMs: null,
    memberId: ownerOf(state, partition),
    reason: '',
    error: '',
    nextAttemptMs: null,
    behind: null,
    committedOffset: committed?.offset ?? null,
  };
  const held = state?.held.get(partition);
  const own = held?.get(offset);
  const heldLock = queue?.heldLocks.get(offset);
  if (own !== undefined && heldLock !== undefined) {
    return { ...base, state: 'delivered', attempts: own.attempts, memberId: queue?.locks.get(heldLock) ?? null };
  }
  if (own !== undefined) {
    const { attempts, atMs, reason, error, notBeforeMs } = own;
    const kept = { ...base, attempts, reason, error };
    if (own.state === 'dead') return { ...kept, state: 'dead-lettered', atMs };
    const behind = blockerOf(held, own.keyId, offset, parks);
    if (behind !== null) return { ...kept, state: 'parked', atMs, behind };
    if (attempts === 0) return { ...kept, state: 'waiting', atMs };
    return { ...kept, state: 'failed', atMs: own.lastFailureMs || atMs, nextAttemptMs: notBeforeMs };
  }
  if (committed !== undefined && isFinished(committed.offset, committed.finished, offset)) {
    return { ...base, state: 'processed' };
  }
  if (queue !== undefined) return queueProgress(base, queue, offset);
  const behind = keyId === null ? null : blockerOf(held, keyId, offset, parks);
  if (behind !== null) return { ...base, state: 'parked', behind };
  return { ...base, state: 'waiting' };
}

/** Of a parallel topic: nobody owns the partition, so that only who has the record matters. */
function queueProgress(
  base: Omit<EventProgress, 'ledger' | 'state'>,
  queue: QueueState,
  offset: number,
): Omit<EventProgress, 'ledger'> {
  if (offset < queue.startOffset) return { ...base, state: 'processed' };
  const run = queue.runs.find(({ from, to }) => offset >= from && offset < to);
  if (run === undefined) return { ...base, state: 'waiting' };
  const attempts = run.failures;
  switch (run.state) {
    case 'finished':
      return { ...base, state: 'processed' };
    case 'acquired':
      return { ...base, state: 'delivered', attempts: attempts + 1, memberId: queue.locks.get(run.lockId) ?? null };
    case 'dying':
      return { ...base, state: 'failed', attempts, reason: 'it is about to be a dead letter' };
    case 'available':
      if (attempts === 0) return { ...base, state: 'waiting' };
      return { ...base, state: 'failed', attempts, nextAttemptMs: run.notBeforeMs };
  }
}

/** The event of the same key that has to be dealt with first; null when there is none. */
function blockerOf(held: HeldPartition | undefined, keyId: string, offset: number, parks: boolean): number | null {
  // An event without a key waits for nobody.
  if (held === undefined || keyId === '') return null;
  let first: number | null = null;
  for (const [at, event] of held) {
    if (at >= offset || event.keyId !== keyId || (event.state === 'dead' && !parks)) continue;
    if (first === null || at < first) first = at;
  }
  return first;
}

function ownerOf(state: GroupState | undefined, partition: PartitionKey): string | null {
  for (const member of state?.members.values() ?? []) {
    if (member.assigned.has(partition) || member.revoking.has(partition)) return member.memberId;
  }
  return null;
}
