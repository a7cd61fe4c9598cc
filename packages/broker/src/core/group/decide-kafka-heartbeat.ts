/**
 * ConsumerGroupHeartbeat (API 68, KIP-848): joining, going on and leaving in one request.
 *
 * The member names everything that it holds, which is how it releases; it is told of its assignment when that differs
 * from what it was told last, and always when it joins or says everything about itself (as it does after an error).
 */
import { refuse } from '@naru/protocol';
import type { DecisionFor, GroupContext } from './commands.ts';
import { checkMember, joinAnew, refused, release, sortedTopics, tellHeartbeatMember } from './decide-join.ts';
import { decideLeave } from './decide-membership.ts';
import type { GroupState, MemberState } from './group-state.ts';
import type { KafkaHeartbeatCommand } from './kafka-commands.ts';
import { checkKafkaHeartbeat, fencedInstance, findMember, kafkaSubscription } from './kafka-member.ts';
import {
  draftOf,
  draftRecords,
  draftTimers,
  isClassic,
  knowsAssignment,
  rebalance,
  reconcile,
  sameList,
  sessionTimer,
} from './reconcile.ts';

type HeartbeatDecision = DecisionFor<KafkaHeartbeatCommand>;

export function decideKafkaHeartbeat(
  state: GroupState | undefined,
  command: KafkaHeartbeatCommand,
  context: GroupContext,
  nowMs: number,
): HeartbeatDecision {
  const wrong = checkKafkaHeartbeat(command, context);
  if (wrong !== null) return refused(wrong);
  if (command.memberEpoch === 0) return join(state, command, context, nowMs);
  if (command.memberEpoch < 0) return leave(state, command, context, nowMs);
  return goOn(state, command, context, nowMs);
}

function join(
  state: GroupState | undefined,
  command: KafkaHeartbeatCommand,
  context: GroupContext,
  nowMs: number,
): HeartbeatDecision {
  const { groupId, instanceId, topics, topicPattern } = command;
  const memberId = command.memberId === '' ? command.newMemberId : command.memberId;
  const times = { sessionTimeoutMs: 0, rebalanceTimeoutMs: command.rebalanceTimeoutMs ?? 0 };
  const joining = {
    ...kafkaSubscription({ ...command, ...times }, topics ?? [], context.limits),
    kafka: { told: [], topicPattern: topicPattern === '' ? null : topicPattern, classic: null },
  };
  const decision = joinAnew(state, { groupId, memberId, instanceId }, joining, context, nowMs);
  const { reply } = decision;
  if ('code' in reply) return refused(reply);
  const { memberEpoch, heartbeatIntervalMs, assigned } = reply;
  return { ...decision, reply: { memberId, memberEpoch, heartbeatIntervalMs, assigned } };
}

function goOn(
  state: GroupState | undefined,
  command: KafkaHeartbeatCommand,
  context: GroupContext,
  nowMs: number,
): HeartbeatDecision {
  const { memberId, owned, rebalanceTimeoutMs } = command;
  const member = memberOf(state, command);
  if ('code' in member) return refused(member);
  const changed = release(described(member, command, context), owned, undefined);
  const draft = draftOf(state, command.groupId, nowMs);
  if (changed !== member) {
    draft.members.set(memberId, changed);
    if (!sameList(changed.topics, member.topics) || changed.kafka?.topicPattern !== member.kafka?.topicPattern) {
      rebalance(draft, context);
    }
    reconcile(draft);
  }
  const isFull = rebalanceTimeoutMs !== null && owned !== null && (command.topics ?? command.topicPattern) !== null;
  const isNews = isFull || !knowsAssignment(draft.members.get(memberId)!);
  tellHeartbeatMember(draft, memberId);
  const after = draft.members.get(memberId)!;
  return {
    records: draftRecords(state, draft),
    reply: {
      memberId,
      memberEpoch: after.memberEpoch,
      heartbeatIntervalMs: heartbeatInterval(after, context),
      assigned: isNews ? [...after.assigned.keys()] : null,
    },
    timers: [...draftTimers(state, draft), sessionTimer(after)],
  };
}

/** The member, if it may speak: with its epoch, for its instance, and in this protocol. */
function memberOf(state: GroupState | undefined, command: KafkaHeartbeatCommand) {
  const { memberId, instanceId } = command;
  const member = checkMember(state, memberId, command.memberEpoch);
  if ('code' in member) {
    const fenced = state === undefined ? member : findMember(state.members, memberId, instanceId);
    return 'code' in fenced ? fenced : member;
  }
  if (member.kafka === null || isClassic(member)) {
    return refuse('UNKNOWN_MEMBER_ID', `member ${memberId} does not use the consumer protocol`);
  }
  return instanceId !== null && member.instanceId !== instanceId ? fencedInstance(member, memberId) : member;
}

/** The member with what the command changes; the same object when that is nothing. */
function described(member: MemberState, command: KafkaHeartbeatCommand, context: GroupContext): MemberState {
  const { topics, topicPattern, clientId, clientHost } = command;
  const named = topics === null ? member.topics : sortedTopics(topics);
  const before = member.kafka!;
  const pattern = topicPattern === null ? before.topicPattern : topicPattern === '' ? null : topicPattern;
  const { maxRebalanceTimeoutMs } = context.limits;
  const given = command.rebalanceTimeoutMs;
  const rebalanceTimeoutMs =
    given === null || given <= 0 ? member.rebalanceTimeoutMs : Math.min(given, maxRebalanceTimeoutMs);
  const isSame =
    sameList(named, member.topics) &&
    pattern === before.topicPattern &&
    rebalanceTimeoutMs === member.rebalanceTimeoutMs &&
    clientId === member.clientId &&
    clientHost === member.clientHost;
  if (isSame) return member;
  const kafka = { ...before, topicPattern: pattern };
  return { ...member, topics: named, rebalanceTimeoutMs, clientId, clientHost, kafka };
}

function leave(
  state: GroupState | undefined,
  command: KafkaHeartbeatCommand,
  context: GroupContext,
  nowMs: number,
): HeartbeatDecision {
  const { groupId, memberId, instanceId } = command;
  const memberEpoch = command.memberEpoch === -2 ? -2 : -1;
  const member = state === undefined ? null : findMember(state.members, memberId, instanceId);
  if (member !== null && 'code' in member) return refused(member);
  const decision = decideLeave(state, { type: 'leave', groupId, memberId, memberEpoch }, context, nowMs);
  if ('code' in decision.reply) return refused(decision.reply);
  const { heartbeatIntervalMs } = context.limits;
  return { ...decision, reply: { memberId, memberEpoch, heartbeatIntervalMs, assigned: null } };
}

function heartbeatInterval({ sessionTimeoutMs }: MemberState, { limits }: GroupContext): number {
  return Math.min(limits.heartbeatIntervalMs, Math.floor(sessionTimeoutMs / 3));
}
