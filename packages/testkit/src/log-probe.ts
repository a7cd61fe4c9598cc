/**
 * Compares a log store with itself: what it gives when it is asked for one offset, or one time, with what it gives when it is
 * read from beginning to end. That goes through indexes, of which reading in order has little need.
 */
import type { PartitionKey } from '@naru/base';
import type { LogStore, StoredBatch } from '@naru/broker';
import type { SeededRandom } from './seeded-random.ts';

/** Batches of each partition that are looked for by themselves. */
const PROBES = 3;

/** What is different, in words; null when nothing is. */
export async function probeDifference(store: LogStore, random: SeededRandom, maxBytes: number): Promise<string | null> {
  for (const { partition, logStartOffset } of store.partitions()) {
    const all = await everyBatch(store, partition, logStartOffset, maxBytes);
    for (let probe = 0; probe < PROBES && all.length > 0; probe++) {
      const wanted = random.pick(all);
      const offset = Math.max(wanted.baseOffset, logStartOffset);
      const [read] = await store.read(partition, offset, 1, Number.MAX_SAFE_INTEGER);
      if (!isSame(read, wanted)) return `partition ${partition} has another batch when ${offset} is read by itself`;
      const time = wanted.maxTimestampMs;
      const first = all.find((batch) => batch.maxTimestampMs >= time);
      const found = await store.findByTimestamp(partition, time);
      if (!isSame(found, first)) return `partition ${partition} has another batch when time ${time} is looked for`;
    }
  }
  return null;
}

async function everyBatch(
  store: LogStore,
  partition: PartitionKey,
  from: number,
  maxBytes: number,
): Promise<StoredBatch[]> {
  const all: StoredBatch[] = [];
  for (let offset = from; ;) {
    const batches = await store.read(partition, offset, maxBytes, Number.MAX_SAFE_INTEGER);
    const last = batches.at(-1);
    if (last === undefined) return all;
    all.push(...batches);
    offset = last.lastOffset + 1;
  }
}

function isSame(a: StoredBatch | null | undefined, b: StoredBatch | null | undefined): boolean {
  return a?.baseOffset === b?.baseOffset && a?.lastOffset === b?.lastOffset && a?.records.length === b?.records.length;
}
