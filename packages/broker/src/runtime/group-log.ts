/**
 * The logs of groups: the group log, where a group's state is, and those beside it (held events, the ledger).
 *
 * A group lives in one partition of each, so that one batch, which is one atomic append, holds everything that a command changed.
 * The group log compacts itself: when a partition has grown far beyond what its groups need, their whole state is written
 * again at its end, and everything before that is deleted.
 *
 * Owns which partitions these are, how decisions become batches, and the compaction. Does not own state.
 */
import { assert, partitionKey, type Clock, type PartitionKey, type TopicId } from '@naru/base';
import { murmur2, NaruError } from '@naru/protocol';
import { encodeBatch, type RecordInput } from '@naru/protocol/batch';
import {
  encodeGroupRecord,
  groupRecords,
  type EncodedGroupRecord,
  type GroupDecision,
  type GroupRecord,
  type GroupState,
  type OwnLog,
  type OwnLogAppend,
} from '../core/group/index.ts';
import { evolveDeletedBefore } from '../core/partition/partition-state.ts';
import type { LogStore } from '../log/log-store.ts';
import type { CommitQueue } from './commit-queue.ts';
import type { PartitionRuntime } from './partition-runtime.ts';

const TEXT = new TextEncoder();
/** Of one batch in the logs of held events and of the ledger; one record is appended even when it is larger. */
const OWN_BATCH_BYTES = 512 * 1024;

/** A partition of the group log is rewritten when it grew by this, and to a multiple of its state. */
const REWRITE_AFTER_BYTES = 4 * 1024 * 1024;
const REWRITE_AFTER_FACTOR = 2;
/** What a decision changes is one batch up to here. Stores take appends of 8 MiB. */
const MAX_GROUP_BATCH_BYTES = 4 * 1024 * 1024;
/** Records are gathered into batches of about this when the whole state is written. */
const REWRITE_BATCH_BYTES = 256 * 1024;

interface LogPartition {
  readonly key: PartitionKey;
  /** Written since the last rewrite. */
  grownBytes: number;
  /** What the last rewrite took. */
  stateBytes: number;
}

/** What a decision writes, in this order. */
export interface GroupWrites {
  readonly batches: readonly { readonly partition: PartitionKey; readonly batch: Uint8Array }[];
  readonly bytes: number;
}

export interface GroupLogOptions {
  readonly partitions: PartitionRuntime;
  readonly commits: CommitQueue;
  readonly store: LogStore;
  readonly clock: Clock;
}

export class GroupLog {
  readonly #options: GroupLogOptions;
  #partitions: LogPartition[] = [];
  readonly #ownLogs = new Map<OwnLog, readonly PartitionKey[]>();
  /** Records that decisions which are not applied yet will append, by partition; null where there are none such. */
  #ahead: Map<PartitionKey, number> | null = null;

  constructor(options: GroupLogOptions) {
    this.#options = options;
  }

  /** Says which topic the group log is. Its partitions exist. */
  use(topicId: TopicId, partitionCount: number): void {
    this.#partitions = Array.from({ length: partitionCount }, (_, index) => {
      const key = partitionKey(topicId, index);
      return { key, grownBytes: this.#options.store.info(key)?.sizeBytes ?? 0, stateBytes: 0 };
    });
  }

  /** Says which topic another log is. */
  useOwn(log: OwnLog, topicId: TopicId, partitionCount: number): void {
    this.#ownLogs.set(
      log,
      Array.from({ length: partitionCount }, (_, index) => partitionKey(topicId, index)),
    );
  }

  has(log: OwnLog): boolean {
    return this.#ownLogs.has(log);
  }

  /** The group's partition of a log beside the group log. @throws NaruError NOT_READY before it is there */
  own(log: OwnLog, groupId: string): PartitionKey {
    const partitions = this.#ownLogs.get(log) ?? [];
    const partition = partitions[logPartitionOf(groupId, partitions.length)];
    if (partition === undefined) throw new NaruError('NOT_READY', `the log ${log} is not there yet`);
    return partition;
  }

  /** The offset of the next record there. */
  ownEnd(log: OwnLog, groupId: string): number {
    const partition = this.own(log, groupId);
    const end = this.#options.partitions.get(partition)?.state.endOffset ?? 0;
    return end + (this.#ahead?.get(partition) ?? 0);
  }

  /** Within `run` the logs end after what was prepared there. */
  ahead<T>(run: () => T): T {
    assert(this.#ahead === null, 'decisions are made together once at a time');
    this.#ahead = new Map();
    try {
      return run();
    } finally {
      this.#ahead = null;
    }
  }

  /** The batches of a decision. What goes before the records that name its offsets is in one journal with them, before them. */
  prepare(groupId: string, { records, appends = [] }: GroupDecision<unknown>, timestampMs: number): GroupWrites {
    const batches: { partition: PartitionKey; batch: Uint8Array }[] = [];
    let bytes = 0;
    const add = (partition: PartitionKey, batch: Uint8Array): void => {
      batches.push({ partition, batch });
      bytes += batch.length;
    };
    const addOwn = (append: OwnLogAppend): void => {
      const partition = this.own(append.log, groupId);
      for (const batch of ownBatches(append)) add(partition, batch);
      this.#ahead?.set(partition, (this.#ahead.get(partition) ?? 0) + append.records.length);
    };
    for (const append of appends) if (append.isAfter !== true) addOwn(append);
    if (records.length > 0) {
      const { key } = this.#partitionOf(groupId);
      for (const batch of groupBatches(records, timestampMs)) add(key, batch);
      for (const append of appends) if (append.isAfter === true) addOwn(append);
    }
    return { batches, bytes };
  }

  /** Stages what was prepared; returns the cycle that makes the last of it durable, 0 when it is nothing. */
  write(groupId: string, { batches }: GroupWrites): number {
    let cycle = 0;
    for (const { partition, batch } of batches) {
      cycle = this.#options.partitions.appendOwn(partition, batch);
      const log = this.#partitionOf(groupId);
      if (partition === log.key) log.grownBytes += batch.length;
    }
    return cycle;
  }

  /** Writes the whole state of the group's partition at its end and deletes what is before, when that saves enough. */
  compact(groupId: string, groups: Iterable<GroupState>): void {
    const log = this.#partitionOf(groupId);
    if (log.grownBytes < Math.max(REWRITE_AFTER_BYTES, REWRITE_AFTER_FACTOR * log.stateBytes)) return;
    const { partitions, commits, store, clock } = this.#options;
    const written = partitions.get(log.key);
    assert(written !== undefined, `group log ${log.key} exists`);
    const startOffset = written.state.endOffset;
    let bytes = 0;
    // Without a group left nothing is written here, and what is deleted may still be on its way to the disk.
    let cycle = written.lastCycle;
    let gathered: EncodedGroupRecord[] = [];
    let gatheredBytes = 0;
    const write = (): void => {
      if (gathered.length === 0) return;
      const batch = encode(gathered, clock.nowMs());
      cycle = partitions.appendOwn(log.key, batch);
      bytes += batch.length;
      gathered = [];
      gatheredBytes = 0;
    };
    for (const group of groups) {
      if (this.#partitionOf(group.groupId) !== log) continue;
      for (const record of groupRecords(group)) {
        const encoded = encodeGroupRecord(record);
        gathered.push(encoded);
        gatheredBytes += encoded.key.length + (encoded.value?.length ?? 0);
        if (gatheredBytes >= REWRITE_BATCH_BYTES) write();
      }
    }
    write();
    log.stateBytes = bytes;
    log.grownBytes = 0;
    commits.after(cycle, (error) => {
      if (error !== null) return;
      const partition = partitions.get(log.key);
      if (partition !== undefined) evolveDeletedBefore(partition.state, startOffset);
      // A failure takes the store offline, which everything else reports.
      store.deleteBefore(log.key, startOffset).catch(() => {});
    });
  }

  #partitionOf(groupId: string): LogPartition {
    const partition = this.#partitions[logPartitionOf(groupId, this.#partitions.length)];
    if (partition === undefined) throw new NaruError('NOT_READY', 'the group log is not there yet');
    return partition;
  }
}

/** Which partition of one of the broker's logs an id belongs to. */
export function logPartitionOf(id: string, partitionCount: number): number {
  return (murmur2(TEXT.encode(id)) >>> 1) % partitionCount;
}

function* ownBatches({ records }: OwnLogAppend): Generator<Uint8Array> {
  let gathered: RecordInput[] = [];
  let bytes = 0;
  for (const record of records) {
    const size = (record.key?.length ?? 0) + (record.value?.length ?? 0);
    if (bytes + size > OWN_BATCH_BYTES && gathered.length > 0) {
      yield encodeBatch(gathered);
      gathered = [];
      bytes = 0;
    }
    gathered.push(record);
    bytes += size;
  }
  if (gathered.length > 0) yield encodeBatch(gathered);
}

/** One, which is atomic, but for decisions that are larger than an append may be: the order of their records must do. */
function* groupBatches(records: readonly GroupRecord[], timestampMs: number): Generator<Uint8Array> {
  let gathered: EncodedGroupRecord[] = [];
  let bytes = 0;
  for (const record of records) {
    const encoded = encodeGroupRecord(record);
    const size = encoded.key.length + (encoded.value?.length ?? 0);
    if (bytes + size > MAX_GROUP_BATCH_BYTES && gathered.length > 0) {
      yield encode(gathered, timestampMs);
      gathered = [];
      bytes = 0;
    }
    gathered.push(encoded);
    bytes += size;
  }
  yield encode(gathered, timestampMs);
}

function encode(records: readonly EncodedGroupRecord[], timestampMs: number): Uint8Array {
  return encodeBatch(records.map(({ key, value }): RecordInput => ({ key, value, timestampMs })));
}
