/**
 * One commit of a member: what it says of each partition, and what follows from the broker's answer.
 *
 * A partition's outcomes are in one commit at a time: whoever prepares one sees to it that it is accepted or refused. Refused outcomes
 * stay in the partition's book; when the broker has no room for what it would have to keep, the rest is committed without, and
 * that is tried again after a back-off. Does not decide when to commit.
 */
import type { MessageInitShape } from '@bufbuild/protobuf';
import type { PartitionKey, TimerHandle } from '@naru/base';
import { partitionKey, topicIdFromBytes } from '@naru/base';
import type { NaruError } from '@naru/protocol';
import { isNaruError } from '@naru/protocol';
import type { PartitionCommitSchema, PartitionError, PartitionRef } from '@naru/protocol/proto';
import type { BackoffPolicy } from '../backoff.ts';
import { backoffMs } from '../backoff.ts';
import type { Runtime } from '../runtime.ts';
import { fromWireError } from '../transport/wire-errors.ts';
import type { AssignedPartition } from './assigned-partition.ts';
import { MAX_FINISHED_RANGES } from './assigned-partition.ts';
import type { MemberSession } from './member-session.ts';
import { isKept } from './outcome-book.ts';
import type { CommitContents, Concluded, SendLimits } from './outcome-book.ts';
import type { OffsetSpan, WatermarkTracker } from './watermark-tracker.ts';

/** How long the broker is left alone that has no room for held events or dead letters. */
const STALL_BACKOFF: BackoffPolicy = { initialMs: 500, factor: 2, maxMs: 30_000, jitter: 0.2 };

export interface CommitExchangeOptions {
  readonly session: MemberSession;
  readonly runtime: Runtime;
  partitions(): Iterable<AssignedPartition>;
  /** There is something to commit that nobody else asks for. */
  more(): void;
  /** These are durable. */
  concluded(partition: AssignedPartition, entries: readonly Concluded[]): void;
  /** The broker will not keep more of this partition for now, or at all. Null when it does again. */
  stalled(partition: AssignedPartition, error: NaruError | null): void;
}

/** What a commit says of one partition. */
export interface SentCommit {
  readonly partition: AssignedPartition;
  readonly tracker: WatermarkTracker;
  readonly version: number;
  readonly contents: CommitContents;
  /** Finished by the commit and by nothing else. */
  readonly spans: readonly OffsetSpan[];
}

export class CommitExchange {
  readonly #options: CommitExchangeOptions;
  #stalls = 0;
  readonly #stalledPartitions = new Set<AssignedPartition>();
  #stallTimer: TimerHandle | null = null;
  #isClosed = false;

  constructor(options: CommitExchangeOptions) {
    this.#options = options;
  }

  /** What is to be said of the partition, for which its book waits then; null when there is nothing new. */
  prepare(partition: AssignedPartition, limits: Omit<SendLimits, 'maxRanges'> = {}): SentCommit | null {
    const { tracker } = partition;
    const { version } = tracker;
    const spans = limits.spans ?? [];
    const contents = partition.outcomes.send(tracker, { ...limits, maxRanges: MAX_FINISHED_RANGES });
    const isNew =
      contents.outcomes.length > 0 ||
      spans.length > 0 ||
      partition.outcomes.sent().length > 0 ||
      version !== partition.committedVersion;
    return isNew ? { partition, tracker, version, contents, spans } : null;
  }

  /** Commits. Resolves when it is durable; rejects with the first refusal. */
  async exchange(sent: readonly SentCommit[]): Promise<void> {
    let isAnswered = false;
    try {
      const refused = await this.#options.session.commit(sent.map(toWire), (errors) => {
        isAnswered = true;
        this.answered(sent, errors);
      });
      const first = refused[0]?.error;
      if (first !== undefined) throw fromWireError(first);
    } finally {
      if (!isAnswered) this.refused(sent);
    }
  }

  /** Accepted, but for what was refused. */
  answered(sent: readonly SentCommit[], refused: readonly PartitionError[]): void {
    const errors = byPartition(refused);
    let isMore = false;
    for (const one of sent) {
      const { partition } = one;
      if (!errors.has(partition.key)) this.#accepted(one);
      else this.#refused(one, errors.get(partition.key));
      isMore ||= partition.state !== 'gone' && partition.outcomes.hasSendable;
    }
    if (isMore && refused.length === 0) this.#options.more();
  }

  /** Nothing of it was accepted, for the sake of these partitions or for another reason. */
  refused(sent: readonly SentCommit[], refused: readonly PartitionError[] = []): void {
    const errors = byPartition(refused);
    for (const one of sent) this.#refused(one, errors.get(one.partition.key));
  }

  close(): void {
    this.#isClosed = true;
    this.#stallTimer?.cancel();
  }

  #accepted({ partition, tracker, version, spans }: SentCommit): void {
    const wasUnchanged = tracker.version === version;
    const entries = partition.outcomes.accepted();
    for (const { taken, offset } of entries) {
      if (taken === null) continue;
      if (!taken.tracker.isFinished(offset)) taken.tracker.finish(offset);
      partition.letGo(taken.batch);
    }
    for (const span of spans) tracker.finishSpan(span);
    if (entries.some(isKept) && this.#stalledPartitions.delete(partition)) {
      this.#stalls = 0;
      this.#options.stalled(partition, null);
    }
    for (const { accepted } of entries) accepted?.();
    if (tracker !== partition.tracker || partition.state === 'gone') return;
    partition.committedVersion = wasUnchanged ? tracker.version : Math.max(partition.committedVersion, version);
    if (entries.length > 0) this.#options.concluded(partition, entries);
  }

  #refused({ partition }: SentCommit, wire: PartitionError['error']): void {
    for (const { taken } of partition.outcomes.refused(partition.tracker)) {
      if (taken !== null) partition.letGo(taken.batch);
    }
    if (wire === undefined) return;
    const error = fromWireError(wire);
    if (!isNaruError(error, 'HELD_LIMIT_REACHED', 'INCONSISTENT_GROUP_PROTOCOL')) return;
    const { runtime } = this.#options;
    partition.outcomes.isStalled = true;
    if (!this.#stalledPartitions.has(partition)) this.#options.stalled(partition, error);
    this.#stalledPartitions.add(partition);
    this.#options.more();
    if (this.#stallTimer !== null || this.#isClosed) return;
    this.#stalls += 1;
    this.#stallTimer = runtime.timers.after(backoffMs(STALL_BACKOFF, this.#stalls, runtime.random), () => {
      this.#stallTimer = null;
      for (const one of this.#options.partitions()) one.outcomes.isStalled = false;
      this.#options.more();
    });
  }
}

export function refKey({ topicId, partition }: PartitionRef): PartitionKey {
  return partitionKey(topicIdFromBytes(topicId), partition);
}

export function isDirty(partition: AssignedPartition): boolean {
  return partition.hasUncommitted && partition.state !== 'gone';
}

export function toWire({ partition, contents }: SentCommit): MessageInitShape<typeof PartitionCommitSchema> {
  return {
    partition: partition.ref,
    offset: BigInt(contents.offset),
    finished: contents.finished.map(({ from, to }) => ({ from: BigInt(from), to: BigInt(to) })),
    outcomes: [...contents.outcomes],
  };
}

function byPartition(errors: readonly PartitionError[]): Map<PartitionKey | undefined, PartitionError['error']> {
  return new Map(errors.map(({ partition, error }) => [partition && refKey(partition), error]));
}
