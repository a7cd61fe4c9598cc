/**
 * The partitions of a shard: appends, reads and long polls.
 *
 * Owns what is in memory of a partition: its pure state, its high watermark, and who waits for it. Does not own bytes
 * (log store) nor when they are durable (commit queue).
 *
 * Invariants: readers see offsets below the high watermark only; the high watermark moves when a cycle is durable.
 */
import { assert, type Clock, type PartitionKey, type TimerHandle, type Timers } from '@naru/base';
import { NaruError, refuse, type Refusal } from '@naru/protocol';
import {
  decodeRecords,
  readBatchHeader,
  setBatchOffsets,
  verifyBatch,
  type BatchHeader,
  type CompressionCodecs,
} from '@naru/protocol/batch';
import {
  decideAppend,
  epochEnd,
  evolveAppend,
  evolveDeletedBefore,
  newPartitionState,
  type PartitionLimits,
  type PartitionState,
} from '../core/partition/partition-state.ts';
import type { TopicConfig } from '../core/registry/topic-config.ts';
import type { AppendEntry, LogStore, StoredBatch } from '../log/log-store.ts';
import type { CommitQueue } from './commit-queue.ts';
import type {
  AppendCommand,
  AppendReply,
  DeleteRecordsCommand,
  DeleteRecordsReply,
  EpochEnd,
  EpochEndCommand,
  FetchCommand,
  FetchedPartition,
  FetchPartition,
  FetchReply,
  FindOffsetCommand,
  FoundOffset,
  PartitionStatus,
} from './commands.ts';
import { findOffset } from './find-offset.ts';

export interface Partition {
  readonly state: PartitionState;
  /** Offset after the last record that may be read. */
  highWatermark: number;
  /** The cycle of the newest batch; 0 when it was recovered. */
  lastCycle: number;
  readonly waiting: Set<WaitingFetch>;
  config: TopicConfig;
  limits: PartitionLimits;
}

interface WaitingFetch {
  readonly command: FetchCommand;
  readonly reply: (reply: FetchReply) => void;
  readonly fail: (error: unknown) => void;
  readonly timer: TimerHandle;
}

export interface PartitionRuntimeOptions {
  readonly store: LogStore;
  readonly commits: CommitQueue;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly codecs: CompressionCodecs;
  readonly limits: PartitionLimits;
  /** The leader epoch of everything that this broker writes. */
  readonly leaderEpoch: number;
  /** Told when more of a partition may be read. */
  readonly onAdvanced?: ((partition: PartitionKey) => void) | undefined;
}

export class PartitionRuntime {
  readonly #options: PartitionRuntimeOptions;
  readonly #partitions = new Map<PartitionKey, Partition>();
  readonly #waiting = new Map<number, WaitingFetch>();

  constructor(options: PartitionRuntimeOptions) {
    this.#options = options;
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
    return this.#waiting.size;
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
    for (const waiting of partition?.waiting ?? []) this.#wake(waiting);
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
    this.#store(partition, command.batch, header, baseOffset);
    reply({ baseOffset, duplicate: false, logStartOffset }, partition.lastCycle);
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

  #store(partition: Partition, batch: Uint8Array, header: BatchHeader, baseOffset: number): void {
    const epoch = this.#options.leaderEpoch;
    setBatchOffsets(batch, baseOffset, epoch);
    evolveAppend(
      partition.state,
      { ...header, baseOffset, partitionLeaderEpoch: epoch },
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
    const woken = new Set<WaitingFetch>();
    for (const entry of entries) {
      const partition = this.#partitions.get(entry.partition);
      if (partition === undefined) continue;
      partition.highWatermark = entry.lastOffset + 1;
      for (const waiting of partition.waiting) woken.add(waiting);
    }
    for (const waiting of woken) this.#wake(waiting);
    if (this.#options.onAdvanced !== undefined)
      for (const { partition } of entries) this.#options.onAdvanced(partition);
  }

  fetch(command: FetchCommand, reply: (reply: FetchReply) => void, fail: (error: unknown) => void): void {
    const ready = this.#read(command, command.maxWaitMs > 0);
    if (ready !== null) {
      settle(ready, reply, fail);
      return;
    }
    const timer = this.#options.timers.after(command.maxWaitMs, () => this.cancelFetch(command.fetchId));
    const waiting: WaitingFetch = { command, reply, fail, timer };
    this.#waiting.set(command.fetchId, waiting);
    for (const { partition } of command.partitions) this.#partitions.get(partition)?.waiting.add(waiting);
  }

  cancelFetch(fetchId: number): void {
    const waiting = this.#waiting.get(fetchId);
    if (waiting === undefined) return;
    this.#forget(waiting);
    settle(this.#read(waiting.command, false) ?? { partitions: [] }, waiting.reply, waiting.fail);
  }

  cancelAllFetches(): void {
    for (const fetchId of this.#waiting.keys()) this.cancelFetch(fetchId);
  }

  #wake(waiting: WaitingFetch): void {
    if (!this.#waiting.has(waiting.command.fetchId)) return;
    const ready = this.#read(waiting.command, true);
    if (ready === null) return;
    this.#forget(waiting);
    settle(ready, waiting.reply, waiting.fail);
  }

  #forget(waiting: WaitingFetch): void {
    waiting.timer.cancel();
    this.#waiting.delete(waiting.command.fetchId);
    for (const { partition } of waiting.command.partitions) this.#partitions.get(partition)?.waiting.delete(waiting);
  }

  /** Null when the caller may wait and there is not enough yet. */
  #read(command: FetchCommand, mayWait: boolean): FetchReply | Promise<FetchReply> | null {
    const found: (FetchedPartition | Promise<FetchedPartition>)[] = [];
    let restBytes = command.maxBytes;
    let foundBytes = 0;
    let urgent = false;
    for (const wanted of command.partitions) {
      if (restBytes <= 0) break;
      const fetched = this.#readPartition(
        wanted,
        found.length === 0 ? restBytes : Math.min(restBytes, wanted.maxBytes),
      );
      if (fetched === null) continue;
      found.push(fetched);
      if (fetched instanceof Promise) {
        // From disk: how much is not known yet, but it is old, and its reader is behind.
        urgent = true;
        restBytes -= wanted.maxBytes;
      } else {
        urgent ||= fetched.refusal !== null;
        const bytes = totalBytes(fetched.batches);
        foundBytes += bytes;
        restBytes -= bytes;
      }
    }
    if (mayWait && !urgent && foundBytes < Math.max(1, command.minBytes)) return null;
    const answer = (partitions: FetchedPartition[]): FetchReply => ({
      partitions:
        command.everyPartition === true ? this.#completed(command, partitions) : partitions.filter(hasContent),
    });
    if (!found.some((entry) => entry instanceof Promise)) return answer(found as FetchedPartition[]);
    return Promise.all(found.map((entry) => Promise.resolve(entry))).then(answer);
  }

  /** One for each partition that was asked for, in order. */
  #completed(command: FetchCommand, found: readonly FetchedPartition[]): FetchedPartition[] {
    let next = 0;
    return command.partitions.map((wanted) => {
      if (found[next]?.partition === wanted.partition) return found[next++] as FetchedPartition;
      const partition = this.#partitions.get(wanted.partition);
      if (partition === undefined) return refusedFetch(wanted, unknownPartition(wanted.partition));
      return emptyFetch(wanted, partition);
    });
  }

  /** Null when there is nothing new. */
  #readPartition(wanted: FetchPartition, maxBytes: number): FetchedPartition | Promise<FetchedPartition> | null {
    const { partition: key, offset } = wanted;
    const partition = this.#partitions.get(key);
    if (partition === undefined) return refusedFetch(wanted, unknownPartition(key));
    const { state, highWatermark } = partition;
    if (offset < state.logStartOffset || offset > highWatermark) {
      const range = `the log holds ${state.logStartOffset} to ${highWatermark}`;
      return refusedFetch(wanted, refuse('OFFSET_OUT_OF_RANGE', `offset ${offset} of ${key}: ${range}`), partition);
    }
    if (offset === highWatermark) return null;
    const limits = Math.max(1, Math.min(maxBytes, wanted.maxBytes));
    const batches = this.#options.store.read(key, offset, limits, highWatermark);
    const fetched = (read: StoredBatch[]): FetchedPartition => ({
      partition: key,
      batches: read.map((batch) => batch.records),
      nextOffset: (read.at(-1)?.lastOffset ?? offset - 1) + 1,
      highWatermark,
      logStartOffset: state.logStartOffset,
      refusal: null,
    });
    if (!(batches instanceof Promise)) return fetched(batches);
    return batches.then(fetched, (error: unknown) => {
      if (!(error instanceof NaruError)) throw error;
      return refusedFetch(wanted, refuse(error.code, `offset ${offset} of ${key}: ${error.message}`), partition);
    });
  }

  async findOffset({ partition: key, position }: FindOffsetCommand): Promise<FoundOffset | Refusal> {
    const partition = this.#partitions.get(key);
    return partition === undefined ? unknownPartition(key) : findOffset(partition, position, this.#options);
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
        sizeBytes: this.#options.store.info(key)?.sizeBytes ?? 0,
        leaderEpoch: this.#options.leaderEpoch,
      };
    });
  }
}

export function unknownPartition(key: PartitionKey): Refusal {
  return refuse('UNKNOWN_TOPIC_OR_PARTITION', `there is no partition ${key}`);
}

function emptyFetch({ partition, offset }: FetchPartition, { highWatermark, state }: Partition): FetchedPartition {
  return {
    partition,
    batches: [],
    nextOffset: offset,
    highWatermark,
    logStartOffset: state.logStartOffset,
    refusal: null,
  };
}

function refusedFetch(wanted: FetchPartition, refusal: Refusal, partition?: Partition): FetchedPartition {
  return {
    partition: wanted.partition,
    batches: [],
    nextOffset: wanted.offset,
    highWatermark: partition?.highWatermark ?? 0,
    logStartOffset: partition?.state.logStartOffset ?? 0,
    refusal,
  };
}

function hasContent(fetched: FetchedPartition): boolean {
  return fetched.batches.length > 0 || fetched.refusal !== null;
}

function totalBytes(batches: readonly Uint8Array[]): number {
  let bytes = 0;
  for (const batch of batches) bytes += batch.length;
  return bytes;
}

function settle<T>(value: T | Promise<T>, reply: (value: T) => void, fail: (error: unknown) => void): void {
  if (value instanceof Promise) value.then(reply, fail);
  else reply(value);
}
