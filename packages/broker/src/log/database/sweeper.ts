/**
 * Erases, behind everything else and a little at a time, what nobody reads any more: batches before a log start, of
 * deleted partitions, and dead ones. Only rows that the snapshot covers, for the others are history.
 *
 * Operations that are covered say what is left to do; so a start goes on where the last one stopped.
 */
import type { Logger } from '@naru/base';
import { assert } from '@naru/base';
import { isNaruError } from '@naru/protocol';
import type { Backoff } from './backoff.ts';
import type { DatabaseLogLimits } from './limits.ts';
import type { BatchPlace, LogDatabase, OperationRow } from './log-database.ts';
import { OPERATION } from './log-database.ts';
import type { Garbage } from './operation.ts';

export interface SweeperOptions {
  readonly database: LogDatabase;
  readonly limits: DatabaseLogLimits;
  readonly backoff: Backoff;
  readonly logger: Logger;
}

export class Sweeper {
  readonly #options: SweeperOptions;
  /** What can be erased before the operation that allowed it is covered, by partition. */
  readonly #early = new Map<number, number>();
  #throughId = 0;
  #covered = false;
  #running: Promise<void> | null = null;

  constructor(options: SweeperOptions) {
    this.#options = options;
  }

  /** Everything up to `throughId` is covered by a snapshot now. Begins to sweep. */
  cover(throughId: number): void {
    assert(throughId >= this.#throughId, 'snapshots cover more and more');
    this.#throughId = throughId;
    this.#covered = true;
    this.#wake();
  }

  /** Batches below that offset are not read any more. */
  add({ partitionId, below }: Garbage): void {
    this.#early.set(partitionId, Math.max(this.#early.get(partitionId) ?? 0, below));
    if (this.#throughId > 0) this.#wake();
  }

  async idle(): Promise<void> {
    while (this.#running !== null) await this.#running;
  }

  #wake(): void {
    if (this.#running !== null || this.#options.backoff.stopped) return;
    this.#running = this.#run()
      .catch((error: unknown) => this.#options.logger.error({ error }, 'erasing what was deleted failed'))
      .finally(() => {
        this.#running = null;
      });
  }

  async #run(): Promise<void> {
    const { backoff } = this.#options;
    // Lets what called it go on first.
    await backoff.waitFor(this.#options.limits.pauseMs);
    while (!backoff.stopped) {
      try {
        const didSomething = await this.#step();
        backoff.reset();
        if (!didSomething) return;
        await backoff.waitFor(this.#options.limits.pauseMs);
      } catch (error) {
        if (!isNaruError(error, 'STORAGE_UNAVAILABLE', 'STORAGE_FULL')) throw error;
        await backoff.wait();
      }
    }
  }

  /** One page of the first kind of garbage that there is. */
  async #step(): Promise<boolean> {
    const { database, limits } = this.#options;
    for (const [partitionId, below] of this.#early) {
      if (await this.#eraseBelow(partitionId, below, this.#throughId)) return true;
      if (this.#early.get(partitionId) === below) this.#early.delete(partitionId);
    }
    if (!this.#covered) return false;
    const dead = await database.deadBatches(this.#throughId, limits.pageRows);
    if (dead.length > 0) return this.#erase(dead);
    const throughId = this.#throughId;
    const old = await database.oldOperations(throughId, limits.pageRows);
    for (const { type, partitionId, offset, id } of old) {
      const below = type === OPERATION.delete ? Number.MAX_SAFE_INTEGER : offset;
      const isGarbage = type === OPERATION.delete || type === OPERATION.deleteBefore;
      if (isGarbage && (await this.#eraseBelow(partitionId, below, id))) return true;
    }
    if (old.length > 0) await database.eraseOperations(old.map(({ id }: OperationRow) => id));
    else if (this.#throughId === throughId) this.#covered = false;
    return true;
  }

  async #eraseBelow(partitionId: number, below: number, throughId: number): Promise<boolean> {
    const { database, limits } = this.#options;
    const places = await database.batchesToErase({ partitionId, from: 0, below }, throughId, limits.pageRows);
    return places.length > 0 && this.#erase(places);
  }

  /** As many as a page may hold: rows with large records take the database long to erase. */
  async #erase(places: readonly BatchPlace[]): Promise<boolean> {
    const { database, limits } = this.#options;
    const ids: number[] = [];
    let bytes = 0;
    for (const { id, sizeBytes } of places) {
      bytes += sizeBytes;
      if (ids.length > 0 && bytes > limits.pageBytes) break;
      ids.push(id);
    }
    await database.eraseBatches(ids);
    return true;
  }
}
