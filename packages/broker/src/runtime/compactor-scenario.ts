/** For the compactor's tests: a memory log with virtual time, what was published to it, and readers that keep a table. */
import { partitionKey, type PartitionKey, type TopicId } from '@naru/base';
import { nodeCompressionCodecs as codecs } from '@naru/protocol/compression-node';
import { decodeRecords, encodeBatch, readBatchHeader, type CompressionType } from '@naru/protocol/batch';
import type { CompactionConfig } from '../core/compaction/index.ts';
import type { LogStore } from '../log/log-store.ts';

const TOPIC = '00000000-0000-4000-8000-00000000000a' as TopicId;

export const FIRST: PartitionKey = partitionKey(TOPIC, 0);
export const SECOND: PartitionKey = partitionKey(TOPIC, 1);

export const HOUR_MS = 3_600_000;

export const EAGER: CompactionConfig = {
  minCompactionLagMs: 0,
  maxCompactionLagMs: Infinity,
  minDirtyRatio: 0,
  deleteRetentionMs: HOUR_MS,
  segmentMs: Infinity,
};

/** Key → value; a key that is gone is not there. */
export type Table = Map<string, string>;

/** A key and its value, or null for its tombstone. */
export type Change = readonly [key: string, value: string | null];

function apply(table: Table, key: string, value: string | null): void {
  if (value === null) table.delete(key);
  else table.set(key, value);
}

/** Publishes to one partition, and knows what a reader of everything must end with. */
export class TableWriter {
  readonly table: Table = new Map();
  readonly #store: LogStore;
  readonly #partition: PartitionKey;

  constructor(store: LogStore, partition: PartitionKey) {
    this.#store = store;
    this.#partition = partition;
  }

  async write(changes: readonly Change[], timestampMs: number, compression: CompressionType = 'none'): Promise<void> {
    const text = new TextEncoder();
    const baseOffset = this.#store.info(this.#partition)?.endOffset ?? 0;
    const records = encodeBatch(
      changes.map(([key, value]) => ({
        key: text.encode(key),
        value: value === null ? null : text.encode(value),
        timestampMs,
      })),
      { baseOffset, partitionLeaderEpoch: 1, compression },
      codecs,
    );
    const lastOffset = baseOffset + changes.length - 1;
    const entry = { partition: this.#partition, baseOffset, lastOffset, maxTimestampMs: timestampMs, records };
    await this.#store.append([entry]);
    for (const [key, value] of changes) apply(this.table, key, value);
  }
}

/** Reads one partition from its start on, some bytes at a time. */
export class TableReader {
  readonly table: Table = new Map();
  /** Keys of the tombstones that it read, in order. */
  readonly tombstones: string[] = [];
  offsets: number[] = [];
  #position = 0;
  readonly #store: LogStore;
  readonly #partition: PartitionKey;

  constructor(store: LogStore, partition: PartitionKey) {
    this.#store = store;
    this.#partition = partition;
  }

  /** False at the end. */
  async read(maxBytes: number): Promise<boolean> {
    const endOffset = this.#store.info(this.#partition)?.endOffset ?? 0;
    const batches = await this.#store.read(this.#partition, this.#position, maxBytes, endOffset);
    const text = new TextDecoder();
    for (const batch of batches) {
      for (const { offset, key, value } of decodeRecords(batch.records, codecs)) {
        if (offset < this.#position || key === null) continue;
        this.offsets.push(offset);
        if (value === null) this.tombstones.push(text.decode(key));
        apply(this.table, text.decode(key), value === null ? null : text.decode(value));
      }
      const header = readBatchHeader(batch.records);
      this.#position = header.baseOffset + header.lastOffsetDelta + 1;
    }
    return batches.length > 0;
  }

  async readAll(): Promise<this> {
    while (await this.read(1_000));
    return this;
  }
}

export async function readTable(store: LogStore, partition: PartitionKey): Promise<TableReader> {
  return new TableReader(store, partition).readAll();
}
