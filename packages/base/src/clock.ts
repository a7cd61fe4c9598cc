/** Where the time comes from. Injected, so that tests and simulations own it. */
export interface Clock {
  /** Wall clock, milliseconds since the Unix epoch. May jump; used for timestamps only. */
  nowMs(): number;
  /** Monotonic milliseconds from an arbitrary origin; used for time-outs and durations. */
  monotonicMs(): number;
}

export const systemClock: Clock = {
  nowMs: () => Date.now(),
  monotonicMs: () => performance.now(),
};
