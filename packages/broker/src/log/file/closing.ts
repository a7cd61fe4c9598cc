/**
 * The end of a store's last work, when there may be no space for it. What was acknowledged is in the journal, so a store may
 * always be closed without a last checkpoint: the next start takes a little longer.
 */
import type { Logger, Timers } from '@naru/base';
import { storageError } from './data-directory.ts';

export interface LastWork {
  readonly timers: Timers;
  readonly logger: Logger;
  /** How long a full disk is waited for. */
  readonly closeMs: number;
  /** Whether the work waits for space on the disk. */
  readonly isFull: () => boolean;
  /** Makes work that waits for space reject. */
  readonly giveUp: () => void;
}

/** Settles as `work` does; but resolves when it failed for lack of space, or has waited for space for too long. */
export async function finishInTime(work: Promise<void>, options: LastWork): Promise<void> {
  const { timers, logger, closeMs, isFull, giveUp } = options;
  let gaveUp = false;
  const watch = (): void => {
    gaveUp = isFull();
    if (gaveUp) giveUp();
    else timer = timers.after(closeMs, watch);
  };
  let timer = timers.after(closeMs, watch);
  try {
    await work;
  } catch (error) {
    const failure = storageError(error, 'closing the log');
    if (!gaveUp && failure.code !== 'STORAGE_FULL') throw failure;
    logger.warn(
      { reason: failure.message },
      'no space: the log is closed without its last checkpoint, nothing is lost',
    );
  } finally {
    timer.cancel();
  }
}
