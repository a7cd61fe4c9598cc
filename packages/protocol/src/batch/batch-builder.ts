/**
 * Writes records straight into the bytes of a batch; the publisher's hot path.
 *
 * Owns the batch's buffer until {@link BatchBuilder.build}, then the caller does: buffers are never used twice, since one
 * that is being sent cannot be written to. Owns no decision on when to send.
 *
 * ```
 * record  = length varint, attributes int8 (0), timestampDelta varlong, offsetDelta varint,
 *           key bytes, value bytes, headerCount varint, header*
 * header  = key varint length and UTF-8, value bytes
 * bytes   = length varint (−1 for null), then as many bytes
 * ```
 */
import { assert } from '@naru/base';
import { NaruError } from '../errors.ts';
import {
  BATCH_HEADER_BYTES,
  CONTROL,
  MAX_BATCH_BYTES,
  TRANSACTIONAL,
  setBatchOffsets,
  writeBatchHeader,
} from './batch-header.ts';
import { allocate } from '../allocate.ts';
import { varintSize, writeVarint } from './bytes.ts';
import { COMPRESSION_TYPES, decompressionLimit } from './compression.ts';
import type { CompressionCodecs, CompressionType } from './compression.ts';
import { utf8Length, writeUtf8 } from './utf8.ts';

/** Keys may repeat; order is kept. */
export interface RecordHeader {
  readonly key: string;
  readonly value: Uint8Array | null;
}

/** Headers that were encoded ahead: `count` times what a header is in a record. Written as they are. */
export interface EncodedHeaders {
  readonly count: number;
  readonly bytes: Uint8Array;
}

export type RecordHeaders = readonly RecordHeader[] | EncodedHeaders;

/** A record to write. */
export interface RecordInput {
  readonly key: Uint8Array | null;
  readonly value: Uint8Array | null;
  readonly headers?: readonly RecordHeader[] | undefined;
  /** Milliseconds since the Unix epoch, an integer within ±{@link MAX_TIMESTAMP_MS}. */
  readonly timestampMs: number;
}

export interface BatchBuilderOptions {
  /** Bytes of the batch before compression, header included, at which the builder is full. */
  readonly maxBytes: number;
  /** Bytes to begin with, grown twofold as needed: the size that batches usually get. Default 16 KiB. */
  readonly initialBytes?: number | undefined;
}

export interface BuildOptions {
  /** Default `none`. Also `none` where compressing gains nothing, or so much that a reader would take it for a bomb. */
  readonly compression?: CompressionType | undefined;
  /** Default −1: not idempotent. */
  readonly producerId?: number | undefined;
  /** Default −1. */
  readonly producerEpoch?: number | undefined;
  /** Sequence of the first record. Default −1. */
  readonly baseSequence?: number | undefined;
  /** Default false. */
  readonly isTransactional?: boolean | undefined;
  /** Default false; for transaction markers. */
  readonly isControl?: boolean | undefined;
}

const DEFAULT_INITIAL_BYTES = 16 * 1024;
/** Times lie within ± this (the year 144,683), so that the difference of any two is a safe integer. */
export const MAX_TIMESTAMP_MS = 2 ** 52 - 1;
/** Up to here a loop copies faster than a call. */
const SHORT_COPY_BYTES = 16;

export class BatchBuilder {
  readonly #maxBytes: number;
  #buffer: Uint8Array;
  #position = BATCH_HEADER_BYTES;
  #count = 0;
  #baseTimestampMs = 0;
  #maxTimestampMs = 0;
  #spent = false;

  constructor(options: BatchBuilderOptions) {
    this.#maxBytes = Math.min(options.maxBytes, MAX_BATCH_BYTES);
    const initialBytes = Math.min(options.initialBytes ?? DEFAULT_INITIAL_BYTES, this.#maxBytes);
    this.#buffer = allocate(Math.max(initialBytes, BATCH_HEADER_BYTES));
  }

  /** Records so far. */
  get count(): number {
    return this.#count;
  }

  /** Bytes of the batch so far, before compression, header included. */
  get sizeBytes(): number {
    return this.#position;
  }

  /**
   * Adds a record; its bytes are copied. False when the batch is full: build it and begin another. The first record is
   * taken whatever its size; refuse larger ones before, by {@link recordSizeUpperBound}.
   *
   * @param timestampMs milliseconds since the Unix epoch, an integer within ±{@link MAX_TIMESTAMP_MS}
   */
  tryAppend(
    key: Uint8Array | null,
    value: Uint8Array | null,
    headers: RecordHeaders | undefined,
    timestampMs: number,
  ): boolean {
    assert(!this.#spent, 'a builder is spent once it has built');
    assert(Number.isInteger(timestampMs) && Math.abs(timestampMs) <= MAX_TIMESTAMP_MS, 'a timestamp is an integer');
    const count = this.#count;
    const timestampDelta = count === 0 ? 0 : timestampMs - this.#baseTimestampMs;
    const bodyBytes =
      1 +
      varintSize(timestampDelta) +
      varintSize(count) +
      bytesSize(key) +
      bytesSize(value) +
      (headers === undefined ? 1 : headersSize(headers));
    const end = this.#position + varintSize(bodyBytes) + bodyBytes;
    if (end > this.#maxBytes && count > 0) return false;
    if (end > this.#buffer.length) this.#grow(end);

    const buffer = this.#buffer;
    let position = writeVarint(buffer, this.#position, bodyBytes);
    buffer[position++] = 0;
    position = writeVarint(buffer, position, timestampDelta);
    position = writeVarint(buffer, position, count);
    position = writeBytes(buffer, position, key);
    position = writeBytes(buffer, position, value);
    if (headers === undefined) buffer[position] = 0;
    else writeHeaders(buffer, position, headers);

    if (count === 0) {
      this.#baseTimestampMs = timestampMs;
      this.#maxTimestampMs = timestampMs;
    } else if (timestampMs > this.#maxTimestampMs) {
      this.#maxTimestampMs = timestampMs;
    }
    this.#position = end;
    this.#count = count + 1;
    return true;
  }

  /**
   * The batch, with base offset 0 and leader epoch −1. Without compression it is a part of the builder's buffer, not
   * copied. The builder is spent, and the bytes are the caller's.
   *
   * @param codecs needed for a compression other than `none`
   * @throws NaruError UNSUPPORTED_COMPRESSION_TYPE without them
   */
  build(options: BuildOptions = {}, codecs?: CompressionCodecs): Uint8Array {
    assert(!this.#spent, 'a builder is spent once it has built');
    assert(this.#count > 0, 'a batch has at least one record');
    const compressed = this.#compress(options.compression ?? 'none', codecs);
    this.#spent = true;
    let batch = this.#buffer.subarray(0, this.#position);
    let attributes = 0;
    if (compressed !== null) {
      batch = new Uint8Array(BATCH_HEADER_BYTES + compressed.length);
      batch.set(compressed, BATCH_HEADER_BYTES);
      attributes = COMPRESSION_TYPES.indexOf(options.compression ?? 'none');
    }
    if (options.isTransactional === true) attributes |= TRANSACTIONAL;
    if (options.isControl === true) attributes |= CONTROL;
    writeBatchHeader(batch, {
      attributes,
      lastOffsetDelta: this.#count - 1,
      baseTimestampMs: this.#baseTimestampMs,
      maxTimestampMs: this.#maxTimestampMs,
      producerId: options.producerId ?? -1,
      producerEpoch: options.producerEpoch ?? -1,
      baseSequence: options.baseSequence ?? -1,
      recordCount: this.#count,
    });
    this.#buffer = EMPTY;
    return batch;
  }

  /** The compressed records, or null where they stay as they are. */
  #compress(type: CompressionType, codecs: CompressionCodecs | undefined): Uint8Array | null {
    if (type === 'none') return null;
    if (codecs === undefined) {
      throw new NaruError('UNSUPPORTED_COMPRESSION_TYPE', `no codecs were given to compress a batch with ${type}`);
    }
    const records = this.#buffer.subarray(BATCH_HEADER_BYTES, this.#position);
    const compressed = codecs.compress(type, records);
    const useful = compressed.length < records.length && records.length <= decompressionLimit(compressed.length);
    return useful ? compressed : null;
  }

  #grow(neededBytes: number): void {
    assert(neededBytes <= MAX_BATCH_BYTES, 'a batch stays below 2 GiB');
    const doubled = Math.min(this.#buffer.length * 2, this.#maxBytes);
    const larger = allocate(Math.max(doubled, neededBytes));
    larger.set(this.#buffer.subarray(0, this.#position));
    this.#buffer = larger;
  }
}

const EMPTY = new Uint8Array(0);

function bytesSize(bytes: Uint8Array | null): number {
  return bytes === null ? 1 : varintSize(bytes.length) + bytes.length;
}

function headersSize(headers: RecordHeaders): number {
  if ('bytes' in headers) return varintSize(headers.count) + headers.bytes.length;
  let size = varintSize(headers.length);
  for (const header of headers) {
    const keyBytes = utf8Length(header.key);
    size += varintSize(keyBytes) + keyBytes + bytesSize(header.value);
  }
  return size;
}

function writeBytes(buffer: Uint8Array, at: number, bytes: Uint8Array | null): number {
  if (bytes === null) {
    buffer[at] = 1; // −1 in zigzag
    return at + 1;
  }
  const length = bytes.length;
  const position = writeVarint(buffer, at, length);
  if (length <= SHORT_COPY_BYTES) for (let i = 0; i < length; i++) buffer[position + i] = bytes[i] as number;
  else buffer.set(bytes, position);
  return position + length;
}

function writeHeaders(buffer: Uint8Array, at: number, headers: RecordHeaders): void {
  if ('bytes' in headers) {
    buffer.set(headers.bytes, writeVarint(buffer, at, headers.count));
    return;
  }
  let position = writeVarint(buffer, at, headers.length);
  for (const header of headers) {
    const keyBytes = utf8Length(header.key);
    position = writeVarint(buffer, position, keyBytes);
    position = writeUtf8(buffer, position, header.key, keyBytes);
    position = writeBytes(buffer, position, header.value);
  }
}

/** @param headers to be written many times */
export function encodeHeaders(headers: readonly RecordHeader[]): EncodedHeaders {
  const bytes = new Uint8Array(headersSize(headers));
  writeHeaders(bytes, 0, headers);
  return { count: headers.length, bytes: bytes.subarray(varintSize(headers.length)) };
}

/** Length and offset delta as varints, attributes, timestamp delta as a varlong. */
const MAX_RECORD_OVERHEAD = 5 + 1 + 10 + 5;

/**
 * Bytes that a batch with only this record takes at most, before compression, batch header included: what to hold
 * against a limit on record sizes, and what to count against a memory limit.
 */
export function recordSizeUpperBound(
  key: Uint8Array | null,
  value: Uint8Array | null,
  headers?: RecordHeaders,
): number {
  const headersBytes = headers === undefined ? 1 : headersSize(headers);
  return BATCH_HEADER_BYTES + MAX_RECORD_OVERHEAD + bytesSize(key) + bytesSize(value) + headersBytes;
}

export interface EncodeBatchOptions extends BuildOptions {
  /** Default 0. */
  readonly baseOffset?: number | undefined;
  /** Default −1. */
  readonly partitionLeaderEpoch?: number | undefined;
}

/** All of `records` (at least one) in one batch. */
export function encodeBatch(
  records: readonly RecordInput[],
  options: EncodeBatchOptions = {},
  codecs?: CompressionCodecs,
): Uint8Array {
  let initialBytes = BATCH_HEADER_BYTES;
  for (const record of records) {
    initialBytes += recordSizeUpperBound(record.key, record.value, record.headers) - BATCH_HEADER_BYTES;
  }
  const builder = new BatchBuilder({ maxBytes: MAX_BATCH_BYTES, initialBytes });
  for (const record of records) {
    const appended = builder.tryAppend(record.key, record.value, record.headers, record.timestampMs);
    assert(appended, 'a batch stays below 2 GiB');
  }
  const batch = builder.build(options, codecs);
  setBatchOffsets(batch, options.baseOffset ?? 0, options.partitionLeaderEpoch ?? -1);
  return batch;
}
