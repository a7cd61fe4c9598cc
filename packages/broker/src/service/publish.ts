/** Publishing plain records: partition them, encode one batch for each partition, store, answer in their order. */
import { partitionKey, type Clock } from '@naru/base';
import { encodeRequestId, NaruError, partitionForKey, refuse, type Refusal } from '@naru/protocol';
import {
  encodeBatch,
  MAX_TIMESTAMP_MS,
  recordSizeUpperBound,
  type RecordHeader,
  type RecordInput,
} from '@naru/protocol/batch';
import type { TopicMetadata } from '../core/registry/topic-registry.ts';
import type { TransactionRef } from '../core/transaction/commands.ts';
import { isRefusal, type ShardClient } from '../runtime/commands.ts';
import type { TopicService } from './topics.ts';
import { transactionalSequences, type Producing } from './transactional-sequences.ts';

export const MAX_RECORDS_PER_PUBLISH = 1_000;

export interface PlainRecord {
  readonly key: Uint8Array | null;
  readonly value: Uint8Array | null;
  readonly headers: readonly RecordHeader[];
  /** Null: by the key, or, without one, the same for all such records of the call. */
  readonly partition: number | null;
  /** Null: now. */
  readonly timestampMs: number | null;
}

export type PlainResult =
  | { readonly requestId: string; readonly partition: number; readonly offset: number; readonly timestampMs: number }
  | Refusal;

export interface PublishServiceOptions {
  readonly topics: TopicService;
  readonly shard: ShardClient;
  readonly clock: Clock;
  readonly maxBatchBytes: number;
}

interface Placed {
  readonly index: number;
  readonly record: RecordInput;
}

export class PublishService {
  readonly #options: PublishServiceOptions;
  /** Where the records without a key of the next call go. */
  #sticky = 0;
  /** Transactional ids of calls that are under way. */
  readonly #inTransactions = new Set<string>();

  constructor(options: PublishServiceOptions) {
    this.#options = options;
  }

  /** @param transaction that the records are part of; null: of none */
  async publish(
    topicName: string,
    records: readonly PlainRecord[],
    transaction: TransactionRef | null = null,
  ): Promise<PlainResult[] | Refusal> {
    const topic = this.#options.topics.find(topicName);
    if (isRefusal(topic)) return topic;
    if (records.length === 0 || records.length > MAX_RECORDS_PER_PUBLISH) {
      return refuse(
        'INVALID_REQUEST',
        `a call publishes 1 to ${MAX_RECORDS_PER_PUBLISH} records, not ${records.length}`,
      );
    }
    const results = Array.from<PlainResult>({ length: records.length });
    const batches = this.#place(topic, records, results);
    if (transaction === null) await this.#storeAll(topic, batches, results, () => ({}));
    else return this.#publishIn(transaction, topic, batches, results);
    return results;
  }

  async #publishIn(
    transaction: TransactionRef,
    topic: TopicMetadata,
    batches: ReadonlyMap<number, Placed[]>,
    results: PlainResult[],
  ): Promise<PlainResult[] | Refusal> {
    const { transactionalId } = transaction;
    if (this.#inTransactions.has(transactionalId)) {
      // Both would take the same sequences.
      const message = `another call publishes in the transaction of ${JSON.stringify(transactionalId)}: wait for its answer`;
      return refuse('INVALID_TXN_STATE', message);
    }
    this.#inTransactions.add(transactionalId);
    try {
      const producing = await transactionalSequences(this.#options.shard, transaction, topic.id, [...batches.keys()]);
      if (isRefusal(producing)) {
        for (const { index } of [...batches.values()].flat()) results[index] = producing;
      } else {
        await this.#storeAll(topic, batches, results, producing);
      }
      return results;
    } finally {
      this.#inTransactions.delete(transactionalId);
    }
  }

  /** @param producing who writes the next batch of a partition, of so many records */
  async #storeAll(
    topic: TopicMetadata,
    batches: ReadonlyMap<number, Placed[]>,
    results: PlainResult[],
    producing: Producing,
  ): Promise<void> {
    await Promise.all(
      [...batches].flatMap(([partition, placed]) =>
        splitBySize(placed, this.#options.maxBatchBytes).map((part) => {
          const batch = encodeBatch(
            part.map(({ record }) => record),
            producing(partition, part.length),
          );
          return this.#store(topic, partition, part, batch, results);
        }),
      ),
    );
  }

  #place(topic: TopicMetadata, records: readonly PlainRecord[], results: PlainResult[]): Map<number, Placed[]> {
    const nowMs = this.#options.clock.nowMs();
    const batches = new Map<number, Placed[]>();
    this.#sticky = (this.#sticky + 1) % topic.partitionCount;
    records.forEach((record, index) => {
      const refusal = this.#check(topic, record);
      if (refusal !== null) {
        results[index] = refusal;
        return;
      }
      const partition =
        record.partition ?? (record.key === null ? this.#sticky : partitionForKey(record.key, topic.partitionCount));
      const placed = { index, record: { ...record, timestampMs: record.timestampMs ?? nowMs } };
      const batch = batches.get(partition);
      if (batch === undefined) batches.set(partition, [placed]);
      else batch.push(placed);
    });
    return batches;
  }

  #check(topic: TopicMetadata, record: PlainRecord): Refusal | null {
    const { partition } = record;
    if (partition !== null && (partition < 0 || partition >= topic.partitionCount)) {
      return refuse(
        'UNKNOWN_TOPIC_OR_PARTITION',
        `topic ${JSON.stringify(topic.name)} has partitions 0 to ${topic.partitionCount - 1}, not ${partition}`,
      );
    }
    if (record.timestampMs !== null && (record.timestampMs < 0 || record.timestampMs > MAX_TIMESTAMP_MS)) {
      return refuse('INVALID_RECORD', `timestamp ${record.timestampMs} is not between 0 and ${MAX_TIMESTAMP_MS}`);
    }
    const bytes = recordSizeUpperBound(record.key, record.value, record.headers);
    const { maxBatchBytes } = this.#options;
    return bytes > maxBatchBytes
      ? refuse('RECORD_TOO_LARGE', `the record has about ${bytes} bytes, the limit is ${maxBatchBytes}`)
      : null;
  }

  async #store(
    topic: TopicMetadata,
    partition: number,
    placed: readonly Placed[],
    batch: Uint8Array,
    results: PlainResult[],
  ): Promise<void> {
    let reply;
    try {
      reply = await this.#options.shard.submit({ type: 'append', partition: partitionKey(topic.id, partition), batch });
    } catch (error) {
      if (!(error instanceof NaruError)) throw error;
      reply = error.toRefusal();
    }
    placed.forEach(({ index, record }, position) => {
      if (isRefusal(reply)) {
        results[index] = reply;
        return;
      }
      const offset = reply.baseOffset + position;
      const requestId = encodeRequestId(topic.id, partition, offset);
      results[index] = { requestId, partition, offset, timestampMs: record.timestampMs };
    });
  }
}

/** Runs of records whose batches stay within `maxBytes`. */
function splitBySize(placed: readonly Placed[], maxBytes: number): Placed[][] {
  const parts: Placed[][] = [];
  let bytes = Infinity;
  for (const entry of placed) {
    const size = recordSizeUpperBound(entry.record.key, entry.record.value, entry.record.headers);
    if (bytes + size > maxBytes) {
      parts.push([]);
      bytes = 0;
    }
    parts.at(-1)?.push(entry);
    bytes += size;
  }
  return parts;
}
