/**
 * Random operations on a log store beside the {@link LogModel} of what they make: for tests that break what is below the store.
 *
 * Owns the order in which promises settle: an acknowledged operation is one whose promise resolved, and so did all before.
 */
import { partitionKey, topicIdFromBytes } from '@naru/base';
import type { LogStore } from '@naru/broker';
import { LogModel } from './log-model.ts';
import type { ModelOperation } from './log-model.ts';
import { performOperation, randomBatches } from './log-operations.ts';
import type { SeededRandom } from './seeded-random.ts';

const MAX_PARTITIONS = 4;

export class LogWorkload {
  readonly #random: SeededRandom;
  readonly #operations: ModelOperation[] = [];
  #latest = new LogModel();
  #acknowledged = 0;
  #mark = 0;

  constructor(random: SeededRandom) {
    this.#random = random;
  }

  /** After everything that was submitted. */
  get latest(): LogModel {
    return this.#latest;
  }

  get submitted(): number {
    return this.#operations.length;
  }

  /** Operations, the first ones, whose promises resolved. */
  get acknowledged(): number {
    return this.#acknowledged;
  }

  /** The models of every number of operations that may have been kept, acknowledged ones at least. */
  possible(): LogModel[] {
    const models: LogModel[] = [];
    let model = new LogModel();
    for (const [index, operation] of this.#operations.entries()) {
      if (index >= this.#acknowledged) models.push(model);
      model = model.with(operation);
    }
    return [...models, model];
  }

  /** Submits the next operation; rejects when it fails, or when it settles out of turn. */
  async step(store: LogStore): Promise<void> {
    const operation = this.#next();
    this.#operations.push(operation);
    this.#latest = this.#latest.with(operation);
    const order = this.#operations.length;
    await performOperation(store, operation);
    if (this.#acknowledged !== order - 1) throw new Error(`operation ${order} settles after ${this.#acknowledged}`);
    this.#acknowledged = order;
  }

  #next(): ModelOperation {
    const random = this.#random;
    const keys = [...this.#latest.partitions.keys()];
    if (keys.length === 0 || (keys.length < MAX_PARTITIONS && random.chance(0.15))) {
      const partition = partitionKey(topicIdFromBytes(random.bytes(16)), random.integer(3));
      return { type: 'create', partition, offset: random.chance(0.3) ? 40 : 0 };
    }
    const partition = random.pick(keys);
    const state = this.#latest.partitions.get(partition);
    if (state === undefined) throw new Error('a key of the model is in the model');
    if (random.chance(0.03)) return { type: 'delete', partition };
    if (random.chance(0.1)) {
      const ends = [state.start, ...state.batches.map((batch) => batch.lastOffset + 1)];
      const sound = ends.filter((end) => {
        return end >= state.start && state.batches.every((batch) => end <= batch.baseOffset || end > batch.lastOffset);
      });
      if (sound.length > 0) return { type: 'truncate', partition, offset: random.pick(sound) };
    }
    if (random.chance(0.1))
      return { type: 'deleteBefore', partition, offset: state.start + random.integer(state.end - state.start + 1) };
    const sizes = { maxCount: 3, valueBytes: () => random.integer(200) };
    const entries = randomBatches(random, this.#latest, keys, () => (this.#mark += 1), sizes);
    return { type: 'append', entries };
  }
}
