/**
 * Bounds the tails of all partitions together: the oldest batches, over all of them, leave memory first.
 *
 * Owns the order of leaving and the byte count; the batches are the partitions'.
 *
 * Invariant: a batch leaves only when it is written to its segment. So the bound can be exceeded by what is unwritten, which
 * has a bound of its own.
 */
import type { PartitionLog } from './partition-log.ts';

export class TailCache {
  readonly #limitBytes: number;
  /** One entry for each batch, in order of arrival; truncated ones leave theirs behind, which evicts a little early. */
  #order: PartitionLog[] = [];
  #head = 0;
  #bytes = 0;

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes;
  }

  get bytes(): number {
    return this.#bytes;
  }

  noteAppend(log: PartitionLog, bytes: number): void {
    this.#order.push(log);
    this.#bytes += bytes;
  }

  noteRemoved(bytes: number): void {
    this.#bytes -= bytes;
  }

  /** Makes room. Stops at a batch that is not written yet. */
  evict(): void {
    while (this.#bytes > this.#limitBytes) {
      const log = this.#order[this.#head];
      if (log === undefined) return;
      if (log.tail.length > 0) {
        if (!log.canEvict()) return;
        const before = log.tail.sizeBytes;
        log.evict();
        this.#bytes -= before - log.tail.sizeBytes;
      }
      this.#head += 1;
      if (this.#head >= 4096 && this.#head * 2 >= this.#order.length) {
        this.#order.splice(0, this.#head);
        this.#head = 0;
      }
    }
  }
}
