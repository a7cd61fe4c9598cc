/** What a transaction and a subscriber have to know of each other, so that offsets can be committed with events. */
import type { TransactionRef } from '@naru/protocol/proto';

/** Who writes, and in which of its transactions: the next one has another epoch, and now and then another producer id. */
export interface ProducerIdentity {
  readonly producerId: bigint;
  readonly producerEpoch: number;
}

/** On the wire; as a message's initial value. */
export type TransactionRefFields = Omit<TransactionRef, '$typeName' | '$unknown'>;

/** What one subscriber commits with one transaction. */
export interface CommitTarget {
  /**
   * Commits, and ends the transaction with it; called once.
   *
   * @returns what the producer goes on with
   * @throws NaruError of what was refused: then the transaction is still open. With a retriable one, NETWORK say, it is not known
   *   whether it was committed
   */
  commitWith(ref: TransactionRefFields): Promise<ProducerIdentity>;
}

/** Something that can be committed with a transaction: a batch of `naru.poll({ group })`. */
export interface Committable {
  /**
   * Adds itself to what is committed with a transaction.
   *
   * @param current what was added before; null when it is the first
   * @returns `current`, or a new one when it is the first
   * @throws NaruError INVALID_REQUEST when `current` is another subscriber's, or where it cannot be committed
   */
  joinTransaction(current: CommitTarget | null): CommitTarget;
}
