/** What a shard can be asked of queues, and what it answers: parallel topics. Plain data, as in commands.ts. */
import type { PartitionKey } from '@naru/base';
import type { Refusal } from '@naru/protocol';
import type { AcquiredRange, PartitionSettlement, SettlementRefusal } from '../core/queue/queue-commands.ts';
import type { OffsetPosition } from './commands.ts';

/** Where the group begins in partitions of parallel topics, once and for all. Answered when that is durable. */
export interface OpenQueuesCommand {
  readonly type: 'open-queues';
  readonly groupId: string;
  readonly memberId: string;
  readonly memberEpoch: number;
  readonly partitions: readonly PartitionKey[];
  /** Null refuses with NO_OFFSET where the group has not begun. */
  readonly start: OffsetPosition | null;
}

export interface OpenedQueue {
  readonly partition: PartitionKey;
  /** Everything below is finished. */
  readonly startOffset: number;
  readonly highWatermark: number;
}

/**
 * Gives records of parallel topics to a member; waits up to `maxWaitMs` until there are some. Answered when it is durable
 * that they are the member's.
 */
export interface AcquireRecordsCommand {
  readonly type: 'acquire-records';
  /** Names it for {@link CancelAcquireCommand}; unique among those that wait. */
  readonly acquireId: number;
  readonly groupId: string;
  readonly memberId: string;
  readonly memberEpoch: number;
  /** Opened. */
  readonly partitions: readonly PartitionKey[];
  readonly maxRecords: number;
  /** Of batches; one batch is read even when it is larger. */
  readonly maxBytes: number;
  readonly maxWaitMs: number;
}

export interface AcquireRecordsReply {
  readonly partitions: readonly AcquiredPartition[];
  /** Cannot be read. */
  readonly failed: readonly { readonly partition: PartitionKey; readonly refusal: Refusal }[];
}

export interface AcquiredPartition {
  readonly partition: PartitionKey;
  /** Whole batches, ascending; only what is in `ranges` is the member's. Shared: read, never write. */
  readonly batches: readonly Uint8Array[];
  readonly ranges: readonly AcquiredRange[];
  readonly lockMs: number;
}

/** Answers a waiting acquisition at once, with what there is. */
export interface CancelAcquireCommand {
  readonly type: 'cancel-acquire';
  readonly acquireId: number;
}

/** Answered when it is durable. Whole events that become dead letters are copied first. */
export interface SettleRecordsCommand {
  readonly type: 'settle-records';
  readonly groupId: string;
  readonly memberId: string;
  readonly partitions: readonly PartitionSettlement[];
}

export interface SettleRecordsReply {
  /** Everything else was done. */
  readonly refused: readonly SettlementRefusal[];
}

export type QueueShardCommand = OpenQueuesCommand | AcquireRecordsCommand | CancelAcquireCommand | SettleRecordsCommand;

export interface QueueShardReplies {
  'open-queues': readonly OpenedQueue[];
  'acquire-records': AcquireRecordsReply;
  'cancel-acquire': null;
  'settle-records': SettleRecordsReply;
}
