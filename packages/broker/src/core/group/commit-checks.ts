/**
 * Who may commit offsets to a group, and which: the checks that commits of every kind share.
 *
 * Fencing (KIP-1251): see decide-offsets.ts.
 */
import { splitPartitionKey } from '@naru/base';
import type { PartitionKey } from '@naru/base';
import { refuse } from '@naru/protocol';
import type { Refusal } from '@naru/protocol';
import type { CommitCommand, GroupContext, GroupLimits, OffsetCommit } from './commands.ts';
import { checkClassicMember } from './decide-classic.ts';
import { checkMember } from './decide-join.ts';
import type { GroupRecord, GroupState, MemberState } from './group-state.ts';
import { findMember } from './kafka-member.ts';
import { isClassic } from './reconcile.ts';

/** Who says that it commits. */
type Committer = Pick<CommitCommand, 'groupId' | 'memberId' | 'memberEpoch' | 'instanceId'>;

/** The member that commits, or null for a commit from outside. */
export function checkCommitter(state: GroupState | undefined, command: Committer): MemberState | Refusal | null {
  if (command.memberId !== '') return checkMemberCommit(state, command);
  if (state === undefined || state.members.size === 0) return null;
  return refuse(
    'UNKNOWN_MEMBER_ID',
    `group ${command.groupId} has members, so that only they can commit; reset its offsets when it has none`,
  );
}

export function checkMemberCommit(state: GroupState | undefined, command: Committer): MemberState | Refusal {
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

export function checkHeld(
  member: MemberState,
  memberEpoch: number,
  partition: PartitionKey,
  label: string,
): Refusal | null {
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

export function checkCommit(commit: OffsetCommit, limits: GroupLimits, label: string): Refusal | null {
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

/** The first record of a group that only has offsets so far. */
export function newGroup(state: GroupState | undefined, groupId: string, nowMs: number): GroupRecord[] {
  if (state !== undefined) return [];
  return [{ kind: 'group', groupId, value: { groupEpoch: 0, assignmentEpoch: 0, createdAtMs: nowMs, classic: null } }];
}

export function checkEmpty(state: GroupState | undefined, what: string): Refusal | null {
  if (state === undefined || state.members.size === 0) return null;
  const members = state.members.size === 1 ? 'a member' : `${state.members.size} members`;
  return refuse('NON_EMPTY_GROUP', `cannot ${what} group ${state.groupId}, which has ${members}: stop them first`);
}

/** What a transaction has kept would be committed after it. */
export function checkNothingPending(state: GroupState | undefined, what: string): Refusal | null {
  if (state === undefined || state.pending.size === 0) return null;
  const producers = [...state.pending.keys()].join(', ');
  const message = `cannot ${what} group ${state.groupId}, for which open transactions (of producer ${producers}) keep offsets: end them first`;
  return refuse('NON_EMPTY_GROUP', message);
}

export function checkCount(count: number, { maxOffsetsPerCommand }: GroupLimits): Refusal | null {
  if (count <= maxOffsetsPerCommand) return null;
  return refuse('INVALID_REQUEST', `${count} offsets in one request: at most ${maxOffsetsPerCommand} are allowed`);
}

export function partitionLabel(key: PartitionKey, context: GroupContext): string {
  const { topicId, partition } = splitPartitionKey(key);
  return `partition ${context.topicName(topicId) ?? topicId}/${partition}`;
}

export function utf8Length(text: string): number {
  return new TextEncoder().encode(text).length;
}
