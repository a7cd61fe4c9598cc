/**
 * Committed offsets: commit, reset, and deleting them with their group or topic.
 *
 * Fencing (KIP-1251): a member's commit for a partition is taken while the member holds the partition, also while it
 * is being revoked, if its epoch is not older than the grant. So no commit of an earlier holder, or of an earlier
 * time of the same holder, can land on a later one's.
 *
 * Where the members assign (classic groups), the broker does not judge who holds what: there the generation fences alone,
 * as in Kafka.
 */
import { splitPartitionKey } from '@naru/base';
import type { PartitionKey } from '@naru/base';
import { refuse } from '@naru/protocol';
import type { Refusal } from '@naru/protocol';
import { HeldChanges, isParking } from './held-changes.ts';
import type { HeldPartition } from '../held/held-partition.ts';
import { coversFinished, outcomeChanges, unfinishedWaiting } from './held-outcomes.ts';
import { checkCommitted, deleteQueues, isParallel, resetQueue } from './queue-resets.ts';
import type {
  CommitCommand,
  DecisionFor,
  DeleteGroupCommand,
  DeleteOffsetsOfTopicCommand,
  GroupContext,
  GroupLimits,
  OffsetCommit,
  PartitionResult,
  ResetOffsetsCommand,
} from './commands.ts';
import { checkClassicMember } from './decide-classic.ts';
import { checkMember, refused } from './decide-join.ts';
import { DONE } from './decide-membership.ts';
import { comparePartitions } from './group-state.ts';
import type { CommittedOffset, GroupRecord, GroupState, MemberState, OffsetRange } from './group-state.ts';
import { findMember } from './kafka-member.ts';
import { isClassic, pollTimers, sessionTimer } from './reconcile.ts';

export function decideCommit(
  state: GroupState | undefined,
  command: CommitCommand,
  context: GroupContext,
  nowMs: number,
): DecisionFor<CommitCommand> {
  const { groupId, offsets } = command;
  const { limits } = context;
  const tooMany = checkCount(offsets.length, limits);
  if (tooMany !== null) return refused(tooMany);
  const committer = checkCommitter(state, command);
  if (committer !== null && 'code' in committer) return refused(committer);
  // Those that are known by the partitions that they hold, not by their generation alone.
  const holder = state === undefined || state.classic !== null ? null : committer;
  const made = newGroup(state, groupId, nowMs);
  const records: GroupRecord[] = [];
  const results: PartitionResult[] = [];
  const seen = new Set<PartitionKey>();
  const held = new HeldChanges(groupId, state, context, nowMs);
  for (const asked of offsets) {
    const { partition } = asked;
    const stored = state?.offsets.get(partition);
    const commit = movedForward(asked, stored);
    const label = partitionLabel(partition, context);
    const refusal =
      (seen.has(partition) ? refuse('INVALID_REQUEST', `${label} is in this commit twice`) : null) ??
      checkCommitted(partition, label, context) ??
      (holder === null ? null : checkHeld(holder, command.memberEpoch, partition, label)) ??
      checkCommit(commit, limits, label);
    seen.add(partition);
    if (refusal !== null) {
      results.push({ partition, refusal });
      continue;
    }
    const value = withWaiting(committedOffset(stored, commit, nowMs), stored, commit, state?.held.get(partition));
    const blocked = holdOutcomes({ state, commit, value, label }, held, context, nowMs);
    if ('code' in blocked) {
      results.push({ partition, refusal: blocked });
      continue;
    }
    results.push(blocked.length === 0 ? { partition, refusal: null } : { partition, refusal: null, blocked });
    records.push({ kind: 'offset', groupId, partition, value });
  }
  const nothing = results.every(({ refusal }) => refusal !== null);
  const timers = committer === null ? [] : [sessionTimer(committer), ...pollTimers(committer)];
  if (nothing && held.records.length === 0) return { records: [], reply: { results }, timers };
  return { records: [...made, ...held.around(records)], appends: held.appends, reply: { results }, timers };
}

interface CommitOfPartition {
  readonly state: GroupState | undefined;
  readonly commit: OffsetCommit;
  /** What will be stored. */
  readonly value: CommittedOffset;
  readonly label: string;
}

/** What the commit does to held events: all of it, or a refusal. @returns keys that it blocked */
function holdOutcomes(
  { state, commit, value, label }: CommitOfPartition,
  changes: HeldChanges,
  context: GroupContext,
  nowMs: number,
): readonly string[] | Refusal {
  const { partition, outcomes = [] } = commit;
  const { maxOutcomes, maxFinishedRanges } = context.limits;
  const held = state?.held.get(partition);
  // Whoever goes back reads them again.
  const again = goesBack(state?.offsets.get(partition), commit) ? unfinishedWaiting(held, value) : [];
  if (outcomes.length === 0 && again.length === 0 && value.finished.length <= maxFinishedRanges) return [];
  if (outcomes.length > maxOutcomes) {
    return refuse('INVALID_REQUEST', `${outcomes.length} outcomes for ${label}: at most ${maxOutcomes} are taken`);
  }
  if (value.finished.length > maxFinishedRanges) {
    const message = `${value.finished.length} finished ranges for ${label} with what is held: at most ${maxFinishedRanges} are kept`;
    return refuse('INVALID_REQUEST', message);
  }
  const members = [...(state?.members.values() ?? [])];
  const made = outcomeChanges({
    partition,
    label,
    outcomes,
    held,
    after: value,
    hasKafkaMembers: members.some(({ kafka }) => kafka !== null),
    parks: isParking(changes.groupId, partition, context),
    nowMs,
  });
  if ('code' in made) return made;
  const told = new Set(made.changes.map(({ offset }) => offset));
  const all = [...made.changes, ...again.filter(({ offset }) => !told.has(offset))];
  const refusal = changes.add(partition, all);
  if (refusal === null) return made.blocked;
  // What was held before is taken all the same: it may be what makes room.
  changes.add(
    partition,
    made.changes.filter(({ copy }) => copy === undefined),
  );
  return refusal;
}

/** The member that commits, or null for a commit from outside. */
function checkCommitter(state: GroupState | undefined, command: CommitCommand): MemberState | Refusal | null {
  if (command.memberId !== '') return checkMemberCommit(state, command);
  if (state === undefined || state.members.size === 0) return null;
  return refuse(
    'UNKNOWN_MEMBER_ID',
    `group ${command.groupId} has members, so that only they can commit; reset its offsets when it has none`,
  );
}

function checkMemberCommit(state: GroupState | undefined, command: CommitCommand): MemberState | Refusal {
  const { memberId, memberEpoch, instanceId = null } = command;
  const named = state === undefined || instanceId === null ? null : findMember(state.members, memberId, instanceId);
  if (named !== null && 'code' in named) return named;
  if (state === undefined || state.classic === null) {
    const member = checkMember(state, memberId, memberEpoch);
    if (!('code' in member) || member.code === 'UNKNOWN_MEMBER_ID') return member;
    // As Kafka's clients expect it of a commit: other codes would be final to them.
    const known = state?.members.get(memberId);
    if (known === undefined || known.kafka === null) return member;
    return refuse(isClassic(known) ? 'ILLEGAL_GENERATION' : 'STALE_MEMBER_EPOCH', member.message);
  }
  const member = checkClassicMember(state, { memberId, instanceId, generation: memberEpoch });
  if ('code' in member || state.assignmentEpoch === state.groupEpoch) return member;
  return refuse('REBALANCE_IN_PROGRESS', 'the members of the group are about to get new partitions: commit after that');
}

function checkHeld(member: MemberState, memberEpoch: number, partition: PartitionKey, label: string): Refusal | null {
  const grantedAt = member.assigned.get(partition) ?? member.revoking.get(partition);
  // Clients of the classic protocol do not know the other code; what it says to them is the same: join again.
  const code = isClassic(member) ? 'REBALANCE_IN_PROGRESS' : 'STALE_MEMBER_EPOCH';
  if (grantedAt === undefined) {
    return refuse(code, `member ${member.memberId} does not hold ${label}: nothing was committed for it`);
  }
  if (memberEpoch >= grantedAt) return null;
  const message = `member ${member.memberId} was granted ${label} at epoch ${grantedAt}: a commit of epoch ${memberEpoch} is from before`;
  return refuse(code, message);
}

function checkCommit(commit: OffsetCommit, limits: GroupLimits, label: string): Refusal | null {
  const { offset, finished, endOffset, mayExceedEnd = false, metadata } = commit;
  if (endOffset === null) return refuse('UNKNOWN_TOPIC_OR_PARTITION', `there is no ${label}`);
  if (!Number.isSafeInteger(offset) || offset < 0 || (offset > endOffset && !mayExceedEnd)) {
    return refuse('OFFSET_OUT_OF_RANGE', `offset ${offset} cannot be committed: ${label} ends at ${endOffset}`);
  }
  if (utf8Length(metadata) > limits.maxMetadataBytes) {
    return refuse('OFFSET_METADATA_TOO_LARGE', `metadata for ${label} is larger than ${limits.maxMetadataBytes} bytes`);
  }
  if (finished === null) return null;
  if (finished.length > limits.maxFinishedRanges) {
    const message = `${finished.length} finished ranges for ${label}: at most ${limits.maxFinishedRanges} are kept`;
    return refuse('INVALID_REQUEST', message);
  }
  let end = offset;
  for (const [from, to] of finished) {
    if (!Number.isSafeInteger(from) || !Number.isSafeInteger(to) || from < end || to <= from) {
      const message = `finished range ${from}–${to} for ${label} must not be empty and begin at ${end} or later`;
      return refuse('INVALID_REQUEST', message);
    }
    end = to;
  }
  if (end <= endOffset) return null;
  return refuse('OFFSET_OUT_OF_RANGE', `offsets up to ${end} cannot be finished: ${label} ends at ${endOffset}`);
}

function movedForward(commit: OffsetCommit, stored: CommittedOffset | undefined): OffsetCommit {
  if (commit.onlyForward !== true || stored === undefined || commit.offset > stored.offset) return commit;
  return { ...commit, offset: stored.offset, metadata: stored.metadata, leaderEpoch: stored.leaderEpoch };
}

function goesBack(stored: CommittedOffset | undefined, commit: OffsetCommit): boolean {
  return stored !== undefined && commit.offset < stored.offset;
}

/** What waits stays finished for a reader that leaves ranges out without going back: it would pass over it later. */
function withWaiting(
  value: CommittedOffset,
  stored: CommittedOffset | undefined,
  commit: OffsetCommit,
  held: HeldPartition | undefined,
): CommittedOffset {
  if (stored === undefined || held === undefined || held.waitingCount === 0) return value;
  if (goesBack(stored, commit) || coversFinished(value, stored)) return value;
  const left = unfinishedWaiting(held, value).map(({ offset }): OffsetRange => [offset, offset + 1]);
  const ranges = [...value.finished, ...left].sort(([a], [b]) => a - b);
  return { ...value, ...normalise(value.offset, ranges) };
}

/** What is stored for a valid commit. */
function committedOffset(stored: CommittedOffset | undefined, commit: OffsetCommit, nowMs: number): CommittedOffset {
  const { metadata, leaderEpoch } = commit;
  const kept = stored === undefined || goesBack(stored, commit) ? [] : stored.finished;
  const ranges = commit.finished ?? withKept(kept, commit);
  return { ...normalise(commit.offset, ranges), metadata, leaderEpoch, committedAtMs: nowMs };
}

/** What is kept as held or dead is finished, for a reader that does not count ranges. */
function withKept(ranges: readonly OffsetRange[], { offset, outcomes = [] }: OffsetCommit): readonly OffsetRange[] {
  const kept = outcomes.filter(({ kind, offset: at }) => (kind === 'held' || kind === 'dead-lettered') && at >= offset);
  if (kept.length === 0) return ranges;
  return [...ranges, ...kept.map(({ offset: at }): OffsetRange => [at, at + 1])].sort(([a], [b]) => a - b);
}

/** Merges ranges that touch each other, and those that touch `offset` or lie below into it. */
function normalise(offset: number, ranges: readonly OffsetRange[]): Pick<CommittedOffset, 'offset' | 'finished'> {
  let watermark = offset;
  const finished: [number, number][] = [];
  for (const [from, to] of ranges) {
    const last = finished.at(-1);
    if (from <= watermark) watermark = Math.max(watermark, to);
    else if (last !== undefined && from <= last[1]) last[1] = Math.max(last[1], to);
    else finished.push([from, to]);
  }
  return { offset: watermark, finished };
}

export function decideResetOffsets(
  state: GroupState | undefined,
  command: ResetOffsetsCommand,
  context: GroupContext,
  nowMs: number,
): DecisionFor<ResetOffsetsCommand> {
  const { groupId } = command;
  const refusal = checkCount(command.offsets.length, context.limits) ?? checkEmpty(state, 'reset the offsets of');
  if (refusal !== null) return refused(refusal);
  const records = newGroup(state, groupId, nowMs);
  const held = new HeldChanges(groupId, state, context, nowMs);
  for (const { partition, offset } of command.offsets) {
    const again = unfinishedWaiting(state?.held.get(partition), offset === null ? null : { offset, finished: [] });
    held.add(partition, again);
    if (isParallel(partition, context) && (offset === null || Number.isSafeInteger(offset))) {
      records.push(...resetQueue(state, groupId, partition, offset));
      continue;
    }
    if (offset === null) {
      if (state?.offsets.has(partition)) records.push({ kind: 'offset', groupId, partition, value: null });
      continue;
    }
    if (!Number.isSafeInteger(offset) || offset < 0) {
      const label = partitionLabel(partition, context);
      return refused(refuse('OFFSET_OUT_OF_RANGE', `${label} cannot be reset to offset ${offset}`));
    }
    const value = { offset, finished: [], metadata: '', leaderEpoch: -1, committedAtMs: nowMs };
    records.push({ kind: 'offset', groupId, partition, value });
  }
  return { records: held.around(records), appends: held.appends, reply: DONE, timers: [] };
}

export function decideDeleteGroup(
  state: GroupState | undefined,
  { groupId }: DeleteGroupCommand,
  context: GroupContext,
  nowMs: number,
): DecisionFor<DeleteGroupCommand> {
  if (state === undefined) return refused(refuse('GROUP_ID_NOT_FOUND', `there is no group ${groupId}`));
  const refusal = checkEmpty(state, 'delete');
  if (refusal !== null) return refused(refusal);
  const partitions = [...state.offsets.keys()].sort(comparePartitions);
  const records = partitions.map((partition): GroupRecord => ({ kind: 'offset', groupId, partition, value: null }));
  const held = forgetHeld(state, groupId, () => true, context, nowMs);
  const queues = deleteQueues(state, null);
  const end: GroupRecord = { kind: 'group', groupId, value: null };
  const all = [...held.around(records), ...queues.records, end];
  return { records: all, appends: held.appends, reply: DONE, timers: queues.timers };
}

export function decideDeleteOffsetsOfTopic(
  state: GroupState | undefined,
  { groupId, topicId }: DeleteOffsetsOfTopicCommand,
  context: GroupContext,
  nowMs: number,
): DecisionFor<DeleteOffsetsOfTopicCommand> {
  const isOfTopic = (partition: PartitionKey): boolean => splitPartitionKey(partition).topicId === topicId;
  const partitions = [...(state?.offsets.keys() ?? [])].filter(isOfTopic).sort(comparePartitions);
  const records = partitions.map((partition): GroupRecord => ({ kind: 'offset', groupId, partition, value: null }));
  const held = forgetHeld(state, groupId, isOfTopic, context, nowMs);
  const queues = deleteQueues(state, topicId);
  const all = [...held.around(records), ...queues.records];
  return { records: all, appends: held.appends, reply: DONE, timers: queues.timers };
}

/** Waiting and dead alike. */
function forgetHeld(
  state: GroupState | undefined,
  groupId: string,
  isWanted: (partition: PartitionKey) => boolean,
  context: GroupContext,
  nowMs: number,
): HeldChanges {
  const changes = new HeldChanges(groupId, state, context, nowMs);
  for (const [partition, held] of state?.held ?? []) {
    if (!isWanted(partition)) continue;
    changes.add(
      partition,
      [...held.keys()].map((offset) => ({ offset, event: null })),
    );
  }
  return changes;
}

/** The first record of a group that only has offsets so far. */
function newGroup(state: GroupState | undefined, groupId: string, nowMs: number): GroupRecord[] {
  if (state !== undefined) return [];
  return [{ kind: 'group', groupId, value: { groupEpoch: 0, assignmentEpoch: 0, createdAtMs: nowMs, classic: null } }];
}

function checkEmpty(state: GroupState | undefined, what: string): Refusal | null {
  if (state === undefined || state.members.size === 0) return null;
  const members = state.members.size === 1 ? 'a member' : `${state.members.size} members`;
  return refuse('NON_EMPTY_GROUP', `cannot ${what} group ${state.groupId}, which has ${members}: stop them first`);
}

function checkCount(count: number, { maxOffsetsPerCommand }: GroupLimits): Refusal | null {
  if (count <= maxOffsetsPerCommand) return null;
  return refuse('INVALID_REQUEST', `${count} offsets in one request: at most ${maxOffsetsPerCommand} are allowed`);
}

function partitionLabel(key: PartitionKey, context: GroupContext): string {
  const { topicId, partition } = splitPartitionKey(key);
  return `partition ${context.topicName(topicId) ?? topicId}/${partition}`;
}

function utf8Length(text: string): number {
  return new TextEncoder().encode(text).length;
}
