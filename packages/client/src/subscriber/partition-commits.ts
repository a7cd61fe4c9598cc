/**
 * Commits of a member: offsets, finished ranges and outcomes, one commit at a time.
 *
 * One at a time, since a commit says as finished what an outcome in it takes over, and one that overtook the answer would say it
 * is not. Refused outcomes stay in the partition's book; when the broker has no room for what it would have to keep, the rest is
 * committed without, and that is tried again after a back-off.
 */
import type { MessageInitShape } from '@bufbuild/protobuf';
import type { PartitionKey, TimerHandle } from '@naru/base';
import { partitionKey, topicIdFromBytes } from '@naru/base';
import { NaruError, isNaruError } from '@naru/protocol';
import type { PartitionCommitSchema, PartitionError, PartitionRef } from '@naru/protocol/proto';
import type { BackoffPolicy } from '../backoff.ts';
import { backoffMs } from '../backoff.ts';
import type { Runtime } from '../runtime.ts';
import { fromWireError } from '../transport/wire-errors.ts';
import type { AssignedPartition } from './assigned-partition.ts';
import { MAX_FINISHED_RANGES } from './assigned-partition.ts';
import type { MemberSession } from './member-session.ts';
import { isKept } from './outcome-book.ts';
import type { CommitContents, Concluded } from './outcome-book.ts';
import type { WatermarkTracker } from './watermark-tracker.ts';

/** How long an outcome waits for others, milliseconds. */
const OUTCOME_LINGER_MS = 2;
/** How long the broker is left alone that has no room for held events or dead letters. */
const STALL_BACKOFF: BackoffPolicy = { initialMs: 500, factor: 2, maxMs: 30_000, jitter: 0.2 };

export interface PartitionCommitsOptions {
  readonly session: MemberSession;
  readonly runtime: Runtime;
  /** Whether outcomes may be committed when nobody has asked for it. */
  readonly isAutomatic: boolean;
  partitions(): Iterable<AssignedPartition>;
  /** These are durable. */
  concluded(partition: AssignedPartition, entries: readonly Concluded[]): void;
  /** The broker will not keep more of this partition for now, or at all. Null when it does again. */
  stalled(partition: AssignedPartition, error: NaruError | null): void;
}

interface SentCommit {
  readonly partition: AssignedPartition;
  readonly tracker: WatermarkTracker;
  readonly version: number;
  readonly contents: CommitContents;
}

export class PartitionCommits {
  readonly #options: PartitionCommitsOptions;
  #last: Promise<unknown> = Promise.resolve();
  #soon: TimerHandle | null = null;
  #stalls = 0;
  readonly #stalledPartitions = new Set<AssignedPartition>();
  #stallTimer: TimerHandle | null = null;
  #isClosed = false;

  constructor(options: PartitionCommitsOptions) {
    this.#options = options;
  }

  /** Commits what of these partitions is finished and not committed. Resolves when it is durable; rejects with the first refusal. */
  commit(partitions: readonly AssignedPartition[]): Promise<void> {
    const turn = this.#last.then(() => this.#commit(partitions));
    this.#last = turn.catch(() => {});
    return turn;
  }

  /** There are outcomes that somebody waits for. */
  soon(): void {
    if (this.#soon !== null || this.#isClosed || !this.#options.isAutomatic) return;
    const { runtime } = this.#options;
    this.#soon = runtime.timers.after(OUTCOME_LINGER_MS, () => {
      this.#soon = null;
      this.commit([...this.#options.partitions()]).catch((error: unknown) => {
        // The next automatic commit says it again.
        runtime.logger.warn({ error: String(error) }, 'outcomes were not committed');
      });
    });
  }

  close(): void {
    this.#isClosed = true;
    this.#soon?.cancel();
    this.#stallTimer?.cancel();
  }

  async #commit(partitions: readonly AssignedPartition[]): Promise<void> {
    const sent = partitions.filter(isDirty).map(prepare).filter(isWorthSending);
    const lost = partitions.find((partition) => partition.state === 'gone' && partition.hasUncommitted);
    if (sent.length > 0) await this.#exchange(sent);
    if (lost === undefined) return;
    throw new NaruError('NOT_ASSIGNED', `${lost.topic}/${lost.partition} is no longer this member's: not committed`);
  }

  async #exchange(sent: readonly SentCommit[]): Promise<void> {
    const wire = sent.map(toWire);
    let isAnswered = false;
    try {
      const refused = await this.#options.session.commit(wire, (errors) => {
        isAnswered = true;
        this.#answered(sent, errors);
      });
      const first = refused[0]?.error;
      if (first !== undefined) throw fromWireError(first);
    } finally {
      if (!isAnswered) for (const { partition } of sent) partition.outcomes.refused();
    }
  }

  #answered(sent: readonly SentCommit[], refused: readonly PartitionError[]): void {
    const errors = new Map(refused.map(({ partition, error }) => [partition && refKey(partition), error]));
    let isMore = false;
    for (const one of sent) {
      const { partition } = one;
      if (!errors.has(partition.key)) this.#accepted(one);
      else {
        partition.outcomes.refused();
        const error = errors.get(partition.key);
        if (error !== undefined) this.#refused(partition, fromWireError(error));
      }
      isMore ||= partition.state !== 'gone' && partition.outcomes.hasSendable;
    }
    if (isMore && refused.length === 0) this.soon();
  }

  #accepted({ partition, tracker, version }: SentCommit): void {
    const wasUnchanged = tracker.version === version;
    const entries = partition.outcomes.accepted();
    for (const { taken, offset } of entries) {
      if (taken === null) continue;
      if (!taken.tracker.isFinished(offset)) taken.tracker.finish(offset);
      partition.letGo(taken.batch);
    }
    if (entries.some(isKept) && this.#stalledPartitions.delete(partition)) {
      this.#stalls = 0;
      this.#options.stalled(partition, null);
    }
    if (tracker !== partition.tracker || partition.state === 'gone') return;
    partition.committedVersion = wasUnchanged ? tracker.version : Math.max(partition.committedVersion, version);
    for (const { accepted } of entries) accepted?.();
    if (entries.length > 0) this.#options.concluded(partition, entries);
  }

  #refused(partition: AssignedPartition, error: NaruError): void {
    if (!isNaruError(error, 'HELD_LIMIT_REACHED', 'INCONSISTENT_GROUP_PROTOCOL')) return;
    const { runtime } = this.#options;
    partition.outcomes.isStalled = true;
    if (!this.#stalledPartitions.has(partition)) this.#options.stalled(partition, error);
    this.#stalledPartitions.add(partition);
    this.soon();
    if (this.#stallTimer !== null || this.#isClosed) return;
    this.#stalls += 1;
    this.#stallTimer = runtime.timers.after(backoffMs(STALL_BACKOFF, this.#stalls, runtime.random), () => {
      this.#stallTimer = null;
      for (const one of this.#options.partitions()) one.outcomes.isStalled = false;
      this.soon();
    });
  }
}

export function refKey({ topicId, partition }: PartitionRef): PartitionKey {
  return partitionKey(topicIdFromBytes(topicId), partition);
}

function isDirty(partition: AssignedPartition): boolean {
  return partition.hasUncommitted && partition.state !== 'gone';
}

function prepare(partition: AssignedPartition): SentCommit {
  const { tracker } = partition;
  return {
    partition,
    tracker,
    version: tracker.version,
    contents: partition.outcomes.send(tracker, MAX_FINISHED_RANGES),
  };
}

function isWorthSending({ partition, version, contents }: SentCommit): boolean {
  return contents.outcomes.length > 0 || version !== partition.committedVersion;
}

function toWire({ partition, contents }: SentCommit): MessageInitShape<typeof PartitionCommitSchema> {
  return {
    partition: partition.ref,
    offset: BigInt(contents.offset),
    finished: contents.finished.map(({ from, to }) => ({ from: BigInt(from), to: BigInt(to) })),
    outcomes: [...contents.outcomes],
  };
}
