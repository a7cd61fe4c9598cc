/**
 * Publishing: takes records, gathers them into batches by partition, sends them over one stream and tells what became
 * of them.
 *
 * Owns the memory limit, the topics' routes, the delivery deadlines and who is told. The order and identity of a partition's
 * batches are partition-queue.ts's, the connection is producer-stream.ts's.
 *
 * Invariants
 * - A partition has one queue for as long as the publisher lives, since its sequences go on.
 * - Every record that was taken is settled exactly once: stored, or given up with an error.
 */
import type { PartitionKey, TimerHandle, TopicId } from '@naru/base';
import { partitionKey } from '@naru/base';
import { NaruError } from '@naru/protocol';
import type { ErrorCode } from '@naru/protocol';
import type { CompressionCodecs, RecordHeader } from '@naru/protocol/batch';
import { BatchBuilder, recordSizeUpperBound } from '@naru/protocol/batch';
import type { PublishAck } from '@naru/protocol/proto';
import { backoffMs } from '../backoff.ts';
import type { Runtime } from '../runtime.ts';
import type { Settings } from '../settings.ts';
import type { Transport } from '../transport/transport.ts';
import { fromWireError } from '../transport/wire-errors.ts';
import { DeliveryReports } from './delivery-reports.ts';
import { MemoryLimit } from './memory-limit.ts';
import type { MemoryWaiter } from './memory-limit.ts';
import { OutgoingBatch } from './outgoing-batch.ts';
import type { Settler } from './outgoing-batch.ts';
import { PartitionQueue } from './partition-queue.ts';
import { ProducerStream } from './producer-stream.ts';
import type { ProducerLimits } from './producer-stream.ts';
import type { DeliveryListener } from './publish-result.ts';
import { RouteTable } from './route-table.ts';
import type { DescribeTopic } from './route-table.ts';
import type { PendingRecord, TopicRoute } from './topic-route.ts';

/** How often deadlines are looked at, at most; milliseconds. */
const MAX_SWEEP_INTERVAL_MS = 1_000;
/** Until the broker has said what it takes. */
const UNKNOWN_LIMITS: ProducerLimits = { maxBatchBytes: Number.MAX_SAFE_INTEGER, maxInFlightBytes: 1024 * 1024 };
/** Smallest buffer that a batch begins with. */
const MIN_INITIAL_BYTES = 1024;
const CORRELATION_IDS = 2 ** 32;

export interface PublisherOptions {
  readonly transport: Transport;
  readonly runtime: Runtime;
  readonly settings: Settings;
  readonly codecs: CompressionCodecs;
  readonly describeTopic: DescribeTopic;
}

interface OnStream {
  readonly queue: PartitionQueue;
  readonly batch: OutgoingBatch;
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
  readonly #stream: ProducerStream;
  readonly #queues = new Map<PartitionKey, PartitionQueue>();
  /** Queues with anything unsettled. */
  readonly #busy = new Set<PartitionQueue>();
  /** Queues that may have something to send. */
  readonly #ready = new Set<PartitionQueue>();
  /** Queues with a timer, for linger or back-off. */
  readonly #timed = new Map<PartitionQueue, TimerHandle>();
  /** By correlation id, oldest first. */
  readonly #onStream = new Map<number, OnStream>();
  #inFlightBytes = 0;
  #nextCorrelationId = 1;
  #limits = UNKNOWN_LIMITS;
  #isPumpScheduled = false;
  #sweepTimer: TimerHandle | null = null;
  #isClosed = false;

  constructor(options: PublisherOptions) {
    this.#options = options;
    this.#runtime = options.runtime;
    const { publisher, clientId, reconnect, requestTimeoutMs } = options.settings;
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
    this.#stream = new ProducerStream({
      transport: options.transport,
      runtime: options.runtime,
      clientId,
      openTimeoutMs: requestTimeoutMs,
      reconnect,
      events: {
        opened: (limits) => this.#opened(limits),
        writable: () => this.#pump(),
        acknowledged: (acks) => this.#acknowledged(acks),
        lost: () => this.#lost(),
        isNeeded: () => this.#busy.size > 0 && !this.#isClosed,
      },
    });
  }

  onDelivery(listener: DeliveryListener): () => void {
    return this.#reports.listen(listener);
  }

  /**
   * Takes a record, or waits until there is memory for it. `settler` is called once, or never where this throws.
   *
   * @returns a function that takes the record back if it still waits, for a caller that does not want to any more
   */
  publish(
    topic: string,
    key: Uint8Array | null,
    value: Uint8Array | null,
    headers: readonly RecordHeader[] | undefined,
    timestampMs: number,
    partition: number | undefined,
    settler: Settler,
  ): (() => boolean) | null {
    const sizeBytes = this.#check(topic, key, value, headers);
    if (this.#memory.tryReserve(sizeBytes)) {
      this.#take(topic, key, value, headers, timestampMs, partition, settler, sizeBytes);
      return null;
    }
    const createdMs = this.#runtime.clock.monotonicMs();
    const record = { topic, key, value, headers, timestampMs, partition, settler, sizeBytes, createdMs };
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
      throw new NaruError('BUFFER_FULL', `too many publishes wait for memory; use enqueue() and ready(), or await publishes`);
    }
    this.#startSweeping();
    return () => this.#unblock(blocked);
  }

  /** Takes a record that nobody waits for; false when there is no memory. */
  enqueue(
    topic: string,
    key: Uint8Array | null,
    value: Uint8Array | null,
    headers: readonly RecordHeader[] | undefined,
    timestampMs: number,
    partition: number | undefined,
  ): boolean {
    const sizeBytes = this.#check(topic, key, value, headers);
    if (!this.#memory.tryReserve(sizeBytes)) return false;
    this.#take(topic, key, value, headers, timestampMs, partition, null, sizeBytes);
    return true;
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
    const settled: Promise<void>[] = [];
    for (const queue of this.#busy) {
      for (const batch of queue.batches()) {
        batch.urgent = true;
        settled.push(batch.whenSettled());
      }
      this.#markReady(queue);
    }
    await Promise.all(settled);
  }

  /** Ends at once: what is not settled is given up with CLOSED. Flush before. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#sweepTimer?.cancel();
    for (const timer of this.#timed.values()) timer.cancel();
    this.#routes.close();
    for (const blocked of this.#memory.waiters()) this.#unblock(blocked as BlockedRecord, closedError());
    for (const route of this.#routes.all()) this.#refuseWaiting(route, closedError());
    for (const queue of this.#busy) {
      for (const batch of queue.batches()) this.#settle(queue, batch, closedError(batch.state !== 'gathering'), 0);
    }
    this.#busy.clear();
    await this.#stream.close();
  }

  // Taking records

  #check(
    topic: string,
    key: Uint8Array | null,
    value: Uint8Array | null,
    headers: readonly RecordHeader[] | undefined,
  ): number {
    if (this.#isClosed) throw closedError();
    const sizeBytes = recordSizeUpperBound(key, value, headers);
    if (sizeBytes > this.#limits.maxBatchBytes) {
      throw new NaruError(
        'RECORD_TOO_LARGE',
        `event for ${topic} has ${sizeBytes} bytes; the broker takes at most ${this.#limits.maxBatchBytes}`,
      );
    }
    return sizeBytes;
  }

  #take(
    topic: string,
    key: Uint8Array | null,
    value: Uint8Array | null,
    headers: readonly RecordHeader[] | undefined,
    timestampMs: number,
    partition: number | undefined,
    settler: Settler | null,
    sizeBytes: number,
  ): void {
    const route = this.#routes.get(topic);
    if (!route.isOpen) {
      const createdMs = this.#runtime.clock.monotonicMs();
      route.waiting.push({ topic, key, value, headers, timestampMs, partition, settler, sizeBytes, createdMs });
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
      this.#markReady(queue);
    }
    batch.reservedBytes += sizeBytes;
  }

  #takeRecord(record: PendingRecord): void {
    const { topic, key, value, headers, timestampMs, partition, settler, sizeBytes } = record;
    this.#take(topic, key, value, headers, timestampMs, partition, settler, sizeBytes);
  }

  #beginBatch(queue: PartitionQueue, firstBytes: number): OutgoingBatch {
    const maxBytes = Math.min(this.#options.settings.publisher.batchBytes, this.#limits.maxBatchBytes);
    // A batch becomes about as large as the one before it: a quiet publisher should not clear large buffers.
    const initialBytes = Math.max(MIN_INITIAL_BYTES, firstBytes, Math.min(queue.lastBatchBytes, maxBytes));
    const batch = new OutgoingBatch(new BatchBuilder({ maxBytes, initialBytes }), this.#runtime.clock.monotonicMs());
    queue.begin(batch);
    this.#busy.add(queue);
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
  }

  #unblock(blocked: BlockedRecord, error?: NaruError): boolean {
    if (!this.#memory.stopWaiting(blocked)) return false;
    if (error !== undefined) blocked.record.settler?.reject(error);
    blocked.onLeft?.();
    this.#memory.release(0);
    return true;
  }

  #queue(topic: string, topicId: TopicId, partition: number): PartitionQueue {
    const key = partitionKey(topicId, partition);
    let queue = this.#queues.get(key);
    if (queue === undefined) {
      const { maxInFlight, lingerMs, compression } = this.#options.settings.publisher;
      const { codecs } = this.#options;
      queue = new PartitionQueue({ topic, topicId, partition, maxInFlight, lingerMs, compression, codecs });
      this.#queues.set(key, queue);
    }
    return queue;
  }

  // Sending

  #markReady(queue: PartitionQueue): void {
    this.#ready.add(queue);
    if (this.#isPumpScheduled) return;
    this.#isPumpScheduled = true;
    // After the caller's turn, so that publishes made together go together.
    queueMicrotask(() => {
      this.#isPumpScheduled = false;
      this.#pump();
    });
  }

  #pump(): void {
    if (this.#isClosed || this.#ready.size === 0) return;
    this.#stream.open();
    for (const queue of this.#ready) {
      if (!this.#stream.isWritable || this.#inFlightBytes >= this.#limits.maxInFlightBytes) return;
      this.#ready.delete(queue);
      const nowMs = this.#runtime.clock.monotonicMs();
      const batch = queue.next(this.#stream.producerId, nowMs);
      if (batch === null) {
        this.#waitForQueue(queue, nowMs);
        continue;
      }
      // To the end of the line: partitions take turns.
      this.#ready.add(queue);
      if (batch.buildError === null) this.#send(queue, batch, nowMs);
      else this.#settle(queue, batch, notEncoded(batch.buildError), 0);
    }
  }

  #send(queue: PartitionQueue, batch: OutgoingBatch, nowMs: number): void {
    const correlationId = this.#nextCorrelationId;
    this.#nextCorrelationId = (correlationId + 1) % CORRELATION_IDS;
    batch.correlationId = correlationId;
    queue.sent(batch, nowMs);
    this.#onStream.set(correlationId, { queue, batch });
    this.#inFlightBytes += batch.bytes.length;
    this.#stream.send(correlationId, queue.topicIdBytes, queue.options.partition, batch.bytes);
  }

  /** Nothing to send now: comes back when the linger or back-off is over. Otherwise an answer brings it back. */
  #waitForQueue(queue: PartitionQueue, nowMs: number): void {
    if (this.#timed.has(queue)) return;
    let waitMs: number;
    if (queue.wantsBackoff) {
      waitMs = backoffMs(this.#options.settings.publisher.retry, queue.failures, this.#runtime.random);
    } else {
      waitMs = queue.lingerLeftMs(nowMs);
      if (waitMs <= 0 || !Number.isFinite(waitMs)) return;
    }
    const timer = this.#runtime.timers.after(waitMs, () => {
      this.#timed.delete(queue);
      queue.resume();
      this.#markReady(queue);
    });
    this.#timed.set(queue, timer);
  }

  #opened(limits: ProducerLimits): void {
    this.#limits = limits;
    for (const queue of this.#busy) this.#ready.add(queue);
    this.#pump();
  }

  #lost(): void {
    this.#onStream.clear();
    this.#inFlightBytes = 0;
    for (const queue of this.#busy) {
      queue.streamLost();
      this.#ready.add(queue);
    }
  }

  // Answers

  #acknowledged(acks: readonly PublishAck[]): void {
    for (const ack of acks) {
      const entry = this.#takeOffStream(ack.correlationId);
      if (entry === undefined) continue; // given up in the meantime
      const { queue, batch } = entry;
      const error = ack.error === undefined ? null : fromWireError(ack.error);
      const outcome = queue.answered(batch, error);
      if (outcome === 'settle') this.#settle(queue, batch, error, Number(ack.baseOffset));
      else this.#runtime.logger.warn({ ...describe(queue), code: error?.code }, 'batch refused; sending it again');
      if (error?.code === 'UNKNOWN_TOPIC_OR_PARTITION') this.#routes.forget(queue.options.topic);
      this.#ready.add(queue);
    }
    this.#pump();
  }

  #takeOffStream(correlationId: number): OnStream | undefined {
    const entry = this.#onStream.get(correlationId);
    if (entry === undefined) return undefined;
    this.#onStream.delete(correlationId);
    this.#inFlightBytes -= entry.batch.bytes.length;
    return entry;
  }

  #settle(queue: PartitionQueue, batch: OutgoingBatch, error: NaruError | null, baseOffset: number): void {
    this.#reports.settled(queue.options, batch, error, baseOffset);
    batch.settle();
    if (queue.isEmpty) {
      this.#busy.delete(queue);
      this.#routes.emptied();
    }
    this.#memory.release(batch.reservedBytes);
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
    for (const queue of this.#busy) this.#sweepQueue(queue, givenUpMs);
    const oldest = this.#onStream.values().next().value;
    if (oldest !== undefined && oldest.batch.sentMs <= nowMs - requestTimeoutMs) {
      this.#stream.reset(`no answer for ${requestTimeoutMs} ms`);
    }
    this.#routes.refresh(nowMs - publisher.metadataMaxAgeMs);
    const isIdle = this.#busy.size === 0 && this.#memory.usedBytes === 0;
    if (!isIdle) this.#startSweeping();
    this.#pump();
  }

  #sweepRoute(route: TopicRoute, givenUpMs: number): void {
    const first = route.waiting[0];
    if (first === undefined || first.createdMs > givenUpMs) return;
    const error = this.#timedOut('the partitions of its topic are not known', route.lastError);
    const expired = route.waiting.filter((record) => record.createdMs <= givenUpMs);
    route.waiting = route.waiting.filter((record) => record.createdMs > givenUpMs);
    for (const record of expired) this.#refuse(record, error);
  }

  #sweepQueue(queue: PartitionQueue, givenUpMs: number): void {
    for (const batch of queue.batches()) {
      if (batch.createdMs > givenUpMs) return;
      const mayBeStored = batch.state === 'sent' || batch.state === 'unknown';
      if (batch.state === 'sent') this.#takeOffStream(batch.correlationId);
      queue.abandon(batch);
      const fate = mayBeStored ? 'it was sent and may have been stored' : 'it was not stored';
      this.#settle(queue, batch, this.#timedOut(fate), 0);
      this.#markReady(queue);
    }
  }

  #timedOut(fate: string, cause: Error | null = this.#stream.lastError): NaruError {
    const { deliveryTimeoutMs } = this.#options.settings.publisher;
    const why = cause === null ? '' : ` (last error: ${cause.message})`;
    return error('DELIVERY_TIMEOUT', `not acknowledged within ${deliveryTimeoutMs} ms; ${fate}${why}`, cause);
  }
}

function error(code: ErrorCode, message: string, cause: unknown): NaruError {
  return new NaruError(code, message, cause === null ? undefined : { cause });
}

function closedError(mayBeStored = false): NaruError {
  return new NaruError('CLOSED', `the publisher is closed${mayBeStored ? '; the event may have been stored' : ''}`);
}

function notEncoded(cause: unknown): NaruError {
  return cause instanceof NaruError ? cause : error('SERIALIZATION', `cannot encode the batch: ${String(cause)}`, cause);
}

function describe(queue: PartitionQueue): { topic: string; partition: number } {
  return { topic: queue.options.topic, partition: queue.options.partition };
}
