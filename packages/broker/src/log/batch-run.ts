/**
 * A partition's batches in memory, in offset order: the memory engine's whole partition, the file engine's tail.
 *
 * Owns the order and the byte count. Knows nothing of durability or of eviction policy.
 *
 * Invariant: batches are in ascending offset order and do not overlap; gaps are allowed.
 */
import { assert } from '@naru/base';
import type { StoredBatch } from './log-store.ts';

/** Consumed slots at the front that are tolerated before the array is compacted. */
const MAX_HEAD_SLACK = 1024;

export class BatchRun {
  #batches: (StoredBatch | undefined)[] = [];
  #head = 0;
  #sizeBytes = 0;

  get length(): number {
    return this.#batches.length - this.#head;
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  at(index: number): StoredBatch {
    const batch = this.#batches[this.#head + index];
    assert(batch !== undefined, `batch ${index} of ${this.length}`);
    return batch;
  }

  first(): StoredBatch | undefined {
    return this.#batches[this.#head];
  }

  last(): StoredBatch | undefined {
    return this.length === 0 ? undefined : this.#batches[this.#batches.length - 1];
  }

  push(batch: StoredBatch): void {
    this.#batches.push(batch);
    this.#sizeBytes += batch.records.length;
  }

  /** Removes and returns the oldest batch. */
  shift(): StoredBatch | undefined {
    const batch = this.#batches[this.#head];
    if (batch === undefined) return undefined;
    this.#batches[this.#head] = undefined;
    this.#head += 1;
    this.#sizeBytes -= batch.records.length;
    if (this.#head === this.#batches.length) {
      this.#batches = [];
      this.#head = 0;
    } else if (this.#head >= MAX_HEAD_SLACK && this.#head * 2 >= this.#batches.length) {
      this.#batches.splice(0, this.#head);
      this.#head = 0;
    }
    return batch;
  }

  /** Removes and returns the newest batch. */
  pop(): StoredBatch | undefined {
    if (this.length === 0) return undefined;
    const batch = this.#batches.pop();
    if (batch !== undefined) this.#sizeBytes -= batch.records.length;
    return batch;
  }

  clear(): void {
    this.#batches = [];
    this.#head = 0;
    this.#sizeBytes = 0;
  }

  /** Index of the first batch whose last offset is `offset` or later; `length` when there is none. */
  indexFrom(offset: number): number {
    let low = 0;
    let high = this.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.at(middle).lastOffset < offset) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Index of the first batch from which on all take `maxBytes` at most; `length` when the last one alone takes more. */
  indexBySize(maxBytes: number): number {
    let index = this.length;
    for (let bytes = 0; index > 0; index--) {
      bytes += this.at(index - 1).records.length;
      if (bytes > maxBytes) break;
    }
    return index;
  }

  /** Batches from `offset` on with lastOffset below `limitOffset`, until `maxBytes` is reached; at least one if any. */
  collect(offset: number, maxBytes: number, limitOffset: number): StoredBatch[] {
    const found: StoredBatch[] = [];
    let bytes = 0;
    for (let i = this.indexFrom(offset); i < this.length; i++) {
      const batch = this.at(i);
      if (batch.lastOffset >= limitOffset) break;
      if (found.length > 0 && bytes + batch.records.length > maxBytes) break;
      found.push(batch);
      bytes += batch.records.length;
    }
    return found;
  }

  /** The first batch from `fromOffset` on whose maxTimestampMs is `timestampMs` or later. */
  findByTimestamp(timestampMs: number, fromOffset: number): StoredBatch | null {
    for (let i = this.indexFrom(fromOffset); i < this.length; i++) {
      const batch = this.at(i);
      if (batch.maxTimestampMs >= timestampMs) return batch;
    }
    return null;
  }
}
