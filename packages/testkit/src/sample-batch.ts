/** Small valid record batches for tests of storage. */
import { encodeBatch } from '@naru/protocol/batch';
import type { PartitionKey } from '@naru/base';

export interface SampleBatchOptions {
  /** Records in the batch. Default 1. */
  readonly count?: number | undefined;
  /** Bytes of each value. Default 16. */
  readonly valueBytes?: number | undefined;
  /** Milliseconds since the Unix epoch. Default 1_000 + base offset. */
  readonly timestampMs?: number | undefined;
  /** Distinguishes batches of the same offsets. Default 0. */
  readonly mark?: number | undefined;
}

export interface SampleBatch {
  readonly partition: PartitionKey;
  readonly baseOffset: number;
  readonly lastOffset: number;
  readonly maxTimestampMs: number;
  readonly records: Uint8Array;
}

export function sampleBatch(
  partition: PartitionKey,
  baseOffset: number,
  options: SampleBatchOptions = {},
): SampleBatch {
  const count = options.count ?? 1;
  const timestampMs = options.timestampMs ?? 1_000 + baseOffset;
  const value = new Uint8Array(options.valueBytes ?? 16);
  for (let i = 0; i < value.length; i++) value[i] = baseOffset * 31 + (options.mark ?? 0) * 17 + i;
  const record = { key: null, value, timestampMs };
  const records = encodeBatch(
    Array.from({ length: count }, () => record),
    { baseOffset, partitionLeaderEpoch: 0 },
  );
  return { partition, baseOffset, lastOffset: baseOffset + count - 1, maxTimestampMs: timestampMs, records };
}
