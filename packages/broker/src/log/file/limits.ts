/** Every limit of the file engine, with its default, in one table. */
import { assert } from '@naru/base';
import { FRAME_ENTRY_BYTES, FRAME_HEADER_BYTES, alignUp } from './journal-frame.ts';

const KIB = 1024;
const MIB = 1024 * KIB;

export interface FileLogLimits {
  /** Size of one journal file, a multiple of 4096. Preallocated, so it is also what a first start writes. */
  readonly journalFileBytes: number;
  /** All journal files together; at least three files. Reaching it is `busy` until a checkpoint has freed some. */
  readonly journalBytes: number;
  /**
   * How long a journal file is kept after a checkpoint has made it superfluous, with the checkpoints from which it could be
   * read; beside {@link journalBytes}. Should the newest checkpoint be damaged, an older one then serves.
   */
  readonly journalKeepMs: number;
  /** Checkpoints that are kept with it. */
  readonly keptCheckpoints: number;
  /** Record bytes that one append takes at most. */
  readonly maxAppendBytes: number;
  /** Operations that wait while a frame is being written are merged into the next one up to this many bytes. */
  readonly mergedFrameBytes: number;
  /** Bytes submitted and not yet in the journal, beyond which the store is `busy`. */
  readonly pendingBytes: number;
  /** Journal bytes after the last checkpoint from which another one is due. */
  readonly checkpointBytes: number;
  /** Bytes in the journal that are not in their segments yet, beyond which the store is `busy`. */
  readonly unwrittenBytes: number;
  /** Memory of the recent batches over all partitions, unwritten ones included. */
  readonly cacheBytes: number;
  /** A segment is closed before it grows beyond this size (one larger batch is still taken). */
  readonly segmentBytes: number;
  /** A segment is closed by the first write after this age. */
  readonly segmentAgeMs: number;
  /** One sparse index entry for about this many bytes of a segment. */
  readonly indexIntervalBytes: number;
  /** Indexes of closed segments kept in memory. */
  readonly loadedIndexes: number;
  /** Open segment files. The broker keeps as many as its process may open, see storage.ts. */
  readonly openFiles: number;
  /** Largest single write to a segment. */
  readonly segmentWriteBytes: number;
  /** How long the segment writer lets little data gather, for larger writes. */
  readonly writeBehindDelayMs: number;
  /** Unwritten bytes from which the segment writer does not wait any more. */
  readonly writeBehindBytes: number;
  /** First and longest wait after a full disk. */
  readonly fullRetryMs: number;
  readonly fullRetryMaxMs: number;
  /** Bytes that one read from segments returns at most (one larger batch is still returned). */
  readonly readBytes: number;
  /** Bytes that all reads from segments under way may return together; further ones wait their turn. */
  readonly readingBytes: number;
  /** Compaction reads, changes and writes this much between two turns of the event loop. */
  readonly rewriteChunkBytes: number;
  /** Compaction syncs its output each time that it has grown by this much: no sync is so long that it holds up others. */
  readonly rewriteSyncBytes: number;
  /** Bytes of files that compaction replaced from which a checkpoint is due, which frees them. */
  readonly supersededBytes: number;
  /** How long closing waits for the last checkpoint while the disk is full. */
  readonly closeMs: number;
}

export const DEFAULT_FILE_LOG_LIMITS: FileLogLimits = {
  journalFileBytes: 64 * MIB,
  journalBytes: 256 * MIB,
  journalKeepMs: 0,
  keptCheckpoints: 16,
  maxAppendBytes: 8 * MIB,
  mergedFrameBytes: 8 * MIB,
  pendingBytes: 64 * MIB,
  checkpointBytes: 64 * MIB,
  unwrittenBytes: 128 * MIB,
  cacheBytes: 128 * MIB,
  segmentBytes: 128 * MIB,
  segmentAgeMs: 7 * 86_400_000,
  indexIntervalBytes: 16 * KIB,
  loadedIndexes: 128,
  openFiles: 512,
  segmentWriteBytes: 4 * MIB,
  writeBehindDelayMs: 100,
  writeBehindBytes: 1 * MIB,
  fullRetryMs: 100,
  fullRetryMaxMs: 5_000,
  readBytes: 16 * MIB,
  readingBytes: 64 * MIB,
  rewriteChunkBytes: 1 * MIB,
  rewriteSyncBytes: 16 * MIB,
  supersededBytes: 256 * MIB,
  closeMs: 10_000,
};

export function resolveFileLogLimits(limits: Partial<FileLogLimits> = {}): FileLogLimits {
  const resolved = { ...DEFAULT_FILE_LOG_LIMITS, ...limits };
  assert(resolved.journalFileBytes % 4096 === 0, 'journalFileBytes is a multiple of 4096');
  assert(resolved.journalBytes >= 3 * resolved.journalFileBytes, 'journalBytes allows at least three journal files');
  return resolved;
}

/** A batch is 61 bytes at least, so that an append's entry table is never larger than its batches. */
const WORST_ENTRY_OVERHEAD = 2;

/** Bytes of the largest journal frame that there can be. */
export function largestFrameBytes({ maxAppendBytes, mergedFrameBytes }: FileLogLimits): number {
  const largest = Math.max(maxAppendBytes * WORST_ENTRY_OVERHEAD, mergedFrameBytes);
  return alignUp(largest + FRAME_HEADER_BYTES + FRAME_ENTRY_BYTES);
}
