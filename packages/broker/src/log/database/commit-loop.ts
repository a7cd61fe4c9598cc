/**
 * One commit cycle after the other: what is submitted while one runs goes into the next.
 *
 * Owns the queue, the ids, and what happens when a cycle does not work: an outage or a full disk is waited for and the same
 * cycle committed again, anything else fails everything.
 *
 * Invariants: a cycle is prepared once and then committed until it is known to be durable; operations are applied and
 * their promises settle in the order of the calls, after that.
 */
import type { Clock, Logger } from '@naru/base';
import { assert, toError } from '@naru/base';
import { isNaruError, NaruError } from '@naru/protocol';
import type { Backoff } from './backoff.ts';
import type { DatabaseLogLimits } from './limits.ts';
import type { LogDatabase } from './log-database.ts';
import type { Operation, OperationApplier, PreparedCycle } from './operation.ts';
import { gather, prepareCycle, recordBytesOf } from './operation.ts';

/** Called in its place between operations, when everything before it is durable and applied. */
interface Barrier {
  readonly reached: () => void;
  readonly failed: (error: Error) => void;
}

/** Why cycles wait. */
export interface Trouble {
  readonly state: 'full' | 'unavailable';
  readonly reason: string;
}

export interface CommitLoopOptions {
  readonly database: LogDatabase;
  readonly applier: OperationApplier;
  readonly limits: DatabaseLogLimits;
  readonly clock: Clock;
  readonly backoff: Backoff;
  readonly logger: Logger;
  /** The last id in the database. */
  readonly lastId: number;
  /** After every cycle, and when trouble begins or ends. */
  readonly onProgress: () => void;
  /** A cycle failed, or {@link CommitLoop.fail} was called. */
  readonly onFailure: (error: Error) => void;
}

export class CommitLoop {
  readonly #options: CommitLoopOptions;
  #queue: (Operation | Barrier)[] = [];
  #running: Promise<void> | null = null;
  #failure: Error | null = null;
  #trouble: Trouble | null = null;
  #lastId: number;
  #pendingBytes = 0;
  #cycles = 0;
  #commitMs = 0;
  #writtenBytes = 0;

  constructor(options: CommitLoopOptions) {
    this.#options = options;
    this.#lastId = options.lastId;
  }

  /** Of what is durable. */
  get lastId(): number {
    return this.#lastId;
  }

  /** Record bytes of what is not durable yet. */
  get pendingBytes(): number {
    return this.#pendingBytes;
  }

  get trouble(): Trouble | null {
    return this.#trouble;
  }

  get cycles(): number {
    return this.#cycles;
  }

  /** Milliseconds that all cycles took together. */
  get commitMs(): number {
    return this.#commitMs;
  }

  /** Record bytes and what rows cost beside them, since the store was opened. */
  get writtenBytes(): number {
    return this.#writtenBytes;
  }

  submit(operation: Operation): void {
    assert(this.#failure === null, 'nothing is submitted to a failed log');
    this.#queue.push(operation);
    this.#pendingBytes += recordBytesOf(operation);
    this.#wake();
  }

  /** Resolves as soon as everything submitted before is durable and applied, and nothing submitted later is. */
  barrier(reached: () => void, failed: (error: Error) => void): void {
    if (this.#failure !== null) return failed(this.#failure);
    this.#queue.push({ reached, failed });
    this.#wake();
  }

  /** Everything that is pending is rejected, once the cycle that is under way has come to an end. */
  fail(error: Error): void {
    if (this.#failure !== null) return;
    this.#failure = error;
    if (this.#running === null) this.#rejectAll();
  }

  async idle(): Promise<void> {
    while (this.#running !== null) await this.#running;
  }

  #wake(): void {
    if (this.#running !== null) return;
    // Everything that is called in the same turn goes into one cycle.
    this.#running = Promise.resolve()
      .then(() => this.#run())
      .catch((error: unknown) => {
        this.#failure ??= toError(error);
        this.#options.onFailure(this.#failure);
      })
      .finally(() => {
        this.#running = null;
        if (this.#failure !== null) this.#rejectAll();
        else if (this.#queue.length > 0) this.#wake();
      });
  }

  async #run(): Promise<void> {
    for (;;) {
      for (let head = this.#queue[0]; head !== undefined && 'reached' in head; head = this.#queue[0]) {
        this.#queue.shift();
        head.reached();
      }
      if (this.#queue.length === 0 || this.#failure !== null) return;
      const operations = gather(upToBarrier(this.#queue), this.#options.limits);
      const prepared = await this.#commit(operations);
      this.#lastId = prepared.cycle.lastId;
      this.#writtenBytes += prepared.footprintBytes;
      for (const effect of prepared.effects) effect();
      this.#queue.splice(0, operations.length);
      for (const operation of operations) this.#pendingBytes -= recordBytesOf(operation);
      for (const { resolve } of operations) resolve();
      this.#options.onProgress();
    }
  }

  async #commit(operations: readonly Operation[]): Promise<PreparedCycle> {
    const { database, applier, clock } = this.#options;
    const prepared = await this.#persist(() => prepareCycle(operations, this.#lastId, { database, applier }));
    const startMs = clock.monotonicMs();
    await this.#persist(() => database.commit(prepared.cycle));
    this.#cycles += 1;
    this.#commitMs += clock.monotonicMs() - startMs;
    return prepared;
  }

  /** Until it works, or fails for good. */
  async #persist<T>(attempt: () => Promise<T>): Promise<T> {
    const { backoff, logger } = this.#options;
    for (;;) {
      try {
        const result = await attempt();
        if (this.#trouble !== null) logger.info({ was: this.#trouble.state }, 'the log is stored again');
        this.#setTrouble(null);
        backoff.reset();
        return result;
      } catch (error) {
        const trouble = troubleOf(error);
        if (trouble === null || backoff.stopped || this.#failure !== null) throw error;
        if (this.#trouble?.state !== trouble.state) logger.warn({ ...trouble }, 'the log cannot be stored now');
        this.#setTrouble(trouble);
        await backoff.wait();
        this.#throwFailure();
      }
    }
  }

  #throwFailure(): void {
    if (this.#failure !== null) throw this.#failure;
  }

  #setTrouble(trouble: Trouble | null): void {
    const changed = this.#trouble?.state !== trouble?.state;
    this.#trouble = trouble;
    if (changed) this.#options.onProgress();
  }

  #rejectAll(): void {
    const failure = this.#failure as Error;
    const queue = this.#queue;
    this.#queue = [];
    this.#pendingBytes = 0;
    for (const item of queue) {
      if ('reached' in item) item.failed(failure);
      else item.reject(failure);
    }
  }
}

function* upToBarrier(queue: readonly (Operation | Barrier)[]): Iterable<Operation> {
  for (const item of queue) {
    if ('reached' in item) return;
    yield item;
  }
}

function troubleOf(error: unknown): Trouble | null {
  if (isNaruError(error, 'STORAGE_UNAVAILABLE')) return { state: 'unavailable', reason: error.message };
  if (isNaruError(error, 'STORAGE_FULL')) return { state: 'full', reason: error.message };
  return null;
}

/** An error of a database, as the error that the store's caller sees. */
export function storageError(error: unknown, doing: string): NaruError {
  if (isNaruError(error)) return error;
  return new NaruError('STORAGE_ERROR', `${doing}: ${toError(error).message}`, { cause: error });
}
