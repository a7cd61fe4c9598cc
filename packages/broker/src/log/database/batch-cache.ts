/**
 * Bounds the tails of all partitions together: the oldest batches, over all of them, leave memory first.
 *
 * Owns the order of leaving and the byte count; the batches are the partitions'.
 */
import type { DatabasePartition } from './partition-state.ts';

/** Consumed slots at the front that are tolerated before the order is compacted. */
const MAX_HEAD_SLACK = 4_096;

export class BatchCache {
  readonly #limitBytes: number;
  /** One entry for each batch, in order of arrival; those that left otherwise leave theirs behind, which evicts early. */
  #order: DatabasePartition[] = [];
  #head = 0;
  #bytes = 0;
  #batches = 0;

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Runs `change`, which may add batches to the partition's tail or remove some, and keeps count. */
  during(partition: DatabasePartition, change: () => void): void {
    const { sizeBytes, length } = partition.tail;
    change();
    this.#bytes += partition.tail.sizeBytes - sizeBytes;
    const added = partition.tail.length - length;
    this.#batches += added;
    for (let left = added; left > 0; left--) this.#order.push(partition);
    this.#evict();
    if (this.#order.length - this.#head > 2 * this.#batches + MAX_HEAD_SLACK) this.#forget();
  }

  #evict(): void {
    while (this.#bytes > this.#limitBytes) {
      const partition = this.#order[this.#head];
      if (partition === undefined) return;
      const { sizeBytes, length } = partition.tail;
      partition.evict();
      this.#bytes -= sizeBytes - partition.tail.sizeBytes;
      this.#batches -= length - partition.tail.length;
      this.#head += 1;
      if (this.#head >= MAX_HEAD_SLACK && this.#head * 2 >= this.#order.length) {
        this.#order.splice(0, this.#head);
        this.#head = 0;
      }
    }
  }

  /** Drops the entries of batches that left otherwise: of each partition as many of the newest stay as it has batches. */
  #forget(): void {
    const seen = new Map<DatabasePartition, number>();
    const kept: DatabasePartition[] = [];
    for (let i = this.#order.length - 1; i >= this.#head; i--) {
      const partition = this.#order[i] as DatabasePartition;
      const count = seen.get(partition) ?? 0;
      if (count >= partition.tail.length) continue;
      seen.set(partition, count + 1);
      kept.push(partition);
    }
    this.#order = kept.reverse();
    this.#head = 0;
  }
}
