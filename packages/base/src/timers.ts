/** A timer that was set. Cancelling one that has fired is allowed and does nothing. */
export interface TimerHandle {
  cancel(): void;
}

/** Where delays come from. Injected together with {@link Clock}, so that a virtual clock can drive both. */
export interface Timers {
  /** Calls `callback` once, `delayMs` from now or later. A delay below zero counts as zero. */
  after(delayMs: number, callback: () => void): TimerHandle;
}

/** The longest delay that the platform's timers take; longer ones would fire at once. */
const MAX_DELAY_MS = 2 ** 31 - 1;

export const systemTimers: Timers = {
  after(delayMs, callback) {
    const handle = setTimeout(callback, Math.min(Math.max(delayMs, 0), MAX_DELAY_MS));
    return { cancel: () => clearTimeout(handle) };
  },
};

/**
 * Waits on `timers`; rejects with the signal's reason when it aborts first.
 *
 * @param delayMs milliseconds
 */
export function delay(timers: Timers, delayMs: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(signal.reason as Error);
      return;
    }
    const onAbort = (): void => {
      handle.cancel();
      reject(signal?.reason as Error);
    };
    const handle = timers.after(delayMs, () => {
      signal?.removeEventListener('abort', onAbort);
      resolve();
    });
    signal?.addEventListener('abort', onAbort, { once: true });
  });
}
