/** What every engine demands of an append, and the errors that engines share. A breach is the caller's bug. */
import type { PartitionKey } from '@naru/base';
import { assert } from '@naru/base';
import { NaruError } from '@naru/protocol';
import type { AppendEntry } from './log-store.ts';

/** Size of a record batch v2 header: no batch is smaller. */
const BATCH_HEADER_BYTES = 61;
/** Bytes before the batch length's count begins: base offset (8) and the length itself (4). */
const BATCH_PREFIX_BYTES = 12;

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
