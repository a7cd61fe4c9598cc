/** Waiting in tests, without time: for what is ready to have run, and for promises on a clock that the test owns. */
import type { Clock } from '@naru/base';

/**
 * Turns of the event loop before the clock is moved a step, and after which nothing more is expected. Many, as a real disk may
 * be at work: time must not run away from it.
 */
const TURNS_ON_ONE_TIME = 50;
const MAX_TURNS = 1_000_000;
const STEP_MS = 20;

/** A clock that is moved by hand. */
export interface MovableClock extends Clock {
  advance(ms: number): void;
}

export async function turns(count = 10): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise<void>((resolve) => setImmediate(resolve));
}

/** What the promise comes to. The clock moves only if it needs more than what is ready now. */
export async function finished<T>(promise: Promise<T>, clock: MovableClock): Promise<T> {
  let isDone = false;
  const done = promise.finally(() => (isDone = true));
  done.catch(() => {});
  for (let turn = 0; !isDone; turn++) {
    if (turn > MAX_TURNS) throw new Error('nothing happens any more');
    await turns(1);
    if (turn > 0 && turn % TURNS_ON_ONE_TIME === 0) clock.advance(STEP_MS);
  }
  return done;
}

/** What a promise came to so far: nothing, a value or an error. */
export function watched<T>(promise: Promise<T>): { value?: T; error?: unknown } {
  const outcome: { value?: T; error?: unknown } = {};
  promise.then(
    (value) => (outcome.value = value),
    (error: unknown) => (outcome.error = error),
  );
  return outcome;
}
