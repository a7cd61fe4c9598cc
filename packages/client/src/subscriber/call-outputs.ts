/**
 * What one call of a handler publishes through its context.
 *
 * Two ways. *Buffered*, where the outputs go into the transaction that commits the event: `publish` resolves as soon as the event is
 * written down, and nothing is sent before the handler has returned. *Plain* everywhere else: it is published at once, and the
 * event is not finished before it is stored.
 *
 * Invariants
 * - Outputs are in the order of the calls of `publish`, however long their serializers take.
 * - One that fails fails the call, also when the handler does not await it or catches that: an event without one of its outputs would
 *   be an output lost.
 *
 * Limits: {@link MAX_CALL_OUTPUTS}, {@link MAX_CALL_OUTPUT_BYTES}.
 */
import { toError } from '@naru/base';
import { NaruError } from '@naru/protocol';
import type { RecordHeaders } from '@naru/protocol/batch';
import { recordSizeUpperBound } from '@naru/protocol/batch';
import type { EnqueueOptions } from '../publish-options.ts';
import { ownHeaders } from '../publisher/cloud-events.ts';
import type { EncodedEvent } from '../publisher/event-encoder.ts';
import { isPromise } from '../serde/serde.ts';
import type { FinishedOutputs } from './outcome-book.ts';

/** Events that one call may publish into a transaction. */
export const MAX_CALL_OUTPUTS = 10_000;
/** Their bytes. */
export const MAX_CALL_OUTPUT_BYTES = 8 * 1024 * 1024;

/** An event that is to be published, as it will be stored. */
export interface Output {
  readonly topic: string;
  readonly key: Uint8Array | null;
  readonly value: Uint8Array | null;
  readonly headers: RecordHeaders | undefined;
  readonly timestampMs: number;
  readonly partition: number | undefined;
}

/** What handlers publish with: the connection's. */
export interface HandlerPublishing {
  /** @throws NaruError for an event that cannot be published at all */
  encode(name: string, value: unknown, options: EnqueueOptions): EncodedEvent;
  /** Rejects when there is no such topic, or that cannot be found out. Undefined: there is one, as far as is known. */
  checkTopic(topic: string): Promise<void> | undefined;
  /** It turned out not to be there. */
  forgetTopic(topic: string): void;
  /** Of the largest event that the broker takes, as far as is known. */
  maxEventBytes(): number;
  /** Resolves when it is stored. */
  publish(name: string, value: unknown, options: EnqueueOptions): Promise<unknown>;
}

export interface CallOutputsOptions {
  readonly publishing: HandlerPublishing;
  readonly isBuffered: boolean;
  /** So many bytes more are buffered. */
  grown(sizeBytes: number): void;
}

export class CallOutputs {
  readonly #options: CallOutputsOptions;
  /** In their order; null while a value is being written. */
  readonly #slots: (Output | null)[] = [];
  readonly #pending: Promise<void>[] = [];
  #sizeBytes = 0;
  #failure: Error | null = null;
  #isOver = false;
  #isDropped = false;

  constructor(options: CallOutputsOptions) {
    this.#options = options;
  }

  /** Of what is buffered. */
  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  /** Resolves when the event is buffered, or stored. Never rejects unobserved. */
  publish(name: string, value: unknown, options: EnqueueOptions = {}): Promise<void> {
    const published = this.#publish(name, value, options).catch((reason: unknown) => {
      const error = toError(reason);
      this.#failure ??= error;
      throw error;
    });
    published.catch(() => {});
    this.#pending.push(published);
    return published;
  }

  /**
   * The handler has returned: waits for what it published.
   *
   * @returns null when there is nothing to go with the event
   * @throws what the first of them failed with
   */
  async ended(eventCount: number): Promise<FinishedOutputs | null> {
    this.#isOver = true;
    await Promise.allSettled(this.#pending);
    if (this.#failure !== null) throw this.#failure;
    if (this.#slots.length === 0) return null;
    return { events: this.#slots as Output[], sizeBytes: this.#sizeBytes, eventCount };
  }

  /** The handler has failed: what it published counts no longer. */
  drop(): void {
    this.#isOver = true;
    this.#isDropped = true;
    this.#slots.length = 0;
  }

  async #publish(name: string, value: unknown, options: EnqueueOptions): Promise<void> {
    if (this.#isOver) throw new NaruError('INVALID_REQUEST', 'publish was called after its handler had ended');
    const { publishing, isBuffered } = this.#options;
    if (!isBuffered) {
      await publishing.publish(name, value, options);
      return;
    }
    if (this.#slots.length >= MAX_CALL_OUTPUTS) {
      throw new NaruError('BUFFER_FULL', `a handler may publish ${MAX_CALL_OUTPUTS} events for one that it handles`);
    }
    const encoding = publishing.encode(name, value, options);
    const at = this.#slots.push(null) - 1;
    const headers = ownHeaders(encoding.headers);
    const key = ownBytes(encoding.key, options.key);
    const bytes = isPromise(encoding.value) ? await encoding.value : ownBytes(encoding.value, value);
    if (this.#isDropped) throw new NaruError('ABORTED', 'the handler has failed');
    this.#grow(encoding.topic, recordSizeUpperBound(key, bytes, headers));
    this.#slots[at] = { ...encoding, key, headers, value: bytes };
    await publishing.checkTopic(encoding.topic);
  }

  #grow(topic: string, sizeBytes: number): void {
    const maxEventBytes = this.#options.publishing.maxEventBytes();
    if (sizeBytes > maxEventBytes) {
      const message = `event for ${topic} has ${sizeBytes} bytes; the broker takes at most ${maxEventBytes}`;
      throw new NaruError('RECORD_TOO_LARGE', message);
    }
    if (this.#sizeBytes + sizeBytes > MAX_CALL_OUTPUT_BYTES) {
      const message = `a handler may publish ${MAX_CALL_OUTPUT_BYTES} bytes for the events that it handles at a time`;
      throw new NaruError('BUFFER_FULL', message);
    }
    this.#sizeBytes += sizeBytes;
    this.#options.grown(sizeBytes);
  }
}

/** A copy where the bytes are the caller's own, who may write to them once they are buffered. */
function ownBytes(bytes: Uint8Array | null, given: unknown): Uint8Array | null {
  return bytes !== null && bytes === given ? bytes.slice() : bytes;
}
