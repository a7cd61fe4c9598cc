/**
 * `naru.transaction`: runs a function in a transaction, again where that may help, and ends what is open when the connection
 * is closed.
 */
import { delay } from '@naru/base';
import type { Random } from '@naru/base';
import { NaruError } from '@naru/protocol';
import { backoffMs } from '../backoff.ts';
import type { CallOptions } from '../call-options.ts';
import { withDeadline } from '../call-options.ts';
import type { EventEncoder } from '../publisher/event-encoder.ts';
import type { Awaitable } from '../serde/serde.ts';
import { ProducerPool } from './producer-pool.ts';
import { TransactionRun } from './transaction.ts';
import type { Transaction } from './transaction.ts';
import { TransactionalProducer } from './transactional-producer.ts';
import type { TransactionalProducerOptions } from './transactional-producer.ts';

/** The whole transactional id has up to 249 bytes. */
const MAX_CLIENT_ID_CHARACTERS = 64;
const MAX_ATTEMPTS = 1_000;

/** `signal` and `timeoutMs` abort the transaction; whether its function is over is not waited for then. */
export interface TransactionOptions extends CallOptions {
  /** How often the function is run at most, when its transactions are aborted for reasons that may pass. Default 3. */
  readonly attempts?: number | undefined;
}

export interface TransactionsOptions extends TransactionalProducerOptions {
  readonly encoder: EventEncoder;
}

export class Transactions {
  readonly producers: ProducerPool;
  readonly #options: TransactionsOptions;
  readonly #open = new Set<Promise<unknown>>();
  readonly #closing = new AbortController();

  constructor(options: TransactionsOptions) {
    this.#options = options;
    const { clientId, publisher } = options.settings;
    const { id, maxConcurrent } = publisher.transaction;
    this.producers = new ProducerPool({
      transactionalId: id ?? randomId(clientId, options.runtime.random),
      maxConcurrent,
      maxWaiting: publisher.maxWaiting,
      create: (transactionalId) => new TransactionalProducer(transactionalId, options),
    });
  }

  /** See Naru.transaction. */
  run<T>(work: (tx: Transaction) => Awaitable<T>, options: TransactionOptions): Promise<T> {
    const { attempts = 3 } = options;
    if (!Number.isInteger(attempts) || attempts < 1 || attempts > MAX_ATTEMPTS) {
      const message = `attempts: expected a whole number from 1 to ${MAX_ATTEMPTS}, got ${String(attempts)}`;
      return Promise.reject(new NaruError('INVALID_REQUEST', message));
    }
    return withDeadline(this.#options.runtime.timers, options, undefined, 'the transaction', (signal) => {
      const running = this.#attempts(work, attempts, AbortSignal.any([signal, this.#closing.signal]));
      this.#open.add(running);
      const over = (): void => {
        this.#open.delete(running);
      };
      running.then(over, over);
      return running;
    });
  }

  /** Waits for what is open, and aborts it when that takes longer than `timeoutMs`. */
  async close(timeoutMs: number): Promise<void> {
    const { timers } = this.#options.runtime;
    const over = (): Promise<unknown> => Promise.allSettled(this.#open);
    await withDeadline(timers, { timeoutMs }, undefined, 'closing', over).catch(() => {});
    this.#closing.abort(new NaruError('CLOSED', 'the connection was closed; the transaction was aborted'));
    await over();
    await this.producers.close();
  }

  async #attempts<T>(work: (tx: Transaction) => Awaitable<T>, attempts: number, signal: AbortSignal): Promise<T> {
    const { runtime, settings } = this.#options;
    for (let attempt = 1; ; attempt++) {
      const result = await this.#attempt(work, signal);
      if (result.isCommitted) return result.value;
      if (attempt >= attempts) throw result.error;
      runtime.logger.warn({ attempt, error: result.error.message }, 'transaction aborted; running it again');
      await delay(runtime.timers, backoffMs(settings.publisher.retry, attempt, runtime.random), signal);
    }
  }

  async #attempt<T>(work: (tx: Transaction) => Awaitable<T>, signal: AbortSignal) {
    const producer = await this.producers.acquire(signal);
    try {
      return await new TransactionRun({ ...this.#options, producer }).run(work, signal);
    } finally {
      this.producers.release(producer);
    }
  }
}

function randomId(clientId: string, random: Random): string {
  const name = clientId.slice(0, MAX_CLIENT_ID_CHARACTERS).replaceAll(/[^!-~]/g, '_');
  return `${name}-${Buffer.from(random.bytes(16)).toString('hex')}`;
}
