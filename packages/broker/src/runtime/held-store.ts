/**
 * A log store held by hand, for tests: appends reach the store only when they are let through, or fail; the store can be
 * said to be busy or full; and snapshots that it is given are kept to look at.
 */
import { NaruError } from '@naru/protocol';
import type { Capacity, LogStore, Snapshot } from '../log/log-store.ts';

type Release = (error: NaruError | null) => void;

export class HeldStore {
  /** To be given to a shard. */
  readonly store: LogStore;
  /** Whether appends wait for {@link release}. */
  isHeld = false;
  /** The newest snapshot of a checkpoint or of closing. */
  snapshot: Snapshot | null = null;
  /** False: the store is closed without its snapshot, as if the process ended. */
  keepsLastSnapshot = true;
  appends = 0;
  readonly #waiting: Release[] = [];
  #capacity: Capacity | null = null;
  #onOpen: (() => void)[] = [];

  constructor(inner: LogStore) {
    const own: Partial<LogStore> = {
      append: async (entries) => {
        this.appends += 1;
        if (this.isHeld) {
          const error = await new Promise<NaruError | null>((resolve) => this.#waiting.push(resolve));
          if (error !== null) {
            this.say({ state: 'offline', reason: error.message });
            throw error;
          }
        }
        await inner.append(entries);
      },
      capacity: () => this.#capacity ?? inner.capacity(),
      whenOpen: () =>
        this.#capacity === null ? inner.whenOpen() : new Promise((resolve) => this.#onOpen.push(resolve)),
      checkpoint: (snapshot) => {
        this.snapshot = snapshot;
        return inner.checkpoint(snapshot);
      },
      close: (snapshot) => {
        this.snapshot = snapshot ?? null;
        return inner.close(this.keepsLastSnapshot ? snapshot : undefined);
      },
    };
    this.store = new Proxy(inner, {
      get: (target, name: keyof LogStore) => {
        const value: unknown = own[name] ?? target[name];
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
  }

  /** Appends that wait. */
  get waiting(): number {
    return this.#waiting.length;
  }

  /** Lets the oldest append that waits go on. */
  release(): void {
    this.#waiting.shift()?.(null);
  }

  /** Fails the oldest append that waits, and with it the store. */
  fail(): void {
    this.#waiting.shift()?.(new NaruError('STORAGE_ERROR', 'the disk is gone'));
  }

  /** Overrides the store's capacity; null: what it says itself. */
  say(capacity: Capacity | null): void {
    this.#capacity = capacity;
    if (capacity?.state === 'busy') return;
    for (const resume of this.#onOpen.splice(0)) resume();
  }
}
