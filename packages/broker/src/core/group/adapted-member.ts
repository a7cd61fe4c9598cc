/**
 * Classic members of a group to which the broker assigns: JoinGroup, SyncGroup, Heartbeat and LeaveGroup in terms of
 * KIP-848, as Kafka's online migration has it.
 *
 * - The generation is the member's epoch; nobody leads, nobody waits for others.
 * - A join says what the client holds: what it was to release and does not name is released. One that gives up everything
 *   before it joins (eager) holds nothing, and gets back at the sync what it keeps.
 * - A sync tells what is granted. What was granted and is taken away before that was never held, and is free at once.
 * - A heartbeat asks to join again when something is to be released, or there is something to be told. Unlike in Kafka,
 *   changes that leave a member's own partitions alone do not make it join again.
 * - A member that is asked and does not join in its rebalance time-out is removed (the `revoke` timer).
 */
import { refuse } from '@naru/protocol';
import type { Refusal } from '@naru/protocol';
import type { DecisionFor, GroupContext } from './commands.ts';
import { metadataOf, ownProtocols } from './classic-group.ts';
import { checkMember, joinAnew, refused } from './decide-join.ts';
import type { GroupState, KafkaMembership, MemberState } from './group-state.ts';
import type {
  ClassicHeartbeatCommand,
  ClassicJoinCommand,
  ClassicJoinReply,
  ClassicLeaveCommand,
  ClassicLeaveReply,
  ClassicSyncCommand,
} from './kafka-commands.ts';
import { checkClassicJoin, findMember, instanceOwner, kafkaSubscription, unknownInstance } from './kafka-member.ts';
import {
  draftOf,
  draftRecords,
  draftTimers,
  isClassic,
  knowsAssignment,
  mustAct,
  rebalance,
  reconcile,
  sameList,
  sessionTimer,
} from './reconcile.ts';

/** The protocol type whose assignments the broker can compute. */
export const CONSUMER_PROTOCOL_TYPE = 'consumer';

export function decideAdaptedJoin(
  state: GroupState,
  command: ClassicJoinCommand,
  context: GroupContext,
  nowMs: number,
): DecisionFor<ClassicJoinCommand> {
  const wrong = checkClassicJoin(command, context) ?? checkConsumer(command);
  if (wrong !== null) return refused(wrong);
  const { memberId, newMemberId, instanceId } = command;
  if (memberId === '' && instanceId === null && command.requiresMemberId) {
    // Nothing is kept for it: here every id is taken.
    return { records: [], reply: { outcome: 'member-id-required', memberId: newMemberId }, timers: [] };
  }
  if (memberId !== '' && instanceId !== null) {
    const owner = findMember(state.members, memberId, instanceId);
    if ('code' in owner) return refused(owner);
  }
  const before = state.members.get(memberId);
  if (before !== undefined && isClassic(before)) return joinAgain(state, before, command, context, nowMs);
  return joinFirst(state, memberId === '' ? newMemberId : memberId, command, context, nowMs);
}

function checkConsumer({ groupId, protocolType, subscription }: ClassicJoinCommand): Refusal | null {
  if (protocolType === CONSUMER_PROTOCOL_TYPE && subscription !== null) return null;
  const message = `group ${groupId} is assigned by the broker, which takes consumers only, with a subscription that it can read`;
  return refuse('INCONSISTENT_GROUP_PROTOCOL', message);
}

function joinFirst(
  state: GroupState,
  memberId: string,
  command: ClassicJoinCommand,
  context: GroupContext,
  nowMs: number,
): DecisionFor<ClassicJoinCommand> {
  const joining = {
    ...kafkaSubscription(command, command.subscription?.topics ?? [], context.limits),
    kafka: membership(command, []),
  };
  const { groupId, instanceId } = command;
  const decision = joinAnew(state, { groupId, memberId, instanceId }, joining, context, nowMs);
  const { reply } = decision;
  return { ...decision, reply: 'code' in reply ? reply : joined(memberId, reply.memberEpoch, command) };
}

function joinAgain(
  state: GroupState,
  before: MemberState,
  command: ClassicJoinCommand,
  context: GroupContext,
  nowMs: number,
): DecisionFor<ClassicJoinCommand> {
  const { memberId } = before;
  const subscription = command.subscription!;
  const owned = new Set(subscription.owned);
  const told = [...before.assigned.keys()].filter((partition) => owned.has(partition));
  const draft = draftOf(state, command.groupId, nowMs);
  const member: MemberState = {
    ...before,
    ...kafkaSubscription(command, subscription.topics, context.limits),
    revoking: new Map([...before.revoking].filter(([partition]) => owned.has(partition))),
    kafka: membership(command, told),
  };
  draft.members.set(memberId, member);
  if (!sameList(before.topics, member.topics)) rebalance(draft, context);
  reconcile(draft);
  const after = draft.members.get(memberId)!;
  return {
    records: draftRecords(state, draft),
    reply: joined(memberId, after.memberEpoch, command),
    timers: [...draftTimers(state, draft), sessionTimer(after)],
  };
}

function membership({ protocols }: ClassicJoinCommand, told: KafkaMembership['told']): KafkaMembership {
  return {
    told,
    topicPattern: null,
    classic: { protocols: ownProtocols(protocols), assignment: new Uint8Array(), readable: true },
  };
}

function joined(memberId: string, generation: number, { protocols }: ClassicJoinCommand): ClassicJoinReply {
  const protocolName = protocols[0]!.name;
  return {
    outcome: 'joined',
    memberId,
    generation,
    protocolType: CONSUMER_PROTOCOL_TYPE,
    protocolName,
    leaderId: '',
    members: [],
    skipAssignment: false,
  };
}

export function decideAdaptedSync(
  state: GroupState,
  command: ClassicSyncCommand,
  nowMs: number,
): DecisionFor<ClassicSyncCommand> {
  const member = checkAdapted(state, command);
  if ('code' in member) return refused(member);
  const protocolName = member.kafka?.classic?.protocols[0]?.name ?? '';
  if (
    (command.protocolType !== null && command.protocolType !== CONSUMER_PROTOCOL_TYPE) ||
    (command.protocolName !== null && command.protocolName !== protocolName)
  ) {
    return refused(refuse('INCONSISTENT_GROUP_PROTOCOL', `the member joined with protocol ${protocolName}`));
  }
  const { generation, memberId } = command;
  for (const grantedAt of member.assigned.values()) {
    if (grantedAt <= generation) continue;
    // Told of it, the member could not commit for it with the generation that it knows.
    const message = `member ${memberId} was granted more at generation ${member.memberEpoch}: join again`;
    return refused(refuse('REBALANCE_IN_PROGRESS', message));
  }
  const partitions = [...member.assigned.keys()];
  const draft = draftOf(state, command.groupId, nowMs);
  if (!knowsAssignment(member))
    draft.members.set(memberId, { ...member, kafka: { ...member.kafka!, told: partitions } });
  const metadata = metadataOf(member, protocolName);
  return {
    records: draftRecords(state, draft),
    reply: {
      protocolType: CONSUMER_PROTOCOL_TYPE,
      protocolName,
      assignment: { by: 'broker', partitions, metadata },
    },
    timers: [...draftTimers(state, draft), sessionTimer(member)],
  };
}

export function decideAdaptedHeartbeat(
  state: GroupState,
  command: ClassicHeartbeatCommand,
): DecisionFor<ClassicHeartbeatCommand> {
  const member = checkAdapted(state, command);
  if ('code' in member) return refused(member);
  return { records: [], reply: { mustJoin: mustAct(member) }, timers: [sessionTimer(member)] };
}

/** The classic member, if it may speak with this generation. */
export function checkAdapted(
  state: GroupState,
  {
    memberId,
    instanceId,
    generation,
  }: { readonly memberId: string; readonly instanceId: string | null; readonly generation: number },
): MemberState | Refusal {
  const member = findMember(state.members, memberId, instanceId);
  if ('code' in member) return member;
  if (!isClassic(member)) return refuse('UNKNOWN_MEMBER_ID', `member ${memberId} does not use the classic protocol`);
  const current = checkMember(state, memberId, generation);
  return 'code' in current ? refuse('ILLEGAL_GENERATION', current.message) : current;
}

export function decideAdaptedLeave(
  state: GroupState,
  command: ClassicLeaveCommand,
  context: GroupContext,
  nowMs: number,
): DecisionFor<ClassicLeaveCommand> {
  const draft = draftOf(state, command.groupId, nowMs);
  const results = command.members.map(({ memberId, instanceId }): ClassicLeaveReply['results'][number] => {
    const found =
      memberId === '' && instanceId !== null
        ? (instanceOwner(draft.members, instanceId) ?? unknownInstance(instanceId))
        : findMember(draft.members, memberId, instanceId);
    if ('code' in found) return { memberId, instanceId, refusal: found };
    if (!isClassic(found)) {
      const message = `member ${found.memberId} does not use the classic protocol, so that it cannot leave with it`;
      return { memberId, instanceId, refusal: refuse('UNKNOWN_MEMBER_ID', message) };
    }
    draft.members.delete(found.memberId);
    return { memberId, instanceId, refusal: null };
  });
  if (draft.members.size < state.members.size) {
    rebalance(draft, context);
    reconcile(draft);
  }
  return { records: draftRecords(state, draft), reply: { results }, timers: draftTimers(state, draft) };
}
