/** What a shard is asked about transactions, and what it answers. */
import type { PartitionKey } from '@naru/base';
import type { CommitCommand, OffsetCommit, PartitionResult } from '../core/group/index.ts';
import type {
  AbortTransactionCommand,
  AddGroupCommand,
  AddPartitionsCommand,
  ExpireTransactionCommand,
  InitTransactionsCommand,
  TransactionFlow,
  TransactionListing,
  TransactionRef,
  TransactionReplies,
} from '../core/transaction/commands.ts';
import type { ProducerIdentity } from '../core/transaction/transaction-state.ts';

type Decided =
  | InitTransactionsCommand
  | AddPartitionsCommand
  | AddGroupCommand
  | AbortTransactionCommand
  | ExpireTransactionCommand;

/** Decided by core/transaction alone. */
export interface TransactionEnvelope<C extends Decided = Decided> {
  readonly type: 'transaction';
  readonly command: C;
}

/** Keeps offsets for the transaction's end: Kafka's TxnOffsetCommit. Fenced by the member, if one is named, as a commit is. */
export interface CommitInTransactionCommand {
  readonly type: 'commit-in-transaction';
  readonly transaction: TransactionRef;
  readonly flow: TransactionFlow;
  readonly groupId: string;
  /** Empty for a producer that does not say. */
  readonly memberId: string;
  readonly memberEpoch: number;
  readonly instanceId: string | null;
  readonly offsets: readonly OffsetCommit[];
}

/**
 * Ends the transaction, and with it makes a member's commit, with outcomes and all: both or neither. If one partition of the
 * commit is refused the transaction stays open.
 */
export interface EndTransactionShardCommand {
  readonly type: 'end-transaction';
  readonly transaction: TransactionRef;
  readonly flow: TransactionFlow;
  readonly commit: boolean;
  readonly freshProducerId: number;
  readonly groupCommit: CommitCommand | null;
  /** What must be stored of the transaction before it is committed; default: that is not looked at. */
  readonly expected?: readonly ExpectedSequence[] | undefined;
}

export interface ExpectedSequence {
  readonly partition: PartitionKey;
  /** After the transaction's last record there. */
  readonly nextSequence: number;
}

export interface EndTransactionReply {
  /** Of the next transaction; null when it was not ended, for a partition's sake. */
  readonly next: ProducerIdentity | null;
  /** One for each partition of the commit. */
  readonly results: readonly PartitionResult[];
  /** It was ended before, by the same request: nothing was done now. Default: no. */
  readonly isRepeated?: true | undefined;
}

export interface ListTransactionsCommand {
  readonly type: 'list-transactions';
}

export interface DescribeTransactionCommand {
  readonly type: 'describe-transaction';
  readonly transactionalId: string;
}

export interface TransactionDescription extends TransactionListing {
  readonly partitions: readonly {
    readonly partition: PartitionKey;
    /** Null: nothing was written there yet. */
    readonly firstOffset: number | null;
  }[];
  readonly groups: readonly string[];
}

/** Who writes to partitions: Kafka's DescribeProducers. Partitions that do not exist are left out. */
export interface DescribeProducersCommand {
  readonly type: 'describe-producers';
  readonly partitions: readonly PartitionKey[];
}

export interface PartitionProducers {
  readonly partition: PartitionKey;
  readonly producers: readonly PartitionProducer[];
}

export interface PartitionProducer extends ProducerIdentity {
  /** −1 when it wrote nothing in this epoch. */
  readonly lastSequence: number;
  readonly lastTimestampMs: number;
  /** Of its open transaction; null without one. */
  readonly transactionStartOffset: number | null;
  /** The next sequence that is expected of the epoch. */
  readonly nextSequence: number;
}

export type TransactionShardCommand =
  | TransactionEnvelope
  | CommitInTransactionCommand
  | EndTransactionShardCommand
  | ListTransactionsCommand
  | DescribeTransactionCommand
  | DescribeProducersCommand;

export type TransactionShardReply<C extends TransactionShardCommand> =
  C extends TransactionEnvelope<infer T>
    ? TransactionReplies[T['type']]
    : C extends CommitInTransactionCommand
      ? { readonly results: readonly PartitionResult[] }
      : C extends EndTransactionShardCommand
        ? EndTransactionReply
        : C extends ListTransactionsCommand
          ? readonly TransactionListing[]
          : C extends DescribeTransactionCommand
            ? TransactionDescription
            : readonly PartitionProducers[];
