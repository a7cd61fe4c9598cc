/**
 * One transactional id, and one transaction at a time under it: publishes, and finds out how it ended.
 *
 * Owns the id's identity at the broker, a publisher of its own with its stream and partition queues, and what has failed since the
 * transaction began. There is no call for the beginning: the first batch is it. Does not decide what is done about a failure.
 *
 * ```
 * void → ready → begun → ready     by an end, which gives the next identity
 *   ↑______________|               when it is not known how it stands at the broker: asked for an identity anew, which aborts what is open
 * ```
 */
import { assert, toError, toSafeInteger } from '@naru/base';
import { NaruError } from '@naru/protocol';
import type { ErrorCode } from '@naru/protocol';
import type { CompressionCodecs, RecordHeaders } from '@naru/protocol/batch';
import type { Settler } from '../publisher/outgoing-batch.ts';
import type { TransactionIdentity } from '../publisher/partition-queue.ts';
import { Publisher } from '../publisher/publisher.ts';
import type { DescribeTopic } from '../publisher/route-table.ts';
import type { Runtime } from '../runtime.ts';
import type { Settings } from '../settings.ts';
import type { Transport } from '../transport/transport.ts';
import type { ProducerIdentity, TransactionRefFields } from './commit-target.ts';
import { TransactionCalls } from './transaction-calls.ts';
import type { Fate } from './transaction-calls.ts';
import { TransactionFencedError } from './transaction-fenced-error.ts';

export type TransactionOutcome = 'committed' | 'aborted';

export interface TransactionalProducerOptions {
  readonly transport: Transport;
  readonly runtime: Runtime;
  readonly settings: Settings;
  readonly codecs: CompressionCodecs;
  readonly describeTopic: DescribeTopic;
}

const UNHEARD: Settler = { resolve: () => {}, reject: () => {} };

export class TransactionalProducer {
  readonly transactionalId: string;
  readonly #options: TransactionalProducerOptions;
  readonly #calls: TransactionCalls;
  /** The queues' own: changed in place. */
  readonly #identity: TransactionIdentity = { producerId: -1, producerEpoch: -1 };
  #publisher: Publisher | null = null;
  #isValid = false;
  #hasBegun = false;
  /** Whether everything is that was published. */
  #isAcknowledged = false;
  #failure: NaruError | null = null;
  #isClosed = false;

  constructor(transactionalId: string, options: TransactionalProducerOptions) {
    this.transactionalId = transactionalId;
    this.#options = options;
    this.#calls = new TransactionCalls(options);
  }

  /** The transaction that is open, or that the next publish begins. */
  get ref(): TransactionRefFields {
    assert(this.#isValid, 'a producer is made ready before it is used');
    const { producerId, producerEpoch } = this.#identity;
    return { transactionalId: this.transactionalId, producerId: BigInt(producerId), producerEpoch };
  }

  /** As Publisher. */
  get maxBatchBytes(): number {
    return this.#publisher?.maxBatchBytes ?? Number.MAX_SAFE_INTEGER;
  }

  /** Whether anything was published since the last end. Where not, there is nothing to end. */
  get hasBegun(): boolean {
    return this.#hasBegun;
  }

  /** Gets an identity where there is none: when it is new, was fenced, or it is not known how the last transaction ended. */
  async ready(signal?: AbortSignal): Promise<void> {
    if (this.#isClosed) throw closedError();
    if (this.#isValid) return;
    this.ended(await this.#calls.init(this.transactionalId, signal));
  }

  /** Takes a record, as Publisher.publish does. A failure is told to `settler`, if there is one, and fails {@link flush}. */
  publish(
    topic: string,
    key: Uint8Array | null,
    value: Uint8Array | null,
    headers: RecordHeaders | undefined,
    timestampMs: number,
    partition: number | undefined,
    settler: Settler | null,
  ): (() => boolean) | null {
    assert(this.#isValid && this.#publisher !== null, 'a producer is made ready before it is used');
    if (this.#failure !== null) throw this.#failure;
    this.#hasBegun = true;
    this.#isAcknowledged = false;
    return this.#publisher.publish(topic, key, value, headers, timestampMs, partition, settler ?? UNHEARD);
  }

  /** Resolves when everything is acknowledged. @throws NaruError the first failure of the transaction */
  async flush(): Promise<void> {
    if (this.#hasBegun) await this.#publisher?.flush();
    if (this.#failure !== null) throw this.#failure;
    this.#isAcknowledged = true;
  }

  /** The transaction was ended with a subscriber's commit, which gave the next one's identity. */
  ended({ producerId, producerEpoch }: ProducerIdentity): void {
    this.#identity.producerId = toSafeInteger(producerId, 'producer id');
    this.#identity.producerEpoch = producerEpoch;
    this.#isValid = true;
    this.#hasBegun = false;
    this.#failure = null;
    this.#publisher ??= new Publisher({
      ...this.#options,
      transaction: this.#identity,
      failed: (error) => this.#failed(error),
    });
  }

  /**
   * Commits what was published and acknowledged: {@link flush} before.
   *
   * @returns `aborted` when the broker has aborted it before, for its time-out say
   * @throws TransactionFencedError; NaruError DELIVERY_TIMEOUT when the outcome is not known; or what was refused: then the
   *   transaction is still open
   */
  async commit(): Promise<TransactionOutcome> {
    const { deliveryTimeoutMs } = this.#options.settings.publisher;
    const answer = await this.#calls.end(this.ref, true, deliveryTimeoutMs);
    if (answer.kind === 'ended') {
      this.ended(answer.next);
      return 'committed';
    }
    const { error } = answer;
    if (answer.kind === 'unanswered') throw this.#unknown(error);
    if (FORGOTTEN.includes(error.code)) {
      this.#invalidate();
      if (answer.wasAsked) throw this.#unknown(error);
      return 'aborted';
    }
    if (!NOT_IN_FORCE.includes(error.code)) throw error;
    return this.#abort(deliveryTimeoutMs, answer.wasAsked);
  }

  /**
   * Commits what was published without waiting for acknowledgements, which come before the answer.
   *
   * @returns null when that cannot be, or was refused: the transaction is open, {@link flush} and {@link commit} then
   * @throws as {@link abort}, where the outcome had to be found out and was not
   */
  async commitBehind(): Promise<TransactionOutcome | null> {
    const answer = this.#failure === null ? await this.#publisher?.commitBehind(this.ref) : undefined;
    if (answer == null || answer.kind === 'open') return null;
    if (answer.kind === 'unknown') return this.#abort(this.#options.settings.publisher.deliveryTimeoutMs, true);
    // All of it is acknowledged by now; a broker that has left something out will not say it later.
    if (this.#publisher?.isSettled === false) {
      this.#publisher.giveUp(new NaruError('INTERNAL', 'the broker committed an event that it did not acknowledge'));
    }
    this.ended(answer.next);
    return 'committed';
  }

  /**
   * Aborts the transaction, unless it has ended: then tells how. Gives up what is not acknowledged.
   *
   * @param mayBeCommitted a commit was asked for, and not answered: then this is how to find out, and it takes its time
   * @throws TransactionFencedError; NaruError when the broker did not answer in time: it then aborts the transaction when its time is
   *   up, or when this producer is used next; with `mayBeCommitted` DELIVERY_TIMEOUT, which says that the outcome is not known
   */
  abort(mayBeCommitted = false): Promise<TransactionOutcome> {
    const { requestTimeoutMs, publisher } = this.#options.settings;
    return this.#abort(mayBeCommitted ? publisher.deliveryTimeoutMs : requestTimeoutMs, mayBeCommitted);
  }

  /** Leaves the transaction to the broker, which aborts it when this producer is used next, or when its time is up. */
  abandon(): void {
    this.#publisher?.giveUp(this.#failure ?? new NaruError('ABORTED', 'the transaction was not ended'));
    this.#invalidate();
  }

  /** Ends at once: what is open is left to the broker. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#invalidate();
    this.#calls.close();
    await this.#publisher?.close();
  }

  async #abort(limitMs: number, mayBeCommitted: boolean): Promise<TransactionOutcome> {
    this.#publisher?.giveUp(this.#failure ?? new NaruError('ABORTED', 'the transaction was aborted'));
    const { ref } = this;
    const answer = await this.#calls.end(ref, false, limitMs);
    if (answer.kind === 'ended') {
      this.ended(answer.next);
      return 'aborted';
    }
    this.#invalidate();
    const { error } = answer;
    if (answer.kind === 'unanswered') throw mayBeCommitted ? this.#unknown(error) : error;
    // It has ended, and not by an abort.
    if (error.code === 'INVALID_TXN_STATE') return 'committed';
    if (error.code === 'PRODUCER_FENCED' || error.code === 'INVALID_PRODUCER_EPOCH') {
      const fate = await this.#fateOf(ref, limitMs, mayBeCommitted);
      if (fate !== 'taken') return fate;
      throw new TransactionFencedError(this.transactionalId, mayBeCommitted, error);
    }
    if (FORGOTTEN.includes(error.code) && !mayBeCommitted) return 'aborted';
    throw mayBeCommitted ? this.#unknown(error) : error;
  }

  async #fateOf(ref: TransactionRefFields, limitMs: number, mayBeCommitted: boolean): Promise<Fate> {
    try {
      const commit = this.#isAcknowledged ? 'asked' : 'behind';
      return await this.#calls.fateOf(ref, mayBeCommitted ? commit : 'none', limitMs);
    } catch (reason) {
      const error = toError(reason);
      throw mayBeCommitted ? this.#unknown(error) : error;
    }
  }

  /** The next use begins with an identity from the broker. */
  #invalidate(): void {
    this.#isValid = false;
    this.#hasBegun = false;
  }

  #failed(error: NaruError): void {
    if (this.#failure !== null) return;
    this.#failure = error;
    // Later, since the publisher is in the middle of telling. The rest is of no use any more.
    queueMicrotask(() => {
      if (this.#failure === error) this.#publisher?.giveUp(error);
    });
  }

  #unknown(cause: Error): NaruError {
    this.#invalidate();
    return new NaruError(
      'DELIVERY_TIMEOUT',
      `it is not known whether the transaction of ${this.transactionalId} was committed: ${cause.message}`,
      { cause },
    );
  }
}

/** The epoch is not the open transaction's any more: how it ended has to be asked. */
const NOT_IN_FORCE: readonly ErrorCode[] = [
  'PRODUCER_FENCED',
  'INVALID_PRODUCER_EPOCH',
  'INVALID_TXN_STATE',
  'TRANSACTION_ABORTABLE',
];
/** The broker knows nothing of the id, or of this producer under it; so nothing is open. */
const FORGOTTEN: readonly ErrorCode[] = [
  'INVALID_PRODUCER_ID_MAPPING',
  'TRANSACTIONAL_ID_NOT_FOUND',
  'UNKNOWN_PRODUCER_ID',
];

function closedError(): NaruError {
  return new NaruError('CLOSED', 'the connection is closed');
}
