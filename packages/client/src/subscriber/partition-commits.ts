/**
 * Commits of a member: offsets, finished ranges and outcomes, one commit at a time.
 *
 * One at a time, since a commit says as finished what an outcome in it takes over, and one that overtook the answer would say it
 * is not. What a commit says is commit-exchange.ts's; commits with what handlers published are output-transactions.ts's.
 */
import type { TimerHandle } from '@naru/base';
import { NaruError } from '@naru/protocol';
import type { ProducerIdentity, TransactionRefFields } from '../transaction/commit-target.ts';
import type { AssignedPartition } from './assigned-partition.ts';
import { CommitExchange, isDirty } from './commit-exchange.ts';
import type { CommitExchangeOptions } from './commit-exchange.ts';
import { OutputTransactions } from './output-transactions.ts';
import type { OutputTransactionsOptions } from './output-transactions.ts';
import { PullTransactions } from './pull-transactions.ts';
import type { OpenPart, PullTransactionsOptions } from './pull-transactions.ts';

export { refKey } from './commit-exchange.ts';

/** How long an outcome waits for others, milliseconds. */
const OUTCOME_LINGER_MS = 2;

export interface PartitionCommitsOptions extends Omit<CommitExchangeOptions, 'more'>, PullTransactionsOptions {
  /** Whether outcomes may be committed when nobody has asked for it. */
  readonly isAutomatic: boolean;
  /** With what the outputs of handlers are published; undefined where they do not go with commits. */
  readonly producers: OutputTransactionsOptions['producers'] | undefined;
  readonly outputsRefused: OutputTransactionsOptions['outputsRefused'];
}

export class PartitionCommits {
  readonly #options: PartitionCommitsOptions;
  readonly #exchange: CommitExchange;
  readonly #outputs: OutputTransactions | null;
  readonly #pull: PullTransactions;
  #last: Promise<unknown> = Promise.resolve();
  #soon: TimerHandle | null = null;
  #isSoonDue = false;
  #isClosed = false;

  constructor(options: PartitionCommitsOptions) {
    this.#options = options;
    this.#exchange = new CommitExchange({ ...options, more: () => this.soon() });
    const { producers } = options;
    this.#outputs = producers === undefined ? null : new OutputTransactions({ ...options, producers }, this.#exchange);
    this.#pull = new PullTransactions(options, this.#exchange);
  }

  /** Commits what of these partitions is finished and not committed. Resolves when it is durable; rejects with the first refusal. */
  commit(partitions: readonly AssignedPartition[]): Promise<void> {
    return this.#inTurn(() => this.#commit(partitions));
  }

  /**
   * Commits, as part of a transaction and together with it, what `parts` says when its turn has come. When that is refused nothing of
   * it counts as finished.
   */
  commitWith(ref: TransactionRefFields, parts: () => readonly OpenPart[]): Promise<ProducerIdentity> {
    return this.#inTurn(() => this.#pull.commit(ref, parts()));
  }

  /** There are outcomes that somebody waits for. */
  soon(): void {
    if (this.#soon !== null || this.#isSoonDue || this.#isClosed || !this.#options.isAutomatic) return;
    const { runtime } = this.#options;
    this.#soon = runtime.timers.after(OUTCOME_LINGER_MS, () => {
      this.#soon = null;
      this.#isSoonDue = true;
      this.#inTurn(() => {
        this.#isSoonDue = false;
        return this.#commit([...this.#options.partitions()]);
      }).catch((error: unknown) => {
        // The next automatic commit says it again.
        runtime.logger.warn({ error: String(error) }, 'outcomes were not committed');
      });
    });
  }

  close(): void {
    this.#isClosed = true;
    this.#soon?.cancel();
    this.#exchange.close();
    this.#outputs?.close();
    this.#pull.close();
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#last.then(work);
    this.#last = turn.catch(() => {});
    return turn;
  }

  async #commit(partitions: readonly AssignedPartition[]): Promise<void> {
    const lost = partitions.find((partition) => partition.state === 'gone' && partition.hasUncommitted);
    if (this.#outputs !== null) await this.#outputs.commit(partitions);
    else {
      const sent = partitions
        .filter(isDirty)
        .map((partition) => this.#exchange.prepare(partition))
        .filter((one) => one !== null);
      if (sent.length > 0) await this.#exchange.exchange(sent);
    }
    if (lost === undefined) return;
    throw new NaruError('NOT_ASSIGNED', `${lost.topic}/${lost.partition} is no longer this member's: not committed`);
  }
}
