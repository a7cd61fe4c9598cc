/**
 * Recovery: turns what the log store tells into the core's state, through the same `evolve` functions that ran when it
 * was written.
 */
import { assert, type PartitionKey } from '@naru/base';
import { NaruError } from '@naru/protocol';
import { readBatchHeader } from '@naru/protocol/batch';
import {
  evolveAppend,
  evolveDeletedBefore,
  evolveTruncated,
  markerIn,
  newPartitionState,
  type PartitionState,
} from '../core/partition/partition-state.ts';
import type { PartitionInfo, RecoveryVisitor, Snapshot, StoredBatch } from '../log/log-store.ts';
import { decodeCoreSnapshot, SNAPSHOT_VERSION } from './core-snapshot.ts';
import type { SchemaRegistry } from './schema-registry.ts';
import type { TransactionCoordinator } from './transaction-coordinator.ts';

export interface ReplayTarget {
  /** Whether the partition belongs to the group log. */
  isGroupLog(partition: PartitionKey): boolean;
  restoreGroupRecord(key: Uint8Array, value: Uint8Array): void;
  replayGroupBatch(batch: Uint8Array): void;
  readonly schemas: Pick<SchemaRegistry, 'owns' | 'replay' | 'restore'>;
  readonly transactions: Pick<TransactionCoordinator, 'ownsLog' | 'replay' | 'restore'>;
}

export class Replay implements RecoveryVisitor {
  readonly #target: ReplayTarget;
  readonly #nowMs: number;
  readonly #fromSnapshot = new Map<PartitionKey, PartitionState>();
  /** The recovered partitions. */
  readonly partitions = new Map<PartitionKey, PartitionState>();

  /** @param nowMs from which the expiry of producers counts again */
  constructor(target: ReplayTarget, nowMs: number) {
    this.#target = target;
    this.#nowMs = nowMs;
  }

  snapshot(snapshot: Snapshot | null): void {
    if (snapshot === null) return;
    if (snapshot.version !== SNAPSHOT_VERSION) {
      const message = `the checkpoint has format ${snapshot.version}, this version of Naru reads ${SNAPSHOT_VERSION}`;
      throw new NaruError('DATA_DIRECTORY_VERSION', `${message}: start the version that wrote it`);
    }
    const state = decodeCoreSnapshot(snapshot);
    for (const partition of state.partitions) this.#fromSnapshot.set(partition.partition, partition);
    for (const { key, value } of state.groupRecords) this.#target.restoreGroupRecord(key, value as Uint8Array);
    for (const { key, value } of state.schemaRecords) this.#target.schemas.restore(key, value);
    for (const { key, value } of state.transactionRecords) this.#target.transactions.restore(key, value);
  }

  partition(info: PartitionInfo): void {
    const known = this.#fromSnapshot.get(info.partition);
    const state = known ?? newPartitionState(info.partition, info.logStartOffset);
    assert(
      state.endOffset === info.endOffset,
      `${info.partition} ends at ${info.endOffset}, its snapshot at ${state.endOffset}`,
    );
    evolveDeletedBefore(state, info.logStartOffset);
    this.partitions.set(info.partition, state);
  }

  created(partition: PartitionKey, logStartOffset: number): void {
    this.partitions.set(partition, newPartitionState(partition, logStartOffset));
  }

  batch(partition: PartitionKey, batch: StoredBatch): void {
    const header = readBatchHeader(batch.records);
    evolveAppend(this.#state(partition), header, markerIn(batch.records, header), batch.baseOffset, this.#nowMs);
    if (this.#target.isGroupLog(partition)) this.#target.replayGroupBatch(batch.records);
    else if (this.#target.schemas.owns(partition)) this.#target.schemas.replay(batch.records);
    else if (this.#target.transactions.ownsLog(partition)) this.#target.transactions.replay(batch.records);
  }

  truncated(partition: PartitionKey, endOffset: number): void {
    evolveTruncated(this.#state(partition), endOffset);
  }

  deletedBefore(partition: PartitionKey, offset: number): void {
    evolveDeletedBefore(this.#state(partition), offset);
  }

  deleted(partition: PartitionKey): void {
    this.partitions.delete(partition);
  }

  #state(partition: PartitionKey): PartitionState {
    const state = this.partitions.get(partition);
    assert(state !== undefined, `${partition} exists when it is replayed`);
    return state;
  }
}
