/**
 * The broker's calls about transactions, repeated until there is an answer: every one of them may be.
 *
 * Knows nothing of what was published.
 */
import { delay, toError } from '@naru/base';
import type { DescMessage, DescMethodUnary, MessageInitShape, MessageShape } from '@bufbuild/protobuf';
import { NaruError } from '@naru/protocol';
import { TransactionService, TransactionState } from '@naru/protocol/proto';
import { backoffMs } from '../backoff.ts';
import { withDeadline } from '../call-options.ts';
import type { Runtime } from '../runtime.ts';
import type { Settings } from '../settings.ts';
import type { Transport } from '../transport/transport.ts';
import type { ProducerIdentity, TransactionRefFields } from './commit-target.ts';

/** What came of asking for an end. */
export type EndAnswer =
  | { readonly kind: 'ended'; readonly next: ProducerIdentity }
  /** `wasAsked`: an earlier request was not answered, and may have done it. */
  | { readonly kind: 'refused'; readonly error: NaruError; readonly wasAsked: boolean }
  | { readonly kind: 'unanswered'; readonly error: NaruError };

/** Of a transaction from which its producer is fenced; `taken`: somebody else has initialised the id. */
export type Fate = 'aborted' | 'committed' | 'taken';

type Answer<T> =
  | { readonly kind: 'value'; readonly value: T }
  | { readonly kind: 'refused'; readonly error: NaruError; readonly wasAsked: boolean }
  | { readonly kind: 'unanswered'; readonly error: NaruError };

export interface TransactionCallsOptions {
  readonly transport: Transport;
  readonly runtime: Runtime;
  readonly settings: Settings;
}

export class TransactionCalls {
  readonly #options: TransactionCallsOptions;
  readonly #closing = new AbortController();

  constructor(options: TransactionCallsOptions) {
    this.#options = options;
  }

  /** @throws NaruError of a refusal; DELIVERY_TIMEOUT when the broker did not answer in time */
  async init(transactionalId: string, signal: AbortSignal | undefined): Promise<ProducerIdentity> {
    const { transaction, deliveryTimeoutMs } = this.#options.settings.publisher;
    const request = { transactionalId, timeoutMs: transaction.timeoutMs };
    const { initTransactions } = TransactionService.method;
    const answer = await this.#repeat('InitTransactions', initTransactions, request, deliveryTimeoutMs, signal);
    if (answer.kind !== 'value') throw answer.error;
    return answer.value;
  }

  /** Ends the transaction, or tells how it has ended. @param limitMs until it counts as unanswered */
  async end(transaction: TransactionRefFields, commit: boolean, limitMs: number): Promise<EndAnswer> {
    const { endTransaction } = TransactionService.method;
    const answer = await this.#repeat('EndTransaction', endTransaction, { transaction, commit }, limitMs, undefined);
    return answer.kind === 'value' ? { kind: 'ended', next: answer.value } : answer;
  }

  /**
   * How a transaction has ended from which its producer is fenced. An id of this process alone is never taken: only time-outs and
   * operators fence its producer. Another one may be, unless the broker says that nobody has used it since.
   *
   * @param commit whether one was asked for, and not answered; `behind`: when it was not known yet whether the transaction had begun
   * @throws NaruError when the broker did not answer in time
   */
  async fateOf(ref: TransactionRefFields, commit: 'none' | 'asked' | 'behind', limitMs: number): Promise<Fate> {
    const { transactionalId, producerId, producerEpoch } = ref;
    const isOwn = this.#options.settings.publisher.transaction.id === null;
    if (isOwn && commit === 'none') return 'aborted';
    const { describeTransaction } = TransactionService.method;
    const answer = await this.#repeat(
      'DescribeTransaction',
      describeTransaction,
      { transactionalId },
      limitMs,
      undefined,
    );
    if (answer.kind === 'refused') return 'taken';
    if (answer.kind === 'unanswered') throw answer.error;
    const { summary } = answer.value;
    // Initialised it would be empty.
    const isLeft = summary?.state === TransactionState.ABORTED || summary?.state === TransactionState.COMMITTED;
    if (!isLeft) return 'taken';
    // Committed: the one before it was, and an operator has fenced the producer since.
    const isNext = summary.producerId === producerId && summary.producerEpoch === producerEpoch + 1;
    if (isNext) return 'aborted';
    if (!isOwn) return 'taken';
    if (summary.state === TransactionState.ABORTED) return 'aborted';
    // This one, or the one before it.
    return commit === 'asked' ? 'committed' : 'taken';
  }

  /** What is not answered yet stays so. */
  close(): void {
    this.#closing.abort(new NaruError('CLOSED', 'the connection is closed'));
  }

  async #repeat<I extends DescMessage, O extends DescMessage>(
    what: string,
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    limitMs: number,
    given: AbortSignal | undefined,
  ): Promise<Answer<MessageShape<O>>> {
    const { runtime, settings, transport } = this.#options;
    const closing = this.#closing.signal;
    const signal = given === undefined ? closing : AbortSignal.any([given, closing]);
    const endMs = runtime.clock.monotonicMs() + limitMs;
    let wasAsked = false;
    for (let failures = 1; ; failures++) {
      const timeoutMs = Math.min(settings.requestTimeoutMs, Math.max(1, endMs - runtime.clock.monotonicMs()));
      try {
        const call = (inner: AbortSignal): Promise<MessageShape<O>> => transport.call(method, request, inner);
        const value = await withDeadline(runtime.timers, { signal, timeoutMs }, undefined, what, call);
        return { kind: 'value', value };
      } catch (reason) {
        const error = asNaruError(reason);
        if (signal.aborted) return { kind: 'unanswered', error: asNaruError(signal.reason) };
        if (!error.retriable) return { kind: 'refused', error, wasAsked };
        wasAsked = true;
        const waitMs = backoffMs(settings.publisher.retry, failures, runtime.random);
        if (runtime.clock.monotonicMs() + waitMs >= endMs) {
          const message = `${what} was not answered within ${limitMs} ms (last error: ${error.message})`;
          return { kind: 'unanswered', error: new NaruError('DELIVERY_TIMEOUT', message, { cause: error }) };
        }
        runtime.logger.warn({ call: what, error: error.message, waitMs }, 'no answer; asking again');
        await delay(runtime.timers, waitMs, signal).catch(() => {});
      }
    }
  }
}

function asNaruError(reason: unknown): NaruError {
  if (reason instanceof NaruError) return reason;
  return new NaruError('ABORTED', toError(reason).message, { cause: reason });
}
