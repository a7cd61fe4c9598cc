/**
 * The log of transactions: which partitions it has, and records as batches. An id lives in one partition, which the broker's
 * compactor keeps short.
 */
import { partitionKey, type Clock, type PartitionKey } from '@naru/base';
import { NaruError } from '@naru/protocol';
import { encodeBatch } from '@naru/protocol/batch';
import type { TopicMetadata } from '../core/registry/topic-registry.ts';
import { encodeTransactionRecord, type TransactionRecord } from '../core/transaction/index.ts';
import { logPartitionOf } from './group-log.ts';
import { TRANSACTION_LOG_TOPIC } from './internal-topics.ts';
import type { PartitionRuntime } from './partition-runtime.ts';

export interface TransactionWrites {
  readonly batches: readonly { readonly partition: PartitionKey; readonly batch: Uint8Array }[];
  readonly bytes: number;
}

export class TransactionLog {
  readonly #partitions: PartitionRuntime;
  readonly #clock: Clock;
  #keys: readonly PartitionKey[] = [];

  constructor(partitions: PartitionRuntime, clock: Clock) {
    this.#partitions = partitions;
    this.#clock = clock;
  }

  /** Finds the log among the topics. */
  use(topics: readonly TopicMetadata[]): void {
    const topic = topics.find(({ name }) => name === TRANSACTION_LOG_TOPIC);
    const partitionCount = topic?.partitionCount ?? 0;
    this.#keys = Array.from({ length: partitionCount }, (_, index) => partitionKey((topic as TopicMetadata).id, index));
  }

  get isThere(): boolean {
    return this.#keys.length > 0;
  }

  owns(partition: PartitionKey): boolean {
    return this.#keys.includes(partition);
  }

  prepare(records: readonly TransactionRecord[]): TransactionWrites {
    const timestampMs = this.#clock.nowMs();
    let bytes = 0;
    const batches = records.map((record) => {
      const partition = this.#keys[logPartitionOf(record.transactionalId, this.#keys.length)];
      if (partition === undefined) throw new NaruError('NOT_READY', 'the log of transactions is not there yet');
      const batch = encodeBatch([{ ...encodeTransactionRecord(record), timestampMs }]);
      bytes += batch.length;
      return { partition, batch };
    });
    return { batches, bytes };
  }

  /** Returns the cycle that makes them durable; 0 when there are none. */
  write({ batches }: TransactionWrites): number {
    let cycle = 0;
    for (const { partition, batch } of batches) cycle = this.#partitions.appendOwn(partition, batch);
    return cycle;
  }
}
