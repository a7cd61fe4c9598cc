/**
 * What the handler runner runs: events that are handled together, with where they come from, which decides what follows from how it
 * went.
 */
import type { Failure } from './handler-call.ts';
import type { NaruEvent } from './event.ts';
import type { WorkOutcome } from './lane-scheduler.ts';
import type { FinishedOutputs } from './outcome-book.ts';
import type { Registration } from './registrations.ts';

export interface Task {
  readonly source: TaskSource;
  /** Null when nobody handles the event. */
  readonly registration: Registration | null;
  /** At least one; more for a batch handler. */
  readonly events: readonly NaruEvent[];
  /** Calls of the handler so far. */
  attempt: number;
  /** Milliseconds since the Unix epoch; 0 when it has not failed. */
  firstFailureMs: number;
  /** Proofs that its events are claimed for handling once, one for each; empty when nothing is. */
  claimed: readonly string[];
  /** Until when they count; monotonic milliseconds. */
  claimedUntilMs: number;
  /** Ids that become done, or free again, with the outcomes; one for each event, empty for none. */
  idempotencyIds: readonly string[];
}

export interface Success {
  readonly note: string;
  readonly durationMs: number;
  /** What goes with the events; null for nothing. */
  readonly outputs: FinishedOutputs | null;
  /** To be called when it is durable. */
  readonly accepted?: (() => void) | undefined;
  /** To be called when it counts no longer. */
  readonly undone?: (() => void) | undefined;
}

/** Where events come from. Every call is about a task of its own. */
export interface TaskSource {
  /** Whether what its handlers publish goes with the commits of their events. */
  readonly buffersOutputs: boolean;
  /** Whether its result counts no longer, so that there is no use in beginning. */
  isStale(task: Task): boolean;
  /** It was left out as stale. */
  dropped(task: Task): void;
  signal(task: Task): AbortSignal;
  began(task: Task): void;
  ended(task: Task): void;
  /** Resolves when it will not be given again, whatever happens; to false when that failed. */
  commitFirst(task: Task): Promise<boolean>;
  succeeded(task: Task, success: Success): WorkOutcome;
  /** It was not handled, and need not be. */
  skipped(task: Task, why: 'unhandled' | 'duplicate'): WorkOutcome;
  /** Somebody else is at it: to be tried again, which does not count as an attempt. */
  postponed(task: Task, delayMs: number): WorkOutcome;
  failed(task: Task, failure: Failure, durationMs: number, note: string): WorkOutcome;
  extend(task: Task, ms: number): void;
}
