/**
 * The pull form: an asynchronous iterator of batches, each the next events of one partition. Leaving the loop releases
 * the membership.
 */
import type { TimerHandle } from '@naru/base';
import { NaruError } from '@naru/protocol';
import { OutcomeKind, SettlementKind } from '@naru/protocol/proto';
import type { CallOptions } from '../call-options.ts';
import type { Runtime } from '../runtime.ts';
import type { Serde } from '../serde/serde.ts';
import { json } from '../serde/serde.ts';
import type { SubscriberSettings } from '../settings.ts';
import type { CommitTarget } from '../transaction/commit-target.ts';
import type { AssignedPartition, ReturnedRecord, TakenRecord } from './assigned-partition.ts';
import { recordKeyId } from './blocked-keys.ts';
import type { Consumer } from './consumer.ts';
import { Consumption } from './consumption.ts';
import { BatchesInTransaction } from './batches-in-transaction.ts';
import { NaruEvent } from './event.ts';
import { EventBatch } from './event-batch.ts';
import type { BatchVerdict } from './event-batch.ts';
import type { Isolation } from './isolation.ts';
import { OpenBatches, settleBatch } from './open-batches.ts';
import type { GivenBatch } from './open-batches.ts';
import type { Concluded } from './outcome-book.ts';
import type { AcquiredRecord, QueuePartition } from './queue-partition.ts';
import type { StartPosition } from './start-position.ts';
import { subscriberSettings } from './subscriber-settings.ts';
import type { SubscriberOverrides } from './subscriber-settings.ts';
import type { SubscriberContext } from './subscriber.ts';

/** Everything in the settings' `subscriber` section can be given here too, and wins; `autoCommit` is off by default. */
export interface PollOptions extends SubscriberOverrides {
  /** The consumer group; without one, all partitions are read and nothing is committed. */
  readonly group?: string | undefined;
  readonly topics: readonly string[];
  /** Where to begin without a committed offset. Default `beginning`. */
  readonly from?: StartPosition | undefined;
  readonly instanceId?: string | undefined;
  /** What of transactions is given. Default `committed`; `uncommitted` without a group only. */
  readonly isolation?: Isolation | undefined;
  /** How values are read. Default JSON. */
  readonly serde?: Serde<unknown> | undefined;
  /** Aborting it ends the iteration. */
  readonly signal?: AbortSignal | undefined;
  /** Ends the iteration when nothing has come for this long, milliseconds. Default: never. */
  readonly idleTimeoutMs?: number | undefined;
}

/** Gaps that may lie between events of a partition that were given and not committed: two numbers are kept for each. */
const MAX_UNCOMMITTED_GAPS = 100_000;

/** What the caller is working on. */
type Outstanding =
  | ({ readonly kind: 'ordered' } & GivenBatch)
  | {
      readonly kind: 'parallel';
      readonly queue: QueuePartition;
      readonly acquired: readonly AcquiredRecord[];
      readonly verdicts: Map<number, BatchVerdict>;
    };

export class EventPoller<T = unknown> implements AsyncIterableIterator<EventBatch<T>, undefined>, Consumer {
  readonly #runtime: Runtime;
  readonly #options: PollOptions;
  readonly #settings: SubscriberSettings;
  readonly #serde: Serde<unknown>;
  readonly #consumption: Consumption;
  readonly #closed: () => void;
  #isStarted = false;
  #turn: Promise<unknown> = Promise.resolve();
  #closing: Promise<void> | null = null;
  #error: Error | null = null;
  /** What the caller is working on. */
  #current: Outstanding | null = null;
  readonly #open: OpenBatches;
  /** Of parallel topics: given out, and neither committed nor settled. */
  readonly #unsettled = new Map<QueuePartition, { acquired: AcquiredRecord[]; verdicts: Map<number, BatchVerdict> }>();
  /** What was to be held and need not be. */
  readonly #back = new Map<AssignedPartition, TakenRecord[]>();
  /** Whose entries in the books are of which partition. */
  readonly #partitionOf = new WeakMap<object, AssignedPartition>();
  #takenMs = 0;
  #wake: (() => void) | null = null;
  #nextPartition = 0;

  constructor(
    context: Omit<SubscriberContext, 'closed' | 'resolvePosition' | 'publishing' | 'producers'>,
    options: PollOptions,
    closed: () => void = () => {},
  ) {
    if (options.topics.length === 0) throw new NaruError('INVALID_REQUEST', 'expected at least one topic to poll');
    if (options.isolation === 'uncommitted' && options.group !== undefined) {
      throw new NaruError(
        'INVALID_REQUEST',
        'a group is given committed events only: read uncommitted ones without one',
      );
    }
    this.#runtime = context.runtime;
    this.#options = options;
    this.#closed = closed;
    this.#settings = subscriberSettings({ ...context.settings.subscriber, autoCommit: false }, options);
    this.#serde = options.serde ?? json;
    this.#open = new OpenBatches(() => context.runtime.clock.nowMs());
    this.#consumption = new Consumption({
      ...context,
      subscriber: this.#settings,
      group: options.group ?? '',
      topics: options.topics,
      from: options.from ?? 'beginning',
      instanceId: options.instanceId,
      isolation: options.isolation,
      memberId: crypto.randomUUID(),
      listeners: { assigned: [], revoked: [] },
      consumer: this,
    });
  }

  /** One call after the other, so that each is answered. */
  next(): Promise<IteratorResult<EventBatch<T>, undefined>> {
    const turn = this.#turn.then(() => this.#next());
    this.#turn = turn.catch(() => {});
    return turn;
  }

  async #next(): Promise<IteratorResult<EventBatch<T>, undefined>> {
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

  concluded(): void {
    this.wake();
  }

  idSettled(): void {}

  /** Not a poller's: what it publishes is its user's. */
  outputsRefused(): boolean {
    return false;
  }

  takenBack(entries: readonly Concluded[]): void {
    for (const { taken } of entries) {
      const partition = taken === null ? undefined : this.#partitionOf.get(taken.tracker);
      if (taken === null || partition === undefined) continue;
      const back = this.#back.get(partition);
      if (back === undefined) this.#back.set(partition, [taken]);
      else back.push(taken);
    }
    this.wake();
  }

  stalled({ topic, partition }: AssignedPartition, error: NaruError | null): void {
    if (error !== null)
      this.#runtime.logger.error({ topic, partition, error: error.message }, 'the broker holds no more');
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
    // What was given out of parallel topics and not committed is for somebody else.
    for (const queue of this.#consumption.queues()) {
      for (const one of queue.inHand()) this.#consumption.settlements.settle(one, SettlementKind.RETURN);
    }
    if (this.#isStarted) await this.#consumption.close();
    this.#closed();
  }

  /** The caller has come back: it is done with the batch that it had. */
  #giveBack(): void {
    const current = this.#current;
    if (current === null) return;
    // With automatic commits, coming back means that the batch is handled.
    if (this.#settings.autoCommit) void this.#finish(current);
    else if (this.#isGroup) this.#keep(current);
    this.#dropCurrent(current);
    this.#consumption.pollMore();
  }

  get #isGroup(): boolean {
    return (this.#options.group ?? '') !== '';
  }

  #keep(current: Outstanding): void {
    if (current.kind === 'ordered') {
      this.#open.keep(current);
      return;
    }
    const kept = this.#unsettled.get(current.queue) ?? { acquired: [], verdicts: new Map<number, BatchVerdict>() };
    kept.acquired.push(...current.acquired);
    for (const [offset, verdict] of current.verdicts) kept.verdicts.set(offset, verdict);
    this.#unsettled.set(current.queue, kept);
  }

  #finish(current: Outstanding): Promise<readonly (Error | null)[]> {
    if (current.kind === 'ordered') {
      this.#open.finish(current);
      if (current.returned.length > 0 || current.verdicts.size > 0) this.#consumption.commits.soon();
      return Promise.resolve([]);
    }
    const kept = this.#unsettled.get(current.queue);
    this.#unsettled.delete(current.queue);
    const { settlements } = this.#consumption;
    return Promise.all([
      ...(kept === undefined ? [] : settleBatch(settlements, kept.acquired, kept.verdicts)),
      ...settleBatch(settlements, current.acquired, current.verdicts),
    ]);
  }

  #dropCurrent(current: Outstanding): void {
    this.#current = null;
    if (current.kind === 'ordered') {
      const { partition } = current;
      for (const one of current.taken) {
        if (this.#isGroup) partition.letGo(one.batch);
        // There is no commit that would.
        else partition.finish(one);
      }
      this.#consumption.ended(partition);
    } else this.#consumption.ended(current.queue);
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
    const partitions = [...this.#consumption.partitions(), ...this.#consumption.queues()];
    for (let i = 0; i < partitions.length; i++) {
      const index = (this.#nextPartition + i) % partitions.length;
      const partition = partitions[index] as AssignedPartition | QueuePartition;
      const batch = 'tracker' in partition ? this.#takeOrdered(partition) : this.#takeParallel(partition);
      if (batch === null) continue;
      this.#nextPartition = index + 1;
      return batch;
    }
    return null;
  }

  #takeOrdered(partition: AssignedPartition): EventBatch<T> | null {
    if (partition.state !== 'open' || partition.isPaused) return null;
    const { maxBatchEvents, maxPendingEvents } = this.#settings;
    const returned = [];
    while (returned.length < maxBatchEvents) {
      const next = partition.takeReturned();
      if (next === null) break;
      returned.push(next);
    }
    if (returned.length > 0) return this.#hand(partition, [], returned);
    const back = (this.#back.get(partition) ?? []).filter(({ tracker }) => tracker === partition.tracker);
    this.#back.delete(partition);
    if (back.length > 0) return this.#hand(partition, back, []);
    if (partition.waitsForLate || partition.outcomes.size >= maxPendingEvents) return null;
    checkGaps(partition);
    const taken = this.#takeSome(partition, maxBatchEvents);
    return taken.length === 0 ? null : this.#hand(partition, taken, []);
  }

  /** The next records, but those of blocked keys, which are held. */
  #takeSome(partition: AssignedPartition, limit: number): TakenRecord[] {
    const taken: TakenRecord[] = [];
    const { outcomes, tracker } = partition;
    while (taken.length < limit) {
      const next = partition.take();
      if (next === null) break;
      const id = outcomes.keys.isEmpty ? '' : recordKeyId(next.record);
      if (!outcomes.keys.isBlocked(id)) {
        taken.push(next);
        continue;
      }
      this.#partitionOf.set(tracker, partition);
      outcomes.conclude({ offset: next.record.offset, keyId: id, taken: next, kind: OutcomeKind.HELD, fields: {} });
      this.#consumption.commits.soon();
    }
    return taken;
  }

  #takeParallel(queue: QueuePartition): EventBatch<T> | null {
    if (queue.isPaused) return null;
    const acquired: AcquiredRecord[] = [];
    const untilMs = this.#runtime.clock.monotonicMs() + this.#settings.maxPollIntervalMs;
    while (acquired.length < this.#settings.maxBatchEvents) {
      const next = queue.take();
      if (next === null) break;
      next.handledUntilMs = untilMs;
      acquired.push(next);
    }
    const last = acquired.at(-1);
    if (last === undefined) return null;
    const current: Outstanding = { kind: 'parallel', queue, acquired, verdicts: new Map() };
    this.#begin(current, queue);
    const { topic, partition, topicId } = queue;
    const events = acquired.map(({ record }) => new NaruEvent<T>(topic, topicId, partition, record, this.#serde));
    const highWatermark = BigInt(last.record.offset + 1);
    const commit = async (options: CallOptions | undefined): Promise<void> => {
      const settled = this.#finish(current);
      await this.#consumption.settleWithin(options, settled);
    };
    const joinTransaction = (): never => {
      throw new NaruError(
        'INVALID_REQUEST',
        `${topic} is a parallel topic: its events cannot be part of a transaction`,
      );
    };
    const { verdicts } = current;
    return new EventBatch({ topic, partition, highWatermark, verdicts, commit, joinTransaction }, events);
  }

  #begin(current: Outstanding, partition: AssignedPartition | QueuePartition): void {
    this.#current = current;
    this.#takenMs = this.#runtime.clock.monotonicMs();
    partition.running += 1;
  }

  #hand(
    partition: AssignedPartition,
    taken: readonly TakenRecord[],
    returned: readonly ReturnedRecord[],
  ): EventBatch<T> {
    const current = { kind: 'ordered', partition, taken, returned, verdicts: new Map<number, BatchVerdict>() } as const;
    this.#begin(current, partition);
    const { topic, topicId, partition: number } = partition;
    const records = [...taken, ...returned];
    const events = records.map(({ record }) => new NaruEvent<T>(topic, topicId, number, record, this.#serde));
    const commit = async (options: CallOptions | undefined): Promise<void> => {
      if (partition.state === 'gone') {
        throw new NaruError('NOT_ASSIGNED', `${topic}/${number} is no longer this member's: not committed`);
      }
      this.#partitionOf.set(partition.tracker, partition);
      void this.#finish(current);
      await this.#consumption.commitWithin(options, [partition]);
    };
    const joinTransaction = (joined: CommitTarget | null): CommitTarget => {
      if (!this.#isGroup) throw new NaruError('INVALID_REQUEST', 'a reader without a group has nothing to commit to');
      if (this.#settings.autoCommit) {
        throw new NaruError('INVALID_REQUEST', 'poll() commits automatically; without autoCommit a transaction can');
      }
      this.#partitionOf.set(partition.tracker, partition);
      return BatchesInTransaction.join(joined, this.#consumption, this.#open, current);
    };
    const highWatermark = BigInt(partition.highWatermark);
    const { verdicts } = current;
    return new EventBatch({ topic, partition: number, highWatermark, verdicts, commit, joinTransaction }, events);
  }
}

/** @throws NaruError BUFFER_FULL when the caller has not committed for too long */
function checkGaps({ topic, partition, tracker }: AssignedPartition): void {
  if (tracker.ranges.length < MAX_UNCOMMITTED_GAPS) return;
  const what = `${MAX_UNCOMMITTED_GAPS} gaps, such as ends of transactions, lie between events that are not committed`;
  throw new NaruError('BUFFER_FULL', `${topic}/${partition}: ${what}: commit batches more often`);
}
