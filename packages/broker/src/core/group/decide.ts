/**
 * The door into the group machine: one command, one decision.
 *
 * Pure: the same state, command, context and time give the same decision. Nothing here changes the state; the caller
 * gives the records to evolveGroup, at once and in order, and answers when they are durable.
 */
import { unreachable } from '@naru/base';
import { refuse } from '@naru/protocol';
import type { Refusal } from '@naru/protocol';
import { decideClaim, withClaims } from './decide-claims.ts';
import { withLedger } from './ledger-changes.ts';
import { decideAdaptedHeartbeat, decideAdaptedJoin, decideAdaptedLeave, decideAdaptedSync } from './adapted-member.ts';
import { decidePurge, decideRedrive } from './dead-letters.ts';
import { decideQueue, decideQueueTimer, withReleasedLocks } from './decide-queue.ts';
import { queueTimerOf } from './queue-timers.ts';
import type { ClassicRound } from './classic-round.ts';
import type { DecisionFor, GroupCommand, GroupContext, GroupDecision, GroupReplies } from './commands.ts';
import {
  decideClassicHeartbeat,
  decideClassicJoin,
  decideClassicLeave,
  decideClassicSync,
  decideClassicTimer,
} from './decide-classic.ts';
import { decideJoin, refused, unknownMember } from './decide-join.ts';
import { decideKafkaHeartbeat } from './decide-kafka-heartbeat.ts';
import { decideKafkaOffsetDelete } from './decide-kafka-offset-delete.ts';
import {
  decideDisconnected,
  decideHeartbeat,
  decideLeave,
  decideTimer,
  decideTopicsChanged,
  decideTouch,
} from './decide-membership.ts';
import {
  decideCommit,
  decideDeleteGroup,
  decideDeleteOffsetsOfTopic,
  decideEndTransaction,
  decideResetOffsets,
} from './decide-offsets.ts';
import { decideCommitInTransaction } from './transaction-offsets.ts';
import type { GroupState } from './group-state.ts';
import { decideUpgraded } from './upgrade.ts';

/**
 * @param state of the command's group; undefined when there is no such group
 * @param nowMs wall clock, for the timestamps in records
 * @param round the group's soft state, as its last decision that gave one left it; null when there is none
 */
export function decideGroup<C extends GroupCommand>(
  state: GroupState | undefined,
  command: C,
  context: GroupContext,
  nowMs: number,
  round: ClassicRound | null = null,
): DecisionFor<C> {
  // The switch relates each command type to its reply, which the compiler cannot see through a type parameter.
  const decision = decideAny(state, command, context, nowMs, round);
  const released = withReleasedLocks(state, decision, command.type === 'leave', context, nowMs);
  const registered = withLedger(state, command, released, context, nowMs);
  return withClaims(state, command, registered, context, nowMs) as DecisionFor<C>;
}

function decideAny(
  state: GroupState | undefined,
  command: GroupCommand,
  context: GroupContext,
  nowMs: number,
  round: ClassicRound | null,
): GroupDecision<GroupReplies[GroupCommand['type']]> {
  const isClassic = round !== null || (state !== undefined && state.classic !== null);
  switch (command.type) {
    case 'join': {
      if (!isClassic) return decideJoin(state, command, context, nowMs);
      if (command.memberEpoch > 0) return refused(unknownMember(command.memberId));
      return upgraded(state, round, (group) => decideJoin(group, command, context, nowMs));
    }
    case 'kafka-heartbeat': {
      const refusal =
        (command.memberEpoch >= 0 ? refusesKafka(command.groupId, context) : null) ??
        refusesParallel(command.topics ?? [], context);
      if (refusal !== null) return refused(refusal);
      if (!isClassic) return decideKafkaHeartbeat(state, command, context, nowMs);
      if (command.memberEpoch !== 0) return refused(unknownMember(command.memberId));
      return upgraded(state, round, (group) => decideKafkaHeartbeat(group, command, context, nowMs));
    }
    case 'classic-join':
    case 'classic-sync':
    case 'classic-heartbeat':
    case 'classic-leave':
      return decideClassic(state, command, context, nowMs, round);
    case 'timer': {
      const queueTimer = queueTimerOf(command.key);
      if (queueTimer !== null) return decideQueueTimer(state, queueTimer, context, nowMs);
      if (isClassic) return decideClassicTimer(state, round, command, context, nowMs);
      return decideTimer(state, command, context, nowMs);
    }
    case 'heartbeat':
      return isClassic ? refused(unknownMember(command.memberId)) : decideHeartbeat(state, command, context, nowMs);
    case 'touch':
      return isClassic ? refused(unknownMember(command.memberId)) : decideTouch(state, command);
    case 'disconnected':
      return isClassic ? refused(unknownMember(command.memberId)) : decideDisconnected(state, command);
    case 'leave':
      return isClassic ? refused(unknownMember(command.memberId)) : decideLeave(state, command, context, nowMs);
    case 'topics-changed':
      return decideTopicsChanged(state, command, context, nowMs);
    case 'commit':
    case 'commit-in-transaction':
    case 'end-transaction':
      return decideOffsets(state, command, context, nowMs);
    case 'claim':
      return isClassic ? refused(unknownMember(command.memberId)) : decideClaim(state, command, context, nowMs);
    case 'reset-offsets':
      return decideResetOffsets(state, command, context, nowMs);
    case 'delete-offsets':
      return decideKafkaOffsetDelete(state, command, context, nowMs);
    case 'delete-group':
    case 'delete-offsets-of-topic':
      return decideDeletion(state, command, context, nowMs);
    case 'redrive':
      return decideRedrive(state, command, context, nowMs);
    case 'purge-dead-letters':
      return decidePurge(state, command, context, nowMs);
    case 'queue-open':
    case 'queue-acquire':
    case 'queue-settle':
    case 'queue-bury':
      return decideQueue(state, command, context, nowMs);
    default:
      return unreachable(command, 'group command');
  }
}

type OffsetCommand = Extract<GroupCommand, { readonly type: 'commit' | 'commit-in-transaction' | 'end-transaction' }>;

function decideOffsets(
  state: GroupState | undefined,
  command: OffsetCommand,
  context: GroupContext,
  nowMs: number,
): GroupDecision<GroupReplies[OffsetCommand['type']]> {
  if (command.type === 'commit') return decideCommit(state, command, context, nowMs);
  if (command.type === 'end-transaction') return decideEndTransaction(state, command, context, nowMs);
  return decideCommitInTransaction(state, command, context, nowMs);
}

type DeletionCommand = Extract<GroupCommand, { readonly type: 'delete-group' | 'delete-offsets-of-topic' }>;

function decideDeletion(
  state: GroupState | undefined,
  command: DeletionCommand,
  context: GroupContext,
  nowMs: number,
): GroupDecision<GroupReplies[DeletionCommand['type']]> {
  if (command.type === 'delete-group') return decideDeleteGroup(state, command, context, nowMs);
  return decideDeleteOffsetsOfTopic(state, command, context, nowMs);
}

/** A group that nobody has joined yet has nothing to go over from. */
function upgraded<Reply extends object>(
  state: GroupState | undefined,
  round: ClassicRound | null,
  decide: (state: GroupState | undefined) => GroupDecision<Reply>,
): GroupDecision<Reply> {
  return state === undefined ? { ...decide(undefined), round: null } : decideUpgraded(state, round, decide);
}

type ClassicCommand = Extract<GroupCommand, { readonly type: `classic-${string}` }>;

/** Where the members assign, or a group begins, classic-group.ts; else adapted-member.ts. */
function decideClassic(
  state: GroupState | undefined,
  command: ClassicCommand,
  context: GroupContext,
  nowMs: number,
  round: ClassicRound | null,
): GroupDecision<GroupReplies[ClassicCommand['type']]> {
  const adapted = state !== undefined && state.classic === null && state.members.size > 0;
  if (command.type === 'classic-join') {
    const refusal =
      refusesKafka(command.groupId, context) ?? refusesParallel(command.subscription?.topics ?? [], context);
    if (refusal !== null) return refused(refusal);
    if (adapted) return decideAdaptedJoin(state, command, context, nowMs);
    return decideClassicJoin(state, round, command, context, nowMs);
  }
  if (command.type === 'classic-leave') {
    if (adapted) return decideAdaptedLeave(state, command, context, nowMs);
    return decideClassicLeave(state, round, command, nowMs);
  }
  if (state === undefined) return refused(unknownMember(command.memberId));
  if (refusesKafka(command.groupId, context) !== null) {
    // It joined while that was possible. When it joins again it is told why it is not any more.
    return refused(refuse('REBALANCE_IN_PROGRESS', 'the group has been declared otherwise: join again'));
  }
  if (command.type === 'classic-sync') {
    if (adapted) return decideAdaptedSync(state, command, nowMs);
    return decideClassicSync(state, round, command, context, nowMs);
  }
  if (adapted) return decideAdaptedHeartbeat(state, command);
  return decideClassicHeartbeat(state, round, command);
}

function refusesKafka(groupId: string, context: GroupContext): Refusal | null {
  if (context.refusesKafkaMembers?.(groupId) !== true) return null;
  const message = `group ${groupId} needs events withheld, which Kafka's protocol cannot do: use the gRPC door`;
  return refuse('INCONSISTENT_GROUP_PROTOCOL', message);
}

/** Records of parallel topics are acquired and settled one by one, for which a group of Kafka's has no request. */
function refusesParallel(topics: readonly string[], context: GroupContext): Refusal | null {
  const name = topics.find((topic) => context.topics(topic)?.isParallel === true);
  if (name === undefined) return null;
  const message = `topic ${JSON.stringify(name)} is parallel, which Kafka's group protocols cannot read: use the gRPC door, or read it without a group`;
  return refuse('INCONSISTENT_GROUP_PROTOCOL', message);
}

/** Tells a refusal from every other reply. */
export function isRefusal(reply: object): reply is Refusal {
  return 'code' in reply;
}
