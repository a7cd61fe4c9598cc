/**
 * The partitions of a shard: appends and markers, and what is told of them.
 *
 * Owns what is in memory of a partition: its pure state and its high watermark. Does not own bytes (log store), when they are
 * durable (commit queue), reading them (partition-fetches.ts), nor what transactions are beyond a partition.
 *
 * Invariants: the high watermark moves when a cycle is durable; a transactional batch is stored after what says that the partition
 * takes part, or not at all.
 */
import { assert, type Clock, type PartitionKey, type Timers } from '@naru/base';
import { NaruError, refuse, type Refusal } from '@naru/protocol';
import {
  decodeRecords,
  encodeControlMarker,
  readBatchHeader,
  setBatchOffsets,
  verifyBatch,
  type BatchHeader,
  type CompressionCodecs,
  type ControlMarker,
} from '@naru/protocol/batch';
import {
  decideAppend,
  epochEnd,
  evolveAppend,
  evolveDeletedBefore,
  lastStableOffset,
  markerIn,
  newPartitionState,
  type PartitionLimits,
  type PartitionState,
} from '../core/partition/partition-state.ts';
import { advanceSequence } from '../core/partition/producer-state.ts';
import type { TopicConfig } from '../core/registry/topic-config.ts';
import type { TransactionFlow } from '../core/transaction/commands.ts';
import type { AppendEntry, LogStore } from '../log/log-store.ts';
import type { CommitQueue } from './commit-queue.ts';
import type {
  AppendCommand,
  AppendReply,
  DeleteRecordsCommand,
  DeleteRecordsReply,
  EpochEnd,
  EpochEndCommand,
  FetchCommand,
  FetchReply,
  FindOffsetCommand,
  FoundOffset,
  PartitionStatus,
} from './commands.ts';
import { findOffset } from './find-offset.ts';
import { PartitionFetches } from './partition-fetches.ts';
import { unknownPartition, type Partition } from './partition.ts';
import type { PartitionProducers } from './transaction-commands.ts';

export type { Partition } from './partition.ts';
export { unknownPartition } from './partition.ts';

/** What partitions have to know of the transactions beyond them. */
export interface TransactionAdmission {
  /**
   * Whether a transactional batch may be stored, asked only when nothing else is in its way. May stage records of its own, which
   * are then in the journal before the batch.
   */
  admit(partition: PartitionKey, header: BatchHeader, flow: TransactionFlow): Refusal | null;
  /** Whether the producer id belongs to a transactional id. */
  owns(producerId: number): boolean;
}

/** The end of a transaction in one partition. */
export interface TransactionMarker {
  readonly commit: boolean;
  readonly producerId: number;
  /** Batches of a lower epoch are refused after it. */
  readonly producerEpoch: number;
}

/** Bytes of every transaction marker as it is stored. */
export const MARKER_BYTES = encodeControlMarker({
  type: 'commit',
  coordinatorEpoch: 0,
  producerId: 0,
  producerEpoch: 0,
  timestampMs: 0,
}).length;

export interface PartitionRuntimeOptions {
  readonly store: LogStore;
  readonly commits: CommitQueue;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly codecs: CompressionCodecs;
  readonly limits: PartitionLimits;
  /** The leader epoch of everything that this broker writes. */
  readonly leaderEpoch: number;
  /** Knows who may write in a transaction. Without it everybody may. */
  readonly transactions?: TransactionAdmission | undefined;
  /** Whether the broker has given out the producer id. Default: every id counts as given out. */
  readonly isIssuedProducerId?: ((producerId: number) => boolean) | undefined;
  /** Told when more of a partition may be read. */
  readonly onAdvanced?: ((partition: PartitionKey) => void) | undefined;
}

export class PartitionRuntime {
  readonly #options: PartitionRuntimeOptions;
  readonly #partitions = new Map<PartitionKey, Partition>();
  readonly #fetches: PartitionFetches;

  constructor(options: PartitionRuntimeOptions) {
    this.#options = options;
    const { store, timers } = options;
    this.#fetches = new PartitionFetches({ store, timers, partition: (key) => this.#partitions.get(key) });
  }

  get(partition: PartitionKey): Partition | undefined {
    return this.#partitions.get(partition);
  }

  all(): IterableIterator<Partition> {
    return this.#partitions.values();
  }

  get count(): number {
    return this.#partitions.size;
  }

  get waitingFetches(): number {
    return this.#fetches.waiting;
  }

  /** Takes over a recovered or newly created partition. */
  adopt(state: PartitionState, config: TopicConfig): void {
    const limits = this.#limitsOf(config);
    const highWatermark = state.endOffset;
    this.#partitions.set(state.partition, { state, highWatermark, lastCycle: 0, waiting: new Set(), config, limits });
  }

  async create(partition: PartitionKey, config: TopicConfig): Promise<void> {
    await this.#options.store.create(partition);
    this.adopt(newPartitionState(partition), config);
  }

  /** The partition's topic has other settings now. */
  configure(key: PartitionKey, config: TopicConfig): void {
    const partition = this.#partitions.get(key);
    if (partition === undefined) return;
    partition.config = config;
    partition.limits = this.#limitsOf(config);
  }

  #limitsOf(config: TopicConfig): PartitionLimits {
    const { limits } = this.#options;
    return { ...limits, maxBatchBytes: Math.min(limits.maxBatchBytes, config.maxBatchBytes) };
  }

  /** From the call on the partition is unknown; resolves when its data is gone. */
  async delete(key: PartitionKey): Promise<void> {
    const partition = this.#partitions.get(key);
    this.#partitions.delete(key);
    if (partition !== undefined) this.#fetches.wake([partition]);
    if (this.#options.store.info(key) !== undefined) await this.#options.store.delete(key);
  }

  /** A batch of a publisher. Refusals are checked before anything is changed. */
  append(command: AppendCommand, reply: (reply: AppendReply | Refusal, cycle: number) => void): void {
    const partition = this.#partitions.get(command.partition);
    if (partition === undefined) return reply(unknownPartition(command.partition), 0);
    let header: BatchHeader;
    try {
      header = verifyBatch(command.batch);
    } catch (error) {
      if (error instanceof NaruError) return reply(error.toRefusal(), 0);
      throw error;
    }
    const unkeyed = partition.config.cleanup.compact ? this.#unkeyedRefusal(command.batch) : null;
    if (unkeyed !== null) return reply(unkeyed, 0);
    const decision = decideAppend(partition.state, header, this.#options.clock.nowMs(), partition.limits);
    if (decision.kind === 'refused') return reply(refuse(decision.code, decision.message), 0);
    const { baseOffset } = decision;
    const { logStartOffset } = partition.state;
    if (decision.kind === 'duplicate') {
      return reply({ baseOffset, duplicate: true, logStartOffset }, partition.lastCycle);
    }
    const barred = this.#transactionRefusal(command, header);
    if (barred !== null) return reply(barred, 0);
    this.#store(partition, command.batch, header, baseOffset);
    reply({ baseOffset, duplicate: false, logStartOffset }, partition.lastCycle);
  }

  #transactionRefusal({ partition, flow = 2 }: AppendCommand, header: BatchHeader): Refusal | null {
    const { producerId } = header;
    const { transactions, isIssuedProducerId } = this.#options;
    if (producerId < 0) return null;
    if (isIssuedProducerId?.(producerId) === false) {
      return refuse('UNKNOWN_PRODUCER_ID', `producer id ${producerId} was not given out by this broker`);
    }
    if (header.isTransactional) return transactions?.admit(partition, header, flow) ?? null;
    if (transactions?.owns(producerId) !== true) return null;
    const message = `producer ${producerId} has a transactional id, so that all its batches must be part of a transaction`;
    return refuse('INVALID_TXN_STATE', message);
  }

  /** Compaction goes by key: an event without one would stay for ever. */
  #unkeyedRefusal(batch: Uint8Array): Refusal | null {
    try {
      const records = decodeRecords(batch, this.#options.codecs);
      const index = records.findIndex(({ key }) => key === null);
      if (index < 0) return null;
      return refuse('INVALID_RECORD', `record ${index} of the batch has no key, which a compacted topic asks for`);
    } catch (error) {
      if (error instanceof NaruError) return error.toRefusal();
      throw error;
    }
  }

  /**
   * Moves the log start up; everything before is gone for readers at once, and durably when it resolves.
   *
   * @param offset at most the high watermark
   */
  async deleteBefore(key: PartitionKey, offset: number): Promise<void> {
    const partition = this.#partitions.get(key);
    if (partition === undefined) throw NaruError.from(unknownPartition(key));
    assert(offset <= partition.highWatermark, `${key} is deleted before ${offset}, beyond its high watermark`);
    evolveDeletedBefore(partition.state, offset);
    // Who waits before an open transaction may have lost its place.
    this.#fetches.wake([partition]);
    await this.#options.store.deleteBefore(key, offset);
  }

  /** Deletes records at somebody's order. */
  async deleteRecords({ partition: key, before }: DeleteRecordsCommand): Promise<DeleteRecordsReply | Refusal> {
    const partition = this.#partitions.get(key);
    if (partition === undefined) return unknownPartition(key);
    const { state, highWatermark } = partition;
    const offset = before ?? highWatermark;
    if (offset > highWatermark) {
      return refuse('OFFSET_OUT_OF_RANGE', `${key} ends at ${highWatermark}: nothing before ${offset} can be deleted`);
    }
    if (offset > state.logStartOffset) await this.deleteBefore(key, offset);
    return { logStartOffset: state.logStartOffset };
  }

  /** A batch of the broker's own; returns the cycle that makes it durable. */
  appendOwn(key: PartitionKey, batch: Uint8Array): number {
    const partition = this.#partitions.get(key);
    assert(partition !== undefined, `own partition ${key} exists`);
    this.#store(partition, batch, readBatchHeader(batch), partition.state.endOffset);
    return partition.lastCycle;
  }

  /** Ends a producer's transaction in partitions, as far as they exist; returns the cycle that makes it durable, or null for none. */
  appendMarkers(
    keys: readonly PartitionKey[],
    { commit, producerId, producerEpoch }: TransactionMarker,
  ): number | null {
    const marker: ControlMarker = {
      type: commit ? 'commit' : 'abort',
      coordinatorEpoch: this.#options.leaderEpoch,
      producerId,
      producerEpoch,
      timestampMs: this.#options.clock.nowMs(),
    };
    // It is the same everywhere, but for what the log writes into it.
    const encoded = encodeControlMarker(marker);
    const header = readBatchHeader(encoded);
    const copies = new Uint8Array(keys.length * encoded.length);
    let cycle: number | null = null;
    for (const [index, key] of keys.entries()) {
      const partition = this.#partitions.get(key);
      if (partition === undefined) continue;
      const batch = copies.subarray(index * encoded.length, (index + 1) * encoded.length);
      batch.set(encoded);
      this.#store(partition, batch, header, partition.state.endOffset, marker);
      cycle = partition.lastCycle;
    }
    return cycle;
  }

  #store(
    partition: Partition,
    batch: Uint8Array,
    header: BatchHeader,
    baseOffset: number,
    marker = markerIn(batch, header),
  ): void {
    const epoch = this.#options.leaderEpoch;
    setBatchOffsets(batch, baseOffset, epoch);
    evolveAppend(
      partition.state,
      { ...header, baseOffset, partitionLeaderEpoch: epoch },
      marker,
      baseOffset,
      this.#options.clock.nowMs(),
    );
    partition.lastCycle = this.#options.commits.stage({
      partition: partition.state.partition,
      baseOffset,
      lastOffset: baseOffset + header.lastOffsetDelta,
      maxTimestampMs: header.maxTimestampMs,
      records: batch,
    });
  }

  /** A cycle is durable: its records may be read. */
  advance(entries: readonly AppendEntry[]): void {
    const advanced: Partition[] = [];
    for (const entry of entries) {
      const partition = this.#partitions.get(entry.partition);
      if (partition === undefined) continue;
      partition.highWatermark = entry.lastOffset + 1;
      // Markers that may be read now are forgotten, also where nobody reads.
      lastStableOffset(partition.state, partition.highWatermark);
      advanced.push(partition);
    }
    this.#fetches.wake(advanced);
    if (this.#options.onAdvanced !== undefined)
      for (const { partition } of entries) this.#options.onAdvanced(partition);
  }

  fetch(command: FetchCommand, reply: (reply: FetchReply) => void, fail: (error: unknown) => void): void {
    this.#fetches.fetch(command, reply, fail);
  }

  cancelFetch(fetchId: number): void {
    this.#fetches.cancel(fetchId);
  }

  cancelAllFetches(): void {
    this.#fetches.cancelAll();
  }

  async findOffset({ partition: key, position, isStable }: FindOffsetCommand): Promise<FoundOffset | Refusal> {
    const partition = this.#partitions.get(key);
    if (partition === undefined) return unknownPartition(key);
    const { state, highWatermark } = partition;
    const endOffset = isStable === true ? lastStableOffset(state, highWatermark) : highWatermark;
    return findOffset({ state, endOffset, highWatermark }, position, this.#options);
  }

  epochEnd({ partition: key, leaderEpoch }: EpochEndCommand): EpochEnd | Refusal {
    const partition = this.#partitions.get(key);
    if (partition === undefined) return unknownPartition(key);
    const found = epochEnd(partition.state, leaderEpoch, this.#options.leaderEpoch);
    if (found === null) return { leaderEpoch: null, endOffset: null };
    return { leaderEpoch: found.epoch, endOffset: Math.min(found.endOffset, partition.highWatermark) };
  }

  describe(keys: readonly PartitionKey[]): PartitionStatus[] {
    return keys.flatMap((key) => {
      const partition = this.#partitions.get(key);
      if (partition === undefined) return [];
      return {
        partition: key,
        logStartOffset: partition.state.logStartOffset,
        highWatermark: partition.highWatermark,
        lastStableOffset: lastStableOffset(partition.state, partition.highWatermark),
        dataEndOffset: Math.min(partition.state.dataEndOffset, partition.highWatermark),
        sizeBytes: this.#options.store.info(key)?.sizeBytes ?? 0,
        leaderEpoch: this.#options.leaderEpoch,
      };
    });
  }

  /** Compaction has removed what was aborted below the offset. */
  compacted(key: PartitionKey, endOffset: number): void {
    this.#partitions.get(key)?.state.transactions.deletedBefore(endOffset);
  }

  /** Before the first open transaction; undefined for a partition that does not exist. */
  lastStableOffset(key: PartitionKey): number | undefined {
    const partition = this.#partitions.get(key);
    return partition && lastStableOffset(partition.state, partition.highWatermark);
  }

  /** Who writes to the partitions, without those that do not exist. */
  producersOf(keys: readonly PartitionKey[]): PartitionProducers[] {
    return keys.flatMap((key) => {
      const state = this.#partitions.get(key)?.state;
      if (state === undefined) return [];
      const producers = Array.from(state.producers, ([producerId, { epoch, batches, lastTimestampMs }]) => {
        const lastSequence = batches.at(-1)?.lastSequence ?? -1;
        return {
          producerId,
          producerEpoch: epoch,
          lastSequence,
          lastTimestampMs,
          transactionStartOffset: state.transactions.openSince(producerId) ?? null,
          nextSequence: lastSequence < 0 ? 0 : advanceSequence(lastSequence, 1),
        };
      });
      return { partition: key, producers };
    });
  }
}
