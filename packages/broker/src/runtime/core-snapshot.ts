/** The state of the pure core as one block of bytes, for a checkpoint. */
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { partitionKey, splitPartitionKey, topicIdFromBytes, topicIdToBytes } from '@naru/base';
import {
  CoreSnapshotSchema,
  GroupLogRecordSchema,
  PartitionSnapshotSchema,
  type PartitionSnapshot,
} from '@naru/protocol/snapshot-records';
import type { EncodedGroupRecord } from '../core/group/index.ts';
import type { EncodedSchemaRecord } from '../core/schema-registry/index.ts';
import type { EncodedTransactionRecord } from '../core/transaction/index.ts';
import { AgeMarks } from '../core/partition/age-marks.ts';
import { newPartitionState, type PartitionState } from '../core/partition/partition-state.ts';
import { TransactionIndex } from '../core/partition/transaction-index.ts';
import type { Snapshot } from '../log/log-store.ts';

export const SNAPSHOT_VERSION = 1;

export interface CoreState {
  readonly partitions: readonly PartitionState[];
  readonly groupRecords: readonly EncodedGroupRecord[];
  readonly schemaRecords: readonly EncodedSchemaRecord[];
  readonly transactionRecords: readonly EncodedTransactionRecord[];
}

export function encodeCoreSnapshot(
  partitions: Iterable<PartitionState>,
  groupRecords: Iterable<EncodedGroupRecord>,
  schemaRecords: Iterable<EncodedSchemaRecord> = [],
  transactionRecords: Iterable<EncodedTransactionRecord> = [],
): Snapshot {
  const snapshot = create(CoreSnapshotSchema);
  for (const state of partitions) {
    const { topicId, partition } = splitPartitionKey(state.partition);
    snapshot.partitions.push(
      create(PartitionSnapshotSchema, {
        topicId: topicIdToBytes(topicId),
        partition,
        endOffset: BigInt(state.endOffset),
        epochs: state.epochs.map(({ epoch, startOffset }) => ({ epoch, startOffset: BigInt(startOffset) })),
        producers: [...state.producers].map(([producerId, producer]) => ({
          producerId: BigInt(producerId),
          epoch: producer.epoch,
          lastTimestampMs: BigInt(Math.trunc(producer.lastTimestampMs)),
          batches: producer.batches.map((batch) => ({ ...batch, baseOffset: BigInt(batch.baseOffset) })),
        })),
        ages: state.ages.all.map(({ offset, atMs }) => ({ offset: BigInt(offset), atMs: BigInt(Math.trunc(atMs)) })),
        openTransactions: state.transactions.open.map(({ producerId, firstOffset }) => ({
          producerId: BigInt(producerId),
          firstOffset: BigInt(firstOffset),
        })),
        abortedTransactions: state.transactions.aborted.map(({ producerId, firstOffset, lastOffset }) => ({
          producerId: BigInt(producerId),
          firstOffset: BigInt(firstOffset),
          lastOffset: BigInt(lastOffset),
        })),
        dataEndOffset: BigInt(state.dataEndOffset),
      }),
    );
  }
  for (const { key, value } of groupRecords) {
    snapshot.groupRecords.push(create(GroupLogRecordSchema, { key, value: value ?? new Uint8Array() }));
  }
  for (const { key, value } of schemaRecords)
    snapshot.schemaRecords.push(create(GroupLogRecordSchema, { key, value: value ?? new Uint8Array() }));
  for (const { key, value } of transactionRecords)
    snapshot.transactionRecords.push(create(GroupLogRecordSchema, { key, value: value ?? new Uint8Array() }));
  return { version: SNAPSHOT_VERSION, data: toBinary(CoreSnapshotSchema, snapshot) };
}

export function decodeCoreSnapshot(snapshot: Snapshot): CoreState {
  const decoded = fromBinary(CoreSnapshotSchema, snapshot.data);
  const partitions = decoded.partitions.map((entry): PartitionState => {
    const key = partitionKey(topicIdFromBytes(entry.topicId), entry.partition);
    const ages = entry.ages.map(({ offset, atMs }) => ({ offset: Number(offset), atMs: Number(atMs) }));
    const state: PartitionState = {
      ...newPartitionState(key),
      ages: new AgeMarks(ages),
      transactions: transactionsOf(entry),
    };
    state.endOffset = Number(entry.endOffset);
    state.dataEndOffset = Number(entry.dataEndOffset ?? entry.endOffset);
    state.epochs = entry.epochs.map(({ epoch, startOffset }) => ({ epoch, startOffset: Number(startOffset) }));
    for (const { producerId, epoch, lastTimestampMs, batches } of entry.producers) {
      state.producers.set(Number(producerId), {
        epoch,
        lastTimestampMs: Number(lastTimestampMs),
        batches: batches.map(({ firstSequence, lastSequence, baseOffset }) => ({
          firstSequence,
          lastSequence,
          baseOffset: Number(baseOffset),
        })),
      });
    }
    return state;
  });
  const { groupRecords, schemaRecords, transactionRecords } = decoded;
  return { partitions, groupRecords, schemaRecords, transactionRecords };
}

function transactionsOf({ openTransactions, abortedTransactions }: PartitionSnapshot): TransactionIndex {
  const open = openTransactions.map(({ producerId, firstOffset }) => ({
    producerId: Number(producerId),
    firstOffset: Number(firstOffset),
  }));
  const aborted = abortedTransactions.map(({ producerId, firstOffset, lastOffset }) => ({
    producerId: Number(producerId),
    firstOffset: Number(firstOffset),
    lastOffset: Number(lastOffset),
  }));
  return new TransactionIndex(open, aborted);
}
