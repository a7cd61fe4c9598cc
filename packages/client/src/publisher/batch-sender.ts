/**
 * Puts batches on the stream and hears what became of them: which partition is next, how much is on the way, linger and
 * back-off times, silence of the broker.
 *
 * Partitions take turns. Does not take records, and does not tell publishers: it calls `settled` once for every batch.
 */
import type { TimerHandle } from '@naru/base';
import { NaruError } from '@naru/protocol';
import type { PublishAck } from '@naru/protocol/proto';
import { backoffMs } from '../backoff.ts';
import type { Runtime } from '../runtime.ts';
import type { Settings } from '../settings.ts';
import type { Transport } from '../transport/transport.ts';
import { fromWireError } from '../transport/wire-errors.ts';
import type { OutgoingBatch } from './outgoing-batch.ts';
import type { PartitionQueue } from './partition-queue.ts';
import { ProducerStream } from './producer-stream.ts';
import type { ProducerLimits } from './producer-stream.ts';
import { StreamCommit } from './stream-commit.ts';
import type { OpenTransaction, StreamCommitAnswer } from './stream-commit.ts';

/** Until the broker has said what it takes. */
const UNKNOWN_LIMITS: ProducerLimits = { maxBatchBytes: Number.MAX_SAFE_INTEGER, maxInFlightBytes: 1024 * 1024 };
const CORRELATION_IDS = 2 ** 32;

export interface BatchSenderOptions {
  readonly transport: Transport;
  readonly runtime: Runtime;
  readonly settings: Settings;
  /** Of a transactional producer. */
  readonly producerId?: number | undefined;
  /** The batch is stored at `baseOffset`, or given up with `error`. It is out of its queue. */
  settled(queue: PartitionQueue, batch: OutgoingBatch, error: NaruError | null, baseOffset: number): void;
  /** The broker does not know the partition. */
  unknownTopic(topic: string): void;
}

interface OnStream {
  readonly queue: PartitionQueue;
  readonly batch: OutgoingBatch;
}

export class BatchSender {
  readonly #options: BatchSenderOptions;
  readonly #runtime: Runtime;
  readonly #stream: ProducerStream;
  /** Queues with anything unsettled. */
  readonly #busy = new Set<PartitionQueue>();
  /** Queues that may have something to send. */
  readonly #ready = new Set<PartitionQueue>();
  /** Queues with a timer, for linger or back-off. */
  readonly #timed = new Map<PartitionQueue, TimerHandle>();
  /** By correlation id, oldest first. */
  readonly #onStream = new Map<number, OnStream>();
  /** With something in the epoch of a transaction. */
  readonly #written = new Set<PartitionQueue>();
  #commit: StreamCommit | null = null;
  #inFlightBytes = 0;
  #nextCorrelationId = 1;
  #limits = UNKNOWN_LIMITS;
  #isPumpScheduled = false;
  #isClosed = false;

  constructor(options: BatchSenderOptions) {
    this.#options = options;
    this.#runtime = options.runtime;
    const { clientId, reconnect, requestTimeoutMs } = options.settings;
    this.#stream = new ProducerStream({
      transport: options.transport,
      runtime: options.runtime,
      clientId,
      openTimeoutMs: requestTimeoutMs,
      reconnect,
      producerId: options.producerId,
      events: {
        opened: (limits) => this.#opened(limits),
        writable: () => this.#pump(),
        acknowledged: (acks) => this.#acknowledged(acks),
        lost: () => this.#lost(),
        isNeeded: () => this.#busy.size > 0 && !this.#isClosed,
      },
    });
  }

  /** Bytes of the largest batch that the broker takes. */
  get maxBatchBytes(): number {
    return this.#limits.maxBatchBytes;
  }

  get isIdle(): boolean {
    return this.#busy.size === 0;
  }

  /** Why there is no connection, if there is none. */
  get lastError(): NaruError | null {
    return this.#stream.lastError;
  }

  /** Queues with anything unsettled. */
  busy(): Iterable<PartitionQueue> {
    return this.#busy;
  }

  /** The queue has a batch to send. It goes after the caller's turn, so that publishes made together go together. */
  offer(queue: PartitionQueue): void {
    this.#busy.add(queue);
    this.#ready.add(queue);
    if (this.#isPumpScheduled) return;
    this.#isPumpScheduled = true;
    queueMicrotask(() => {
      this.#isPumpScheduled = false;
      this.#pump();
    });
  }

  /**
   * Commits a transaction behind its batches, as soon as all are sent. The caller takes nothing more until it is answered.
   */
  async commit(transaction: OpenTransaction): Promise<StreamCommitAnswer> {
    const { requestTimeoutMs } = this.#options.settings;
    const commit = new StreamCommit(transaction);
    this.#commit = commit;
    const timer = this.#runtime.timers.after(requestTimeoutMs, () => {
      if (commit.isSent) this.#stream.reset(`no answer to a commit for ${requestTimeoutMs} ms`);
      else commit.broken();
    });
    for (const queue of this.#written) if (!queue.isOf(transaction)) this.#written.delete(queue);
    this.#sendCommit();
    try {
      return await commit.answer;
    } finally {
      timer.cancel();
      this.#commit = null;
    }
  }

  /** Gives up what was begun before `givenUpMs` (monotonic), with the error that `timedOut` makes of its fate. */
  giveUp(givenUpMs: number, timedOut: (fate: string, refusal: NaruError | null) => NaruError): void {
    if (this.#commit?.isSent === false) this.#commit.broken();
    for (const queue of this.#busy) this.#giveUpIn(queue, givenUpMs, timedOut);
  }

  /** Breaks the connection off when the oldest batch on it was sent before `sentMs` (monotonic). */
  checkSilence(sentMs: number): void {
    const oldest = this.#onStream.values().next().value;
    if (oldest !== undefined && oldest.batch.sentMs <= sentMs) {
      this.#stream.reset(`no answer for ${this.#options.settings.requestTimeoutMs} ms`);
    }
  }

  /** Ends at once; what is open is settled with the error that `closed` makes. */
  async close(closed: (mayBeStored: boolean) => NaruError): Promise<void> {
    this.#isClosed = true;
    this.#commit?.broken();
    for (const timer of this.#timed.values()) timer.cancel();
    for (const queue of this.#busy) {
      for (const batch of queue.batches()) this.#settle(queue, batch, closed(batch.state !== 'gathering'), 0);
    }
    this.#busy.clear();
    await this.#stream.close();
  }

  #pump(): void {
    if (this.#isClosed) return;
    this.#sendBatches();
    this.#sendCommit();
  }

  #sendBatches(): void {
    if (this.#ready.size === 0) return;
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
    if (queue.options.transaction !== undefined) this.#written.add(queue);
    this.#stream.send(correlationId, queue.topicIdBytes, queue.options.partition, batch.bytes);
  }

  #sendCommit(): void {
    if (this.#commit === null || this.#commit.isSent || !this.#stream.isWritable) return;
    for (const queue of this.#busy) if (!queue.isAllSent) return;
    const correlationId = this.#nextCorrelationId;
    this.#nextCorrelationId = (correlationId + 1) % CORRELATION_IDS;
    this.#stream.sendCommit(this.#commit.send(correlationId, this.#written));
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
      this.offer(queue);
    });
    this.#timed.set(queue, timer);
  }

  #opened(limits: ProducerLimits): void {
    this.#limits = limits;
    for (const queue of this.#busy) this.#ready.add(queue);
    this.#pump();
  }

  #lost(): void {
    this.#commit?.broken();
    this.#onStream.clear();
    this.#inFlightBytes = 0;
    for (const queue of this.#busy) {
      queue.streamLost();
      this.#ready.add(queue);
    }
  }

  #acknowledged(acks: readonly PublishAck[]): void {
    for (const ack of acks) {
      if (ack.correlationId === this.#commit?.correlationId) this.#commit.answered(ack);
      const entry = this.#takeOffStream(ack.correlationId);
      if (entry === undefined) continue; // given up in the meantime
      const { queue, batch } = entry;
      const error = ack.error === undefined ? null : fromWireError(ack.error);
      const outcome = queue.answered(batch, error);
      // What is sent again, or not stored at all, is not committed behind: that would be refused.
      if (error !== null && this.#commit?.isSent === false) this.#commit.broken();
      if (outcome === 'settle') this.#settle(queue, batch, error, Number(ack.baseOffset));
      else this.#runtime.logger.warn({ ...describe(queue), code: error?.code }, 'batch refused; sending it again');
      if (error?.code === 'UNKNOWN_TOPIC_OR_PARTITION') this.#options.unknownTopic(queue.options.topic);
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
    if (queue.isEmpty) this.#busy.delete(queue);
    this.#options.settled(queue, batch, error, baseOffset);
  }

  #giveUpIn(
    queue: PartitionQueue,
    givenUpMs: number,
    timedOut: (fate: string, refusal: NaruError | null) => NaruError,
  ): void {
    for (const batch of queue.batches()) {
      if (batch.createdMs > givenUpMs) return;
      const mayBeStored = batch.state === 'sent' || batch.state === 'unknown';
      if (batch.state === 'sent') this.#takeOffStream(batch.correlationId);
      queue.abandon(batch);
      const fate = mayBeStored ? 'it was sent and may have been stored' : 'it was not stored';
      this.#settle(queue, batch, timedOut(fate, queue.lastError), 0);
      if (!queue.isEmpty) this.offer(queue);
    }
  }
}

function notEncoded(cause: unknown): NaruError {
  return cause instanceof NaruError
    ? cause
    : new NaruError('SERIALIZATION', `cannot encode the batch: ${String(cause)}`, { cause });
}

function describe(queue: PartitionQueue): { topic: string; partition: number } {
  return { topic: queue.options.topic, partition: queue.options.partition };
}
