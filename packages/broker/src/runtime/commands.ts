/**
 * What a shard can be asked, and what it answers. Plain data throughout, so that a shard can live in another thread.
 *
 * A reply is the command's own, or a Refusal. Failures of the broker reject the promise with a NaruError.
 */
import type { PartitionKey } from '@naru/base';
import type { Refusal } from '@naru/protocol';
import type {
  CommittedOffset,
  GroupCommand,
  GroupDescription,
  GroupReplies,
  GroupStateName,
  GroupType,
  MemberView,
  Parked,
} from '../core/group/index.ts';
import type { EventProgress } from '../core/group/event-progress.ts';
import type {
  CancelGateWatchCommand,
  DescribeGatesCommand,
  GateDescription,
  GateNews,
  WatchGateCommand,
} from './gate-commands.ts';
import type { TopicChange } from '../core/registry/topic-registry.ts';
import type { HeldShardCommand, HeldShardReplies } from './held-commands.ts';
import type { SchemasCommand, SchemasReply } from './schema-registry.ts';
import type { QueueShardCommand, QueueShardReplies } from './queue-commands.ts';
import type { TransactionFlow } from '../core/transaction/commands.ts';
import type { AbortedTransaction, TransactionOutcome } from '../core/partition/transaction-index.ts';
import type { TransactionShardCommand, TransactionShardReply } from './transaction-commands.ts';

/** Stores one batch; answered when it is durable. The shard owns `batch` from the call on. */
export interface AppendCommand {
  readonly type: 'append';
  readonly partition: PartitionKey;
  readonly batch: Uint8Array;
  /** How a transactional batch takes part; default 2: by being written. */
  readonly flow?: TransactionFlow | undefined;
}

export interface AppendReply {
  readonly baseOffset: number;
  /** The batch was stored before, at this offset. */
  readonly duplicate: boolean;
  readonly logStartOffset: number;
}

/** Reads durable batches; waits up to `maxWaitMs` until there are `minBytes`. */
export interface FetchCommand {
  readonly type: 'fetch';
  /** Names the fetch for {@link CancelFetchCommand}; unique among those that wait. */
  readonly fetchId: number;
  readonly partitions: readonly FetchPartition[];
  readonly minBytes: number;
  /** In all; one batch is given even when it is larger. */
  readonly maxBytes: number;
  readonly maxWaitMs: number;
  /** Answers every partition, in order: those without batches too. Default false. */
  readonly everyPartition?: boolean | undefined;
  /** Default `all`. */
  readonly view?: FetchView | undefined;
  /** Fills {@link FetchedPartition.outcomes}. Default false. */
  readonly tellsOutcomes?: boolean | undefined;
}

/**
 * What of transactions is seen: `all` below the high watermark; `stable`: below the last stable offset, with what was aborted and who
 * aborted it, as Kafka's consumers want it; `committed`: below the last stable offset, without aborted batches and markers.
 */
export type FetchView = 'all' | 'stable' | 'committed';

export interface FetchPartition {
  readonly partition: PartitionKey;
  readonly offset: number;
  readonly maxBytes: number;
}

export interface FetchReply {
  /** Those that have batches, a refusal, or something that the view leaves out, in the order of the request; all when `everyPartition` asked for it. */
  readonly partitions: readonly FetchedPartition[];
}

export interface FetchedPartition {
  readonly partition: PartitionKey;
  /** Whole batches; the first may begin before the offset that was asked for. Shared: read, never write. */
  readonly batches: readonly Uint8Array[];
  /** The offset after the last batch, also of those that the view leaves out: a fetch that finds only such ones is answered. */
  readonly nextOffset: number;
  readonly highWatermark: number;
  /** Before the first open transaction. */
  readonly lastStableOffset: number;
  readonly logStartOffset: number;
  readonly refusal: Refusal | null;
  /** Of the view `stable`: transactions that were aborted and have something in the batches, by their first offset. */
  readonly aborted?: readonly AbortedTransaction[] | undefined;
  /** One for each batch, where it was asked for: what became of its transaction; null for one that is part of none. */
  readonly outcomes?: readonly (TransactionOutcome | null)[] | undefined;
}

/** Answers a waiting fetch at once, with what there is. */
export interface CancelFetchCommand {
  readonly type: 'cancel-fetch';
  readonly fetchId: number;
}

export type OffsetPosition =
  | { readonly at: 'beginning' }
  | { readonly at: 'end' }
  /** Clamped to what there is. */
  | { readonly at: 'offset'; readonly offset: number }
  /** The first record of this time or later; the end when there is none. */
  | { readonly at: 'time'; readonly timestampMs: number }
  /** A record with the largest time that there is; the end when the partition is empty. */
  | { readonly at: 'largest-time' };

export interface FindOffsetCommand {
  readonly type: 'find-offset';
  readonly partition: PartitionKey;
  readonly position: OffsetPosition;
  /** The end is the last stable offset, and no record beyond it is found by its time. Default false. */
  readonly isStable?: boolean | undefined;
}

export interface FoundOffset {
  readonly offset: number;
  /** Of the record that was found by its time; null when none was, or for other positions. */
  readonly timestampMs: number | null;
  /** Under which the record at the offset was written; the one in force at the end. Null when nothing is stored there. */
  readonly leaderEpoch: number | null;
}

/** Where a leader epoch ended, by which a reader notices that the log was cut (KIP-101, KIP-320). */
export interface EpochEndCommand {
  readonly type: 'epoch-end';
  readonly partition: PartitionKey;
  readonly leaderEpoch: number;
}

/** The largest epoch that is not above the one asked for, and the offset after its last record. */
export interface EpochEnd {
  /** Null, with the offset, when the epoch lies beyond the one in force. */
  readonly leaderEpoch: number | null;
  readonly endOffset: number | null;
}

export interface DescribePartitionsCommand {
  readonly type: 'describe-partitions';
  readonly partitions: readonly PartitionKey[];
}

export interface PartitionStatus {
  readonly partition: PartitionKey;
  readonly logStartOffset: number;
  readonly highWatermark: number;
  readonly lastStableOffset: number;
  /** After the last record that is not a transaction's marker: what there is to read ends here. */
  readonly dataEndOffset: number;
  readonly sizeBytes: number;
  /** In force: of what is written now. */
  readonly leaderEpoch: number;
}

/** Moves the log start of a partition up: for good, and for every reader. Answered when that is durable. */
export interface DeleteRecordsCommand {
  readonly type: 'delete-records';
  readonly partition: PartitionKey;
  /** The new log start offset, unless it lies below the present one; null for the high watermark. */
  readonly before: number | null;
}

export interface DeleteRecordsReply {
  readonly logStartOffset: number;
}

/** Topics came, grew or went; answered when their partitions exist, or are gone. */
export interface TopicsCommand {
  readonly type: 'topics';
  readonly changes: readonly TopicChange[];
}

export interface GroupCommandEnvelope<C extends GroupCommand = GroupCommand> {
  readonly type: 'group';
  readonly command: C;
}

/** Answered when the member's epoch or partitions differ from what it knows, or after `maxWaitMs`. */
export interface WatchMemberCommand {
  readonly type: 'watch-member';
  readonly watchId: number;
  readonly groupId: string;
  readonly memberId: string;
  readonly known: MemberView;
  readonly maxWaitMs: number;
}

export interface CancelWatchCommand {
  readonly type: 'cancel-watch';
  readonly watchId: number;
}

export interface GroupOffsetsCommand {
  readonly type: 'group-offsets';
  readonly groupId: string;
  /** Null for all that the group has. */
  readonly partitions: readonly PartitionKey[] | null;
}

export interface PartitionOffset {
  readonly partition: PartitionKey;
  /** An open transaction holds an offset for it, so that what is committed may change with its end. */
  readonly isUnstable: boolean;
  /** Null when the group has committed nothing there. */
  readonly committed: CommittedOffset | null;
}

export interface GroupListing {
  readonly groupId: string;
  readonly type: GroupType;
  /** `consumer`, or what the members of a classic group agreed on. */
  readonly protocolType: string;
  readonly state: GroupStateName;
  readonly memberCount: number;
  /** Names that its members subscribe to, sorted. */
  readonly topics: readonly string[];
}

export interface ListGroupsCommand {
  readonly type: 'list-groups';
}

export interface DescribeGroupCommand {
  readonly type: 'describe-group';
  readonly groupId: string;
}

/** What became of one event in the groups. */
export interface TraceEventCommand {
  readonly type: 'trace-event';
  readonly partition: PartitionKey;
  readonly offset: number;
  /** As protocol's keyId; null when the event is not known any more. */
  readonly keyId: string | null;
  /** Null: those that are declared for the topic, and those that have something to do with the partition. */
  readonly groups: readonly string[] | null;
}

/** The same, answered when every group has processed the event, when one has it as a dead letter, or after `maxWaitMs`. */
export interface WaitEventCommand {
  readonly type: 'wait-event';
  /** Unique among those that wait. */
  readonly waitId: number;
  readonly partition: PartitionKey;
  readonly offset: number;
  /** At least one. */
  readonly groups: readonly string[];
  readonly maxWaitMs: number;
}

/** Answers a wait at once, with what is known. */
export interface CancelEventWaitCommand {
  readonly type: 'cancel-event-wait';
  readonly waitId: number;
}

export type Command =
  | AppendCommand
  | FetchCommand
  | CancelFetchCommand
  | FindOffsetCommand
  | EpochEndCommand
  | DescribePartitionsCommand
  | TraceEventCommand
  | WaitEventCommand
  | CancelEventWaitCommand
  | DeleteRecordsCommand
  | TopicsCommand
  | GroupCommandEnvelope
  | WatchMemberCommand
  | CancelWatchCommand
  | GroupOffsetsCommand
  | WatchGateCommand
  | CancelGateWatchCommand
  | DescribeGatesCommand
  | ListGroupsCommand
  | DescribeGroupCommand
  | SchemasCommand
  | TransactionShardCommand
  | QueueShardCommand
  | HeldShardCommand;

export type ReplyOf<C extends Command> = C extends AppendCommand
  ? AppendReply
  : C extends WatchGateCommand
    ? GateNews
    : C extends DescribeGatesCommand
      ? readonly GateDescription[]
      : C extends TraceEventCommand | WaitEventCommand
        ? readonly EventProgress[]
        : C extends FetchCommand
          ? FetchReply
          : C extends FindOffsetCommand
            ? FoundOffset
            : C extends EpochEndCommand
              ? EpochEnd
              : C extends DescribePartitionsCommand
                ? readonly PartitionStatus[]
                : C extends DeleteRecordsCommand
                  ? DeleteRecordsReply
                  : C extends GroupCommandEnvelope<infer G>
                    ? Exclude<GroupReplies[G['type']], Parked>
                    : C extends WatchMemberCommand
                      ? MemberView
                      : C extends GroupOffsetsCommand
                        ? readonly PartitionOffset[]
                        : C extends ListGroupsCommand
                          ? readonly GroupListing[]
                          : C extends DescribeGroupCommand
                            ? GroupDescription
                            : C extends HeldShardCommand
                              ? HeldShardReplies[C['type']]
                              : C extends QueueShardCommand
                                ? QueueShardReplies[C['type']]
                                : C extends SchemasCommand<infer T>
                                  ? SchemasReply<T>
                                  : C extends TransactionShardCommand
                                    ? TransactionShardReply<C>
                                    : null;

/**
 * Taken although the queue is full: changes of topics, which would be lost for good, and what ends a wait. Their number
 * is bounded by what they follow.
 */
export const UNREFUSED: ReadonlySet<Command['type']> = new Set([
  'topics',
  'cancel-fetch',
  'cancel-watch',
  'cancel-event-wait',
  'cancel-gate-watch',
  'cancel-held-watch',
  'cancel-acquire',
]);

/** Whether a reply says no. */
export function isRefusal(reply: unknown): reply is Refusal {
  return typeof reply === 'object' && reply !== null && 'code' in reply && 'message' in reply;
}

/** The only way into a shard. */
export interface ShardClient {
  /** Rejects with OVERLOADED when the queue is full, STORAGE_ERROR and SHUTTING_DOWN when the shard serves no more. */
  submit<C extends Command>(command: C): Promise<ReplyOf<C> | Refusal>;
}
