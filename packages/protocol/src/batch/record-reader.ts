/**
 * Reads the records of a batch; the grammar is in batch-builder.ts.
 *
 * Input is hostile: every length is held against what is left before it is used, so damage of any kind is a NaruError,
 * and memory is bounded by the bytes that are there. Keys, values and header values are views of the batch, or of the
 * buffer that it was decompressed to; they are not copied.
 */
import { NaruError } from '../errors.ts';
import { BATCH_HEADER_BYTES, readBatchHeader, verifyBatch } from './batch-header.ts';
import type { BatchHeader } from './batch-header.ts';
import type { RecordHeader } from './batch-builder.ts';
import { fromZigzag } from './bytes.ts';
import { decompressionLimit } from './compression.ts';
import type { CompressionCodecs } from './compression.ts';
import { UnreadHeaders } from './unread-headers.ts';

/** A record as read. */
export interface BatchRecord {
  readonly offset: number;
  /** Milliseconds since the Unix epoch; −1 when the record has no time. */
  readonly timestampMs: number;
  readonly key: Uint8Array | null;
  readonly value: Uint8Array | null;
  readonly headers: readonly RecordHeader[];
}

/** A record whose headers are checked, and made into objects when they are asked for: most readers never do. */
export class StreamedRecord implements BatchRecord {
  readonly offset: number;
  readonly timestampMs: number;
  readonly key: Uint8Array | null;
  readonly value: Uint8Array | null;
  readonly #headers: UnreadHeaders | null;

  constructor(
    offset: number,
    timestampMs: number,
    key: Uint8Array | null,
    value: Uint8Array | null,
    headers: UnreadHeaders | null,
  ) {
    this.offset = offset;
    this.timestampMs = timestampMs;
    this.key = key;
    this.value = value;
    this.#headers = headers;
  }

  get headers(): readonly RecordHeader[] {
    return this.#headers === null ? NO_HEADERS : this.#headers.all;
  }

  /** The value of the last header of that key; undefined without one. */
  headerValue(key: string): Uint8Array | null | undefined {
    return this.#headers?.last(key);
  }
}

export interface DecodeOptions {
  /** Whether to check the checksum; only a batch that was checked already can do without. Default true. */
  readonly checkCrc?: boolean | undefined;
}

/** No record is smaller: length, attributes, two deltas, key, value and header count, a byte each. */
const MIN_RECORD_BYTES = 7;
/** No header is smaller: two lengths. */
const MIN_HEADER_BYTES = 2;
/** A varlong takes at most this. */
const MAX_VARLONG_BYTES = 10;

const NO_HEADERS: readonly RecordHeader[] = Object.freeze([]);

/**
 * All records of one whole batch, in order. Control batches have records too: ask the header first.
 *
 * @param codecs needed for compressed batches
 * @throws NaruError CORRUPT_MESSAGE when the batch is damaged, INVALID_RECORD, UNSUPPORTED_COMPRESSION_TYPE (or no codecs
 *   given), RECORD_TOO_LARGE when it inflates beyond {@link decompressionLimit}
 */
export function decodeRecords(batch: Uint8Array, codecs?: CompressionCodecs, options?: DecodeOptions): BatchRecord[] {
  const reader = openBatch(batch, codecs, options);
  const records: BatchRecord[] = [];
  for (let record = reader.next(); record !== null; record = reader.next()) {
    const { offset, timestampMs, key, value, headers } = record;
    records.push({ offset, timestampMs, key, value, headers });
  }
  return records;
}

/** As {@link decodeRecords}, one at a time: damage inside is found when it is reached, all else before the first record. */
export function iterateRecords(
  batch: Uint8Array,
  codecs?: CompressionCodecs,
  options?: DecodeOptions,
): Generator<StreamedRecord, void, undefined> {
  return generateRecords(openBatch(batch, codecs, options));
}

function* generateRecords(reader: RecordReader): Generator<StreamedRecord, void, undefined> {
  for (let record = reader.next(); record !== null; record = reader.next()) yield record;
}

/** As {@link iterateRecords}, for who reads very many, or needs more of a record than {@link BatchRecord} has. */
export function openBatch(batch: Uint8Array, codecs?: CompressionCodecs, options?: DecodeOptions): RecordReader {
  const header = options?.checkCrc === false ? readBatchHeader(batch) : verifyBatch(batch, 'stored');
  if (header.sizeBytes !== batch.length) {
    throw corrupt(`the batch says that it has ${header.sizeBytes} bytes, but ${batch.length} were given`);
  }
  if (header.compression === 'none') return new RecordReader(batch, BATCH_HEADER_BYTES, header);
  if (codecs === undefined) {
    throw new NaruError('UNSUPPORTED_COMPRESSION_TYPE', `no codecs were given to read a ${header.compression} batch`);
  }
  const compressed = batch.subarray(BATCH_HEADER_BYTES);
  const records = codecs.decompress(header.compression, compressed, decompressionLimit(compressed.length));
  return new RecordReader(records, 0, header);
}

function corrupt(message: string): NaruError {
  return new NaruError('CORRUPT_MESSAGE', message);
}

export class RecordReader {
  readonly header: BatchHeader;
  readonly #bytes: Uint8Array;
  #position: number;
  #tailStart = 0;
  #attributes = 0;
  #timestampDelta = 0;
  /** End of what may be read now: the record's, while inside one. */
  #end: number;
  #read = 0;
  #lastOffsetDelta = -1;
  /** What is behind damage is not read: it could look like records. */
  #damaged: NaruError | null = null;

  constructor(bytes: Uint8Array, position: number, header: BatchHeader) {
    this.#bytes = bytes;
    this.#position = position;
    this.#end = bytes.length;
    this.header = header;
    const room = Math.floor((bytes.length - position) / MIN_RECORD_BYTES);
    if (header.recordCount < 0 || header.recordCount > room) {
      throw corrupt(
        `${bytes.length - position} bytes cannot hold the ${header.recordCount} records that the batch says`,
      );
    }
  }

  /** Attributes of the record that was read last; they have no meaning yet. */
  get attributes(): number {
    return this.#attributes;
  }

  /** What it says of its time, relative to the batch's base timestamp; also where log append time overrides that. */
  get timestampDelta(): number {
    return this.#timestampDelta;
  }

  /** Its bytes from the offset delta on: all that does not depend on other fields. */
  get tail(): Uint8Array {
    return this.#bytes.subarray(this.#tailStart, this.#position);
  }

  /** Null after the last. */
  next(): StreamedRecord | null {
    if (this.#damaged !== null) throw this.#damaged;
    const { header } = this;
    this.#end = this.#bytes.length;
    if (this.#read === header.recordCount) {
      if (this.#position !== this.#end)
        throw this.#damage(`${this.#end - this.#position} bytes follow the last record`);
      return null;
    }
    const length = this.#readLength('record length', 0);
    const end = this.#position + length;
    this.#end = end;
    this.#attributes = this.#readByte();
    const timestampDelta = this.#readVarlong('timestamp delta');
    this.#timestampDelta = timestampDelta;
    this.#tailStart = this.#position;
    const offsetDelta = this.#readVarint('offset delta');
    const key = this.#readBytes('key length');
    const value = this.#readBytes('value length');
    const headers = this.#passHeaders();
    if (this.#position !== end)
      throw this.#damage(`the record is ${end - this.#position} bytes longer than its fields`);
    if (offsetDelta <= this.#lastOffsetDelta || offsetDelta > header.lastOffsetDelta) {
      throw this.#damage(`offset delta ${offsetDelta} is not between ${this.#lastOffsetDelta} and the batch's last`);
    }
    this.#lastOffsetDelta = offsetDelta;
    this.#read += 1;
    return new StreamedRecord(header.baseOffset + offsetDelta, this.#timestampMs(timestampDelta), key, value, headers);
  }

  #timestampMs(delta: number): number {
    if (this.header.timestampType === 'append') return this.header.maxTimestampMs;
    const timestampMs = this.header.baseTimestampMs + delta;
    if (!Number.isSafeInteger(timestampMs)) throw this.#damage('the timestamp is outside ±2^53');
    return timestampMs;
  }

  /** Every length in them is checked: who reads them later need not. */
  #passHeaders(): UnreadHeaders | null {
    const count = this.#readVarint('header count');
    if (count === 0) return null;
    if (count < 0 || count > (this.#end - this.#position) / MIN_HEADER_BYTES) {
      throw this.#damage(`${this.#end - this.#position} bytes cannot hold ${count} headers`);
    }
    const start = this.#position;
    for (let i = 0; i < count; i++) {
      const keyBytes = this.#readLength('header key length', 0);
      this.#position += keyBytes;
      const valueBytes = this.#readLength('header value length', -1);
      if (valueBytes > 0) this.#position += valueBytes;
    }
    return new UnreadHeaders(this.#bytes, start, count);
  }

  #readBytes(what: string): Uint8Array | null {
    const length = this.#readLength(what, -1);
    if (length === -1) return null;
    const start = this.#position;
    this.#position = start + length;
    return this.#bytes.subarray(start, start + length);
  }

  /** A length of at least `least` whose bytes are there. */
  #readLength(what: string, least: number): number {
    const length = this.#readVarint(what);
    const left = this.#end - this.#position;
    if (length < least || length > left) throw this.#damage(`${what} ${length} with ${left} bytes left`);
    return length;
  }

  #readByte(): number {
    if (this.#position >= this.#end) throw this.#damage('the record ends within its fields');
    return this.#bytes[this.#position++] as number;
  }

  #readVarint(what: string): number {
    const value = this.#readVarlong(what);
    if (value !== (value | 0)) throw this.#damage(`${what} is more than 32 bits`);
    return value;
  }

  #readVarlong(what: string): number {
    const bytes = this.#bytes;
    let position = this.#position;
    let zigzag = 0;
    for (let shift = 0; shift <= 21; shift += 7) {
      if (position >= this.#end) throw this.#damage(`${what} is cut short`);
      const byte = bytes[position++] as number;
      zigzag |= (byte & 0x7f) << shift;
      if (byte < 0x80) {
        this.#position = position;
        return (zigzag >>> 1) ^ -(zigzag & 1);
      }
    }
    return this.#readLongVarlong(what);
  }

  #readLongVarlong(what: string): number {
    let zigzag = 0n;
    for (let i = 0; i < MAX_VARLONG_BYTES; i++) {
      if (this.#position >= this.#end) throw this.#damage(`${what} is cut short`);
      const byte = this.#bytes[this.#position++] as number;
      zigzag |= BigInt(byte & 0x7f) << BigInt(7 * i);
      if (byte >= 0x80) continue;
      const value = Number(fromZigzag(zigzag));
      if (!Number.isSafeInteger(value)) break;
      return value;
    }
    throw this.#damage(`${what} is too large`);
  }

  #damage(what: string): NaruError {
    const where = `record ${this.#read} of ${this.header.recordCount}, at byte ${this.#position}`;
    this.#damaged = corrupt(`${where}: ${what}`);
    return this.#damaged;
  }
}
