/** What the pull form gives: the next events of one partition. */
import { NaruError } from '@naru/protocol';
import type { CallOptions } from '../call-options.ts';
import type { CommitTarget, Committable } from '../transaction/commit-target.ts';
import type { NaruEvent } from './event.ts';
import { MAX_RETRY_MS } from './handler-call.ts';

/** What is to become of an event that is not simply handled. */
export type BatchVerdict = { readonly deadLetter: string } | { readonly retryMs: number };

export interface BatchSource {
  readonly topic: string;
  readonly partition: number;
  readonly highWatermark: bigint;
  commit(options: CallOptions | undefined): Promise<void>;
  /** As Committable's. */
  joinTransaction(current: CommitTarget | null): CommitTarget;
  /** By offset. */
  readonly verdicts: Map<number, BatchVerdict>;
}

/** The next events of one partition, in order; at least one. */
export class EventBatch<T = unknown> implements Iterable<NaruEvent<T>>, Committable {
  readonly #source: BatchSource;
  readonly topic: string;
  readonly partition: number;
  readonly events: readonly NaruEvent<T>[];
  /** Offset after the last event that the broker has; of a parallel topic, of the last one in this batch. */
  readonly highWatermark: bigint;

  constructor(source: BatchSource, events: readonly NaruEvent<T>[]) {
    this.#source = source;
    this.topic = source.topic;
    this.partition = source.partition;
    this.events = events;
    this.highWatermark = source.highWatermark;
  }

  /** Commits this batch and those of its partition before it. Resolves when that is durable. */
  commit(options?: CallOptions): Promise<void> {
    return this.#source.commit(options);
  }

  /** For `tx.commit(batch)`, which commits this batch, and those of its partition before it, with a transaction. */
  joinTransaction(current: CommitTarget | null): CommitTarget {
    return this.#source.joinTransaction(current);
  }

  /**
   * The event could not be handled: the commit of its batch makes it a dead letter of the group. Later events of its key in this batch
   * come again, in order, even when they were handled: leave them out.
   */
  deadLetter(event: NaruEvent<T>, reason: string): void {
    this.#judge(event, { deadLetter: reason.slice(0, 2_000) });
  }

  /**
   * The event is to be given again after so many milliseconds, to whoever reads the partition then. Later events of its key in this
   * batch come after it, even when they were handled: leave them out.
   */
  retry(event: NaruEvent<T>, ms: number): void {
    if (!(ms >= 0)) throw new NaruError('INVALID_REQUEST', `expected milliseconds from 0, got ${String(ms)}`);
    this.#judge(event, { retryMs: Math.min(ms, MAX_RETRY_MS) });
  }

  [Symbol.iterator](): Iterator<NaruEvent<T>> {
    return this.events[Symbol.iterator]();
  }

  #judge(event: NaruEvent<T>, verdict: BatchVerdict): void {
    if (!this.events.includes(event)) throw new NaruError('INVALID_REQUEST', 'the event is not of this batch');
    this.#source.verdicts.set(Number(event.offset), verdict);
  }
}
