/**
 * A draft of a group's membership: deciders change the draft, and the difference to the state becomes records and timers.
 *
 * Owns: when a member may move on to the current assignment (KIP-848, "reconciliation"), and the names of timers.
 * Does not own: who may ask for what (decide-*.ts), who should hold what (assignor.ts).
 *
 * Rules of reconciliation:
 * - What a member holds beyond its target is to be revoked, and stays its own until it releases it.
 * - Until then it keeps its epoch and is granted nothing.
 * - Else its epoch is the assignment epoch, and it is granted what its target says and nobody holds; the rest comes,
 *   at the same epoch, when it is released.
 * - All members that can move on do so at once, not only the one that asked.
 * - Nobody speaks for a static member that is away, so that what it is to give up is free at once.
 * - A Kafka member asks for its assignment. What it loses before it was told of it is free at once, too.
 */
import type { PartitionKey, TopicId } from '@naru/base';
import { assignPartitions } from './assignor.ts';
import type { GroupContext, TimerChange } from './commands.ts';
import { comparePartitions, LEFT_STATIC_EPOCH } from './group-state.ts';
import type { ClassicInfo, GroupRecord, GroupState, MemberState } from './group-state.ts';
import { matchingTopics } from './topic-pattern.ts';

export interface GroupDraft {
  readonly groupId: string;
  readonly createdAtMs: number;
  groupEpoch: number;
  assignmentEpoch: number;
  classic: ClassicInfo | null;
  readonly members: Map<string, MemberState>;
}

export function draftOf(state: GroupState | undefined, groupId: string, nowMs: number): GroupDraft {
  return {
    groupId,
    createdAtMs: state?.createdAtMs ?? nowMs,
    groupEpoch: state?.groupEpoch ?? 0,
    assignmentEpoch: state?.assignmentEpoch ?? 0,
    classic: state?.classic ?? null,
    members: new Map(state?.members),
  };
}

/** A new group epoch with new targets. To be followed by {@link reconcile}. */
export function rebalance(draft: GroupDraft, context: GroupContext): void {
  draft.groupEpoch += 1;
  draft.assignmentEpoch = draft.groupEpoch;
  const shapes = subscribedTopics(draft.members.values(), context);
  const partitionCounts = new Map([...shapes.values()].map(({ topicId, partitionCount }) => [topicId, partitionCount]));
  const targets = assignPartitions(
    [...draft.members.values()].map((member) => ({
      memberId: member.memberId,
      topicIds: subscription(member, context).flatMap((name) => shapes.get(name)?.topicId ?? []),
      current: member.target,
    })),
    partitionCounts,
  );
  for (const member of draft.members.values()) {
    const target = targets.get(member.memberId) ?? [];
    if (!sameList(target, member.target)) draft.members.set(member.memberId, { ...member, target });
  }
}

/** Names that the member subscribes to now; with a pattern, that depends on the topics that there are. */
function subscription({ topics, kafka }: MemberState, context: GroupContext): readonly string[] {
  if (kafka === null || kafka.topicPattern === null) return topics;
  return [...topics, ...matchingTopics(kafka.topicPattern, context)];
}

/** By name, those that exist and whose partitions are assigned. */
function subscribedTopics(
  members: Iterable<MemberState>,
  context: GroupContext,
): Map<string, { topicId: TopicId; partitionCount: number }> {
  const shapes = new Map<string, { topicId: TopicId; partitionCount: number }>();
  const seen = new Set<string>();
  for (const member of members) {
    for (const name of subscription(member, context)) {
      if (seen.has(name)) continue;
      seen.add(name);
      const shape = context.topics(name);
      if (shape !== undefined && shape.isParallel !== true) shapes.set(name, shape);
    }
  }
  return shapes;
}

/** Whether the targets still cover exactly the partitions that the members' topics have now. */
export function targetsAreCurrent(state: GroupState, context: GroupContext): boolean {
  const counts = new Map<TopicId, number>();
  let missing = 0;
  for (const { topicId, partitionCount } of subscribedTopics(state.members.values(), context).values()) {
    counts.set(topicId, partitionCount);
    missing += partitionCount;
  }
  for (const { target } of state.members.values()) {
    for (const key of target) {
      const topicId = key.slice(0, 36) as TopicId;
      if (Number(key.slice(37)) >= (counts.get(topicId) ?? 0)) return false;
      missing -= 1;
    }
  }
  return missing === 0;
}

/** Moves every member on as far as it can go. */
export function reconcile(draft: GroupDraft): void {
  const ids = [...draft.members.keys()].sort();
  const held = new Set<PartitionKey>();
  for (const id of ids) {
    const member = revokeBeyondTarget(draft.members.get(id)!);
    draft.members.set(id, member);
    for (const partition of member.assigned.keys()) held.add(partition);
    for (const partition of member.revoking.keys()) held.add(partition);
  }
  for (const id of ids) draft.members.set(id, grant(draft.members.get(id)!, draft.assignmentEpoch, held));
}

function revokeBeyondTarget(member: MemberState): MemberState {
  const target = new Set(member.target);
  const beyond = [...member.assigned].filter(([partition]) => !target.has(partition));
  if (beyond.length === 0) return member;
  const assigned = new Map([...member.assigned].filter(([partition]) => target.has(partition)));
  if (member.memberEpoch === LEFT_STATIC_EPOCH) return { ...member, assigned };
  const told = member.kafka === null ? null : new Set(member.kafka.told);
  const known = told === null ? beyond : beyond.filter(([partition]) => told.has(partition));
  if (known.length === 0) return { ...member, assigned };
  const revoking = new Map([...member.revoking, ...known].sort(([a], [b]) => comparePartitions(a, b)));
  return { ...member, assigned, revoking };
}

/** Adds what it grants to `held`. */
function grant(member: MemberState, assignmentEpoch: number, held: Set<PartitionKey>): MemberState {
  if (member.revoking.size > 0 || member.memberEpoch === LEFT_STATIC_EPOCH) return member;
  if (member.memberEpoch === assignmentEpoch && member.assigned.size === member.target.length) return member;
  const assigned = new Map<PartitionKey, number>();
  for (const partition of member.target) {
    const grantedAt = member.assigned.get(partition);
    if (grantedAt !== undefined) {
      assigned.set(partition, grantedAt);
    } else if (!held.has(partition)) {
      assigned.set(partition, assignmentEpoch);
      held.add(partition);
    }
  }
  if (member.memberEpoch === assignmentEpoch && assigned.size === member.assigned.size) return member;
  return { ...member, memberEpoch: assignmentEpoch, assigned };
}

/** The group's record, then members that went, then members that came or changed; each kind by member id. */
export function draftRecords(state: GroupState | undefined, draft: GroupDraft): GroupRecord[] {
  const { groupId, createdAtMs, groupEpoch, assignmentEpoch, classic } = draft;
  const records: GroupRecord[] = [];
  if (
    state === undefined ||
    state.createdAtMs !== createdAtMs ||
    state.groupEpoch !== groupEpoch ||
    state.assignmentEpoch !== assignmentEpoch ||
    state.classic !== classic
  ) {
    records.push({ kind: 'group', groupId, value: { groupEpoch, assignmentEpoch, createdAtMs, classic } });
  }
  for (const memberId of [...(state?.members.keys() ?? [])].sort()) {
    if (!draft.members.has(memberId)) records.push({ kind: 'member', groupId, memberId, value: null });
  }
  for (const memberId of [...draft.members.keys()].sort()) {
    const value = draft.members.get(memberId)!;
    if (state?.members.get(memberId) !== value) records.push({ kind: 'member', groupId, memberId, value });
  }
  return records;
}

/**
 * Whether the member is asked to act: to release what is revoked, or, with the classic protocol, to join again for what
 * it does not know of yet. One that does not is removed.
 */
export function mustAct(member: MemberState): boolean {
  return member.revoking.size > 0 || (isClassic(member) && !knowsAssignment(member));
}

export function isClassic({ kafka }: Pick<MemberState, 'kafka'>): boolean {
  return kafka !== null && kafka.classic !== null;
}

/** Always true for a member that is pushed its assignment. */
export function knowsAssignment({ kafka, assigned }: MemberState): boolean {
  return kafka === null || sameList(kafka.told, [...assigned.keys()]);
}

/**
 * Timers that follow from the difference: none for who went; time to act for who has to, anew with everything that it
 * does.
 */
export function draftTimers(state: GroupState | undefined, draft: GroupDraft): TimerChange[] {
  const timers: TimerChange[] = [];
  for (const memberId of [...(state?.members.keys() ?? [])].sort()) {
    if (!draft.members.has(memberId)) timers.push(...cancelTimers(memberId));
  }
  for (const memberId of [...draft.members.keys()].sort()) {
    const before = state?.members.get(memberId);
    const after = draft.members.get(memberId)!;
    const had = before !== undefined && mustAct(before);
    if (!mustAct(after)) {
      if (had) timers.push({ key: timerKey('revoke', memberId), delayMs: null });
    } else if (!had || hasActed(before, after)) {
      timers.push({ key: timerKey('revoke', memberId), delayMs: after.rebalanceTimeoutMs });
    }
  }
  return timers;
}

function hasActed(before: MemberState, after: MemberState): boolean {
  if ([...before.revoking.keys()].some((partition) => !after.revoking.has(partition))) return true;
  return !sameList(before.kafka?.told ?? [], after.kafka?.told ?? []);
}

export type TimerKind = 'session' | 'revoke' | 'poll';

export function timerKey(kind: TimerKind, memberId: string): string {
  return `${kind}/${memberId}`;
}

export function splitTimerKey(key: string): { kind: string; memberId: string } {
  const slash = key.indexOf('/');
  return { kind: key.slice(0, slash), memberId: key.slice(slash + 1) };
}

export function cancelTimers(memberId: string): TimerChange[] {
  return (['session', 'revoke', 'poll'] as const).map((kind) => ({ key: timerKey(kind, memberId), delayMs: null }));
}

/** The member is alive. */
export function sessionTimer({ memberId, sessionTimeoutMs }: MemberState): TimerChange {
  return { key: timerKey('session', memberId), delayMs: sessionTimeoutMs };
}

/** The member's handlers get on; no timer for one that is not watched. */
export function pollTimers({ memberId, maxPollIntervalMs }: MemberState): TimerChange[] {
  return maxPollIntervalMs === null ? [] : [{ key: timerKey('poll', memberId), delayMs: maxPollIntervalMs }];
}

export function sameList(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((item, index) => item === b[index]);
}
