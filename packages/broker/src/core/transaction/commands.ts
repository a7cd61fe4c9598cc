/**
 * What can be asked of the transactions, and what is answered. Types, and the limits that they are checked against.
 *
 * `flow` says how the client speaks: 1 is Kafka's first transaction flow, where partitions and groups are added before they are
 * written to and the epoch stays the same; 2 is KIP-890's, where writing adds them and every end gives a new epoch.
 */
import type { PartitionKey } from '@naru/base';
import type { Refusal } from '@naru/protocol';
import type { ProducerIdentity, TransactionRecord, TransactionStatus } from './transaction-state.ts';

export type TransactionFlow = 1 | 2;

/** Names the transaction: with flow 2 the epoch is this transaction's alone. */
export interface TransactionRef extends ProducerIdentity {
  readonly transactionalId: string;
}

/** Gives the id a new epoch; aborts what is open. */
export interface InitTransactionsCommand {
  readonly type: 'init';
  readonly transactionalId: string;
  /** Milliseconds; 0 for the default. */
  readonly timeoutMs: number;
  /** Of a producer that goes on after an error (KIP-360): refused with PRODUCER_FENCED unless it is the one in force. */
  readonly expected: ProducerIdentity | null;
  /** A producer id that nobody has, for an id that is new or whose epochs are used up. */
  readonly freshProducerId: number;
}

/** The first flow announces partitions before it writes to them. Nothing is added when one of them does not exist. */
export interface AddPartitionsCommand extends TransactionRef {
  readonly type: 'add-partitions';
  readonly partitions: readonly PartitionKey[];
}

/** The first flow announces the group before its offsets. */
export interface AddGroupCommand extends TransactionRef {
  readonly type: 'add-group';
  readonly groupId: string;
}

/** A batch is about to be stored: whether it may, and with flow 2 that the partition takes part. */
export interface AdmitCommand extends ProducerIdentity {
  readonly type: 'admit';
  readonly transactionalId: string;
  readonly partition: PartitionKey;
  readonly flow: TransactionFlow;
}

/** Offsets are about to be kept for the end: whether they may, and with flow 2 that the group takes part. */
export interface AdmitGroupCommand extends TransactionRef {
  readonly type: 'admit-group';
  readonly groupId: string;
  readonly flow: TransactionFlow;
}

export interface EndTransactionCommand extends TransactionRef {
  readonly type: 'end';
  readonly commit: boolean;
  readonly flow: TransactionFlow;
  /** As with `init`. */
  readonly freshProducerId: number;
}

/**
 * The open transaction is over: its time is up, or somebody says so. Fences its producer, who must init again: where its epochs are
 * used up it gets another producer id then.
 */
export interface AbortTransactionCommand {
  readonly type: 'abort';
  readonly transactionalId: string;
  readonly reason: 'timed-out' | 'asked';
}

/** Forgets an id that was not used for {@link TransactionLimits.idExpiryMs}. */
export interface ExpireTransactionCommand {
  readonly type: 'expire';
  readonly transactionalId: string;
}

export type TransactionCommand =
  | InitTransactionsCommand
  | AddPartitionsCommand
  | AddGroupCommand
  | AdmitCommand
  | AdmitGroupCommand
  | EndTransactionCommand
  | AbortTransactionCommand
  | ExpireTransactionCommand;

export interface TransactionReplies {
  init: ProducerIdentity;
  'add-partitions': null;
  'add-group': null;
  admit: null;
  'admit-group': null;
  /** For the next transaction. */
  end: ProducerIdentity;
  abort: { readonly aborted: boolean };
  expire: null;
}

/** What an end means for partitions and groups; in one atomic append with the records. */
export interface TransactionEnd {
  readonly commit: boolean;
  readonly producerId: number;
  /** Of the markers: batches of a lower epoch are refused after them. */
  readonly markerEpoch: number;
  readonly partitions: readonly PartitionKey[];
  readonly groups: readonly string[];
}

export interface TransactionDecision<Reply> {
  readonly records: readonly TransactionRecord[];
  readonly end?: TransactionEnd | undefined;
  readonly reply: Reply | Refusal;
  /** The time-out of the open transaction is set anew, or ended (null). Absent: unchanged. Milliseconds. */
  readonly timeoutMs?: number | null | undefined;
  /**
   * The records say no more than the partition that is about to be written to: they are applied and not stored, and are found
   * again by what is open in partitions. So a transaction over many partitions has one record for its beginning. Default: no.
   */
  readonly isImplied?: boolean | undefined;
}

export interface TransactionContext {
  /** Whether the partition exists and may be written to by clients. */
  readonly partitionExists: (partition: PartitionKey) => boolean;
  /** How many ids there are. */
  readonly idCount: number;
  readonly limits: TransactionLimits;
}

export interface TransactionLimits {
  readonly defaultTimeoutMs: number;
  readonly maxTimeoutMs: number;
  /** Of one transaction: its end is one append. */
  readonly maxPartitions: number;
  readonly maxGroups: number;
  readonly maxIds: number;
  readonly idExpiryMs: number;
}

/** Kafka's figures where it has them. */
export const DEFAULT_TRANSACTION_LIMITS: TransactionLimits = {
  defaultTimeoutMs: 60_000,
  maxTimeoutMs: 15 * 60_000,
  maxPartitions: 10_000,
  maxGroups: 100,
  maxIds: 100_000,
  idExpiryMs: 7 * 86_400_000,
};

export interface TransactionListing extends ProducerIdentity {
  readonly transactionalId: string;
  readonly status: TransactionStatus;
  readonly timeoutMs: number;
  readonly startedAtMs: number | null;
  readonly updatedAtMs: number;
  readonly partitionCount: number;
}
