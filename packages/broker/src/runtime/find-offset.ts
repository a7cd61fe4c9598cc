/**
 * Finds offsets of a partition: its ends, and records by their time.
 *
 * Invariants: an offset that is found is one that may be read, or the end: the high watermark, or the last stable offset.
 */
import { NaruError, type Refusal } from '@naru/protocol';
import { decodeRecords, MAX_TIMESTAMP_MS, readBatchHeader, type CompressionCodecs } from '@naru/protocol/batch';
import { epochAt, type PartitionState } from '../core/partition/partition-state.ts';
import type { LogStore, StoredBatch } from '../log/log-store.ts';
import { isRefusal, type FoundOffset, type OffsetPosition } from './commands.ts';

export interface SearchedPartition {
  readonly state: PartitionState;
  /** Nothing there or beyond is found. */
  readonly endOffset: number;
  readonly highWatermark: number;
}

export interface FindOffsetOptions {
  readonly store: LogStore;
  readonly codecs: CompressionCodecs;
  /** Of what is written now. */
  readonly leaderEpoch: number;
}

/** The first batch that holds something of this time or later. */
interface BatchAtTime {
  readonly batch: StoredBatch;
  readonly timestampMs: number;
}

export async function findOffset(
  partition: SearchedPartition,
  position: OffsetPosition,
  options: FindOffsetOptions,
): Promise<FoundOffset | Refusal> {
  const { state, endOffset, highWatermark } = partition;
  switch (position.at) {
    case 'beginning':
      return atOffset(partition, state.logStartOffset, options);
    case 'end':
      return atOffset(partition, endOffset, options);
    case 'offset':
      return atOffset(partition, Math.min(Math.max(position.offset, state.logStartOffset), highWatermark), options);
    case 'time':
      return atRecord(partition, await batchAtTime(partition, position.timestampMs, options), options);
    case 'largest-time':
      return atRecord(partition, await batchOfLargestTime(partition, options), options);
  }
}

function atOffset(
  { state, highWatermark }: SearchedPartition,
  offset: number,
  { leaderEpoch }: FindOffsetOptions,
): FoundOffset {
  const epoch = offset >= highWatermark ? leaderEpoch : (epochAt(state, offset) ?? null);
  return { offset, timestampMs: null, leaderEpoch: epoch };
}

function atRecord(
  partition: SearchedPartition,
  found: BatchAtTime | null | Refusal,
  options: FindOffsetOptions,
): FoundOffset | Refusal {
  if (isRefusal(found)) return found;
  if (found === null || found.batch.baseOffset >= partition.endOffset) {
    return atOffset(partition, partition.endOffset, options);
  }
  const record = recordInBatch(found, partition.state.logStartOffset, options.codecs);
  return { ...record, leaderEpoch: readBatchHeader(found.batch.records).partitionLeaderEpoch };
}

async function batchAtTime(
  { state }: SearchedPartition,
  timestampMs: number,
  { store }: FindOffsetOptions,
): Promise<BatchAtTime | null | Refusal> {
  try {
    const batch = await store.findByTimestamp(state.partition, timestampMs);
    return batch === null ? null : { batch, timestampMs };
  } catch (error) {
    if (error instanceof NaruError) return error.toRefusal();
    throw error;
  }
}

/** The time is looked for by halves: the store finds the first batch at or after one. */
async function batchOfLargestTime(
  partition: SearchedPartition,
  options: FindOffsetOptions,
): Promise<BatchAtTime | null | Refusal> {
  const first = await batchAtTime(partition, 0, options);
  if (first === null || isRefusal(first)) return first;
  let { batch } = first;
  for (let above = MAX_TIMESTAMP_MS + 1; above - batch.maxTimestampMs > 1;) {
    const middle = batch.maxTimestampMs + Math.ceil((above - batch.maxTimestampMs) / 2);
    const later = await batchAtTime(partition, middle, options);
    if (isRefusal(later)) return later;
    if (later === null) above = middle;
    else ({ batch } = later);
  }
  return { batch, timestampMs: batch.maxTimestampMs };
}

/** Publishers encode records, and this broker looks at headers only: records that cannot be read begin at their batch. */
function recordInBatch(
  { batch, timestampMs }: BatchAtTime,
  from: number,
  codecs: CompressionCodecs,
): { offset: number; timestampMs: number } {
  try {
    const records = decodeRecords(batch.records, codecs);
    const found = records.find((record) => record.offset >= from && record.timestampMs >= timestampMs);
    if (found !== undefined) return { offset: found.offset, timestampMs: found.timestampMs };
    return { offset: batch.lastOffset + 1, timestampMs: batch.maxTimestampMs };
  } catch (error) {
    if (!(error instanceof NaruError)) throw error;
    return { offset: Math.max(batch.baseOffset, from), timestampMs: batch.maxTimestampMs };
  }
}
