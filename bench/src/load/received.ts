/** Counts what a receiver got, and how old it was. */
import { latencyHistogram, latencyOf, recordMs, sharedNowMs } from '../measurement.ts';
import type { Latency, LoadResult } from '../measurement.ts';
import { VALUE_BYTES } from '../payload.ts';

/** Values begin with the time at which they were sent, when they are paced. */
export class Received {
  #events = 0;
  #bytes = 0;
  #histogram = latencyHistogram();
  #isTimed = false;
  #waiting: { events: number; resolve: () => void; reject: (error: Error) => void } | null = null;
  #error: Error | null = null;

  event(value: Uint8Array): void {
    this.#bytes += value.length;
    if (this.#isTimed) this.#time(value);
    this.#count(1);
  }

  /** A batch whose events are not looked at. */
  batch(bytes: Uint8Array, events: number): void {
    const isSingle = bytes.length === VALUE_BYTES;
    this.#bytes += (isSingle ? 1 : events) * VALUE_BYTES;
    if (this.#isTimed && isSingle) this.#time(bytes);
    this.#count(isSingle ? 1 : events);
  }

  fail(error: unknown): void {
    this.#error = error instanceof Error ? error : new Error(String(error));
    this.#waiting?.reject(this.#error);
  }

  /** Resolves when so many events came since the beginning, with all that came and the seconds since the call. */
  async until(events: number): Promise<LoadResult> {
    const startMs = performance.now();
    if (this.#events < events) await this.#wait(events);
    return { events: this.#events, bytes: this.#bytes, seconds: (performance.now() - startMs) / 1_000 };
  }

  /** What comes in `seconds`. */
  async during(seconds: number): Promise<LoadResult> {
    const { events, bytes } = { events: this.#events, bytes: this.#bytes };
    const startMs = performance.now();
    await new Promise((resolve) => setTimeout(resolve, seconds * 1_000));
    if (this.#error !== null) throw this.#error;
    const elapsed = (performance.now() - startMs) / 1_000;
    return { events: this.#events - events, bytes: this.#bytes - bytes, seconds: elapsed };
  }

  /** Ages of what came since the last call; the first call begins to record them. */
  takeLatency(): Latency {
    const latency = latencyOf(this.#histogram);
    this.#histogram = latencyHistogram();
    this.#isTimed = true;
    return latency;
  }

  #time(value: Uint8Array): void {
    const sentMs = new DataView(value.buffer, value.byteOffset).getFloat64(0);
    recordMs(this.#histogram, sharedNowMs() - sentMs);
  }

  #count(events: number): void {
    this.#events += events;
    if (this.#waiting !== null && this.#events >= this.#waiting.events) this.#waiting.resolve();
  }

  async #wait(events: number): Promise<void> {
    if (this.#error !== null) throw this.#error;
    await new Promise<void>((resolve, reject) => {
      this.#waiting = { events, resolve, reject };
    });
    this.#waiting = null;
  }
}
