/** What every engine demands of an append, and the errors that engines share. A breach is the caller's bug. */
import type { PartitionKey } from '@naru/base';
import { assert } from '@naru/base';
import { NaruError } from '@naru/protocol';
import { crc32c } from '@naru/protocol/batch';
import type { AppendEntry, StoredBatch } from './log-store.ts';

/** Size of a record batch v2 header: no batch is smaller. */
const BATCH_HEADER_BYTES = 61;
/** Bytes before the batch length's count begins: base offset (8) and the length itself (4). */
const BATCH_PREFIX_BYTES = 12;
const CRC_AT = 17;
/** What the checksum covers begins here. */
const CRC_START = 21;
const LAST_OFFSET_DELTA_AT = 23;
const MAX_TIMESTAMP_AT = 35;

/**
 * The batch says the offset and the length that the entry says, and continues the partition: otherwise a later walk
 * over the stored bytes would go astray.
 *
 * @param endOffset the partition's end offset before this entry
 */
export function checkAppendEntry(entry: AppendEntry, endOffset: number): void {
  const { records, baseOffset, lastOffset } = entry;
  assert(
    baseOffset >= endOffset,
    `a batch for ${entry.partition} at ${baseOffset}, before the end offset ${endOffset}`,
  );
  assert(lastOffset >= baseOffset && Number.isSafeInteger(lastOffset), `a batch from ${baseOffset} to ${lastOffset}`);
  assert(records.length >= BATCH_HEADER_BYTES, `a batch of ${records.length} bytes`);
  assert(uint32(records, 8) + BATCH_PREFIX_BYTES === records.length, `one whole batch in ${records.length} bytes`);
  const written = uint32(records, 0) * 2 ** 32 + uint32(records, 4);
  assert(written === baseOffset, `a batch that says offset ${written}, appended at ${baseOffset}`);
}

/**
 * What a rewriter made of `batch`: nothing, the batch itself, or one with the same base and last offset. Anything else would
 * put other offsets in the log than it gave out, or bytes that nobody can read.
 */
export function rewrittenBatch(batch: StoredBatch, records: Uint8Array | null): StoredBatch | null {
  if (records === null) return null;
  if (records === batch.records) return batch;
  const { baseOffset, lastOffset } = batch;
  assert(records.length >= BATCH_HEADER_BYTES, `a batch was rewritten to ${records.length} bytes`);
  const view = new DataView(records.buffer, records.byteOffset, records.length);
  assert(view.getUint32(8) + BATCH_PREFIX_BYTES === records.length, `one whole batch in ${records.length} bytes`);
  const base = Number(view.getBigInt64(0));
  const last = base + view.getInt32(LAST_OFFSET_DELTA_AT);
  const became = `a batch from ${baseOffset} to ${lastOffset} was rewritten to one from ${base} to ${last}`;
  assert(base === baseOffset && last === lastOffset, became);
  assert(
    crc32c(records.subarray(CRC_START)) === view.getUint32(CRC_AT),
    `the rewritten batch of ${base} has no checksum`,
  );
  return { baseOffset, lastOffset, maxTimestampMs: Number(view.getBigInt64(MAX_TIMESTAMP_AT)), records };
}

function uint32(bytes: Uint8Array, at: number): number {
  const low = ((bytes[at + 1] as number) << 16) | ((bytes[at + 2] as number) << 8) | (bytes[at + 3] as number);
  return (bytes[at] as number) * 2 ** 24 + low;
}

export function unknownPartition(key: PartitionKey): NaruError {
  return new NaruError('UNKNOWN_TOPIC_OR_PARTITION', `the log has no partition ${key}`);
}

export function offsetOutOfRange(key: PartitionKey, offset: number, start: number, end: number): NaruError {
  return new NaruError('OFFSET_OUT_OF_RANGE', `offset ${offset} of partition ${key} is outside ${start} to ${end}`);
}
