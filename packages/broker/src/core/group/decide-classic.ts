/**
 * JoinGroup, SyncGroup, Heartbeat and LeaveGroup in a group whose members assign: who asks, and whether they may.
 *
 * What follows from it for the group is in classic-group.ts. Groups to which the broker assigns have adapted-member.ts.
 */
import { refuse } from '@naru/protocol';
import type { Refusal } from '@naru/protocol';
import type { DecisionFor, GroupContext, GroupDecision, TimerCommand, TimerReply } from './commands.ts';
import {
  assignAll,
  awaitGeneration,
  barrierDue,
  classicOf,
  chooseProtocol,
  commonProtocols,
  forgetExpectedId,
  heldByClient,
  joinedReply,
  memberMetadata,
  noteSync,
  ownProtocols,
  removeMembers,
  syncDue,
  syncReply,
  takesAssignment,
  withClassic,
} from './classic-group.ts';
import {
  BARRIER_TIMER,
  classicDraft,
  classicInfo,
  draftPhase,
  dropMember,
  isWaiting,
  joinKey,
  pauseSession,
  roundOfState,
  settleDraft,
  supersede,
  SYNC_TIMER,
  syncKey,
} from './classic-round.ts';
import type { ClassicDraft, ClassicRound } from './classic-round.ts';
import { refused } from './decide-join.ts';
import {
  checkClassicJoin,
  fencedInstance,
  findMember,
  instanceOwner,
  kafkaSubscription,
  unknownInstance,
} from './kafka-member.ts';
import type { ClassicMembership, GroupState, MemberState } from './group-state.ts';
import type {
  ClassicHeartbeatCommand,
  ClassicJoinCommand,
  ClassicJoinReply,
  ClassicLeaveCommand,
  ClassicLeaveReply,
  ClassicSyncCommand,
} from './kafka-commands.ts';
import { sessionTimer, splitTimerKey } from './reconcile.ts';

export function decideClassicJoin(
  state: GroupState | undefined,
  round: ClassicRound | null,
  command: ClassicJoinCommand,
  context: GroupContext,
  nowMs: number,
): DecisionFor<ClassicJoinCommand> {
  const wrong = checkClassicJoin(command, context);
  if (wrong !== null) return refused(wrong);
  const draft = classicDraft(state, round, command.groupId, nowMs);
  const { memberId, instanceId, newMemberId } = command;
  const refusal = checkProtocols(draft, command) ?? checkRoom(draft, command, context);
  if (refusal !== null) return refused(refusal);
  if (memberId === '' && instanceId === null && command.requiresMemberId) return expectId(draft, command, context);
  if (memberId === '') {
    const holder = instanceId === null ? undefined : instanceOwner(draft.group.members, instanceId);
    if (holder !== undefined) return replaceStatic(draft, holder, command, context);
    return joinAs(draft, null, command, context, newMemberId);
  }
  if (instanceId === null && draft.expectedIds.delete(memberId)) {
    return joinAs(draft, null, command, context, memberId);
  }
  const member = findMember(draft.group.members, memberId, instanceId);
  return 'code' in member ? refused(member) : joinAgain(draft, member, command, context);
}

/** Whether the group, if it has members, can take one that speaks like this. */
function checkProtocols(draft: ClassicDraft, { groupId, protocolType, protocols }: ClassicJoinCommand): Refusal | null {
  const { members } = draft.group;
  if (members.size === 0) return null;
  const present = classicInfo(draft).protocolType;
  if (present !== protocolType) {
    const message = `group ${groupId} has protocol type ${JSON.stringify(present)}, not ${JSON.stringify(protocolType)}`;
    return refuse('INCONSISTENT_GROUP_PROTOCOL', message);
  }
  const common = commonProtocols(members);
  if (protocols.some(({ name }) => common.has(name))) return null;
  const message = `the members of group ${groupId} have only ${[...common].join(', ')} in common`;
  return refuse('INCONSISTENT_GROUP_PROTOCOL', message);
}

function checkRoom(draft: ClassicDraft, command: ClassicJoinCommand, { limits }: GroupContext): Refusal | null {
  const { members } = draft.group;
  const known =
    members.has(command.memberId) ||
    (command.instanceId !== null && instanceOwner(members, command.instanceId) !== undefined);
  const expected = draft.expectedIds.has(command.memberId) ? 1 : 0;
  if (!known && members.size + draft.expectedIds.size - expected >= limits.maxMembers) {
    const message = `group ${command.groupId} has ${limits.maxMembers} members, the most allowed`;
    return refuse('GROUP_MAX_SIZE_REACHED', message);
  }
  let bytes = sizeOf(command.protocols);
  for (const member of members.values()) {
    if (member.memberId !== command.memberId) bytes += sizeOf(classicOf(member).protocols);
  }
  if (bytes <= limits.maxClassicBytes) return null;
  const message = `what the members of group ${command.groupId} say about themselves is more than ${limits.maxClassicBytes} bytes`;
  return refuse('GROUP_MAX_SIZE_REACHED', message);
}

function sizeOf(protocols: ClassicJoinCommand['protocols']): number {
  return protocols.reduce((sum, { name, metadata }) => sum + name.length + metadata.length, 0);
}

/** Nobody is a member before its client has its id, or a lost answer would leave a member that nobody is. */
function expectId(
  draft: ClassicDraft,
  { newMemberId, sessionTimeoutMs }: ClassicJoinCommand,
  { limits }: GroupContext,
): DecisionFor<ClassicJoinCommand> {
  draft.expectedIds.add(newMemberId);
  const delayMs = sessionTimeoutMs === 0 ? limits.defaultSessionTimeoutMs : sessionTimeoutMs;
  draft.timers.push({ key: `session/${newMemberId}`, delayMs });
  return settleDraft<ClassicJoinReply>(draft, { outcome: 'member-id-required', memberId: newMemberId });
}

function joinAs(
  draft: ClassicDraft,
  before: MemberState | null,
  command: ClassicJoinCommand,
  context: GroupContext,
  memberId: string,
): DecisionFor<ClassicJoinCommand> {
  const { group } = draft;
  if (group.members.size === 0 && group.classic?.protocolType !== command.protocolType) {
    group.classic = { protocolType: command.protocolType, protocolName: null, leaderId: null };
  }
  awaitGeneration(draft, describedBy(draft, before, command, context, memberId), context);
  return settleDraft(draft, null, joinKey(memberId));
}

function joinAgain(
  draft: ClassicDraft,
  member: MemberState,
  command: ClassicJoinCommand,
  context: GroupContext,
): DecisionFor<ClassicJoinCommand> {
  const { memberId } = member;
  const same = sameProtocols(classicOf(member), command);
  const phase = draftPhase(draft);
  const isLeader = classicInfo(draft).leaderId === memberId;
  supersede(draft, memberId);
  // A leader joins again when it wants to assign again, for partitions that came, say.
  if (phase === 'preparing' || !same || (phase === 'stable' && isLeader)) {
    return joinAs(draft, member, command, context, memberId);
  }
  // The answer to its join got lost, or it wants to be sure: nothing that concerns the others.
  draft.timers.push(sessionTimer(member));
  return settleDraft<ClassicJoinReply>(draft, joinedReply(draft, memberId));
}

/** A static member's new process takes the place of the old one, without a new generation if it says the same. */
function replaceStatic(
  draft: ClassicDraft,
  holder: MemberState,
  command: ClassicJoinCommand,
  context: GroupContext,
): DecisionFor<ClassicJoinCommand> {
  const memberId = command.newMemberId;
  const phase = draftPhase(draft);
  const info = classicInfo(draft);
  const wasLeader = info.leaderId === holder.memberId;
  const wasUnsynced = draft.unsynced.has(holder.memberId);
  dropMember(draft, holder.memberId, fencedInstance(holder, memberId));
  const member = describedBy(draft, holder, command, context, memberId);
  if (wasLeader) draft.group.classic = { ...info, leaderId: memberId };
  if (phase !== 'stable') return joinAs(draft, holder, command, context, memberId);
  draft.group.members.set(memberId, { ...member, memberEpoch: holder.memberEpoch });
  if (chooseProtocol(draft.group.members) !== info.protocolName) {
    return joinAs(draft, holder, command, context, memberId);
  }
  if (wasUnsynced) draft.unsynced.add(memberId);
  draft.timers.push(sessionTimer(member));
  const reply = joinedReply(draft, memberId);
  // It is not to assign again. A client that cannot be told so is told of its predecessor as leader.
  if (!wasLeader || reply.outcome !== 'joined') return settleDraft<ClassicJoinReply>(draft, reply);
  const asLeader = command.canSkipAssignment
    ? { ...reply, members: memberMetadata(draft), skipAssignment: true }
    : { ...reply, leaderId: holder.memberId, members: [] };
  return settleDraft<ClassicJoinReply>(draft, asLeader);
}

/** The member as the command describes it. What it holds is what its client says. */
function describedBy(
  draft: ClassicDraft,
  before: MemberState | null,
  command: ClassicJoinCommand,
  context: GroupContext,
  memberId: string,
): MemberState {
  const { subscription } = command;
  const assigned = heldByClient(before, subscription?.owned ?? []);
  const known = before === null ? null : classicOf(before);
  const next: MemberState = {
    memberId,
    memberEpoch: before?.memberEpoch ?? 0,
    joinEpoch: before?.joinEpoch ?? draft.group.groupEpoch + 1,
    instanceId: command.instanceId,
    ...kafkaSubscription(command, subscription?.topics ?? [], context.limits),
    assigned,
    revoking: new Map(),
    target: before?.target ?? [],
    kafka: null,
  };
  const readable = subscription !== null && (known === null || known.readable || known.assignment.length === 0);
  return withClassic(next, {
    protocols: ownProtocols(command.protocols),
    assignment: known?.assignment ?? new Uint8Array(),
    readable,
  });
}

function sameProtocols({ protocols }: ClassicMembership, command: ClassicJoinCommand): boolean {
  return (
    protocols.length === command.protocols.length &&
    protocols.every(({ name, metadata }, index) => {
      const other = command.protocols[index]!;
      return name === other.name && sameBytes(metadata, other.metadata);
    })
  );
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, index) => byte === b[index]);
}

export function decideClassicSync(
  state: GroupState,
  round: ClassicRound | null,
  command: ClassicSyncCommand,
  context: GroupContext,
  nowMs: number,
): DecisionFor<ClassicSyncCommand> {
  const { memberId, assignments } = command;
  const draft = classicDraft(state, round, command.groupId, nowMs);
  const member = checkClassicMember(state, command);
  if ('code' in member) return refused(member);
  const wrong = checkProtocolNames(draft, command) ?? checkAssignments(command, context);
  if (wrong !== null) return refused(wrong);
  const phase = draftPhase(draft);
  if (phase === 'preparing') {
    return refused(refuse('REBALANCE_IN_PROGRESS', 'the members of the group changed: join again'));
  }
  supersede(draft, memberId);
  noteSync(draft, memberId);
  if (phase === 'completing' && classicInfo(draft).leaderId !== memberId) {
    // Whoever waits here counts as unsynced no more, but does not get on without the leader.
    draft.syncing.add(memberId);
    pauseSession(draft, memberId);
    return settleDraft(draft, null, syncKey(memberId));
  }
  if (phase === 'completing') assignAll(draft, assignments);
  const settled = takesAssignment(draft.group.members.get(memberId)!, state.groupEpoch);
  draft.group.members.set(memberId, settled);
  draft.timers.push(sessionTimer(settled));
  return settleDraft(draft, syncReply(draft, settled));
}

function checkProtocolNames(draft: ClassicDraft, command: ClassicSyncCommand): Refusal | null {
  const { protocolType, protocolName } = classicInfo(draft);
  if (command.protocolType !== null && command.protocolType !== protocolType) {
    return refuse('INCONSISTENT_GROUP_PROTOCOL', `the group has protocol type ${protocolType}`);
  }
  if (command.protocolName === null || command.protocolName === protocolName) return null;
  return refuse('INCONSISTENT_GROUP_PROTOCOL', `the group's protocol is ${protocolName}`);
}

function checkAssignments({ assignments }: ClassicSyncCommand, { limits }: GroupContext): Refusal | null {
  const bytes = assignments.reduce((sum, { assignment }) => sum + assignment.length, 0);
  if (bytes <= limits.maxClassicBytes && assignments.length <= limits.maxMembers) return null;
  return refuse('INVALID_REQUEST', `the assignments are more than ${limits.maxClassicBytes} bytes`);
}

export function decideClassicHeartbeat(
  state: GroupState,
  round: ClassicRound | null,
  command: ClassicHeartbeatCommand,
): DecisionFor<ClassicHeartbeatCommand> {
  const member = checkClassicMember(state, command);
  if ('code' in member) return refused(member);
  const { barrier, syncing } = round ?? roundOfState(state);
  const waits = barrier?.waiting.has(command.memberId) === true || syncing.has(command.memberId);
  return { records: [], reply: { mustJoin: barrier !== null }, timers: waits ? [] : [sessionTimer(member)] };
}

/** The member, if it is of the present generation. */
export function checkClassicMember(
  state: GroupState,
  {
    memberId,
    instanceId,
    generation,
  }: { readonly memberId: string; readonly instanceId: string | null; readonly generation: number },
): MemberState | Refusal {
  const member = findMember(state.members, memberId, instanceId);
  if ('code' in member || generation === state.groupEpoch) return member;
  const message = `group ${state.groupId} is at generation ${state.groupEpoch}, not ${generation}: join again`;
  return refuse('ILLEGAL_GENERATION', message);
}

export function decideClassicLeave(
  state: GroupState | undefined,
  round: ClassicRound | null,
  command: ClassicLeaveCommand,
  nowMs: number,
): DecisionFor<ClassicLeaveCommand> {
  const draft = classicDraft(state, round, command.groupId, nowMs);
  const leaving = new Set<string>();
  const results = command.members.map(({ memberId, instanceId }): ClassicLeaveReply['results'][number] => {
    if (instanceId === null && forgetExpectedId(draft, memberId)) return { memberId, instanceId, refusal: null };
    const found =
      memberId === '' && instanceId !== null
        ? (instanceOwner(draft.group.members, instanceId) ?? unknownInstance(instanceId))
        : findMember(draft.group.members, memberId, instanceId);
    if ('code' in found) return { memberId, instanceId, refusal: found };
    leaving.add(found.memberId);
    return { memberId, instanceId, refusal: null };
  });
  removeMembers(draft, [...leaving], (memberId) => refuse('UNKNOWN_MEMBER_ID', `member ${memberId} has left`));
  return settleDraft(draft, { results });
}

export function decideClassicTimer(
  state: GroupState | undefined,
  round: ClassicRound | null,
  { groupId, key }: TimerCommand,
  context: GroupContext,
  nowMs: number,
): DecisionFor<TimerCommand> {
  const draft = classicDraft(state, round, groupId, nowMs);
  if (key === BARRIER_TIMER) barrierDue(draft, context.limits);
  else if (key === SYNC_TIMER) syncDue(draft);
  else return sessionDue(draft, key);
  return settleDraft<TimerReply>(draft, { removed: null });
}

function sessionDue(draft: ClassicDraft, key: string): GroupDecision<TimerReply> {
  const { kind, memberId } = splitTimerKey(key);
  const member = draft.group.members.get(memberId);
  if (kind !== 'session' || member === undefined || isWaiting(draft, memberId)) {
    if (kind === 'session') forgetExpectedId(draft, memberId);
    return settleDraft<TimerReply>(draft, { removed: null });
  }
  const message = `member ${memberId} was removed: nothing was heard of it for its session time-out (${member.sessionTimeoutMs} ms)`;
  const refusal = refuse('UNKNOWN_MEMBER_ID', message);
  removeMembers(draft, [memberId], () => refusal);
  return settleDraft<TimerReply>(draft, { removed: { memberId, reason: 'session-timeout', refusal } });
}
