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
  EndTransactionGroupCommand,
  GroupContext,
  OffsetCommit,
  PartitionResult,
  ResetOffsetsCommand,
} from './commands.ts';
import {
  checkCommit,
  checkCommitter,
  checkCount,
  checkEmpty,
  checkHeld,
  checkNothingPending,
  newGroup,
  partitionLabel,
} from './commit-checks.ts';
import { refused } from './decide-join.ts';
import { DONE } from './decide-membership.ts';
import { comparePartitions } from './group-state.ts';
import type { CommittedOffset, GroupRecord, GroupState, MemberState, OffsetRange } from './group-state.ts';
import { pollTimers, sessionTimer } from './reconcile.ts';
import { pendingAsCommit, withoutOlderPending, withoutPending } from './transaction-offsets.ts';

export function decideCommit(
  state: GroupState | undefined,
  command: CommitCommand,
  context: GroupContext,
  nowMs: number,
): DecisionFor<CommitCommand> {
  const tooMany = checkCount(command.offsets.length, context.limits);
  if (tooMany !== null) return refused(tooMany);
  const committer = checkCommitter(state, command);
  if (committer !== null && 'code' in committer) return refused(committer);
  // Those that are known by the partitions that they hold, not by their generation alone.
  const holder = state === undefined || state.classic !== null ? null : committer;
  const timers = committer === null ? [] : [sessionTimer(committer), ...pollTimers(committer)];
  const decision = commitOffsets(state, command, holder, context, nowMs);
  return { ...withoutOlderPending(state, command, decision), timers };
}

/**
 * Commits partition by partition.
 *
 * @param holder the member whose partitions they have to be; null: anybody's
 */
export function commitOffsets(
  state: GroupState | undefined,
  command: CommitCommand,
  holder: MemberState | null,
  context: GroupContext,
  nowMs: number,
): DecisionFor<CommitCommand> {
  const { groupId, offsets } = command;
  const { limits } = context;
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
  if (nothing && held.records.length === 0) return { records: [], reply: { results }, timers: [] };
  return { records: [...made, ...held.around(records)], appends: held.appends, reply: { results }, timers: [] };
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

/** The transaction is over: what waited for it is committed, by whoever had the partitions, or forgotten. */
export function decideEndTransaction(
  state: GroupState | undefined,
  command: EndTransactionGroupCommand,
  context: GroupContext,
  nowMs: number,
): DecisionFor<EndTransactionGroupCommand> {
  const { groupId, producerId } = command;
  if (state === undefined || !state.pending.has(producerId)) return { records: [], reply: { results: [] }, timers: [] };
  const forget: GroupRecord = { kind: 'pending', groupId, producerId, value: null };
  const commit = pendingAsCommit(state, command);
  if (commit === null) return { records: [forget], reply: { results: [] }, timers: [] };
  const decision = commitOffsets(state, commit, null, context, nowMs);
  return { ...decision, records: [...decision.records, forget] };
}

export function decideResetOffsets(
  state: GroupState | undefined,
  command: ResetOffsetsCommand,
  context: GroupContext,
  nowMs: number,
): DecisionFor<ResetOffsetsCommand> {
  const { groupId } = command;
  const refusal =
    checkCount(command.offsets.length, context.limits) ??
    checkEmpty(state, 'reset the offsets of') ??
    checkNothingPending(state, 'reset the offsets of');
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
  const refusal = checkEmpty(state, 'delete') ?? checkNothingPending(state, 'delete');
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
  const all = [...held.around(records), ...queues.records, ...withoutPending(state, isOfTopic)];
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
