/**
 * Publishing: takes records, gathers them into batches by partition and tells what became of them.
 *
 * Owns the memory limit, the topics' routes, the delivery deadlines and who is told. Sending is batch-sender.ts's, the order
 * and identity of a partition's batches partition-queue.ts's, the connection producer-stream.ts's.
 *
 * Invariants
 * - A partition has one queue for as long as the publisher lives, since its sequences go on.
 * - Every record that was taken is settled exactly once: stored, or given up with an error.
 */
import type { PartitionKey, TimerHandle, TopicId } from '@naru/base';
import { partitionKey } from '@naru/base';
import { NaruError } from '@naru/protocol';
import type { CompressionCodecs, RecordHeaders } from '@naru/protocol/batch';
import { BatchBuilder, recordSizeUpperBound } from '@naru/protocol/batch';
import type { Runtime } from '../runtime.ts';
import type { Settings } from '../settings.ts';
import type { Transport } from '../transport/transport.ts';
import { BatchSender } from './batch-sender.ts';
import { ownHeaders } from './cloud-events.ts';
import { DeliveryReports } from './delivery-reports.ts';
import { MemoryLimit } from './memory-limit.ts';
import type { MemoryWaiter } from './memory-limit.ts';
import { OutgoingBatch } from './outgoing-batch.ts';
import type { Settler } from './outgoing-batch.ts';
import { PartitionQueue } from './partition-queue.ts';
import type { TransactionIdentity } from './partition-queue.ts';
import type { DeliveryListener } from './publish-result.ts';
import type { OpenTransaction, StreamCommitAnswer } from './stream-commit.ts';
import { RouteTable } from './route-table.ts';
import type { DescribeTopic } from './route-table.ts';
import type { PendingRecord, TopicRoute } from './topic-route.ts';

/** How often deadlines are looked at, at most; milliseconds. */
const MAX_SWEEP_INTERVAL_MS = 1_000;
/** Smallest buffer that a batch begins with. */
const MIN_INITIAL_BYTES = 1024;

export interface PublisherOptions {
  readonly transport: Transport;
  readonly runtime: Runtime;
  readonly settings: Settings;
  readonly codecs: CompressionCodecs;
  readonly describeTopic: DescribeTopic;
  /** Everything is published in transactions, under this identity; it may change when nothing is unsettled. */
  readonly transaction?: TransactionIdentity | undefined;
  /** A record that was taken was given up or refused. Called after whoever published it was told; often for many in a row. */
  readonly failed?: ((error: NaruError) => void) | undefined;
}

interface BlockedRecord extends MemoryWaiter {
  readonly record: PendingRecord;
  onLeft: (() => void) | null;
}

export class Publisher {
  readonly #options: PublisherOptions;
  readonly #runtime: Runtime;
  readonly #memory: MemoryLimit;
  readonly #reports: DeliveryReports;
  readonly #routes: RouteTable;
  readonly #sender: BatchSender;
  readonly #queues = new Map<PartitionKey, PartitionQueue>();
  #sweepTimer: TimerHandle | null = null;
  #isClosed = false;

  constructor(options: PublisherOptions) {
    this.#options = options;
    this.#runtime = options.runtime;
    const { publisher } = options.settings;
    this.#memory = new MemoryLimit(publisher.bufferBytes, publisher.maxWaiting);
    this.#reports = new DeliveryReports(options.runtime.logger, options.codecs);
    this.#routes = new RouteTable({
      runtime: options.runtime,
      describeTopic: options.describeTopic,
      retry: publisher.retry,
      queue: (topic, topicId, partition) => this.#queue(topic, topicId, partition),
      opened: (route) => this.#routeWaiting(route),
      refused: (route, error) => this.#refuseWaiting(route, error),
    });
    this.#sender = new BatchSender({
      transport: options.transport,
      runtime: options.runtime,
      settings: options.settings,
      producerId: options.transaction?.producerId,
      settled: (queue, batch, error, baseOffset) => this.#settled(queue, batch, error, baseOffset),
      unknownTopic: (topic) => this.#routes.forget(topic),
    });
  }

  /** Bytes of the largest batch that the broker takes, as far as it has said. */
  get maxBatchBytes(): number {
    return this.#sender.maxBatchBytes;
  }

  onDelivery(listener: DeliveryListener): () => void {
    return this.#reports.listen(listener);
  }

  /**
   * Takes a record, or waits until there is memory for it. `settler` is called once, or never where this throws; without one,
   * listeners are told.
   *
   * @returns a function that takes the record back if it still waits, for a caller that does not want to any more
   */
  publish(
    topic: string,
    key: Uint8Array | null,
    value: Uint8Array | null,
    headers: RecordHeaders | undefined,
    timestampMs: number,
    partition: number | undefined,
    settler: Settler | null,
  ): (() => boolean) | null {
    const sizeBytes = this.#check(topic, key, value, headers);
    if (this.#memory.tryReserve(sizeBytes)) {
      this.#take(topic, key, value, headers, timestampMs, partition, settler, sizeBytes);
      return null;
    }
    const createdMs = this.#runtime.clock.monotonicMs();
    const kept = ownHeaders(headers);
    const record = { topic, key, value, headers: kept, timestampMs, partition, settler, sizeBytes, createdMs };
    const blocked: BlockedRecord = {
      record,
      sizeBytes,
      onLeft: null,
      granted: () => {
        this.#takeRecord(record);
        blocked.onLeft?.();
      },
    };
    if (!this.#memory.wait(blocked)) {
      throw new NaruError(
        'BUFFER_FULL',
        `too many publishes wait for memory; use enqueue() and ready(), or await publishes`,
      );
    }
    this.#startSweeping();
    return () => this.#unblock(blocked);
  }

  /** Takes a record that nobody waits for; false when there is no memory. */
  enqueue(
    topic: string,
    key: Uint8Array | null,
    value: Uint8Array | null,
    headers: RecordHeaders | undefined,
    timestampMs: number,
    partition: number | undefined,
  ): boolean {
    const sizeBytes = this.#check(topic, key, value, headers);
    if (!this.#memory.tryReserve(sizeBytes)) return false;
    this.#take(topic, key, value, headers, timestampMs, partition, null, sizeBytes);
    return true;
  }

  /** Tells listeners of an event that never became a record, though it was taken. */
  refused(record: Pick<PendingRecord, 'topic' | 'key' | 'headers' | 'partition'>, error: NaruError): void {
    this.#reports.refused({ ...record, value: null, settler: null }, error);
  }

  whenReady(): Promise<void> {
    return this.#isClosed ? Promise.reject(closedError()) : this.#memory.whenReady();
  }

  /** Sends everything taken so far without waiting for more; resolves when it is settled, one way or the other. */
  async flush(): Promise<void> {
    const lastBlocked = [...this.#memory.waiters()].at(-1) as BlockedRecord | undefined;
    if (lastBlocked !== undefined) {
      await new Promise<void>((resolve) => {
        const previous = lastBlocked.onLeft;
        lastBlocked.onLeft = () => {
          previous?.();
          resolve();
        };
      });
    }
    await Promise.all(this.#routes.all().map((route) => route.whenDrained()));
    await Promise.all(this.#sendAll().map((batch) => batch.whenSettled()));
  }

  /** Whether it is known of every batch what became of it. */
  get isSettled(): boolean {
    return this.#sender.isIdle;
  }

  /**
   * Commits the transaction of everything taken so far, without waiting for acknowledgements: see BatchSender.commit. Null where that
   * saves nothing, or something waits for memory or for its topic: then {@link flush}, and commit by a call.
   */
  commitBehind(transaction: OpenTransaction): Promise<StreamCommitAnswer> | null {
    const [blocked] = this.#memory.waiters();
    const isWaiting = blocked !== undefined || this.#routes.all().some((route) => route.waiting.length > 0);
    if (isWaiting || this.#sender.isIdle) return null;
    this.#sendAll();
    return this.#sender.commit(transaction);
  }

  /** @returns every batch that is not settled; none of them lingers */
  #sendAll(): OutgoingBatch[] {
    const open: OutgoingBatch[] = [];
    for (const queue of this.#sender.busy()) {
      for (const batch of queue.batches()) {
        batch.urgent = true;
        open.push(batch);
      }
      this.#sender.offer(queue);
    }
    return open;
  }

  /** Settles whatever is not settled with `error`, and goes on taking records. Some of it may be stored, or may yet be. */
  giveUp(error: NaruError): void {
    for (const blocked of this.#memory.waiters()) this.#unblock(blocked as BlockedRecord, error);
    for (const route of this.#routes.all()) this.#refuseWaiting(route, error);
    this.#sender.giveUp(Number.POSITIVE_INFINITY, () => error);
  }

  /** Ends at once: what is not settled is given up with CLOSED. Flush before. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#sweepTimer?.cancel();
    this.#routes.close();
    for (const blocked of this.#memory.waiters()) this.#unblock(blocked as BlockedRecord, closedError());
    for (const route of this.#routes.all()) this.#refuseWaiting(route, closedError());
    await this.#sender.close(closedError);
  }

  // Taking records

  #check(topic: string, key: Uint8Array | null, value: Uint8Array | null, headers: RecordHeaders | undefined): number {
    if (this.#isClosed) throw closedError();
    const sizeBytes = recordSizeUpperBound(key, value, headers);
    if (sizeBytes > this.#sender.maxBatchBytes) {
      throw new NaruError(
        'RECORD_TOO_LARGE',
        `event for ${topic} has ${sizeBytes} bytes; the broker takes at most ${this.#sender.maxBatchBytes}`,
      );
    }
    return sizeBytes;
  }

  #take(
    topic: string,
    key: Uint8Array | null,
    value: Uint8Array | null,
    headers: RecordHeaders | undefined,
    timestampMs: number,
    partition: number | undefined,
    settler: Settler | null,
    sizeBytes: number,
  ): void {
    const route = this.#routes.get(topic);
    if (!route.isOpen) {
      const createdMs = this.#runtime.clock.monotonicMs();
      const kept = ownHeaders(headers);
      route.waiting.push({ topic, key, value, headers: kept, timestampMs, partition, settler, sizeBytes, createdMs });
      this.#startSweeping();
      return;
    }
    const queue = route.queueFor(key, partition, this.#runtime.random);
    if (queue instanceof NaruError) {
      this.#refuse({ topic, key, value, headers, partition, settler, sizeBytes }, queue);
      return;
    }
    let batch = queue.open;
    if (batch === null || !batch.append(key, value, headers, timestampMs, settler)) {
      batch = this.#beginBatch(queue, sizeBytes);
      batch.append(key, value, headers, timestampMs, settler);
      this.#sender.offer(queue);
    }
    batch.reservedBytes += sizeBytes;
  }

  #takeRecord(record: PendingRecord): void {
    const { topic, key, value, headers, timestampMs, partition, settler, sizeBytes } = record;
    this.#take(topic, key, value, headers, timestampMs, partition, settler, sizeBytes);
  }

  #beginBatch(queue: PartitionQueue, firstBytes: number): OutgoingBatch {
    const maxBytes = Math.min(this.#options.settings.publisher.batchBytes, this.#sender.maxBatchBytes);
    // A batch becomes about as large as the one before it: a quiet publisher should not clear large buffers.
    const initialBytes = Math.max(MIN_INITIAL_BYTES, firstBytes, Math.min(queue.lastBatchBytes, maxBytes));
    const batch = new OutgoingBatch(new BatchBuilder({ maxBytes, initialBytes }), this.#runtime.clock.monotonicMs());
    queue.begin(batch);
    this.#startSweeping();
    return batch;
  }

  #routeWaiting(route: TopicRoute): void {
    for (const record of route.takeWaiting()) this.#takeRecord(record);
  }

  #refuseWaiting(route: TopicRoute, error: NaruError): void {
    for (const record of route.takeWaiting()) this.#refuse(record, error);
  }

  #refuse(record: Omit<PendingRecord, 'timestampMs' | 'createdMs'>, error: NaruError): void {
    this.#reports.refused(record, error);
    this.#memory.release(record.sizeBytes);
    this.#options.failed?.(error);
  }

  #unblock(blocked: BlockedRecord, error?: NaruError): boolean {
    if (!this.#memory.stopWaiting(blocked)) return false;
    if (error !== undefined) this.#reports.refused(blocked.record, error);
    blocked.onLeft?.();
    this.#memory.release(0);
    if (error !== undefined) this.#options.failed?.(error);
    return true;
  }

  #queue(topic: string, topicId: TopicId, partition: number): PartitionQueue {
    const key = partitionKey(topicId, partition);
    let queue = this.#queues.get(key);
    if (queue === undefined) {
      const { maxInFlight, lingerMs, compression } = this.#options.settings.publisher;
      const { codecs, transaction } = this.#options;
      const sending = { maxInFlight, lingerMs, compression, codecs, transaction };
      queue = new PartitionQueue({ topic, topicId, partition, ...sending });
      this.#queues.set(key, queue);
    }
    return queue;
  }

  #settled(queue: PartitionQueue, batch: OutgoingBatch, error: NaruError | null, baseOffset: number): void {
    this.#reports.settled(queue.options, batch, error, baseOffset);
    batch.settle();
    if (queue.isEmpty) this.#routes.emptied();
    this.#memory.release(batch.reservedBytes);
    if (error !== null) this.#options.failed?.(error);
  }

  // Deadlines

  #startSweeping(): void {
    if (this.#sweepTimer !== null || this.#isClosed) return;
    const intervalMs = Math.min(MAX_SWEEP_INTERVAL_MS, this.#options.settings.publisher.deliveryTimeoutMs / 4);
    this.#sweepTimer = this.#runtime.timers.after(intervalMs, () => {
      this.#sweepTimer = null;
      this.#sweep();
    });
  }

  #sweep(): void {
    const { publisher, requestTimeoutMs } = this.#options.settings;
    const nowMs = this.#runtime.clock.monotonicMs();
    const givenUpMs = nowMs - publisher.deliveryTimeoutMs;
    for (const blocked of this.#memory.waiters() as Iterable<BlockedRecord>) {
      if (blocked.record.createdMs > givenUpMs) break;
      this.#unblock(blocked, this.#timedOut('its event still waited for memory'));
    }
    for (const route of this.#routes.all()) this.#sweepRoute(route, givenUpMs);
    this.#sender.giveUp(givenUpMs, (fate, refusal) => this.#timedOut(fate, this.#sender.lastError ?? refusal));
    this.#sender.checkSilence(nowMs - requestTimeoutMs);
    this.#routes.refresh(nowMs - publisher.metadataMaxAgeMs);
    if (!this.#sender.isIdle || this.#memory.usedBytes > 0) this.#startSweeping();
  }

  #sweepRoute(route: TopicRoute, givenUpMs: number): void {
    const first = route.waiting[0];
    if (first === undefined || first.createdMs > givenUpMs) return;
    const error = this.#timedOut('the partitions of its topic are not known', route.lastError);
    const expired = route.waiting.filter((record) => record.createdMs <= givenUpMs);
    route.waiting = route.waiting.filter((record) => record.createdMs > givenUpMs);
    for (const record of expired) this.#refuse(record, error);
  }

  #timedOut(fate: string, cause: Error | null = this.#sender.lastError): NaruError {
    const { deliveryTimeoutMs } = this.#options.settings.publisher;
    const why = cause === null ? '' : ` (last error: ${cause.message})`;
    const message = `not acknowledged within ${deliveryTimeoutMs} ms; ${fate}${why}`;
    return new NaruError('DELIVERY_TIMEOUT', message, cause === null ? undefined : { cause });
  }
}

function closedError(mayBeStored = false): NaruError {
  return new NaruError('CLOSED', `the publisher is closed${mayBeStored ? '; the event may have been stored' : ''}`);
}
