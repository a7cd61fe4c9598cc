/**
 * All partitions, and what durable operations do to them: the one place for it, for the running store and for replay.
 *
 * Invariant: an operation is applied when it is durable, in journal order.
 */
import type { PartitionKey } from '@naru/base';
import type { StoredBatch } from '../log-store.ts';
import { PartitionLog } from './partition-log.ts';
import type { SegmentWriter } from './segment-writer.ts';
import type { TailCache } from './tail-cache.ts';

export class LogState {
  readonly logs = new Map<PartitionKey, PartitionLog>();
  /** Deleted, and with files still. */
  readonly erasing = new Set<PartitionLog>();
  readonly #segmentsDirectory: string;
  readonly #cache: TailCache;
  readonly #writer: SegmentWriter;

  constructor(segmentsDirectory: string, cache: TailCache, writer: SegmentWriter) {
    this.#segmentsDirectory = segmentsDirectory;
    this.#cache = cache;
    this.#writer = writer;
  }

  /** A partition that is not applied yet. */
  prepare(key: PartitionKey, logStartOffset: number): PartitionLog {
    return new PartitionLog(key, this.#segmentsDirectory, logStartOffset, logStartOffset);
  }

  create(log: PartitionLog): void {
    this.logs.set(log.key, log);
  }

  append(log: PartitionLog, batch: StoredBatch): void {
    const before = log.unwrittenBytes;
    const { length } = log.tail;
    log.append(batch);
    if (log.tail.length !== length) this.#cache.noteAppend(log, batch);
    if (log.unwrittenBytes === before) return;
    this.#writer.adjustUnwritten(batch.records.length);
    this.#writer.enqueue(log);
  }

  truncate(log: PartitionLog, endOffset: number): void {
    this.#shrink(log, () => log.truncate(endOffset));
  }

  deleteBefore(log: PartitionLog, offset: number): void {
    log.deleteBefore(offset);
    if (log.expiredSegments() > 0) this.#writer.enqueue(log);
  }

  delete(log: PartitionLog): void {
    this.logs.delete(log.key);
    this.erasing.add(log);
    this.#shrink(log, () => log.delete());
  }

  /** @param change returns the batches that it took out of the tail */
  #shrink(log: PartitionLog, change: () => StoredBatch[]): void {
    const { unwrittenBytes } = log;
    this.#cache.noteRemoved(change());
    this.#writer.adjustUnwritten(log.unwrittenBytes - unwrittenBytes);
    this.#writer.enqueue(log);
  }
}
