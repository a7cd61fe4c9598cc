/** Which partitions have handlers at work, and who waits for them to end. */
import type { Deferred } from '../deferred.ts';
import { deferred } from '../deferred.ts';
import type { Runtime } from '../runtime.ts';

interface Busy {
  /** Handlers at work. */
  running: number;
}

export class RunningHandlers {
  readonly #runtime: Runtime;
  readonly #drainTimeoutMs: number;
  readonly #idle = new Map<Busy, Deferred<void>>();

  constructor(runtime: Runtime, drainTimeoutMs: number) {
    this.#runtime = runtime;
    this.#drainTimeoutMs = drainTimeoutMs;
  }

  ended(partition: Busy): void {
    partition.running -= 1;
    if (partition.running === 0) this.forget(partition);
  }

  /** Nobody has to wait for it any more. */
  forget(partition: Busy): void {
    this.#idle.get(partition)?.resolve();
    this.#idle.delete(partition);
  }

  /** Resolves when no handler of the partitions runs any more, or the drain time-out has passed. */
  async drain(partitions: readonly Busy[]): Promise<void> {
    const waits = partitions
      .filter(({ running }) => running > 0)
      .map((partition) => {
        const idle = this.#idle.get(partition) ?? deferred<void>();
        this.#idle.set(partition, idle);
        return idle;
      });
    if (waits.length === 0) return;
    const timer = this.#runtime.timers.after(this.#drainTimeoutMs, () => {
      const fields = { drainTimeoutMs: this.#drainTimeoutMs };
      this.#runtime.logger.warn(fields, 'handlers still run; giving partitions up');
      for (const wait of waits) wait.resolve();
    });
    await Promise.all(waits.map(({ promise }) => promise));
    timer.cancel();
  }
}
