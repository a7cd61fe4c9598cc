/**
 * Events whose values take a while: a serializer asks a schema registry, or validates asynchronously.
 *
 * Keeps the events of a topic in the order in which they were published: whatever is published behind one that still waits
 * for its value waits with it, whether its own value is ready or not. A topic has a line only while something of it waits, so
 * the others, and this one before and after, go past here.
 *
 * Every event that is added enters, or fails, exactly once; or is taken back. None waits longer than the delivery time-out.
 */
import type { TimerHandle, Timers } from '@naru/base';
import { toError } from '@naru/base';
import { NaruError } from '@naru/protocol';
import type { Deferred } from '../deferred.ts';
import { deferred } from '../deferred.ts';

/** Events that may wait for values, of all topics. */
export const MAX_PENDING_VALUES = 10_000;

type Bytes = Uint8Array | null;

export interface PendingEvent {
  /** Its turn has come. What it returns takes the event back, where that is possible. */
  enter(value: Bytes): (() => boolean) | null;
  failed(error: NaruError): void;
}

interface Place {
  readonly event: PendingEvent;
  timer: TimerHandle | null;
  /** Undefined while it waits. */
  value: Bytes | undefined;
  takeBack: (() => boolean) | null;
}

export class PendingValues {
  readonly #timers: Timers;
  readonly #timeoutMs: number;
  readonly #lines = new Map<string, Set<Place>>();
  #size = 0;
  #room: Deferred<void> | null = null;

  /** @param timeoutMs how long a value may take */
  constructor(timers: Timers, timeoutMs: number) {
    this.#timers = timers;
    this.#timeoutMs = timeoutMs;
  }

  get isFull(): boolean {
    return this.#size >= MAX_PENDING_VALUES;
  }

  /** Whether anything waits. */
  get isWaiting(): boolean {
    return this.#lines.size > 0;
  }

  /** Whether an event for `topic` has to line up. */
  hasLine(topic: string): boolean {
    return this.#lines.size > 0 && this.#lines.has(topic);
  }

  /**
   * Lines an event up.
   *
   * @returns a function that takes it back if it has not been sent
   * @throws NaruError BUFFER_FULL
   */
  add(topic: string, value: Promise<Bytes> | Bytes, event: PendingEvent): () => boolean {
    const isReady = value === null || value instanceof Uint8Array;
    if (this.isFull) {
      if (!isReady) value.catch(() => {});
      throw new NaruError('BUFFER_FULL', `${MAX_PENDING_VALUES} events wait for their values; await publishes`);
    }
    const place: Place = { event, timer: null, value: isReady ? value : undefined, takeBack: null };
    let line = this.#lines.get(topic);
    if (line === undefined) this.#lines.set(topic, (line = new Set()));
    line.add(place);
    this.#size += 1;
    if (isReady) {
      this.#advance(topic, line);
    } else {
      place.timer = this.#timers.after(this.#timeoutMs, () => this.#fail(topic, place, this.#timedOut()));
      value.then(
        (ready) => this.#ready(topic, place, ready),
        (error: unknown) => this.#fail(topic, place, asNaruError(error)),
      );
    }
    return () => (this.#leave(topic, place) ? true : (place.takeBack?.() ?? false));
  }

  /** Resolves when everything that waits now has entered or failed. */
  async whenEntered(): Promise<void> {
    await Promise.all([...this.#lines].map(([topic]) => this.#whenPassed(topic)));
  }

  /** Resolves when there is room for one more. */
  whenRoom(): Promise<void> {
    if (!this.isFull) return Promise.resolve();
    this.#room ??= deferred();
    return this.#room.promise;
  }

  /** Fails what waits. */
  close(error: () => NaruError): void {
    for (const [topic, line] of this.#lines) {
      // From the end, so that none gets its turn because the one before it failed.
      for (const place of [...line].reverse()) this.#fail(topic, place, error());
    }
  }

  #whenPassed(topic: string): Promise<void> {
    return new Promise((resolve) => {
      const takeTurn = (): null => {
        resolve();
        return null;
      };
      const marker: Place = { event: { enter: takeTurn, failed: takeTurn }, timer: null, value: null, takeBack: null };
      this.#lines.get(topic)?.add(marker);
      this.#size += 1;
    });
  }

  #ready(topic: string, place: Place, value: Bytes): void {
    const line = this.#lines.get(topic);
    if (line?.has(place) !== true) return;
    place.timer?.cancel();
    place.value = value;
    this.#advance(topic, line);
  }

  #fail(topic: string, place: Place, error: NaruError): void {
    const line = this.#lines.get(topic);
    if (line?.has(place) !== true) return;
    // Told before its successors enter, as it would have been without waiting.
    this.#remove(line, place);
    place.event.failed(error);
    this.#advance(topic, line);
  }

  #leave(topic: string, place: Place): boolean {
    const line = this.#lines.get(topic);
    if (line?.has(place) !== true) return false;
    this.#remove(line, place);
    this.#advance(topic, line);
    return true;
  }

  #advance(topic: string, line: Set<Place>): void {
    for (const place of line) {
      if (place.value === undefined) return;
      this.#remove(line, place);
      try {
        place.takeBack = place.event.enter(place.value);
      } catch (error) {
        place.event.failed(asNaruError(error));
      }
    }
    // A listener that was told of a failure may have published, and the line begun anew.
    if (line.size === 0 && this.#lines.get(topic) === line) this.#lines.delete(topic);
  }

  #remove(line: Set<Place>, place: Place): void {
    line.delete(place);
    place.timer?.cancel();
    this.#size -= 1;
    if (this.#room !== null && !this.isFull) {
      this.#room.resolve();
      this.#room = null;
    }
  }

  #timedOut(): NaruError {
    return new NaruError('DELIVERY_TIMEOUT', `its value was not ready within ${this.#timeoutMs} ms; it was not sent`);
  }
}

function asNaruError(error: unknown): NaruError {
  if (error instanceof NaruError) return error;
  return new NaruError('SERIALIZATION', toError(error).message, { cause: error });
}
