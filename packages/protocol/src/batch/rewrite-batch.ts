/**
 * A batch with only some of its records, as compaction writes it (KIP-534, KIP-98): what a reader takes from the rest is
 * the same as before, byte for byte.
 *
 * Kept are base offset, last offset, leader epoch, producer id, epoch and sequence, kind of timestamp, transactional and
 * control bits, and every record from its offset delta on. Set anew are record count, largest timestamp, base timestamp
 * with the deltas to it, length and checksum. Owns no decision on what stays (broker/core/compaction).
 */
import { NaruError } from '../errors.ts';
import { allocate } from '../allocate.ts';
import { BATCH_HEADER_BYTES, COMPRESSION_MASK, DELETE_HORIZON, writeRewrittenHeader } from './batch-header.ts';
import type { BatchHeader } from './batch-header.ts';
import { varintSize, writeVarint } from './bytes.ts';
import { decompressionLimit } from './compression.ts';
import type { CompressionCodecs } from './compression.ts';
import { openBatch } from './record-reader.ts';
import type { BatchRecord } from './record-reader.ts';

export interface RewriteOptions {
  /** Whether a record stays. Called once for each, in order, control records too. */
  retain(record: BatchRecord): boolean;
  /**
   * The delete horizon that the batch gets when it keeps a tombstone and has none yet: milliseconds since the Unix epoch,
   * an integer. Default: none is set.
   */
  readonly deleteHorizonMs?: number | undefined;
}

interface KeptRecord {
  readonly attributes: number;
  /** What the record itself says of its time, whatever log append time says. */
  readonly timestampMs: number;
  /** From the offset delta on. */
  readonly tail: Uint8Array;
}

/** A record that says that its key is gone. */
export function isTombstone(record: BatchRecord): boolean {
  return record.key !== null && record.value === null;
}

/**
 * `batch` with the records that stay; `batch` itself when that changes nothing, null when none stay.
 *
 * The result can be larger than `batch`, by a few bytes for each record (deltas to the delete horizon), or where what is left
 * does not compress. It is never one that readers refuse.
 *
 * @param codecs needed for compressed batches
 * @throws NaruError as decodeRecords; INVALID_RECORD or RECORD_TOO_LARGE when it is readable, but its timestamps or what it
 *   compresses to cannot be written again: keep it as it is
 */
export function rewriteBatch(
  batch: Uint8Array,
  options: RewriteOptions,
  codecs?: CompressionCodecs,
): Uint8Array | null {
  const reader = openBatch(batch, codecs);
  const { header } = reader;
  const kept: KeptRecord[] = [];
  let keepsTombstone = false;
  let maxTimestampMs = -Infinity;
  for (let record = reader.next(); record !== null; record = reader.next()) {
    if (!options.retain(record)) continue;
    keepsTombstone ||= isTombstone(record);
    maxTimestampMs = Math.max(maxTimestampMs, record.timestampMs);
    const timestampMs = header.baseTimestampMs + reader.timestampDelta;
    kept.push({ attributes: reader.attributes, timestampMs, tail: reader.tail });
  }
  const horizonMs = header.deleteHorizonMs ?? (keepsTombstone ? (options.deleteHorizonMs ?? null) : null);
  if (kept.length === header.recordCount && horizonMs === header.deleteHorizonMs) return batch;
  const [first] = kept;
  if (first === undefined) return null;

  const baseTimestampMs = horizonMs ?? first.timestampMs;
  const { bytes, compression } = packRecords(kept, baseTimestampMs, header, codecs);
  const attributes = (header.attributes & ~COMPRESSION_MASK) | compression | (horizonMs === null ? 0 : DELETE_HORIZON);
  writeRewrittenHeader(bytes, batch, { attributes, baseTimestampMs, maxTimestampMs, recordCount: kept.length });
  return bytes;
}

/** The records behind room for a header, compressed as the batch was unless that no longer gains anything. */
function packRecords(
  kept: readonly KeptRecord[],
  baseTimestampMs: number,
  header: BatchHeader,
  codecs: CompressionCodecs | undefined,
): { bytes: Uint8Array; compression: number } {
  const plain = writeRecords(kept, baseTimestampMs);
  if (header.compression === 'none' || codecs === undefined) return { bytes: plain, compression: 0 };
  const records = plain.subarray(BATCH_HEADER_BYTES);
  const compressed = codecs.compress(header.compression, records);
  if (records.length > decompressionLimit(compressed.length)) {
    // Left uncompressed it could be many times the size of any batch that a publisher may send.
    const message = `${records.length} bytes of records compress to ${compressed.length}, which readers would refuse`;
    throw new NaruError('RECORD_TOO_LARGE', message);
  }
  if (compressed.length >= records.length) return { bytes: plain, compression: 0 };
  const bytes = allocate(BATCH_HEADER_BYTES + compressed.length);
  bytes.set(compressed, BATCH_HEADER_BYTES);
  return { bytes, compression: header.attributes & COMPRESSION_MASK };
}

function writeRecords(kept: readonly KeptRecord[], baseTimestampMs: number): Uint8Array {
  let sizeBytes = BATCH_HEADER_BYTES;
  for (const record of kept) {
    const bodyBytes = bodySize(record, baseTimestampMs);
    sizeBytes += varintSize(bodyBytes) + bodyBytes;
  }
  const bytes = allocate(sizeBytes);
  let position = BATCH_HEADER_BYTES;
  for (const record of kept) {
    position = writeVarint(bytes, position, bodySize(record, baseTimestampMs));
    bytes[position++] = record.attributes;
    position = writeVarint(bytes, position, record.timestampMs - baseTimestampMs);
    bytes.set(record.tail, position);
    position += record.tail.length;
  }
  return bytes;
}

/** Bytes of a record after its length. */
function bodySize({ timestampMs, tail }: KeptRecord, baseTimestampMs: number): number {
  const delta = timestampMs - baseTimestampMs;
  if (!Number.isSafeInteger(timestampMs) || !Number.isSafeInteger(delta)) {
    throw new NaruError('INVALID_RECORD', `a record's time lies too far from the batch's base ${baseTimestampMs}`);
  }
  return 1 + varintSize(delta) + tail.length;
}
