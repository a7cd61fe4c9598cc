/**
 * Where the records of one topic go: its partitions as known now, and the records that wait until they are known.
 *
 * Keeps the records of one key in order when the topic gets more partitions: the new count is used only after everything
 * that was sent under the old one is settled; until then new records wait.
 */
import type { Random, TopicId } from '@naru/base';
import { NaruError, partitionForKey } from '@naru/protocol';
import type { RecordHeaders } from '@naru/protocol/batch';
import type { Deferred } from '../deferred.ts';
import { deferred } from '../deferred.ts';
import type { Settler } from './outgoing-batch.ts';
import type { PartitionQueue } from './partition-queue.ts';

/** A record before it has a partition. */
export interface PendingRecord {
  readonly topic: string;
  readonly key: Uint8Array | null;
  readonly value: Uint8Array | null;
  readonly headers: RecordHeaders | undefined;
  readonly timestampMs: number;
  /** As asked for by the publisher. */
  readonly partition: number | undefined;
  readonly settler: Settler | null;
  /** Bytes of the memory limit. */
  readonly sizeBytes: number;
  /** Monotonic milliseconds. */
  readonly createdMs: number;
}

export class TopicRoute {
  readonly topic: string;
  topicId: TopicId | null = null;
  /** By partition; empty until known. */
  queues: readonly PartitionQueue[] = [];
  /** Whether records go to {@link queues} now; otherwise they wait. */
  isOpen = false;
  /** A partition count to change to once every queue is empty. */
  nextQueues: (() => readonly PartitionQueue[]) | null = null;
  /** Monotonic milliseconds. */
  loadedMs = 0;
  isLoading = false;
  /** Why it could not be loaded lately. */
  lastError: NaruError | null = null;
  waiting: PendingRecord[] = [];
  #drained: Deferred<void> | null = null;
  #sticky = -1;

  constructor(topic: string) {
    this.topic = topic;
  }

  /** Settles when what waits now has been taken or given up. */
  whenDrained(): Promise<void> {
    if (this.waiting.length === 0) return Promise.resolve();
    this.#drained ??= deferred();
    return this.#drained.promise;
  }

  /** Takes everything that waits. */
  takeWaiting(): PendingRecord[] {
    const taken = this.waiting;
    this.waiting = [];
    this.#drained?.resolve();
    this.#drained = null;
    return taken;
  }

  get hasUnsettled(): boolean {
    return this.queues.some((queue) => !queue.isEmpty);
  }

  /**
   * The partition for a record: the one asked for, else by key as Kafka's partitioner, else one that it sticks to until
   * its batch is sent, so that records without a key share batches.
   */
  queueFor(key: Uint8Array | null, partition: number | undefined, random: Random): PartitionQueue | NaruError {
    const count = this.queues.length;
    if (partition !== undefined) {
      const queue = this.queues[partition];
      if (queue !== undefined) return queue;
      return new NaruError(
        'UNKNOWN_TOPIC_OR_PARTITION',
        `topic ${this.topic} has no partition ${partition}; it has ${count} (0 to ${count - 1})`,
      );
    }
    if (key !== null) return this.queues[count === 1 ? 0 : partitionForKey(key, count)] as PartitionQueue;
    const current = this.queues[this.#sticky];
    if (current !== undefined && current.open !== null) return current;
    this.#sticky = random.integer(count);
    return this.queues[this.#sticky] as PartitionQueue;
  }
}
