/** What a subscriber's conversation is made of: how it begins, and what it is told. Types only; subscriber-session.ts leads it. */
import type { PartitionKey } from '@naru/base';
import type { NaruError, Refusal } from '@naru/protocol';
import type { ClaimResult, EventOutcome, OffsetRange } from '../core/group/index.ts';
import type { SettlementRefusal } from '../core/queue/queue-commands.ts';
import type { TransactionRef } from '../core/transaction/commands.ts';
import type { OffsetPosition } from '../runtime/commands.ts';
import type { LateEvents } from './gated-reading.ts';
import type { PollerEvent } from './poller.ts';

export interface JoinRequest {
  /** Empty: a reader without a group. */
  readonly groupId: string;
  readonly memberId: string;
  readonly memberEpoch: number;
  readonly instanceId: string | null;
  readonly topics: readonly string[];
  readonly clientId: string;
  readonly clientHost: string;
  readonly sessionTimeoutMs: number;
  readonly maxPollIntervalMs: number;
  /** Where to begin without a committed offset; null refuses with NO_OFFSET. */
  readonly start: OffsetPosition | null;
  /** Of a reader without a group: events of open and aborted transactions are given, too. Default false. */
  readonly uncommitted?: boolean | undefined;
  /** What a member that goes on holds, with the offset that it reads next. */
  readonly owned: readonly { readonly partition: PartitionKey; readonly nextOffset: number }[];
}

export interface AssignedPartition {
  readonly topic: string;
  readonly partition: PartitionKey;
  readonly position: number;
  readonly committedOffset: number | null;
  readonly finished: readonly OffsetRange[];
  readonly metadata: string;
  readonly highWatermark: number;
  /** As protocol's keyId: those with held events or a parked one. More of them may follow as `blocked-keys`. Default: none. */
  readonly blockedKeys?: readonly string[] | undefined;
  /** Of a parallel topic: not the member's alone, and without a position. Default: no. */
  readonly parallel?: boolean | undefined;
}

export interface PartitionCommit {
  readonly partition: PartitionKey;
  readonly offset: number;
  /** Null keeps what the group knows. */
  readonly finished: readonly OffsetRange[] | null;
  readonly metadata: string;
  /** A lower offset than the committed one leaves that as it is, and its metadata. Default: it goes back. */
  readonly onlyForward?: boolean | undefined;
  readonly outcomes?: readonly EventOutcome[] | undefined;
}

export interface CommitOutcome {
  readonly partition: PartitionKey;
  readonly refusal: Refusal;
}

/** To a commit that is to commit a transaction, too: both or neither. */
export interface TransactionalAnswer {
  /** Partitions for whose sake it was not done. */
  readonly errors: readonly CommitOutcome[];
  /** Why it was not done, where that is not for a partition's sake. */
  readonly refusal: Refusal | null;
  /** Of the producer's next transaction; null when it was not done. */
  readonly next: TransactionRef | null;
  /** It was done before, by the same request: nothing was done now. Default: no. */
  readonly isRepeated?: true | undefined;
}

/** An event that was held, and is the subscriber's until it tells what became of it. */
export interface GivenHeldEvent {
  readonly offset: number;
  /** Of the one record, at its original offset. */
  readonly batch: Uint8Array;
  /** Calls of handlers so far. */
  readonly attempts: number;
  readonly firstFailureMs: number;
  /** It was a dead letter. */
  readonly redriven: boolean;
}

export type SessionEvent =
  | PollerEvent
  | {
      readonly type: 'joined';
      readonly memberId: string;
      readonly memberEpoch: number;
      readonly heartbeatIntervalMs: number;
      readonly sessionTimeoutMs: number;
    }
  | { readonly type: 'assigned'; readonly memberEpoch: number; readonly partitions: readonly AssignedPartition[] }
  | {
      readonly type: 'revoked';
      readonly memberEpoch: number;
      readonly partitions: readonly PartitionKey[];
      readonly lost: boolean;
    }
  | {
      readonly type: 'committed';
      readonly commitId: number;
      readonly errors: readonly CommitOutcome[];
      /** Of a commit that is part of a transaction. */
      readonly transaction?: Omit<TransactionalAnswer, 'errors'> | undefined;
    }
  | { readonly type: 'held'; readonly partition: PartitionKey; readonly events: readonly GivenHeldEvent[] }
  | {
      readonly type: 'blocked-keys';
      readonly partition: PartitionKey;
      readonly blocked: readonly string[];
      readonly unblocked: readonly string[];
    }
  | { readonly type: 'settled'; readonly settleId: number; readonly refused: readonly SettlementRefusal[] }
  /** Passed over before (`withheld` of records). */
  | LateEvents
  | {
      readonly type: 'claimed';
      readonly claimId: number;
      /** In the order of the ids. */
      readonly results: readonly ClaimResult[];
      /** Done ids of the group that had to go before their time. */
      readonly forgotten: number;
      readonly refusal: Refusal | null;
    }
  | { readonly type: 'left' }
  /** The conversation is over; null after a leave. */
  | { readonly type: 'ended'; readonly error: NaruError | null };
