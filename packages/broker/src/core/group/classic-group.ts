/**
 * A group whose members assign partitions to themselves: Kafka's classic protocol, as KIP-62, KIP-345, KIP-394 and
 * KIP-814 have it. All members join, the leader is told of all, gives everybody a piece of bytes, and each fetches its own.
 *
 * Groups of any protocol type live here as long as all of their members are classic; what the bytes say is the clients'
 * affair. Partitions are noted where the door could read them, for the day that the group goes over (upgrade.ts).
 *
 * Owns: the join barrier, generations, election, syncing. Does not own: who a request comes from (classic-identity.ts).
 */
import type { PartitionKey } from '@naru/base';
import { refuse } from '@naru/protocol';
import type { Refusal } from '@naru/protocol';
import type { GroupContext, GroupLimits } from './commands.ts';
import {
  BARRIER_TIMER,
  classicInfo,
  draftPhase,
  dropMember,
  joinKey,
  pauseSession,
  resumeSession,
  roundTimeoutMs,
  SYNC_TIMER,
  syncKey,
} from './classic-round.ts';
import type { ClassicDraft } from './classic-round.ts';
import { comparePartitions } from './group-state.ts';
import type { ClassicMembership, ClassicProtocol, MemberState } from './group-state.ts';
import type { ClassicAssignment, ClassicJoinReply, ClassicMemberMetadata, ClassicSyncReply } from './kafka-commands.ts';

const NO_BYTES = new Uint8Array();

/** Puts the member, new or as it says it is now, behind the barrier, which is raised if there is none. */
export function awaitGeneration(draft: ClassicDraft, member: MemberState, context: GroupContext): void {
  const isFirst = draft.group.members.size === 0;
  const isNew = !draft.group.members.has(member.memberId);
  draft.group.members.set(member.memberId, member);
  beginRebalance(draft, isFirst ? context.limits : null);
  if (isNew && !isFirst && draft.initial !== null) draft.initial = { ...draft.initial, grew: true };
  draft.waiting!.add(member.memberId);
  pauseSession(draft, member.memberId);
  completeWhenAllJoined(draft);
}

/** Everybody is to join again. @param first set for the first generation of the group */
function beginRebalance(draft: ClassicDraft, first: GroupLimits | null): void {
  if (draft.waiting !== null) return;
  const again = refuse('REBALANCE_IN_PROGRESS', 'the members of the group changed: join again');
  for (const memberId of draft.syncing) {
    draft.answers.push({ key: syncKey(memberId), reply: again });
    resumeSession(draft, draft.group.members.get(memberId));
  }
  draft.syncing.clear();
  if (draft.unsynced.size > 0) draft.timers.push({ key: SYNC_TIMER, delayMs: null });
  draft.unsynced.clear();
  draft.waiting = new Set();
  const timeoutMs = roundTimeoutMs(draft);
  if (first === null) {
    draft.timers.push({ key: BARRIER_TIMER, delayMs: timeoutMs });
    return;
  }
  const delayMs = first.initialRebalanceDelayMs;
  draft.initial = { remainingMs: Math.max(0, timeoutMs - delayMs), grew: false };
  draft.timers.push({ key: BARRIER_TIMER, delayMs });
}

function completeWhenAllJoined(draft: ClassicDraft): void {
  if (draft.waiting === null || draft.initial !== null || draft.expectedIds.size > 0) return;
  if ([...draft.group.members.keys()].every((memberId) => draft.waiting!.has(memberId))) completeJoin(draft);
}

/** The barrier's time is up. */
export function barrierDue(draft: ClassicDraft, { initialRebalanceDelayMs }: GroupLimits): void {
  if (draft.waiting === null) return;
  const { initial } = draft;
  if (initial !== null && initial.grew && initial.remainingMs > 0) {
    const delayMs = Math.min(initialRebalanceDelayMs, initial.remainingMs);
    draft.initial = { remainingMs: initial.remainingMs - delayMs, grew: false };
    draft.timers.push({ key: BARRIER_TIMER, delayMs });
    return;
  }
  completeJoin(draft);
}

/** Begins the next generation with those who joined. Static members that did not keep their place until their session ends. */
function completeJoin(draft: ClassicDraft): void {
  const { group } = draft;
  const waiting = draft.waiting!;
  for (const [memberId, { instanceId }] of group.members) {
    if (instanceId !== null || waiting.has(memberId)) continue;
    dropMember(draft, memberId, refuse('UNKNOWN_MEMBER_ID', `member ${memberId} did not join in time`));
  }
  if (waiting.size === 0 && group.members.size > 0) {
    draft.initial = null;
    draft.timers.push({ key: BARRIER_TIMER, delayMs: roundTimeoutMs(draft) });
    return;
  }
  draft.waiting = null;
  draft.initial = null;
  draft.timers.push({ key: BARRIER_TIMER, delayMs: null });
  group.groupEpoch += 1;
  const info = classicInfo(draft);
  if (group.members.size === 0) {
    group.assignmentEpoch = group.groupEpoch;
    group.classic = { ...info, protocolName: null, leaderId: null };
    return;
  }
  const [first] = waiting;
  const leaderId = info.leaderId !== null && waiting.has(info.leaderId) ? info.leaderId : first!;
  group.classic = { ...info, protocolName: chooseProtocol(group.members), leaderId };
  for (const [memberId, member] of group.members) {
    const next = { ...member, memberEpoch: group.groupEpoch };
    group.members.set(memberId, withClassic(next, { ...classicOf(member), assignment: NO_BYTES }));
    if (waiting.has(memberId)) resumeSession(draft, member);
  }
  draft.unsynced = new Set(waiting);
  draft.timers.push({ key: SYNC_TIMER, delayMs: roundTimeoutMs(draft) });
  for (const memberId of waiting) draft.answers.push({ key: joinKey(memberId), reply: joinedReply(draft, memberId) });
}

/** Of the protocols that all know, the one that most prefer; of equals, the first by name. */
export function chooseProtocol(members: ReadonlyMap<string, MemberState>): string | null {
  const common = commonProtocols(members);
  const votes = new Map([...common].sort().map((name) => [name, 0]));
  for (const member of members.values()) {
    const choice = classicOf(member).protocols.find(({ name }) => common.has(name));
    if (choice !== undefined) votes.set(choice.name, votes.get(choice.name)! + 1);
  }
  let best: string | null = null;
  for (const [name, count] of votes) if (best === null || count > votes.get(best)!) best = name;
  return best;
}

export function commonProtocols(members: ReadonlyMap<string, MemberState>): Set<string> {
  let common: Set<string> | null = null;
  for (const member of members.values()) {
    const names = new Set(classicOf(member).protocols.map(({ name }) => name));
    common = common === null ? names : common.intersection(names);
  }
  return common ?? new Set();
}

/** What a member is told of the generation that it belongs to. */
export function joinedReply(draft: ClassicDraft, memberId: string): ClassicJoinReply {
  const { group } = draft;
  const { protocolType, protocolName, leaderId } = classicInfo(draft);
  return {
    outcome: 'joined',
    memberId,
    generation: group.groupEpoch,
    protocolType,
    protocolName: protocolName ?? '',
    leaderId: leaderId ?? '',
    members: leaderId === memberId ? memberMetadata(draft) : [],
    skipAssignment: false,
  };
}

export function memberMetadata({ group }: ClassicDraft): ClassicMemberMetadata[] {
  return [...group.members.values()].map((member) => ({
    memberId: member.memberId,
    instanceId: member.instanceId,
    metadata: metadataOf(member, group.classic?.protocolName ?? null),
  }));
}

export function metadataOf(member: MemberState, protocolName: string | null): Uint8Array {
  return classicOf(member).protocols.find(({ name }) => name === protocolName)?.metadata ?? NO_BYTES;
}

/** The leader's word, with which the generation is stable. */
export function assignAll(draft: ClassicDraft, assignments: readonly ClassicAssignment[]): void {
  const { group } = draft;
  group.assignmentEpoch = group.groupEpoch;
  const given = new Map(assignments.map((assignment) => [assignment.memberId, assignment]));
  for (const [memberId, member] of group.members) {
    const { assignment = NO_BYTES, partitions = [] } = given.get(memberId) ?? {};
    const target = [...(partitions ?? [])].sort(comparePartitions);
    const assigned = new Map(target.map((partition) => [partition, group.groupEpoch]));
    // A member that gives up nothing before it is told to (KIP-429) works on until it joins again.
    const held = [...member.assigned, ...member.revoking].filter(([partition]) => !assigned.has(partition));
    held.sort(([a], [b]) => comparePartitions(a, b));
    const classic = classicOf(member);
    const readable = classic.readable && partitions !== null;
    const next = { ...member, assigned, revoking: new Map(held), target };
    group.members.set(memberId, withClassic(next, { ...classic, assignment: assignment.slice(), readable }));
  }
  for (const memberId of draft.syncing) {
    const member = group.members.get(memberId)!;
    draft.answers.push({ key: syncKey(memberId), reply: syncReply(draft, member) });
    resumeSession(draft, member);
  }
  draft.syncing.clear();
}

export function syncReply(draft: ClassicDraft, member: MemberState): ClassicSyncReply {
  const { protocolType, protocolName } = classicInfo(draft);
  const { assignment } = classicOf(member);
  return { protocolType, protocolName: protocolName ?? '', assignment: { by: 'leader', bytes: assignment } };
}

/** What a member that fetched its assignment works on, also when it said before that it holds nothing. */
export function takesAssignment(member: MemberState, generation: number): MemberState {
  if (member.target.every((partition) => member.assigned.has(partition))) return member;
  return { ...member, assigned: new Map(member.target.map((partition) => [partition, generation])) };
}

/** The member's request for its assignment came. */
export function noteSync(draft: ClassicDraft, memberId: string): void {
  if (draft.unsynced.delete(memberId) && draft.unsynced.size === 0) {
    draft.timers.push({ key: SYNC_TIMER, delayMs: null });
  }
}

/** Members had long enough to ask for their assignment. */
export function syncDue(draft: ClassicDraft): void {
  if (draft.waiting !== null || draft.unsynced.size === 0) return;
  const late = [...draft.unsynced];
  removeMembers(draft, late, (memberId) =>
    refuse('UNKNOWN_MEMBER_ID', `member ${memberId} was removed: it did not ask for its assignment in time`),
  );
}

/** Takes members out; the others are to join again. */
export function removeMembers(
  draft: ClassicDraft,
  memberIds: readonly string[],
  refusalOf: (memberId: string) => Refusal,
): void {
  if (memberIds.length === 0) return;
  for (const memberId of memberIds) dropMember(draft, memberId, refusalOf(memberId));
  if (draftPhase(draft) !== 'preparing') beginRebalance(draft, null);
  completeWhenAllJoined(draft);
}

/** An id that was given out is not going to be used. */
export function forgetExpectedId(draft: ClassicDraft, memberId: string): boolean {
  if (!draft.expectedIds.delete(memberId)) return false;
  draft.timers.push({ key: `session/${memberId}`, delayMs: null });
  completeWhenAllJoined(draft);
  return true;
}

/** What its client says that it holds, with the generation since when. */
export function heldByClient(member: MemberState | null, owned: readonly PartitionKey[]): Map<PartitionKey, number> {
  const since = (partition: PartitionKey): number =>
    member?.assigned.get(partition) ?? member?.revoking.get(partition) ?? member?.memberEpoch ?? 0;
  return new Map([...owned].sort(comparePartitions).map((partition) => [partition, since(partition)]));
}

export function classicOf({ kafka }: MemberState): ClassicMembership {
  return kafka?.classic ?? { protocols: [], assignment: NO_BYTES, readable: false };
}

/** Copies, since what comes from the door lies in the request's buffer. */
export function ownProtocols(protocols: readonly ClassicProtocol[]): ClassicProtocol[] {
  return protocols.map(({ name, metadata }) => ({ name, metadata: metadata.slice() }));
}

export function withClassic(member: MemberState, classic: ClassicMembership): MemberState {
  return { ...member, kafka: { told: [], topicPattern: null, classic } };
}
