/** What is read of a queue before it is given out: which offsets, and what of it goes into an answer. */
import type { PartitionKey } from '@naru/base';
import type { Refusal } from '@naru/protocol';
import type { AcquiredOffsets, AcquiredRange, QueueReading } from '../core/queue/queue-commands.ts';
import type { OffsetPair, QueueState } from '../core/queue/queue-state.ts';
import type { StoredBatch } from '../log/log-store.ts';
import type { Partition } from './partition-runtime.ts';
import type { AcquiredPartition } from './queue-commands.ts';

/** What was read of a partition, to be given out. */
export interface Found {
  readonly reading: QueueReading;
  readonly batches: readonly StoredBatch[];
  readonly held: ReadonlyMap<number, Uint8Array>;
  readonly bytes: number;
  readonly records: number;
  readonly refusal: Refusal | null;
}

export function nothingRead(partition: PartitionKey): Found {
  const reading = { partition, logStartOffset: 0, endOffset: 0, seen: [], heldSeen: [] };
  return { reading, batches: [], held: new Map(), bytes: 0, records: 0, refusal: null };
}

/** What of the log could be given out now, ascending; not more than `maxRecords`, and nothing at or above `stableOffset`. */
export function readableRanges(
  { runs, endOffset }: QueueState,
  { state }: Partition,
  stableOffset: number,
  maxRecords: number,
  nowMs: number,
): OffsetPair[] {
  const ranges: OffsetPair[] = [];
  let rest = maxRecords;
  for (const { from, to, state: runState, notBeforeMs } of runs) {
    if (rest <= 0) return ranges;
    if (runState !== 'available' || notBeforeMs > nowMs || to <= state.logStartOffset) continue;
    const end = Math.min(to, from + rest);
    ranges.push([from, end]);
    rest -= end - from;
  }
  const start = Math.max(endOffset, state.logStartOffset);
  if (rest > 0 && start < stableOffset) ranges.push([start, Math.min(stableOffset, start + rest)]);
  return ranges;
}

export function toAcquired(
  given: readonly AcquiredOffsets[],
  found: ReadonlyMap<PartitionKey, Found>,
): AcquiredPartition[] {
  return given.flatMap(({ partition, lockMs, ranges, held }) => {
    const read = found.get(partition) as Found;
    const acquired: AcquiredPartition[] = [];
    if (held.length > 0) {
      const batches = held.map(({ from }) => read.held.get(from) as Uint8Array);
      acquired.push({ partition, batches, ranges: held, lockMs });
    }
    if (ranges.length > 0) acquired.push({ partition, batches: batchesOf(read.batches, ranges), ranges, lockMs });
    return acquired;
  });
}

/** Those that hold something of the ranges; both ascending. */
function batchesOf(batches: readonly StoredBatch[], ranges: readonly AcquiredRange[]): Uint8Array[] {
  let next = 0;
  return batches.flatMap(({ baseOffset, lastOffset, records }) => {
    while (next < ranges.length && (ranges[next] as AcquiredRange).to <= baseOffset) next += 1;
    const range = ranges[next];
    return range !== undefined && range.from <= lastOffset ? [records] : [];
  });
}
