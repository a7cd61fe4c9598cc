/**
 * Clock and timers that move only when a test says so.
 *
 * Timers fire in order of their time, and of being set when the times are equal.
 */
import type { Clock, TimerHandle, Timers } from '@naru/base';

interface VirtualTimer {
  readonly atMs: number;
  readonly order: number;
  readonly callback: () => void;
}

export class VirtualClock implements Clock, Timers {
  #nowMs: number;
  #monotonicMs = 0;
  #order = 0;
  readonly #timers = new Set<VirtualTimer>();

  /** @param startMs wall time at the beginning, milliseconds since the Unix epoch. Default: 2026-01-01 */
  constructor(startMs = Date.UTC(2026, 0, 1)) {
    this.#nowMs = startMs;
  }

  nowMs(): number {
    return this.#nowMs;
  }

  monotonicMs(): number {
    return this.#monotonicMs;
  }

  after(delayMs: number, callback: () => void): TimerHandle {
    const timer = { atMs: this.#monotonicMs + Math.max(0, delayMs), order: this.#order++, callback };
    this.#timers.add(timer);
    return { cancel: () => void this.#timers.delete(timer) };
  }

  /** Timers that are set and have not fired. */
  get pendingTimers(): number {
    return this.#timers.size;
  }

  /** Moves both clocks, firing what falls due on the way, each at its time. */
  advance(ms: number): void {
    const targetMs = this.#monotonicMs + ms;
    for (let next = this.#nextTimer(targetMs); next !== undefined; next = this.#nextTimer(targetMs)) {
      this.#moveTo(next.atMs);
      this.#timers.delete(next);
      next.callback();
    }
    this.#moveTo(targetMs);
  }

  /** Moves the wall clock alone, as an operator or NTP does. */
  jump(ms: number): void {
    this.#nowMs += ms;
  }

  #moveTo(monotonicMs: number): void {
    this.#nowMs += monotonicMs - this.#monotonicMs;
    this.#monotonicMs = monotonicMs;
  }

  #nextTimer(untilMs: number): VirtualTimer | undefined {
    let next: VirtualTimer | undefined;
    for (const timer of this.#timers) {
      if (timer.atMs > untilMs) continue;
      if (next === undefined || timer.atMs < next.atMs || (timer.atMs === next.atMs && timer.order < next.order))
        next = timer;
    }
    return next;
  }
}
