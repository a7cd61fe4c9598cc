/**
 * One segment: a file with consecutive batches of a partition, named by an offset at or below its first batch's.
 *
 * Owns what is known of the file in memory, and walking over it. Writing is the segment writer's.
 *
 * Invariant: `sizeBytes` ends at a batch boundary, and everything before it is written (durable or not).
 */
import type { DiskFile } from '@naru/base';
import { BATCH_HEADER_BYTES, crc32c } from '@naru/protocol/batch';
import type { StoredBatch } from '../log-store.ts';
import { readInt32, readInt64, readUint32 } from './byte-fields.ts';
import type { CheckpointSegment } from './checkpoint.ts';
import { DamagedFileError } from './damaged-file-error.ts';
import { NO_TIMESTAMP, SparseIndex } from './sparse-index.ts';

const NAME_DIGITS = 20;
const SEGMENT_FILE = /^(\d{20})(?:-([1-9]\d{0,14}))?\.(?:log|index)$/;
/** Read at a time while batch headers are walked. */
const WALK_BYTES = 256 * 1024;
const PREFIX_BYTES = 12;
/** What the batch's own checksum covers begins here. */
const CRC_START = 21;

export class Segment {
  readonly baseOffset: number;
  /** Without suffix. */
  readonly path: string;
  readonly createdMs: number;
  /** Tells files of the same base offset apart: 0 as first written, higher ones were made by compaction or after it. */
  readonly generation: number;
  sizeBytes: number;
  /** Upper bound of the batches' timestamps. */
  maxTimestampMs: number;
  /** Nothing is appended any more. */
  closed = false;
  /** Closed, and its index is in a file. */
  sealed = false;
  removed = false;
  /** Covers the file from {@link indexedFrom} on. */
  index: SparseIndex;
  /** 0 when the index is complete; otherwise the part before it has yet to be loaded. */
  indexedFrom: number;
  /** The load under way. */
  loading: Promise<void> | null = null;

  constructor(directory: string, state: CheckpointSegment, indexIntervalBytes: number) {
    this.baseOffset = state.baseOffset;
    this.generation = state.generation;
    this.path = `${directory}/${segmentName(state)}`;
    this.createdMs = state.createdMs;
    this.sizeBytes = state.sizeBytes;
    this.maxTimestampMs = state.maxTimestampMs;
    this.index = new SparseIndex(indexIntervalBytes);
    this.indexedFrom = state.sizeBytes;
  }

  get logPath(): string {
    return `${this.path}.log`;
  }

  get indexPath(): string {
    return `${this.path}.index`;
  }

  /** A batch was written at the end. */
  grow(batch: StoredBatch): void {
    this.index.note(batch.baseOffset, this.sizeBytes, this.maxTimestampMs);
    this.sizeBytes += batch.records.length;
    this.maxTimestampMs = Math.max(this.maxTimestampMs, batch.maxTimestampMs);
  }

  /** The file was cut. */
  shrink(sizeBytes: number): void {
    this.sizeBytes = sizeBytes;
    this.indexedFrom = Math.min(this.indexedFrom, sizeBytes);
    this.index.truncate(sizeBytes);
  }

  state(): CheckpointSegment {
    const { baseOffset, generation, sizeBytes, maxTimestampMs, createdMs } = this;
    return { baseOffset, generation, sizeBytes, maxTimestampMs, createdMs };
  }
}

/** Name of a segment's files without suffix: `<base>`, from generation 1 on `<base>-<generation>`. */
export function segmentName({ baseOffset, generation }: { baseOffset: number; generation: number }): string {
  const base = String(baseOffset).padStart(NAME_DIGITS, '0');
  return generation === 0 ? base : `${base}-${generation}`;
}

/** The base offset in a segment's or index's file name, or null for other names. */
export function segmentBaseOffset(name: string): number | null {
  const match = SEGMENT_FILE.exec(name);
  return match === null ? null : Number(match[1]);
}

/** The generation in a segment's or index's file name, or null for other names. */
export function segmentGeneration(name: string): number | null {
  const match = SEGMENT_FILE.exec(name);
  return match === null ? null : Number(match[2] ?? 0);
}

export function newSegmentState(baseOffset: number, createdMs: number, generation = 0): CheckpointSegment {
  return { baseOffset, generation, sizeBytes: 0, maxTimestampMs: NO_TIMESTAMP, createdMs };
}

/** What the header of a stored batch says. */
export interface StoredHeader {
  readonly position: number;
  readonly sizeBytes: number;
  readonly baseOffset: number;
  readonly lastOffset: number;
  readonly maxTimestampMs: number;
}

/** The batch header at `at` in `bytes`, which stands at `position` in the file; null when there cannot be one. */
export function readStoredHeader(bytes: Uint8Array, at: number, position: number): StoredHeader | null {
  if (bytes.length - at < BATCH_HEADER_BYTES || bytes[at + 16] !== 2) return null;
  const sizeBytes = readInt32(bytes, at + 8) + PREFIX_BYTES;
  const baseOffset = readInt64(bytes, at);
  const lastOffset = baseOffset + readInt32(bytes, at + 23);
  if (sizeBytes < BATCH_HEADER_BYTES || lastOffset < baseOffset || !Number.isSafeInteger(lastOffset)) return null;
  return { position, sizeBytes, baseOffset, lastOffset, maxTimestampMs: readInt64(bytes, at + 35) };
}

/** The batch with this header, checked. @throws NaruError DATA_CORRUPT */
export function checkedBatch(bytes: Uint8Array, at: number, header: StoredHeader, path: string): StoredBatch {
  const batch = batchOrDamage(bytes, at, header, path);
  if (batch instanceof DamagedFileError) throw batch;
  return batch;
}

/** The batch with this header, or how it is damaged. */
export function batchOrDamage(
  bytes: Uint8Array,
  at: number,
  header: StoredHeader,
  path: string,
): StoredBatch | DamagedFileError {
  const records = bytes.subarray(at, at + header.sizeBytes);
  if (crc32c(records.subarray(CRC_START)) !== readUint32(records, 17)) {
    return damaged(path, header.position, `the batch of offset ${header.baseOffset} does not match its checksum`);
  }
  const { baseOffset, lastOffset, maxTimestampMs } = header;
  return { baseOffset, lastOffset, maxTimestampMs, records };
}

export function damaged(path: string, position: number, what: string): DamagedFileError {
  return new DamagedFileError('stored data is', path, position, what);
}

/**
 * Walks the batch headers from `from` up to `to`, both batch boundaries, until `visit` returns false.
 *
 * @throws NaruError DATA_CORRUPT where there is no batch
 */
export async function walkBatches(
  file: DiskFile,
  path: string,
  from: number,
  to: number,
  visit: (header: StoredHeader) => boolean | undefined,
): Promise<void> {
  let window = new Uint8Array(0);
  let windowAt = from;
  for (let at = from; at < to;) {
    if (at + BATCH_HEADER_BYTES > windowAt + window.length) {
      const bytes = new Uint8Array(Math.min(WALK_BYTES, to - at));
      window = bytes.subarray(0, await file.read(bytes, at));
      windowAt = at;
    }
    const header = readStoredHeader(window, at - windowAt, at);
    if (header === null || at + header.sizeBytes > to) throw damaged(path, at, 'no whole record batch begins here');
    if (visit(header) === false) return;
    at += header.sizeBytes;
  }
}
