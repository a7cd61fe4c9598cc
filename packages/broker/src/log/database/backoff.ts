/** Waits between attempts, longer each time, until one works or nobody waits any more. */
import type { TimerHandle, Timers } from '@naru/base';

export class Backoff {
  readonly #timers: Timers;
  readonly #firstMs: number;
  readonly #longestMs: number;
  #nextMs: number;
  #handle: TimerHandle | null = null;
  #wake: (() => void) | null = null;
  #stopped = false;

  constructor(timers: Timers, firstMs: number, longestMs: number) {
    this.#timers = timers;
    this.#firstMs = firstMs;
    this.#longestMs = longestMs;
    this.#nextMs = firstMs;
  }

  get stopped(): boolean {
    return this.#stopped;
  }

  reset(): void {
    this.#nextMs = this.#firstMs;
  }

  /** Resolves after the next wait, or at once when {@link stop} is called. One at a time. */
  wait(): Promise<void> {
    const delayMs = this.#nextMs;
    this.#nextMs = Math.min(delayMs * 2, this.#longestMs);
    return this.waitFor(delayMs);
  }

  waitFor(delayMs: number): Promise<void> {
    if (this.#stopped) return Promise.resolve();
    return new Promise((resolve) => {
      const wake = (): void => {
        this.#handle?.cancel();
        this.#handle = null;
        this.#wake = null;
        resolve();
      };
      this.#wake = wake;
      this.#handle = this.#timers.after(delayMs, wake);
    });
  }

  /** No more waits: whoever waits looks what is the matter. */
  stop(): void {
    this.#stopped = true;
    this.#wake?.();
  }
}
