/**
 * What the database engines ask of a database: few tables and few statements, so that an adapter is small.
 *
 * ```
 * state       one row: the format's version, the last id given
 * snapshot    at most one row: id, version, data, last partition id. It covers everything up to its id
 * partitions  as they were at the snapshot
 * batches     id, partition, offsets, largest timestamp, size, records; `dead` ones are not read; a `replacement` is
 *             what compaction made of a batch, which history does not tell
 * operations  id, type, partition, offset, detail: everything else that happened
 * ```
 *
 * Ids count batches and operations together, without a gap, in the order in which they took effect. Rows after the
 * snapshot are history: they are removed only when a snapshot covers them, even when they are dead. Rows before it may go
 * at once.
 *
 * Errors of every method: STORAGE_UNAVAILABLE when the database cannot be reached or the outcome is unknown (ask again),
 * STORAGE_FULL when there is no space (nothing was changed), DATA_CORRUPT, and STORAGE_ERROR for everything else, which
 * takes the store offline.
 */
import type { PartitionKey } from '@naru/base';
import type { Snapshot, StoredBatch } from '../log-store.ts';

export interface BatchRow extends StoredBatch {
  readonly id: number;
  readonly partitionId: number;
  readonly isReplacement: boolean;
}

/** A batch without its records. */
export interface BatchPlace {
  readonly id: number;
  readonly baseOffset: number;
  readonly lastOffset: number;
  readonly maxTimestampMs: number;
  readonly sizeBytes: number;
}

export const OPERATION = { create: 1, delete: 2, truncate: 3, deleteBefore: 4, rewrite: 5 } as const;
export type OperationType = (typeof OPERATION)[keyof typeof OPERATION];

export interface OperationRow {
  readonly id: number;
  readonly type: OperationType;
  readonly partitionId: number;
  readonly offset: number;
  /** JSON, of a layout that goes with the type: operation-detail.ts. */
  readonly detail: string;
}

/** What one transaction makes durable. Truncates and replacements take effect before the batches are added. */
export interface Cycle {
  /** The last id before it: a cycle that follows another one than this is not committed. */
  readonly previousId: number;
  readonly lastId: number;
  readonly truncates: readonly { readonly partitionId: number; readonly endOffset: number }[];
  /** Ids of batches that compaction replaced or removed. */
  readonly replaced: readonly number[];
  readonly batches: readonly BatchRow[];
  readonly operations: readonly OperationRow[];
}

export interface PartitionRow {
  readonly id: number;
  readonly key: PartitionKey;
  /** JSON: partition-state.ts. */
  readonly state: string;
}

export interface Checkpoint {
  /** Everything up to this id is covered. */
  readonly id: number;
  readonly snapshot: Snapshot;
  /** The largest id that a partition ever had: rows of one that is deleted may still be there, so that no id comes twice. */
  readonly lastPartitionId: number;
  /** Those that changed since the last checkpoint. */
  readonly partitions: readonly PartitionRow[];
  /** Partitions that are gone since. */
  readonly removed: readonly number[];
}

export interface OpenedLog {
  readonly lastId: number;
  /** Id that the snapshot covers; 0 without one. */
  readonly snapshotId: number;
  readonly snapshot: Snapshot | null;
  /** As the last checkpoint said; 0 without one. */
  readonly lastPartitionId: number;
  /** In the order of their ids. */
  readonly partitions: readonly PartitionRow[];
}

/** Part of what happened, in no particular order; it is complete up to `throughId`. */
export interface HistoryPage {
  readonly throughId: number;
  /** Of replacements, `records` are empty. */
  readonly batches: readonly BatchRow[];
  readonly operations: readonly OperationRow[];
}

/** Live batches of a partition by their last offset. */
export interface BatchRange {
  readonly partitionId: number;
  /** lastOffset is this or more. */
  readonly from: number;
  /** lastOffset is less than this. */
  readonly below: number;
}

export interface LogDatabase {
  /** Creates the tables where there are none. @throws NaruError DATA_DIRECTORY_VERSION, DATA_CORRUPT */
  open(): Promise<OpenedLog>;
  /** What happened after `afterId`: at most `rows` ids, and `bytes` of records unless the first batch is larger. */
  history(afterId: number, rows: number, bytes: number): Promise<HistoryPage>;
  /** Durable when it resolves. May be called again with the same cycle after STORAGE_UNAVAILABLE: it is stored once. */
  commit(cycle: Cycle): Promise<void>;
  /** In offset order until `maxBytes` or `rows` is reached, at least one if there is any. */
  read(range: BatchRange, maxBytes: number, rows: number): Promise<BatchRow[]>;
  /** The first of the range by offset whose maxTimestampMs is `timestampMs` or later. */
  findByTimestamp(range: BatchRange, timestampMs: number): Promise<BatchRow | null>;
  /** In offset order, or from the last one down. */
  places(range: BatchRange, order: 'up' | 'down', rows: number): Promise<BatchPlace[]>;
  /** Sum of the sizes. */
  measure(range: BatchRange): Promise<number>;
  checkpoint(checkpoint: Checkpoint): Promise<void>;
  /** Batches up to `throughId`, some of those there are, that nobody reads any more because they are dead. */
  deadBatches(throughId: number, rows: number): Promise<BatchPlace[]>;
  /** Live batches of the range up to `throughId`, some of those there are. */
  batchesToErase(range: BatchRange, throughId: number, rows: number): Promise<BatchPlace[]>;
  /** Operations up to `throughId`, the first ones. */
  oldOperations(throughId: number, rows: number): Promise<OperationRow[]>;
  eraseBatches(ids: readonly number[]): Promise<void>;
  eraseOperations(ids: readonly number[]): Promise<void>;
  /** Why nothing more should be stored although it would still work: little space is left. Null otherwise. */
  spaceReason(): string | null;
  /** Called once when the store is taken away from this broker. */
  onLost(lost: (error: Error) => void): void;
  close(): Promise<void>;
}
