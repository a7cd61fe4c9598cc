/** Why a shard takes no batches, or no commands of groups, just now. */
import { refuse, type NaruError, type Refusal } from '@naru/protocol';
import type { GroupCommand } from '../core/group/index.ts';
import type { LogStore } from '../log/log-store.ts';

type Capacity = ReturnType<LogStore['capacity']>;

/** Commands of groups that a client repeats when they are refused for the moment. */
const REPEATABLE: ReadonlySet<GroupCommand['type']> = new Set([
  'join',
  'classic-join',
  'classic-sync',
  'commit',
  'reset-offsets',
  'delete-group',
  'redrive',
  'purge-dead-letters',
]);

/** Null when the store takes batches. */
export function storageRefusal(failure: NaruError | null, capacity: Capacity): Refusal | null {
  if (failure !== null) return failure.toRefusal();
  if (capacity.state === 'full') return refuse('STORAGE_FULL', capacity.reason);
  if (capacity.state === 'unavailable') return refuse('STORAGE_UNAVAILABLE', capacity.reason);
  if (capacity.state === 'offline') return refuse('STORAGE_ERROR', capacity.reason);
  return null;
}

/** A full disk leaves room for groups. When that is used up too, what a client can repeat is refused; it would wait. */
export function exhaustedRefusal(command: GroupCommand, capacity: Capacity): Refusal | null {
  // Whole events would soon use up what is left for groups.
  if (capacity.state === 'full' && bringsCopies(command)) return refuse('STORAGE_FULL', capacity.reason);
  return REPEATABLE.has(command.type) ? roomRefusal(capacity) : null;
}

function bringsCopies(command: GroupCommand): boolean {
  if (command.type !== 'commit') return false;
  return command.offsets.some(({ outcomes = [] }) => outcomes.some(({ copy }) => copy !== undefined && copy !== null));
}

/** Why what a client can repeat is refused; null when there is room for the broker's own appends. */
export function roomRefusal(capacity: Capacity): Refusal | null {
  if (capacity.state === 'unavailable') return refuse('STORAGE_UNAVAILABLE', capacity.reason);
  return capacity.state === 'full' && capacity.exhausted === true ? refuse('STORAGE_FULL', capacity.reason) : null;
}
