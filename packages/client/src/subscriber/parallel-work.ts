/**
 * Records of parallel topics on their way to handlers: each for itself, settled by how handling went. The broker counts, waits and
 * dead-letters.
 */
import { SettlementKind } from '@naru/protocol/proto';
import type { Runtime } from '../runtime.ts';
import { json } from '../serde/serde.ts';
import type { SubscriberSettings } from '../settings.ts';
import { NaruEvent } from './event.ts';
import type { Failure } from './handler-call.ts';
import type { LaneScheduler, WorkOutcome } from './lane-scheduler.ts';
import type { AcquiredRecord, QueuePartition } from './queue-partition.ts';
import type { Registrations } from './registrations.ts';
import type { Settlements } from './settlements.ts';
import type { Success, Task, TaskSource } from './task.ts';

export interface ParallelTask extends Task {
  readonly source: ParallelWork;
  readonly acquired: readonly AcquiredRecord[];
  isCommitted: boolean;
}

export interface ParallelWorkOptions {
  readonly runtime: Runtime;
  readonly settings: SubscriberSettings;
  readonly registrations: Registrations;
  readonly scheduler: LaneScheduler<Task>;
  readonly settlements: Settlements;
  /** A handler of the partition has ended. */
  ended(partition: QueuePartition): void;
}

export class ParallelWork implements TaskSource {
  /** Each record is settled for itself. */
  readonly buffersOutputs = false;
  readonly #options: ParallelWorkOptions;

  constructor(options: ParallelWorkOptions) {
    this.#options = options;
  }

  /** Takes up the next record of the partition, or the next records for a batch handler. False when there is none. */
  take(partition: QueuePartition): boolean {
    const { registrations, scheduler, settings } = this.#options;
    if (partition.isPaused || partition.isGone) return false;
    const limit = registrations.isBatch(partition.topic) ? settings.maxBatchEvents : 1;
    const acquired: AcquiredRecord[] = [];
    while (acquired.length < limit) {
      const next = partition.take();
      if (next === null) break;
      acquired.push(next);
    }
    const first = acquired[0];
    if (first === undefined) return false;
    scheduler.add(null, this.#task(partition, first, acquired));
    return true;
  }

  isStale({ acquired }: ParallelTask): boolean {
    return !acquired.some((one) => one.partition.isInHand(one));
  }

  dropped(_task: ParallelTask): void {}

  signal({ acquired }: ParallelTask): AbortSignal {
    return (acquired[0] as AcquiredRecord).signal;
  }

  began({ acquired }: ParallelTask): void {
    const untilMs = this.#options.runtime.clock.monotonicMs() + this.#options.settings.maxPollIntervalMs;
    for (const one of acquired) one.handledUntilMs = untilMs;
    const first = acquired[0];
    if (first !== undefined) first.partition.running += 1;
  }

  ended({ acquired }: ParallelTask): void {
    const first = acquired[0];
    if (first !== undefined) this.#options.ended(first.partition);
  }

  extend({ acquired }: ParallelTask, ms: number): void {
    const untilMs = this.#options.runtime.clock.monotonicMs() + ms;
    for (const one of acquired) {
      one.handledUntilMs = Math.max(one.handledUntilMs, untilMs);
      this.#options.settlements.renew(one);
    }
  }

  async commitFirst(task: ParallelTask): Promise<boolean> {
    task.isCommitted = true;
    const { settlements } = this.#options;
    const settled = task.acquired.map((one, i) => {
      const idempotencyId = task.idempotencyIds[i] ?? '';
      return settlements.settled(one, SettlementKind.ACCEPT, idempotencyId === '' ? undefined : { idempotencyId });
    });
    void settlements.flush();
    // What is not known to be accepted may be given to somebody else.
    return (await Promise.all(settled)).every((error) => error === null);
  }

  succeeded({ acquired, idempotencyIds }: ParallelTask, { note, durationMs }: Success): WorkOutcome {
    for (const [i, one] of acquired.entries()) {
      const idempotencyId = idempotencyIds[i] ?? '';
      const isPlain = note === '' && idempotencyId === '';
      const fields = isPlain ? undefined : { note, idempotencyId, durationMs: BigInt(durationMs) };
      this.#options.settlements.settle(one, SettlementKind.ACCEPT, fields);
    }
    return undefined;
  }

  skipped({ acquired }: ParallelTask, why: 'unhandled' | 'duplicate'): WorkOutcome {
    for (const one of acquired) this.#options.settlements.settle(one, SettlementKind.ACCEPT, { note: why });
    return undefined;
  }

  postponed({ acquired }: ParallelTask, delayMs: number): WorkOutcome {
    const fields = { delayMs: BigInt(Math.round(delayMs)) };
    for (const one of acquired) this.#options.settlements.settle(one, SettlementKind.RETURN, fields);
    return undefined;
  }

  failed({ acquired, idempotencyIds }: ParallelTask, failure: Failure, durationMs: number, note: string): WorkOutcome {
    const { reason, message: error, delayMs } = failure;
    // What is wrong with one of several is not known: all are tried again, and the broker counts.
    const isRejected = reason !== null && (acquired.length === 1 || reason === 'attempts-exhausted');
    for (const [i, one] of acquired.entries()) {
      const idempotencyId = idempotencyIds[i] ?? '';
      const fields = { error, note, durationMs: BigInt(durationMs), reason: reason ?? '', idempotencyId };
      if (isRejected) this.#options.settlements.settle(one, SettlementKind.REJECT, fields);
      else {
        const delay = { ...fields, delayMs: BigInt(Math.round(delayMs)) };
        this.#options.settlements.settle(one, SettlementKind.FAIL, delay);
      }
    }
    return undefined;
  }

  /** Gives back what nobody has begun with: not a failure, and not counted. */
  returnWaiting(partitions: Iterable<QueuePartition>): void {
    for (const partition of partitions) {
      for (const one of partition.inHand()) {
        if (one.handledUntilMs === 0) this.#options.settlements.settle(one, SettlementKind.RETURN);
      }
    }
  }

  #task(partition: QueuePartition, first: AcquiredRecord, acquired: readonly AcquiredRecord[]): ParallelTask {
    const { topic, topicId, partition: number } = partition;
    const registration = this.#options.registrations.find(topic, first.record);
    const serde = registration?.serde ?? json;
    return {
      source: this,
      registration,
      events: acquired.map(({ record }) => new NaruEvent(topic, topicId, number, record, serde)),
      attempt: first.deliveryCount - 1,
      firstFailureMs: 0,
      claimed: [],
      claimedUntilMs: 0,
      idempotencyIds: [],
      acquired,
      isCommitted: false,
    };
  }
}
