/** Producers of transactions: made when needed, used one transaction at a time, kept for the next. */
import { NaruError } from '@naru/protocol';
import type { Deferred } from '../deferred.ts';
import { deferred } from '../deferred.ts';
import { abortedError } from '../call-options.ts';
import type { TransactionalProducer } from './transactional-producer.ts';

export interface ProducerPoolOptions {
  /** Before the number of each producer. */
  readonly transactionalId: string;
  readonly maxConcurrent: number;
  /** Callers that wait for a producer. */
  readonly maxWaiting: number;
  readonly create: (transactionalId: string) => TransactionalProducer;
}

export class ProducerPool {
  readonly #options: ProducerPoolOptions;
  readonly #all: TransactionalProducer[] = [];
  /** The one used last is used next, so that few are in use. */
  readonly #idle: TransactionalProducer[] = [];
  readonly #waiting = new Set<Deferred<TransactionalProducer>>();
  #isClosed = false;

  constructor(options: ProducerPoolOptions) {
    this.#options = options;
  }

  /** Bytes of the largest batch that the broker takes, as far as it has said. */
  get maxBatchBytes(): number {
    return this.#all.reduce((least, { maxBatchBytes }) => Math.min(least, maxBatchBytes), Number.MAX_SAFE_INTEGER);
  }

  /**
   * A producer that is ready for a transaction; {@link release} it. Waits while all are in use, first come first served.
   *
   * @throws NaruError BUFFER_FULL when too many wait, ABORTED by the signal, CLOSED, and what getting an identity was refused with
   */
  async acquire(signal?: AbortSignal): Promise<TransactionalProducer> {
    if (this.#isClosed) throw closedError();
    const producer = this.#idle.pop() ?? this.#create() ?? (await this.#wait(signal));
    try {
      await producer.ready(signal);
      return producer;
    } catch (error) {
      this.release(producer);
      throw error;
    }
  }

  /** A transaction that is still open is given up. */
  release(producer: TransactionalProducer): void {
    if (producer.hasBegun) producer.abandon();
    const next = this.#waiting.values().next().value;
    if (next === undefined) {
      this.#idle.push(producer);
      return;
    }
    this.#waiting.delete(next);
    next.resolve(producer);
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    for (const waiting of this.#waiting) waiting.reject(closedError());
    this.#waiting.clear();
    await Promise.all(this.#all.map((producer) => producer.close()));
  }

  #create(): TransactionalProducer | undefined {
    const { maxConcurrent, transactionalId, create } = this.#options;
    if (this.#all.length >= maxConcurrent) return undefined;
    const producer = create(`${transactionalId}-${this.#all.length}`);
    this.#all.push(producer);
    return producer;
  }

  #wait(signal: AbortSignal | undefined): Promise<TransactionalProducer> {
    if (signal?.aborted) return Promise.reject(stopped(signal));
    const { maxWaiting, maxConcurrent } = this.#options;
    if (this.#waiting.size >= maxWaiting) {
      const message = `${maxWaiting} transactions wait for one of ${maxConcurrent} to end; await them, or raise publisher.transaction.maxConcurrent`;
      return Promise.reject(new NaruError('BUFFER_FULL', message));
    }
    const place = deferred<TransactionalProducer>();
    this.#waiting.add(place);
    const onAbort = (): void => {
      if (this.#waiting.delete(place)) place.reject(stopped(signal as AbortSignal));
    };
    signal?.addEventListener('abort', onAbort, { once: true });
    return place.promise.finally(() => signal?.removeEventListener('abort', onAbort));
  }
}

function stopped(signal: AbortSignal): Error {
  return signal.reason instanceof NaruError ? signal.reason : abortedError(signal, 'waiting for a transaction');
}

function closedError(): NaruError {
  return new NaruError('CLOSED', 'the connection is closed');
}
