/**
 * Signals that ask a command to stop: the first aborts, so that it can finish properly; the second ends the process at
 * once with exit code 130.
 */

const STOPPING_SIGNALS = ['SIGINT', 'SIGTERM'] as const;

/** Exit code of a command that did not finish because it was interrupted. */
export const INTERRUPTED_EXIT_CODE = 130;

export interface Interruption extends Disposable {
  /** Aborts at the first signal; the reason is its name. */
  readonly signal: AbortSignal;
}

/** Takes over the signals until it is disposed of. */
export function listenForInterruption(): Interruption {
  const controller = new AbortController();
  const onSignal = (name: NodeJS.Signals): void => {
    if (controller.signal.aborted) process.exit(INTERRUPTED_EXIT_CODE);
    controller.abort(name);
  };
  for (const name of STOPPING_SIGNALS) process.on(name, onSignal);
  return {
    signal: controller.signal,
    [Symbol.dispose]: () => {
      for (const name of STOPPING_SIGNALS) process.off(name, onSignal);
    },
  };
}
