/**
 * The connection of the publisher: one stream to the broker, opened when there is something to send and opened again,
 * with back-off, for as long as there is. Keeps the producer id over reconnections.
 *
 * Knows nothing of partitions and sequences.
 */
import type { TimerHandle } from '@naru/base';
import { assert, delay, toSafeInteger } from '@naru/base';
import { create } from '@bufbuild/protobuf';
import type { MessageInitShape } from '@bufbuild/protobuf';
import { NaruError } from '@naru/protocol';
import { PublishStreamRequestSchema } from '@naru/protocol/proto';
import type { CommitTransactionSchema, ProducerOpened, PublishAck } from '@naru/protocol/proto';
import type { BackoffPolicy } from '../backoff.ts';
import { backoffMs } from '../backoff.ts';
import type { Runtime } from '../runtime.ts';
import type { PublishStream, Transport } from '../transport/transport.ts';

/** Messages handed to the connection at a time; further batches go on gathering records. */
const MAX_BACKLOG = 2;

export interface ProducerLimits {
  readonly maxBatchBytes: number;
  readonly maxInFlightBytes: number;
}

export interface ProducerStreamEvents {
  /** Batches can be sent. */
  opened(limits: ProducerLimits): void;
  /** More batches can be sent. */
  writable(): void;
  acknowledged(acks: readonly PublishAck[]): void;
  /** Whatever was sent and not acknowledged is open. */
  lost(): void;
  /** Whether the stream should be opened again. */
  isNeeded(): boolean;
}

export interface ProducerStreamOptions {
  readonly transport: Transport;
  readonly runtime: Runtime;
  readonly clientId: string;
  /** Milliseconds until the broker has to answer to the opening. */
  readonly openTimeoutMs: number;
  readonly reconnect: BackoffPolicy;
  /** One that the broker has given already; without, it gives one for this stream. */
  readonly producerId?: number | undefined;
  readonly events: ProducerStreamEvents;
}

export class ProducerStream {
  readonly #options: ProducerStreamOptions;
  readonly #closing = new AbortController();
  #running: Promise<void> | null = null;
  #stream: PublishStream | null = null;
  #isOpen = false;
  #producerId: bigint | undefined;
  #failures = 0;
  /** Why there is no connection; for messages about what could not be delivered. */
  lastError: NaruError | null = null;

  constructor(options: ProducerStreamOptions) {
    this.#options = options;
    if (options.producerId !== undefined) this.#producerId = BigInt(options.producerId);
  }

  get producerId(): number {
    assert(this.#producerId !== undefined, 'a stream that was opened has a producer id');
    return Number(this.#producerId);
  }

  /** Whether a batch can be sent now. If not, `opened` or `writable` follows. */
  get isWritable(): boolean {
    return this.#isOpen && (this.#stream?.backlog ?? MAX_BACKLOG) < MAX_BACKLOG;
  }

  /** Opens the stream unless it is open or being opened. */
  open(): void {
    if (this.#running !== null || this.#closing.signal.aborted) return;
    this.#running = this.#run().finally(() => {
      this.#running = null;
      // Something may have come while the last stream ended.
      if (this.#options.events.isNeeded()) this.open();
    });
  }

  /** `records` is the stream's until it is acknowledged or lost. */
  send(correlationId: number, topicId: Uint8Array, partition: number, records: Uint8Array): void {
    assert(this.#isOpen && this.#stream !== null, 'batches are sent on an open stream');
    const value = { $typeName: 'naru.v1.PublishBatch', correlationId, topicId, partition, records } as const;
    this.#stream.send({ $typeName: 'naru.v1.PublishStreamRequest', message: { case: 'batch', value } });
  }

  /** Behind the batches that were sent before. */
  sendCommit(commit: MessageInitShape<typeof CommitTransactionSchema>): void {
    assert(this.#isOpen && this.#stream !== null, 'a commit is sent on an open stream');
    this.#stream.send(create(PublishStreamRequestSchema, { message: { case: 'commit', value: commit } }));
  }

  /** Breaks the connection off, as when the broker no longer answers; it is opened again when needed. */
  reset(reason: string): void {
    this.#options.runtime.logger.warn({ reason }, 'breaking off the publish stream');
    this.#stream?.abort();
  }

  async close(): Promise<void> {
    this.#closing.abort(new NaruError('CLOSED', 'the publisher was closed'));
    this.#stream?.end();
    this.#stream?.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { events, runtime, reconnect } = this.#options;
    while (!this.#closing.signal.aborted) {
      try {
        await this.#session();
        this.lastError = new NaruError('NETWORK', 'the broker ended the publish stream');
      } catch (error) {
        this.lastError = error instanceof NaruError ? error : new NaruError('NETWORK', String(error), { cause: error });
      }
      this.#isOpen = false;
      this.#stream = null;
      events.lost();
      if (this.#closing.signal.aborted || !events.isNeeded()) return;
      this.#failures += 1;
      const waitMs = backoffMs(reconnect, this.#failures, runtime.random);
      runtime.logger.warn({ error: this.lastError.message, waitMs }, 'publish stream lost; connecting again');
      await delay(runtime.timers, waitMs, this.#closing.signal).catch(() => {});
    }
  }

  async #session(): Promise<void> {
    const { transport, runtime, clientId, openTimeoutMs } = this.#options;
    const stream = transport.openPublishStream();
    this.#stream = stream;
    stream.onDrain = () => {
      if (this.#isOpen) this.#options.events.writable();
    };
    const producerId = this.#producerId;
    const open = { clientId, ...(producerId === undefined ? {} : { producerId }) };
    stream.send(create(PublishStreamRequestSchema, { message: { case: 'open', value: open } }));
    const timer: TimerHandle = runtime.timers.after(openTimeoutMs, () => stream.abort());
    try {
      for await (const { message } of stream) {
        if (message.case === 'opened') {
          timer.cancel();
          this.#opened(message.value);
        } else if (message.case === 'acks') {
          this.#options.events.acknowledged(message.value.acks);
        }
      }
    } finally {
      timer.cancel();
      stream.abort();
    }
  }

  #opened(opened: ProducerOpened): void {
    toSafeInteger(opened.producerId, 'producer id');
    this.#producerId = opened.producerId;
    this.#isOpen = true;
    this.#failures = 0;
    this.lastError = null;
    this.#options.events.opened({ maxBatchBytes: opened.maxBatchBytes, maxInFlightBytes: opened.maxInFlightBytes });
  }
}
