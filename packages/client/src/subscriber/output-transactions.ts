/**
 * Commits of a subscriber that handles exactly once: what handlers published goes into one transaction with the offsets, finished
 * ranges and outcomes of the events that they handled. Both are there for readers, or neither.
 *
 * Owns what one transaction takes, and what follows when it does not succeed:
 * - aborted, or not known to be committed until the transaction itself was asked: the same again in another one, since the outputs are
 *   still in the partitions' books; nothing is handled again;
 * - refused for a partition: the others again without it. If it is lost, its book goes with it; another member handles its events;
 * - an output can never be stored: smaller transactions, until it is known whose it is, whose events have failed then;
 * - refused for good, fenced by somebody else, or its outcome cannot be found out: the subscriber fails.
 *
 * One transaction at a time, by its caller. Limits: {@link MAX_TRANSACTION_EVENTS}, {@link MAX_TRANSACTION_BYTES}, each exceeded at most
 * by what one call of a handler published.
 */
import { assert, delay, toError } from '@naru/base';
import { NaruError, isNaruError } from '@naru/protocol';
import type { Committed, PartitionError } from '@naru/protocol/proto';
import type { BackoffPolicy } from '../backoff.ts';
import { backoffMs } from '../backoff.ts';
import type { Runtime } from '../runtime.ts';
import type { ProducerIdentity, TransactionRefFields } from '../transaction/commit-target.ts';
import { fromWireError } from '../transport/wire-errors.ts';
import type { AssignedPartition } from './assigned-partition.ts';
import type { Output } from './call-outputs.ts';
import type { CommitExchange, SentCommit } from './commit-exchange.ts';
import { isDirty, refKey, toWire } from './commit-exchange.ts';
import type { MemberSession } from './member-session.ts';
import type { FinishedOutputs } from './outcome-book.ts';
import type { AskOutcome } from './pull-transactions.ts';

/** Events that one transaction finishes. */
export const MAX_TRANSACTION_EVENTS = 5_000;
/** Bytes of what it publishes. */
export const MAX_TRANSACTION_BYTES = 8 * 1024 * 1024;

const RETRY: BackoffPolicy = { initialMs: 20, factor: 2, maxMs: 2_000, jitter: 0.2 };

/** Not retriable as they are, but in another transaction, where this one was aborted. */
const AGAIN_IN_ANOTHER = [
  'TRANSACTION_ABORTABLE',
  'DELIVERY_TIMEOUT',
  // What the partitions' loss means to what is left.
  'NOT_ASSIGNED',
  'UNKNOWN_MEMBER_ID',
  'FENCED_MEMBER_EPOCH',
  'STALE_MEMBER_EPOCH',
  // The broker's transaction, or its producer, is not what it was.
  'INVALID_TXN_STATE',
  'PRODUCER_FENCED',
  'INVALID_PRODUCER_EPOCH',
  'INVALID_PRODUCER_ID_MAPPING',
  'UNKNOWN_PRODUCER_ID',
  'OUT_OF_ORDER_SEQUENCE_NUMBER',
  'DUPLICATE_SEQUENCE_NUMBER',
] as const;

/** Something is wrong with what is published, and stays so. */
const UNSTORABLE = [
  'RECORD_TOO_LARGE',
  'INVALID_RECORD',
  'CORRUPT_MESSAGE',
  'UNKNOWN_TOPIC_OR_PARTITION',
  'INVALID_TOPIC',
] as const;

/** As TransactionalProducer. */
export interface OutputProducer {
  readonly ref: TransactionRefFields;
  publish(
    topic: Output['topic'],
    key: Output['key'],
    value: Output['value'],
    headers: Output['headers'],
    timestampMs: number,
    partition: number | undefined,
    settler: null,
  ): unknown;
  /** Resolves when all of it is acknowledged. */
  flush(): Promise<void>;
  ended(next: ProducerIdentity): void;
  /** @param mayBeCommitted a commit was sent, and not answered */
  abort(mayBeCommitted: boolean): Promise<'aborted' | 'committed'>;
}

/** As ProducerPool. */
export interface OutputProducers {
  acquire(signal: AbortSignal): Promise<OutputProducer>;
  release(producer: OutputProducer): void;
}

export interface OutputTransactionsOptions {
  readonly session: MemberSession;
  readonly runtime: Runtime;
  readonly producers: OutputProducers;
  readonly ask: AskOutcome;
  /** See Consumer. */
  outputsRefused(partition: AssignedPartition, outputs: FinishedOutputs, error: NaruError): boolean;
  /** It can go on no more. Called once. */
  failed(error: Error): void;
}

/** What became of one attempt. */
type Attempt =
  | { readonly kind: 'committed' }
  | {
      readonly kind: 'failed';
      readonly error: Error;
      readonly refused: readonly PartitionError[];
      /** Whether the commit was on its way, so that the transaction may have been committed. */
      readonly sent: boolean;
      /** Whether all of the outputs are stored. */
      readonly isPublished: boolean;
    };

export class OutputTransactions {
  readonly #options: OutputTransactionsOptions;
  readonly #exchange: CommitExchange;
  readonly #closing = new AbortController();
  /** Fewer for a while when a transaction was too large for the broker. */
  #maxEvents = MAX_TRANSACTION_EVENTS;
  #failure: Error | null = null;

  constructor(options: OutputTransactionsOptions, exchange: CommitExchange) {
    this.#options = options;
    this.#exchange = exchange;
  }

  /** Commits what is finished now. Resolves when it is durable; rejects with the first refusal, when the others are. */
  async commit(partitions: readonly AssignedPartition[]): Promise<void> {
    const refused = new Map<AssignedPartition, Error>();
    let left = partitions.reduce((sum, { outcomes }) => sum + outcomes.size, 0);
    for (let failures = 0; ;) {
      if (this.#failure !== null) throw this.#failure;
      if (this.#closing.signal.aborted) throw closedError();
      const open = partitions.filter((partition) => isDirty(partition) && !refused.has(partition));
      if (open.length === 0) break;
      if (!this.#options.session.isJoined) {
        await this.#pause(++failures);
        continue;
      }
      const sent = this.#prepare(open);
      if (sent.length === 0) break;
      const count = sent.reduce((sum, { partition }) => sum + partition.outcomes.sent().length, 0);
      const refusals = refused.size;
      const error = await this.#commitOnce(sent, refused);
      if (error === null) {
        failures = 0;
        this.#maxEvents = Math.min(MAX_TRANSACTION_EVENTS, this.#maxEvents * 2);
        left -= count;
        if (left <= 0) break;
      } else if (error === 'smaller') {
        // Down to 1, with which it is known what is wrong: events of one call may be more, and are not split.
        this.#maxEvents = Math.max(1, Math.min(this.#maxEvents, count) >> 1);
      } else if (refused.size === refusals || error.retriable) await this.#pause(++failures);
    }
    for (const error of refused.values()) throw error;
  }

  /** Gives up what is under way; what became of it does not matter here any more. */
  close(): void {
    this.#closing.abort(closedError());
  }

  /** What the next transaction has: the events finished first, of all partitions together. */
  #prepare(open: readonly AssignedPartition[]): SentCommit[] {
    const upTo = this.#cut(open);
    return open.map((partition) => this.#exchange.prepare(partition, { upTo })).filter((one) => one !== null);
  }

  #cut(open: readonly AssignedPartition[]): number {
    const entries = open.flatMap(({ outcomes }) => [...outcomes.waiting()]);
    if (entries.length <= this.#maxEvents && open.every(hasFewBytes(open.length))) return Number.POSITIVE_INFINITY;
    entries.sort((a, b) => (a.order ?? 0) - (b.order ?? 0));
    let events = 0;
    let bytes = 0;
    let last = 0;
    let counted: FinishedOutputs | undefined;
    for (const { order = 0, outputs } of entries) {
      if (order !== last && (events >= this.#maxEvents || bytes >= MAX_TRANSACTION_BYTES)) return last;
      last = order;
      events += 1;
      if (outputs !== undefined && outputs !== counted) bytes += outputs.sizeBytes;
      counted = outputs;
    }
    return Number.POSITIVE_INFINITY;
  }

  /**
   * @returns null when it is durable, else why it has to be tried again, or that less of it should be; throws when there is no use
   *   in that
   */
  async #commitOnce(
    sent: readonly SentCommit[],
    refused: Map<AssignedPartition, Error>,
  ): Promise<NaruError | 'smaller' | null> {
    const outputs = outputsOf(sent);
    if (outputs.length === 0) {
      // Nothing that could be there without the offsets, or the other way round.
      await this.#exchange.exchange(sent);
      return null;
    }
    let producer: OutputProducer;
    try {
      producer = await this.#options.producers.acquire(this.#closing.signal);
    } catch (error) {
      this.#exchange.refused(sent);
      return this.#check(error, (known) => known.retriable || known.code === 'DELIVERY_TIMEOUT');
    }
    let attempt: Attempt;
    try {
      attempt = await this.#attempt(producer, sent, outputs);
    } catch (error) {
      // It may be committed: nothing of it is ever sent again.
      this.#exchange.refused(sent);
      return this.#check(error, () => false);
    } finally {
      this.#options.producers.release(producer);
    }
    if (attempt.kind === 'committed') return null;
    const [first] = outputs;
    const isAlone = outputs.length === 1 && first !== undefined;
    const partition = sent.find((one) =>
      one.partition.outcomes.sent().some((entry) => entry.outputs === first),
    )?.partition;
    this.#exchange.refused(sent, attempt.refused);
    const unstorable = this.#unstorable(attempt);
    if (unstorable !== null) {
      if (!isAlone) return 'smaller';
      // Lost meanwhile, it is another member's.
      if (partition === undefined || partition.state === 'gone') return unstorable;
      const isFailed = this.#options.outputsRefused(partition, first, unstorable);
      return this.#check(unstorable, () => isFailed);
    }
    for (const { partition: ref, error } of attempt.refused) {
      const partition = sent.find((one) => ref !== undefined && one.partition.key === refKey(ref))?.partition;
      // With less of it, it may be taken.
      const isAgain = partition?.outcomes.isStalled === true && partition.outcomes.hasSendable;
      if (partition !== undefined && error !== undefined && !isAgain) refused.set(partition, fromWireError(error));
    }
    const isForPartitions = attempt.refused.length > 0;
    return this.#check(
      attempt.error,
      (known) => isForPartitions || known.retriable || isNaruError(known, ...AGAIN_IN_ANOTHER),
    );
  }

  /** @throws what it cannot go on from */
  #check(reason: unknown, mayPass: (error: NaruError) => boolean): NaruError {
    const error = toError(reason);
    if (this.#closing.signal.aborted) throw closedError();
    if (error instanceof NaruError && mayPass(error)) {
      this.#options.runtime.logger.warn({ error: error.message }, 'transaction aborted; making another one');
      return error;
    }
    this.#failure = error;
    this.#options.failed(error);
    throw error;
  }

  /** What the attempt has shown that can never be committed, if it has. */
  #unstorable({ error, refused, isPublished }: Extract<Attempt, { kind: 'failed' }>): NaruError | null {
    if (isNaruError(error, 'TRANSACTION_TOO_LARGE') && refused.length === 0) return error;
    return !isPublished && isNaruError(error, ...UNSTORABLE) ? error : null;
  }

  /** @throws NaruError when it is not known how it has ended */
  async #attempt(
    producer: OutputProducer,
    sent: readonly SentCommit[],
    outputs: readonly FinishedOutputs[],
  ): Promise<Attempt> {
    const attempt = await this.#transact(producer, sent, outputs);
    if (attempt.kind === 'committed') return attempt;
    if ((await this.#outcome(producer, attempt)) === 'aborted') return attempt;
    this.#exchange.answered(sent, []);
    return { kind: 'committed' };
  }

  async #transact(
    producer: OutputProducer,
    sent: readonly SentCommit[],
    outputs: readonly FinishedOutputs[],
  ): Promise<Attempt> {
    let isSent = false;
    let isPublished = false;
    try {
      for (const { events } of outputs) {
        for (const { topic, key, value, headers, timestampMs, partition } of events) {
          const isWaiting = producer.publish(topic, key, value, headers, timestampMs, partition, null) !== null;
          if (isWaiting) await producer.flush(); // for memory
        }
      }
      await producer.flush();
      isPublished = true;
      const gone = sent.find(({ partition }) => partition.state === 'gone')?.partition;
      if (gone !== undefined) throw new NaruError('NOT_ASSIGNED', `${gone.topic}/${gone.partition} was lost`);
      isSent = this.#options.session.isJoined;
      const answer = await this.#options.session.commitTransaction(
        sent.map(toWire),
        producer.ref,
        ({ nextTransaction }) => {
          if (nextTransaction !== undefined) this.#exchange.answered(sent, []);
        },
      );
      if (answer.nextTransaction !== undefined) {
        producer.ended(answer.nextTransaction);
        return { kind: 'committed' };
      }
      return { kind: 'failed', error: refusalOf(answer), refused: answer.errors, sent: false, isPublished };
    } catch (error) {
      return { kind: 'failed', error: toError(error), refused: [], sent: isSent, isPublished };
    }
  }

  /** How the transaction has ended; it is aborted when it has not. */
  async #outcome(
    producer: OutputProducer,
    { sent }: Extract<Attempt, { kind: 'failed' }>,
  ): Promise<'aborted' | 'committed'> {
    const { ref } = producer;
    let outcome: 'aborted' | 'committed';
    try {
      outcome = await producer.abort(sent);
    } catch (error) {
      // What was not committed is aborted when the producer is used next.
      if (!isNaruError(error, 'DELIVERY_TIMEOUT', 'NETWORK', 'REQUEST_TIMED_OUT')) throw error;
      if (!sent) return 'aborted';
      outcome = await this.#options.ask(ref, this.#closing.signal);
    }
    assert(sent || outcome === 'aborted', 'a transaction that nobody committed is not committed');
    return outcome;
  }

  async #pause(failures: number): Promise<void> {
    const { timers, random } = this.#options.runtime;
    await delay(timers, backoffMs(RETRY, failures, random), this.#closing.signal).catch(() => {});
  }
}

/** In the order in which their events were finished. */
function outputsOf(sent: readonly SentCommit[]): FinishedOutputs[] {
  const entries = sent
    .flatMap(({ partition }) => partition.outcomes.sent())
    .filter(({ outputs }) => outputs !== undefined);
  entries.sort((a, b) => (a.order ?? 0) - (b.order ?? 0));
  return [...new Set(entries.map(({ outputs }) => outputs as FinishedOutputs))];
}

function hasFewBytes(partitions: number): (partition: AssignedPartition) => boolean {
  return ({ outcomes }) => outcomes.outputBytes <= MAX_TRANSACTION_BYTES / partitions;
}

/** Why the transaction was not committed. */
function refusalOf({ errors, transactionError }: Committed): NaruError {
  const error = transactionError ?? errors[0]?.error;
  return error === undefined ? new NaruError('INTERNAL', 'the broker gave no reason') : fromWireError(error);
}

function closedError(): NaruError {
  return new NaruError('CLOSED', 'the subscriber is closed');
}
