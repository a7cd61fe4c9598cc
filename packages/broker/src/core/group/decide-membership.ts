/** What happens to members after they joined: heartbeats, signs of life, leaving, time-outs; and changes of topics. */
import { refuse } from '@naru/protocol';
import type { Refusal } from '@naru/protocol';
import { queueTimersAfterRecovery } from './queue-timers.ts';
import { BARRIER_TIMER, classicPhase } from './classic-round.ts';
import type {
  DecisionFor,
  DisconnectedCommand,
  DoneReply,
  GroupContext,
  GroupDecision,
  HeartbeatCommand,
  LeaveCommand,
  RemovalReason,
  TimerChange,
  TimerCommand,
  TopicsChangedCommand,
  TouchCommand,
} from './commands.ts';
import { checkMember, checkTopics, refused, release, sortedTopics, unknownMember } from './decide-join.ts';
import { LEFT_STATIC_EPOCH } from './group-state.ts';
import type { GroupState, MemberState } from './group-state.ts';
import { viewOf } from './inspect.ts';
import {
  draftOf,
  draftRecords,
  draftTimers,
  mustAct,
  pollTimers,
  rebalance,
  reconcile,
  sameList,
  sessionTimer,
  splitTimerKey,
  targetsAreCurrent,
  timerKey,
} from './reconcile.ts';
import type { GroupDraft } from './reconcile.ts';

export const DONE: DoneReply = { done: true };

export function decideHeartbeat(
  state: GroupState | undefined,
  command: HeartbeatCommand,
  context: GroupContext,
  nowMs: number,
): DecisionFor<HeartbeatCommand> {
  const { memberId, owned, released: given } = command;
  const member = checkMember(state, memberId, command.memberEpoch);
  if ('code' in member) return refused(member);
  if (member.kafka !== null) return refused(unknownMember(memberId));
  const wrong = command.topics === undefined ? null : checkTopics(command.topics, context.limits);
  if (wrong !== null) return refused(wrong);
  const topics = command.topics === undefined ? member.topics : sortedTopics(command.topics);
  const resubscribed = !sameList(topics, member.topics);
  const released = release(member, owned, given);
  if (!resubscribed && released === member) {
    return { records: [], reply: viewOf(member), timers: [sessionTimer(member)] };
  }
  const draft = draftOf(state, command.groupId, nowMs);
  draft.members.set(memberId, { ...released, topics });
  if (resubscribed) rebalance(draft, context);
  reconcile(draft);
  return {
    records: draftRecords(state, draft),
    reply: viewOf(draft.members.get(memberId)!),
    timers: [...draftTimers(state, draft), sessionTimer(member)],
  };
}

export function decideTouch(state: GroupState | undefined, command: TouchCommand): DecisionFor<TouchCommand> {
  const member = checkMember(state, command.memberId, command.memberEpoch);
  if ('code' in member) return refused(member);
  const timers = command.kind === 'alive' ? [sessionTimer(member)] : [sessionTimer(member), ...pollTimers(member)];
  return { records: [], reply: DONE, timers };
}

export function decideDisconnected(
  state: GroupState | undefined,
  command: DisconnectedCommand,
): DecisionFor<DisconnectedCommand> {
  const member = state?.members.get(command.memberId);
  if (member === undefined) return refused(unknownMember(command.memberId));
  // A static member that has left keeps its place for the whole session; its connection closes after that as a matter of course.
  if (member.memberEpoch === LEFT_STATIC_EPOCH) return { records: [], reply: DONE, timers: [] };
  const delayMs = Math.min(command.graceMs, member.sessionTimeoutMs);
  return { records: [], reply: DONE, timers: [{ key: timerKey('session', member.memberId), delayMs }] };
}

export function decideLeave(
  state: GroupState | undefined,
  command: LeaveCommand,
  context: GroupContext,
  nowMs: number,
): DecisionFor<LeaveCommand> {
  const { memberId } = command;
  const member = state?.members.get(memberId);
  if (state === undefined || member === undefined) return refused(unknownMember(memberId));
  const draft = draftOf(state, command.groupId, nowMs);
  if (command.memberEpoch === -1) return { ...remove(state, draft, memberId, context), reply: DONE };
  if (member.instanceId === null) {
    return refused(
      refuse(
        'INVALID_REQUEST',
        `member ${memberId} has no instance id, so that it cannot leave for a while: leave with −1`,
      ),
    );
  }
  draft.members.set(memberId, { ...member, memberEpoch: LEFT_STATIC_EPOCH, revoking: new Map() });
  reconcile(draft);
  const poll: TimerChange[] =
    member.maxPollIntervalMs === null ? [] : [{ key: timerKey('poll', memberId), delayMs: null }];
  return {
    records: draftRecords(state, draft),
    reply: DONE,
    timers: [...draftTimers(state, draft), sessionTimer(member), ...poll],
  };
}

export function decideTimer(
  state: GroupState | undefined,
  command: TimerCommand,
  context: GroupContext,
  nowMs: number,
): DecisionFor<TimerCommand> {
  const { kind, memberId } = splitTimerKey(command.key);
  const member = state?.members.get(memberId);
  const expiry = member === undefined ? null : expiryOf(kind, member);
  if (state === undefined || expiry === null) return { records: [], reply: { removed: null }, timers: [] };
  const draft = draftOf(state, command.groupId, nowMs);
  return { ...remove(state, draft, memberId, context), reply: { removed: { memberId, ...expiry } } };
}

/** Null when the timer no longer matters. */
function expiryOf(kind: string, member: MemberState): { reason: RemovalReason; refusal: Refusal } | null {
  const { memberId, sessionTimeoutMs, rebalanceTimeoutMs, maxPollIntervalMs } = member;
  switch (kind) {
    case 'session': {
      const message = `member ${memberId} was removed: nothing was heard of it for its session time-out (${sessionTimeoutMs} ms)`;
      return { reason: 'session-timeout', refusal: refuse('UNKNOWN_MEMBER_ID', message) };
    }
    case 'revoke': {
      if (!mustAct(member)) return null;
      const message = `member ${memberId} was removed: it did not release what was revoked, or join again when asked, in ${rebalanceTimeoutMs} ms`;
      return { reason: 'rebalance-timeout', refusal: refuse('FENCED_MEMBER_EPOCH', message) };
    }
    case 'poll': {
      if (member.memberEpoch === LEFT_STATIC_EPOCH || maxPollIntervalMs === null) return null;
      const message = `member ${memberId} was removed: it neither polled nor committed for ${maxPollIntervalMs} ms; handle less at a time, or raise maxPollIntervalMs`;
      return { reason: 'max-poll-interval', refusal: refuse('MAX_POLL_INTERVAL_EXCEEDED', message) };
    }
    default:
      return null;
  }
}

function remove(
  state: GroupState,
  draft: GroupDraft,
  memberId: string,
  context: GroupContext,
): Pick<GroupDecision<never>, 'records' | 'timers'> {
  draft.members.delete(memberId);
  rebalance(draft, context);
  reconcile(draft);
  return { records: draftRecords(state, draft), timers: draftTimers(state, draft) };
}

export function decideTopicsChanged(
  state: GroupState | undefined,
  command: TopicsChangedCommand,
  context: GroupContext,
  nowMs: number,
): DecisionFor<TopicsChangedCommand> {
  // Where the members assign, their leader finds out by itself.
  if (state === undefined || state.classic !== null || targetsAreCurrent(state, context)) {
    return { records: [], reply: { changed: false }, timers: [] };
  }
  const draft = draftOf(state, command.groupId, nowMs);
  rebalance(draft, context);
  reconcile(draft);
  return { records: draftRecords(state, draft), reply: { changed: true }, timers: draftTimers(state, draft) };
}

/** Every timer that a group needs after its state was recovered: all members get their whole time again. */
export function timersAfterRecovery(state: GroupState, context?: GroupContext): TimerChange[] {
  const timers = context === undefined ? [] : queueTimersAfterRecovery(state, context);
  for (const member of state.members.values()) {
    timers.push(sessionTimer(member));
    if (state.classic !== null) continue;
    if (member.memberEpoch !== LEFT_STATIC_EPOCH) timers.push(...pollTimers(member));
    if (mustAct(member)) {
      timers.push({ key: timerKey('revoke', member.memberId), delayMs: member.rebalanceTimeoutMs });
    }
  }
  if (state.classic !== null && classicPhase(state, null) === 'preparing') {
    const delayMs = Math.max(...[...state.members.values()].map(({ rebalanceTimeoutMs }) => rebalanceTimeoutMs));
    timers.push({ key: BARRIER_TIMER, delayMs });
  }
  return timers;
}
