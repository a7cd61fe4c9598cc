/**
 * The publisher's memory for records that are not settled, and who waits for some of it, first come first served.
 */
import type { Deferred } from '../deferred.ts';
import { deferred } from '../deferred.ts';

/** Somebody who waits for memory. `granted` is called with it reserved. */
export interface MemoryWaiter {
  readonly sizeBytes: number;
  granted(): void;
}

export class MemoryLimit {
  readonly #limitBytes: number;
  readonly #maxWaiters: number;
  readonly #waiters = new Set<MemoryWaiter>();
  #usedBytes = 0;
  /** What was asked for last without success: {@link whenReady} waits for at least as much. */
  #refusedBytes = 0;
  #ready: Deferred<void> | null = null;

  constructor(limitBytes: number, maxWaiters: number) {
    this.#limitBytes = limitBytes;
    this.#maxWaiters = maxWaiters;
  }

  get usedBytes(): number {
    return this.#usedBytes;
  }

  /** One record is taken whatever its size; else nothing beyond the limit, and nobody ahead of those who wait. */
  tryReserve(sizeBytes: number): boolean {
    if (this.#waiters.size === 0 && this.#fits(sizeBytes)) {
      this.#usedBytes += sizeBytes;
      return true;
    }
    this.#refusedBytes = sizeBytes;
    return false;
  }

  /** False when too many wait already. */
  wait(waiter: MemoryWaiter): boolean {
    if (this.#waiters.size >= this.#maxWaiters) return false;
    this.#waiters.add(waiter);
    return true;
  }

  /** Whether `waiter` was still waiting. */
  stopWaiting(waiter: MemoryWaiter): boolean {
    return this.#waiters.delete(waiter);
  }

  waiters(): Iterable<MemoryWaiter> {
    return this.#waiters;
  }

  /** Resolves when a record as large as the last one refused would be taken. */
  whenReady(): Promise<void> {
    if (this.#isReady()) return Promise.resolve();
    this.#ready ??= deferred();
    return this.#ready.promise;
  }

  release(sizeBytes: number): void {
    this.#usedBytes -= sizeBytes;
    for (const waiter of this.#waiters) {
      if (!this.#fits(waiter.sizeBytes)) break;
      this.#waiters.delete(waiter);
      this.#usedBytes += waiter.sizeBytes;
      waiter.granted();
    }
    if (this.#ready !== null && this.#isReady()) {
      this.#ready.resolve();
      this.#ready = null;
    }
  }

  #fits(sizeBytes: number): boolean {
    return this.#usedBytes === 0 || this.#usedBytes + sizeBytes <= this.#limitBytes;
  }

  #isReady(): boolean {
    return this.#waiters.size === 0 && this.#fits(this.#refusedBytes);
  }
}
