/**
 * Events of ordered topics on their way to handlers: which go to which lane, what follows from how handling went, and what is given
 * to the broker to keep (DESIGN §4).
 *
 * A failing event waits in memory with what is behind it in its lane, until too many do or it holds too much of its partition up:
 * then the lane goes to the broker as held events, and whatever is read of its key from then on goes after it.
 *
 * Invariants
 * - Events of a key are handled in order of offset, one at a time; none while the key is blocked, but those that the broker gives.
 * - After a dead letter the key stands still until that is durable and it is known whether the key is parked.
 */
import { StreamedRecord } from '@naru/protocol/batch';
import { OutcomeKind } from '@naru/protocol/proto';
import type { Runtime } from '../runtime.ts';
import type { SubscriberSettings } from '../settings.ts';
import type { AssignedPartition, ReturnedRecord, TakenRecord } from './assigned-partition.ts';
import { MAX_FINISHED_RANGES } from './assigned-partition.ts';
import { recordKeyId } from './blocked-keys.ts';
import type { NaruEvent } from './event.ts';
import type { Failure } from './handler-call.ts';
import type { LaneScheduler, WorkOutcome } from './lane-scheduler.ts';
import { NO_BATCH } from './open-batches.ts';
import { makeOrderedTask } from './ordered-task.ts';
import type { OrderedTask } from './ordered-task.ts';
import { MAX_OUTCOMES } from './outcome-book.ts';
import type { Concluded, FinishedOutputs, OutcomeFields } from './outcome-book.ts';
import { RefusedOutputs } from './refused-outputs.ts';
import type { FinishedCall } from './refused-outputs.ts';
import type { Registrations } from './registrations.ts';
import type { Success, Task, TaskSource } from './task.ts';

/** Longer waits are the broker's, so that they survive this process. Milliseconds. */
const MAX_WAIT_IN_MEMORY_MS = 60_000;
/** Outcomes that wait for the next commit before one is made for them. */
const EAGER_OUTCOMES = 200;
/** Where outputs go with commits: events that wait for the next one, and bytes of outputs, before one is made for them. */
const EAGER_EVENTS = 1_000;
const EAGER_OUTPUT_BYTES = 2 * 1024 * 1024;
/** Bytes of outputs that are not committed beyond which no more handlers are started. */
export const MAX_BUFFERED_OUTPUT_BYTES = 16 * 1024 * 1024;

export interface OrderedWorkOptions {
  readonly runtime: Runtime;
  readonly settings: SubscriberSettings;
  readonly registrations: Registrations;
  readonly scheduler: LaneScheduler<Task>;
  /** There are outcomes to commit. */
  outcomes(): void;
  /** Commits a partition now. */
  commit(partition: AssignedPartition): Promise<void>;
  /** Of outputs that are in no transaction that is committed. */
  bufferedOutputBytes(): number;
  /** No handler of the partition runs any more. */
  ended(partition: AssignedPartition): void;
  /** Handlers make progress as if one had ended in `ms` from now. */
  extended(ms: number): void;
}

export class OrderedWork implements TaskSource {
  /** Whether an event is finished with the commit that has its outputs, and not before. */
  readonly buffersOutputs: boolean;
  readonly #options: OrderedWorkOptions;
  readonly #scheduler: LaneScheduler<Task>;
  /** What was to be held, to go on with here should it be taken back. */
  readonly #held = new WeakMap<Concluded, OrderedTask>();
  /** Partitions of which the broker will not hold events, since their group has Kafka members. */
  readonly #unheld = new WeakSet<AssignedPartition>();
  readonly #refusedOutputs = new RefusedOutputs();
  /** Grows with each task that is concluded. */
  #order = 0;
  #lastTask: OrderedTask | null = null;

  constructor(options: OrderedWorkOptions) {
    this.#options = options;
    this.#scheduler = options.scheduler;
    this.buffersOutputs = options.settings.guarantee === 'exactly-once';
  }

  /** Takes up the next event of the partition, or the next events for a batch handler. False when there is none. */
  take(partition: AssignedPartition): boolean {
    const isBatch = this.#options.registrations.isBatch(partition.topic);
    if (isBatch && this.#scheduler.has(partition.key)) return false;
    if (partition.state !== 'open' || partition.isPaused) return false;
    const returned = partition.takeReturned();
    if (returned !== null) {
      this.#addReturned(partition, returned, isBatch);
      return true;
    }
    // Outcomes that the broker does not take are in hand, and must not become ever more.
    if (!partition.isTakeable || partition.outcomes.size >= this.#options.settings.maxPendingEvents) return false;
    return isBatch ? this.#takeBatch(partition) : this.#takeOne(partition);
  }

  /** Gives lanes to the broker while more waits here than may. */
  relieve(): void {
    const { maxWaitingEvents } = this.#options.settings.retry;
    if (this.#scheduler.failing <= maxWaitingEvents) return;
    this.#handOver(
      (task) => !task.isBatch && !this.#unheld.has(task.partition) && this.#scheduler.failing > maxWaitingEvents,
    );
  }

  // What became of tasks

  isStale(task: OrderedTask): boolean {
    const [first] = task.taken;
    return first == null ? task.partition.state !== 'open' : task.partition.isStale(first);
  }

  dropped({ partition, taken, isCommitted }: OrderedTask): void {
    if (!isCommitted) for (const one of taken) if (one !== null) partition.letGo(one.batch);
  }

  signal(task: OrderedTask): AbortSignal {
    return task.partition.signal;
  }

  began(task: OrderedTask): void {
    task.partition.running += 1;
  }

  ended(task: OrderedTask): void {
    this.#options.ended(task.partition);
  }

  extend(_task: OrderedTask, ms: number): void {
    this.#options.extended(ms);
  }

  async commitFirst(task: OrderedTask): Promise<boolean> {
    const { partition } = task;
    if (task.isCommitted) return true;
    task.isCommitted = true;
    for (const [i, taken] of task.taken.entries()) {
      if (taken !== null && task.idempotencyIds.length === 0) partition.finish(taken);
      else this.#conclude(task, i, OutcomeKind.PROCESSED, { attempts: task.attempt + 1 });
    }
    try {
      await this.#options.commit(partition);
      return true;
    } catch (error) {
      const { topic, partition: number } = partition;
      this.#options.runtime.logger.warn(
        { topic, partition: number, error: String(error) },
        'events were not committed before handling, and are left out',
      );
      return false;
    }
  }

  succeeded(task: OrderedTask, success: Success): WorkOutcome {
    // A handler that was still at work when its partition was given up within the drain time counts all the same.
    if (task.isCommitted || this.#isLost(task)) return undefined;
    if (this.#isOvertaken(task)) {
      success.undone?.();
      return this.#holdAgain(task);
    }
    const isPlain = success.note === '' && task.attempt <= 1 && task.idempotencyIds.length === 0;
    if (isPlain && !this.buffersOutputs && task.taken[0] !== null) {
      for (const taken of task.taken) task.partition.finish(taken as TakenRecord);
    } else this.#concludeProcessed(task, isPlain, success);
    const { outcomes } = task.partition;
    if (!outcomes.isEmpty && (this.#isAwaited(task) || this.#isEager(task.partition))) this.#options.outcomes();
    this.#uncork(task.partition);
    return undefined;
  }

  #concludeProcessed(task: OrderedTask, isPlain: boolean, success: Success): void {
    const { note, durationMs, outputs } = success;
    if (this.buffersOutputs && outputs !== null) this.#refusedOutputs.finished(outputs, task);
    const fields = { attempts: task.attempt, durationMs: BigInt(durationMs), note };
    for (const i of task.taken.keys()) {
      if (this.buffersOutputs) this.#finishWithOutputs(task, i, fields, isPlain, success);
      else this.#conclude(task, i, OutcomeKind.PROCESSED, fields);
    }
  }

  /** Whether somebody can go on only when the outcome is durable. */
  #isAwaited({ idempotencyIds, taken }: OrderedTask): boolean {
    return idempotencyIds.length > 0 || taken[0] === null;
  }

  skipped(task: OrderedTask, why: 'unhandled' | 'duplicate'): WorkOutcome {
    if (task.isCommitted || this.#isLost(task)) return undefined;
    const kind = why === 'unhandled' ? OutcomeKind.SKIPPED : OutcomeKind.PROCESSED;
    for (const i of task.taken.keys()) this.#conclude(task, i, kind, { reason: why });
    if (task.partition.outcomes.size >= EAGER_OUTCOMES || task.taken.includes(null)) this.#options.outcomes();
    return undefined;
  }

  failed(task: OrderedTask, failure: Failure, durationMs: number, note: string): WorkOutcome {
    if (task.isCommitted || this.#isLost(task)) return undefined;
    const nowMs = Math.floor(this.#options.runtime.clock.nowMs());
    task.firstFailureMs ||= nowMs;
    const fields: OutcomeFields = {
      attempts: task.attempt,
      durationMs: BigInt(durationMs),
      note,
      reason: failure.reason ?? '',
      error: failure.message,
      firstFailureMs: BigInt(task.firstFailureMs),
      lastFailureMs: BigInt(nowMs),
    };
    if (failure.reason !== null && this.#isOvertaken(task)) return this.#holdAgain(task);
    if (failure.reason !== null) return this.#failedForGood(task, fields);
    const again = { ...fields, nextAttemptMs: BigInt(nowMs + Math.round(failure.delayMs)) };
    task.lastFailure = again;
    for (const { offset } of task.events) task.partition.outcomes.failed(Number(offset), again);
    return this.#again(task, failure.delayMs);
  }

  postponed(task: OrderedTask, delayMs: number): WorkOutcome {
    if (task.isCommitted || this.#isLost(task)) return undefined;
    const nextAttemptMs = BigInt(Math.floor(this.#options.runtime.clock.nowMs() + delayMs));
    task.lastFailure = { ...task.lastFailure, attempts: task.attempt, nextAttemptMs };
    return this.#again(task, delayMs);
  }

  /** Waits here, or at the broker with what is behind it. */
  #again(task: OrderedTask, delayMs: number): WorkOutcome {
    return this.#staysHere(task, delayMs) ? delayMs : this.#holdLane(task);
  }

  /** To be handled again, when what was to come before it is over. */
  #holdAgain(task: OrderedTask): WorkOutcome {
    task.attempt = Math.max(0, task.attempt - 1);
    return this.#holdLane(task);
  }

  #holdLane(task: OrderedTask): WorkOutcome {
    this.#hold(task);
    if (task.lane !== null) {
      for (const next of this.#scheduler.takeWaiting(task.lane)) this.#hold(next as OrderedTask);
    }
    this.#options.outcomes();
    return undefined;
  }

  // What the broker said

  /** Outcomes are durable: lanes that waited for that go on, or to the broker. */
  concluded(partition: AssignedPartition, entries: readonly Concluded[]): void {
    if (this.buffersOutputs) this.#uncork(partition);
    for (const entry of entries) {
      const task = this.#held.get(entry);
      if (task?.lane == null || entry.kind !== OutcomeKind.DEAD_LETTERED) continue;
      const { keys } = partition.outcomes;
      if (keys.isBlocked(entry.keyId)) this.#holdKey(task.lane, entry.keyId);
      this.#scheduler.resume(task.lane);
    }
  }

  /** Events that were to be held, and need not be. */
  takenBack(entries: readonly Concluded[]): void {
    for (const entry of entries) {
      const task = this.#held.get(entry);
      if (task === undefined) continue;
      if (entry.taken === null) task.partition.inHand.add(entry.offset);
      this.#scheduler.add(task.lane, task);
    }
  }

  /**
   * The broker will not keep events of this partition at all: they wait here.
   *
   * @returns false when some of them are not here any more
   */
  cannotHold(partition: AssignedPartition): boolean {
    this.#unheld.add(partition);
    partition.outcomes.isStalled = false;
    this.takenBack(partition.outcomes.takeBackHeld());
    return ![...partition.outcomes.waiting()].some(({ isForgotten }) => isForgotten);
  }

  callOf(outputs: FinishedOutputs): FinishedCall | undefined {
    return this.#refusedOutputs.find(outputs);
  }

  /**
   * What a call has published can never be stored: its events have failed.
   *
   * @returns false when the broker cannot keep them for another attempt
   */
  outputsRefused(partition: AssignedPartition, outputs: FinishedOutputs, failure: Failure): boolean {
    if (this.#unheld.has(partition)) return false;
    const nowMs = Math.floor(this.#options.runtime.clock.nowMs());
    const undone = this.#refusedOutputs.undo(partition.outcomes, outputs, failure, nowMs, () => ++this.#order);
    for (const entry of undone) {
      entry.undone?.();
      // What is behind a dead letter that is none yet.
      const task = this.#held.get(entry);
      if (task?.lane == null) continue;
      this.#holdKey(task.lane, entry.keyId);
      this.#scheduler.resume(task.lane);
    }
    const { keys } = partition.outcomes;
    this.#handOver(
      (task) =>
        task.partition === partition &&
        task.events.some(({ keyBytes }) => keys.isBlocked(recordKeyId({ key: keyBytes }))),
    );
    this.#options.outcomes();
    return undone.length > 0;
  }

  // Taking

  #takeOne(partition: AssignedPartition): boolean {
    const taken = partition.take();
    if (taken === null) return false;
    const task = this.#task(partition, [taken], false);
    if (this.#isBlocked(partition, taken.record)) {
      this.#hold(task);
      this.#options.outcomes();
    } else this.#scheduler.add(task.lane, task);
    return true;
  }

  #takeBatch(partition: AssignedPartition): boolean {
    const taken: TakenRecord[] = [];
    let hasHeld = false;
    const { maxBatchEvents } = this.#options.settings;
    // Those of one call are committed together.
    const limit = this.buffersOutputs ? Math.min(maxBatchEvents, MAX_OUTCOMES) : maxBatchEvents;
    while (taken.length < limit) {
      const next = partition.take();
      if (next === null) break;
      if (this.#isBlocked(partition, next.record)) {
        this.#hold(this.#task(partition, [next], true));
        hasHeld = true;
      } else taken.push(next);
    }
    if (hasHeld) this.#options.outcomes();
    if (taken.length > 0) this.#scheduler.add(partition.key, this.#task(partition, taken, true));
    return taken.length > 0 || hasHeld;
  }

  #addReturned(partition: AssignedPartition, returned: ReturnedRecord, isBatch: boolean): void {
    const { registrations } = this.#options;
    const task = makeOrderedTask(this, registrations, partition, [null], isBatch, returned.record);
    task.attempt = returned.attempts;
    task.firstFailureMs = returned.firstFailureMs;
    this.#scheduler.add(task.lane, task);
  }

  #task(partition: AssignedPartition, taken: readonly TakenRecord[], isBatch: boolean): OrderedTask {
    return makeOrderedTask(this, this.#options.registrations, partition, taken, isBatch);
  }

  /** Gives lanes that wait for another attempt to the broker. */
  #handOver(which: (task: OrderedTask) => boolean): void {
    const tasks = this.#scheduler.takeDelayed((task) => task.source === this && which(task as OrderedTask));
    for (const task of tasks) this.#hold(task as OrderedTask);
    if (tasks.length > 0) this.#options.outcomes();
  }

  /** What waits in memory must not keep the partition from being committed. */
  #uncork(partition: AssignedPartition): void {
    if (partition.tracker.ranges.length <= MAX_FINISHED_RANGES / 2 || this.#scheduler.failing === 0) return;
    if (this.#unheld.has(partition)) return;
    this.#handOver((task) => task.partition === partition && !task.isBatch);
  }

  // Outcomes

  /** It is finished when the transaction is committed that has its outputs. */
  #finishWithOutputs(task: OrderedTask, i: number, fields: OutcomeFields, isPlain: boolean, success: Success): void {
    const taken = task.taken[i] ?? null;
    const outputs = success.outputs ?? undefined;
    const { accepted, undone } = i === 0 ? success : {};
    const more = { isPlain: isPlain && taken !== null, outputs, accepted, undone };
    this.#conclude(task, i, OutcomeKind.PROCESSED, fields, more);
    // Until then its memory need not be kept.
    if (taken !== null) task.partition.letGo(taken.batch);
  }

  /** Whether what waits for the next commit is so much that one should be made for it. */
  #isEager({ outcomes }: AssignedPartition): boolean {
    if (!this.buffersOutputs) return outcomes.size >= EAGER_OUTCOMES;
    return outcomes.size >= EAGER_EVENTS || this.#options.bufferedOutputBytes() >= EAGER_OUTPUT_BYTES;
  }

  #failedForGood(task: OrderedTask, fields: OutcomeFields): WorkOutcome {
    if (task.events.length > 1) {
      // One by one, so that only what is wrong is dead-lettered.
      const { partition, taken } = task;
      const singles = taken.map((one) => this.#task(partition, [one as TakenRecord], true));
      for (const single of singles) single.attempt = Math.max(0, task.attempt - 1);
      this.#scheduler.addFirst(task.lane as string, singles);
      return undefined;
    }
    const event = task.events[0] as NaruEvent;
    const { requestId, topic, partition } = event;
    const { reason, attempts, error } = fields;
    this.#options.runtime.logger.error(
      { requestId, topic, partition, reason, attempts, error },
      'an event could not be handled and becomes a dead letter',
    );
    this.#held.set(this.#conclude(task, 0, OutcomeKind.DEAD_LETTERED, fields), task);
    this.#options.outcomes();
    return 'suspend';
  }

  #staysHere(task: OrderedTask, delayMs: number): boolean {
    const { partition, lane, isBatch } = task;
    if (task.taken[0] === null) return false; // the broker does the waiting, and gives others meanwhile
    if (isBatch || this.#unheld.has(partition)) return true;
    if (delayMs > MAX_WAIT_IN_MEMORY_MS) return false;
    if (partition.tracker.ranges.length > MAX_FINISHED_RANGES / 2) return false;
    if (this.#isBlocked(partition, (task.taken[0] as TakenRecord).record)) return false;
    const behind = lane === null ? 0 : this.#scheduler.waiting(lane);
    return this.#scheduler.failing + 1 + behind <= this.#options.settings.retry.maxWaitingEvents;
  }

  /** The key is parked: what waits of it here goes to the broker, behind the rest. */
  #holdKey(lane: string, key: string): void {
    const isOfKey = (task: Task): boolean => {
      const { taken, events } = task as OrderedTask;
      return taken[0] !== null && events.some(({ keyBytes }) => recordKeyId({ key: keyBytes }) === key);
    };
    const tasks = this.#scheduler.takeWaiting(lane, isOfKey);
    for (const task of tasks) this.#hold(task as OrderedTask);
    if (tasks.length > 0) this.#options.outcomes();
  }

  #hold(task: OrderedTask): void {
    if (this.isStale(task)) {
      this.dropped(task);
      return;
    }
    const fields = task.lastFailure ?? { attempts: task.attempt, firstFailureMs: BigInt(task.firstFailureMs) };
    for (const i of task.taken.keys()) this.#held.set(this.#conclude(task, i, OutcomeKind.HELD, fields), task);
  }

  #conclude(
    task: OrderedTask,
    index: number,
    kind: OutcomeKind,
    fields: OutcomeFields,
    more: Pick<Concluded, 'isPlain' | 'outputs' | 'accepted' | 'undone'> = {},
  ): Concluded {
    const { partition } = task;
    const event = task.events[index] as NaruEvent;
    const offset = Number(event.offset);
    const whole = task.taken[index] ?? null;
    const taken = kind === OutcomeKind.PROCESSED && this.buffersOutputs ? withoutEvent(whole) : whole;
    const keyId = recordKeyId({ key: event.keyBytes });
    const idempotencyId = task.idempotencyIds[index] ?? '';
    const order = this.#orderOf(task, kind);
    const entry: Concluded = { offset, keyId, taken, kind, fields: { ...fields, idempotencyId }, order, ...more };
    if (taken === null) partition.inHand.delete(offset);
    partition.outcomes.conclude(entry);
    return entry;
  }

  /** Of events that were handled together the same. */
  #orderOf(task: OrderedTask, kind: OutcomeKind): number | undefined {
    if (!this.buffersOutputs) return undefined;
    if (this.#lastTask !== task || kind === OutcomeKind.HELD) this.#order += 1;
    this.#lastTask = task;
    return this.#order;
  }

  #isBlocked(partition: AssignedPartition, { key }: StreamedRecord): boolean {
    const { keys } = partition.outcomes;
    return key !== null && !keys.isEmpty && keys.isBlocked(recordKeyId({ key }));
  }

  /** Whether what comes before it is to be handled again, by what {@link outputsRefused} says. */
  #isOvertaken({ partition, taken }: OrderedTask): boolean {
    return this.buffersOutputs && taken.some((one) => one !== null && this.#isBlocked(partition, one.record));
  }

  /** Whether the result counts no longer; then it is let go. */
  #isLost(task: OrderedTask): boolean {
    const { partition, taken } = task;
    const isLost = partition.state === 'gone' || (taken[0] != null && taken[0].tracker !== partition.tracker);
    if (isLost) this.dropped(task);
    return isLost;
  }
}

/** What is kept of an event until it is committed. */
function withoutEvent(taken: TakenRecord | null): TakenRecord | null {
  if (taken === null) return null;
  const { offset, timestampMs } = taken.record;
  const record = new StreamedRecord(offset, timestampMs, null, null, null);
  return { record, tracker: taken.tracker, batch: { ...NO_BATCH } };
}
