/** Exponential back-off with jitter: for reconnecting, for publishing again, for handling again. */
import type { Random } from '@naru/base';

export interface BackoffPolicy {
  /** First wait, milliseconds. */
  readonly initialMs: number;
  /** Each wait is this many times the one before. */
  readonly factor: number;
  /** Longest wait, milliseconds. */
  readonly maxMs: number;
  /** Share of the wait that is random, 0 to 1: 0.2 waits between 80 % and 120 %. */
  readonly jitter: number;
}

/**
 * Milliseconds to wait.
 *
 * @param failures failures so far in a row, 1 or more
 */
export function backoffMs(policy: BackoffPolicy, failures: number, random: Random): number {
  const exponential = policy.initialMs * policy.factor ** Math.max(0, failures - 1);
  const wait = Math.min(exponential, policy.maxMs);
  return wait * (1 + policy.jitter * (random.float() * 2 - 1));
}
