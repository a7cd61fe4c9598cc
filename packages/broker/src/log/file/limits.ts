/** Every limit of the file engine, with its default, in one table. */
import { assert } from '@naru/base';

const KIB = 1024;
const MIB = 1024 * KIB;

export interface FileLogLimits {
  /** Size of one journal file, a multiple of 4096. Preallocated, so it is also what a first start writes. */
  readonly journalFileBytes: number;
  /** All journal files together; at least three files. Reaching it is `busy` until a checkpoint has freed some. */
  readonly journalBytes: number;
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
  /** Recent batches kept in memory over all partitions, unwritten ones included. */
  readonly cacheBytes: number;
  /** A segment is closed before it grows beyond this size (one larger batch is still taken). */
  readonly segmentBytes: number;
  /** A segment is closed by the first write after this age. */
  readonly segmentAgeMs: number;
  /** One sparse index entry for about this many bytes of a segment. */
  readonly indexIntervalBytes: number;
  /** Indexes of closed segments kept in memory. */
  readonly loadedIndexes: number;
  /** Open segment files. */
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
}

export const DEFAULT_FILE_LOG_LIMITS: FileLogLimits = {
  journalFileBytes: 64 * MIB,
  journalBytes: 256 * MIB,
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
};

export function resolveFileLogLimits(limits: Partial<FileLogLimits> = {}): FileLogLimits {
  const resolved = { ...DEFAULT_FILE_LOG_LIMITS, ...limits };
  assert(resolved.journalFileBytes % 4096 === 0, 'journalFileBytes is a multiple of 4096');
  assert(resolved.journalBytes >= 3 * resolved.journalFileBytes, 'journalBytes allows at least three journal files');
  return resolved;
}
