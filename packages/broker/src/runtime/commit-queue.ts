/**
 * Between deciding and durable: gathers batches into cycles, and holds back every reply that shows state of a cycle
 * which is not durable yet.
 *
 * Invariants: cycles become durable in order; replies of a cycle are released after its effects (high watermarks) are
 * applied; after one failed cycle every later one fails too; what is staged inside {@link CommitQueue.atomically} is in one cycle,
 * which is one append of the store: after a crash all of it is there, or nothing.
 */
import { assert } from '@naru/base';
import { isNaruError, NaruError } from '@naru/protocol';
import type { AppendEntry, LogStore } from '../log/log-store.ts';

type Settle = (error: NaruError | null) => void;

interface Cycle {
  readonly number: number;
  readonly entries: AppendEntry[];
  bytes: number;
  readonly waiting: Settle[];
}

export class CommitQueue {
  readonly #store: LogStore;
  readonly #onDurable: (entries: readonly AppendEntry[]) => void;
  readonly #onFailed: (error: NaruError) => void;
  /** Oldest first; the last one is still gathering. */
  readonly #cycles: Cycle[] = [];
  #gathering: Cycle;
  #inFlightBytes = 0;
  /** What may still be staged into the gathering cycle by {@link atomically}; null outside of it. */
  #atomicBytes: number | null = null;
  #failure: NaruError | null = null;

  constructor(
    store: LogStore,
    onDurable: (entries: readonly AppendEntry[]) => void,
    onFailed: (error: NaruError) => void,
  ) {
    this.#store = store;
    this.#onDurable = onDurable;
    this.#onFailed = onFailed;
    this.#gathering = this.#open(1);
  }

  /** The newest cycle that holds anything: what is known now is durable after it. */
  get newest(): number {
    return this.#gathering.entries.length > 0 ? this.#gathering.number : this.#gathering.number - 1;
  }

  get inFlightBytes(): number {
    return this.#inFlightBytes;
  }

  get failure(): NaruError | null {
    return this.#failure;
  }

  /** Adds a batch; returns the number of the cycle that makes it durable. */
  stage(entry: AppendEntry): number {
    const size = entry.records.length;
    if (this.#atomicBytes !== null) {
      this.#atomicBytes -= size;
      assert(this.#atomicBytes >= 0, 'what is staged together is not larger than was said');
    }
    if (this.#gathering.bytes > 0 && this.#gathering.bytes + size > this.#store.maxAppendBytes) this.flush();
    this.#gathering.entries.push(entry);
    this.#gathering.bytes += size;
    return this.#gathering.number;
  }

  /**
   * Everything that `run` stages is in one cycle.
   *
   * @param maxBytes of what it stages; at most the store's maxAppendBytes
   */
  atomically<T>(maxBytes: number, run: () => T): T {
    assert(this.#atomicBytes === null, 'one thing at a time is staged together');
    assert(
      maxBytes <= this.#store.maxAppendBytes,
      `${maxBytes} bytes are staged together, more than an append may have`,
    );
    if (this.#gathering.bytes + maxBytes > this.#store.maxAppendBytes) this.flush();
    this.#atomicBytes = maxBytes;
    try {
      return run();
    } finally {
      this.#atomicBytes = null;
    }
  }

  /** Calls `settle` once the cycle is durable; at once when it is. Cycle 0 always is. */
  after(cycle: number, settle: Settle): void {
    if (this.#failure !== null && cycle > 0) return settle(this.#failure);
    const first = this.#cycles[0] as Cycle;
    const pending = cycle < first.number ? undefined : this.#cycles[cycle - first.number];
    if (pending === undefined) settle(null);
    else pending.waiting.push(settle);
  }

  /** Sends what was gathered to the store. */
  flush(): void {
    const cycle = this.#gathering;
    assert(this.#atomicBytes === null, 'what is staged together is not sent in parts');
    if (cycle.entries.length === 0) return;
    this.#gathering = this.#open(cycle.number + 1);
    this.#inFlightBytes += cycle.bytes;
    this.#store.append(cycle.entries).then(
      () => this.#settle(cycle),
      (error: unknown) => this.fail(error),
    );
  }

  /** Everything that is pending, and everything that comes, fails. */
  fail(cause: unknown): void {
    if (this.#failure !== null) return;
    const error = isNaruError(cause) ? cause : new NaruError('INTERNAL', 'the broker failed; see its log', { cause });
    this.#failure = error;
    for (const cycle of this.#cycles) for (const settle of cycle.waiting.splice(0)) settle(error);
    this.#onFailed(error);
  }

  #open(number: number): Cycle {
    const cycle: Cycle = { number, entries: [], bytes: 0, waiting: [] };
    this.#cycles.push(cycle);
    return cycle;
  }

  #settle(cycle: Cycle): void {
    if (this.#failure !== null) return;
    this.#cycles.shift();
    this.#inFlightBytes -= cycle.bytes;
    try {
      this.#onDurable(cycle.entries);
    } catch (error) {
      // A bug: what was answered would show state that nobody can trust.
      for (const settle of cycle.waiting)
        settle(new NaruError('INTERNAL', 'the broker failed; see its log', { cause: error }));
      this.fail(error);
      return;
    }
    for (const settle of cycle.waiting) settle(null);
  }
}
