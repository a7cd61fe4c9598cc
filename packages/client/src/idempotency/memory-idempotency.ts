/** Ids in this process's memory: for tests, and where duplicates after a restart do no harm. */
import { systemClock } from '@naru/base';
import type { Clock } from '@naru/base';
import type { ClaimResult, IdempotencyStore } from './idempotency-store.ts';

const DEFAULT_WINDOW_MS = 24 * 60 * 60 * 1_000;
const DEFAULT_MAX_IDS = 100_000;

export interface MemoryIdempotencyOptions {
  /** How long what was handled is remembered, milliseconds. Default: a day. */
  readonly windowMs?: number | undefined;
  /** Ids that are remembered; beyond it the oldest handled ones are forgotten early. Default 100,000. */
  readonly maxIds?: number | undefined;
  readonly clock?: Clock | undefined;
}

interface Entry {
  readonly token: string;
  /** Lease, or end of the window. */
  readonly untilMs: number;
  readonly isDone: boolean;
}

export function memoryIdempotency(options: MemoryIdempotencyOptions = {}): IdempotencyStore {
  return new MemoryIdempotency(options);
}

class MemoryIdempotency implements IdempotencyStore {
  readonly #windowMs: number;
  readonly #maxIds: number;
  readonly #clock: Clock;
  /** Renewed last at the end, so that what has ended is at the beginning where leases are alike. */
  readonly #claimed = new Map<string, Entry>();
  /** Oldest first. */
  readonly #done = new Map<string, number>();
  #nextToken = 1;

  constructor({
    windowMs = DEFAULT_WINDOW_MS,
    maxIds = DEFAULT_MAX_IDS,
    clock = systemClock,
  }: MemoryIdempotencyOptions) {
    this.#windowMs = windowMs;
    this.#maxIds = maxIds;
    this.#clock = clock;
  }

  claim(group: string, id: string, leaseMs: number): Promise<ClaimResult> {
    const key = keyOf(group, id);
    const nowMs = this.#clock.nowMs();
    this.#forget(nowMs);
    if (this.#done.has(key)) return Promise.resolve({ state: 'done' });
    const held = this.#claimed.get(key);
    if (held !== undefined && held.untilMs > nowMs) return Promise.resolve({ state: 'busy', untilMs: held.untilMs });
    const token = String(this.#nextToken++);
    this.#claimed.delete(key);
    this.#claimed.set(key, { token, untilMs: nowMs + leaseMs, isDone: false });
    return Promise.resolve({ state: 'claimed', token });
  }

  complete(group: string, id: string, token: string): Promise<void> {
    const key = keyOf(group, id);
    if (this.#claimed.get(key)?.token !== token) return Promise.resolve();
    this.#claimed.delete(key);
    this.#done.set(key, this.#clock.nowMs() + this.#windowMs);
    return Promise.resolve();
  }

  release(group: string, id: string, token: string): Promise<void> {
    const key = keyOf(group, id);
    if (this.#claimed.get(key)?.token === token) this.#claimed.delete(key);
    return Promise.resolve();
  }

  #forget(nowMs: number): void {
    for (const [key, untilMs] of this.#done) {
      if (untilMs > nowMs && this.#done.size < this.#maxIds) break;
      this.#done.delete(key);
    }
    for (const [key, { untilMs }] of this.#claimed) {
      // Not at once: what nobody else has claimed since may still be completed.
      if (untilMs + this.#windowMs > nowMs) break;
      this.#claimed.delete(key);
    }
  }
}

function keyOf(group: string, id: string): string {
  return `${group.length}:${group}${id}`;
}
