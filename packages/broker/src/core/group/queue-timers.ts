/**
 * Timers of queues: locks that end. They are measured by timers alone, never by the wall clock, and have their whole time again
 * after a restart. Records whose time comes need none: whoever waits for them looks then.
 */
import { splitPartitionKey, type PartitionKey } from '@naru/base';
import type { GroupContext, TimerChange } from './commands.ts';
import type { GroupState } from './group-state.ts';
import type { QueueState } from '../queue/queue-state.ts';

const LOCK = 'queue-lock';
/** Of a lock whose topic is gone. */
const FORGOTTEN_LOCK_MS = 30_000;

export interface QueueTimer {
  readonly partition: PartitionKey;
  readonly lockId: number;
}

/** Null for a timer that is not a queue's. */
export function queueTimerOf(key: string): QueueTimer | null {
  const [kind, partition, lockId] = key.split(' ');
  if (kind !== LOCK || partition === undefined || lockId === undefined) return null;
  return { partition: partition as PartitionKey, lockId: Number(lockId) };
}

/** What a change of a queue does to its timers. */
export function queueTimers(
  partition: PartitionKey,
  before: QueueState | undefined,
  after: QueueState,
  lockMs: number,
): TimerChange[] {
  const timers: TimerChange[] = [];
  for (const lockId of before?.locks.keys() ?? []) {
    if (!after.locks.has(lockId)) timers.push({ key: lockKey(partition, lockId), delayMs: null });
  }
  for (const lockId of after.locks.keys()) {
    if (before?.locks.has(lockId) !== true) timers.push({ key: lockKey(partition, lockId), delayMs: lockMs });
  }
  return timers;
}

/** Every timer that the queues of a group need after its state was recovered. */
export function queueTimersAfterRecovery(state: GroupState, context: GroupContext): TimerChange[] {
  return [...state.queues].flatMap(([partition, queue]) => {
    const lockMs = context.topicConfig?.(splitPartitionKey(partition).topicId)?.deliveryLockMs ?? FORGOTTEN_LOCK_MS;
    return queueTimers(partition, undefined, queue, lockMs);
  });
}

/** None of them matters any more. */
export function cancelQueueTimers(partition: PartitionKey, before: QueueState): TimerChange[] {
  return [...before.locks.keys()].map((lockId) => ({ key: lockKey(partition, lockId), delayMs: null }));
}

function lockKey(partition: PartitionKey, lockId: number): string {
  return `${LOCK} ${partition} ${lockId}`;
}
