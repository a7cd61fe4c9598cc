/** What a shard is made with, what holds where that says nothing, and what it tells of itself. Types and defaults only. */
import type { Clock, Logger, Timers } from '@naru/base';
import type { NaruError } from '@naru/protocol';
import type { CompressionCodecs } from '@naru/protocol/batch';
import type { GroupLimits } from '../core/group/index.ts';
import type { PartitionLimits } from '../core/partition/partition-state.ts';
import type { TransactionLimits } from '../core/transaction/index.ts';
import type { TopicConfigDefaults } from '../core/registry/topic-config.ts';
import type { LogStore } from '../log/log-store.ts';
import type { CompactorMetrics } from './compactor.ts';
import type { RetentionMetrics } from './retention.ts';
import type { TransactionMetrics } from './transaction-coordinator.ts';

export interface ShardLimits extends PartitionLimits {
  readonly maxQueuedCommands: number;
  /** Of batches that wait in the queue. */
  readonly maxQueuedBytes: number;
  /** Of batches that are being made durable; beyond it the queue waits. */
  readonly maxCommittingBytes: number;
}

export const DEFAULT_SHARD_LIMITS: ShardLimits = {
  maxBatchBytes: 1024 * 1024 + 512,
  maxProducers: 10_000,
  maxQueuedCommands: 100_000,
  maxQueuedBytes: 64 * 1024 * 1024,
  maxCommittingBytes: 32 * 1024 * 1024,
};

/** Of topics and limits that a caller leaves open. */
export const DEFAULT_TOPIC_CONFIG: TopicConfigDefaults = {
  retentionMs: 7 * 86_400_000,
  retentionBytes: Infinity,
  allowKeyReorder: false,
  segmentMs: 7 * 86_400_000,
  segmentBytes: 128 * 1024 * 1024,
  maxBatchBytes: DEFAULT_SHARD_LIMITS.maxBatchBytes,
};
export const DEFAULT_RETENTION_INTERVAL_MS = 30_000;
export const DEFAULT_COMPACTION_INTERVAL_MS = 15_000;

/** How the ledger is kept: what became of events in groups. */
export interface LedgerSettings {
  readonly keepMs: number;
}

export const DEFAULT_LEDGER: LedgerSettings = { keepMs: 7 * 86_400_000 };

export interface ShardOptions {
  readonly store: LogStore;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly logger: Logger;
  readonly codecs: CompressionCodecs;
  /** The leader epoch of everything that this broker writes; grows with each start. */
  readonly leaderEpoch: number;
  readonly limits?: Partial<ShardLimits> | undefined;
  readonly groupLimits?: Partial<GroupLimits> | undefined;
  readonly transactionLimits?: Partial<TransactionLimits> | undefined;
  /** Whether the broker has given out the producer id; batches of others are refused. Default: every id counts as given out. */
  readonly isIssuedProducerId?: ((producerId: number) => boolean) | undefined;
  /** What holds where topics say nothing. */
  readonly topicDefaults?: TopicConfigDefaults | undefined;
  /** How often retention is looked at. Default 30 s. */
  readonly retentionIntervalMs?: number | undefined;
  /** How often is looked what there is to compact. Default 15 s. */
  readonly compactionIntervalMs?: number | undefined;
  /** Memory for keys while a partition is compacted. Default 128 MiB. */
  readonly compactionMapBytes?: number | undefined;
  /** What became of events is registered, and how long that is kept; null: it is not. Default 7 d. */
  readonly ledger?: LedgerSettings | null | undefined;
  /** Runs a function after other events had their turn. */
  readonly yieldTurn?: ((callback: () => void) => void) | undefined;
  /** Called once, when an append has failed. */
  readonly onFailed?: ((error: NaruError) => void) | undefined;
}

export interface ShardStatus {
  readonly queuedCommands: number;
  readonly committingBytes: number;
  readonly partitions: number;
  readonly groups: number;
  readonly waitingFetches: number;
  readonly waitingGates: number;
  readonly retention: RetentionMetrics;
  readonly compaction: CompactorMetrics;
  readonly transactions: TransactionMetrics;
}
