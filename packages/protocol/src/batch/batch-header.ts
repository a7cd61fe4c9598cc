/**
 * The header of a Kafka record batch v2 (KIP-98): reading it, checking a batch by it, and changing it in place.
 *
 * ```
 *  0 baseOffset           int64
 *  8 batchLength          int32   bytes after this field
 * 12 partitionLeaderEpoch int32
 * 16 magic                int8    2
 * 17 crc                  uint32  CRC-32C of everything from attributes on
 * 21 attributes           int16   0–2 compression, 3 log append time, 4 transactional, 5 control, 6 delete horizon
 * 23 lastOffsetDelta      int32
 * 27 baseTimestamp        int64   what records' timestamps are relative to; with bit 6 it is the delete horizon (KIP-534)
 * 35 maxTimestamp         int64
 * 43 producerId           int64
 * 51 producerEpoch        int16
 * 53 baseSequence         int32
 * 57 recordCount          int32
 * 61 records
 * ```
 *
 * Owns no records: nothing here looks beyond byte 61, so the broker's cost for a batch is one checksum.
 */
import { NaruError } from '../errors.ts';
import { readInt16, readInt32, readInt64, writeInt16, writeInt32, writeInt64 } from './bytes.ts';
import { COMPRESSION_TYPES } from './compression.ts';
import type { CompressionType } from './compression.ts';
import { crc32c } from './crc32c.ts';

/** Bytes before the first record. */
export const BATCH_HEADER_BYTES = 61;
/** Bytes of baseOffset and batchLength, which batchLength does not count. */
export const BATCH_PREFIX_BYTES = 12;
/** Where the bytes begin that the checksum covers. */
export const CRC_START = 21;
/** What batchLength, an int32, allows. */
export const MAX_BATCH_BYTES = 0x7fff_ffff;

const MAGIC = 2;
export const COMPRESSION_MASK = 0x07;
const LOG_APPEND_TIME = 0x08;
export const TRANSACTIONAL = 0x10;
export const CONTROL = 0x20;
export const DELETE_HORIZON = 0x40;

export interface BatchHeader {
  readonly baseOffset: number;
  /** The whole batch, header and prefix included. */
  readonly sizeBytes: number;
  /** −1 when no broker has set it. */
  readonly partitionLeaderEpoch: number;
  readonly magic: number;
  readonly crc: number;
  readonly attributes: number;
  readonly compression: CompressionType;
  /** `append`: every record's time is {@link maxTimestampMs}, set by the broker. */
  readonly timestampType: 'create' | 'append';
  readonly isTransactional: boolean;
  readonly isControl: boolean;
  /** Offset of the last record is `baseOffset + lastOffsetDelta`, also when compaction removed it. */
  readonly lastOffsetDelta: number;
  /** What records' times are relative to: milliseconds since the Unix epoch, −1 when the records have no time. */
  readonly baseTimestampMs: number;
  /**
   * When compaction may remove the batch's tombstones, milliseconds since the Unix epoch: set when it first kept them. Null
   * when it did not.
   */
  readonly deleteHorizonMs: number | null;
  readonly maxTimestampMs: number;
  /** −1 when the producer is not idempotent; epoch and sequence then mean nothing. */
  readonly producerId: number;
  readonly producerEpoch: number;
  readonly baseSequence: number;
  readonly recordCount: number;
}

function corrupt(message: string): NaruError {
  return new NaruError('CORRUPT_MESSAGE', message);
}

function readSafeInt64(bytes: Uint8Array, at: number, what: string): number {
  const value = readInt64(bytes, at);
  if (!Number.isSafeInteger(value)) throw corrupt(`${what} at byte ${at} is outside ±2^53`);
  return value;
}

/**
 * Bytes of the batch that begins at `position`, as its prefix says; they need not all be there. Undefined when not even
 * the prefix is.
 *
 * @throws NaruError CORRUPT_MESSAGE when the prefix says less than a header takes
 */
export function firstBatchSize(bytes: Uint8Array, position = 0): number | undefined {
  if (bytes.length - position < BATCH_PREFIX_BYTES) return undefined;
  const sizeBytes = readInt32(bytes, position + 8) + BATCH_PREFIX_BYTES;
  if (sizeBytes < BATCH_HEADER_BYTES || sizeBytes > MAX_BATCH_BYTES) {
    throw corrupt(`the batch at byte ${position} says that it has ${sizeBytes} bytes; a header alone has 61`);
  }
  return sizeBytes;
}

/** Whether a stored batch is part of a transaction, or a control batch: one look, where most are neither. */
export function isOfTransaction(batch: Uint8Array): boolean {
  return ((batch[22] as number) & (TRANSACTIONAL | CONTROL)) !== 0;
}

/**
 * The header of the batch that begins at `position`. The checksum is not checked and the records need not be there.
 *
 * @throws NaruError CORRUPT_MESSAGE when there are fewer than 61 bytes, or a field cannot be; INVALID_RECORD for the
 *   formats before v2; UNSUPPORTED_COMPRESSION_TYPE
 */
export function readBatchHeader(bytes: Uint8Array, position = 0): BatchHeader {
  if (bytes.length - position < BATCH_HEADER_BYTES) {
    throw corrupt(
      `a batch header takes 61 bytes; at byte ${position} there are ${Math.max(0, bytes.length - position)}`,
    );
  }
  const magic = ((bytes[position + 16] as number) << 24) >> 24;
  if (magic !== MAGIC) throw wrongMagic(magic, position);
  const sizeBytes = firstBatchSize(bytes, position) as number;
  const attributes = readInt16(bytes, position + 21);
  const compression = COMPRESSION_TYPES[attributes & COMPRESSION_MASK];
  if (compression === undefined) {
    const message = `the batch at byte ${position} has compression type ${attributes & COMPRESSION_MASK}; 0 to 4 are known`;
    throw new NaruError('UNSUPPORTED_COMPRESSION_TYPE', message);
  }
  const baseTimestampMs = readSafeInt64(bytes, position + 27, 'baseTimestamp');
  return {
    baseOffset: readSafeInt64(bytes, position, 'baseOffset'),
    sizeBytes,
    partitionLeaderEpoch: readInt32(bytes, position + 12),
    magic,
    crc: readInt32(bytes, position + 17) >>> 0,
    attributes,
    compression,
    timestampType: (attributes & LOG_APPEND_TIME) === 0 ? 'create' : 'append',
    isTransactional: (attributes & TRANSACTIONAL) !== 0,
    isControl: (attributes & CONTROL) !== 0,
    lastOffsetDelta: readInt32(bytes, position + 23),
    baseTimestampMs,
    deleteHorizonMs: (attributes & DELETE_HORIZON) === 0 ? null : baseTimestampMs,
    maxTimestampMs: readSafeInt64(bytes, position + 35, 'maxTimestamp'),
    producerId: readSafeInt64(bytes, position + 43, 'producerId'),
    producerEpoch: readInt16(bytes, position + 51),
    baseSequence: readInt32(bytes, position + 53),
    recordCount: readInt32(bytes, position + 57),
  };
}

function wrongMagic(magic: number, position: number): NaruError {
  if (magic !== 0 && magic !== 1) return corrupt(`the batch at byte ${position} has magic ${magic}; 2 is expected`);
  const message = `message format v${magic} is not accepted; send record batches v2 (Kafka 0.11 and later)`;
  return new NaruError('INVALID_RECORD', message);
}

/**
 * Checks that `bytes` is exactly one whole batch, undamaged; the records inside are not looked at.
 *
 * @param origin `client` (default): also what a publisher may send: one offset for each record, no control batch, no log
 *   append time or delete horizon, producer fields that go together. `stored`: batches may have lost records to compaction.
 * @throws NaruError CORRUPT_MESSAGE when it is damaged, UNSUPPORTED_COMPRESSION_TYPE, INVALID_RECORD when it is whole but
 *   not allowed
 */
export function verifyBatch(bytes: Uint8Array, origin: 'client' | 'stored' = 'client'): BatchHeader {
  const header = readBatchHeader(bytes);
  if (header.sizeBytes !== bytes.length) {
    throw corrupt(`the batch says that it has ${header.sizeBytes} bytes, but ${bytes.length} were given`);
  }
  const crc = crc32c(bytes.subarray(CRC_START));
  if (crc !== header.crc) {
    throw corrupt(`checksum mismatch: the batch says ${hex(header.crc)}, its ${bytes.length} bytes have ${hex(crc)}`);
  }
  if (header.recordCount < 0 || header.lastOffsetDelta < 0 || header.recordCount > header.lastOffsetDelta + 1) {
    throw invalid(`the batch has ${header.recordCount} records for offset deltas 0 to ${header.lastOffsetDelta}`);
  }
  if (origin === 'client') checkClientBatch(header);
  return header;
}

function checkClientBatch(header: BatchHeader): void {
  if (header.recordCount !== header.lastOffsetDelta + 1) {
    throw invalid(`the batch has ${header.recordCount} records for ${header.lastOffsetDelta + 1} offsets`);
  }
  if (header.isControl) throw invalid('control batches are written by the broker only');
  if (header.timestampType === 'append') throw invalid('log append time is set by the broker only');
  if (header.deleteHorizonMs !== null) throw invalid('a delete horizon is set by the broker only');
  if (header.producerId < -1) throw invalid(`producer id ${header.producerId} is negative`);
  if (header.producerId >= 0 && (header.producerEpoch < 0 || header.baseSequence < 0)) {
    throw invalid(
      `producer ${header.producerId} gave epoch ${header.producerEpoch} and sequence ${header.baseSequence}; ` +
        'both are 0 or more with a producer id',
    );
  }
  if (header.producerId === -1 && header.isTransactional) throw invalid('a transactional batch needs a producer id');
}

function invalid(message: string): NaruError {
  return new NaruError('INVALID_RECORD', message);
}

function hex(crc: number): string {
  return `0x${crc.toString(16).padStart(8, '0')}`;
}

export interface SplitOptions {
  /**
   * What to do with a last batch that is not all there: `ignore` (default; fetch answers are cut anywhere) or `refuse`
   * with CORRUPT_MESSAGE.
   */
  readonly partial?: 'ignore' | 'refuse' | undefined;
}

/**
 * Cuts `bytes` into its batches, without copying and without looking into them.
 *
 * @throws NaruError CORRUPT_MESSAGE when a prefix cannot be
 */
export function splitBatches(bytes: Uint8Array, options?: SplitOptions): Uint8Array[] {
  const batches: Uint8Array[] = [];
  let position = 0;
  while (position < bytes.length) {
    const sizeBytes = firstBatchSize(bytes, position);
    if (sizeBytes === undefined || sizeBytes > bytes.length - position) {
      if (options?.partial !== 'refuse') break;
      const what = sizeBytes === undefined ? 'has no whole prefix' : `should have ${sizeBytes} bytes`;
      throw corrupt(`the batch at byte ${position} ${what}, but only ${bytes.length - position} are there`);
    }
    batches.push(bytes.subarray(position, position + sizeBytes));
    position += sizeBytes;
  }
  return batches;
}

/** Sets what the broker decides, in place. The checksum does not cover it. */
export function setBatchOffsets(bytes: Uint8Array, baseOffset: number, leaderEpoch: number): void {
  writeInt64(bytes, 0, baseOffset);
  writeInt32(bytes, 12, leaderEpoch);
}

/**
 * Makes `timestampMs` the time of every record, in place, and sets the checksum anew.
 *
 * @param bytes exactly one whole batch
 * @param timestampMs milliseconds since the Unix epoch
 */
export function setLogAppendTime(bytes: Uint8Array, timestampMs: number): void {
  writeInt16(bytes, 21, readInt16(bytes, 21) | LOG_APPEND_TIME);
  writeInt64(bytes, 35, timestampMs);
  sealBatch(bytes);
}

/**
 * Gives a built batch to another producer epoch, in place, and sets the checksum anew. Only for batches that nobody is
 * sending.
 *
 * @param bytes exactly one whole batch
 */
export function rewriteProducer(
  bytes: Uint8Array,
  producerId: number,
  producerEpoch: number,
  baseSequence: number,
): void {
  writeInt64(bytes, 43, producerId);
  writeInt16(bytes, 51, producerEpoch);
  writeInt32(bytes, 53, baseSequence);
  sealBatch(bytes);
}

/** Sets the checksum of one whole batch, in place. */
export function sealBatch(bytes: Uint8Array): void {
  writeInt32(bytes, 17, crc32c(bytes.subarray(CRC_START)));
}

/**
 * A copy of one whole batch that says it ends with `lastOffset`. The records beyond it must have been taken out already.
 *
 * @param lastOffset from the base offset on
 */
export function cutBatch(bytes: Uint8Array, lastOffset: number): Uint8Array {
  const cut = new Uint8Array(bytes);
  writeInt32(cut, 23, lastOffset - readBatchHeader(bytes).baseOffset);
  sealBatch(cut);
  return cut;
}

/** What {@link writeBatchHeader} writes; attributes are taken apart from compression. */
export interface BatchHeaderFields {
  readonly attributes: number;
  readonly lastOffsetDelta: number;
  readonly baseTimestampMs: number;
  readonly maxTimestampMs: number;
  readonly producerId: number;
  readonly producerEpoch: number;
  readonly baseSequence: number;
  readonly recordCount: number;
}

/** What compaction changes of a header. */
export interface RewrittenHeaderFields {
  readonly attributes: number;
  readonly baseTimestampMs: number;
  readonly maxTimestampMs: number;
  readonly recordCount: number;
}

/** Gives `bytes`, whose records are in place, the header of `original` with other contents: the rest of it stays. */
export function writeRewrittenHeader(bytes: Uint8Array, original: Uint8Array, fields: RewrittenHeaderFields): void {
  bytes.set(original.subarray(0, BATCH_HEADER_BYTES));
  writeInt32(bytes, 8, bytes.length - BATCH_PREFIX_BYTES);
  writeInt16(bytes, 21, fields.attributes);
  writeInt64(bytes, 27, fields.baseTimestampMs);
  writeInt64(bytes, 35, fields.maxTimestampMs);
  writeInt32(bytes, 57, fields.recordCount);
  sealBatch(bytes);
}

/** Writes the header of `bytes`, which is one batch whose records are in place, with base offset 0 and no leader epoch. */
export function writeBatchHeader(bytes: Uint8Array, fields: BatchHeaderFields): void {
  setBatchOffsets(bytes, 0, -1);
  writeInt32(bytes, 8, bytes.length - BATCH_PREFIX_BYTES);
  bytes[16] = MAGIC;
  writeInt16(bytes, 21, fields.attributes);
  writeInt32(bytes, 23, fields.lastOffsetDelta);
  writeInt64(bytes, 27, fields.baseTimestampMs);
  writeInt64(bytes, 35, fields.maxTimestampMs);
  writeInt64(bytes, 43, fields.producerId);
  writeInt16(bytes, 51, fields.producerEpoch);
  writeInt32(bytes, 53, fields.baseSequence);
  writeInt32(bytes, 57, fields.recordCount);
  sealBatch(bytes);
}
