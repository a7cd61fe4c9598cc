/**
 * What Kafka members ask of a group, and what it answers: KIP-848 (ConsumerGroupHeartbeat) and the classic protocol
 * (JoinGroup, SyncGroup, Heartbeat, LeaveGroup). Types only.
 *
 * Plain data: the door reads and writes what the messages carry inside (the consumer protocol), and brings the ids that
 * are to be given out, since nothing here is random.
 */
import type { PartitionKey } from '@naru/base';
import type { Refusal } from '@naru/protocol';
import type { ClassicProtocol } from './group-state.ts';

/** ConsumerGroupHeartbeat (API 68): joins, goes on, and leaves. Null stands for what the request leaves unchanged. */
export interface KafkaHeartbeatCommand {
  readonly type: 'kafka-heartbeat';
  readonly groupId: string;
  /** Empty at a join of version 0, in which case the member gets `newMemberId`. */
  readonly memberId: string;
  readonly newMemberId: string;
  /** 0 joins, −1 leaves, −2 is a static member that will be back. */
  readonly memberEpoch: number;
  readonly instanceId: string | null;
  readonly rebalanceTimeoutMs: number | null;
  readonly topics: readonly string[] | null;
  /** Empty: none any more. */
  readonly topicPattern: string | null;
  readonly serverAssignor: string | null;
  /** Everything that the member really holds. */
  readonly owned: readonly PartitionKey[] | null;
  readonly clientId: string;
  readonly clientHost: string;
}

export interface KafkaHeartbeatReply {
  readonly memberId: string;
  /** As in the command for one that left. */
  readonly memberEpoch: number;
  readonly heartbeatIntervalMs: number;
  /** All that the member may hold; null: as it was told last. */
  readonly assigned: readonly PartitionKey[] | null;
}

/** What a member says with protocol type `consumer`, decoded from its first protocol's metadata. */
export interface ClassicSubscription {
  readonly topics: readonly string[];
  /** Empty for a version that does not say, and for partitions of topics that are gone. */
  readonly owned: readonly PartitionKey[];
}

/** JoinGroup (API 11). */
export interface ClassicJoinCommand {
  readonly type: 'classic-join';
  readonly groupId: string;
  /** Empty for a member that has no id yet. */
  readonly memberId: string;
  /** The id of a member that has none. */
  readonly newMemberId: string;
  /** Versions ≥ 4: a dynamic member is told its id and joins again with it (KIP-394). */
  readonly requiresMemberId: boolean;
  /** Versions ≥ 9 (KIP-814). */
  readonly canSkipAssignment: boolean;
  readonly instanceId: string | null;
  readonly protocolType: string;
  /** The preferred one first. */
  readonly protocols: readonly ClassicProtocol[];
  /** Null when the protocol type is another, or the metadata could not be read. */
  readonly subscription: ClassicSubscription | null;
  readonly sessionTimeoutMs: number;
  /** Version 0 has none: the session time-out. */
  readonly rebalanceTimeoutMs: number;
  readonly clientId: string;
  readonly clientHost: string;
}

export type ClassicJoinReply =
  /** MEMBER_ID_REQUIRED: to be repeated with this id. */
  | { readonly outcome: 'member-id-required'; readonly memberId: string }
  | {
      readonly outcome: 'joined';
      readonly memberId: string;
      readonly generation: number;
      readonly protocolType: string;
      readonly protocolName: string;
      /** Empty when the broker assigns. */
      readonly leaderId: string;
      /** For the leader: everybody, with the metadata of the chosen protocol. Else empty. */
      readonly members: readonly ClassicMemberMetadata[];
      readonly skipAssignment: boolean;
    };

export interface ClassicMemberMetadata {
  readonly memberId: string;
  readonly instanceId: string | null;
  readonly metadata: Uint8Array;
}

/** SyncGroup (API 14). */
export interface ClassicSyncCommand {
  readonly type: 'classic-sync';
  readonly groupId: string;
  readonly memberId: string;
  readonly instanceId: string | null;
  readonly generation: number;
  /** Versions ≥ 5, else null. */
  readonly protocolType: string | null;
  readonly protocolName: string | null;
  /** The leader's; else empty. */
  readonly assignments: readonly ClassicAssignment[];
}

export interface ClassicAssignment {
  readonly memberId: string;
  readonly assignment: Uint8Array;
  /** What it says, with protocol type `consumer`; null when it could not be read. Topics that are gone are left out. */
  readonly partitions: readonly PartitionKey[] | null;
}

export interface ClassicSyncReply {
  readonly protocolType: string;
  readonly protocolName: string;
  /** What the leader gave; or what the broker gives, which the door is to write as a consumer's assignment. */
  readonly assignment:
    | { readonly by: 'leader'; readonly bytes: Uint8Array }
    | {
        readonly by: 'broker';
        readonly partitions: readonly PartitionKey[];
        /** The member's own, whose version the assignment is to have. */
        readonly metadata: Uint8Array;
      };
}

/** Heartbeat (API 12). */
export interface ClassicHeartbeatCommand {
  readonly type: 'classic-heartbeat';
  readonly groupId: string;
  readonly memberId: string;
  readonly instanceId: string | null;
  readonly generation: number;
}

export interface ClassicHeartbeatReply {
  /** REBALANCE_IN_PROGRESS: the member is to join again. */
  readonly mustJoin: boolean;
}

/** LeaveGroup (API 13). */
export interface ClassicLeaveCommand {
  readonly type: 'classic-leave';
  readonly groupId: string;
  /** An empty member id with an instance id removes whoever has that. */
  readonly members: readonly { readonly memberId: string; readonly instanceId: string | null }[];
}

export interface ClassicLeaveReply {
  /** In the order of the command. */
  readonly results: readonly {
    readonly memberId: string;
    readonly instanceId: string | null;
    readonly refusal: Refusal | null;
  }[];
}

/** OffsetDelete (API 47): in a group with members too, of topics that none of them subscribes to. */
export interface DeleteOffsetsCommand {
  readonly type: 'delete-offsets';
  readonly groupId: string;
  readonly partitions: readonly PartitionKey[];
}

export interface DeleteOffsetsReply {
  /** Partitions whose offsets stay, since a member subscribes to their topic. */
  readonly subscribed: readonly PartitionKey[];
}

/** The answer comes later, in the `answers` of another decision, under this key. */
export interface Parked {
  readonly parked: string;
}

export interface ParkedAnswer {
  readonly key: string;
  readonly reply: ClassicJoinReply | ClassicSyncReply | Refusal;
}

export type KafkaGroupCommand =
  | KafkaHeartbeatCommand
  | ClassicJoinCommand
  | ClassicSyncCommand
  | ClassicHeartbeatCommand
  | ClassicLeaveCommand
  | DeleteOffsetsCommand;

export interface KafkaGroupReplies {
  'kafka-heartbeat': KafkaHeartbeatReply;
  'classic-join': ClassicJoinReply | Parked;
  'classic-sync': ClassicSyncReply | Parked;
  'classic-heartbeat': ClassicHeartbeatReply;
  'classic-leave': ClassicLeaveReply;
  'delete-offsets': DeleteOffsetsReply;
}
