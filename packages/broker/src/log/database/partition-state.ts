/**
 * One partition of a database engine: what is visible of it, its newest batches in memory, and what new operations are
 * checked against.
 *
 * Owns the state and its rules; commit-loop.ts decides when an operation is applied, and recovery applies the same ones.
 *
 * - Batches from `tailStart` on are in the tail. Readers go to the database only below it.
 * - `submitted…` is as of everything that was called, the rest as of what is durable.
 */
import type { PartitionKey } from '@naru/base';
import { assert } from '@naru/base';
import { BatchRun } from '../batch-run.ts';
import type { CompactionStatus, PartitionInfo, StoredBatch } from '../log-store.ts';
import type { PiecesState } from './partition-pieces.ts';
import { PartitionPieces } from './partition-pieces.ts';

/** The newest batch: compaction never touches it. */
export interface NewestBatch {
  readonly baseOffset: number;
  readonly lastOffset: number;
  readonly sizeBytes: number;
}

/** What of a cut is known only by looking: JSON in the operation's row. */
export interface CutDetail {
  /** Of the batches that it removes. */
  readonly bytes: number;
  /** The newest batch that is left, of a truncate. */
  readonly newest: NewestBatch | null;
}

/** What compaction did: JSON in the operation's row. */
export interface RewriteDetail {
  readonly freedBytes: number;
  /** Bytes below the operation's offset, when that is clean now; null while compaction goes on. */
  readonly cleanBytes: number | null;
}

/** As JSON in the partition's row. */
interface PersistentState {
  readonly logStartOffset: number;
  readonly endOffset: number;
  readonly newest: NewestBatch | null;
  readonly pieces: PiecesState;
}

export class DatabasePartition {
  readonly id: number;
  readonly key: PartitionKey;
  submittedStart: number;
  submittedEnd: number;
  deleteSubmitted = false;
  /** Lowest offset that was truncated to while compaction reads; Infinity when none was. */
  truncateSubmitted = Infinity;

  logStartOffset: number;
  endOffset: number;
  newest: NewestBatch | null = null;
  readonly tail = new BatchRun();
  tailStart: number;
  /** Changes whenever something that is visible goes away or is replaced: a read under way starts over. */
  epoch = 0;
  deleted = false;
  #pieces: PartitionPieces;

  constructor(id: number, key: PartitionKey, logStartOffset: number) {
    this.id = id;
    this.key = key;
    this.logStartOffset = logStartOffset;
    this.submittedStart = logStartOffset;
    this.endOffset = logStartOffset;
    this.submittedEnd = logStartOffset;
    this.tailStart = logStartOffset;
    this.#pieces = new PartitionPieces(logStartOffset);
  }

  static restore(id: number, key: PartitionKey, json: string): DatabasePartition {
    const state = JSON.parse(json) as PersistentState;
    const partition = new DatabasePartition(id, key, state.logStartOffset);
    partition.endOffset = state.endOffset;
    partition.tailStart = state.endOffset;
    partition.newest = state.newest;
    partition.#pieces = new PartitionPieces(state.logStartOffset, state.pieces);
    partition.settle();
    return partition;
  }

  toJson(): string {
    const { logStartOffset, endOffset, newest } = this;
    return JSON.stringify({
      logStartOffset,
      endOffset,
      newest,
      pieces: this.#pieces.state(),
    } satisfies PersistentState);
  }

  info(): PartitionInfo {
    const { key, logStartOffset, endOffset } = this;
    return { partition: key, logStartOffset, endOffset, sizeBytes: this.#pieces.bytes };
  }

  /** Nothing is submitted beyond what is durable. */
  settle(): void {
    this.submittedStart = this.logStartOffset;
    this.submittedEnd = this.endOffset;
  }

  append(batch: StoredBatch): void {
    const { baseOffset, lastOffset, records } = batch;
    this.tail.push(batch);
    this.endOffset = lastOffset + 1;
    this.newest = { baseOffset, lastOffset, sizeBytes: records.length };
    this.#pieces.append(batch);
  }

  truncate(offset: number, { bytes, newest }: CutDetail): void {
    if (offset >= this.endOffset) return;
    this.epoch += 1;
    for (let last = this.tail.last(); last !== undefined && last.lastOffset >= offset; last = this.tail.last()) {
      assert(last.baseOffset >= offset, `a batch of ${this.key} holds offset ${offset} inside`);
      this.tail.pop();
    }
    this.endOffset = offset;
    this.tailStart = Math.min(this.tailStart, offset);
    this.newest = newest;
    this.#pieces.cutEnd(offset, bytes);
  }

  deleteBefore(offset: number, { bytes }: CutDetail): void {
    if (offset <= this.logStartOffset) return;
    for (let first = this.tail.first(); first !== undefined && first.lastOffset < offset; first = this.tail.first())
      this.tail.shift();
    this.logStartOffset = offset;
    this.tailStart = Math.max(this.tailStart, offset);
    if (this.newest !== null && this.newest.lastOffset < offset) this.newest = null;
    this.#pieces.cutStart(offset, bytes);
  }

  /** Batches below `offset` are others now. */
  rewrite(offset: number, { freedBytes, cleanBytes }: RewriteDetail): void {
    this.epoch += 1;
    while (this.tail.length > 0 && (this.tail.first() as StoredBatch).lastOffset < offset) this.tail.shift();
    this.tailStart = Math.max(this.tailStart, Math.min(offset, this.endOffset));
    this.#pieces.shrink(offset, freedBytes);
    if (cleanBytes !== null) this.#pieces.clean(offset, cleanBytes);
  }

  delete(): void {
    this.epoch += 1;
    this.deleted = true;
    this.tail.clear();
  }

  /** Lets the oldest batch of the tail go: it is in the database. */
  evict(): void {
    const batch = this.tail.shift();
    if (batch !== undefined) this.tailStart = batch.lastOffset + 1;
  }

  /** As LogStore.compactionStatus. */
  compactionStatus(beforeMs: number, beforeOffset = Infinity): CompactionStatus {
    const { newest, logStartOffset } = this;
    const pieces = this.#pieces;
    const cleanEndOffset = Math.max(pieces.cleanEnd, logStartOffset);
    const { bytes, cleanBytes } = pieces;
    const everything = Math.max(cleanEndOffset, newest === null ? this.endOffset : newest.baseOffset);
    let end = everything;
    let endBytes = bytes - (newest?.sizeBytes ?? 0);
    let start = cleanEndOffset;
    let before = cleanBytes;
    let dirtySinceMs: number | null = null;
    for (const piece of pieces.dirty) {
      dirtySinceMs = Math.min(dirtySinceMs ?? Infinity, piece.minTimestampMs);
      if ((piece.maxTimestampMs >= beforeMs || piece.endOffset > beforeOffset) && start < end) {
        end = start;
        endBytes = before;
      }
      start = piece.endOffset;
      before += piece.bytes;
    }
    // The newest batch alone can be all of the clean part: what was after it is truncated.
    const dirtyBytes = Math.max(0, endBytes - cleanBytes);
    return {
      cleanEndOffset,
      cleanBytes,
      endOffset: end,
      dirtyBytes,
      openBytes: bytes - cleanBytes - dirtyBytes,
      dirtySinceMs,
    };
  }

  /** Where to begin to look for the first batch of `timestampMs` or later; null when there is none. */
  searchFrom(timestampMs: number): number | null {
    const from = this.#pieces.firstWith(timestampMs, this.logStartOffset);
    return from === null ? null : Math.max(from, this.logStartOffset);
  }

  /**
   * Between which offsets the boundary lies from which on at most `maxBytes` are stored: everything from `below` on fits,
   * `bytes` of it, and everything from `from` on does not.
   */
  sizeBoundary(maxBytes: number): { from: number; below: number; bytes: number } {
    const { dirty, cleanEnd } = this.#pieces;
    let bytes = 0;
    let below = this.endOffset;
    for (let i = dirty.length - 1; i >= 0; i--) {
      const piece = dirty[i] as { endOffset: number; bytes: number };
      const from = dirty[i - 1]?.endOffset ?? cleanEnd;
      if (bytes + piece.bytes > maxBytes) return { from: Math.max(from, this.logStartOffset), below, bytes };
      bytes += piece.bytes;
      below = from;
    }
    return { from: this.logStartOffset, below, bytes };
  }
}
