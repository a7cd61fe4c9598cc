/**
 * Commits of the pull form that are part of a transaction: batches count as finished with the transaction, or not at all.
 *
 * While it is not known what became of such a commit nothing else is committed, since what that said would take the group back. So the
 * transaction is asked here, besides by whoever owns it.
 */
import { NaruError, isNaruError } from '@naru/protocol';
import type { ProducerIdentity, TransactionRefFields } from '../transaction/commit-target.ts';
import { fromWireError } from '../transport/wire-errors.ts';
import type { AssignedPartition } from './assigned-partition.ts';
import type { CommitExchange, SentCommit } from './commit-exchange.ts';
import { toWire } from './commit-exchange.ts';
import type { MemberSession } from './member-session.ts';
import type { Concluded } from './outcome-book.ts';
import type { OffsetSpan } from './watermark-tracker.ts';

/**
 * How a transaction has ended; it is aborted when it has not.
 *
 * @throws NaruError when that cannot be found out
 */
export type AskOutcome = (ref: TransactionRefFields, signal: AbortSignal) => Promise<'aborted' | 'committed'>;

/** What a commit finishes of one partition. */
export interface OpenPart {
  readonly partition: AssignedPartition;
  readonly spans: readonly OffsetSpan[];
  /** Not in the partition's book. */
  readonly entries: readonly Concluded[];
  /** They are durable. */
  committed(): void;
}

export interface PullTransactionsOptions {
  readonly session: MemberSession;
  readonly ask: AskOutcome;
  /** Nothing can be committed any more. */
  failed(error: Error): void;
}

export class PullTransactions {
  readonly #options: PullTransactionsOptions;
  readonly #exchange: CommitExchange;
  readonly #closing = new AbortController();

  constructor(options: PullTransactionsOptions, exchange: CommitExchange) {
    this.#options = options;
    this.#exchange = exchange;
  }

  /** @throws NaruError of a refusal: nothing is committed; NETWORK when there was no answer */
  async commit(ref: TransactionRefFields, parts: readonly OpenPart[]): Promise<ProducerIdentity> {
    const sent = this.#prepare(parts);
    let isOver = false;
    const accept = (): void => {
      isOver = true;
      this.#exchange.answered(sent, []);
      for (const part of parts) part.committed();
    };
    try {
      const answer = await this.#options.session.commitTransaction(sent.map(toWire), ref, ({ nextTransaction }) => {
        if (nextTransaction !== undefined) accept();
      });
      if (answer.nextTransaction !== undefined) return answer.nextTransaction;
      isOver = true;
      this.#refuse(sent, parts);
      const refusal = answer.transactionError ?? answer.errors[0]?.error;
      throw refusal === undefined ? new NaruError('INTERNAL', 'the broker gave no reason') : fromWireError(refusal);
    } catch (error) {
      if (isOver) throw error;
      // Lost partitions are not committed here any more, whatever became of them.
      const isUnknown = parts.some(({ partition }) => partition.state !== 'gone');
      if (isUnknown && (await this.#outcome(ref, error)) === 'committed') accept();
      else this.#refuse(sent, parts);
      throw error;
    }
  }

  close(): void {
    this.#closing.abort(new NaruError('CLOSED', 'the subscriber is closed'));
  }

  #prepare(parts: readonly OpenPart[]): SentCommit[] {
    const sent: SentCommit[] = [];
    for (const { partition, spans, entries } of parts) {
      for (const entry of entries) partition.outcomes.conclude(entry);
      const one = this.#exchange.prepare(partition, { spans });
      if (one !== null) sent.push(one);
    }
    const short = parts.find((part) => !isCovered(part, sent));
    if (short === undefined) return sent;
    this.#refuse(sent, parts);
    const { topic, partition } = short.partition;
    const message = `${topic}/${partition} has more gaps or outcomes than fit into one commit: use smaller batches`;
    throw new NaruError('INVALID_REQUEST', message);
  }

  #refuse(sent: readonly SentCommit[], parts: readonly OpenPart[]): void {
    this.#exchange.refused(sent);
    for (const { partition, entries } of parts) partition.outcomes.withdraw(entries);
  }

  async #outcome(ref: TransactionRefFields, reason: unknown): Promise<'aborted' | 'committed'> {
    if (!isNaruError(reason) || !reason.retriable) return 'aborted';
    try {
      return await this.#options.ask(ref, this.#closing.signal);
    } catch (error) {
      if (!this.#closing.signal.aborted) this.#options.failed(error as Error);
      return 'aborted';
    }
  }
}

/** Whether the commit says all that it is to say. */
function isCovered({ partition, spans, entries }: OpenPart, sent: readonly SentCommit[]): boolean {
  const one = sent.find((candidate) => candidate.partition === partition);
  if (one === undefined) return spans.length === 0 && entries.length === 0;
  const said = new Set(partition.outcomes.sent());
  const { offset, finished } = one.contents;
  const end = Math.max(offset, finished.at(-1)?.to ?? 0);
  return spans.every(({ to }) => to <= end) && entries.every((entry) => said.has(entry));
}
