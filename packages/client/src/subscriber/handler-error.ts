/** How handlers say what is wrong, and how `run` does. */
import { NaruError } from '@naru/protocol';
import type { TopicPartition } from './event.ts';

/** Thrown by a handler for an event that no further attempt will help: it becomes a dead letter at once. */
export class NonRetriableError extends Error {
  override readonly name = 'NonRetriableError';
}

/**
 * What `run` rejects with when an event cannot be handled and dead letters are off (`deadLetter: { use: false }`). The event is not
 * committed. `cause` is the last error.
 */
export class HandlerFailedError extends NaruError {
  override readonly name = 'HandlerFailedError';
  readonly topic: string;
  readonly partition: number;
  readonly offset: bigint;
  readonly requestId: string;
  readonly attempts: number;

  constructor(place: TopicPartition & { offset: bigint; requestId: string }, attempts: number, cause: unknown) {
    const { topic, partition, offset, requestId } = place;
    const times = attempts === 1 ? 'once' : `${attempts} times`;
    const why = cause instanceof Error ? cause.message : String(cause);
    super('HANDLER_FAILED', `handler of ${topic}/${partition}/${offset} (${requestId}) failed ${times}: ${why}`, {
      cause,
    });
    this.topic = topic;
    this.partition = partition;
    this.offset = offset;
    this.requestId = requestId;
    this.attempts = attempts;
  }
}

/** What `ctx.retryIn` and `ctx.deadLetter` throw to end the handler. */
export class HandlingEnded extends Error {
  override readonly name = 'HandlingEnded';
}
