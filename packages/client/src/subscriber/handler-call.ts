/** One call of a handler: the context that it gets, and what came of it. Decides nothing. */
import { NaruError, isNaruError } from '@naru/protocol';
import type { Clock, Random } from '@naru/base';
import { backoffMs } from '../backoff.ts';
import type { Awaitable } from '../serde/serde.ts';
import { isPromise } from '../serde/serde.ts';
import type { SubscriberSettings } from '../settings.ts';
import { CallOutputs } from './call-outputs.ts';
import type { CallOutputsOptions } from './call-outputs.ts';
import type { HandlerContext, NaruEvent } from './event.ts';
import { HandlingEnded, NonRetriableError } from './handler-error.ts';
import type { FinishedOutputs } from './outcome-book.ts';
import { readsLazily } from './registrations.ts';
import type { Registration } from './registrations.ts';
import type { Task } from './task.ts';

/** The broker keeps no more of these, and what waits for a commit is kept in memory; UTF-16 units. */
const MAX_NOTE_LENGTH = 1_000;
const MAX_ERROR_LENGTH = 2_000;
/** A longer wait for another attempt is this one, as of records of parallel topics: 7 days. */
export const MAX_RETRY_MS = 7 * 86_400_000;

/** Why an event became a dead letter. Part of the contract with the broker and of docs/delivery.md. */
export type DeadLetterReason = 'attempts-exhausted' | 'non-retriable' | 'rejected' | 'deserialization' | 'unhandled';

/** What is to become of an event that was not handled. */
export interface Failure {
  readonly error: unknown;
  /** For people, and the dead letter. */
  readonly message: string;
  /** Null: try again. */
  readonly reason: DeadLetterReason | null;
  /** Milliseconds until then. */
  readonly delayMs: number;
}

export interface CallResult {
  readonly note: string;
  readonly durationMs: number;
  /** Undefined when the handler returned and wanted nothing else. */
  readonly thrown: { readonly error: unknown } | undefined;
  readonly retryInMs: number | undefined;
  readonly rejectedFor: string | undefined;
  /** What goes with the events; null when there is none, or the call failed. */
  readonly outputs: FinishedOutputs | null;
}

export class HandlerCall implements HandlerContext {
  readonly #task: Task;
  readonly attempt: number;
  readonly group: string;
  #note = '';
  #retryInMs: number | undefined;
  #rejectedFor: string | undefined;
  readonly #publishing: CallOutputsOptions;
  #outputs: CallOutputs | null = null;

  /** The task's next attempt. */
  constructor(task: Task, group: string, publishing: CallOutputsOptions) {
    this.#publishing = publishing;
    this.#task = task;
    this.attempt = task.attempt;
    this.group = group;
  }

  /** Bytes that it has buffered. */
  get outputBytes(): number {
    return this.#outputs?.sizeBytes ?? 0;
  }

  get signal(): AbortSignal {
    return this.#task.source.signal(this.#task);
  }

  get requestId(): string {
    return (this.#task.events[0] as NaruEvent).requestId;
  }

  // Made when asked for, since most handlers do not, and bound, so that they can be taken out of the context.

  get note(): (text: string) => void {
    return (text) => {
      this.#note = shortened(text, MAX_NOTE_LENGTH);
    };
  }

  get retryIn(): (ms: number) => never {
    return (ms) => {
      if (!(ms >= 0)) throw new NaruError('INVALID_REQUEST', `retryIn expects milliseconds from 0, got ${String(ms)}`);
      this.#retryInMs = Math.min(ms, MAX_RETRY_MS);
      throw new HandlingEnded(`to be handled again in ${ms} ms`);
    };
  }

  get deadLetter(): (reason: string) => never {
    return (reason) => {
      this.#rejectedFor = shortened(reason, MAX_ERROR_LENGTH);
      throw new HandlingEnded(`rejected: ${reason}`);
    };
  }

  get publish(): HandlerContext['publish'] {
    return (name, value, options) => {
      this.#outputs ??= new CallOutputs(this.#publishing);
      return this.#outputs.publish(name, value, options);
    };
  }

  get extend(): (ms: number) => void {
    return (ms) => {
      if (!(ms >= 0)) throw new NaruError('INVALID_REQUEST', `extend expects milliseconds from 0, got ${String(ms)}`);
      this.#task.source.extend(this.#task, ms);
    };
  }

  /** Calls the handler; never throws or rejects. A promise only where there is something to wait for. */
  run(registration: Registration, events: readonly NaruEvent[], clock: Clock): Awaitable<CallResult> {
    const startMs = clock.monotonicMs();
    let returned: unknown;
    try {
      returned = readsLazily(registration)
        ? this.#call(registration, events)
        : this.#decodeAndCall(registration, events);
    } catch (error) {
      return this.#failed(error, clock, startMs);
    }
    if (!isPromise(returned)) return this.#succeeded(clock, startMs);
    return returned.then(
      () => this.#succeeded(clock, startMs),
      (error: unknown) => this.#failed(error, clock, startMs),
    );
  }

  #succeeded(clock: Clock, startMs: number): Awaitable<CallResult> {
    if (this.#outputs === null) return this.#result(undefined, null, clock, startMs);
    return this.#outputs.ended(this.#task.events.length).then(
      (outputs) => this.#result(undefined, outputs, clock, startMs),
      (error: unknown) => this.#failed(error, clock, startMs),
    );
  }

  #failed(error: unknown, clock: Clock, startMs: number): CallResult {
    this.#outputs?.drop();
    return this.#result({ error }, null, clock, startMs);
  }

  #result(thrown: CallResult['thrown'], outputs: FinishedOutputs | null, clock: Clock, startMs: number): CallResult {
    return {
      note: this.#note,
      durationMs: Math.max(0, Math.round(clock.monotonicMs() - startMs)),
      thrown,
      retryInMs: this.#retryInMs,
      rejectedFor: this.#rejectedFor,
      outputs,
    };
  }

  #call(registration: Registration, events: readonly NaruEvent[]): unknown {
    if (registration.kind === 'event') return registration.handler(events[0] as NaruEvent, this);
    return registration.handler(events, this);
  }

  async #decodeAndCall(registration: Registration, events: readonly NaruEvent[]): Promise<unknown> {
    for (const event of events) await event.decode();
    return this.#call(registration, events);
  }
}

/** What follows from a call; null when all went well. */
export function failureOf(
  result: Pick<CallResult, 'thrown'> & Partial<Pick<CallResult, 'retryInMs' | 'rejectedFor'>>,
  attempt: number,
  { retry }: Pick<SubscriberSettings, 'retry'>,
  random: Random,
): Failure | null {
  const { thrown, retryInMs, rejectedFor } = result;
  if (thrown === undefined && retryInMs === undefined && rejectedFor === undefined) return null;
  const error = thrown?.error ?? new HandlingEnded(rejectedFor ?? 'to be handled again');
  const message = messageOf(error);
  if (rejectedFor !== undefined) return { error, message: rejectedFor, reason: 'rejected', delayMs: 0 };
  if (error instanceof NonRetriableError) return { error, message, reason: 'non-retriable', delayMs: 0 };
  if (isNaruError(error, 'SERIALIZATION')) return { error, message, reason: 'deserialization', delayMs: 0 };
  const attempts = retry.attempts === 'unlimited' ? Number.POSITIVE_INFINITY : retry.attempts;
  if (attempt >= attempts) return { error, message, reason: 'attempts-exhausted', delayMs: 0 };
  return { error, message, reason: null, delayMs: retryInMs ?? backoffMs(retry.backoff, attempt, random) };
}

export function messageOf(error: unknown): string {
  return shortened(error instanceof Error ? `${error.name}: ${error.message}` : String(error), MAX_ERROR_LENGTH);
}

/** Whatever a handler without types said. */
function shortened(said: unknown, maxLength: number): string {
  const text = String(said);
  return text.length <= maxLength ? text : text.slice(0, maxLength);
}
