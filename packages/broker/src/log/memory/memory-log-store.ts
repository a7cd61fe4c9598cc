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
import { checkAppendEntry, offsetOutOfRange, rewrittenBatch, unknownPartition } from '../append-entry.ts';
import { BatchRun } from '../batch-run.ts';
import { ownMemory } from '../own-memory.ts';
import type {
  AppendEntry,
  Capacity,
  CompactionStatus,
  LogStore,
  LogStoreMetrics,
  PartitionInfo,
  RecoveryVisitor,
  Rewriter,
  Snapshot,
  StoredBatch,
} from '../log-store.ts';

export interface MemoryLogStoreOptions {
  /** Bytes of batches beyond which {@link MemoryLogStore.capacity} is 'full'. Default 1 GiB. */
  readonly maxBytes?: number | undefined;
  /** Lets others run between the pieces of long work. Default: the event loop's next turn. */
  readonly yieldTurn?: (() => Promise<void>) | undefined;
}

const DEFAULT_MAX_BYTES = 1024 ** 3;
const MAX_APPEND_BYTES = 8 * 1024 ** 2;
/** Bytes that compaction looks at between two turns of the event loop. */
const REWRITE_CHUNK_BYTES = 1024 ** 2;

interface MemoryPartition {
  readonly key: PartitionKey;
  run: BatchRun;
  logStartOffset: number;
  endOffset: number;
  cleanEndOffset: number;
  /** The lowest truncate since the present rewrite began. */
  rewriteCut: number;
}

export class MemoryLogStore implements LogStore {
  readonly maxAppendBytes = MAX_APPEND_BYTES;
  readonly #maxBytes: number;
  readonly #yieldTurn: () => Promise<void>;
  readonly #partitions = new Map<PartitionKey, MemoryPartition>();
  #state: 'new' | 'open' | 'closed' = 'new';
  #bytes = 0;
  #appends = 0;
  #appendedBytes = 0;
  #cacheHits = 0;
  #rewriting = false;

  constructor(options: MemoryLogStoreOptions = {}) {
    this.#maxBytes = options.maxBytes ?? DEFAULT_MAX_BYTES;
    this.#yieldTurn = options.yieldTurn ?? ((): Promise<void> => new Promise((resolve) => setImmediate(resolve)));
  }

  async recover(visitor: RecoveryVisitor): Promise<void> {
    assert(this.#state === 'new', 'recover is called once, first');
    this.#state = 'open';
    visitor.snapshot(null);
  }

  async create(key: PartitionKey, logStartOffset = 0): Promise<void> {
    this.#assertOpen();
    assert(!this.#partitions.has(key), `partition ${key} exists`);
    const ends = { endOffset: logStartOffset, cleanEndOffset: logStartOffset, rewriteCut: Infinity };
    this.#partitions.set(key, { key, run: new BatchRun(), logStartOffset, ...ends });
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
      partition.run.push(ownMemory(entry));
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
    partition.cleanEndOffset = Math.min(partition.cleanEndOffset, endOffset);
    partition.rewriteCut = Math.min(partition.rewriteCut, endOffset);
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

  async findBySize(key: PartitionKey, maxBytes: number): Promise<number> {
    const partition = this.#partitions.get(key);
    if (partition === undefined) throw unknownPartition(key);
    const { run, logStartOffset, endOffset } = partition;
    const index = run.indexBySize(maxBytes);
    if (index === run.length) return run.length === 0 ? logStartOffset : endOffset;
    return Math.max(run.at(index).baseOffset, logStartOffset);
  }

  async seal(key: PartitionKey): Promise<void> {
    this.#require(key);
  }

  compactionStatus(key: PartitionKey, beforeMs = Infinity, beforeOffset = Infinity): CompactionStatus {
    const { run, logStartOffset, cleanEndOffset } = this.#require(key);
    const cleanEnd = Math.max(cleanEndOffset, logStartOffset);
    const newest = run.length - 1;
    let index = 0;
    const bytes = { clean: 0, dirty: 0, open: 0 };
    let dirtySinceMs = Infinity;
    let endOffset: number | null = null;
    for (; index <= newest; index++) {
      const { baseOffset, lastOffset, maxTimestampMs, records } = run.at(index);
      const isBeyond = index === newest || maxTimestampMs >= beforeMs || lastOffset >= beforeOffset;
      if (endOffset === null && isBeyond) endOffset = baseOffset;
      if (lastOffset < cleanEnd) bytes.clean += records.length;
      else {
        bytes[endOffset === null ? 'dirty' : 'open'] += records.length;
        dirtySinceMs = Math.min(dirtySinceMs, maxTimestampMs);
      }
    }
    return {
      cleanEndOffset: cleanEnd,
      cleanBytes: bytes.clean,
      endOffset: Math.max(endOffset ?? logStartOffset, logStartOffset),
      dirtyBytes: bytes.dirty,
      openBytes: bytes.open,
      dirtySinceMs: dirtySinceMs === Infinity ? null : dirtySinceMs,
    };
  }

  async rewrite(key: PartitionKey, endOffset: number, rewriter: Rewriter): Promise<void> {
    const partition = this.#require(key);
    assert(!this.#rewriting, 'one rewrite at a time');
    this.#rewriting = true;
    try {
      partition.rewriteCut = Infinity;
      // By batch, not by offset: what is truncated meanwhile may have a successor at the same offsets.
      const decisions = await this.#decide(partition, endOffset, rewriter);
      this.#replace(partition, decisions);
      partition.cleanEndOffset = Math.max(partition.cleanEndOffset, Math.min(endOffset, partition.rewriteCut));
    } finally {
      this.#rewriting = false;
    }
  }

  async #decide(
    partition: MemoryPartition,
    endOffset: number,
    rewriter: Rewriter,
  ): Promise<Map<StoredBatch, StoredBatch | null>> {
    const decisions = new Map<StoredBatch, StoredBatch | null>();
    let bytes = 0;
    for (const batch of partition.run.collect(partition.logStartOffset, Infinity, endOffset)) {
      decisions.set(batch, rewrittenBatch(batch, rewriter(batch)));
      bytes += batch.records.length;
      if (bytes < REWRITE_CHUNK_BYTES) continue;
      bytes = 0;
      await this.#yieldTurn();
      this.#requireSame(partition);
    }
    this.#requireSame(partition);
    return decisions;
  }

  #requireSame(partition: MemoryPartition): void {
    if (this.#require(partition.key) !== partition) throw unknownPartition(partition.key);
  }

  #replace(partition: MemoryPartition, decisions: ReadonlyMap<StoredBatch, StoredBatch | null>): void {
    const before = partition.run;
    const after = new BatchRun();
    const newest = before.last();
    for (let i = 0; i < before.length; i++) {
      const batch = before.at(i);
      const decision = decisions.get(batch);
      if (decision === undefined || (decision === null && batch === newest)) after.push(batch);
      else if (decision !== null) after.push(decision);
    }
    this.#bytes += after.sizeBytes - before.sizeBytes;
    partition.run = after;
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
