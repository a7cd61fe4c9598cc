/**
 * What the broker knows of each transactional id, and the records that build it.
 *
 * Owns the state's shape and `evolve`, its only writer. Does not own what of a transaction is in partitions
 * (core/partition/transaction-index.ts) nor offsets that wait for its end (core/group).
 */
import type { PartitionKey } from '@naru/base';

/** Kafka's Empty, Ongoing, CompleteCommit and CompleteAbort. There is nothing between: an end is one atomic append. */
export type TransactionStatus = 'empty' | 'ongoing' | 'committed' | 'aborted';

export interface ProducerIdentity {
  readonly producerId: number;
  readonly producerEpoch: number;
}

export interface TransactionState extends ProducerIdentity {
  readonly transactionalId: string;
  /** Before the last end or init, by which a repeated request is known again; null when there is none. */
  readonly previous: ProducerIdentity | null;
  readonly timeoutMs: number;
  readonly status: TransactionStatus;
  /** Of the open transaction. */
  readonly partitions: ReadonlySet<PartitionKey>;
  /** That have offsets waiting for its end. */
  readonly groups: ReadonlySet<string>;
  /** When the open transaction began; null without one. Milliseconds since the Unix epoch. */
  readonly startedAtMs: number | null;
  readonly updatedAtMs: number;
  /** Whether every transaction has an epoch of its own (KIP-890): all through gRPC, and Kafka's second flow. */
  readonly epochPerTransaction: boolean;
}

/** The whole state of one id; null forgets it. */
export interface TransactionRecord {
  readonly transactionalId: string;
  readonly value: TransactionState | null;
}

/** The last epoch that a producer is given; the one after it only fences. Kafka's figure. */
export const MAX_PRODUCER_EPOCH = 32_766;

/** Applies one record to the table of all ids. */
export function evolveTransactions(states: Map<string, TransactionState>, record: TransactionRecord): void {
  if (record.value === null) states.delete(record.transactionalId);
  else states.set(record.transactionalId, record.value);
}

export function sameIdentity(a: ProducerIdentity | null, b: ProducerIdentity): boolean {
  return a !== null && a.producerId === b.producerId && a.producerEpoch === b.producerEpoch;
}
