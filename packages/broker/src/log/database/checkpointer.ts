/**
 * Takes checkpoints: the layers' snapshot and the partitions as they are at the same moment, in one transaction, after which
 * nothing before it is read at a start.
 */
import { isNaruError, NaruError } from '@naru/protocol';
import type { Snapshot } from '../log-store.ts';
import type { Backoff } from './backoff.ts';
import type { CommitLoop } from './commit-loop.ts';
import type { Checkpoint, LogDatabase, PartitionRow } from './log-database.ts';
import type { OperationApplier } from './operation.ts';

export interface DatabaseCheckpointerOptions {
  readonly database: LogDatabase;
  readonly applier: OperationApplier;
  readonly loop: CommitLoop;
  readonly backoff: Backoff;
  /** Id that the newest snapshot covers. */
  readonly snapshotId: number;
  /** What recovery found after it. */
  readonly historyBytes: number;
  /** The largest that was given out. */
  readonly lastPartitionId: () => number;
  readonly onCovered: (throughId: number) => void;
}

interface Capture {
  readonly checkpoint: Checkpoint;
  readonly writtenBytes: number;
  /** Checkpoints that had failed until then. */
  readonly failures: number;
  /** Gives what changed back to the next checkpoint. */
  readonly undo: () => void;
}

export class DatabaseCheckpointer {
  readonly #options: DatabaseCheckpointerOptions;
  #coveredBytes: number;
  #count = 0;
  #failures = 0;
  #running: Promise<void> = Promise.resolve();

  constructor(options: DatabaseCheckpointerOptions) {
    this.#options = options;
    this.#coveredBytes = -options.historyBytes;
  }

  /** Bytes that a start would have to read now. */
  get uncoveredBytes(): number {
    return this.#options.loop.writtenBytes - this.#coveredBytes;
  }

  get count(): number {
    return this.#count;
  }

  idle(): Promise<void> {
    return this.#running;
  }

  /** As LogStore.checkpoint. */
  take(snapshot: Snapshot): Promise<void> {
    const before = this.#running;
    const work = this.#capture(snapshot).then(async (capture) => {
      try {
        await before;
        if (capture.failures !== this.#failures) {
          // Of the partitions that the failed one should have stored, this one knows nothing.
          throw new NaruError('STORAGE_UNAVAILABLE', 'the checkpoint before this one failed: take another');
        }
        await this.#write(capture.checkpoint);
      } catch (error) {
        this.#failures += 1;
        capture.undo();
        throw error;
      }
      this.#coveredBytes = capture.writtenBytes;
      this.#count += 1;
      this.#options.onCovered(capture.checkpoint.id);
    });
    this.#running = work.catch(() => {});
    return work;
  }

  /** The state once everything submitted so far is applied, and nothing after it. */
  #capture(snapshot: Snapshot): Promise<Capture> {
    const { loop, applier } = this.#options;
    return new Promise((resolve, reject) => {
      const reached = (): void => {
        const touched = [...applier.touched];
        applier.touched.clear();
        const partitions: PartitionRow[] = [];
        const removed: number[] = [];
        for (const partition of touched) {
          if (partition.deleted) removed.push(partition.id);
          else partitions.push({ id: partition.id, key: partition.key, state: partition.toJson() });
        }
        const undo = (): void => {
          for (const partition of touched) applier.touched.add(partition);
        };
        const lastPartitionId = this.#options.lastPartitionId();
        const checkpoint = { id: loop.lastId, snapshot, lastPartitionId, partitions, removed };
        resolve({ checkpoint, writtenBytes: loop.writtenBytes, failures: this.#failures, undo });
      };
      loop.barrier(reached, reject);
    });
  }

  async #write(checkpoint: Checkpoint): Promise<void> {
    const { database, backoff } = this.#options;
    for (;;) {
      try {
        await database.checkpoint(checkpoint);
        backoff.reset();
        return;
      } catch (error) {
        if (!isNaruError(error, 'STORAGE_UNAVAILABLE') || backoff.stopped) throw error;
        await backoff.wait();
      }
    }
  }
}
