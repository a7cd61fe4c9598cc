/**
 * Redrives or purges many dead letters in steps: bounded to what was there when it began, at a rate, resumable.
 *
 * Owns the steps' sizes, their pace and the cursor. Does not know what a step does.
 *
 * Invariant: after every step the cursor says where to go on, so that whatever ends the run, nothing is left out by resuming it.
 */
import type { Clock } from '@naru/base';

/** Where a run goes on. */
export interface BulkCursor {
  readonly cursor: string;
  /** The time of the first step, milliseconds since the Unix epoch: what is dead-lettered later is not touched. */
  readonly untilMs: bigint;
}

export interface BulkStep<Item> {
  /** What was done, or would be. */
  readonly done: readonly Item[];
  readonly refused: readonly BulkRefusal[];
  /** Empty after the last. */
  readonly nextCursor: string;
  readonly untilMs: bigint;
}

export interface BulkRefusal {
  readonly id: string;
  readonly code: string;
  readonly message: string;
}

export interface BulkOptions<Item> {
  /** At most `limit` more. */
  readonly step: (at: BulkCursor, limit: number) => Promise<BulkStep<Item>>;
  readonly from: BulkCursor;
  /** In all; Infinity for no limit. */
  readonly limit: number;
  /** Items a second; Infinity for no limit. */
  readonly rate: number;
  /** Called after each step; false when nobody is interested any more, which ends the run. */
  readonly report: (step: BulkStep<Item>, outcome: BulkOutcome) => Promise<boolean>;
  readonly clock: Clock;
  /** Resolves after so many milliseconds, or when the signal aborts. */
  readonly wait: (ms: number, signal: AbortSignal) => Promise<void>;
  readonly signal: AbortSignal;
}

export interface BulkOutcome {
  readonly done: number;
  readonly refused: number;
  /** Where to go on; null when nothing is left. */
  readonly next: BulkCursor | null;
}

export const BEGINNING: BulkCursor = { cursor: '', untilMs: 0n };

/** The broker takes ten times as many; smaller steps make an even pace and a prompt end. */
const MAX_STEP = 100;
const SECOND_MS = 1_000;
const CURSOR_PATTERN = /^(\d{1,16})\.(.*)$/s;

/** Runs until nothing is left, the limit is reached, or the signal aborts: then the step under way is finished. */
export async function runBulk<Item>(options: BulkOptions<Item>): Promise<BulkOutcome> {
  const { step, limit, rate, report, clock, wait, signal } = options;
  const startedMs = clock.monotonicMs();
  let outcome: BulkOutcome = { done: 0, refused: 0, next: options.from };
  while (outcome.next !== null && outcome.done < limit && !signal.aborted) {
    const size = Math.min(MAX_STEP, Math.max(1, Math.floor(rate)), limit - outcome.done);
    const result = await step(outcome.next, size);
    outcome = {
      done: outcome.done + result.done.length,
      refused: outcome.refused + result.refused.length,
      next: result.nextCursor === '' ? null : { cursor: result.nextCursor, untilMs: result.untilMs },
    };
    if (!(await report(result, outcome))) break;
    const dueMs = startedMs + (outcome.done / rate) * SECOND_MS;
    const earlyMs = dueMs - clock.monotonicMs();
    if (earlyMs > 0 && outcome.next !== null && outcome.done < limit) await wait(earlyMs, signal);
  }
  return outcome;
}

/** For `--resume`. */
export function cursorText({ cursor, untilMs }: BulkCursor): string {
  return `${untilMs}.${cursor}`;
}

/** Null for what {@link cursorText} has not made. */
export function readCursor(text: string): BulkCursor | null {
  const match = CURSOR_PATTERN.exec(text);
  return match === null ? null : { untilMs: BigInt(match[1] as string), cursor: match[2] as string };
}
