/**
 * A model of a log store, as simple as can be, and the comparison of a recovered store with it.
 *
 * The rule that it checks: after a crash the store holds what the first k submitted operations make, for one k that is at
 * least the number of acknowledged ones. Everything acknowledged is there, and nothing but a prefix of the rest.
 */
import type { PartitionKey } from '@naru/base';
import type { AppendEntry, LogStore, PartitionInfo, StoredBatch } from '@naru/broker';

export type ModelOperation =
  | { readonly type: 'append'; readonly entries: readonly AppendEntry[] }
  | { readonly type: 'create'; readonly partition: PartitionKey; readonly offset: number }
  | { readonly type: 'truncate' | 'deleteBefore'; readonly partition: PartitionKey; readonly offset: number }
  | { readonly type: 'delete'; readonly partition: PartitionKey };

interface ModelPartition {
  readonly start: number;
  readonly end: number;
  readonly batches: readonly StoredBatch[];
}

export type BatchForms = (partition: PartitionKey, batch: StoredBatch) => readonly (StoredBatch | null)[];

const asAppended: BatchForms = (_partition, batch) => [batch];

/** Immutable: {@link LogModel.with} makes the next one. */
export class LogModel {
  readonly partitions: ReadonlyMap<PartitionKey, ModelPartition>;

  constructor(partitions: ReadonlyMap<PartitionKey, ModelPartition> = new Map()) {
    this.partitions = partitions;
  }

  with(operation: ModelOperation): LogModel {
    const partitions = new Map(this.partitions);
    if (operation.type === 'append') {
      for (const entry of operation.entries) {
        const before = partitions.get(entry.partition) as ModelPartition;
        partitions.set(entry.partition, { ...before, end: entry.lastOffset + 1, batches: [...before.batches, entry] });
      }
    } else if (operation.type === 'create') {
      partitions.set(operation.partition, { start: operation.offset, end: operation.offset, batches: [] });
    } else if (operation.type === 'delete') partitions.delete(operation.partition);
    else {
      const before = partitions.get(operation.partition) as ModelPartition;
      partitions.set(
        operation.partition,
        operation.type === 'truncate' ? truncated(before, operation.offset) : cutStart(before, operation.offset),
      );
    }
    return new LogModel(partitions);
  }

  /** What is different in `infos`, in words; null when nothing is. */
  differenceFromInfos(infos: readonly PartitionInfo[]): string | null {
    if (infos.length !== this.partitions.size) return `${infos.length} partitions instead of ${this.partitions.size}`;
    for (const { partition, logStartOffset, endOffset } of infos) {
      const expected = this.partitions.get(partition);
      if (expected === undefined) return `partition ${partition} is there`;
      if (logStartOffset === expected.start && endOffset === expected.end) continue;
      return `partition ${partition} is ${logStartOffset}-${endOffset} instead of ${expected.start}-${expected.end}`;
    }
    return null;
  }

  /**
   * What is different in `store`, its batches' bytes included; null when nothing is.
   *
   * @param forms what may stand for an appended batch, null for nothing; default: the batch itself
   */
  async differenceFromStore(store: LogStore, maxBytes: number, forms: BatchForms = asAppended): Promise<string | null> {
    const difference = this.differenceFromInfos(store.partitions());
    if (difference !== null) return difference;
    for (const [partition, expected] of this.partitions) {
      let index = 0;
      for (let offset = expected.start; ;) {
        const batches = await store.read(partition, offset, maxBytes, Number.MAX_SAFE_INTEGER);
        for (const batch of batches) {
          let wanted = expected.batches[index++];
          while (
            wanted !== undefined &&
            wanted.baseOffset < batch.baseOffset &&
            forms(partition, wanted).includes(null)
          ) {
            wanted = expected.batches[index++];
          }
          if (wanted === undefined) return `partition ${partition} has a batch at ${batch.baseOffset}, beyond its end`;
          if (!forms(partition, wanted).some((form) => form !== null && sameBatch(batch, form)))
            return `partition ${partition} has other bytes at ${batch.baseOffset}`;
        }
        const last = batches.at(-1);
        if (last === undefined) break;
        offset = last.lastOffset + 1;
      }
      const missing = expected.batches.slice(index).filter((batch) => !forms(partition, batch).includes(null));
      if (missing.length > 0) return `partition ${partition} misses ${missing.length} batches`;
    }
    return null;
  }
}

function truncated({ start, end, batches }: ModelPartition, offset: number): ModelPartition {
  return { start, end: Math.min(end, offset), batches: batches.filter((batch) => batch.lastOffset < offset) };
}

function cutStart({ start, end, batches }: ModelPartition, offset: number): ModelPartition {
  const from = Math.max(start, offset);
  return { start: from, end, batches: batches.filter((batch) => batch.lastOffset >= from) };
}

function sameBatch(a: StoredBatch, b: StoredBatch): boolean {
  return (
    a.baseOffset === b.baseOffset &&
    a.lastOffset === b.lastOffset &&
    a.maxTimestampMs === b.maxTimestampMs &&
    Buffer.compare(a.records, b.records) === 0
  );
}
