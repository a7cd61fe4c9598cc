/**
 * What follows when events were handled, and what their handler published turns out to be something that the broker will never store: too
 * large for it or its topic, to a topic that is gone. The events have failed then, as if the handler had thrown.
 *
 * They are no longer in memory, so they go to the broker as held events, which gives them back for their next attempt. So does what
 * was finished after them of the same keys, to be handled after them again: its outputs must not come before theirs. Only an event that
 * the broker has given back already becomes a dead letter, since its key stands still until that is durable; another one whose attempts
 * are used up is given back once more.
 */
import { OutcomeKind } from '@naru/protocol/proto';
import type { Failure } from './handler-call.ts';
import type { Concluded, FinishedOutputs, OutcomeBook, OutcomeFields } from './outcome-book.ts';
import type { Task } from './task.ts';

/** What is kept of a call until its outputs are committed. */
export interface FinishedCall extends Pick<Task, 'registration' | 'attempt' | 'firstFailureMs'> {
  /** Of its first event. */
  readonly place: {
    readonly topic: string;
    readonly partition: number;
    readonly offset: bigint;
    readonly requestId: string;
  };
}

export class RefusedOutputs {
  readonly #calls = new WeakMap<FinishedOutputs, FinishedCall>();

  finished(outputs: FinishedOutputs, { registration, attempt, firstFailureMs, events }: Task): void {
    const [first] = events;
    if (first === undefined) return;
    const { topic, partition, offset, requestId } = first;
    const place = { topic, partition, offset, requestId };
    this.#calls.set(outputs, { registration, attempt, firstFailureMs, place });
  }

  find(outputs: FinishedOutputs): FinishedCall | undefined {
    return this.#calls.get(outputs);
  }

  /**
   * Takes the events of the call out of the book, and what is to be handled after them.
   *
   * @param nextOrder of an outcome, among all of the subscriber's
   * @returns what was taken out; all of it is concluded in another way
   */
  undo(
    book: OutcomeBook,
    outputs: FinishedOutputs,
    failure: Failure,
    nowMs: number,
    nextOrder: () => number,
  ): readonly Concluded[] {
    const call = this.#calls.get(outputs);
    if (call === undefined) return [];
    const undone = book.takeOutFrom(outputs);
    for (const entry of undone) {
      const { accepted: _accepted, undone: _undone, outputs: of, ...rest } = entry;
      const isFailed = of === outputs;
      const isDead = isFailed && failure.reason !== null && entry.taken === null;
      const kind = isDead ? OutcomeKind.DEAD_LETTERED : OutcomeKind.HELD;
      const fields = isFailed ? failedFields(entry, call, failure, isDead, nowMs) : againFields(entry);
      book.conclude({ ...rest, kind, fields, order: nextOrder(), isPlain: false, isForgotten: entry.taken !== null });
    }
    return undone;
  }
}

function failedFields(
  { fields }: Concluded,
  { attempt, firstFailureMs }: FinishedCall,
  { reason, message, delayMs }: Failure,
  isDead: boolean,
  nowMs: number,
): OutcomeFields {
  const isLast = reason !== null && !isDead;
  return {
    ...fields,
    attempts: isLast ? Math.max(0, attempt - 1) : attempt,
    reason: isDead ? (reason ?? '') : '',
    error: message,
    firstFailureMs: BigInt(firstFailureMs || nowMs),
    lastFailureMs: BigInt(nowMs),
    nextAttemptMs: BigInt(isDead ? 0 : nowMs + Math.round(delayMs)),
  };
}

/** Nothing is wrong with it: the attempt does not count. */
function againFields({ fields }: Concluded): OutcomeFields {
  return { ...fields, attempts: Math.max(0, (fields.attempts ?? 1) - 1), nextAttemptMs: 0n };
}
