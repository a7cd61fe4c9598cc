/**
 * A member's commits: one after the other where one of them has to read events first.
 *
 * Owns their order, and that what is dead-lettered or held goes into the decision as a whole event. Does not own what a commit
 * may do (core/group/decide-offsets.ts).
 */
import type { PartitionKey } from '@naru/base';
import { refuse, type Refusal } from '@naru/protocol';
import type { CommitCommand, PartitionResult } from '../core/group/index.ts';
import type { TransactionRef } from '../core/transaction/commands.ts';
import { isRefusal } from '../runtime/commands.ts';
import type { ByteBudget } from './byte-budget.ts';
import { copiedBytes, withCopies, type CommitCopiesOptions } from './commit-copies.ts';
import type { FreshProducerIds } from './fresh-producer-ids.ts';
import type { CommitOutcome, PartitionCommit, TransactionalAnswer } from './session-events.ts';

/** Copies of all members of a broker that are read and not decided on yet; nobody begins to read beyond it. */
export const MAX_COPYING_BYTES = 64 * 1024 * 1024;
/** Of one transaction's commit: its end is one append. */
export const MAX_TRANSACTION_COPY_BYTES = 4 * 1024 * 1024;
/** What one partition of a commit counts for until it is known. */
const EXPECTED_COPY_BYTES = 4 * 1024 * 1024;

export interface MemberCommitsOptions extends CommitCopiesOptions {
  /** {@link MAX_COPYING_BYTES}; shared by all members of the broker. */
  readonly copying: ByteBudget;
  readonly groupId: string;
  readonly memberId: string;
  /** For transactions that end with a commit. */
  readonly producerIds: FreshProducerIds;
  /** Of each commit that is durable, before its answer. */
  readonly onCommitted: (commit: PartitionCommit, blocked: readonly string[]) => void;
}

export class MemberCommits {
  readonly #options: MemberCommitsOptions;
  /** The last one that others have to wait for. */
  #last: Promise<unknown> | null = null;
  readonly #began = new Map<PartitionKey, number>();
  #closed = false;

  constructor(options: MemberCommitsOptions) {
    this.#options = options;
  }

  /** Where the member began to read, for a group that has committed nothing in the partition. */
  noteBegan(partition: PartitionKey, offset: number): void {
    this.#began.set(partition, offset);
  }

  /** Resolves when no commit waits any more; null when none does. */
  settled(): Promise<unknown> | null {
    return this.#last;
  }

  /**
   * Nothing more is committed: the member may have come back in another session, and what it says there is newer than what waits
   * here.
   */
  close(): void {
    this.#closed = true;
  }

  /** @returns what was refused */
  commit(memberEpoch: number, commits: readonly PartitionCommit[]): Promise<readonly CommitOutcome[]> {
    const isPlain = commits.every(({ outcomes = [] }) => outcomes.length === 0);
    if (isPlain && this.#last === null) return this.#submit(memberEpoch, commits);
    return this.#inTurn(() => this.#commitAll(memberEpoch, commits));
  }

  /**
   * Commits the transaction, and these with it: all or nothing.
   *
   * @param commits of ordered topics
   */
  commitWith(
    memberEpoch: number,
    commits: readonly PartitionCommit[],
    transaction: TransactionRef,
  ): Promise<TransactionalAnswer> {
    return this.#inTurn(() => this.#end(memberEpoch, commits, transaction));
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#last === null ? work() : this.#last.then(work, work);
    this.#last = done;
    const forget = (): void => {
      if (this.#last === done) this.#last = null;
    };
    done.then(forget, forget);
    return done;
  }

  async #end(
    memberEpoch: number,
    commits: readonly PartitionCommit[],
    transaction: TransactionRef,
  ): Promise<TransactionalAnswer> {
    const { copying } = this.#options;
    for (let room = copying.room(); room !== null; room = copying.room()) await room;
    let bytes = EXPECTED_COPY_BYTES;
    copying.take(bytes);
    try {
      const complete: PartitionCommit[] = [];
      let copied = 0;
      for (const commit of commits) {
        const { partition, outcomes = [] } = commit;
        const whole = outcomes.length === 0 ? commit : await withCopies(this.#options, commit);
        if ('code' in whole) return { errors: [{ partition, refusal: whole }], refusal: null, next: null };
        copied += copiedBytes(whole);
        const excess = Math.max(0, copied - bytes);
        copying.take(excess);
        bytes += excess;
        if (copied > MAX_TRANSACTION_COPY_BYTES) return refusedCommit(tooManyCopies());
        complete.push(whole);
      }
      return await this.#submitEnd(memberEpoch, complete, transaction);
    } finally {
      copying.release(bytes);
    }
  }

  async #submitEnd(
    memberEpoch: number,
    commits: readonly PartitionCommit[],
    transaction: TransactionRef,
  ): Promise<TransactionalAnswer> {
    const { shard, producerIds, onCommitted } = this.#options;
    const groupCommit = commits.length === 0 ? null : this.#command(memberEpoch, commits);
    const reply = await producerIds.lend(
      (freshProducerId) => {
        // Asked for as late as this: getting an id may take a while.
        if (this.#closed) return Promise.resolve(refuse('ABORTED', 'the session of the commit is over'));
        const flow = 2;
        return shard.submit({ type: 'end-transaction', transaction, flow, commit: true, freshProducerId, groupCommit });
      },
      (answer, id) => !isRefusal(answer) && answer.next?.producerId === id,
    );
    if (isRefusal(reply)) return refusedCommit(reply);
    const errors = reply.results.flatMap(({ partition, refusal }): CommitOutcome[] => {
      return refusal === null ? [] : [{ partition, refusal }];
    });
    if (errors.length > 0 || reply.next === null) return { errors, refusal: null, next: null };
    const { transactionalId } = transaction;
    const done = { errors, refusal: null, next: { transactionalId, ...reply.next } };
    // It was told of at the first time, and what was held by it may have been given again since.
    if (reply.isRepeated === true) return { ...done, isRepeated: true };
    reply.results.forEach(({ blocked = [] }, index) => onCommitted(commits[index] as PartitionCommit, blocked));
    return done;
  }

  /** Partitions with outcomes one by one, which bounds what is in memory. */
  async #commitAll(memberEpoch: number, commits: readonly PartitionCommit[]): Promise<readonly CommitOutcome[]> {
    const refused: CommitOutcome[] = [];
    const plain = commits.filter(({ outcomes = [] }) => outcomes.length === 0);
    if (plain.length > 0) refused.push(...(await this.#submit(memberEpoch, plain)));
    for (const commit of commits) {
      if (plain.includes(commit)) continue;
      refused.push(...(await this.#commitOutcomes(memberEpoch, commit)));
    }
    return refused;
  }

  async #commitOutcomes(memberEpoch: number, commit: PartitionCommit): Promise<readonly CommitOutcome[]> {
    const { copying } = this.#options;
    for (let room = copying.room(); room !== null; room = copying.room()) await room;
    let bytes = EXPECTED_COPY_BYTES;
    copying.take(bytes);
    try {
      const complete = await withCopies(this.#options, commit);
      if ('code' in complete) return [{ partition: commit.partition, refusal: complete }];
      const excess = Math.max(0, copiedBytes(complete) - bytes);
      copying.take(excess);
      bytes += excess;
      return await this.#submit(memberEpoch, [complete]);
    } finally {
      copying.release(bytes);
    }
  }

  /** What is taken at the limit, too: outcomes of events that were held before. */
  #ofGiven(commit: PartitionCommit): PartitionCommit {
    const { partition, outcomes = [] } = commit;
    return { ...commit, outcomes: outcomes.filter(({ offset }) => this.#options.isGiven(partition, offset)) };
  }

  async #submit(memberEpoch: number, commits: readonly PartitionCommit[]): Promise<readonly CommitOutcome[]> {
    const { shard, onCommitted } = this.#options;
    if (this.#closed) {
      const refusal = refuse('ABORTED', 'the session of the commit is over');
      return commits.map(({ partition }) => ({ partition, refusal }));
    }
    const reply = await shard.submit({ type: 'group', command: this.#command(memberEpoch, commits) });
    if (isRefusal(reply)) return commits.map(({ partition }) => ({ partition, refusal: reply }));
    const refused: CommitOutcome[] = [];
    reply.results.forEach(({ partition, refusal, blocked = [] }: PartitionResult, index) => {
      const commit = commits[index] as PartitionCommit;
      if (refusal === null) onCommitted(commit, blocked);
      else refused.push({ partition, refusal });
      if (refusal?.code === 'HELD_LIMIT_REACHED') onCommitted(this.#ofGiven(commit), []);
    });
    return refused;
  }

  #command(memberEpoch: number, commits: readonly PartitionCommit[]): CommitCommand {
    const { groupId, memberId } = this.#options;
    const offsets = commits.map((commit) => {
      return { ...commit, leaderEpoch: -1, endOffset: null, beganAt: this.#began.get(commit.partition) };
    });
    return { type: 'commit', groupId, memberId, memberEpoch, offsets };
  }
}

function refusedCommit(refusal: Refusal): TransactionalAnswer {
  return { errors: [], refusal, next: null };
}

function tooManyCopies(): Refusal {
  const message = `the events that the commit has the broker keep have more than ${MAX_TRANSACTION_COPY_BYTES} bytes: conclude them in several transactions, or commit them without one`;
  return refuse('TRANSACTION_TOO_LARGE', message);
}
