/**
 * Commits of a member that speaks in single calls: each waits for the session's answer.
 *
 * Owns the waiting. Does not own what there is to commit (held-partitions.ts, unary-held.ts).
 */
import { NaruError } from '@naru/protocol';
import type { TransactionRef } from '../core/transaction/commands.ts';
import type { HeldPartitions } from './held-partitions.ts';
import type { PartitionCommit, SessionEvent } from './session-events.ts';
import type { SubscriberSession } from './subscriber-session.ts';
import type { CommitAnswer } from './unary-calls.ts';
import type { UnaryHeld } from './unary-held.ts';

type Committed = Extract<SessionEvent, { type: 'committed' }>;

export interface UnaryCommitsOptions {
  readonly session: Pick<SubscriberSession, 'commit'>;
  readonly held: HeldPartitions;
  readonly keys: UnaryHeld;
  /** Why there is no answer. */
  readonly overError: () => NaruError;
}

export class UnaryCommits {
  readonly #options: UnaryCommitsOptions;
  readonly #waiting = new Map<number, (answer: Committed) => void>();
  #nextId = 1;

  constructor(options: UnaryCommitsOptions) {
    this.#options = options;
  }

  heard(answer: Committed): void {
    this.#waiting.get(answer.commitId)?.(answer);
  }

  /** @throws NaruError why the session is over, or why nothing at all was committed */
  async commit(commits: readonly PartitionCommit[], transaction: TransactionRef | null): Promise<CommitAnswer> {
    if (commits.length === 0 && transaction === null) return { committed: [], failed: [], next: null };
    const commitId = this.#nextId++;
    const answers: Committed[] = [];
    this.#waiting.set(commitId, (told) => answers.push(told));
    try {
      await this.#options.session.commit(commitId, commits, transaction);
    } finally {
      this.#waiting.delete(commitId);
    }
    const [answer] = answers;
    if (answer === undefined) throw this.#options.overError();
    const { errors, transaction: { refusal = null, next = null, isRepeated } = {} } = answer;
    if (refusal !== null) throw NaruError.from(refusal);
    // What is finished, and what is held, was noted at the first time; what was given since is no part of it.
    if (isRepeated === true) return { committed: commits.filter(isMove), failed: [], next };
    return this.#committed(commits, errors, transaction !== null, next);
  }

  #committed(
    commits: readonly PartitionCommit[],
    failed: CommitAnswer['failed'],
    isWhole: boolean,
    next: TransactionRef | null,
  ): CommitAnswer {
    const [first] = failed;
    if (first !== undefined && failed.length === commits.length) throw NaruError.from(first.refusal);
    if (first !== undefined && isWhole) return { committed: [], failed, next: null };
    const { held, keys } = this.#options;
    const refused = new Set(failed.map(({ partition }) => partition));
    const committed = commits.filter(({ partition }) => !refused.has(partition));
    for (const commit of committed) {
      keys.committed(commit);
      if (commit.onlyForward !== true) held.noteCommitted(commit);
    }
    return { committed: committed.filter(isMove), failed, next };
  }
}

/** Those that are not there for their outcomes alone. */
function isMove({ onlyForward }: PartitionCommit): boolean {
  return onlyForward !== true;
}
