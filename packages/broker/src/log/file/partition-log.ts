/**
 * One partition: what is visible of it (durable in the journal), and what of that is in segment files.
 *
 * Owns the state and its rules; the journal decides when operations are applied, the segment writer moves batches from the
 * tail to the files.
 *
 * Three ends, in this order: `writtenEnd` ≤ `endOffset` ≤ `submittedEnd`.
 * - Batches below `writtenEnd` are in segments, except for what a pending cut is about to remove.
 * - Batches from `tailStart` on are in the tail; all unwritten ones are.
 * - Readers go to the files only below `tailStart`, so they never meet what a pending cut has yet to remove.
 */
import type { PartitionKey } from '@naru/base';
import { assert } from '@naru/base';
import { checkAppendEntry } from '../append-entry.ts';
import { BatchRun } from '../batch-run.ts';
import type { AppendEntry, PartitionInfo, StoredBatch } from '../log-store.ts';
import { keyToBytes } from './byte-fields.ts';
import type { CheckpointPartition } from './checkpoint.ts';
import type { Segment } from './segment.ts';

export class PartitionLog {
  readonly key: PartitionKey;
  readonly keyBytes: Uint8Array;
  readonly directory: string;

  /** As of everything submitted: what new operations are checked against. */
  submittedEnd: number;
  submittedStart: number;
  deleteSubmitted = false;

  logStartOffset: number;
  endOffset: number;
  readonly tail = new BatchRun();
  tailStart: number;
  /** Changes whenever something that is visible goes away: a read under way starts over. */
  epoch = 0;
  deleted = false;

  segments: Segment[] = [];
  /** Bytes of {@link segments}. */
  segmentBytes = 0;
  writtenEnd: number;
  unwrittenBytes = 0;
  /** The files are to be cut to this offset; Infinity when they are not. */
  pendingCut = Infinity;
  /** Everything below was compacted, as far as it is in segments. Below the log start offset when nothing was. */
  cleanEnd: number;
  /** The lowest truncate since the present rewrite began: what that made of offsets beyond is thrown away. */
  rewriteCut = Infinity;
  /** Replaced by compaction, still on disk: the newest durable checkpoint may list them. */
  readonly superseded = new Set<Segment>();
  /** Of the next segment that may not have the plain name. */
  nextGeneration = 1;
  directoryReady = false;
  /** The segment writer has it in its queue. */
  queued = false;
  /** The segment writer leaves it alone: recovery has not come to the truncate that its files were cut for. */
  held = false;
  /** Files and directory are gone. */
  erased = false;

  constructor(key: PartitionKey, segmentsDirectory: string, logStartOffset: number, endOffset: number) {
    this.key = key;
    this.keyBytes = keyToBytes(key);
    this.directory = `${segmentsDirectory}/${partitionDirectoryName(key)}`;
    this.logStartOffset = logStartOffset;
    this.submittedStart = logStartOffset;
    this.endOffset = endOffset;
    this.submittedEnd = endOffset;
    this.tailStart = endOffset;
    this.writtenEnd = endOffset;
    this.cleanEnd = logStartOffset;
  }

  info(): PartitionInfo {
    const sizeBytes = this.segmentBytes + this.unwrittenBytes;
    return { partition: this.key, logStartOffset: this.logStartOffset, endOffset: this.endOffset, sizeBytes };
  }

  append(batch: StoredBatch): void {
    this.endOffset = batch.lastOffset + 1;
    if (batch.lastOffset < this.cleanEnd) {
      // Replayed, and compacted in its segment before the checkpoint was written: readers are to see that.
      this.tailStart = this.endOffset;
      return;
    }
    this.tail.push(batch);
    if (batch.lastOffset >= this.writtenEnd) this.unwrittenBytes += batch.records.length;
  }

  /**
   * A batch that holds `endOffset` inside goes too: replay can meet one that compaction had removed before the truncate.
   *
   * @returns batches that left the tail
   */
  truncate(endOffset: number): StoredBatch[] {
    this.epoch += 1;
    const removed: StoredBatch[] = [];
    for (let last = this.tail.last(); last !== undefined && last.lastOffset >= endOffset; last = this.tail.last()) {
      this.tail.pop();
      removed.push(last);
      if (last.lastOffset >= this.writtenEnd) this.unwrittenBytes -= last.records.length;
    }
    // Also when the files end before: a write under way may be adding batches beyond.
    this.pendingCut = Math.min(this.pendingCut, endOffset);
    this.endOffset = Math.min(this.endOffset, endOffset);
    this.tailStart = Math.min(this.tailStart, endOffset);
    this.writtenEnd = Math.min(this.writtenEnd, endOffset);
    this.cleanEnd = Math.min(this.cleanEnd, endOffset);
    this.rewriteCut = Math.min(this.rewriteCut, endOffset);
    return removed;
  }

  deleteBefore(offset: number): void {
    if (offset <= this.logStartOffset) return;
    this.epoch += 1;
    this.logStartOffset = offset;
  }

  /** @returns batches that left the tail */
  delete(): StoredBatch[] {
    this.epoch += 1;
    this.deleted = true;
    this.unwrittenBytes = 0;
    const removed = this.tail.collect(0, Infinity, Infinity);
    this.tail.clear();
    return removed;
  }

  /** The segment writer has written `batches`; some may have been truncated meanwhile. */
  markWritten(batches: readonly StoredBatch[]): void {
    if (this.deleted) return;
    for (const batch of batches) {
      if (batch.lastOffset < this.pendingCut) this.unwrittenBytes -= batch.records.length;
    }
    const end = (batches.at(-1) as StoredBatch).lastOffset + 1;
    this.writtenEnd = Math.max(this.writtenEnd, Math.min(end, this.pendingCut));
  }

  /** Whether the oldest batch of the tail is in its segment, so that it may leave memory. */
  canEvict(): boolean {
    const first = this.tail.first();
    return first !== undefined && first.lastOffset < this.writtenEnd;
  }

  /** Takes the oldest batch out of the tail, which is not empty. */
  evict(): StoredBatch {
    const batch = this.tail.shift();
    assert(batch !== undefined, `partition ${this.key} has nothing in memory`);
    this.tailStart = batch.lastOffset + 1;
    return batch;
  }

  /** Index in the tail of the first batch that is not in a segment. */
  firstUnwritten(): number {
    return this.tail.indexFrom(this.writtenEnd);
  }

  /** Offset after the last batch of segment `index`. */
  segmentEnd(index: number): number {
    return this.segments[index + 1]?.baseOffset ?? this.writtenEnd;
  }

  /** A generation that no segment of the partition has, nor any file beside them. */
  takeGeneration(): number {
    return this.nextGeneration++;
  }

  /** How many of the first segments lie wholly below the log start offset. */
  expiredSegments(): number {
    let count = 0;
    while (count < this.segments.length && this.segmentEnd(count) <= this.logStartOffset) count += 1;
    return count;
  }

  /** The physical side of a checkpoint, as it is now. */
  checkpointState(logStartOffset: number, endOffset: number): CheckpointPartition {
    // What lies below the log start offset is being removed.
    const segments = this.segments.slice(this.expiredSegments()).map((segment) => segment.state());
    const ends = { endOffset, fileEndOffset: this.writtenEnd, cleanEndOffset: this.cleanEnd };
    return { key: this.key, logStartOffset, ...ends, segments };
  }
}

/** Checks every batch against its partition, and only then counts them as submitted: bad ones leave nothing behind. */
export function submitBatches(entries: readonly AppendEntry[], logs: readonly PartitionLog[]): void {
  let checked = 0;
  const ends: number[] = [];
  try {
    for (; checked < entries.length; checked++) {
      const entry = entries[checked] as AppendEntry;
      const log = logs[checked] as PartitionLog;
      checkAppendEntry(entry, log.submittedEnd);
      ends.push(log.submittedEnd);
      log.submittedEnd = entry.lastOffset + 1;
    }
  } catch (error) {
    while (checked-- > 0) (logs[checked] as PartitionLog).submittedEnd = ends[checked] as number;
    throw error;
  }
}

export function partitionDirectoryName(key: PartitionKey): string {
  return key.replace(':', '-');
}
