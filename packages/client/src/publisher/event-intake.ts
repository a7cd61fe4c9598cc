/**
 * The way of encoded events into a publisher: at once, or, where a value of their topic still takes a while, in a line, so that
 * the events of a topic are taken in the order in which they were published.
 */
import type { Timers } from '@naru/base';
import type { NaruError } from '@naru/protocol';
import type { RecordHeaders } from '@naru/protocol/batch';
import { isPromise } from '../serde/serde.ts';
import { ownHeaders } from './cloud-events.ts';
import type { EncodedEvent } from './event-encoder.ts';
import type { Settler } from './outgoing-batch.ts';
import { PendingValues } from './pending-values.ts';

/** A publisher: see Publisher.publish and Publisher.enqueue for what they do. */
export interface RecordSink {
  publish(
    topic: string,
    key: Uint8Array | null,
    value: Uint8Array | null,
    headers: RecordHeaders | undefined,
    timestampMs: number,
    partition: number | undefined,
    settler: Settler | null,
  ): (() => boolean) | null;
}

export class EventIntake {
  readonly #sink: RecordSink;
  readonly #pending: PendingValues;
  readonly #failed: (event: EncodedEvent, error: NaruError) => void;

  /**
   * @param timeoutMs how long a value may take
   * @param failed told of an event without a settler that never got its value
   */
  constructor(
    sink: RecordSink,
    timers: Timers,
    timeoutMs: number,
    failed: (event: EncodedEvent, error: NaruError) => void,
  ) {
    this.#sink = sink;
    this.#pending = new PendingValues(timers, timeoutMs);
    this.#failed = failed;
  }

  get isFull(): boolean {
    return this.#pending.isFull;
  }

  /** Whether an event waits for its value, or behind one that does. */
  get isWaiting(): boolean {
    return this.#pending.isWaiting;
  }

  /** Whether the event can go without waiting for a value, its own or an earlier one's. */
  isFree(event: EncodedEvent): event is EncodedEvent & { readonly value: Uint8Array | null } {
    return !isPromise(event.value) && !this.#pending.hasLine(event.topic);
  }

  /**
   * Gives the event to the publisher when it is its turn.
   *
   * @returns a function that takes it back while it waits; null when it does not
   * @throws NaruError BUFFER_FULL, and what the publisher throws
   */
  submit(event: EncodedEvent, settler: Settler | null): (() => boolean) | null {
    if (!this.isFree(event)) return this.lineUp(event, settler);
    const { topic, key, value, headers, timestampMs, partition } = event;
    return this.#sink.publish(topic, key, value, headers, timestampMs, partition, settler);
  }

  /** As {@link submit}, for one that is not free. */
  lineUp(event: EncodedEvent, settler: Settler | null): () => boolean {
    const { topic, key, timestampMs, partition } = event;
    const headers = ownHeaders(event.headers);
    return this.#pending.add(topic, event.value, {
      enter: (ready) => this.#sink.publish(topic, key, ready, headers, timestampMs, partition, settler),
      failed: (error) => {
        if (settler === null) this.#failed({ ...event, headers }, error);
        else settler.reject(error);
      },
    });
  }

  /** Resolves when everything that waits now was given to the publisher, or failed. */
  whenEntered(): Promise<void> {
    return this.#pending.whenEntered();
  }

  /** Resolves when there is room for one more that has to wait. */
  whenRoom(): Promise<void> {
    return this.#pending.whenRoom();
  }

  /** Fails what waits. */
  close(error: () => NaruError): void {
    this.#pending.close(error);
  }
}
