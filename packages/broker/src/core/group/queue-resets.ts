/** Queues under somebody else's commands: offsets that are reset, groups and topics that are deleted. Groups are empty then. */
import { splitPartitionKey, type PartitionKey, type TopicId } from '@naru/base';
import { refuse, type Refusal } from '@naru/protocol';
import type { GroupContext, TimerChange } from './commands.ts';
import type { GroupRecord, GroupState } from './group-state.ts';
import { newQueueState } from '../queue/queue-state.ts';
import { cancelQueueTimers } from './queue-timers.ts';

export interface QueueChange {
  readonly records: readonly GroupRecord[];
  readonly timers: readonly TimerChange[];
}

export function isParallel(partition: PartitionKey, context: Pick<GroupContext, 'topics' | 'topicName'>): boolean {
  const name = context.topicName(splitPartitionKey(partition).topicId);
  return name !== undefined && context.topics(name)?.isParallel === true;
}

/** Offsets are not what a parallel topic has: its records are settled one by one. */
export function checkCommitted(partition: PartitionKey, label: string, context: GroupContext): Refusal | null {
  if (!isParallel(partition, context)) return null;
  return refuse(
    'INVALID_REQUEST',
    `${label} is of a parallel topic, whose records are settled (Settle, Ack): it has no offset to commit`,
  );
}

/** The queue begins again at `offset`; null: as if it had never begun. Records before count as finished, those from there on do not. */
export function resetQueue(
  state: GroupState | undefined,
  groupId: string,
  partition: PartitionKey,
  offset: number | null,
): GroupRecord[] {
  if (offset === null && state?.queues.has(partition) !== true) return [];
  return [{ kind: 'queue', groupId, partition, value: offset === null ? null : newQueueState(offset) }];
}

/** @param topicId null: of all topics */
export function deleteQueues(state: GroupState | undefined, topicId: TopicId | null): QueueChange {
  const records: GroupRecord[] = [];
  const timers: TimerChange[] = [];
  for (const [partition, queue] of state?.queues ?? []) {
    if (topicId !== null && splitPartitionKey(partition).topicId !== topicId) continue;
    records.push({ kind: 'queue', groupId: (state as GroupState).groupId, partition, value: null });
    timers.push(...cancelQueueTimers(partition, queue));
  }
  return { records, timers };
}
