/**
 * Bounds the tails of all partitions together: the oldest batches, over all of them, leave memory first.
 *
 * Owns the order of leaving and the byte count; the batches are the partitions'. What counts is the memory that batches keep:
 * those of one request share it, and it is free when the last of them has left.
 *
 * Invariant: a batch leaves only when it is written to its segment. So the bound can be exceeded by what is unwritten, which
 * has a bound of its own.
 */
import type { StoredBatch } from '../log-store.ts';
import type { PartitionLog } from './partition-log.ts';

export class TailCache {
  readonly #limitBytes: number;
  /** One entry for each batch, in order of arrival; truncated ones leave theirs behind, which evicts a little early. */
  #order: PartitionLog[] = [];
  #head = 0;
  #bytes = 0;
  /** Memory, and how many batches are in it. */
  readonly #kept = new Map<ArrayBufferLike, number>();

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** `batch` joined the tail of `log`. */
  noteAppend(log: PartitionLog, { records: { buffer } }: StoredBatch): void {
    this.#order.push(log);
    const count = this.#kept.get(buffer) ?? 0;
    if (count === 0) this.#bytes += buffer.byteLength;
    this.#kept.set(buffer, count + 1);
  }

  /** `batches` left a tail otherwise than by {@link evict}. */
  noteRemoved(batches: readonly StoredBatch[]): void {
    for (const batch of batches) this.#release(batch);
  }

  /** Makes room. Stops at a batch that is not written yet. */
  evict(): void {
    while (this.#bytes > this.#limitBytes) {
      const log = this.#order[this.#head];
      if (log === undefined) return;
      if (log.tail.length > 0) {
        if (!log.canEvict()) return;
        this.#release(log.evict());
      }
      this.#head += 1;
      if (this.#head >= 4096 && this.#head * 2 >= this.#order.length) {
        this.#order.splice(0, this.#head);
        this.#head = 0;
      }
    }
  }

  #release({ records: { buffer } }: StoredBatch): void {
    const count = this.#kept.get(buffer) ?? 0;
    if (count > 1) this.#kept.set(buffer, count - 1);
    else if (this.#kept.delete(buffer)) this.#bytes -= buffer.byteLength;
  }
}
