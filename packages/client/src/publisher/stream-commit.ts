/**
 * The commit of a transaction behind its batches, on the stream that they are on: no wait for acknowledgements, and no call.
 *
 * The broker commits only what has every sequence that is named, so that nothing has to be known of the batches when it is sent.
 *
 * ```
 * waiting → sent → answered: committed, or refused with the transaction still open
 *    │        └→ unknown    the stream broke, or there is no answer
 *    └→ unsent              something went wrong with a batch: the careful way is the caller's
 * ```
 */
import type { MessageInitShape } from '@bufbuild/protobuf';
import type { CommitTransactionSchema, PublishAck, TransactionRef } from '@naru/protocol/proto';
import { deferred } from '../deferred.ts';
import type { PartitionQueue } from './partition-queue.ts';

export type StreamCommitAnswer =
  | { readonly kind: 'committed'; readonly next: TransactionRef }
  /** Refused, or never sent: the transaction is open, and may be committed otherwise. */
  | { readonly kind: 'open' }
  | { readonly kind: 'unknown' };

/** As TransactionRef on the wire. */
export interface OpenTransaction {
  readonly transactionalId: string;
  readonly producerId: bigint;
  readonly producerEpoch: number;
}

type CommitFields = MessageInitShape<typeof CommitTransactionSchema>;

export class StreamCommit {
  readonly answer: Promise<StreamCommitAnswer>;
  readonly #transaction: OpenTransaction;
  readonly #settle: (answer: StreamCommitAnswer) => void;
  #isSent = false;
  correlationId = -1;

  constructor(transaction: OpenTransaction) {
    this.#transaction = transaction;
    const { promise, resolve } = deferred<StreamCommitAnswer>();
    this.answer = promise;
    this.#settle = resolve;
  }

  get isSent(): boolean {
    return this.#isSent;
  }

  /** What is put on the stream, once. @param written every partition of the transaction */
  send(correlationId: number, written: Iterable<PartitionQueue>): CommitFields {
    this.#isSent = true;
    this.correlationId = correlationId;
    const expected = Array.from(written, ({ topicIdBytes, options: { partition }, nextSequence }) => ({
      partition: { topicId: topicIdBytes, partition },
      nextSequence,
    }));
    return { correlationId, transaction: this.#transaction, expected };
  }

  answered({ error, nextTransaction }: PublishAck): void {
    const isCommitted = error === undefined && nextTransaction !== undefined;
    this.#settle(isCommitted ? { kind: 'committed', next: nextTransaction } : { kind: 'open' });
  }

  /** It is not waited for any more: the stream broke, or a batch of the transaction is not on it. */
  broken(): void {
    this.#settle({ kind: this.#isSent ? 'unknown' : 'open' });
  }
}
