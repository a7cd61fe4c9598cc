/**
 * Runs handlers: takes events up while there is room, claims them where they are to be handled once, calls the handler and tells
 * the event's source how it went. What follows from that is the source's: ordered-work.ts, parallel-work.ts.
 */
import { NaruError, isNaruError } from '@naru/protocol';
import type { MemberClaims } from '../idempotency/idempotency-store.ts';
import type { Runtime } from '../runtime.ts';
import type { Awaitable } from '../serde/serde.ts';
import { isPromise } from '../serde/serde.ts';
import type { SubscriberSettings } from '../settings.ts';
import type { AssignedPartition } from './assigned-partition.ts';
import type { CallOutputsOptions, HandlerPublishing } from './call-outputs.ts';
import type { Consumer } from './consumer.ts';
import type { Consumption } from './consumption.ts';
import type { NaruEvent } from './event.ts';
import { EventClaims } from './event-claims.ts';
import type { ClaimedIds } from './event-claims.ts';
import { HandlerCall, failureOf } from './handler-call.ts';
import type { CallResult, Failure } from './handler-call.ts';
import { HandlerFailedError } from './handler-error.ts';
import { LaneScheduler } from './lane-scheduler.ts';
import type { WorkOutcome } from './lane-scheduler.ts';
import { MAX_BUFFERED_OUTPUT_BYTES, OrderedWork } from './ordered-work.ts';
import type { Concluded, FinishedOutputs } from './outcome-book.ts';
import { ParallelWork } from './parallel-work.ts';
import type { Registration, Registrations } from './registrations.ts';
import type { Task } from './task.ts';

export interface HandlerRunnerOptions {
  readonly runtime: Runtime;
  readonly settings: SubscriberSettings;
  readonly concurrency: number;
  readonly group: string;
  readonly registrations: Registrations;
  /** Where events are claimed by their ids; undefined for no such thing. */
  readonly claims: MemberClaims | undefined;
  /** What handlers publish with. */
  readonly publishing: HandlerPublishing;
  /** The broker will not keep more failed events of a partition for now; null when it does again. */
  stalled(partition: AssignedPartition, error: NaruError | null): void;
  /** Called once, with what ends the run. */
  failed(error: Error): void;
}

export class HandlerRunner implements Consumer {
  readonly #options: HandlerRunnerOptions;
  readonly #scheduler: LaneScheduler<Task>;
  readonly #claims: EventClaims | null;
  readonly #buffered: CallOutputsOptions;
  readonly #plain: CallOutputsOptions;
  /** Of outputs of handlers that are at work. */
  #runningOutputBytes = 0;
  #consumption: Consumption | null = null;
  #ordered: OrderedWork | null = null;
  #parallel: ParallelWork | null = null;
  #isTaking = false;
  #progressMs = 0;

  constructor(options: HandlerRunnerOptions) {
    this.#options = options;
    const { runtime, claims, settings, publishing } = options;
    const grown = (sizeBytes: number): void => {
      this.#runningOutputBytes += sizeBytes;
    };
    this.#buffered = { publishing, isBuffered: true, grown };
    this.#plain = { publishing, isBuffered: false, grown };
    this.#claims = claims === undefined ? null : new EventClaims(runtime, claims, settings.idempotency.leaseMs);
    this.#scheduler = new LaneScheduler<Task>({
      timers: runtime.timers,
      concurrency: options.concurrency,
      run: (task) => this.#run(task),
      isStale: (task) => task.source.isStale(task),
      ended: (task) => task.source.ended(task),
      failed: (error) => this.failed(error as Error), // a bug, or the user's serde or store out of bounds
      dropped: (task) => task.source.dropped(task),
      mayStart: () => !this.#isTransactional || this.#bufferedOutputBytes() < MAX_BUFFERED_OUTPUT_BYTES,
      progressed: () => {
        this.#progressMs = Math.max(this.#progressMs, runtime.clock.monotonicMs());
        this.wake();
        this.#consumption?.pollMore();
      },
    });
  }

  /** Begins taking events from `consumption`. */
  attach(consumption: Consumption): void {
    const { runtime, settings, registrations } = this.#options;
    const shared = { runtime, settings, registrations, scheduler: this.#scheduler };
    this.#consumption = consumption;
    this.#ordered = new OrderedWork({
      ...shared,
      outcomes: () => consumption.commits.soon(),
      commit: (partition) => consumption.commit([partition]),
      ended: (partition) => consumption.ended(partition),
      bufferedOutputBytes: () => this.#bufferedOutputBytes(),
      extended: (ms) => {
        this.#progressMs = Math.max(this.#progressMs, runtime.clock.monotonicMs() + ms);
      },
    });
    this.#parallel = new ParallelWork({
      ...shared,
      settlements: consumption.settlements,
      ended: (partition) => consumption.ended(partition),
    });
  }

  /** Takes up nothing any more, and gives back what is nobody's alone. */
  stop(): void {
    this.#scheduler.stop();
    if (this.#consumption !== null) this.#parallel?.returnWaiting(this.#consumption.queues());
  }

  // As the consumption's consumer

  wake(): void {
    if (this.#consumption === null || this.#isTaking) return;
    this.#isTaking = true;
    this.#scheduler.dropStale();
    try {
      this.#takeAll(this.#consumption);
      this.#ordered?.relieve();
    } catch (error) {
      this.failed(error as Error);
    } finally {
      this.#isTaking = false;
    }
  }

  stalledMs(): number {
    if (this.#scheduler.running === 0) return 0;
    return Math.max(0, this.#options.runtime.clock.monotonicMs() - this.#progressMs);
  }

  concluded(partition: AssignedPartition, entries: readonly Concluded[]): void {
    this.#ordered?.concluded(partition, entries);
    for (const { fields } of entries) if (fields.idempotencyId) this.idSettled(fields.idempotencyId);
    this.wake();
  }

  idSettled(id: string): void {
    this.#claims?.settled(id);
  }

  takenBack(entries: readonly Concluded[]): void {
    this.#ordered?.takenBack(entries);
    this.wake();
  }

  stalled(partition: AssignedPartition, error: NaruError | null): void {
    if (!isNaruError(error, 'INCONSISTENT_GROUP_PROTOCOL')) this.#options.stalled(partition, error);
    else if (this.#ordered?.cannotHold(partition) === false) this.failed(error);
  }

  outputsRefused(partition: AssignedPartition, outputs: FinishedOutputs, error: NaruError): boolean {
    const call = this.#ordered?.callOf(outputs);
    if (call === undefined) return false;
    const { settings, runtime, publishing } = this.#options;
    if (error.code === 'UNKNOWN_TOPIC_OR_PARTITION') {
      for (const { topic } of outputs.events) publishing.forgetTopic(topic);
    }
    const { place, attempt, registration } = call;
    const policy = registration?.retry === undefined ? settings : { retry: registration.retry };
    const failure = failureOf({ thrown: { error } }, attempt, policy, runtime.random);
    if (failure === null) return false;
    const { reason, message, delayMs } = failure;
    if (reason !== null && !settings.deadLetter.use) {
      this.failed(new HandlerFailedError(place, attempt, error));
      return false;
    }
    const fields = { requestId: place.requestId, topic: place.topic, partition: place.partition };
    runtime.logger.warn({ ...fields, attempt, delayMs, error: message }, 'what a handler published cannot be stored');
    return this.#ordered?.outputsRefused(partition, outputs, failure) === true;
  }

  failed(error: Error): void {
    this.stop();
    this.#options.failed(error);
  }

  get #isTransactional(): boolean {
    return this.#options.settings.guarantee === 'exactly-once';
  }

  /** Of outputs that are in no transaction that is committed. */
  #bufferedOutputBytes(): number {
    let sum = this.#runningOutputBytes;
    for (const { outcomes } of this.#consumption?.partitions() ?? []) sum += outcomes.outputBytes;
    return sum;
  }

  /** One from each partition in turn, so that none waits for another. */
  #takeAll(consumption: Consumption): void {
    const { maxPendingEvents } = this.#options.settings;
    const hasRoom = (): boolean => this.#scheduler.wantsMore && this.#scheduler.pending < maxPendingEvents;
    for (let took = true; took;) {
      took = false;
      for (const partition of consumption.partitions()) {
        if (!hasRoom()) return;
        if (this.#ordered?.take(partition)) took = true;
      }
      for (const queue of consumption.queues()) {
        if (this.#isTransactional && this.#claims === null) throw parallelError(queue.topic);
        if (!hasRoom()) return;
        if (this.#parallel?.take(queue)) took = true;
      }
    }
  }

  #run(task: Task): Awaitable<WorkOutcome> {
    if (this.#scheduler.running === 1) this.#progressMs = this.#options.runtime.clock.monotonicMs();
    task.source.began(task);
    return this.#handle(task);
  }

  #handle(task: Task): Awaitable<WorkOutcome> {
    const { registration, source } = task;
    const { settings } = this.#options;
    const claims = this.#claims;
    if (registration === null) {
      if (settings.unhandled === 'skip') return source.skipped(task, 'unhandled');
      const message = `no handler of ${task.events[0]?.topic} wants events of type ${task.events[0]?.type ?? '(none)'}`;
      const error = new NaruError('HANDLER_FAILED', message);
      return this.#failed(task, { error, message, reason: 'unhandled', delayMs: 0 }, 0, '');
    }
    if (claims !== null) return this.#handleOnce(task, registration, claims);
    if (settings.guarantee === 'at-most-once') return this.#handleCommitted(task, registration, task.events, null);
    return this.#call(task, registration, task.events, null);
  }

  async #handleCommitted(
    task: Task,
    registration: Registration,
    events: readonly NaruEvent[],
    claimed: ClaimedIds | null,
  ): Promise<WorkOutcome> {
    if (await task.source.commitFirst(task)) return this.#call(task, registration, events, claimed);
    if (claimed !== null) await this.#claims?.release(claimed);
    return undefined;
  }

  /** Without a promise where there is nothing to wait for. */
  #call(
    task: Task,
    registration: Registration,
    events: readonly NaruEvent[],
    claimed: ClaimedIds | null,
  ): Awaitable<WorkOutcome> {
    task.attempt += 1;
    const call = new HandlerCall(task, this.#options.group, task.source.buffersOutputs ? this.#buffered : this.#plain);
    const called = call.run(registration, events, this.#options.runtime.clock);
    if (!isPromise(called)) return this.#called(task, registration, claimed, call, called);
    return called.then((result) => this.#called(task, registration, claimed, call, result));
  }

  #called(
    task: Task,
    registration: Registration,
    claimed: ClaimedIds | null,
    call: HandlerCall,
    result: CallResult,
  ): Awaitable<WorkOutcome> {
    const { runtime, settings } = this.#options;
    this.#runningOutputBytes -= call.outputBytes;
    const policy = registration.retry === undefined ? settings : { retry: registration.retry };
    const failure = failureOf(result, task.attempt, policy, runtime.random);
    if (claimed !== null) return this.#calledOnce(task, claimed, result, failure);
    if (failure === null) return task.source.succeeded(task, result);
    return this.#failed(task, failure, result.durationMs, result.note);
  }

  async #calledOnce(
    task: Task,
    claimed: ClaimedIds,
    { note, durationMs, outputs }: CallResult,
    failure: Failure | null,
  ): Promise<WorkOutcome> {
    const { source } = task;
    if (failure !== null) {
      const outcome = this.#failed(task, failure, durationMs, note);
      if (typeof outcome !== 'number') await this.#claims?.release(claimed);
      return outcome;
    }
    if (source.buffersOutputs) {
      // Not before it is committed: a crash between would leave an event out whose outputs nobody has.
      const accepted = (): void => void this.#claims?.complete(claimed);
      const undone = (): void => void this.#claims?.release(claimed);
      return source.succeeded(task, { note, durationMs, outputs, accepted, undone });
    }
    await this.#claims?.complete(claimed);
    return source.succeeded(task, { note, durationMs, outputs });
  }

  #failed(task: Task, failure: Failure, durationMs: number, note: string): WorkOutcome {
    const { settings, runtime } = this.#options;
    const first = task.events[0] as NaruEvent;
    const { requestId, topic, partition } = first;
    if (failure.reason !== null && !settings.deadLetter.use && !task.source.isStale(task)) {
      runtime.logger.error(
        { requestId, topic, partition, error: failure.message },
        'handler failed for good; stopping',
      );
      this.failed(new HandlerFailedError(first, task.attempt, failure.error));
      return undefined;
    }
    const { reason, message: error, delayMs } = failure;
    runtime.logger.warn(
      { requestId, topic, partition, attempt: task.attempt, reason, delayMs, error },
      'handler failed',
    );
    return task.source.failed(task, failure, durationMs, note);
  }

  /** Only what nobody has handled, and nobody else is at. */
  async #handleOnce(task: Task, registration: Registration, claims: EventClaims): Promise<WorkOutcome> {
    const { source } = task;
    const claimed = await claims.claim(task);
    if (typeof claimed === 'number') return source.postponed(task, claimed);
    const events = task.events.filter((_event, i) => claimed.tokens[i] !== '');
    if (events.length === 0) return source.skipped(task, 'duplicate');
    const outcome =
      this.#options.settings.guarantee === 'at-most-once'
        ? await this.#handleCommitted(task, registration, events, claimed)
        : await this.#call(task, registration, events, claimed);
    if (typeof outcome === 'number') return outcome; // it stays claimed until its next attempt
    task.claimed = [];
    return outcome;
  }
}

function parallelError(topic: string): NaruError {
  const message =
    `${topic} is a parallel topic: exactly-once by transactions is for ordered topics. Set idempotency.use, or give the option ` +
    'idempotency a store, for its events to be handled once by their ids';
  return new NaruError('INVALID_CONFIGURATION', message);
}
