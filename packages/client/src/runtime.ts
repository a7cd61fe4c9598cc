/** What the SDK takes from its surroundings; tests give their own. */
import { silentLogger, systemClock, systemRandom, systemTimers } from '@naru/base';
import type { Clock, Logger, Random, Timers } from '@naru/base';

export interface Runtime {
  readonly clock: Clock;
  readonly timers: Timers;
  readonly random: Random;
  readonly logger: Logger;
}

export const systemRuntime: Runtime = {
  clock: systemClock,
  timers: systemTimers,
  random: systemRandom,
  logger: silentLogger,
};
