/**
 * What can be asked of a group, and what it answers. Types, and the limits that they are checked against.
 *
 * A command is decided by {@link decideGroup} (index.ts) into records, a reply and timers. A refusal is a reply, without records.
 */
import type { PartitionKey, TopicId } from '@naru/base';
import type { Refusal } from '@naru/protocol';
import type { RecordInput } from '@naru/protocol/batch';
import type { DeadLetterPlace, DeadLetterQuery, ListedDeadLetter } from './dead-letters.ts';
import type { EventCopy } from '../held/held-copy.ts';
import type { QueueCommand, QueueReplies } from '../queue/queue-commands.ts';
import type { TopicConfig } from '../registry/topic-config.ts';
import type { ClassicRound } from './classic-round.ts';
import type { GroupRecord, OffsetRange } from './group-state.ts';
import type { KafkaGroupCommand, KafkaGroupReplies, ParkedAnswer } from './kafka-commands.ts';

/** Joins anew (`memberEpoch` 0), or goes on after a broken connection (the last epoch that the member knows). */
export interface JoinCommand {
  readonly type: 'join';
  readonly groupId: string;
  /** A UUID that the member chose for itself (KIP-1082). */
  readonly memberId: string;
  readonly memberEpoch: number;
  readonly instanceId: string | null;
  /** Names. They may not exist yet. */
  readonly topics: readonly string[];
  readonly clientId: string;
  readonly clientHost: string;
  /** 0 for the default of {@link GroupLimits}. */
  readonly sessionTimeoutMs: number;
  /** 0 for the default. Time in which the member must release what is revoked. */
  readonly rebalanceTimeoutMs: number;
  /** 0 for the default; null: not watched. */
  readonly maxPollIntervalMs: number | null;
  /** What a member that goes on really holds; what it was to release and does not hold is released. Null: unchanged. */
  readonly owned: readonly PartitionKey[] | null;
}

export interface HeartbeatCommand {
  readonly type: 'heartbeat';
  readonly groupId: string;
  readonly memberId: string;
  readonly memberEpoch: number;
  /**
   * Everything that the member really holds: what it was to release and is not in here is released. Null: unchanged.
   * A member that is told of its assignment by push should give `released` instead, since a push and this may cross.
   */
  readonly owned: readonly PartitionKey[] | null;
  /** Partitions that the member has stopped handling. Those that it was not asked to release are ignored. */
  readonly released?: readonly PartitionKey[] | undefined;
  /** The whole new subscription, when it changed. */
  readonly topics?: readonly string[] | undefined;
}

export interface LeaveCommand {
  readonly type: 'leave';
  readonly groupId: string;
  readonly memberId: string;
  /** −1 leaves; −2 is a static member that will be back and keeps its partitions until its session ends. */
  readonly memberEpoch: -1 | -2;
}

/** A timer of {@link TimerChange} has fired. */
export interface TimerCommand {
  readonly type: 'timer';
  readonly groupId: string;
  readonly key: string;
}

/** A sign of life: it only sets timers. */
export interface TouchCommand {
  readonly type: 'touch';
  readonly groupId: string;
  readonly memberId: string;
  readonly memberEpoch: number;
  /** `alive`: the connection works. `progress`: the member polled, so its handlers do too. */
  readonly kind: 'alive' | 'progress';
}

/** The member's connection broke: its session ends after `graceMs` unless it comes back. */
export interface DisconnectedCommand {
  readonly type: 'disconnected';
  readonly groupId: string;
  readonly memberId: string;
  readonly graceMs: number;
}

/** Topics were created, deleted or got more partitions. Sent to every group that may care; it finds out itself. */
export interface TopicsChangedCommand {
  readonly type: 'topics-changed';
  readonly groupId: string;
}

export interface OffsetCommit {
  readonly partition: PartitionKey;
  /** Everything below is finished. */
  readonly offset: number;
  /** Finished beyond it; replaces what is stored. Null: keep what is stored, unless `offset` goes back. */
  readonly finished: readonly OffsetRange[] | null;
  readonly metadata: string;
  /** −1 when not known. */
  readonly leaderEpoch: number;
  /** The partition's end offset now; null when there is no such partition. */
  readonly endOffset: number | null;
  /** Whether `offset` may lie beyond the end, as Kafka's clients expect it. Default: no. */
  readonly mayExceedEnd?: boolean | undefined;
  /** A lower offset than the stored one leaves that as it is, and its metadata. Default: it goes back. */
  readonly onlyForward?: boolean | undefined;
  readonly outcomes?: readonly EventOutcome[] | undefined;
  /** Where the member began to read, of a group that had committed nothing there: what lies before was nobody's. Default 0. */
  readonly beganAt?: number | undefined;
}

export type { EventCopy };

/** What became of one event, where it is more than that all went well: EventOutcome of proto/naru/v1/subscriber.proto. */
export interface EventOutcome {
  readonly offset: number;
  readonly kind: 'processed' | 'skipped' | 'dead-lettered' | 'held' | 'failed';
  readonly attempts: number;
  readonly durationMs: number;
  readonly note: string;
  readonly reason: string;
  readonly error: string;
  readonly firstFailureMs: number;
  readonly lastFailureMs: number;
  /** 0: at once. */
  readonly nextAttemptMs: number;
  /** Empty for none. */
  readonly idempotencyId: string;
  /**
   * The whole event, of what is dead-lettered or held and was not held before: a record for the log of held events. The service
   * puts it here, since reading a log takes time and deciding must not. Null: it is stored no more, and cannot be kept.
   */
  readonly copy?: EventCopy | null | undefined;
}

export interface CommitCommand {
  readonly type: 'commit';
  readonly groupId: string;
  /** Empty for a commit by somebody who is not a member, which a group takes while it has none. */
  readonly memberId: string;
  /** Of a classic member: its generation. */
  readonly memberEpoch: number;
  /** Of a Kafka member that is static; checked when it is given. */
  readonly instanceId?: string | null | undefined;
  readonly offsets: readonly OffsetCommit[];
}

/**
 * Keeps offsets for the end of a transaction. Checked as a commit is, but that a producer which names no member is taken also while
 * the group has some. The coordinator of transactions knows that the transaction is open.
 */
export interface CommitInTransactionGroupCommand extends Omit<CommitCommand, 'type'> {
  readonly type: 'commit-in-transaction';
  readonly producerId: number;
  readonly producerEpoch: number;
}

/** The transaction of the producer is over: what the group keeps for it is committed, or forgotten. */
export interface EndTransactionGroupCommand {
  readonly type: 'end-transaction';
  readonly groupId: string;
  readonly producerId: number;
  readonly commit: boolean;
}

/** Claims events by their own ids, for idempotent handling. */
export interface ClaimCommand {
  readonly type: 'claim';
  readonly groupId: string;
  readonly memberId: string;
  readonly memberEpoch: number;
  /** Hashed: 16 characters of a byte each. */
  readonly ids: readonly string[];
  /** 0 for 5 minutes. */
  readonly leaseMs: number;
}

export interface ClaimResult {
  /** `done`: it was processed. `busy`: somebody else is at it. */
  readonly state: 'claimed' | 'done' | 'busy';
  /** When the lease ends; 0 when it is done. */
  readonly untilMs: number;
}

export interface ClaimReply {
  /** In the order of the ids. */
  readonly results: readonly ClaimResult[];
  /** Done ids that had to go before their time. */
  readonly forgotten: number;
}

export interface ResetOffsetsCommand {
  readonly type: 'reset-offsets';
  readonly groupId: string;
  /** Null deletes the committed offset. */
  readonly offsets: readonly { readonly partition: PartitionKey; readonly offset: number | null }[];
}

export interface DeleteGroupCommand {
  readonly type: 'delete-group';
  readonly groupId: string;
}

export interface DeleteOffsetsOfTopicCommand {
  readonly type: 'delete-offsets-of-topic';
  readonly groupId: string;
  readonly topicId: TopicId;
}

/** Gives dead letters to the group again. */
export interface RedriveCommand extends DeadLetterQuery {
  readonly type: 'redrive';
  readonly groupId: string;
  /** Only what was dead-lettered until then. Default: now. */
  readonly untilMs?: number | undefined;
  /** Only says what it would do. */
  readonly dryRun: boolean;
}

/** Forgets dead letters for good. */
export interface PurgeDeadLettersCommand extends Omit<RedriveCommand, 'type'> {
  readonly type: 'purge-dead-letters';
}

export type GroupCommand =
  | JoinCommand
  | HeartbeatCommand
  | LeaveCommand
  | TimerCommand
  | TouchCommand
  | DisconnectedCommand
  | TopicsChangedCommand
  | CommitCommand
  | CommitInTransactionGroupCommand
  | EndTransactionGroupCommand
  | ClaimCommand
  | ResetOffsetsCommand
  | DeleteGroupCommand
  | DeleteOffsetsOfTopicCommand
  | RedriveCommand
  | PurgeDeadLettersCommand
  | QueueCommand
  | KafkaGroupCommand;

/** What a member may hold, in partition order. */
export interface MemberView {
  readonly memberEpoch: number;
  /** May be read. */
  readonly assigned: readonly PartitionKey[];
  /** Must be given up: finish, commit, release. */
  readonly revoking: readonly PartitionKey[];
}

export interface JoinReply extends MemberView {
  readonly sessionTimeoutMs: number;
  /** Suggested: send something at least this often. */
  readonly heartbeatIntervalMs: number;
  /** The static member whose place was taken, when it had another member id. */
  readonly replacedMemberId: string | null;
}

export type RemovalReason = 'session-timeout' | 'rebalance-timeout' | 'max-poll-interval';

export interface TimerReply {
  /** The member that the timer removed; null when it came too late to matter. */
  readonly removed: { readonly memberId: string; readonly reason: RemovalReason; readonly refusal: Refusal } | null;
}

export interface CommitReply {
  /** One for each offset of the command, in its order. */
  readonly results: readonly PartitionResult[];
}

export interface PartitionResult {
  readonly partition: PartitionKey;
  readonly refusal: Refusal | null;
  /** Keys that outcomes of the commit have blocked. */
  readonly blocked?: readonly string[] | undefined;
}

export interface DeadLettersReply {
  /** What was done, as it was before. */
  readonly letters: readonly ListedDeadLetter[];
  /** Null when that was all. */
  readonly next: DeadLetterPlace | null;
  /** Of those that the filter names one by one. */
  readonly missing: readonly { readonly place: DeadLetterPlace; readonly refusal: Refusal }[];
}

export interface TopicsChangedReply {
  readonly changed: boolean;
}

/** Nothing to say but that it was done. */
export interface DoneReply {
  readonly done: true;
}

export interface GroupReplies extends KafkaGroupReplies, QueueReplies {
  join: JoinReply;
  heartbeat: MemberView;
  leave: DoneReply;
  timer: TimerReply;
  touch: DoneReply;
  disconnected: DoneReply;
  'topics-changed': TopicsChangedReply;
  commit: CommitReply;
  'commit-in-transaction': CommitReply;
  /** Of what was committed. */
  'end-transaction': CommitReply;
  claim: ClaimReply;
  'reset-offsets': DoneReply;
  'delete-group': DoneReply;
  'delete-offsets-of-topic': DoneReply;
  redrive: DeadLettersReply;
  'purge-dead-letters': DeadLettersReply;
}

/**
 * Sets the timer called `key` of this group to fire after `delayMs`, in place of the one set before; null cancels it.
 * Keys: `session/<member id>`, `revoke/<member id>`, `poll/<member id>`; `barrier/` and `sync/` of a classic group.
 *
 * A timer that was set anew or cancelled must not fire any more, even when its command is already in a queue.
 */
export interface TimerChange {
  readonly key: string;
  readonly delayMs: number | null;
}

export interface GroupDecision<Reply> {
  /** To be given to {@link evolveGroup} in this order, at once, and to the journal. */
  readonly records: readonly GroupRecord[];
  readonly reply: Reply | Refusal;
  readonly timers: readonly TimerChange[];
  /** Soft state of a group whose members assign, from now on; undefined: as before. */
  readonly round?: ClassicRound | null | undefined;
  /** Requests that waited and are answered now. A key that nobody waits under is passed over. */
  readonly answers?: readonly ParkedAnswer[] | undefined;
  /**
   * In this order, before `records`, so that records may name their offsets (see {@link GroupContext.ownLogEnd}), but for those that
   * are to go after them.
   */
  readonly appends?: readonly OwnLogAppend[] | undefined;
}

/** The broker's own logs beside the group log. A group has one partition of each. */
export type OwnLog = 'held' | 'ledger';

export interface OwnLogAppend {
  readonly log: OwnLog;
  /** At least one. */
  readonly records: readonly RecordInput[];
  /** Appended after the decision's records instead: nothing names these, and they say what is true only with the records. */
  readonly isAfter?: boolean | undefined;
}

export type DecisionFor<C extends GroupCommand> = GroupDecision<GroupReplies[C['type']]>;

export interface TopicShape {
  readonly topicId: TopicId;
  readonly partitionCount: number;
  /** Its partitions are nobody's: any member takes single records (core/queue). Default: no. */
  readonly isParallel?: boolean | undefined;
}

/** What a group must know of the world to decide. */
export interface GroupContext {
  /** By name; undefined when there is no such topic. */
  topics(name: string): TopicShape | undefined;
  topicName(topicId: TopicId): string | undefined;
  /** Those that a pattern may match. Default: none. */
  topicNames?(): Iterable<string>;
  /** Whether the group needs events withheld, which Kafka's protocol cannot do: it has no group in a fetch. Default: no. */
  refusesKafkaMembers?(groupId: string): boolean;
  /** The offset that the next record of the group's partition of that log will get. */
  ownLogEnd?(log: OwnLog, groupId: string): number;
  /** Undefined when there is no such topic. */
  topicConfig?(topicId: TopicId): TopicConfig | undefined;
  /** How long the ledger keeps records; null when it is not used. Default: not used. */
  ledger?(): { readonly keepMs: number } | null;
  readonly limits: GroupLimits;
}

export interface GroupLimits {
  readonly maxMembers: number;
  /** Of one subscription. */
  readonly maxTopics: number;
  /** UTF-16 units of a member, instance or client id. */
  readonly maxIdLength: number;
  /** Of one committed offset. */
  readonly maxFinishedRanges: number;
  readonly maxMetadataBytes: number;
  /** Of one commit or reset. */
  readonly maxOffsetsPerCommand: number;
  /** Of what is kept for the end of one transaction. */
  readonly maxPendingBytes: number;
  readonly minSessionTimeoutMs: number;
  readonly maxSessionTimeoutMs: number;
  readonly defaultSessionTimeoutMs: number;
  readonly maxRebalanceTimeoutMs: number;
  readonly defaultRebalanceTimeoutMs: number;
  readonly maxPollIntervalMs: number;
  readonly defaultMaxPollIntervalMs: number;
  /** Upper bound of the suggestion to members; a third of the session time-out when that is less. */
  readonly heartbeatIntervalMs: number;
  /** How long the first generation of a classic group waits for more members; again while some come. */
  readonly initialRebalanceDelayMs: number;
  /** Of a classic member: all that it says about itself, and its assignment. */
  readonly maxClassicBytes: number;
  /** Of one claim. */
  readonly maxIdsPerClaim: number;
  /** Events of a group that are claimed and not done. */
  readonly maxActiveClaims: number;
  /** Ids of a group that are known to be done; the oldest go early beyond it. */
  readonly maxDoneIds: number;
  /** How long an id is known to be done. */
  readonly idempotencyWindowMs: number;
  /** Of one partition of a commit. */
  readonly maxOutcomes: number;
  /** Of a group. */
  readonly maxHeldEvents: number;
  /** Of the copies of a group's held events. */
  readonly maxHeldBytes: number;
}

export const DEFAULT_GROUP_LIMITS: GroupLimits = {
  maxMembers: 1_000,
  maxTopics: 1_000,
  maxIdLength: 249,
  maxFinishedRanges: 1_000,
  maxMetadataBytes: 4_096,
  maxOffsetsPerCommand: 10_000,
  maxPendingBytes: 1024 * 1024,
  minSessionTimeoutMs: 1_000,
  maxSessionTimeoutMs: 30 * 60_000,
  defaultSessionTimeoutMs: 45_000,
  maxRebalanceTimeoutMs: 30 * 60_000,
  defaultRebalanceTimeoutMs: 5 * 60_000,
  maxPollIntervalMs: 24 * 3_600_000,
  defaultMaxPollIntervalMs: 5 * 60_000,
  heartbeatIntervalMs: 5_000,
  initialRebalanceDelayMs: 250,
  maxClassicBytes: 1024 * 1024,
  maxIdsPerClaim: 1_000,
  maxActiveClaims: 100_000,
  maxDoneIds: 1_000_000,
  idempotencyWindowMs: 24 * 3_600_000,
  maxOutcomes: 1_000,
  maxHeldEvents: 100_000,
  maxHeldBytes: 1024 * 1024 * 1024,
};
