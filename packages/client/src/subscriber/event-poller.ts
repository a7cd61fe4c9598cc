/**
 * The pull form: an asynchronous iterator of batches, each the next events of one partition. Leaving the loop releases
 * the membership.
 */
import { NaruError } from '@naru/protocol';
import type { TimerHandle } from '@naru/base';
import type { CallOptions } from '../call-options.ts';
import type { Runtime } from '../runtime.ts';
import type { Serde } from '../serde/serde.ts';
import { json } from '../serde/serde.ts';
import type { SubscriberSettings } from '../settings.ts';
import type { AssignedPartition, TakenRecord } from './assigned-partition.ts';
import { Consumption } from './consumption.ts';
import type { Consumer } from './consumption.ts';
import { NaruEvent } from './event.ts';
import type { StartPosition } from './start-position.ts';
import { subscriberSettings } from './subscriber.ts';
import type { SubscriberContext } from './subscriber.ts';

/** Everything in the settings' `subscriber` section can be given here too, and wins; `autoCommit` is off by default. */
export interface PollOptions extends Partial<SubscriberSettings> {
  /** The consumer group; without one, all partitions are read and nothing is committed. */
  readonly group?: string | undefined;
  readonly topics: readonly string[];
  /** Where to begin without a committed offset. Default `beginning`. */
  readonly from?: StartPosition | undefined;
  readonly instanceId?: string | undefined;
  /** How values are read. Default JSON. */
  readonly serde?: Serde<unknown> | undefined;
  /** Aborting it ends the iteration. */
  readonly signal?: AbortSignal | undefined;
  /** Ends the iteration when nothing has come for this long, milliseconds. Default: never. */
  readonly idleTimeoutMs?: number | undefined;
}

/** The next events of one partition, in order; at least one. */
export class EventBatch<T = unknown> implements Iterable<NaruEvent<T>> {
  readonly #commit: (options?: CallOptions) => Promise<void>;
  readonly topic: string;
  readonly partition: number;
  readonly events: readonly NaruEvent<T>[];
  /** Offset after the last event that the broker has. */
  readonly highWatermark: bigint;

  constructor(
    partition: AssignedPartition,
    events: readonly NaruEvent<T>[],
    commit: (options?: CallOptions) => Promise<void>,
  ) {
    this.#commit = commit;
    this.topic = partition.topic;
    this.partition = partition.partition;
    this.events = events;
    this.highWatermark = BigInt(partition.highWatermark);
  }

  /** Commits this batch and those of its partition before it. Resolves when that is durable. */
  commit(options?: CallOptions): Promise<void> {
    return this.#commit(options);
  }

  [Symbol.iterator](): Iterator<NaruEvent<T>> {
    return this.events[Symbol.iterator]();
  }
}

interface Outstanding {
  readonly partition: AssignedPartition;
  readonly taken: readonly TakenRecord[];
}

export class EventPoller<T = unknown> implements AsyncIterableIterator<EventBatch<T>, undefined>, Consumer {
  readonly #runtime: Runtime;
  readonly #options: PollOptions;
  readonly #settings: SubscriberSettings;
  readonly #serde: Serde<unknown>;
  readonly #consumption: Consumption;
  readonly #closed: () => void;
  #isStarted = false;
  #closing: Promise<void> | null = null;
  #error: Error | null = null;
  /** What the caller is working on. */
  #current: Outstanding | null = null;
  #takenMs = 0;
  #wake: (() => void) | null = null;
  #nextPartition = 0;

  constructor(
    context: Omit<SubscriberContext, 'closed' | 'resolvePosition'>,
    options: PollOptions,
    closed: () => void = () => {},
  ) {
    if (options.topics.length === 0) throw new NaruError('INVALID_REQUEST', 'expected at least one topic to poll');
    this.#runtime = context.runtime;
    this.#options = options;
    this.#closed = closed;
    this.#settings = subscriberSettings({ ...context.settings.subscriber, autoCommit: false }, options);
    this.#serde = options.serde ?? json;
    this.#consumption = new Consumption({
      ...context,
      subscriber: this.#settings,
      group: options.group ?? '',
      topics: options.topics,
      from: options.from ?? 'beginning',
      instanceId: options.instanceId,
      memberId: crypto.randomUUID(),
      listeners: { assigned: [], revoked: [] },
      consumer: this,
    });
  }

  async next(): Promise<IteratorResult<EventBatch<T>, undefined>> {
    this.#start();
    this.#giveBack();
    const batch = await this.#wait();
    if (batch !== null) return { done: false, value: batch };
    await this.close();
    if (this.#error !== null) throw this.#error;
    return { done: true, value: undefined };
  }

  /** Called by leaving a `for await`. */
  async return(): Promise<IteratorResult<EventBatch<T>, undefined>> {
    await this.close();
    return { done: true, value: undefined };
  }

  /** Leaves the group. The batch in hand counts as not finished, unless it was committed. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  // As the consumption's consumer

  wake(): void {
    this.#wake?.();
  }

  stalledMs(): number {
    return this.#current === null ? 0 : this.#runtime.clock.monotonicMs() - this.#takenMs;
  }

  failed(error: Error): void {
    this.#error ??= error;
    this.wake();
  }

  #start(): void {
    if (this.#isStarted) return;
    this.#isStarted = true;
    if (this.#options.signal?.aborted !== true) this.#consumption.start();
  }

  async #close(): Promise<void> {
    this.wake();
    if (this.#current !== null) this.#dropCurrent(this.#current);
    if (this.#isStarted) await this.#consumption.close();
    this.#closed();
  }

  /** The caller has come back: it is done with the batch that it had. */
  #giveBack(): void {
    const current = this.#current;
    if (current === null) return;
    // With automatic commits, coming back means that the batch is handled.
    if (this.#settings.autoCommit) finish(current);
    this.#dropCurrent(current);
    this.#consumption.pollMore();
  }

  #dropCurrent(current: Outstanding): void {
    this.#current = null;
    for (const { batch } of current.taken) current.partition.letGo(batch);
    this.#consumption.ended(current.partition);
  }

  /** The next batch; null when the iteration is over. */
  async #wait(): Promise<EventBatch<T> | null> {
    const { signal, idleTimeoutMs } = this.#options;
    let isIdle = false;
    const stop = (): void => this.wake();
    const idle = (): void => {
      isIdle = true;
      this.wake();
    };
    let timer: TimerHandle | null = null;
    signal?.addEventListener('abort', stop);
    try {
      for (;;) {
        if (this.#closing !== null || this.#error !== null || signal?.aborted === true) return null;
        const batch = this.#take();
        if (batch !== null) return batch;
        if (isIdle) return null;
        if (idleTimeoutMs !== undefined) timer ??= this.#runtime.timers.after(idleTimeoutMs, idle);
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
        this.#wake = null;
      }
    } catch (error) {
      this.#error = error as Error;
      return null;
    } finally {
      timer?.cancel();
      signal?.removeEventListener('abort', stop);
    }
  }

  #take(): EventBatch<T> | null {
    const partitions = [...this.#consumption.partitions()];
    for (let i = 0; i < partitions.length; i++) {
      const index = (this.#nextPartition + i) % partitions.length;
      const partition = partitions[index] as AssignedPartition;
      const taken = partition.isTakeable ? takeSome(partition, this.#settings.maxBatchEvents) : [];
      if (taken.length === 0) continue;
      this.#nextPartition = index + 1;
      return this.#hand({ partition, taken });
    }
    return null;
  }

  #hand(outstanding: Outstanding): EventBatch<T> {
    const { partition, taken } = outstanding;
    this.#current = outstanding;
    this.#takenMs = this.#runtime.clock.monotonicMs();
    partition.running += 1;
    const { topic, topicId } = partition;
    const events = taken.map(
      ({ record }) => new NaruEvent<T>(topic, topicId, partition.partition, record, this.#serde),
    );
    return new EventBatch(partition, events, async (options) => {
      if (partition.state === 'gone') {
        throw new NaruError(
          'NOT_ASSIGNED',
          `${topic}/${partition.partition} is no longer this member's: not committed`,
        );
      }
      finish(outstanding);
      await this.#consumption.commitWithin(options, [partition]);
    });
  }
}

function takeSome(partition: AssignedPartition, limit: number): TakenRecord[] {
  const taken: TakenRecord[] = [];
  while (taken.length < limit) {
    const next = partition.take();
    if (next === null) break;
    taken.push(next);
  }
  return taken;
}

function finish({ taken }: Outstanding): void {
  const last = taken.at(-1);
  if (last !== undefined) last.tracker.finishThrough(last.record.offset + 1);
}
