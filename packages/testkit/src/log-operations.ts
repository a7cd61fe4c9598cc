/** What random runs against a log store have in common: doing an operation of the model, and batches to append. */
import type { PartitionKey } from '@naru/base';
import type { LogStore } from '@naru/broker';
import type { LogModel, ModelOperation } from './log-model.ts';
import { sampleBatch } from './sample-batch.ts';
import type { SampleBatch } from './sample-batch.ts';
import type { SeededRandom } from './seeded-random.ts';

/** Batches of one append at most. */
const MAX_BATCHES = 3;

export interface BatchSizes {
  /** Records of a batch. */
  readonly maxCount: number;
  readonly valueBytes: () => number;
}

/** Up to three batches that go on where partitions of `model` end. @param nextMark something that no other batch has */
export function randomBatches(
  random: SeededRandom,
  model: LogModel,
  keys: readonly PartitionKey[],
  nextMark: () => number,
  sizes: BatchSizes,
): SampleBatch[] {
  const ends = new Map<PartitionKey, number>();
  const batches: SampleBatch[] = [];
  for (let left = 1 + random.integer(MAX_BATCHES); left > 0; left--) {
    const partition = random.pick(keys);
    const base = ends.get(partition) ?? model.partitions.get(partition)?.end ?? 0;
    const count = 1 + random.integer(sizes.maxCount);
    const batch = sampleBatch(partition, base, { count, valueBytes: sizes.valueBytes(), mark: nextMark() });
    ends.set(partition, batch.lastOffset + 1);
    batches.push(batch);
  }
  return batches;
}

export function performOperation(store: LogStore, operation: ModelOperation): Promise<void> {
  switch (operation.type) {
    case 'append':
      return store.append(operation.entries);
    case 'create':
      return store.create(operation.partition, operation.offset);
    case 'truncate':
      return store.truncate(operation.partition, operation.offset);
    case 'deleteBefore':
      return store.deleteBefore(operation.partition, operation.offset);
    case 'delete':
      return store.delete(operation.partition);
  }
}
