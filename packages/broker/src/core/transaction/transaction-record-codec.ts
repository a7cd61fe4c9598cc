/** Transaction records as bytes: proto/naru/internal/v1/transaction.proto. */
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import {
  isTopicId,
  partitionKey,
  splitPartitionKey,
  toSafeInteger,
  topicIdFromBytes,
  topicIdToBytes,
  type PartitionKey,
} from '@naru/base';
import { NaruError } from '@naru/protocol';
import {
  TransactionStatus as StoredStatus,
  TransactionValueSchema,
  type TransactionTopic,
  type TransactionValue,
} from '@naru/protocol/transaction-records';
import type { TransactionRecord, TransactionState, TransactionStatus } from './transaction-state.ts';

export interface EncodedTransactionRecord {
  readonly key: Uint8Array;
  /** Null for a tombstone. */
  readonly value: Uint8Array | null;
}

const TO_STORED: Readonly<Record<TransactionStatus, StoredStatus>> = {
  empty: StoredStatus.EMPTY,
  ongoing: StoredStatus.ONGOING,
  committed: StoredStatus.COMMITTED,
  aborted: StoredStatus.ABORTED,
};
const FROM_STORED = new Map(Object.entries(TO_STORED).map(([name, stored]) => [stored, name as TransactionStatus]));

const TEXT = new TextEncoder();

export function encodeTransactionRecord({ transactionalId, value }: TransactionRecord): EncodedTransactionRecord {
  return { key: TEXT.encode(transactionalId), value: value === null ? null : encodeValue(value) };
}

/** Throws NaruError DATA_CORRUPT. */
export function decodeTransactionRecord(key: Uint8Array, value: Uint8Array | null): TransactionRecord {
  try {
    const transactionalId = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(key);
    if (value === null) return { transactionalId, value };
    return { transactionalId, value: decodeValue(transactionalId, fromBinary(TransactionValueSchema, value)) };
  } catch (error) {
    if (error instanceof NaruError) throw error;
    throw new NaruError('DATA_CORRUPT', 'a record of the log of transactions cannot be read', { cause: error });
  }
}

function encodeValue(state: TransactionState): Uint8Array {
  const { previous } = state;
  const message = create(TransactionValueSchema, {
    producerId: BigInt(state.producerId),
    producerEpoch: state.producerEpoch,
    previousProducerId: BigInt(previous?.producerId ?? 0),
    previousProducerEpoch: previous?.producerEpoch ?? -1,
    timeoutMs: state.timeoutMs,
    status: TO_STORED[state.status],
    topics: encodePartitions(state.partitions),
    groups: [...state.groups],
    startedAtMs: BigInt(Math.trunc(state.startedAtMs ?? 0)),
    updatedAtMs: BigInt(Math.trunc(state.updatedAtMs)),
    epochPerTransaction: state.epochPerTransaction,
  });
  return toBinary(TransactionValueSchema, message);
}

function encodePartitions(partitions: Iterable<PartitionKey>): { topicId: Uint8Array; partitions: number[] }[] {
  const byTopic = new Map<string, { topicId: Uint8Array; partitions: number[] }>();
  for (const key of partitions) {
    const { topicId, partition } = splitPartitionKey(key);
    const entry = byTopic.get(topicId);
    if (entry === undefined) byTopic.set(topicId, { topicId: topicIdToBytes(topicId), partitions: [partition] });
    else entry.partitions.push(partition);
  }
  return [...byTopic.values()];
}

function decodeValue(transactionalId: string, value: TransactionValue): TransactionState {
  const status = FROM_STORED.get(value.status);
  if (status === undefined) throw corrupt(`of ${JSON.stringify(transactionalId)}: its status is not known`);
  const { previousProducerEpoch, timeoutMs, producerEpoch, epochPerTransaction } = value;
  const previous =
    previousProducerEpoch < 0
      ? null
      : {
          producerId: toSafeInteger(value.previousProducerId, 'previous producer id'),
          producerEpoch: previousProducerEpoch,
        };
  return {
    transactionalId,
    producerId: toSafeInteger(value.producerId, 'producer id'),
    producerEpoch,
    previous,
    timeoutMs,
    status,
    partitions: new Set(value.topics.flatMap(decodeTopic)),
    groups: new Set(value.groups),
    startedAtMs: status === 'ongoing' ? toSafeInteger(value.startedAtMs, 'start time') : null,
    updatedAtMs: toSafeInteger(value.updatedAtMs, 'time of the last change'),
    epochPerTransaction,
  };
}

function decodeTopic({ topicId, partitions }: TransactionTopic): PartitionKey[] {
  const id = topicIdFromBytes(topicId);
  if (topicId.length !== 16 || !isTopicId(id)) throw corrupt('it names no topic');
  return partitions.map((partition) => partitionKey(id, partition));
}

function corrupt(what: string): NaruError {
  return new NaruError('DATA_CORRUPT', `a record of the log of transactions cannot be read: ${what}`);
}
