/**
 * Random compaction of a log store, and what it allows its batches to have become.
 *
 * What becomes of a batch is decided by its bytes alone, so that any number of rewrites, undone by crashes or not, leads from
 * a batch to itself or to its one rewritten form. Below a partition's cleanEndOffset only the latter is right; beyond it, up
 * to the highest offset that a rewrite was asked for, both are; elsewhere only the former.
 */
import type { PartitionKey } from '@naru/base';
import { crc32c } from '@naru/protocol/batch';
import type { LogStore, StoredBatch } from '@naru/broker';
import type { SeededRandom } from './seeded-random.ts';
import { sampleBatch } from './sample-batch.ts';

/** The batch's own header does not cover its leader epoch by the checksum: a place for the mark of a rewritten batch. */
const LEADER_EPOCH_AT = 15;
const REWRITTEN = 77;

/** What a rewrite makes of `batch`: nothing, itself, or a smaller batch of the same offsets. */
export function rewrittenForm(partition: PartitionKey, batch: StoredBatch): StoredBatch | null {
  if (batch.records[LEADER_EPOCH_AT] === REWRITTEN) return batch;
  const choice = crc32c(batch.records) % 4;
  if (choice < 2) return batch;
  if (choice === 2) return null;
  const { baseOffset, lastOffset, maxTimestampMs } = batch;
  const options = { count: lastOffset - baseOffset + 1, timestampMs: maxTimestampMs, valueBytes: 0 };
  const { records } = sampleBatch(partition, baseOffset, options);
  records[LEADER_EPOCH_AT] = REWRITTEN;
  return { baseOffset, lastOffset, maxTimestampMs, records };
}

export class LogRewrites {
  /** Rewrites that were begun, that came to their end, and that ended because their partition was deleted. */
  readonly counts = { begun: 0, done: 0, ended: 0 };
  /** The highest offset that a rewrite was asked for. */
  readonly #asked = new Map<PartitionKey, number>();
  /** By rewrite, the last batch that it asked about: perhaps the partition's newest, which is kept whatever the answer. */
  readonly #lastAsked: string[] = [];
  #running = false;

  /** Begins a rewrite of a random partition as far as its status allows, unless one is under way or there is nothing to do. */
  begin(store: LogStore, random: SeededRandom): Promise<void> | null {
    if (this.#running) return null;
    const candidates = store.partitions().filter(({ partition, logStartOffset }) => {
      return store.compactionStatus(partition).endOffset > logStartOffset;
    });
    if (candidates.length === 0) return null;
    const { partition } = random.pick(candidates);
    return this.#run(store, partition, store.compactionStatus(partition).endOffset);
  }

  /** The process ended: so did the rewrite. */
  crashed(): void {
    this.#running = false;
  }

  async #run(store: LogStore, partition: PartitionKey, endOffset: number): Promise<void> {
    const number = this.counts.begun++;
    this.#running = true;
    this.#asked.set(partition, Math.max(this.#asked.get(partition) ?? 0, endOffset));
    try {
      await store.rewrite(partition, endOffset, (batch) => {
        this.#lastAsked[number] = nameOf(partition, batch);
        const form = rewrittenForm(partition, batch);
        return form === null ? null : form.records;
      });
      this.counts.done += 1;
    } catch (error) {
      const code = (error as { code?: unknown }).code;
      const isClosed = code === 'STORAGE_ERROR' && store.capacity().state === 'offline';
      if (code !== 'UNKNOWN_TOPIC_OR_PARTITION' && !isClosed) throw error;
      this.counts.ended += 1;
    } finally {
      this.#running = false;
    }
  }

  /** What may stand in `store` for a batch that was appended; null: nothing. As of now: not to be kept while work goes on. */
  forms(store: LogStore): (partition: PartitionKey, batch: StoredBatch) => (StoredBatch | null)[] {
    const kept = new Set(this.#lastAsked);
    const cleanEnds = new Map<PartitionKey, number>();
    for (const { partition } of store.partitions()) {
      cleanEnds.set(partition, store.compactionStatus(partition).cleanEndOffset);
    }
    return (partition, batch) => {
      const form = rewrittenForm(partition, batch);
      const isClean = batch.lastOffset < (cleanEnds.get(partition) ?? 0) && !kept.has(nameOf(partition, batch));
      if (isClean) return [form];
      return batch.lastOffset < (this.#asked.get(partition) ?? 0) ? [batch, form] : [batch];
    };
  }

  /** Offsets inside of batches that `store` surely holds no more: the log may be truncated there. */
  offsetsInGaps(store: LogStore, partition: PartitionKey, batches: readonly StoredBatch[]): number[] {
    if (store.info(partition) === undefined) return [];
    const { cleanEndOffset } = store.compactionStatus(partition);
    const isGone = (batch: StoredBatch): boolean =>
      batch.lastOffset < cleanEndOffset &&
      rewrittenForm(partition, batch) === null &&
      !this.#lastAsked.includes(nameOf(partition, batch));
    return batches.filter((batch) => batch.baseOffset < batch.lastOffset && isGone(batch)).map((b) => b.lastOffset);
  }
}

function nameOf(partition: PartitionKey, batch: StoredBatch): string {
  return `${partition} ${batch.baseOffset} ${crc32c(batch.records)}`;
}
