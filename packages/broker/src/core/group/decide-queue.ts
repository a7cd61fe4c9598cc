/** The door into the queues of a group: their commands, their timers, and what follows from what happens to members. */
import { unreachable } from '@naru/base';
import type { GroupContext, GroupDecision, TimerReply } from './commands.ts';
import { LEFT_STATIC_EPOCH } from './group-state.ts';
import type { GroupRecord, GroupState } from './group-state.ts';
import { decideAcquire, decideOpen } from './decide-acquire.ts';
import { decideBury, decideSettle, releaseLocks } from './decide-settle.ts';
import type { QueueCommand, QueueReplies } from '../queue/queue-commands.ts';
import type { QueueTimer } from './queue-timers.ts';

export function decideQueue(
  state: GroupState | undefined,
  command: QueueCommand,
  context: GroupContext,
  nowMs: number,
): GroupDecision<QueueReplies[QueueCommand['type']]> {
  switch (command.type) {
    case 'queue-open':
      return decideOpen(state, command, context);
    case 'queue-acquire':
      return decideAcquire(state, command, context, nowMs);
    case 'queue-settle':
      return decideSettle(state, command, context, nowMs);
    case 'queue-bury':
      return decideBury(state, command, context, nowMs);
    default:
      return unreachable(command, 'queue command');
  }
}

/** A lock has ended. */
export function decideQueueTimer(
  state: GroupState | undefined,
  { partition, lockId }: QueueTimer,
  context: GroupContext,
  nowMs: number,
): GroupDecision<TimerReply> {
  const reply: TimerReply = { removed: null };
  if (state === undefined) return { records: [], reply, timers: [] };
  return { ...releaseLocks(state, partition, (id) => id === lockId, true, context, nowMs), reply };
}

/**
 * A decision with what follows from it for queues: who went, or begins anew, has nothing any more.
 *
 * @param left the member itself said that it goes: nothing failed
 */
export function withReleasedLocks<Reply>(
  state: GroupState | undefined,
  decision: GroupDecision<Reply>,
  left: boolean,
  context: GroupContext,
  nowMs: number,
): GroupDecision<Reply> {
  if (state === undefined || state.queues.size === 0) return decision;
  const gone = new Set(decision.records.flatMap((record) => goneMember(state, record)));
  if (gone.size === 0) return decision;
  const records = [...decision.records];
  const timers = [...decision.timers];
  for (const partition of state.queues.keys()) {
    const isOver = (_lockId: number, memberId: string): boolean => gone.has(memberId);
    const released = releaseLocks(state, partition, isOver, !left, context, nowMs);
    records.push(...released.records);
    timers.push(...released.timers);
  }
  return { ...decision, records, timers };
}

function goneMember(state: GroupState, record: GroupRecord): string[] {
  if (record.kind !== 'member') return [];
  const before = state.members.get(record.memberId);
  if (before === undefined) return [];
  const { value } = record;
  const isAway = value?.memberEpoch === LEFT_STATIC_EPOCH && before.memberEpoch !== LEFT_STATIC_EPOCH;
  return value === null || isAway || value.joinEpoch !== before.joinEpoch ? [record.memberId] : [];
}
