/** What a shard can be asked about the gates of staged groups, and what it answers. Plain data: see commands.ts. */
import type { PartitionKey } from '@naru/base';
import type { GateReason, GateView } from '../core/group/index.ts';

/** Answered when what the group's gates release of some partition differs from what is known, or after `maxWaitMs`. */
export interface WatchGateCommand {
  readonly type: 'watch-gate';
  /** Unique among those that wait. */
  readonly watchId: number;
  readonly groupId: string;
  readonly partitions: readonly GateInterest[];
  readonly maxWaitMs: number;
}

export interface GateInterest {
  readonly partition: PartitionKey;
  /** Nobody asks about offsets below. */
  readonly from: number;
  /** Null: nothing. */
  readonly known: GateView | null;
}

/** Partitions with news; none when the time is over. Of one without a gate everything is released. */
export type GateNews = readonly { readonly partition: PartitionKey; readonly view: GateView }[];

/** Answers a watch at once, without news. */
export interface CancelGateWatchCommand {
  readonly type: 'cancel-gate-watch';
  readonly watchId: number;
}

/** What the group waits for in these partitions. */
export interface DescribeGatesCommand {
  readonly type: 'describe-gates';
  readonly groupId: string;
  readonly partitions: readonly PartitionKey[];
}

export interface GateDescription {
  readonly partition: PartitionKey;
  /** Groups of a lower order. */
  readonly waitsFor: readonly string[];
  /** Nothing from here on is released. */
  readonly gateOffset: number;
  /** Offsets below the end of the partition that the group has not finished, and that are not released. */
  readonly withheld: number;
  /** Of the first of them. */
  readonly oldest: WithheldOffset | null;
}

export interface WithheldOffset extends GateReason {
  readonly offset: number;
}

export type GateCommand = WatchGateCommand | CancelGateWatchCommand | DescribeGatesCommand;
