/**
 * Joining a group: anew, as a static member that takes its place again, or going on after a broken connection.
 *
 * Joining anew with a known member id begins a new life: what the id held before is free at once, and requests with
 * epochs of the life before are fenced.
 */
import type { PartitionKey } from '@naru/base';
import { refuse } from '@naru/protocol';
import type { Refusal } from '@naru/protocol';
import type { DecisionFor, GroupContext, GroupDecision, GroupLimits, JoinCommand, JoinReply } from './commands.ts';
import { LEFT_STATIC_EPOCH } from './group-state.ts';
import type { GroupState, MemberState } from './group-state.ts';
import { viewOf } from './inspect.ts';
import {
  draftOf,
  draftRecords,
  draftTimers,
  isClassic,
  knowsAssignment,
  pollTimers,
  rebalance,
  reconcile,
  sameList,
  sessionTimer,
} from './reconcile.ts';
import type { GroupDraft } from './reconcile.ts';

type JoinDecision = DecisionFor<JoinCommand>;

export function decideJoin(
  state: GroupState | undefined,
  command: JoinCommand,
  context: GroupContext,
  nowMs: number,
): JoinDecision {
  const wrong = checkJoin(command, context.limits);
  if (wrong !== null) return refused(wrong);
  if (command.memberEpoch > 0) return goOn(state, command, context, nowMs);
  const subscription = { ...subscriptionOf(command, context.limits), kafka: null };
  return joinAnew(state, command, subscription, context, nowMs);
}

/** @param joining what the member says about itself; checked by the caller */
export function joinAnew(
  state: GroupState | undefined,
  command: Pick<JoinCommand, 'groupId' | 'memberId' | 'instanceId'>,
  joining: Subscription & Pick<MemberState, 'kafka'>,
  context: GroupContext,
  nowMs: number,
): JoinDecision {
  const { memberId, instanceId } = command;
  const draft = draftOf(state, command.groupId, nowMs);
  const before = draft.members.get(memberId);
  const holder = instanceId === null ? undefined : memberOfInstance(draft, instanceId);
  // A classic member takes a place as it does in Kafka: the one that had it finds out.
  const mayReplace =
    holder !== undefined && (holder.memberEpoch === LEFT_STATIC_EPOCH || isClassic(holder) || isClassic(joining));
  if (holder !== undefined && holder.memberId !== memberId && !mayReplace) {
    const held = `instance id ${instanceId} belongs to member ${holder.memberId}, which is still there`;
    return refused(refuse('UNRELEASED_INSTANCE_ID', `${held}: stop it, or wait until its session ends`));
  }
  const { maxMembers } = context.limits;
  if (before === undefined && holder === undefined && draft.members.size >= maxMembers) {
    return refused(
      refuse('GROUP_MAX_SIZE_REACHED', `group ${command.groupId} has ${maxMembers} members, the most allowed`),
    );
  }
  const heritage = mayReplace && holder.memberId !== memberId ? holder : awayMember(holder);
  if (heritage !== undefined) draft.members.delete(heritage.memberId);
  draft.members.set(memberId, {
    memberId,
    memberEpoch: 0,
    joinEpoch: 0,
    instanceId,
    ...joining,
    assigned: heritage?.assigned ?? new Map<PartitionKey, number>(),
    revoking: new Map<PartitionKey, number>(),
    target: heritage?.target ?? before?.target ?? [],
  });
  // A place can change hands within an epoch, since the id tells the two apart; a known id needs a new epoch for that.
  const takesPlace =
    heritage !== undefined &&
    before === undefined &&
    sameList(heritage.topics, joining.topics) &&
    heritage.kafka?.topicPattern === joining.kafka?.topicPattern;
  if (!takesPlace) rebalance(draft, context);
  beginLife(draft, memberId);
  reconcile(draft);
  tellHeartbeatMember(draft, memberId);
  const replaced = heritage !== undefined && heritage.memberId !== memberId ? heritage.memberId : null;
  return joined(state, draft, memberId, replaced, context);
}

function awayMember(holder: MemberState | undefined): MemberState | undefined {
  return holder?.memberEpoch === LEFT_STATIC_EPOCH ? holder : undefined;
}

/** A new life holds nothing yet, so what a static member's place no longer has is not revoked from it but just free. */
function beginLife(draft: GroupDraft, memberId: string): void {
  const member = draft.members.get(memberId)!;
  const target = new Set(member.target);
  const assigned = new Map([...member.assigned].filter(([partition]) => target.has(partition)));
  draft.members.set(memberId, { ...member, assigned, joinEpoch: draft.groupEpoch });
}

/** A member of KIP-848 is told of its assignment by the answer to what it asked, which is this. */
export function tellHeartbeatMember(draft: GroupDraft, memberId: string): void {
  const member = draft.members.get(memberId)!;
  if (member.kafka === null || member.kafka.classic !== null || knowsAssignment(member)) return;
  draft.members.set(memberId, { ...member, kafka: { ...member.kafka, told: [...member.assigned.keys()] } });
}

function goOn(state: GroupState | undefined, command: JoinCommand, context: GroupContext, nowMs: number): JoinDecision {
  const { memberId, instanceId, owned } = command;
  const before = checkMember(state, memberId, command.memberEpoch);
  if ('code' in before) return refused(before);
  if (before.kafka !== null) return refused(unknownMember(memberId));
  if (before.instanceId !== instanceId) {
    const message = `member ${memberId} joined with instance id ${before.instanceId} and cannot go on with ${instanceId}`;
    return refused(refuse('INVALID_REQUEST', message));
  }
  const draft = draftOf(state, command.groupId, nowMs);
  const subscription = subscriptionOf(command, context.limits);
  const released = release(before, owned, undefined);
  if (!sameSubscription(before, subscription) || released !== before) {
    draft.members.set(memberId, { ...released, ...subscription });
    if (!sameList(before.topics, subscription.topics)) rebalance(draft, context);
    reconcile(draft);
  }
  return joined(state, draft, memberId, null, context);
}

function joined(
  state: GroupState | undefined,
  draft: GroupDraft,
  memberId: string,
  replacedMemberId: string | null,
  context: GroupContext,
): GroupDecision<JoinReply> {
  const member = draft.members.get(memberId)!;
  const { sessionTimeoutMs } = member;
  const heartbeatIntervalMs = Math.min(context.limits.heartbeatIntervalMs, Math.floor(sessionTimeoutMs / 3));
  return {
    records: draftRecords(state, draft),
    reply: { ...viewOf(member), sessionTimeoutMs, heartbeatIntervalMs, replacedMemberId },
    timers: [...draftTimers(state, draft), sessionTimer(member), ...pollTimers(member)],
  };
}

/** The member, if it may speak with this epoch. */
export function checkMember(
  state: GroupState | undefined,
  memberId: string,
  memberEpoch: number,
): MemberState | Refusal {
  const member = state?.members.get(memberId);
  if (member === undefined) return unknownMember(memberId);
  const { memberEpoch: current, joinEpoch } = member;
  if (memberEpoch >= joinEpoch && memberEpoch <= current) return member;
  if (current === LEFT_STATIC_EPOCH) {
    return refuse('FENCED_MEMBER_EPOCH', `member ${memberId} has left for a while: join again with epoch 0`);
  }
  const range = joinEpoch === current ? `epoch ${current}` : `epochs ${joinEpoch} to ${current}`;
  const message = `member ${memberId} is at ${range}, not ${memberEpoch}: stop handling and join again with epoch 0`;
  return refuse('FENCED_MEMBER_EPOCH', message);
}

export function unknownMember(memberId: string): Refusal {
  return refuse(
    'UNKNOWN_MEMBER_ID',
    `the group has no member ${memberId}: it was removed or never joined; join again with epoch 0`,
  );
}

/** `member` without what it has released of what it was to release; the same object when that is nothing. */
export function release(
  member: MemberState,
  owned: readonly PartitionKey[] | null,
  released: readonly PartitionKey[] | undefined,
): MemberState {
  if (member.revoking.size === 0 || (owned === null && released === undefined)) return member;
  const still = owned === null ? null : new Set(owned);
  const gone = new Set(released);
  const kept = [...member.revoking].filter(([key]) => (still === null || still.has(key)) && !gone.has(key));
  return kept.length === member.revoking.size ? member : { ...member, revoking: new Map(kept) };
}

/** What a member says about itself each time that it joins. */
export type Subscription = Pick<
  MemberState,
  'clientId' | 'clientHost' | 'topics' | 'sessionTimeoutMs' | 'rebalanceTimeoutMs' | 'maxPollIntervalMs'
>;

function subscriptionOf(command: JoinCommand, limits: GroupLimits): Subscription {
  const { clientId, clientHost, sessionTimeoutMs, rebalanceTimeoutMs, maxPollIntervalMs } = command;
  return {
    clientId,
    clientHost,
    topics: sortedTopics(command.topics),
    sessionTimeoutMs: sessionTimeoutMs === 0 ? limits.defaultSessionTimeoutMs : sessionTimeoutMs,
    rebalanceTimeoutMs: rebalanceTimeoutMs === 0 ? limits.defaultRebalanceTimeoutMs : rebalanceTimeoutMs,
    maxPollIntervalMs: maxPollIntervalMs === 0 ? limits.defaultMaxPollIntervalMs : maxPollIntervalMs,
  };
}

function sameSubscription(a: Subscription, b: Subscription): boolean {
  return (
    a.clientId === b.clientId &&
    a.clientHost === b.clientHost &&
    sameList(a.topics, b.topics) &&
    a.sessionTimeoutMs === b.sessionTimeoutMs &&
    a.rebalanceTimeoutMs === b.rebalanceTimeoutMs &&
    a.maxPollIntervalMs === b.maxPollIntervalMs
  );
}

export function sortedTopics(topics: readonly string[]): string[] {
  return [...new Set(topics)].sort();
}

function memberOfInstance(draft: GroupDraft, instanceId: string): MemberState | undefined {
  for (const member of draft.members.values()) if (member.instanceId === instanceId) return member;
  return undefined;
}

function checkJoin(command: JoinCommand, limits: GroupLimits): Refusal | null {
  const { memberId, instanceId, clientId, memberEpoch, sessionTimeoutMs, rebalanceTimeoutMs } = command;
  const { minSessionTimeoutMs, maxSessionTimeoutMs, maxRebalanceTimeoutMs } = limits;
  return (
    checkId('member id', memberId, limits, 1) ??
    (instanceId === null ? null : checkId('instance id', instanceId, limits, 1)) ??
    checkId('client id', clientId, limits, 0) ??
    checkTopics(command.topics, limits) ??
    (Number.isInteger(memberEpoch) && memberEpoch >= 0
      ? null
      : refuse('INVALID_REQUEST', `a member joins with epoch 0 or its last epoch, not ${memberEpoch}`)) ??
    checkTimeout('session time-out', sessionTimeoutMs, minSessionTimeoutMs, maxSessionTimeoutMs) ??
    checkTimeout('rebalance time-out', rebalanceTimeoutMs, 1, maxRebalanceTimeoutMs) ??
    checkTimeout('max poll interval', command.maxPollIntervalMs ?? 0, 1, limits.maxPollIntervalMs)
  );
}

function checkId(what: string, id: string, limits: GroupLimits, minLength: number): Refusal | null {
  if (id.length >= minLength && id.length <= limits.maxIdLength) return null;
  return refuse('INVALID_REQUEST', `a ${what} has ${minLength} to ${limits.maxIdLength} characters, not ${id.length}`);
}

export function checkTopics(topics: readonly string[], { maxTopics }: GroupLimits): Refusal | null {
  if (topics.length >= 1 && topics.length <= maxTopics) return null;
  return refuse('INVALID_REQUEST', `a member subscribes to 1 to ${maxTopics} topics, not ${topics.length}`);
}

/** 0 stands for the default. */
function checkTimeout(what: string, timeoutMs: number, minMs: number, maxMs: number): Refusal | null {
  if (timeoutMs === 0 || (Number.isInteger(timeoutMs) && timeoutMs >= minMs && timeoutMs <= maxMs)) return null;
  return refuse(
    'INVALID_REQUEST',
    `the ${what} must be ${minMs} to ${maxMs} ms, or 0 for the default, not ${timeoutMs}`,
  );
}

export function refused<Reply>(refusal: Refusal): GroupDecision<Reply> {
  return { records: [], reply: refusal, timers: [] };
}
