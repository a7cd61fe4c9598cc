/**
 * Transactions as their producers and as operators see them: init, end, list, describe, abort.
 *
 * Owns what of a question is checked before the shard is asked, and pages. Does not own what a transaction may do (core/transaction).
 */
import { splitPartitionKey, type Clock } from '@naru/base';
import { checkTransactionalId, refuse, type Refusal } from '@naru/protocol';
import type { TransactionListing, TransactionRef } from '../core/transaction/commands.ts';
import type { ProducerIdentity, TransactionStatus } from '../core/transaction/transaction-state.ts';
import { isRefusal, type ShardClient } from '../runtime/commands.ts';
import type { ExpectedSequence } from '../runtime/transaction-commands.ts';
import type { FreshProducerIds } from './fresh-producer-ids.ts';
import type { TopicService } from './topics.ts';

export const MAX_TRANSACTION_PAGE = 1_000;

export interface TransactionServiceOptions {
  readonly shard: ShardClient;
  readonly topics: TopicService;
  readonly producerIds: FreshProducerIds;
  readonly clock: Clock;
}

export interface TransactionQuestion {
  /** Empty: all. */
  readonly states: readonly TransactionStatus[];
  /** Only those that are open, and for so long; 0: all. Milliseconds. */
  readonly minOpenMs: number;
  /** Where an earlier page ended; empty for the first. */
  readonly pageToken: string;
  /** 0 for {@link MAX_TRANSACTION_PAGE}. */
  readonly pageSize: number;
}

export interface TransactionPage {
  /** By transactional id. */
  readonly transactions: readonly TransactionListing[];
  /** Empty when there are no more. */
  readonly nextPageToken: string;
}

export interface TransactionReport extends TransactionListing {
  /** By topic and number. */
  readonly places: readonly {
    readonly topic: string;
    readonly partition: number;
    /** Null: nothing was written there yet. */
    readonly firstOffset: number | null;
    readonly highWatermark: number;
    readonly lastStableOffset: number;
  }[];
  readonly groups: readonly string[];
}

export class TransactionService {
  readonly #options: TransactionServiceOptions;

  constructor(options: TransactionServiceOptions) {
    this.#options = options;
  }

  /** @param timeoutMs of an open transaction; 0 for the default */
  async init(transactionalId: string, timeoutMs: number): Promise<ProducerIdentity | Refusal> {
    const { shard, producerIds } = this.#options;
    const refusal = checkTransactionalId(transactionalId);
    if (refusal !== null) return refusal;
    return producerIds.lend(
      (freshProducerId) =>
        shard.submit({
          type: 'transaction',
          command: { type: 'init', transactionalId, timeoutMs, expected: null, freshProducerId },
        }),
      (answer, id) => !isRefusal(answer) && answer.producerId === id,
    );
  }

  /**
   * @param expected what must be stored of it; default: that is not looked at
   * @returns of the next transaction
   */
  async end(
    transaction: TransactionRef,
    commit: boolean,
    expected?: readonly ExpectedSequence[],
  ): Promise<ProducerIdentity | Refusal> {
    const { shard, producerIds } = this.#options;
    const refusal = checkTransactionalId(transaction.transactionalId);
    if (refusal !== null) return refusal;
    const end = { type: 'end-transaction', transaction, flow: 2, commit, groupCommit: null, expected } as const;
    const reply = await producerIds.lend(
      (freshProducerId) => shard.submit({ ...end, freshProducerId }),
      (answer, id) => !isRefusal(answer) && answer.next?.producerId === id,
    );
    if (isRefusal(reply)) return reply;
    return reply.next ?? refuse('INTERNAL', 'a transaction without a commit was left open for the sake of one');
  }

  async list({ states, minOpenMs, pageToken, pageSize }: TransactionQuestion): Promise<TransactionPage | Refusal> {
    if (pageSize < 0 || pageSize > MAX_TRANSACTION_PAGE) {
      return refuse('INVALID_REQUEST', `a page has 1 to ${MAX_TRANSACTION_PAGE} transactions, not ${pageSize}`);
    }
    const { shard, clock } = this.#options;
    const all = await shard.submit({ type: 'list-transactions' });
    if (isRefusal(all)) return all;
    const beganBefore = clock.nowMs() - minOpenMs;
    const wanted = all.filter(({ transactionalId, status, startedAtMs }) => {
      if (transactionalId <= pageToken && pageToken !== '') return false;
      if (states.length > 0 && !states.includes(status)) return false;
      return minOpenMs === 0 || (startedAtMs !== null && startedAtMs <= beganBefore);
    });
    wanted.sort((a, b) => (a.transactionalId < b.transactionalId ? -1 : 1));
    const size = pageSize === 0 ? MAX_TRANSACTION_PAGE : pageSize;
    const transactions = wanted.slice(0, size);
    const nextPageToken = wanted.length > size ? (transactions.at(-1)?.transactionalId ?? '') : '';
    return { transactions, nextPageToken };
  }

  async describe(transactionalId: string): Promise<TransactionReport | Refusal> {
    const { shard, topics } = this.#options;
    const refusal = checkTransactionalId(transactionalId);
    if (refusal !== null) return refusal;
    const found = await shard.submit({ type: 'describe-transaction', transactionalId });
    if (isRefusal(found)) return found;
    const { partitions, ...rest } = found;
    const status = await shard.submit({
      type: 'describe-partitions',
      partitions: partitions.map(({ partition }) => partition),
    });
    if (isRefusal(status)) return status;
    const firstOffsets = new Map(partitions.map(({ partition, firstOffset }) => [partition, firstOffset]));
    // Without those whose topic was deleted meanwhile.
    const places = status.flatMap(({ partition: key, highWatermark, lastStableOffset }) => {
      const { topicId, partition } = splitPartitionKey(key);
      const topic = topics.findById(topicId);
      if (isRefusal(topic)) return [];
      const firstOffset = firstOffsets.get(key) ?? null;
      return [{ topic: topic.name, partition, firstOffset, highWatermark, lastStableOffset }];
    });
    places.sort((a, b) => (a.topic === b.topic ? a.partition - b.partition : a.topic < b.topic ? -1 : 1));
    return { ...rest, places };
  }

  /** For operators: the producer is fenced whether something was open or not. */
  async abort(transactionalId: string): Promise<{ readonly aborted: boolean } | Refusal> {
    const { shard } = this.#options;
    const refusal = checkTransactionalId(transactionalId);
    if (refusal !== null) return refusal;
    return shard.submit({ type: 'transaction', command: { type: 'abort', transactionalId, reason: 'asked' } });
  }
}
