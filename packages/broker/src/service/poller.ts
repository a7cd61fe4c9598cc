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
import { isNaruError, NaruError, refuse, type Refusal } from '@naru/protocol';
import {
  isRefusal,
  type FetchedPartition,
  type FetchReply,
  type OffsetPosition,
  type ShardClient,
} from '../runtime/commands.ts';
import type { AcquiredPartition } from '../runtime/queue-commands.ts';
import { newFetchId } from './long-poll.ts';

/** Polls of one subscriber that wait. */
export const MAX_WAITING_POLLS = 8;
export const MAX_POLL_WAIT_MS = 5 * 60_000;
export const DEFAULT_POLL_BYTES = 1024 * 1024;
export const MAX_POLL_BYTES = 16 * 1024 * 1024;
/** Of a partition with a gate. */
const GATED_FETCH_BYTES = 256 * 1024;
/** First and longest wait before a partition that cannot be read just now is asked for again. */
export const FIRST_RETRY_MS = 50;
export const MAX_RETRY_MS = 1_000;

export interface PolledPartition {
  readonly partition: PartitionKey;
  readonly batches: readonly Uint8Array[];
  readonly highWatermark: number;
  /** Offsets that are left out for now, ascending: see {@link ReadingGate}. Absent for none. */
  readonly withheld?: readonly number[] | undefined;
}

/** Holds records back from a subscriber. Told of every move of a position, so that it knows which ones were given. */
export interface ReadingGate {
  /** Reading waits at this offset and beyond; Infinity where nothing is held back. */
  limitOf(partition: PartitionKey): number;
  /** What of a fetch is given; the position is `nextOffset` after it. @throws NaruError for a batch that cannot be read */
  pass(fetched: GatedFetch): PassedFetch;
  /** The position was moved: nothing that was read before is of interest any more. */
  moved(partition: PartitionKey): void;
  /** What was read from `offset` on is read again. */
  movedBack(partition: PartitionKey, offset: number): void;
  removed(partition: PartitionKey): void;
}

export interface GatedFetch {
  readonly partition: PartitionKey;
  /** Where it begins: the first batch may begin before. */
  readonly offset: number;
  readonly batches: readonly Uint8Array[];
  readonly nextOffset: number;
}

export type PassedFetch = Pick<PolledPartition, 'batches' | 'withheld'> & { readonly nextOffset: number };

/** Gives single records of parallel topics, which have no position. */
export interface AcquiredSource {
  /** Asks for records, unless that is under way: what came before is in {@link take}. */
  ask(maxBytes: number, maxRecords: number, maxWaitMs: number): void;
  readonly isAsking: boolean;
  readonly hasSome: boolean;
  /** What has come. */
  take(): readonly AcquiredPartition[];
  /** No poll waits any more. */
  rest(): void;
}

export type PollerEvent =
  | {
      readonly type: 'records';
      readonly pollId: number;
      readonly partitions: readonly PolledPartition[];
      /** Of parallel topics. */
      readonly acquired?: readonly AcquiredPartition[] | undefined;
    }
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

/** Of one partition, with the position that it was read for. */
interface Taken {
  readonly position: Position;
  readonly polled: PolledPartition;
}

interface Poll {
  readonly pollId: number;
  readonly maxBytes: number;
  /** Of parallel topics; 0 for the default. */
  readonly maxRecords: number;
  readonly deadlineMs: number;
}

export interface PollerOptions {
  readonly shard: ShardClient;
  readonly clock: Clock;
  readonly timers: Timers;
  /** Reads what may yet be aborted, too, and markers; else only what is committed, up to the first open transaction. */
  readonly uncommitted?: boolean | undefined;
  /** Where to go on when a position is outside the log; null: nowhere, the partition fails with OFFSET_OUT_OF_RANGE. */
  readonly start: OffsetPosition | null;
  readonly emit: (event: PollerEvent) => void;
  /** Null when the subscriber takes more records now; else resolves when to look again. */
  readonly room: () => Promise<void> | null;
  /** The poller stops after it. */
  readonly fail: (error: unknown) => void;
  /** Default: everything is given. */
  readonly gate?: ReadingGate | undefined;
  /** Whoever brings it calls {@link Poller.acquired} when something came, or nothing will. Default: none. */
  readonly queues?: AcquiredSource | undefined;
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
  /** For those who wait for a poll. */
  #asked: PromiseWithResolvers<void> | null = null;
  /** The first poll is to be answered at once. */
  #interrupted = false;

  constructor(options: PollerOptions) {
    this.#options = options;
  }

  partitions(): PartitionKey[] {
    return [...this.#positions.keys()];
  }

  /** The offset that is read next; null for a partition that is not read. */
  positionOf(partition: PartitionKey): number | null {
    return this.#positions.get(partition)?.offset ?? null;
  }

  has(partition: PartitionKey): boolean {
    return this.#positions.has(partition);
  }

  isPaused(partition: PartitionKey): boolean {
    return this.#positions.get(partition)?.paused === true;
  }

  /** The gate lets more through. */
  gateOpened(): void {
    this.#changed();
  }

  /** Records of parallel topics have come, or will not come. */
  acquired(): void {
    this.#changed();
  }

  /** Null when a poll waits; else resolves when one comes, or when there will be none. */
  asked(): Promise<void> | null {
    if (this.#polls.length > 0 || this.#closed) return null;
    this.#asked ??= Promise.withResolvers<void>();
    return this.#asked.promise;
  }

  /** Answers the poll that waits at once, with what there is: the subscriber got something else. */
  interrupt(): void {
    if (this.#polls.length === 0) return;
    this.#interrupted = true;
    this.#changed();
  }

  #noteAsked(): void {
    this.#asked?.resolve();
    this.#asked = null;
  }

  /** Reads a partition again from `offset` on, in its turn after the others. */
  moveBack(partition: PartitionKey, offset: number): void {
    if (!this.#positions.delete(partition)) return;
    this.#options.gate?.movedBack(partition, offset);
    this.place(partition, offset);
  }

  /** Begins to read a partition, or moves its position. */
  place(partition: PartitionKey, offset: number): void {
    if (this.#positions.has(partition)) this.#options.gate?.moved(partition);
    const paused = this.#positions.get(partition)?.paused ?? false;
    const generation = this.#nextGeneration++;
    this.#positions.set(partition, { offset, generation, paused, failed: false, notBeforeMs: 0, retryMs: 0 });
    this.#changed();
  }

  remove(partition: PartitionKey): void {
    this.#options.gate?.removed(partition);
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

  poll(pollId: number, maxBytes: number, maxWaitMs: number, maxRecords = 0): Refusal | null {
    if (this.#closed) return null;
    if (this.#polls.length >= MAX_WAITING_POLLS) {
      return refuse(
        'INVALID_REQUEST',
        `${MAX_WAITING_POLLS} polls wait already, which is the limit: wait for an answer`,
      );
    }
    const deadlineMs = this.#options.clock.monotonicMs() + Math.min(Math.max(0, maxWaitMs), MAX_POLL_WAIT_MS);
    const bytes = maxBytes <= 0 ? DEFAULT_POLL_BYTES : Math.min(maxBytes, MAX_POLL_BYTES);
    this.#polls.push({ pollId, maxBytes: bytes, maxRecords, deadlineMs });
    this.#noteAsked();
    if (!this.#running) {
      this.#running = true;
      this.#run().catch(this.#options.fail);
    }
    return null;
  }

  close(): void {
    this.#closed = true;
    this.#noteAsked();
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
        const taken = await this.#answer(poll);
        if (this.#closed) return;
        this.#polls.shift();
        this.#interrupted = false;
        // One that was moved or taken away in the last moment takes nothing of it.
        const current = taken.filter(({ position, polled }) => this.#positions.get(polled.partition) === position);
        const partitions = current.map(({ polled }) => polled);
        const acquired = this.#options.queues?.take() ?? [];
        this.#options.queues?.rest();
        const records = { type: 'records', pollId: poll.pollId, partitions } as const;
        this.#options.emit(acquired.length === 0 ? records : { ...records, acquired });
      }
    } finally {
      // Here, not in a promise of the caller: a poll that comes in between would be answered by nobody.
      this.#running = false;
    }
  }

  async #answer(poll: Poll): Promise<Taken[]> {
    const { queues } = this.#options;
    for (let isFirst = true; ; isFirst = false) {
      const nowMs = this.#options.clock.monotonicMs();
      if (queues?.hasSome === true) return [];
      const isOver = poll.deadlineMs <= nowMs || this.#closed || this.#interrupted;
      if (isOver && queues?.isAsking === true && !isFirst) {
        if (this.#closed) return [];
        if (this.#interrupted) queues.rest();
        // It comes soon, and may bring something.
        await this.#waitForChange(MAX_POLL_WAIT_MS);
        continue;
      }
      if (isFirst || !isOver) queues?.ask(poll.maxBytes, poll.maxRecords, Math.max(0, poll.deadlineMs - nowMs));
      const wanted = [...this.#positions].filter(([partition, position]) => this.#isWanted(partition, position));
      const active = wanted.filter(([, { notBeforeMs }]) => notBeforeMs <= nowMs);
      let untilMs = poll.deadlineMs;
      for (const [, { notBeforeMs }] of wanted) if (notBeforeMs > nowMs) untilMs = Math.min(untilMs, notBeforeMs);
      if (active.length === 0) {
        if (isOver && queues?.isAsking !== true) return [];
        await this.#waitForChange(Math.max(0, untilMs - nowMs));
        continue;
      }
      const taken = await this.#fetch(poll, active, Math.max(0, untilMs - nowMs));
      if (taken.length > 0 || (this.#isOver(poll) && queues?.isAsking !== true)) return taken;
    }
  }

  get #isCommitted(): boolean {
    return this.#options.uncommitted !== true;
  }

  #isOver({ deadlineMs }: Poll): boolean {
    return this.#closed || this.#interrupted || this.#options.clock.monotonicMs() >= deadlineMs;
  }

  #isWanted(partition: PartitionKey, { paused, failed, offset }: Position): boolean {
    const { gate } = this.#options;
    return !paused && !failed && (gate === undefined || offset < gate.limitOf(partition));
  }

  async #fetch(poll: Poll, active: [PartitionKey, Position][], maxWaitMs: number): Promise<Taken[]> {
    const fetchId = newFetchId();
    this.#fetchId = fetchId;
    const asked = new Map(active.map(([partition, { generation }]) => [partition, { generation }]));
    const reply: FetchReply | Refusal = await this.#options.shard
      .submit({
        type: 'fetch',
        fetchId,
        partitions: active.map(([partition, { offset }]) => {
          return { partition, offset, maxBytes: Math.min(poll.maxBytes, this.#maxBytesOf(partition)) };
        }),
        minBytes: 1,
        maxBytes: poll.maxBytes,
        maxWaitMs,
        view: this.#isCommitted ? 'committed' : 'all',
      })
      .finally(() => {
        this.#fetchId = null;
      });
    if (isRefusal(reply)) return [];
    const current = (partition: PartitionKey): Position | undefined => {
      const position = this.#positions.get(partition);
      return position?.generation === asked.get(partition)?.generation ? position : undefined;
    };
    for (const fetched of reply.partitions) {
      const position = current(fetched.partition);
      if (position !== undefined && fetched.refusal !== null) await this.#refused(fetched, position, fetched.refusal);
    }
    const taken: Taken[] = [];
    for (const fetched of reply.partitions) {
      const position = current(fetched.partition);
      if (position === undefined || fetched.refusal !== null) continue;
      const passed = this.#pass(fetched, position);
      if (passed === null) continue;
      position.offset = passed.nextOffset;
      position.retryMs = 0;
      // Those that were served go to the end of the line.
      this.#positions.delete(fetched.partition);
      this.#positions.set(fetched.partition, position);
      const { batches, withheld } = passed;
      if (batches.length === 0 && withheld === undefined) continue;
      const { partition, highWatermark } = fetched;
      const polled = { partition, batches, highWatermark, ...(withheld === undefined ? {} : { withheld }) };
      taken.push({ position, polled });
    }
    return taken;
  }

  /** Of what is read beyond the gate nothing is used. */
  #maxBytesOf(partition: PartitionKey): number {
    const { gate } = this.#options;
    return gate === undefined || gate.limitOf(partition) === Infinity ? MAX_POLL_BYTES : GATED_FETCH_BYTES;
  }

  /** What of a fetch is given; null when it cannot be read. */
  #pass(fetched: FetchedPartition, position: Position): PassedFetch | null {
    const { gate } = this.#options;
    if (gate === undefined) return fetched;
    const { partition, batches, nextOffset } = fetched;
    try {
      return gate.pass({ partition, offset: position.offset, batches, nextOffset });
    } catch (error) {
      if (!isNaruError(error)) throw error;
      this.#unreadable(partition, position, error.toRefusal());
      return null;
    }
  }

  async #refused(fetched: FetchedPartition, position: Position, refusal: Refusal): Promise<void> {
    const { partition } = fetched;
    const { start, shard } = this.#options;
    if (refusal.code === 'OFFSET_OUT_OF_RANGE' && start !== null) {
      const { generation, offset: from } = position;
      const found = await shard.submit({
        type: 'find-offset',
        partition,
        position: start,
        isStable: this.#isCommitted,
      });
      if (this.#positions.get(partition)?.generation !== generation) return;
      if (isRefusal(found)) return this.#unreadable(partition, position, found);
      position.offset = found.offset;
      this.#options.gate?.moved(partition);
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
