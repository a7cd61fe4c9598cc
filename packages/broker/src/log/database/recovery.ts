/**
 * Opening: the snapshot and the partitions as they were at it, then what happened since, page by page, through the same
 * applier as when it happened. Data that the snapshot covers is never looked at.
 */
import { NaruError } from '@naru/protocol';
import type { RecoveryVisitor } from '../log-store.ts';
import type { DatabaseLogLimits } from './limits.ts';
import type { BatchRow, HistoryPage, LogDatabase, OperationRow } from './log-database.ts';
import { OPERATION } from './log-database.ts';
import type { CreateDetail, OperationApplier } from './operation.ts';
import { ROW_BYTES } from './limits.ts';
import { DatabasePartition } from './partition-state.ts';
import { batchDamage } from './stored-batch.ts';

export interface RecoveredLog {
  readonly lastId: number;
  readonly snapshotId: number;
  /** What history after the snapshot takes. */
  readonly historyBytes: number;
  /** The largest that a partition ever had. */
  readonly lastPartitionId: number;
}

/** @throws NaruError as LogDatabase.open; DATA_CORRUPT where history has a hole or a damaged batch */
export async function recoverLog(
  database: LogDatabase,
  applier: OperationApplier,
  limits: DatabaseLogLimits,
  visitor: RecoveryVisitor,
): Promise<RecoveredLog> {
  const opened = await database.open();
  const replay = new DatabaseReplay(applier, visitor, opened.snapshotId);
  replay.lastPartitionId = opened.lastPartitionId;
  visitor.snapshot(opened.snapshot);
  for (const { id, key, state } of opened.partitions) replay.restore(DatabasePartition.restore(id, key, state));
  while (replay.id < opened.lastId) {
    const page = await database.history(replay.id, limits.pageRows, limits.pageBytes);
    if (page.throughId <= replay.id) break;
    replay.page(page);
  }
  if (replay.id !== opened.lastId) throw hole(replay.id + 1, opened.lastId);
  for (const partition of applier.partitions.values()) partition.settle();
  const { historyBytes, lastPartitionId } = replay;
  return { lastId: opened.lastId, snapshotId: opened.snapshotId, historyBytes, lastPartitionId };
}

class DatabaseReplay {
  id: number;
  historyBytes = 0;
  lastPartitionId = 0;
  readonly #applier: OperationApplier;
  readonly #visitor: RecoveryVisitor;
  readonly #partitions = new Map<number, DatabasePartition>();

  constructor(applier: OperationApplier, visitor: RecoveryVisitor, snapshotId: number) {
    this.#applier = applier;
    this.#visitor = visitor;
    this.id = snapshotId;
  }

  restore(partition: DatabasePartition): void {
    this.#add(partition);
    this.#applier.partitions.set(partition.key, partition);
    this.#visitor.partition(partition.info());
  }

  page({ throughId, batches, operations }: HistoryPage): void {
    const rows = [...batches, ...operations].sort((a, b) => a.id - b.id);
    for (const row of rows) {
      if (row.id !== this.id + 1) throw hole(this.id + 1, row.id);
      this.id = row.id;
      this.historyBytes += ROW_BYTES;
      if ('type' in row) this.#operation(row);
      else if (!row.isReplacement) this.#batch(row);
    }
    if (this.id !== throughId) throw hole(this.id + 1, throughId);
  }

  #batch({ id, partitionId, baseOffset, lastOffset, maxTimestampMs, records }: BatchRow): void {
    const partition = this.#require(partitionId, id);
    const batch = { baseOffset, lastOffset, maxTimestampMs, records };
    const damage = batchDamage(partition.key, batch);
    if (damage !== null) throw damage;
    this.historyBytes += records.length;
    this.#applier.append(partition, batch);
    this.#visitor.batch(partition.key, batch);
  }

  #operation(row: OperationRow): void {
    const { type, offset, id } = row;
    if (type === OPERATION.create) {
      const { key } = JSON.parse(row.detail) as CreateDetail;
      const partition = new DatabasePartition(row.partitionId, key, offset);
      this.#add(partition);
      this.#applier.apply(partition, row);
      this.#visitor.created(key, offset);
      return;
    }
    const partition = this.#require(row.partitionId, id);
    this.#applier.apply(partition, row);
    if (type === OPERATION.truncate) this.#visitor.truncated(partition.key, offset);
    else if (type === OPERATION.deleteBefore) this.#visitor.deletedBefore(partition.key, offset);
    else if (type === OPERATION.delete) this.#visitor.deleted(partition.key);
  }

  #add(partition: DatabasePartition): void {
    this.#partitions.set(partition.id, partition);
    this.lastPartitionId = Math.max(this.lastPartitionId, partition.id);
  }

  #require(partitionId: number, id: number): DatabasePartition {
    const partition = this.#partitions.get(partitionId);
    if (partition === undefined)
      throw new NaruError('DATA_CORRUPT', `row ${id} of the log belongs to partition ${partitionId}, which is missing`);
    return partition;
  }
}

function hole(from: number, to: number): NaruError {
  const message = `the log in the database has a hole before row ${to}: row ${from} is missing`;
  return new NaruError('DATA_CORRUPT', `${message}. Nothing was changed: put a complete copy back`);
}
