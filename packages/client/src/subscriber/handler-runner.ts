/**
 * Hands events to handlers: concurrently over keys, one key in sequence, failed ones again after a back-off.
 *
 * An event without a key waits for nobody. A batch handler gets its partition's events in sequence.
 */
import { isNaruError } from '@naru/protocol';
import { backoffMs } from '../backoff.ts';
import type { Runtime } from '../runtime.ts';
import type { Serde } from '../serde/serde.ts';
import type { SubscriberSettings } from '../settings.ts';
import type { AssignedPartition, TakenRecord } from './assigned-partition.ts';
import type { Consumer, Consumption } from './consumption.ts';
import { NaruEvent } from './event.ts';
import type { BatchHandler, Handler, HandlerContext } from './event.ts';
import { HandlerFailedError, NonRetriableError } from './handler-error.ts';
import { LaneScheduler } from './lane-scheduler.ts';
import type { WorkOutcome } from './lane-scheduler.ts';

export type Registration =
  | { readonly kind: 'event'; readonly handler: Handler<unknown>; readonly serde: Serde<unknown> }
  | { readonly kind: 'batch'; readonly handler: BatchHandler<unknown>; readonly serde: Serde<unknown> };

interface Task {
  readonly partition: AssignedPartition;
  readonly registration: Registration;
  /** At least one. */
  readonly taken: readonly TakenRecord[];
  readonly events: readonly NaruEvent[];
  attempt: number;
}

export interface HandlerRunnerOptions {
  readonly runtime: Runtime;
  readonly settings: SubscriberSettings;
  readonly concurrency: number;
  readonly group: string;
  readonly registrations: ReadonlyMap<string, Registration>;
  /** Called once, with what ends the run. */
  failed(error: Error): void;
}

export class HandlerRunner implements Consumer {
  readonly #options: HandlerRunnerOptions;
  readonly #scheduler: LaneScheduler<Task>;
  /** Partitions whose batch handler is at work. */
  readonly #inBatch = new Set<AssignedPartition>();
  #consumption: Consumption | null = null;
  #isTaking = false;
  #progressMs = 0;

  constructor(options: HandlerRunnerOptions) {
    this.#options = options;
    this.#scheduler = new LaneScheduler<Task>({
      timers: options.runtime.timers,
      concurrency: options.concurrency,
      run: (task) => this.#run(task),
      isStale: (task) => this.#isStale(task),
      progressed: () => {
        this.wake();
        this.#consumption?.pollMore();
      },
    });
  }

  /** Begins taking events from `consumption`. */
  attach(consumption: Consumption): void {
    this.#consumption = consumption;
  }

  /** Takes up nothing any more. */
  stop(): void {
    this.#scheduler.stop();
  }

  wake(): void {
    if (this.#consumption === null || this.#isTaking) return;
    this.#isTaking = true;
    this.#scheduler.dropStale();
    try {
      this.#takeAll(this.#consumption);
    } catch (error) {
      this.failed(error as Error);
    } finally {
      this.#isTaking = false;
    }
  }

  stalledMs(): number {
    return this.#scheduler.running === 0 ? 0 : this.#options.runtime.clock.monotonicMs() - this.#progressMs;
  }

  failed(error: Error): void {
    this.stop();
    this.#options.failed(error);
  }

  /** One from each partition in turn, so that none waits for another. */
  #takeAll(consumption: Consumption): void {
    for (let took = true; took;) {
      took = false;
      for (const partition of consumption.partitions()) {
        if (!this.#scheduler.wantsMore || this.#scheduler.pending >= this.#options.settings.maxPendingEvents) return;
        if (partition.isTakeable && this.#takeFrom(partition)) took = true;
      }
    }
  }

  #takeFrom(partition: AssignedPartition): boolean {
    const registration = this.#options.registrations.get(partition.topic);
    if (registration === undefined) return false;
    if (registration.kind === 'batch' && this.#inBatch.has(partition)) return false;
    const limit = registration.kind === 'batch' ? this.#options.settings.maxBatchEvents : 1;
    const taken: TakenRecord[] = [];
    const events: NaruEvent[] = [];
    while (taken.length < limit) {
      const next = partition.take();
      if (next === null) break;
      taken.push(next);
      const { topic, topicId } = partition;
      events.push(new NaruEvent(topic, topicId, partition.partition, next.record, registration.serde));
    }
    const first = taken[0];
    if (first === undefined) return false;
    if (registration.kind === 'batch') this.#inBatch.add(partition);
    const lane = registration.kind === 'batch' ? partition.key : laneOf(partition, first.record.key);
    this.#scheduler.add(lane, { partition, registration, taken, events, attempt: 0 });
    return true;
  }

  async #run(task: Task): Promise<WorkOutcome> {
    const { partition, registration, events } = task;
    const { clock } = this.#options.runtime;
    if (this.#scheduler.running === 1) this.#progressMs = clock.monotonicMs();
    task.attempt += 1;
    partition.running += 1;
    try {
      const context = this.#context(task);
      if (registration.kind === 'event') await registration.handler(events[0] as NaruEvent, context);
      else await registration.handler(events, context);
    } catch (error) {
      const againMs = this.#failedAttempt(task, error);
      this.#consumption?.ended(partition);
      return againMs;
    }
    this.#progressMs = clock.monotonicMs();
    if (partition.state !== 'gone') for (const taken of task.taken) partition.finish(taken);
    this.#inBatch.delete(partition);
    this.#consumption?.ended(partition);
    return undefined;
  }

  #failedAttempt(task: Task, error: unknown): WorkOutcome {
    const { partition, attempt } = task;
    const { settings, runtime } = this.#options;
    if (this.#isGone(task)) {
      this.#inBatch.delete(partition);
      return undefined;
    }
    const first = task.events[0] as NaruEvent;
    const attempts = settings.retry.attempts === 'unlimited' ? Number.POSITIVE_INFINITY : settings.retry.attempts;
    const isHopeless = error instanceof NonRetriableError || isNaruError(error, 'SERIALIZATION');
    const fields = {
      requestId: first.requestId,
      topic: first.topic,
      partition: first.partition,
      attempt,
      error: String(error),
    };
    if (isHopeless || attempt >= attempts) {
      runtime.logger.error(fields, 'handler failed for good; stopping');
      this.failed(new HandlerFailedError(first, attempt, error));
      return undefined;
    }
    const againMs = backoffMs(settings.retry.backoff, attempt, runtime.random);
    runtime.logger.warn({ ...fields, againMs }, 'handler failed; trying again');
    return againMs;
  }

  #context({ partition, attempt, events }: Task): HandlerContext {
    const first = events[0] as NaruEvent;
    return {
      signal: partition.signal,
      attempt,
      group: this.#options.group,
      get requestId() {
        return first.requestId;
      },
    };
  }

  #isStale(task: Task): boolean {
    const isStale = this.#isGone(task);
    if (isStale) this.#inBatch.delete(task.partition);
    return isStale;
  }

  #isGone({ partition, taken }: Task): boolean {
    return partition.isStale(taken[0] as TakenRecord);
  }
}

/** Null for an event without a key. */
function laneOf(partition: AssignedPartition, key: Uint8Array | null): string | null {
  if (key === null) return null;
  // One character a byte: equal keys, equal text, whatever the bytes.
  return `${partition.key}/${Buffer.from(key.buffer, key.byteOffset, key.length).toString('latin1')}`;
}
