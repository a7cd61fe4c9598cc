/**
 * Timers by key, where setting a key again moves its deadline.
 *
 * Sessions are extended far more often than they expire, so moving a deadline later only notes it: the platform's timer
 * fires at the earlier time, sees that it is not due, and sets itself again.
 */
import type { Clock, TimerHandle, Timers } from '@naru/base';

interface Entry {
  dueMs: number;
  /** When the platform's timer fires; never after `dueMs`. */
  firesMs: number;
  handle: TimerHandle;
}

export class KeyedTimers {
  readonly #clock: Clock;
  readonly #timers: Timers;
  readonly #onDue: (key: string) => void;
  readonly #entries = new Map<string, Entry>();

  constructor(clock: Clock, timers: Timers, onDue: (key: string) => void) {
    this.#clock = clock;
    this.#timers = timers;
    this.#onDue = onDue;
  }

  get size(): number {
    return this.#entries.size;
  }

  /** Replaces the key's deadline. */
  set(key: string, delayMs: number): void {
    const dueMs = this.#clock.monotonicMs() + Math.max(0, delayMs);
    const entry = this.#entries.get(key);
    if (entry !== undefined && entry.firesMs <= dueMs) {
      entry.dueMs = dueMs;
      return;
    }
    entry?.handle.cancel();
    this.#entries.set(key, { dueMs, firesMs: dueMs, handle: this.#arm(key, delayMs) });
  }

  cancel(key: string): void {
    this.#entries.get(key)?.handle.cancel();
    this.#entries.delete(key);
  }

  cancelAll(): void {
    for (const entry of this.#entries.values()) entry.handle.cancel();
    this.#entries.clear();
  }

  #arm(key: string, delayMs: number): TimerHandle {
    return this.#timers.after(delayMs, () => this.#fired(key));
  }

  #fired(key: string): void {
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    const nowMs = this.#clock.monotonicMs();
    if (nowMs >= entry.dueMs) {
      this.#entries.delete(key);
      this.#onDue(key);
      return;
    }
    // Timers of the platform may fire a fraction of a millisecond early, hence at least one.
    const restMs = Math.max(1, entry.dueMs - nowMs);
    entry.firesMs = entry.dueMs;
    entry.handle = this.#arm(key, restMs);
  }
}
