/**
 * Group records as bytes: proto/naru/internal/v1/group.proto.
 *
 * Lists of partitions are stored in partition order and finished ranges as differences, so that equal records are equal
 * bytes. Unknown fields are passed over: a newer broker's additions do not stop an older one.
 */
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import {
  isTopicId,
  partitionKey,
  splitPartitionKey,
  toSafeInteger,
  topicIdFromBytes,
  topicIdToBytes,
} from '@naru/base';
import type { PartitionKey } from '@naru/base';
import { NaruError } from '@naru/protocol';
import {
  ClassicGroupSchema,
  ClassicMemberSchema,
  GroupRecordKeySchema,
  GroupValueSchema,
  KafkaMemberSchema,
  MemberValueSchema,
  OffsetValueSchema,
  PendingCommitValueSchema,
} from '@naru/protocol/group-records';
import type {
  AssignedPartition,
  GroupValue,
  KafkaMember,
  MemberValue,
  OffsetValue,
  PendingCommitValue,
  TopicPartitions,
} from '@naru/protocol/group-records';
import { decodeHeldEvent, encodeHeldEvent } from '../held/held-codec.ts';
import { decodeClaimedIds, encodeClaimedIds } from '../idempotency/claimed-ids-codec.ts';
import { decodeLedgerMarks, encodeLedgerMarks } from '../ledger/ledger-codec.ts';
import { decodeQueueState, encodeQueueState } from '../queue/queue-codec.ts';
import type {
  CommittedOffset,
  GroupInfo,
  GroupRecord,
  KafkaMembership,
  MemberState,
  OffsetRange,
  PendingCommit,
} from './group-state.ts';

export interface EncodedGroupRecord {
  readonly key: Uint8Array;
  /** Null for a tombstone. */
  readonly value: Uint8Array | null;
}

export function encodeGroupRecord(record: GroupRecord): EncodedGroupRecord {
  return { key: encodeKey(record), value: encodeValue(record) };
}

/** Throws NaruError DATA_CORRUPT. */
export function decodeGroupRecord(key: Uint8Array, value: Uint8Array | null): GroupRecord {
  try {
    return decode(key, value);
  } catch (error) {
    if (error instanceof NaruError) throw error;
    throw new NaruError('DATA_CORRUPT', 'a record of the group log cannot be read', { cause: error });
  }
}

function encodeKey(record: GroupRecord): Uint8Array {
  const { groupId } = record;
  switch (record.kind) {
    case 'group':
      return toBinary(
        GroupRecordKeySchema,
        create(GroupRecordKeySchema, { groupId, subject: { case: 'group', value: true } }),
      );
    case 'member': {
      const subject = { case: 'memberId', value: record.memberId } as const;
      return toBinary(GroupRecordKeySchema, create(GroupRecordKeySchema, { groupId, subject }));
    }
    case 'offset':
    case 'queue':
    case 'ledger': {
      const { topicId, partition } = splitPartitionKey(record.partition);
      const subject = { case: record.kind, value: { topicId: topicIdToBytes(topicId), partition } } as const;
      return toBinary(GroupRecordKeySchema, create(GroupRecordKeySchema, { groupId, subject }));
    }
    case 'held': {
      const { topicId, partition } = splitPartitionKey(record.partition);
      const value = { topicId: topicIdToBytes(topicId), partition, offset: BigInt(record.offset) };
      const subject = { case: 'held', value } as const;
      return toBinary(GroupRecordKeySchema, create(GroupRecordKeySchema, { groupId, subject }));
    }
    case 'claimed-ids': {
      const subject = { case: 'idempotencyBucket', value: record.bucket } as const;
      return toBinary(GroupRecordKeySchema, create(GroupRecordKeySchema, { groupId, subject }));
    }
    case 'pending': {
      const subject = { case: 'pendingProducerId', value: BigInt(record.producerId) } as const;
      return toBinary(GroupRecordKeySchema, create(GroupRecordKeySchema, { groupId, subject }));
    }
  }
}

function encodeValue(record: GroupRecord): Uint8Array | null {
  if (record.value === null) return null;
  switch (record.kind) {
    case 'group':
      return encodeGroup(record.value);
    case 'member':
      return encodeMember(record.value);
    case 'offset':
      return encodeOffset(record.value);
    case 'held':
      return encodeHeldEvent(record.value);
    case 'queue':
      return encodeQueueState(record.value);
    case 'ledger':
      return encodeLedgerMarks(record.value);
    case 'claimed-ids':
      return encodeClaimedIds(record.value);
    case 'pending':
      return encodePending(record.value);
  }
}

function encodeGroup({ groupEpoch, assignmentEpoch, createdAtMs, classic }: GroupInfo): Uint8Array {
  const message = create(GroupValueSchema, { groupEpoch, assignmentEpoch, createdAtMs: BigInt(createdAtMs) });
  if (classic !== null) {
    const { protocolType, protocolName, leaderId } = classic;
    const value = { protocolType, protocolName: protocolName ?? '', leaderId: leaderId ?? '' };
    message.classic = create(ClassicGroupSchema, value);
  }
  return toBinary(GroupValueSchema, message);
}

function encodeMember(member: MemberState): Uint8Array {
  const { memberEpoch, joinEpoch, clientId, clientHost, topics, sessionTimeoutMs, rebalanceTimeoutMs } = member;
  const message = create(MemberValueSchema, {
    memberEpoch,
    joinEpoch,
    instanceId: member.instanceId ?? '',
    clientId,
    clientHost,
    topics: [...topics],
    sessionTimeoutMs,
    rebalanceTimeoutMs,
    maxPollIntervalMs: member.maxPollIntervalMs ?? 0,
    assigned: encodeHeld(member.assigned),
    revoking: encodeHeld(member.revoking),
    target: encodeList(member.target),
  });
  if (member.kafka !== null) message.kafka = encodeKafka(member.kafka);
  return toBinary(MemberValueSchema, message);
}

function encodeKafka({ told, topicPattern, classic }: KafkaMembership): KafkaMember {
  const message = create(KafkaMemberSchema, { told: encodeList(told), topicPattern: topicPattern ?? '' });
  if (classic !== null) {
    const { protocols, assignment, readable } = classic;
    const copies = protocols.map(({ name, metadata }) => ({ name, metadata }));
    message.classic = create(ClassicMemberSchema, { protocols: copies, assignment, readable });
  }
  return message;
}

function encodeHeld(
  held: ReadonlyMap<PartitionKey, number>,
): { topicId: Uint8Array; partition: number; assignedEpoch: number }[] {
  return [...held].map(([key, assignedEpoch]) => {
    const { topicId, partition } = splitPartitionKey(key);
    return { topicId: topicIdToBytes(topicId), partition, assignedEpoch };
  });
}

function encodeList(partitions: readonly PartitionKey[]): { topicId: Uint8Array; partitions: number[] }[] {
  const byTopic = new Map<string, { topicId: Uint8Array; partitions: number[] }>();
  for (const key of partitions) {
    const { topicId, partition } = splitPartitionKey(key);
    const entry = byTopic.get(topicId);
    if (entry === undefined) byTopic.set(topicId, { topicId: topicIdToBytes(topicId), partitions: [partition] });
    else entry.partitions.push(partition);
  }
  return [...byTopic.values()];
}

function encodeOffset({ offset, finished, metadata, leaderEpoch, committedAtMs }: CommittedOffset): Uint8Array {
  const finishedDeltas: bigint[] = [];
  let previous = offset;
  for (const end of finished.flat()) {
    finishedDeltas.push(BigInt(end - previous));
    previous = end;
  }
  const message = create(OffsetValueSchema, {
    offset: BigInt(offset),
    metadata,
    committedAtMs: BigInt(committedAtMs),
    finishedDeltas,
    leaderEpoch,
  });
  return toBinary(OffsetValueSchema, message);
}

function encodePending({ producerEpoch, offsets }: PendingCommit): Uint8Array {
  const encoded = offsets.map(({ partition: key, offset, metadata, leaderEpoch }) => {
    const { topicId, partition } = splitPartitionKey(key);
    return { topicId: topicIdToBytes(topicId), partition, offset: BigInt(offset), metadata, leaderEpoch };
  });
  return toBinary(PendingCommitValueSchema, create(PendingCommitValueSchema, { producerEpoch, offsets: encoded }));
}

function decode(keyBytes: Uint8Array, bytes: Uint8Array | null): GroupRecord {
  const { groupId, subject } = fromBinary(GroupRecordKeySchema, keyBytes);
  if (groupId === '') throw corrupt('its key has no group id');
  switch (subject.case) {
    case 'group': {
      if (bytes === null) return { kind: 'group', groupId, value: null };
      return { kind: 'group', groupId, value: decodeGroup(fromBinary(GroupValueSchema, bytes)) };
    }
    case 'memberId': {
      const memberId = subject.value;
      const value = bytes === null ? null : decodeMember(memberId, fromBinary(MemberValueSchema, bytes));
      return { kind: 'member', groupId, memberId, value };
    }
    case 'offset': {
      const partition = decodePartition(subject.value);
      const value = bytes === null ? null : decodeOffset(fromBinary(OffsetValueSchema, bytes));
      return { kind: 'offset', groupId, partition, value };
    }
    case 'held': {
      const partition = decodePartition(subject.value);
      const offset = toSafeInteger(subject.value.offset, 'offset');
      return { kind: 'held', groupId, partition, offset, value: bytes === null ? null : decodeHeldEvent(bytes) };
    }
    case 'queue': {
      const partition = decodePartition(subject.value);
      return { kind: 'queue', groupId, partition, value: bytes === null ? null : decodeQueueState(bytes) };
    }
    case 'ledger': {
      const partition = decodePartition(subject.value);
      return { kind: 'ledger', groupId, partition, value: bytes === null ? null : decodeLedgerMarks(bytes) };
    }
    case 'idempotencyBucket': {
      const value = bytes === null ? null : decodeClaimedIds(bytes);
      return { kind: 'claimed-ids', groupId, bucket: subject.value, value };
    }
    case 'pendingProducerId': {
      const producerId = toSafeInteger(subject.value, 'producer id');
      const value = bytes === null ? null : decodePending(fromBinary(PendingCommitValueSchema, bytes));
      return { kind: 'pending', groupId, producerId, value };
    }
    default:
      throw corrupt('its key has no subject that this version knows');
  }
}

function decodeGroup({ groupEpoch, assignmentEpoch, createdAtMs, classic }: GroupValue): GroupInfo {
  return {
    groupEpoch,
    assignmentEpoch,
    createdAtMs: toSafeInteger(createdAtMs, 'creation time'),
    classic:
      classic === undefined
        ? null
        : {
            protocolType: classic.protocolType,
            protocolName: classic.protocolName === '' ? null : classic.protocolName,
            leaderId: classic.leaderId === '' ? null : classic.leaderId,
          },
  };
}

function decodeMember(memberId: string, value: MemberValue): MemberState {
  return {
    memberId,
    memberEpoch: value.memberEpoch,
    joinEpoch: value.joinEpoch,
    instanceId: value.instanceId === '' ? null : value.instanceId,
    clientId: value.clientId,
    clientHost: value.clientHost,
    topics: value.topics,
    sessionTimeoutMs: value.sessionTimeoutMs,
    rebalanceTimeoutMs: value.rebalanceTimeoutMs,
    maxPollIntervalMs: value.maxPollIntervalMs === 0 ? null : value.maxPollIntervalMs,
    assigned: decodeHeld(value.assigned),
    revoking: decodeHeld(value.revoking),
    target: decodeList(value.target),
    kafka: value.kafka === undefined ? null : decodeKafka(value.kafka),
  };
}

function decodeKafka({ told, topicPattern, classic }: KafkaMember): KafkaMembership {
  return {
    told: decodeList(told),
    topicPattern: topicPattern === '' ? null : topicPattern,
    classic:
      classic === undefined
        ? null
        : {
            protocols: classic.protocols.map(({ name, metadata }) => ({ name, metadata })),
            assignment: classic.assignment,
            readable: classic.readable,
          },
  };
}

function decodeList(topics: readonly TopicPartitions[]): PartitionKey[] {
  return topics.flatMap(({ topicId, partitions }) =>
    partitions.map((partition) => decodePartition({ topicId, partition })),
  );
}

function decodeHeld(held: readonly AssignedPartition[]): Map<PartitionKey, number> {
  return new Map(held.map((entry) => [decodePartition(entry), entry.assignedEpoch]));
}

function decodePartition({ topicId, partition }: { topicId: Uint8Array; partition: number }): PartitionKey {
  const id = topicIdFromBytes(topicId);
  if (topicId.length !== 16 || !isTopicId(id) || partition < 0) throw corrupt('it names no partition');
  return partitionKey(id, partition);
}

function decodeOffset(value: OffsetValue): CommittedOffset {
  const offset = toSafeInteger(value.offset, 'offset');
  if (offset < 0 || value.finishedDeltas.length % 2 !== 0) throw corrupt('its finished ranges are not pairs');
  const finished: OffsetRange[] = [];
  let end = offset;
  for (let i = 0; i < value.finishedDeltas.length; i += 2) {
    const from = end + toSafeInteger(value.finishedDeltas[i]!, 'finished range');
    const to = from + toSafeInteger(value.finishedDeltas[i + 1]!, 'finished range');
    finished.push([from, to]);
    end = to;
  }
  const { metadata, leaderEpoch } = value;
  return { offset, finished, metadata, leaderEpoch, committedAtMs: toSafeInteger(value.committedAtMs, 'commit time') };
}

function decodePending({ producerEpoch, offsets }: PendingCommitValue): PendingCommit {
  return {
    producerEpoch,
    offsets: offsets.map(({ offset, metadata, leaderEpoch, ...place }) => ({
      partition: decodePartition(place),
      offset: toSafeInteger(offset, 'offset'),
      metadata,
      leaderEpoch,
    })),
  };
}

function corrupt(what: string): NaruError {
  return new NaruError('DATA_CORRUPT', `a record of the group log cannot be read: ${what}`);
}
