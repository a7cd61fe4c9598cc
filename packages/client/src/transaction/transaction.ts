/**
 * One run of the function of `naru.transaction`: what it publishes and commits, and how that ends.
 *
 * Owns what the function sees, the first failure of the run, and the order of the end: everything acknowledged, then the commit; or
 * the abort, at once, so that readers do not wait for a function that takes its time. Does not run the function again: that is
 * transactions.ts's.
 *
 * Invariants
 * - An event that could not be published is not in the transaction, so the transaction is not committed.
 * - Once the commit is asked for nothing aborts the transaction any more; how it ended is found out.
 */
import { toError } from '@naru/base';
import { NaruError, isNaruError } from '@naru/protocol';
import type { CallOptions } from '../call-options.ts';
import { abortedError, withDeadline } from '../call-options.ts';
import type { EventName, EventValue } from '../catalog/event-catalog.ts';
import type { Deferred } from '../deferred.ts';
import { deferred } from '../deferred.ts';
import type { EventEncoder } from '../publisher/event-encoder.ts';
import { EventIntake } from '../publisher/event-intake.ts';
import type { Settler } from '../publisher/outgoing-batch.ts';
import type { EnqueueOptions } from '../publish-options.ts';
import type { PublishResult } from '../publisher/publish-result.ts';
import type { Runtime } from '../runtime.ts';
import type { Awaitable } from '../serde/serde.ts';
import type { Settings } from '../settings.ts';
import type { Committable, CommitTarget } from './commit-target.ts';
import { TransactionFencedError } from './transaction-fenced-error.ts';
import type { TransactionalProducer, TransactionOutcome } from './transactional-producer.ts';

/** As for `naru.publish`, but for `until`: nothing is processed before the transaction is committed. */
export interface TransactionPublishOptions extends EnqueueOptions, CallOptions {}

/** What the function of `naru.transaction` works with. Of no use any more when the function is over. */
export interface Transaction {
  /** Aborts when the transaction cannot be committed any more, whatever the reason. */
  readonly signal: AbortSignal;
  /**
   * Publishes an event, for readers to see with the rest of the transaction. It need not be awaited: the transaction waits for all
   * of them. One that fails, awaited or not, aborts the transaction.
   *
   * Resolves when the event is durable, as part of the open transaction.
   */
  publish<Name extends EventName>(
    name: Name,
    value: EventValue<Name>,
    options?: TransactionPublishOptions,
  ): Promise<PublishResult>;
  /**
   * Commits a batch of `naru.poll({ group })`, and those of its partition before it, with the transaction: both or neither. Batches of
   * several partitions can be committed, all of one poll.
   *
   * @throws NaruError INVALID_REQUEST when the batch cannot be committed with this transaction
   */
  commit(batch: Committable): void;
  /**
   * Aborts the transaction: when the function is over, `naru.transaction` rejects.
   *
   * @param reason an error, with which it then rejects; or text for the message of an ABORTED
   */
  abort(reason?: Error | string): void;
}

export interface TransactionParts {
  readonly producer: TransactionalProducer;
  readonly encoder: EventEncoder;
  readonly runtime: Runtime;
  readonly settings: Settings;
}

/** What came of a run. Whatever else may come is thrown. */
export type RunResult<T> =
  | { readonly isCommitted: true; readonly value: T }
  /** Aborted for a reason that may pass. */
  | { readonly isCommitted: false; readonly error: NaruError };

interface Failure {
  readonly error: Error;
  readonly kind:
    /** The transaction is broken, at the broker or on the way to it; another may do. */
    | 'broken'
    /** An event cannot be published. */
    | 'refused'
    /** By the function itself. */
    | 'asked'
    /** By whoever called for it, who does not wait any more. */
    | 'cancelled';
}

type Ran<T> = { readonly value: T } | { readonly error: unknown } | 'cancelled';

/** Of batches, when the broker's transaction or its producer is not what it was: nothing is wrong with the events. */
const BROKEN = [
  'TRANSACTION_ABORTABLE',
  'INVALID_TXN_STATE',
  'PRODUCER_FENCED',
  'INVALID_PRODUCER_EPOCH',
  'INVALID_PRODUCER_ID_MAPPING',
  'UNKNOWN_PRODUCER_ID',
  'OUT_OF_ORDER_SEQUENCE_NUMBER',
  'DUPLICATE_SEQUENCE_NUMBER',
] as const;

export class TransactionRun implements Transaction {
  readonly #parts: TransactionParts;
  readonly #intake: EventIntake;
  readonly #controller = new AbortController();
  readonly #cancelled: Deferred<'cancelled'> = deferred();
  #isOver = false;
  #isAcknowledging = false;
  #isEnding = false;
  #failure: Failure | null = null;
  /** While a commit was on its way: counts if that comes to nothing. */
  #failedMeanwhile: Failure | null = null;
  #target: CommitTarget | null = null;
  #aborting: Promise<TransactionOutcome | Error> | null = null;

  constructor(parts: TransactionParts) {
    this.#parts = parts;
    const { runtime, settings, producer } = parts;
    this.#intake = new EventIntake(producer, runtime.timers, settings.publisher.deliveryTimeoutMs, () => {});
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  publish(name: string, value: unknown, options: TransactionPublishOptions = {}): Promise<PublishResult> {
    if (options.signal === undefined && options.timeoutMs === undefined) return this.#publish(name, value, options);
    const sent = this.#publishWithin(name, value, options);
    sent.catch(this.#limitedFailed);
    return sent;
  }

  commit(batch: Committable): void {
    this.#checkOpen();
    if (typeof (batch as Partial<Committable>).joinTransaction !== 'function') {
      throw new NaruError('INVALID_REQUEST', 'expected a batch of naru.poll({ group }) to commit');
    }
    this.#target = batch.joinTransaction(this.#target);
  }

  abort(reason?: Error | string): void {
    this.#checkOpen();
    const why = reason === undefined ? '' : `: ${String(reason)}`;
    const isError = reason instanceof Error;
    const error = isError ? reason : new NaruError('ABORTED', `the transaction was aborted${why}`);
    this.#fail({ kind: 'asked', error });
  }

  /**
   * Runs the function and ends the transaction.
   *
   * @param signal of whoever called: when it aborts, the transaction is aborted and the function not waited for
   */
  async run<T>(work: (tx: Transaction) => Awaitable<T>, signal: AbortSignal): Promise<RunResult<T>> {
    const onAbort = (): void => this.#fail({ kind: 'cancelled', error: signal.reason as Error });
    if (signal.aborted) onAbort();
    else signal.addEventListener('abort', onAbort, { once: true });
    try {
      const ran = await Promise.race([settled(work, this), this.#cancelled.promise]);
      this.#isOver = true;
      const isDone = ran !== 'cancelled' && 'value' in ran;
      this.#isAcknowledging = isDone;
      const result = isDone ? await this.#commitBehind(ran.value) : null;
      if (result !== null) return result;
      if (isDone) await this.#acknowledged();
      if (!isDone || this.#failure !== null) return await this.#giveUp(ran);
      this.#isEnding = true;
      return await this.#commit(ran.value);
    } finally {
      signal.removeEventListener('abort', onAbort);
      this.#isOver = true;
    }
  }

  // Publishing

  #publish(name: string, value: unknown, options: TransactionPublishOptions): Promise<PublishResult> {
    const sent = new PendingPublish(this.#publishFailed);
    try {
      this.#submit(name, value, options, sent);
    } catch (error) {
      sent.reject(toError(error));
    }
    return sent.promise;
  }

  #publishWithin(name: string, value: unknown, options: TransactionPublishOptions): Promise<PublishResult> {
    const what = `publish to ${name}`;
    return withDeadline(this.#parts.runtime.timers, options, undefined, what, (signal) => {
      if (signal.aborted) return Promise.reject(abortedError(signal, what));
      return this.#publish(name, value, options);
    });
  }

  #submit(name: string, value: unknown, options: TransactionPublishOptions, sent: PendingPublish): void {
    this.#checkOpen();
    if ((options as { until?: unknown }).until === 'processed') {
      const why = 'no group can process it before the transaction is committed, and the commit waits for its publishes';
      throw new NaruError('INVALID_REQUEST', `until: 'processed' cannot be waited for inside a transaction: ${why}`);
    }
    this.#intake.submit(this.#parts.encoder.encode(name, value, options), sent);
  }

  readonly #limitedFailed = (error: unknown): void => {
    this.#publishFailed(toError(error));
  };

  readonly #publishFailed = (error: Error): void => {
    // Called too late, it says nothing of the transaction.
    if (this.#isOver && !this.#isAcknowledging) return;
    const kind = isNaruError(error, ...BROKEN) ? 'broken' : 'refused';
    this.#fail({ kind, error });
  };

  #checkOpen(): void {
    if (this.#failure !== null) throw this.#failure.error;
    if (!this.#isOver) return;
    const message = 'the transaction is over: its function has to wait for everything that uses it';
    throw new NaruError('CLOSED', message);
  }

  // Ending

  /** The first failure counts. */
  #fail(failure: Failure): void {
    if (this.#isEnding) this.#failedMeanwhile ??= failure;
    if (this.#failure !== null || this.#isEnding) return;
    this.#failure = failure;
    if (failure.kind === 'cancelled') this.#cancelled.resolve('cancelled');
    // Later, since the publisher may be in the middle of telling of the failure.
    this.#aborting = Promise.resolve().then(() => this.#abort());
    this.#controller.abort(failure.error);
  }

  /** Waits until everything that was published is acknowledged, or something has failed. */
  async #acknowledged(): Promise<void> {
    try {
      await this.#intake.whenEntered();
      await this.#parts.producer.flush();
    } catch (error) {
      this.#publishFailed(toError(error));
    } finally {
      this.#isAcknowledging = false;
    }
  }

  /** Without waiting for what is not acknowledged yet; null where that cannot be, and nothing is lost by having tried. */
  async #commitBehind<T>(value: T): Promise<RunResult<T> | null> {
    const { producer } = this.#parts;
    if (this.#failure !== null || this.#target !== null || !producer.hasBegun) return null;
    if (this.#intake.isWaiting) return null;
    this.#isEnding = true;
    const outcome = await producer.commitBehind();
    if (outcome === 'committed') return { isCommitted: true, value };
    if (outcome === 'aborted') return { isCommitted: false, error: this.#abortedThere() };
    this.#isEnding = false;
    if (this.#failedMeanwhile !== null) this.#fail(this.#failedMeanwhile);
    return null;
  }

  async #commit<T>(value: T): Promise<RunResult<T>> {
    const { producer } = this.#parts;
    if (this.#target !== null) return this.#commitWith(this.#target, value);
    if (!producer.hasBegun) return { isCommitted: true, value };
    let outcome: TransactionOutcome;
    try {
      outcome = await producer.commit();
    } catch (error) {
      // Refused, with the transaction still open.
      if (producer.hasBegun) await this.#abort();
      throw error;
    }
    return outcome === 'committed' ? { isCommitted: true, value } : { isCommitted: false, error: this.#abortedThere() };
  }

  async #commitWith<T>(target: CommitTarget, value: T): Promise<RunResult<T>> {
    const { producer } = this.#parts;
    try {
      producer.ended(await target.commitWith(producer.ref));
      return { isCommitted: true, value };
    } catch (reason) {
      const error = toError(reason);
      const mayPass = isNaruError(error) && (error.retriable || isNaruError(error, ...BROKEN));
      // A subscriber that was closed does not wait for the answer.
      const isUnanswered = mayPass || isNaruError(reason, 'CLOSED');
      if (!isUnanswered) {
        await this.#abort();
        throw error;
      }
      // Without an answer it may have been committed. An abort finds out, or sees to it that it was not.
      const outcome = await producer.abort(true);
      if (outcome === 'committed') return { isCommitted: true, value };
      if (!mayPass) throw error;
      return { isCommitted: false, error: this.#abortedThere(error) };
    }
  }

  async #giveUp<T>(ran: Ran<T>): Promise<RunResult<T>> {
    const aborted = await (this.#aborting ?? this.#abort());
    const failure = this.#failure;
    if (failure?.kind === 'broken') {
      if (aborted instanceof TransactionFencedError) throw aborted;
      return { isCommitted: false, error: this.#abortedThere(failure.error) };
    }
    if (ran !== 'cancelled' && 'error' in ran) throw ran.error;
    throw (failure as Failure).error;
  }

  /** Never rejects. */
  async #abort(): Promise<TransactionOutcome | Error> {
    const { producer, runtime } = this.#parts;
    const { error = new NaruError('ABORTED', 'the transaction was aborted') } = this.#failure ?? {};
    this.#intake.close(() => (error instanceof NaruError ? error : new NaruError('ABORTED', error.message)));
    if (!producer.hasBegun) return 'aborted';
    try {
      return await producer.abort();
    } catch (reason) {
      const { transactionalId } = producer;
      const fields = { transactionalId, error: toError(reason).message };
      runtime.logger.warn(fields, 'the transaction was not aborted now; the broker does it when its time is up');
      return toError(reason);
    }
  }

  #abortedThere(cause?: Error): NaruError {
    const { timeoutMs } = this.#parts.settings.publisher.transaction;
    const why =
      cause === undefined ? `it was open for longer than ${timeoutMs} ms, or an operator aborted it` : cause.message;
    return new NaruError('TRANSACTION_ABORTABLE', `the transaction was aborted by the broker: ${why}`, { cause });
  }
}

/** Who waits for one event. There are thousands of them, so that nothing is made for the case that it fails. */
class PendingPublish implements Settler {
  readonly promise: Promise<PublishResult>;
  readonly resolve: (result: PublishResult) => void;
  readonly #reject: (error: Error) => void;
  readonly #failed: (error: Error) => void;

  /** @param failed told of a failure before whoever waits */
  constructor(failed: (error: Error) => void) {
    const { promise, resolve, reject } = Promise.withResolvers<PublishResult>();
    this.promise = promise;
    this.resolve = resolve;
    this.#reject = reject;
    this.#failed = failed;
  }

  reject(error: Error): void {
    this.#failed(error);
    // Whoever does not wait for it is told by the transaction.
    this.promise.catch(ignore);
    this.#reject(error);
  }
}

function ignore(): void {}

/** Never rejects. */
async function settled<T>(work: (tx: Transaction) => Awaitable<T>, tx: Transaction): Promise<Ran<T>> {
  try {
    return { value: await work(tx) };
  } catch (error) {
    return { error };
  }
}
