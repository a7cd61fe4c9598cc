/**
 * What can be asked of a group, and what it answers. Types, and the limits that they are checked against.
 *
 * A command is decided by {@link decideGroup} (index.ts) into records, a reply and timers. A refusal is a reply, without records.
 */
import type { PartitionKey, TopicId } from '@naru/base';
import type { Refusal } from '@naru/protocol';
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

export type GroupCommand =
  | JoinCommand
  | HeartbeatCommand
  | LeaveCommand
  | TimerCommand
  | TouchCommand
  | DisconnectedCommand
  | TopicsChangedCommand
  | CommitCommand
  | ResetOffsetsCommand
  | DeleteGroupCommand
  | DeleteOffsetsOfTopicCommand
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
  readonly results: readonly { readonly partition: PartitionKey; readonly refusal: Refusal | null }[];
}

export interface TopicsChangedReply {
  readonly changed: boolean;
}

/** Nothing to say but that it was done. */
export interface DoneReply {
  readonly done: true;
}

export interface GroupReplies extends KafkaGroupReplies {
  join: JoinReply;
  heartbeat: MemberView;
  leave: DoneReply;
  timer: TimerReply;
  touch: DoneReply;
  disconnected: DoneReply;
  'topics-changed': TopicsChangedReply;
  commit: CommitReply;
  'reset-offsets': DoneReply;
  'delete-group': DoneReply;
  'delete-offsets-of-topic': DoneReply;
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
}

export type DecisionFor<C extends GroupCommand> = GroupDecision<GroupReplies[C['type']]>;

export interface TopicShape {
  readonly topicId: TopicId;
  readonly partitionCount: number;
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
}

export const DEFAULT_GROUP_LIMITS: GroupLimits = {
  maxMembers: 1_000,
  maxTopics: 1_000,
  maxIdLength: 249,
  maxFinishedRanges: 1_000,
  maxMetadataBytes: 4_096,
  maxOffsetsPerCommand: 10_000,
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
};
