/**
 * The durable state of one consumer group, and its only writer.
 *
 * Owns: what a group is made of, the records that change it, and how they do. Does not own: any decision (decide-*.ts),
 * bytes (group-record-codec.ts), or soft state: when a member was last heard of lives in timers only.
 *
 * Invariants, kept by the deciders and checked by the model test:
 * - No partition is held (assigned or revoking) by two members.
 * - A member's epoch is the assignment epoch, or lower while it has something to release, or {@link LEFT_STATIC_EPOCH}.
 * - While `classic` is set none of this holds: the members' leader assigns, and what it gives is only noted here. Then
 *   the group epoch is the generation, the assignment epoch the last generation that was assigned, and a member's epoch
 *   the last generation that it joined.
 * - Replaying every record from the start, or {@link groupRecords} alone, gives the same state.
 */
import { assert, splitPartitionKey } from '@naru/base';
import type { PartitionKey } from '@naru/base';
import type { HeldEvent } from '../held/held-event.ts';
import { HeldPartition } from '../held/held-partition.ts';
import { ClaimTable, type ClaimedIds } from '../idempotency/claimed-ids.ts';
import type { LedgerMarks } from '../ledger/ledger-marks.ts';
import type { QueueState } from '../queue/queue-state.ts';

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
  /** Set for a member that came through the Kafka door, which asks for its assignment instead of being pushed it. */
  readonly kafka: KafkaMembership | null;
}

export interface KafkaMembership {
  /**
   * What the member may be working on besides what it is to release: what it was last told, or said that it holds. A
   * partition that is taken away without ever being told is free at once.
   */
  readonly told: readonly PartitionKey[];
  /** Subscribes to all topics whose whole name matches, besides those that are named. */
  readonly topicPattern: string | null;
  /** Set for a member that uses the classic protocol (JoinGroup, SyncGroup), null for one of KIP-848. */
  readonly classic: ClassicMembership | null;
}

/** A way of assigning partitions that a member knows, with what it says about itself to the leader: not read here. */
export interface ClassicProtocol {
  readonly name: string;
  readonly metadata: Uint8Array;
}

export interface ClassicMembership {
  /** The preferred one first. */
  readonly protocols: readonly ClassicProtocol[];
  /** As the leader gave it; empty until then. */
  readonly assignment: Uint8Array;
  /** Whether subscription and assignment could be read as those of a consumer. */
  readonly readable: boolean;
}

/** Set while the members of a group assign partitions to themselves, as in Kafka's classic protocol. */
export interface ClassicInfo {
  /** `consumer`, or whatever else the members agree on. */
  readonly protocolType: string;
  /** Chosen with each generation; null until then, and when nobody is left. */
  readonly protocolName: string | null;
  readonly leaderId: string | null;
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

/** Offsets that a transaction commits when it is committed (Kafka's TxnOffsetCommit). */
export interface PendingCommit {
  readonly producerEpoch: number;
  /** One for each partition, in partition order. */
  readonly offsets: readonly PendingOffset[];
}

export interface PendingOffset {
  readonly partition: PartitionKey;
  readonly offset: number;
  readonly metadata: string;
  /** −1 when not known. */
  readonly leaderEpoch: number;
}

export interface GroupState {
  readonly groupId: string;
  /** Null until the group's own record was seen, which after compaction may come after those of its members. */
  createdAtMs: number | null;
  /** Grows by one with every change of members, subscriptions or partitions. */
  groupEpoch: number;
  /** The group epoch that the members' targets were computed for. */
  assignmentEpoch: number;
  /** Null: the broker assigns. */
  classic: ClassicInfo | null;
  readonly members: Map<string, MemberState>;
  readonly offsets: Map<PartitionKey, CommittedOffset>;
  /** Events that the broker keeps for the group, by partition; none is empty. */
  readonly held: Map<PartitionKey, HeldPartition>;
  /** Of parallel topics. */
  readonly queues: Map<PartitionKey, QueueState>;
  readonly ledgers: Map<PartitionKey, LedgerMarks>;
  /** Null while there are none. */
  claimedIds: ClaimTable | null;
  /** By producer id. */
  readonly pending: Map<number, PendingCommit>;
}

export interface GroupInfo {
  readonly groupEpoch: number;
  readonly assignmentEpoch: number;
  readonly createdAtMs: number;
  readonly classic: ClassicInfo | null;
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
    }
  | {
      readonly kind: 'held';
      readonly groupId: string;
      readonly partition: PartitionKey;
      readonly offset: number;
      readonly value: HeldEvent | null;
    }
  | {
      readonly kind: 'queue';
      readonly groupId: string;
      readonly partition: PartitionKey;
      readonly value: QueueState | null;
    }
  | {
      readonly kind: 'ledger';
      readonly groupId: string;
      readonly partition: PartitionKey;
      readonly value: LedgerMarks | null;
    }
  | {
      readonly kind: 'claimed-ids';
      readonly groupId: string;
      readonly bucket: number;
      readonly value: ClaimedIds | null;
    }
  | {
      readonly kind: 'pending';
      readonly groupId: string;
      readonly producerId: number;
      readonly value: PendingCommit | null;
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
      group.classic = record.value?.classic ?? null;
      break;
    case 'member':
      if (record.value === null) group.members.delete(record.memberId);
      else group.members.set(record.memberId, record.value);
      break;
    case 'offset':
      if (record.value === null) group.offsets.delete(record.partition);
      else group.offsets.set(record.partition, record.value);
      break;
    case 'held':
      evolveHeld(group.held, record.partition, record.offset, record.value);
      break;
    case 'queue':
      setOrDelete(group.queues, record.partition, record.value);
      break;
    case 'ledger':
      setOrDelete(group.ledgers, record.partition, record.value);
      break;
    case 'claimed-ids':
      group.claimedIds ??= new ClaimTable();
      setOrDelete(group.claimedIds, record.bucket, record.value);
      if (group.claimedIds.size === 0) group.claimedIds = null;
      break;
    case 'pending':
      setOrDelete(group.pending, record.producerId, record.value);
      break;
  }
  return isNothing(group) ? undefined : group;
}

function isNothing(group: GroupState): boolean {
  const { createdAtMs, members, offsets, held, queues, ledgers, claimedIds, pending } = group;
  if (createdAtMs !== null || claimedIds !== null) return false;
  return [members, offsets, held, queues, ledgers, pending].every(({ size }) => size === 0);
}

function setOrDelete<K, V>(map: Map<K, V>, key: K, value: V | null): void {
  if (value === null) map.delete(key);
  else map.set(key, value);
}

function evolveHeld(
  held: Map<PartitionKey, HeldPartition>,
  partition: PartitionKey,
  offset: number,
  value: HeldEvent | null,
): void {
  const events = held.get(partition);
  if (value !== null) {
    if (events === undefined) held.set(partition, new HeldPartition().set(offset, value));
    else events.set(offset, value);
    return;
  }
  events?.delete(offset);
  if (events?.size === 0) held.delete(partition);
}

/** {@link evolveGroup} on the table of all groups of a coordinator. */
export function evolveGroups(groups: Map<string, GroupState>, record: GroupRecord): void {
  const after = evolveGroup(groups.get(record.groupId), record);
  if (after === undefined) groups.delete(record.groupId);
  else groups.set(record.groupId, after);
}

/** The fewest records that build `state` from nothing, for a snapshot. */
export function groupRecords(state: GroupState): GroupRecord[] {
  const { groupId, createdAtMs, groupEpoch, assignmentEpoch, classic } = state;
  const records: GroupRecord[] = [];
  if (createdAtMs !== null) {
    records.push({ kind: 'group', groupId, value: { groupEpoch, assignmentEpoch, createdAtMs, classic } });
  }
  for (const [memberId, value] of state.members) records.push({ kind: 'member', groupId, memberId, value });
  for (const [partition, value] of state.offsets) records.push({ kind: 'offset', groupId, partition, value });
  for (const [partition, events] of state.held) {
    for (const [offset, value] of events) records.push({ kind: 'held', groupId, partition, offset, value });
  }
  for (const [partition, value] of state.queues) records.push({ kind: 'queue', groupId, partition, value });
  for (const [partition, value] of state.ledgers) records.push({ kind: 'ledger', groupId, partition, value });
  for (const [bucket, value] of state.claimedIds ?? []) records.push({ kind: 'claimed-ids', groupId, bucket, value });
  for (const [producerId, value] of state.pending) records.push({ kind: 'pending', groupId, producerId, value });
  return records;
}

function emptyGroup(groupId: string): GroupState {
  const [members, offsets] = [new Map<string, MemberState>(), new Map<PartitionKey, CommittedOffset>()];
  return {
    groupId,
    createdAtMs: null,
    groupEpoch: 0,
    assignmentEpoch: 0,
    classic: null,
    members,
    offsets,
    held: new Map(),
    queues: new Map(),
    ledgers: new Map(),
    claimedIds: null,
    pending: new Map(),
  };
}

/** Order of partitions everywhere in a group: by topic id, then by number. */
export function comparePartitions(a: PartitionKey, b: PartitionKey): number {
  const left = splitPartitionKey(a);
  const right = splitPartitionKey(b);
  if (left.topicId !== right.topicId) return left.topicId < right.topicId ? -1 : 1;
  return left.partition - right.partition;
}
