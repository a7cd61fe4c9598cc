/** What a shard can be asked about held events. Types; held-reads.ts answers them. */
import type { PartitionKey } from '@naru/base';
import type { DeadLetterFilter, DeadLetterPage, DeadLetterPlace, OwnLog } from '../core/group/index.ts';
import type { Deliverable } from '../core/held/index.ts';

/** Which state of a partition's blocked keys was told. */
export interface HeldVersion {
  readonly generation: number;
  readonly version: number;
}

export interface WatchedPartition {
  readonly partition: PartitionKey;
  /** Null: nothing was told yet. */
  readonly known: HeldVersion | null;
  /** Offsets that the member has: neither they nor others of their keys are told of. */
  readonly given: readonly number[];
}

/** Answered when keys were blocked or unblocked, when events may be given, or with nothing after `maxWaitMs`. */
export interface WatchHeldCommand {
  readonly type: 'watch-held';
  /** Unique among those that wait. */
  readonly watchId: number;
  readonly groupId: string;
  readonly partitions: readonly WatchedPartition[];
  /** In all. */
  readonly maxEvents: number;
  /** Of copies, in all. */
  readonly maxBytes: number;
  /** One event is told of even when it is larger. */
  readonly hasNothing: boolean;
  readonly maxWaitMs: number;
}

/** Of one partition. */
export interface HeldNews {
  readonly partition: PartitionKey;
  readonly version: HeldVersion;
  /** `blocked` is every key that is blocked; what is not in there is not. */
  readonly isWhole: boolean;
  readonly blocked: readonly string[];
  readonly unblocked: readonly string[];
  /** May be given now. */
  readonly events: readonly Deliverable[];
}

/** Answers a watch at once, with nothing. */
export interface CancelHeldWatchCommand {
  readonly type: 'cancel-held-watch';
  readonly watchId: number;
}

/** Keys that are blocked now: whole news without events, of each partition in its order. */
export interface BlockedKeysCommand {
  readonly type: 'blocked-keys';
  readonly groupId: string;
  readonly partitions: readonly PartitionKey[];
}

export interface ListDeadLettersCommand {
  readonly type: 'list-dead-letters';
  readonly groupId: string;
  readonly filter: DeadLetterFilter;
  readonly limit: number;
  /** Where the page before ended; null for the first. */
  readonly cursor: DeadLetterPlace | null;
}

/** Which partition of one of the broker's own logs is the group's. */
export interface OwnLogCommand {
  readonly type: 'own-log';
  readonly log: OwnLog;
  readonly groupId: string;
}

export interface HeldShardReplies {
  'watch-held': readonly HeldNews[];
  'cancel-held-watch': null;
  'blocked-keys': readonly HeldNews[];
  'list-dead-letters': DeadLetterPage;
  'own-log': PartitionKey;
}

export type HeldShardCommand =
  | WatchHeldCommand
  | CancelHeldWatchCommand
  | BlockedKeysCommand
  | ListDeadLettersCommand
  | OwnLogCommand;
