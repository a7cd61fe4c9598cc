/**
 * Reads what queues give out and what they bury: records of the log, and copies of held events.
 *
 * Owns what a reading covers: every offset that it passes over and that holds no record for a group is named as a gap, also where a
 * transaction was aborted. Invariants: nothing at or above the last stable offset is given out; memory is bounded by what the caller asks for, and one batch.
 */
import type { PartitionKey } from '@naru/base';
import { isNaruError, refuse, type Refusal } from '@naru/protocol';
import {
  decodeRecords,
  encodeBatch,
  iterateRecords,
  readBatchHeader,
  setBatchOffsets,
  type CompressionCodecs,
} from '@naru/protocol/batch';
import { lastStableOffset } from '../core/partition/partition-state.ts';
import { AbortedRecords } from '../core/partition/transaction-index.ts';
import type { EventCopy } from '../core/group/index.ts';
import { readCopy } from '../core/held/index.ts';
import type { SeenRange } from '../core/queue/queue-commands.ts';
import type { OffsetPair } from '../core/queue/queue-state.ts';
import type { LogStore, StoredBatch } from '../log/log-store.ts';
import type { Partition, PartitionRuntime } from './partition-runtime.ts';

/** For records that are given out once more, which are few: most batches are smaller. */
const PIECE_BYTES = 64 * 1024;
/** Ranges of one partition that are read at a time. */
const MAX_RANGES = 16;

export interface QueueRecordsOptions {
  readonly partitions: PartitionRuntime;
  readonly store: LogStore;
  readonly codecs: CompressionCodecs;
}

/** What was read of one partition. */
export interface ReadRecords {
  readonly seen: readonly SeenRange[];
  readonly batches: readonly StoredBatch[];
  readonly bytes: number;
  /** Why no more was read; null when all is well. */
  readonly refusal: Refusal | null;
}

export class QueueRecords {
  readonly #options: QueueRecordsOptions;

  constructor(options: QueueRecordsOptions) {
    this.#options = options;
  }

  /** @param ranges ascending and disjoint; the last one may go on without end */
  async read(partition: Partition, ranges: readonly OffsetPair[], maxBytes: number): Promise<ReadRecords> {
    const reading = new Reading(this.#options.codecs);
    try {
      for (const [from, to] of ranges.slice(0, MAX_RANGES)) {
        if (reading.bytes >= maxBytes) break;
        await this.#readRange(partition, from, to, maxBytes, reading);
      }
      return { ...reading.result(), refusal: null };
    } catch (error) {
      if (!isNaruError(error)) throw error;
      const { partition: key } = partition.state;
      return { ...reading.result(), refusal: refuse(error.code, `${key}: ${error.message}`) };
    }
  }

  async #readRange(partition: Partition, from: number, to: number, maxBytes: number, reading: Reading): Promise<void> {
    const { state } = partition;
    let at = Math.max(from, reading.end, state.logStartOffset);
    const limit = lastStableOffset(state, partition.highWatermark);
    const abortedIn = state.transactions.lookup();
    const end = Math.min(to, limit);
    while (at < end && reading.bytes < maxBytes) {
      const rest = maxBytes - reading.bytes;
      const read = this.#options.store.read(
        state.partition,
        at,
        to < limit ? Math.min(rest, PIECE_BYTES) : rest,
        limit,
      );
      const batches = read instanceof Promise ? await read : read;
      if (batches.length === 0) return reading.pass(at, end);
      const aborted = abortedIn(at, (batches.at(-1) as StoredBatch).lastOffset + 1);
      at = reading.add(at, batches, new AbortedRecords(aborted));
    }
  }

  /** Whole events, by offset, up to `maxBytes` and one more; null where there is no record (any more). */
  async copies(
    key: PartitionKey,
    offsets: readonly number[],
    maxBytes: number,
  ): Promise<Map<number, EventCopy | null>> {
    const copies = new Map<number, EventCopy | null>();
    let bytes = 0;
    for (const offset of offsets) {
      const partition = this.#options.partitions.get(key);
      if (partition === undefined || offset < partition.state.logStartOffset) {
        copies.set(offset, null);
        continue;
      }
      const batch = await this.#one(key, offset, partition.highWatermark);
      const records = batch === null ? [] : decodeRecords(batch, this.#options.codecs);
      const record = records.find((found) => found.offset === offset);
      if (batch === null || record === undefined) {
        copies.set(offset, null);
        continue;
      }
      const { key: recordKey, value, headers, timestampMs } = record;
      const copy = encodeBatch([{ key: recordKey, value, headers, timestampMs }]);
      setBatchOffsets(copy, offset, readBatchHeader(batch).partitionLeaderEpoch);
      copies.set(offset, { keyId: '', batch: copy });
      bytes += copy.length;
      if (bytes >= maxBytes) break;
    }
    return copies;
  }

  /** The copy of a held event: a batch of one record. Null when it cannot be read now. */
  async heldCopy(log: PartitionKey, copyOffset: number): Promise<Uint8Array | null> {
    const partition = this.#options.partitions.get(log);
    if (partition === undefined || copyOffset >= partition.highWatermark) return null;
    const batch = await this.#one(log, copyOffset, partition.highWatermark);
    if (batch === null) return null;
    const record = decodeRecords(batch, this.#options.codecs).find(({ offset }) => offset === copyOffset);
    return readCopy(record, copyOffset);
  }

  /** The batch that may hold the offset. */
  async #one(key: PartitionKey, offset: number, limit: number): Promise<Uint8Array | null> {
    const [batch] = await this.#options.store.read(key, offset, 1, limit);
    return batch === undefined || batch.baseOffset > offset ? null : batch.records;
  }
}

/** Gathers what is read of one partition, in ascending order. */
class Reading {
  bytes = 0;
  /** Everything below was looked at, from the last range on. */
  end = 0;
  readonly #codecs: CompressionCodecs;
  readonly #seen: { from: number; to: number; gaps: OffsetPair[] }[] = [];
  readonly #batches: StoredBatch[] = [];

  constructor(codecs: CompressionCodecs) {
    this.#codecs = codecs;
  }

  result(): Omit<ReadRecords, 'refusal'> {
    return { seen: this.#seen, batches: this.#batches, bytes: this.bytes };
  }

  /** Returns the offset after them. */
  add(from: number, batches: readonly StoredBatch[], aborted: AbortedRecords): number {
    let at = from;
    for (const batch of batches) {
      const after = batch.lastOffset + 1;
      // Before anything is noted, since a batch may turn out to be damaged.
      const gaps = this.#gapsOf(batch, aborted);
      const start = Math.max(at, batch.baseOffset);
      this.pass(at, start);
      const range = this.#open(start);
      for (const [gapFrom, gapTo] of gaps) if (gapTo > start) range.gaps.push([Math.max(gapFrom, start), gapTo]);
      range.to = this.end = after;
      if (gaps[0]?.[0] !== batch.baseOffset || gaps[0][1] !== after) {
        this.#batches.push(batch);
        this.bytes += batch.records.length;
      }
      at = after;
    }
    return at;
  }

  /** There is nothing from `from` to `to`. */
  pass(from: number, to: number): void {
    if (from >= to) return;
    const range = this.#open(from);
    range.gaps.push([from, to]);
    range.to = this.end = to;
  }

  #open(from: number): { from: number; to: number; gaps: OffsetPair[] } {
    const last = this.#seen.at(-1);
    if (last?.to === from) return last;
    const range = { from, to: from, gaps: [] };
    this.#seen.push(range);
    return range;
  }

  #gapsOf({ records, baseOffset, lastOffset }: StoredBatch, aborted: AbortedRecords): OffsetPair[] {
    const { isControl, isTransactional, producerId, recordCount } = readBatchHeader(records);
    if (isControl || (isTransactional && aborted.has(producerId, baseOffset))) return [[baseOffset, lastOffset + 1]];
    if (recordCount === lastOffset - baseOffset + 1) return [];
    const gaps: OffsetPair[] = [];
    let at = baseOffset;
    for (const { offset } of iterateRecords(records, this.#codecs)) {
      if (offset > at) gaps.push([at, offset]);
      at = offset + 1;
    }
    if (at <= lastOffset) gaps.push([at, lastOffset + 1]);
    return gaps;
  }
}
