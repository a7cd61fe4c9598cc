/**
 * The reading side of the store: from the tails where it can, from the database where it must, and from both.
 *
 * Owns nothing but counters. A read that meets a truncate or a compaction on its way starts over.
 */
import type { PartitionKey } from '@naru/base';
import { NaruError } from '@naru/protocol';
import { offsetOutOfRange, unknownPartition } from '../append-entry.ts';
import type { StoredBatch } from '../log-store.ts';
import { storageError } from './commit-loop.ts';
import type { DatabaseLogLimits } from './limits.ts';
import type { LogDatabase } from './log-database.ts';
import type { DatabasePartition } from './partition-state.ts';
import { batchDamage } from './stored-batch.ts';

export class DatabaseReader {
  readonly #partitions: ReadonlyMap<PartitionKey, DatabasePartition>;
  readonly #database: LogDatabase;
  readonly #limits: DatabaseLogLimits;
  #closed = false;
  #cacheHits = 0;
  #cacheMisses = 0;

  constructor(
    partitions: ReadonlyMap<PartitionKey, DatabasePartition>,
    database: LogDatabase,
    limits: DatabaseLogLimits,
  ) {
    this.#partitions = partitions;
    this.#database = database;
    this.#limits = limits;
  }

  get cacheHits(): number {
    return this.#cacheHits;
  }

  get cacheMisses(): number {
    return this.#cacheMisses;
  }

  /** The database is not touched from now on. */
  close(): void {
    this.#closed = true;
  }

  /** As LogStore.read. */
  read(
    key: PartitionKey,
    offset: number,
    maxBytes: number,
    limitOffset: number,
  ): StoredBatch[] | Promise<StoredBatch[]> {
    const partition = this.#partitions.get(key);
    if (partition === undefined) return Promise.reject(unknownPartition(key));
    const { logStartOffset, endOffset, tailStart } = partition;
    if (offset < logStartOffset || offset > endOffset)
      return Promise.reject(offsetOutOfRange(key, offset, logStartOffset, endOffset));
    if (offset >= tailStart) {
      this.#cacheHits += 1;
      return partition.tail.collect(offset, maxBytes, limitOffset);
    }
    this.#cacheMisses += 1;
    return this.#readStored(partition, offset, maxBytes, limitOffset);
  }

  async #readStored(
    partition: DatabasePartition,
    offset: number,
    maxBytes: number,
    limitOffset: number,
  ): Promise<StoredBatch[]> {
    const { key } = partition;
    for (;;) {
      if (partition.deleted) throw unknownPartition(key);
      const { logStartOffset, endOffset, tailStart } = partition;
      if (offset < logStartOffset || offset > endOffset) throw offsetOutOfRange(key, offset, logStartOffset, endOffset);
      if (offset >= tailStart) return partition.tail.collect(offset, maxBytes, limitOffset);
      const below = Math.min(limitOffset, tailStart);
      const bytes = Math.min(maxBytes, this.#limits.readBytes);
      const rows = await this.#whileSame(partition, () =>
        this.#database.read({ partitionId: partition.id, from: offset, below }, bytes, this.#limits.pageRows),
      );
      if (rows === 'changed') continue;
      // A gap up to the tail.
      if (rows.length === 0)
        return limitOffset > tailStart ? partition.tail.collect(tailStart, maxBytes, limitOffset) : [];
      const batches = this.#checked(key, rows);
      const reachesTail = partition.tailStart === tailStart && batches.at(-1)?.lastOffset === tailStart - 1;
      if (reachesTail) addTail(batches, partition, maxBytes, limitOffset);
      return batches;
    }
  }

  /** The batches before the first one that is damaged. */
  #checked(key: PartitionKey, rows: readonly StoredBatch[]): StoredBatch[] {
    const batches: StoredBatch[] = [];
    for (const { baseOffset, lastOffset, maxTimestampMs, records } of rows) {
      const batch = { baseOffset, lastOffset, maxTimestampMs, records };
      const damage = batchDamage(key, batch);
      if (damage !== null && batches.length === 0) throw damage;
      if (damage !== null) break;
      batches.push(batch);
    }
    return batches;
  }

  /** As LogStore.findByTimestamp. */
  async findByTimestamp(key: PartitionKey, timestampMs: number): Promise<StoredBatch | null> {
    for (;;) {
      const partition = this.#require(key);
      const { tailStart, logStartOffset } = partition;
      const from = partition.searchFrom(timestampMs);
      if (from === null) return null;
      if (from < tailStart) {
        const range = { partitionId: partition.id, from, below: tailStart };
        const found = await this.#whileSame(partition, () => this.#database.findByTimestamp(range, timestampMs));
        // Evicted meanwhile: between what was searched and the tail there would be a gap.
        if (found === 'changed' || (found === null && partition.tailStart !== tailStart)) continue;
        if (found !== null && found.lastOffset >= partition.logStartOffset)
          return this.#checked(key, [found])[0] ?? null;
        if (found !== null) continue;
      }
      return partition.tail.findByTimestamp(timestampMs, Math.max(from, logStartOffset));
    }
  }

  /** As LogStore.findBySize. */
  async findBySize(key: PartitionKey, maxBytes: number): Promise<number> {
    for (;;) {
      const partition = this.#require(key);
      const { epoch } = partition;
      const { from, below, bytes: fitting } = partition.sizeBoundary(maxBytes);
      let [bytes, end] = [fitting, below];
      while (end > from) {
        const range = { partitionId: partition.id, from, below: end };
        const places = await this.#whileSame(partition, () =>
          this.#database.places(range, 'down', this.#limits.pageRows),
        );
        if (places === 'changed') break;
        for (const place of places) {
          bytes += place.sizeBytes;
          if (bytes > maxBytes) return end;
          end = place.baseOffset;
        }
        if (places.length === 0) break;
      }
      if (partition.epoch === epoch && !partition.deleted) return bytes <= maxBytes ? from : end;
    }
  }

  #require(key: PartitionKey): DatabasePartition {
    const partition = this.#partitions.get(key);
    if (partition === undefined) throw unknownPartition(key);
    return partition;
  }

  /** What `use` finds, unless what it looked at was truncated or replaced meanwhile: then the caller asks again. */
  async #whileSame<T>(partition: DatabasePartition, use: () => Promise<T>): Promise<T | 'changed'> {
    if (this.#closed) throw new NaruError('STORAGE_ERROR', 'the log is closed');
    const { epoch } = partition;
    try {
      const found = await use();
      return partition.epoch === epoch ? found : 'changed';
    } catch (error) {
      if (partition.epoch !== epoch) return 'changed';
      throw storageError(error, `reading partition ${partition.key}`);
    }
  }
}

/** What of the tail still fits behind `batches`, which reach it. */
function addTail(batches: StoredBatch[], partition: DatabasePartition, maxBytes: number, limitOffset: number): void {
  let bytes = batches.reduce((sum, batch) => sum + batch.records.length, 0);
  for (const batch of partition.tail.collect(partition.tailStart, maxBytes - bytes, limitOffset)) {
    bytes += batch.records.length;
    if (bytes > maxBytes) return;
    batches.push(batch);
  }
}
