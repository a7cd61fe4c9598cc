/**
 * Runs handlers: takes events up while there is room, claims them where they are to be handled once, calls the handler and tells
 * the event's source how it went. What follows from that is the source's: ordered-work.ts, parallel-work.ts.
 */
import { createHash } from 'node:crypto';
import { NaruError, isNaruError } from '@naru/protocol';
import { MAX_ID_BYTES } from '../idempotency/broker-idempotency.ts';
import type { MemberClaims } from '../idempotency/idempotency-store.ts';
import type { Runtime } from '../runtime.ts';
import { isPromise } from '../serde/serde.ts';
import type { SubscriberSettings } from '../settings.ts';
import type { AssignedPartition } from './assigned-partition.ts';
import type { Consumer } from './consumer.ts';
import type { Consumption } from './consumption.ts';
import type { NaruEvent } from './event.ts';
import { HandlerCall, failureOf, messageOf } from './handler-call.ts';
import type { Failure } from './handler-call.ts';
import { HandlerFailedError } from './handler-error.ts';
import { LaneScheduler } from './lane-scheduler.ts';
import type { WorkOutcome } from './lane-scheduler.ts';
import { OrderedWork } from './ordered-work.ts';
import type { Concluded } from './outcome-book.ts';
import { ParallelWork } from './parallel-work.ts';
import type { Registration, Registrations } from './registrations.ts';
import type { Task } from './task.ts';

/** How long to wait for a store of ids, or another holder of one, before asking again; milliseconds. */
const MIN_BUSY_MS = 100;
const MAX_BUSY_MS = 1_000;

export interface HandlerRunnerOptions {
  readonly runtime: Runtime;
  readonly settings: SubscriberSettings;
  readonly concurrency: number;
  readonly group: string;
  readonly registrations: Registrations;
  /** Where events are claimed by their ids; undefined for no such thing. */
  readonly claims: MemberClaims | undefined;
  /** The broker will not keep more failed events of a partition for now; null when it does again. */
  stalled(partition: AssignedPartition, error: NaruError | null): void;
  /** Called once, with what ends the run. */
  failed(error: Error): void;
}

/** A token for each id, empty for one that somebody else has handled. */
interface ClaimedIds {
  readonly claims: MemberClaims;
  readonly ids: readonly string[];
  readonly tokens: readonly string[];
}

export class HandlerRunner implements Consumer {
  readonly #options: HandlerRunnerOptions;
  readonly #scheduler: LaneScheduler<Task>;
  #consumption: Consumption | null = null;
  #ordered: OrderedWork | null = null;
  #parallel: ParallelWork | null = null;
  #isTaking = false;
  #progressMs = 0;

  constructor(options: HandlerRunnerOptions) {
    this.#options = options;
    this.#scheduler = new LaneScheduler<Task>({
      timers: options.runtime.timers,
      concurrency: options.concurrency,
      run: (task) => this.#run(task),
      isStale: (task) => task.source.isStale(task),
      dropped: (task) => task.source.dropped(task),
      progressed: () => {
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
    this.#options.claims?.settled?.(id);
  }

  takenBack(entries: readonly Concluded[]): void {
    this.#ordered?.takenBack(entries);
    this.wake();
  }

  stalled(partition: AssignedPartition, error: NaruError | null): void {
    if (isNaruError(error, 'INCONSISTENT_GROUP_PROTOCOL')) this.#ordered?.cannotHold(partition);
    else this.#options.stalled(partition, error);
  }

  failed(error: Error): void {
    this.stop();
    this.#options.failed(error);
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
        if (!hasRoom()) return;
        if (this.#parallel?.take(queue)) took = true;
      }
    }
  }

  async #run(task: Task): Promise<WorkOutcome> {
    if (this.#scheduler.running === 1) this.#progressMs = this.#options.runtime.clock.monotonicMs();
    task.source.began(task);
    let outcome: WorkOutcome;
    try {
      outcome = await this.#handle(task);
    } catch (error) {
      this.failed(error as Error); // a bug, or the user's serde or store out of bounds
    }
    this.#progressMs = Math.max(this.#progressMs, this.#options.runtime.clock.monotonicMs());
    task.source.ended(task);
    return outcome;
  }

  #handle(task: Task): Promise<WorkOutcome> | WorkOutcome {
    const { registration, source } = task;
    const { settings, claims } = this.#options;
    if (registration === null) {
      if (settings.unhandled === 'skip') return source.skipped(task, 'unhandled');
      const message = `no handler of ${task.events[0]?.topic} wants events of type ${task.events[0]?.type ?? '(none)'}`;
      const error = new NaruError('HANDLER_FAILED', message);
      return this.#failed(task, { error, message, reason: 'unhandled', delayMs: 0 }, 0, '');
    }
    if (claims !== undefined) return this.#handleOnce(task, registration, claims);
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
    if (claimed !== null) await this.#release(claimed);
    return undefined;
  }

  async #call(
    task: Task,
    registration: Registration,
    events: readonly NaruEvent[],
    claimed: ClaimedIds | null,
  ): Promise<WorkOutcome> {
    const { source } = task;
    const { runtime, settings, group } = this.#options;
    task.attempt += 1;
    const called = new HandlerCall(task, group).run(registration, events, runtime.clock);
    const result = isPromise(called) ? await called : called;
    const policy = registration.retry === undefined ? settings : { retry: registration.retry };
    const failure = failureOf(result, task.attempt, policy, runtime.random);
    if (failure === null) {
      if (claimed !== null) await this.#complete(claimed);
      return source.succeeded(task, { note: result.note, durationMs: result.durationMs });
    }
    const outcome = this.#failed(task, failure, result.durationMs, result.note);
    if (claimed !== null && typeof outcome !== 'number') await this.#release(claimed);
    return outcome;
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
  async #handleOnce(task: Task, registration: Registration, claims: MemberClaims): Promise<WorkOutcome> {
    const { source } = task;
    const { settings, runtime } = this.#options;
    const { leaseMs } = settings.idempotency;
    const ids = task.events.map(claimId);
    if (task.claimed.length > 0 && task.claimedUntilMs - runtime.clock.monotonicMs() < leaseMs / 2) {
      // Attempts and the waits between them may take longer than the lease: what somebody else has by now is theirs.
      await this.#release({ claims, ids, tokens: task.claimed });
      task.claimed = [];
    }
    if (task.claimed.length === 0) {
      const untilMs = runtime.clock.monotonicMs() + leaseMs;
      const claimed = await this.#claim(ids, claims);
      if (typeof claimed === 'number') return source.postponed(task, claimed);
      task.claimed = claimed;
      task.claimedUntilMs = untilMs;
    }
    const tokens = task.claimed;
    if (claims.complete === undefined) task.idempotencyIds = ids.map((id, i) => (tokens[i] === '' ? '' : id));
    const events = task.events.filter((_event, i) => tokens[i] !== '');
    if (events.length === 0) return source.skipped(task, 'duplicate');
    const claimed = { claims, ids, tokens };
    const outcome =
      settings.guarantee === 'at-most-once'
        ? await this.#handleCommitted(task, registration, events, claimed)
        : await this.#call(task, registration, events, claimed);
    if (typeof outcome === 'number') return outcome; // it stays claimed until its next attempt
    task.claimed = [];
    return outcome;
  }

  /** A token for each id, empty for one that is done; or milliseconds until it is worth asking again. */
  async #claim(ids: readonly string[], claims: MemberClaims): Promise<string[] | number> {
    const { runtime } = this.#options;
    let waitMs: number | null = null;
    // Of two events of one id in a batch the first is handled, and the other a duplicate of it.
    const seen = new Set<string>();
    const claimOnce = async (id: string): Promise<string> => {
      if (seen.has(id)) return '';
      seen.add(id);
      try {
        const result = await claims.claim(id);
        if (result.state === 'busy') {
          waitMs = Math.min(MAX_BUSY_MS, Math.max(MIN_BUSY_MS, result.untilMs - runtime.clock.nowMs()));
        }
        return result.state === 'claimed' ? result.token : '';
      } catch (error) {
        runtime.logger.warn({ error: messageOf(error) }, 'event ids could not be claimed; trying again');
        waitMs = MAX_BUSY_MS;
        return '';
      }
    };
    const tokens = await Promise.all(ids.map(claimOnce));
    if (waitMs === null) return tokens;
    await this.#release({ claims, ids, tokens });
    return waitMs;
  }

  async #complete({ claims, ids, tokens }: ClaimedIds): Promise<void> {
    const { complete } = claims;
    if (complete === undefined) return; // with the commit
    const done = tokens.flatMap((token, i) => (token === '' ? [] : [complete(ids[i] as string, token)]));
    await Promise.all(done).catch((error: unknown) => {
      const fields = { error: messageOf(error) };
      this.#options.runtime.logger.warn(fields, 'handled events were not remembered: duplicates may be handled again');
    });
  }

  async #release({ claims, ids, tokens }: ClaimedIds): Promise<void> {
    for (const [i, token] of tokens.entries()) {
      // What is not released is free when its lease ends.
      if (token !== '') await claims.release(ids[i] as string, token).catch(() => {});
    }
  }
}

/** The event's own id; a digest in place of one that is longer than the broker takes, its request id in place of an empty one. */
function claimId({ id, requestId }: NaruEvent): string {
  if (id === '') return requestId;
  if (Buffer.byteLength(id) <= MAX_ID_BYTES) return id;
  return `sha256:${createHash('sha256').update(id).digest('hex')}`;
}
