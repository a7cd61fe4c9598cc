/** What a member that speaks in single calls asks for, and what it is answered: types. */
import type { PartitionKey } from '@naru/base';
import type { Refusal } from '@naru/protocol';
import type { TransactionRef } from '../core/transaction/commands.ts';
import type { AnswerLimits, GivenRecord } from './poll-answer.ts';
import type { PollNews } from './poll-news.ts';

export interface PollRequest extends AnswerLimits {
  readonly maxWaitMs: number;
  /** Id of the last answer that arrived; null: the last one. */
  readonly received: number | null;
  /** The member does not wait any more. */
  readonly signal: AbortSignal;
}

export interface PollAnswer {
  readonly pollId: number;
  readonly memberEpoch: number;
  readonly records: readonly GivenRecord[];
  readonly news: PollNews;
}

export interface CommitAnswer {
  readonly committed: readonly { readonly partition: PartitionKey; readonly offset: number }[];
  /** Of a commit that is part of a transaction: nothing was committed when there is one. */
  readonly failed: readonly { readonly partition: PartitionKey; readonly refusal: Refusal }[];
  /** Of the producer's next transaction, when the commit's own was committed; else null. */
  readonly next: TransactionRef | null;
}
