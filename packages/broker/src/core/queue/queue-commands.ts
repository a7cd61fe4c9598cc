/** What can be asked of the queues of a group, and what they answer. Types, and their limits; see decide-queue.ts. */
import type { PartitionKey } from '@naru/base';
import type { Refusal } from '@naru/protocol';
import type { EventCopy } from '../held/held-copy.ts';
import type { OffsetPair } from './queue-state.ts';

/** Of one settlement. */
export const MAX_SETTLED_RANGES = 10_000;
/** How long a record can be put off; a longer delay is this one. */
export const MAX_DELAY_MS = 7 * 86_400_000;
/** Of a partition: records given out before that are neither finished nor settled, when its own limit is lower. */
export const MIN_UNFINISHED = 4_000;

/** Makes the queues of these partitions begin somewhere, where they have not begun. */
export interface QueueOpenCommand {
  readonly type: 'queue-open';
  readonly groupId: string;
  readonly memberId: string;
  readonly memberEpoch: number;
  readonly partitions: readonly { readonly partition: PartitionKey; readonly startOffset: number }[];
}

export interface QueueOpenReply {
  /** In the order of the command. */
  readonly startOffsets: readonly number[];
}

/** Gives records of partitions to a member. */
export interface QueueAcquireCommand {
  readonly type: 'queue-acquire';
  readonly groupId: string;
  readonly memberId: string;
  readonly memberEpoch: number;
  /** In all. */
  readonly maxRecords: number;
  /** Members that ask for records of these partitions now, this one among them: each gets its share. */
  readonly sharers: number;
  readonly partitions: readonly QueueReading[];
}

/** What is known of a partition's records when they are given out. */
export interface QueueReading {
  readonly partition: PartitionKey;
  readonly logStartOffset: number;
  /** Nothing there or beyond may be given out yet: the last stable offset. */
  readonly endOffset: number;
  /** What was read, ascending: nothing else is given. */
  readonly seen: readonly SeenRange[];
  /** Offsets of held events whose copies were read. */
  readonly heldSeen: readonly number[];
}

export interface SeenRange {
  readonly from: number;
  readonly to: number;
  /** Offsets in between that hold no record, ascending: compaction, markers, what was aborted. They count as finished. */
  readonly gaps: readonly OffsetPair[];
}

export interface QueueAcquireReply {
  /** Those of which something was given. */
  readonly partitions: readonly AcquiredOffsets[];
}

export interface AcquiredOffsets {
  readonly partition: PartitionKey;
  readonly lockMs: number;
  readonly ranges: readonly AcquiredRange[];
  /** Events that the group had held. */
  readonly held: readonly AcquiredRange[];
}

export interface AcquiredRange {
  readonly from: number;
  readonly to: number;
  /** 1 for the first time; returns do not count. */
  readonly deliveryCount: number;
}

/** As the wire has it: SettlementKind of proto/naru/v1/subscriber.proto. */
export type SettlementKind = 'accept' | 'return' | 'fail' | 'reject' | 'renew';

export interface RecordSettlement {
  readonly from: number;
  readonly to: number;
  readonly kind: SettlementKind;
  /** Of `fail` and `return`. */
  readonly delayMs: number;
  readonly reason: string;
  readonly error: string;
  readonly note: string;
  readonly durationMs: number;
  /** Empty for none. */
  readonly idempotencyId: string;
}

export interface PartitionSettlement {
  readonly partition: PartitionKey;
  readonly records: readonly RecordSettlement[];
  /** The whole events of those that may become dead letters, by offset, as far as they were read. */
  readonly copies?: ReadonlyMap<number, EventCopy> | undefined;
}

export interface QueueSettleCommand {
  readonly type: 'queue-settle';
  readonly groupId: string;
  readonly memberId: string;
  readonly partitions: readonly PartitionSettlement[];
}

export interface QueueSettleReply {
  /** Everything else was done. */
  readonly refused: readonly SettlementRefusal[];
}

export interface SettlementRefusal {
  readonly partition: PartitionKey;
  readonly from: number;
  readonly to: number;
  readonly refusal: Refusal;
}

/** The broker has copied whole events of a partition that are dying; null: there is none at that offset any more. */
export interface QueueBuryCommand {
  readonly type: 'queue-bury';
  readonly groupId: string;
  readonly partition: PartitionKey;
  readonly copies: ReadonlyMap<number, EventCopy | null>;
}

export interface QueueBuryReply {
  /** Why nothing more could be buried now; null when everything was. */
  readonly refusal: Refusal | null;
}

export type QueueCommand = QueueOpenCommand | QueueAcquireCommand | QueueSettleCommand | QueueBuryCommand;

export interface QueueReplies {
  'queue-open': QueueOpenReply;
  'queue-acquire': QueueAcquireReply;
  'queue-settle': QueueSettleReply;
  'queue-bury': QueueBuryReply;
}
