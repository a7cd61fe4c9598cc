/**
 * The reading side of the store: from the tail where it can, from segments where it must, and from both.
 *
 * Owns nothing but counters. A read that meets a truncate or a removal on its way starts over.
 */
import type { PartitionKey } from '@naru/base';
import { offsetOutOfRange, unknownPartition } from '../append-entry.ts';
import type { BatchRun } from '../batch-run.ts';
import type { StoredBatch } from '../log-store.ts';
import { storageError } from './data-directory.ts';
import type { PartitionLog } from './partition-log.ts';
import type { Segment } from './segment.ts';
import type { SegmentReader } from './segment-reader.ts';

export class LogReader {
  readonly #logs: ReadonlyMap<PartitionKey, PartitionLog>;
  readonly #segments: SegmentReader;
  #cacheHits = 0;
  #cacheMisses = 0;

  constructor(logs: ReadonlyMap<PartitionKey, PartitionLog>, segments: SegmentReader) {
    this.#logs = logs;
    this.#segments = segments;
  }

  get cacheHits(): number {
    return this.#cacheHits;
  }

  get cacheMisses(): number {
    return this.#cacheMisses;
  }

  /** As LogStore.read. */
  read(
    key: PartitionKey,
    offset: number,
    maxBytes: number,
    limitOffset: number,
  ): StoredBatch[] | Promise<StoredBatch[]> {
    const log = this.#logs.get(key);
    if (log === undefined) return Promise.reject(unknownPartition(key));
    if (offset < log.logStartOffset || offset > log.endOffset) {
      return Promise.reject(offsetOutOfRange(key, offset, log.logStartOffset, log.endOffset));
    }
    if (offset >= log.tailStart) {
      this.#cacheHits += 1;
      return log.tail.collect(offset, maxBytes, limitOffset);
    }
    this.#cacheMisses += 1;
    return this.#readFiles(log, offset, maxBytes, limitOffset);
  }

  /** As LogStore.findByTimestamp. */
  async findByTimestamp(key: PartitionKey, timestampMs: number): Promise<StoredBatch | null> {
    for (;;) {
      const log = this.#logs.get(key);
      if (log === undefined) throw unknownPartition(key);
      const filesEnd = log.tailStart;
      if (log.logStartOffset < filesEnd) {
        const found = await whileSame(log, () => this.#segments.findByTimestamp(log, timestampMs, filesEnd));
        // Evicted meanwhile: between the files that were searched and the tail there would be a gap.
        if (found === 'changed' || (found === null && log.tailStart !== filesEnd)) continue;
        if (found !== null) return found;
      }
      return log.tail.findByTimestamp(timestampMs, log.logStartOffset);
    }
  }

  /** As LogStore.findBySize; exact. */
  async findBySize(key: PartitionKey, maxBytes: number): Promise<number> {
    for (;;) {
      const log = this.#logs.get(key);
      if (log === undefined) throw unknownPartition(key);
      const { tail, tailStart } = log;
      const index = tail.indexBySize(maxBytes);
      if (index > 0 && tail.length > 0) return Math.max(log.logStartOffset, offsetAt(tail, index, log.endOffset));
      const restBytes = maxBytes - tail.sizeBytes;
      const tailFrom = offsetAt(tail, 0, log.endOffset);
      if (tailStart <= log.logStartOffset) return log.logStartOffset;
      const found = await whileSame(log, () => this.#findInFilesBySize(log, restBytes, tailStart));
      if (found !== 'changed') return Math.max(log.logStartOffset, found ?? tailFrom);
    }
  }

  /** Where the last `maxBytes` below `limitOffset` begin in the files; null when not even one batch of them fits. */
  async #findInFilesBySize(log: PartitionLog, maxBytes: number, limitOffset: number): Promise<number | null> {
    const { epoch } = log;
    let found: number | null = null;
    let restBytes = maxBytes;
    for (let i = log.segments.length - 1; i >= 0 && log.epoch === epoch; i--) {
      const segment = log.segments[i] as Segment;
      if (segment.baseOffset >= limitOffset) continue;
      const isWhole = log.segmentEnd(i) <= limitOffset && log.pendingCut === Infinity;
      const end = isWhole ? segment.sizeBytes : await this.#segments.positionOf(segment, limitOffset);
      if (end > restBytes) {
        const first = await this.#segments.batchAt(segment, end - restBytes);
        return first !== null && first.position < end ? first.baseOffset : found;
      }
      found = segment.baseOffset;
      restBytes -= end;
    }
    return found;
  }

  async #readFiles(log: PartitionLog, from: number, maxBytes: number, limitOffset: number): Promise<StoredBatch[]> {
    for (let offset = from; ;) {
      if (log.deleted) throw unknownPartition(log.key);
      if (offset < log.logStartOffset || offset > log.endOffset) {
        throw offsetOutOfRange(log.key, offset, log.logStartOffset, log.endOffset);
      }
      if (offset >= log.tailStart) return log.tail.collect(offset, maxBytes, limitOffset);
      const filesEnd = log.tailStart;
      const position = offset;
      const batches = await whileSame(log, () =>
        this.#segments.read(log, position, maxBytes, Math.min(limitOffset, filesEnd)),
      );
      if (batches === 'changed') continue;
      const last = batches.at(-1);
      if (last === undefined && limitOffset > filesEnd) offset = filesEnd;
      else if (last?.lastOffset !== filesEnd - 1 || log.tailStart !== filesEnd) return batches;
      else return withTail(batches, log, filesEnd, maxBytes, limitOffset);
    }
  }
}

function offsetAt(tail: BatchRun, index: number, endOffset: number): number {
  return index < tail.length ? tail.at(index).baseOffset : endOffset;
}

/** What `use` finds, unless what it looked at was truncated or removed meanwhile: then the caller asks again. */
async function whileSame<T>(log: PartitionLog, use: () => Promise<T>): Promise<T | 'changed'> {
  const { epoch } = log;
  try {
    const found = await use();
    return log.epoch === epoch ? found : 'changed';
  } catch (error) {
    if (log.epoch !== epoch) return 'changed';
    throw storageError(error, `reading partition ${log.key}`);
  }
}

/** `batches`, which reach the tail, and what of the tail still fits. */
function withTail(
  batches: StoredBatch[],
  log: PartitionLog,
  tailStart: number,
  maxBytes: number,
  limitOffset: number,
): StoredBatch[] {
  let bytes = batches.reduce((sum, batch) => sum + batch.records.length, 0);
  for (const batch of log.tail.collect(tailStart, maxBytes - bytes, limitOffset)) {
    bytes += batch.records.length;
    if (bytes > maxBytes) break;
    batches.push(batch);
  }
  return batches;
}
