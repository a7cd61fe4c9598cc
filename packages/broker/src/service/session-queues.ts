/**
 * What a session has of parallel topics: which partitions, and the records that it is given of them.
 *
 * Owns the asking: one request to the shard at a time, while a poll waits. Does not own polls (poller.ts), nor what may be given
 * (core/queue). Partitions of a parallel topic are every subscriber's: they come with the topic and go with it.
 *
 * Invariants: what was acquired goes into the answer to a poll, or is given back, uncounted. A partition that cannot be read just
 * now is asked for again after a wait; one that cannot be read at all is left out.
 */
import { partitionKey, splitPartitionKey, type Clock, type PartitionKey, type Timers } from '@naru/base';
import { NaruError, type Refusal } from '@naru/protocol';
import { isRefusal, type OffsetPosition, type ShardClient } from '../runtime/commands.ts';
import type { MetadataFollower } from '../runtime/metadata-follower.ts';
import type { AcquiredPartition, AcquireRecordsReply } from '../runtime/queue-commands.ts';
import { MAX_RETRY_MS, type AcquiredSource } from './poller.ts';
import { returned, settleRecords } from './queue-settlements.ts';
import type { AssignedPartition, SessionEvent } from './session-events.ts';

/** Of one answer to a poll that does not say. */
const DEFAULT_RECORDS = 1_000;
/** What of acquired records came while nobody waited is given back so often, then their locks do it. */
const RETURN_ATTEMPTS = 3;

let nextAcquireId = 1;

export interface SessionQueuesOptions {
  readonly shard: ShardClient;
  readonly follower: MetadataFollower;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly groupId: string;
  readonly memberId: string;
  readonly topics: readonly string[];
  readonly start: OffsetPosition | null;
  readonly memberEpoch: () => number;
  readonly emit: (event: SessionEvent) => void;
  /** Something has come, or will not come. */
  readonly answered: () => void;
  /** The session ends with it. */
  readonly fail: (error: unknown) => void;
}

export class SessionQueues implements AcquiredSource {
  readonly #options: SessionQueuesOptions;
  /** When each may be asked for again, by the monotonic clock; Infinity: not at all. */
  readonly #partitions = new Map<PartitionKey, number>();
  #paused: ReadonlySet<PartitionKey> = new Set();
  #ready: AcquiredPartition[] = [];
  #acquireId: number | null = null;
  /** A poll waits for what was asked. */
  #isWanted = false;
  #following: Promise<void> = Promise.resolve();
  #closed = false;

  constructor(options: SessionQueuesOptions) {
    this.#options = options;
  }

  /** Takes on what topics there are now, and lets go what is gone; says so. One after the other. */
  follow(): Promise<void> {
    this.#following = this.#following.then(() => this.#follow());
    return this.#following;
  }

  get isAsking(): boolean {
    return this.#acquireId !== null;
  }

  get hasSome(): boolean {
    return this.#ready.length > 0;
  }

  has(partition: PartitionKey): boolean {
    return this.#partitions.has(partition);
  }

  /** The whole set of partitions to leave out from the next poll on. */
  pause(partitions: ReadonlySet<PartitionKey>): void {
    this.#paused = partitions;
    this.rest();
  }

  ask(maxBytes: number, maxRecords: number, maxWaitMs: number): void {
    this.#isWanted = true;
    if (this.#acquireId !== null || this.#closed) return;
    const nowMs = this.#options.clock.monotonicMs();
    const partitions: PartitionKey[] = [];
    let untilMs = nowMs + maxWaitMs;
    for (const [partition, notBeforeMs] of this.#partitions) {
      if (this.#paused.has(partition)) continue;
      if (notBeforeMs <= nowMs) partitions.push(partition);
      else untilMs = Math.min(untilMs, notBeforeMs);
    }
    if (partitions.length === 0) return;
    const acquireId = nextAcquireId++;
    this.#acquireId = acquireId;
    const { shard, groupId, memberId, memberEpoch } = this.#options;
    shard
      .submit({
        type: 'acquire-records',
        acquireId,
        groupId,
        memberId,
        memberEpoch: memberEpoch(),
        partitions,
        maxRecords: maxRecords <= 0 ? DEFAULT_RECORDS : maxRecords,
        maxBytes,
        maxWaitMs: Math.max(0, untilMs - nowMs),
      })
      .then((reply) => this.#came(reply))
      .catch((error: unknown) => {
        this.#acquireId = null;
        this.#options.fail(error);
      });
  }

  take(): readonly AcquiredPartition[] {
    const acquired = this.#ready;
    this.#ready = [];
    return acquired;
  }

  /** No poll waits: what is asked for is answered with what there is. */
  rest(): void {
    this.#isWanted = false;
    this.#cancel();
  }

  /** Gives back what nobody was told of. */
  close(): void {
    this.#closed = true;
    this.#partitions.clear();
    this.rest();
    this.giveBack(this.take());
  }

  /** Uncounted: the member did not get them. */
  giveBack(acquired: readonly AcquiredPartition[]): void {
    if (acquired.length === 0) return;
    this.#giveBack(acquired, RETURN_ATTEMPTS);
  }

  #giveBack(acquired: readonly AcquiredPartition[], attempts: number): void {
    const { shard, groupId, memberId, timers } = this.#options;
    settleRecords(shard, { groupId, memberId, partitions: returned(acquired) })
      .then((refused) => {
        const isRetriable = refused.some(({ refusal }) => NaruError.from(refusal).retriable);
        if (isRetriable && attempts > 1) timers.after(MAX_RETRY_MS, () => this.#giveBack(acquired, attempts - 1));
      })
      // A broker that stops gives everything its whole time again when it starts, and then takes it back.
      .catch(() => {});
  }

  #cancel(): void {
    if (this.#acquireId === null) return;
    this.#options.shard.submit({ type: 'cancel-acquire', acquireId: this.#acquireId }).catch(() => {});
  }

  #came(reply: AcquireRecordsReply | Refusal): void {
    this.#acquireId = null;
    if (isRefusal(reply)) {
      const error = NaruError.from(reply);
      if (!error.retriable) {
        if (!this.#closed) this.#options.fail(error);
        return;
      }
      for (const partition of this.#partitions.keys()) this.#putOff(partition, reply);
    } else {
      for (const { partition, refusal } of reply.failed) this.#putOff(partition, refusal);
      if (this.#isWanted && !this.#closed) this.#ready.push(...reply.partitions);
      else this.giveBack(reply.partitions);
    }
    this.#options.answered();
  }

  #putOff(partition: PartitionKey, refusal: Refusal): void {
    const before = this.#partitions.get(partition);
    if (before === undefined) return;
    if (NaruError.from(refusal).retriable) {
      const { clock, timers, answered } = this.#options;
      this.#partitions.set(partition, Math.max(before, clock.monotonicMs() + MAX_RETRY_MS));
      timers.after(MAX_RETRY_MS, answered);
      return;
    }
    this.#partitions.set(partition, Infinity);
    // That its topic is gone is told by itself.
    if (refusal.code === 'UNKNOWN_TOPIC_OR_PARTITION') return;
    this.#options.emit({ type: 'partition-failed', partition, refusal });
  }

  async #follow(): Promise<void> {
    const { follower, emit, memberEpoch } = this.#options;
    const present = new Map<PartitionKey, string>();
    for (const name of this.#options.topics) {
      const topic = follower.registry.byName(name);
      if (topic?.type !== 'parallel') continue;
      for (let index = 0; index < topic.partitionCount; index++) present.set(partitionKey(topic.id, index), name);
    }
    const gone = [...this.#partitions.keys()].filter((partition) => !present.has(partition));
    for (const partition of gone) this.#partitions.delete(partition);
    if (gone.length > 0) emit({ type: 'revoked', memberEpoch: memberEpoch(), partitions: gone, lost: true });
    const added = [...present.keys()].filter((partition) => !this.#partitions.has(partition));
    if (added.length === 0 || this.#closed) return;
    const assigned = await this.#begin(added, present);
    if (this.#isClosed()) return;
    // Told first, so that no record comes before its assignment.
    emit({ type: 'assigned', memberEpoch: memberEpoch(), partitions: assigned });
    for (const { partition } of assigned) this.#partitions.set(partition, 0);
    // What is asked for now does not know them.
    this.#cancel();
    this.#options.answered();
  }

  #isClosed(): boolean {
    return this.#closed;
  }

  /** Without those that are gone by now. */
  async #begin(added: readonly PartitionKey[], names: ReadonlyMap<PartitionKey, string>): Promise<AssignedPartition[]> {
    const { shard, groupId, memberId, memberEpoch, start, follower } = this.#options;
    const partitions = added.filter((key) => follower.registry.byId(splitPartitionKey(key).topicId) !== undefined);
    const reply = await shard.submit({
      type: 'open-queues',
      groupId,
      memberId,
      memberEpoch: memberEpoch(),
      partitions,
      start,
    });
    if (isRefusal(reply)) throw NaruError.from(reply);
    return reply.map(({ partition, startOffset, highWatermark }) => ({
      topic: names.get(partition) ?? '',
      partition,
      position: startOffset,
      committedOffset: null,
      finished: [],
      metadata: '',
      highWatermark,
      parallel: true,
    }));
  }
}
