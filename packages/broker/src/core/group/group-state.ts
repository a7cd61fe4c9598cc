/**
 * The durable state of one consumer group, and its only writer.
 *
 * Owns: what a group is made of, the records that change it, and how they do. Does not own: any decision (decide-*.ts),
 * bytes (group-record-codec.ts), or soft state: when a member was last heard of lives in timers only.
 *
 * Invariants, kept by the deciders and checked by the model test:
 * - No partition is held (assigned or revoking) by two members.
 * - A member's epoch is the assignment epoch, or lower while it has something to release, or {@link LEFT_STATIC_EPOCH}.
 * - Replaying every record from the start, or {@link groupRecords} alone, gives the same state.
 */
import { assert, splitPartitionKey } from '@naru/base';
import type { PartitionKey } from '@naru/base';

/** Epoch of a static member that left for a while: it holds its partitions, nobody speaks for it. */
export const LEFT_STATIC_EPOCH = -2;

/** Offsets from the first (inclusive) to the second (exclusive). */
export type OffsetRange = readonly [from: number, to: number];

export interface MemberState {
  readonly memberId: string;
  /** The group epoch that the member has caught up with, or {@link LEFT_STATIC_EPOCH}. */
  readonly memberEpoch: number;
  /** The epoch at which it joined. Requests with a lower one are from an earlier life of the same id, and fenced. */
  readonly joinEpoch: number;
  /** Set for a static member (KIP-345). */
  readonly instanceId: string | null;
  readonly clientId: string;
  readonly clientHost: string;
  /** Names, sorted, each once. */
  readonly topics: readonly string[];
  readonly sessionTimeoutMs: number;
  readonly rebalanceTimeoutMs: number;
  /** Null: nobody watches whether the member polls. */
  readonly maxPollIntervalMs: number | null;
  /** Held now, each with the member epoch at which it was granted. In partition order. */
  readonly assigned: ReadonlyMap<PartitionKey, number>;
  /** Held, and to be released. In partition order. */
  readonly revoking: ReadonlyMap<PartitionKey, number>;
  /** What the assignor wants the member to hold. In partition order. */
  readonly target: readonly PartitionKey[];
}

export interface CommittedOffset {
  /** Everything below is finished: the next offset to read. */
  readonly offset: number;
  /** Finished beyond `offset`: ascending, neither overlapping nor touching each other or `offset`. */
  readonly finished: readonly OffsetRange[];
  readonly metadata: string;
  /** Leader epoch of the record before `offset`; −1 when not known. */
  readonly leaderEpoch: number;
  readonly committedAtMs: number;
}

export interface GroupState {
  readonly groupId: string;
  /** Null until the group's own record was seen, which after compaction may come after those of its members. */
  createdAtMs: number | null;
  /** Grows by one with every change of members, subscriptions or partitions. */
  groupEpoch: number;
  /** The group epoch that the members' targets were computed for. */
  assignmentEpoch: number;
  readonly members: Map<string, MemberState>;
  readonly offsets: Map<PartitionKey, CommittedOffset>;
}

export interface GroupInfo {
  readonly groupEpoch: number;
  readonly assignmentEpoch: number;
  readonly createdAtMs: number;
}

/** One entry of the group log. A null value deletes what the record is about. */
export type GroupRecord =
  | { readonly kind: 'group'; readonly groupId: string; readonly value: GroupInfo | null }
  | { readonly kind: 'member'; readonly groupId: string; readonly memberId: string; readonly value: MemberState | null }
  | {
      readonly kind: 'offset';
      readonly groupId: string;
      readonly partition: PartitionKey;
      readonly value: CommittedOffset | null;
    };

/**
 * Applies one record. Changes `state` in place, makes it when it is undefined, and returns undefined when nothing is
 * left of the group.
 */
export function evolveGroup(state: GroupState | undefined, record: GroupRecord): GroupState | undefined {
  if (state === undefined && record.value === null) return undefined;
  const group = state ?? emptyGroup(record.groupId);
  assert(group.groupId === record.groupId, `record of group ${record.groupId} applied to ${group.groupId}`);
  switch (record.kind) {
    case 'group':
      group.createdAtMs = record.value?.createdAtMs ?? null;
      group.groupEpoch = record.value?.groupEpoch ?? 0;
      group.assignmentEpoch = record.value?.assignmentEpoch ?? 0;
      break;
    case 'member':
      if (record.value === null) group.members.delete(record.memberId);
      else group.members.set(record.memberId, record.value);
      break;
    case 'offset':
      if (record.value === null) group.offsets.delete(record.partition);
      else group.offsets.set(record.partition, record.value);
      break;
  }
  const gone = group.createdAtMs === null && group.members.size === 0 && group.offsets.size === 0;
  return gone ? undefined : group;
}

/** {@link evolveGroup} on the table of all groups of a coordinator. */
export function evolveGroups(groups: Map<string, GroupState>, record: GroupRecord): void {
  const after = evolveGroup(groups.get(record.groupId), record);
  if (after === undefined) groups.delete(record.groupId);
  else groups.set(record.groupId, after);
}

/** The fewest records that build `state` from nothing, for a snapshot. */
export function groupRecords(state: GroupState): GroupRecord[] {
  const { groupId, createdAtMs, groupEpoch, assignmentEpoch } = state;
  const records: GroupRecord[] = [];
  if (createdAtMs !== null) {
    records.push({ kind: 'group', groupId, value: { groupEpoch, assignmentEpoch, createdAtMs } });
  }
  for (const [memberId, value] of state.members) records.push({ kind: 'member', groupId, memberId, value });
  for (const [partition, value] of state.offsets) records.push({ kind: 'offset', groupId, partition, value });
  return records;
}

function emptyGroup(groupId: string): GroupState {
  return { groupId, createdAtMs: null, groupEpoch: 0, assignmentEpoch: 0, members: new Map(), offsets: new Map() };
}

/** Order of partitions everywhere in a group: by topic id, then by number. */
export function comparePartitions(a: PartitionKey, b: PartitionKey): number {
  const left = splitPartitionKey(a);
  const right = splitPartitionKey(b);
  if (left.topicId !== right.topicId) return left.topicId < right.topicId ? -1 : 1;
  return left.partition - right.partition;
}
