/**
 * The engine that keeps everything in this process's memory: tests, and topics whose loss is acceptable.
 *
 * Owns the batches. Durable means "applied" here; nothing survives the process.
 *
 * Invariants: as of LogStore. `maxBytes` bounds it through {@link MemoryLogStore.capacity}: an append that was decided
 * before the bound was reached is still taken, so the overshoot is at most what the caller had under way.
 */
import type { PartitionKey } from '@naru/base';
import { assert } from '@naru/base';
import { NaruError } from '@naru/protocol';
import { checkAppendEntry, offsetOutOfRange, unknownPartition } from '../append-entry.ts';
import { BatchRun } from '../batch-run.ts';
import type {
  AppendEntry,
  Capacity,
  LogStore,
  LogStoreMetrics,
  PartitionInfo,
  RecoveryVisitor,
  Snapshot,
  StoredBatch,
} from '../log-store.ts';

export interface MemoryLogStoreOptions {
  /** Bytes of batches beyond which {@link MemoryLogStore.capacity} is 'full'. Default 1 GiB. */
  readonly maxBytes?: number | undefined;
}

const DEFAULT_MAX_BYTES = 1024 ** 3;
const MAX_APPEND_BYTES = 8 * 1024 ** 2;

interface MemoryPartition {
  readonly key: PartitionKey;
  readonly run: BatchRun;
  logStartOffset: number;
  endOffset: number;
}

export class MemoryLogStore implements LogStore {
  readonly maxAppendBytes = MAX_APPEND_BYTES;
  readonly #maxBytes: number;
  readonly #partitions = new Map<PartitionKey, MemoryPartition>();
  #state: 'new' | 'open' | 'closed' = 'new';
  #bytes = 0;
  #appends = 0;
  #appendedBytes = 0;
  #cacheHits = 0;

  constructor(options: MemoryLogStoreOptions = {}) {
    this.#maxBytes = options.maxBytes ?? DEFAULT_MAX_BYTES;
  }

  async recover(visitor: RecoveryVisitor): Promise<void> {
    assert(this.#state === 'new', 'recover is called once, first');
    this.#state = 'open';
    visitor.snapshot(null);
  }

  async create(key: PartitionKey, logStartOffset = 0): Promise<void> {
    this.#assertOpen();
    assert(!this.#partitions.has(key), `partition ${key} exists`);
    this.#partitions.set(key, { key, run: new BatchRun(), logStartOffset, endOffset: logStartOffset });
  }

  async delete(key: PartitionKey): Promise<void> {
    const partition = this.#require(key);
    this.#bytes -= partition.run.sizeBytes;
    this.#partitions.delete(key);
  }

  async append(entries: readonly AppendEntry[]): Promise<void> {
    this.#checkAppend(entries);
    for (const entry of entries) {
      const partition = this.#require(entry.partition);
      partition.run.push(entry);
      partition.endOffset = entry.lastOffset + 1;
      this.#bytes += entry.records.length;
      this.#appendedBytes += entry.records.length;
    }
    this.#appends += 1;
  }

  async truncate(key: PartitionKey, endOffset: number): Promise<void> {
    const partition = this.#require(key);
    assert(endOffset >= partition.logStartOffset, `truncate of ${key} to ${endOffset}, below its log start offset`);
    const { run } = partition;
    for (let last = run.last(); last !== undefined && last.lastOffset >= endOffset; last = run.last()) {
      assert(last.baseOffset >= endOffset, `a batch of ${key} holds offset ${endOffset} inside`);
      run.pop();
      this.#bytes -= last.records.length;
    }
    partition.endOffset = Math.min(partition.endOffset, endOffset);
  }

  async deleteBefore(key: PartitionKey, offset: number): Promise<void> {
    const partition = this.#require(key);
    assert(offset <= partition.endOffset, `deleteBefore of ${key} to ${offset}, beyond its end offset`);
    const { run } = partition;
    for (let first = run.first(); first !== undefined && first.lastOffset < offset; first = run.first()) {
      run.shift();
      this.#bytes -= first.records.length;
    }
    partition.logStartOffset = Math.max(partition.logStartOffset, offset);
  }

  read(
    key: PartitionKey,
    offset: number,
    maxBytes: number,
    limitOffset: number,
  ): StoredBatch[] | Promise<StoredBatch[]> {
    const partition = this.#partitions.get(key);
    if (partition === undefined) return Promise.reject(unknownPartition(key));
    if (offset < partition.logStartOffset || offset > partition.endOffset) {
      return Promise.reject(offsetOutOfRange(key, offset, partition.logStartOffset, partition.endOffset));
    }
    this.#cacheHits += 1;
    return partition.run.collect(offset, maxBytes, limitOffset);
  }

  async findByTimestamp(key: PartitionKey, timestampMs: number): Promise<StoredBatch | null> {
    const partition = this.#partitions.get(key);
    if (partition === undefined) throw unknownPartition(key);
    return partition.run.findByTimestamp(timestampMs, partition.logStartOffset);
  }

  info(key: PartitionKey): PartitionInfo | undefined {
    const partition = this.#partitions.get(key);
    return partition === undefined ? undefined : infoOf(partition);
  }

  partitions(): PartitionInfo[] {
    return [...this.#partitions.values()].map(infoOf);
  }

  capacity(): Capacity {
    if (this.#state === 'closed') return { state: 'offline', reason: 'the log is closed' };
    if (this.#bytes < this.#maxBytes) return { state: 'open' };
    return { state: 'full', reason: `the memory log holds ${this.#bytes} bytes, its limit is ${this.#maxBytes}` };
  }

  async whenOpen(): Promise<void> {}

  checkpointDue(): boolean {
    return false;
  }

  async checkpoint(_snapshot: Snapshot): Promise<void> {
    this.#assertOpen();
  }

  async close(_snapshot?: Snapshot): Promise<void> {
    this.#state = 'closed';
  }

  metrics(): LogStoreMetrics {
    return {
      appends: this.#appends,
      appendedBytes: this.#appendedBytes,
      commitCycles: this.#appends,
      commitMs: 0,
      checkpoints: 0,
      unwrittenBytes: 0,
      cacheBytes: this.#bytes,
      cacheHits: this.#cacheHits,
      cacheMisses: 0,
    };
  }

  /** Everything is checked before anything is changed, so that a bad append leaves nothing behind. */
  #checkAppend(entries: readonly AppendEntry[]): void {
    const ends = new Map<PartitionKey, number>();
    let bytes = 0;
    for (const entry of entries) {
      const partition = this.#require(entry.partition);
      checkAppendEntry(entry, ends.get(entry.partition) ?? partition.endOffset);
      ends.set(entry.partition, entry.lastOffset + 1);
      bytes += entry.records.length;
    }
    assert(bytes <= MAX_APPEND_BYTES, `an append of ${bytes} bytes, at most ${MAX_APPEND_BYTES}`);
  }

  #assertOpen(): void {
    if (this.#state === 'closed') throw new NaruError('STORAGE_ERROR', 'the log is closed');
    assert(this.#state === 'open', 'recover comes first');
  }

  #require(key: PartitionKey): MemoryPartition {
    this.#assertOpen();
    const partition = this.#partitions.get(key);
    if (partition === undefined) throw unknownPartition(key);
    return partition;
  }
}

function infoOf({ key, logStartOffset, endOffset, run }: MemoryPartition): PartitionInfo {
  return { partition: key, logStartOffset, endOffset, sizeBytes: run.sizeBytes };
}
