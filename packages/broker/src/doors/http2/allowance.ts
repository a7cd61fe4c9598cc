/**
 * How much a client may do that gets it nowhere and costs this side: resets, settings, empty frames, and the like. A bucket
 * that is full at first and fills again with time, as nghttp2 and others have against floods (CVE-2019-9511 and following,
 * CVE-2023-44487).
 */
import type { Clock } from '@naru/base';
import { ERROR_CODE, Http2ConnectionError } from './frames.ts';

/** A client that goes away cancels everything that it had open: several times of this. */
const BURST = 5_000;
const PER_SECOND = 500;

export class Allowance {
  readonly #clock: Clock;
  #left = BURST;
  #filledMs: number;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#filledMs = clock.monotonicMs();
  }

  /** @throws Http2ConnectionError ENHANCE_YOUR_CALM when nothing is left */
  spend(what: string): void {
    const nowMs = this.#clock.monotonicMs();
    this.#left = Math.min(BURST, this.#left + ((nowMs - this.#filledMs) / 1_000) * PER_SECOND) - 1;
    this.#filledMs = nowMs;
    if (this.#left < 0) throw new Http2ConnectionError(ERROR_CODE.enhanceYourCalm, `too many ${what}`);
  }
}
