/** Calls at a steady rate. */

/** Between looks at the clock; timers are no finer. */
const TICK_MS = 1;

/**
 * Calls `send` `perSecond` times a second for `seconds`; several times in one turn when it is behind.
 *
 * @returns how many times
 */
export function pace(seconds: number, perSecond: number, send: () => void): Promise<number> {
  const startMs = performance.now();
  const total = Math.round(seconds * perSecond);
  let sent = 0;
  return new Promise((resolve, reject) => {
    const tick = (): void => {
      const due = Math.min(total, Math.floor(((performance.now() - startMs) / 1_000) * perSecond));
      try {
        for (; sent < due; sent++) send();
      } catch (error) {
        reject(error instanceof Error ? error : new Error(String(error)));
        return;
      }
      if (sent >= total) resolve(sent);
      else setTimeout(tick, TICK_MS);
    };
    tick();
  });
}
