/**
 * Where a subscriber reads: a position for each of its partitions, and the long polls that move them.
 *
 * Owns positions. Does not own which partitions there are (subscriber-session.ts).
 *
 * Invariants: polls are answered in their order, one fetch at a time, so that no batch is given twice; a position that
 * was moved, paused or taken away while a fetch was under way takes nothing of that fetch. A partition that cannot be read
 * just now is asked for again after a wait, while the others go on; one that cannot be read at all is left out until moved.
 */
import type { Clock, PartitionKey, Timers } from '@naru/base';
import { NaruError, refuse, type Refusal } from '@naru/protocol';
import {
  isRefusal,
  type FetchedPartition,
  type FetchReply,
  type OffsetPosition,
  type ShardClient,
} from '../runtime/commands.ts';
import { newFetchId } from './long-poll.ts';

/** Polls of one subscriber that wait. */
export const MAX_WAITING_POLLS = 8;
export const MAX_POLL_WAIT_MS = 5 * 60_000;
export const DEFAULT_POLL_BYTES = 1024 * 1024;
export const MAX_POLL_BYTES = 16 * 1024 * 1024;
/** First and longest wait before a partition that cannot be read just now is asked for again. */
export const FIRST_RETRY_MS = 50;
export const MAX_RETRY_MS = 1_000;

export interface PolledPartition {
  readonly partition: PartitionKey;
  readonly batches: readonly Uint8Array[];
  readonly highWatermark: number;
}

export type PollerEvent =
  | { readonly type: 'records'; readonly pollId: number; readonly partitions: readonly PolledPartition[] }
  | { readonly type: 'position-reset'; readonly partition: PartitionKey; readonly from: number; readonly to: number }
  | { readonly type: 'partition-failed'; readonly partition: PartitionKey; readonly refusal: Refusal };

interface Position {
  offset: number;
  /** New, and never given before, when the position is moved from outside. */
  generation: number;
  paused: boolean;
  failed: boolean;
  /** It is left out until then, by the monotonic clock. */
  notBeforeMs: number;
  /** The wait that ends then; 0 when the last fetch was not refused. */
  retryMs: number;
}

interface Poll {
  readonly pollId: number;
  readonly maxBytes: number;
  readonly deadlineMs: number;
}

export interface PollerOptions {
  readonly shard: ShardClient;
  readonly clock: Clock;
  readonly timers: Timers;
  /** Where to go on when a position is outside the log; null: nowhere, the partition fails with OFFSET_OUT_OF_RANGE. */
  readonly start: OffsetPosition | null;
  readonly emit: (event: PollerEvent) => void;
  /** Null when the subscriber takes more records now; else resolves when to look again. */
  readonly room: () => Promise<void> | null;
  /** The poller stops after it. */
  readonly fail: (error: unknown) => void;
}

export class Poller {
  readonly #options: PollerOptions;
  readonly #positions = new Map<PartitionKey, Position>();
  readonly #polls: Poll[] = [];
  #nextGeneration = 1;
  #running = false;
  #closed = false;
  #fetchId: number | null = null;
  /** Ends the wait of a poll that has nothing to read from. */
  #wake: (() => void) | null = null;

  constructor(options: PollerOptions) {
    this.#options = options;
  }

  partitions(): PartitionKey[] {
    return [...this.#positions.keys()];
  }

  has(partition: PartitionKey): boolean {
    return this.#positions.has(partition);
  }

  /** Begins to read a partition, or moves its position. */
  place(partition: PartitionKey, offset: number): void {
    const paused = this.#positions.get(partition)?.paused ?? false;
    const generation = this.#nextGeneration++;
    this.#positions.set(partition, { offset, generation, paused, failed: false, notBeforeMs: 0, retryMs: 0 });
    this.#changed();
  }

  remove(partition: PartitionKey): void {
    if (this.#positions.delete(partition)) this.#changed();
  }

  /** The whole set of partitions to leave out. */
  pause(partitions: ReadonlySet<PartitionKey>): void {
    for (const [partition, position] of this.#positions) {
      const paused = partitions.has(partition);
      if (position.paused !== paused) {
        position.paused = paused;
        // What a fetch under way brings was asked for before; it is not given, and read again later.
        position.generation = this.#nextGeneration++;
      }
    }
    this.#changed();
  }

  poll(pollId: number, maxBytes: number, maxWaitMs: number): Refusal | null {
    if (this.#closed) return null;
    if (this.#polls.length >= MAX_WAITING_POLLS) {
      return refuse(
        'INVALID_REQUEST',
        `${MAX_WAITING_POLLS} polls wait already, which is the limit: wait for an answer`,
      );
    }
    const deadlineMs = this.#options.clock.monotonicMs() + Math.min(Math.max(0, maxWaitMs), MAX_POLL_WAIT_MS);
    const bytes = maxBytes <= 0 ? DEFAULT_POLL_BYTES : Math.min(maxBytes, MAX_POLL_BYTES);
    this.#polls.push({ pollId, maxBytes: bytes, deadlineMs });
    if (!this.#running) {
      this.#running = true;
      this.#run().catch(this.#options.fail);
    }
    return null;
  }

  close(): void {
    this.#closed = true;
    this.#polls.length = 0;
    this.#positions.clear();
    this.#changed();
  }

  #changed(): void {
    this.#wake?.();
    if (this.#fetchId !== null)
      this.#forgetReply(this.#options.shard.submit({ type: 'cancel-fetch', fetchId: this.#fetchId }));
  }

  /** A shard that is closing answers every fetch itself. */
  #forgetReply(reply: Promise<unknown>): void {
    reply.catch(() => {});
  }

  async #run(): Promise<void> {
    try {
      for (let poll = this.#polls[0]; poll !== undefined; poll = this.#polls[0]) {
        for (let room = this.#options.room(); room !== null && !this.#closed; room = this.#options.room()) await room;
        const partitions = await this.#answer(poll);
        if (this.#closed) return;
        this.#polls.shift();
        this.#options.emit({ type: 'records', pollId: poll.pollId, partitions });
      }
    } finally {
      // Here, not in a promise of the caller: a poll that comes in between would be answered by nobody.
      this.#running = false;
    }
  }

  async #answer(poll: Poll): Promise<PolledPartition[]> {
    for (;;) {
      const nowMs = this.#options.clock.monotonicMs();
      const wanted = [...this.#positions].filter(([, position]) => !position.paused && !position.failed);
      const active = wanted.filter(([, { notBeforeMs }]) => notBeforeMs <= nowMs);
      let untilMs = poll.deadlineMs;
      for (const [, { notBeforeMs }] of wanted) if (notBeforeMs > nowMs) untilMs = Math.min(untilMs, notBeforeMs);
      if (active.length === 0) {
        if (poll.deadlineMs <= nowMs || this.#closed) return [];
        await this.#waitForChange(untilMs - nowMs);
        continue;
      }
      const taken = await this.#fetch(poll, active, Math.max(0, untilMs - nowMs));
      if (taken.length > 0 || this.#closed || this.#options.clock.monotonicMs() >= poll.deadlineMs) return taken;
    }
  }

  async #fetch(poll: Poll, active: [PartitionKey, Position][], maxWaitMs: number): Promise<PolledPartition[]> {
    const fetchId = newFetchId();
    this.#fetchId = fetchId;
    const asked = new Map(active.map(([partition, { offset, generation }]) => [partition, { offset, generation }]));
    const reply: FetchReply | Refusal = await this.#options.shard
      .submit({
        type: 'fetch',
        fetchId,
        partitions: active.map(([partition, { offset }]) => ({ partition, offset, maxBytes: poll.maxBytes })),
        minBytes: 1,
        maxBytes: poll.maxBytes,
        maxWaitMs,
      })
      .finally(() => {
        this.#fetchId = null;
      });
    if (isRefusal(reply)) return [];
    const taken: PolledPartition[] = [];
    for (const fetched of reply.partitions) {
      const position = this.#positions.get(fetched.partition);
      if (position === undefined || position.generation !== asked.get(fetched.partition)?.generation) continue;
      if (fetched.refusal !== null) {
        await this.#refused(fetched, position, fetched.refusal);
        continue;
      }
      position.offset = fetched.nextOffset;
      position.retryMs = 0;
      // Those that were served go to the end of the line.
      this.#positions.delete(fetched.partition);
      this.#positions.set(fetched.partition, position);
      taken.push({ partition: fetched.partition, batches: fetched.batches, highWatermark: fetched.highWatermark });
    }
    return taken;
  }

  async #refused(fetched: FetchedPartition, position: Position, refusal: Refusal): Promise<void> {
    const { partition } = fetched;
    const { start, shard } = this.#options;
    if (refusal.code === 'OFFSET_OUT_OF_RANGE' && start !== null) {
      const { generation, offset: from } = position;
      const found = await shard.submit({ type: 'find-offset', partition, position: start });
      if (this.#positions.get(partition)?.generation !== generation) return;
      if (isRefusal(found)) return this.#unreadable(partition, position, found);
      position.offset = found.offset;
      this.#options.emit({ type: 'position-reset', partition, from, to: found.offset });
      return;
    }
    this.#unreadable(partition, position, refusal);
  }

  #unreadable(partition: PartitionKey, position: Position, refusal: Refusal): void {
    if (NaruError.from(refusal).retriable) {
      position.retryMs = Math.min(Math.max(position.retryMs * 2, FIRST_RETRY_MS), MAX_RETRY_MS);
      position.notBeforeMs = this.#options.clock.monotonicMs() + position.retryMs;
      return;
    }
    position.failed = true;
    this.#options.emit({ type: 'partition-failed', partition, refusal });
  }

  #waitForChange(maxWaitMs: number): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        timer.cancel();
        this.#wake = null;
        resolve();
      };
      const timer = this.#options.timers.after(maxWaitMs, done);
      this.#wake = done;
    });
  }
}
