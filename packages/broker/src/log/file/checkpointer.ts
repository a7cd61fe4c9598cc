/**
 * Takes checkpoints: makes the segments durable up to a point in the journal, writes that down, and frees the journal.
 *
 * Order, each step after the one before: the journal reaches the barrier, and the logical state is noted at once · the
 * segment writer has written what was durable then, and each partition's physical state is noted · dirty segments and
 * directories are synced · the checkpoint is written · journal files before it, and files that compaction replaced before
 * the physical state was noted, are free.
 *
 * The physical state may be later than the logical one: replay skips writing what the files hold already. What happens to
 * the files after they are noted (cuts, removals) is in the journal after the barrier, where recovery looks for it.
 */
import type { Disk } from '@naru/base';
import { diskErrorCode } from '@naru/base';
import type { Snapshot } from '../log-store.ts';
import type { CheckpointPartition } from './checkpoint.ts';
import { writeCheckpoint } from './checkpoint.ts';
import type { DataPaths } from './data-directory.ts';
import type { HandleCache } from './handle-cache.ts';
import type { JournalFiles } from './journal-files.ts';
import type { JournalOperation } from './journal-frame.ts';
import type { JournalPlace } from './journal-recovery.ts';
import type { Journal } from './journal.ts';
import type { FileLogLimits } from './limits.ts';
import type { LogState } from './log-state.ts';
import type { PartitionLog } from './partition-log.ts';
import type { Segment } from './segment.ts';
import type { SegmentWriter } from './segment-writer.ts';

export interface CheckpointerOptions<T extends JournalOperation> {
  readonly disk: Disk;
  readonly paths: DataPaths;
  readonly journalId: Uint8Array;
  readonly journal: Journal<T>;
  readonly files: JournalFiles;
  readonly limits: FileLogLimits;
  readonly state: LogState;
  readonly writer: SegmentWriter;
  readonly handles: HandleCache;
  /** Journal bytes after the checkpoint that recovery began from. */
  readonly recoveredBytes: number;
}

/** The logical side, noted at the barrier. */
interface Noted {
  readonly sequence: number;
  readonly coveredBytes: number;
  readonly place: JournalPlace;
  readonly partitions: { readonly log: PartitionLog; readonly logStartOffset: number; readonly endOffset: number }[];
  readonly erasing: PartitionLog[];
}

export class Checkpointer<T extends JournalOperation> {
  readonly #options: CheckpointerOptions<T>;
  #turn: Promise<unknown> = Promise.resolve();
  /** {@link Journal.writtenBytes} up to which a checkpoint is taken or under way; negative for what recovery read. */
  #coveredBytes: number;
  /** The same, of the last checkpoint that succeeded. */
  #durableBytes: number;
  #count = 0;

  constructor(options: CheckpointerOptions<T>) {
    this.#options = options;
    this.#coveredBytes = -options.recoveredBytes;
    this.#durableBytes = this.#coveredBytes;
  }

  /** Journal bytes that no checkpoint covers, not even one under way. */
  get uncoveredBytes(): number {
    return this.#options.journal.writtenBytes - this.#coveredBytes;
  }

  get count(): number {
    return this.#count;
  }

  /** Settles when no checkpoint is under way. */
  async idle(): Promise<void> {
    await this.#turn;
  }

  /**
   * Takes `snapshot` as the state after everything submitted so far.
   *
   * @returns the sequence of the last frame that the checkpoint covers
   */
  take(snapshot: Snapshot): Promise<number> {
    const noted = this.#note();
    const run = this.#turn.then(
      () => this.#take(noted, snapshot),
      () => this.#take(noted, snapshot),
    );
    this.#turn = run.catch(() => undefined);
    // Whoever called sees the failure through `run`; this keeps it from counting as unobserved while turns are awaited.
    noted.catch(() => undefined);
    return run;
  }

  #note(): Promise<Noted> {
    const { journal, files, state } = this.#options;
    return new Promise((resolve, reject) => {
      journal.barrier((sequence) => {
        this.#coveredBytes = journal.writtenBytes;
        const { current } = files;
        const partitions = [];
        for (const log of state.logs.values()) {
          partitions.push({ log, logStartOffset: log.logStartOffset, endOffset: log.endOffset });
        }
        resolve({
          sequence,
          coveredBytes: this.#coveredBytes,
          place: { fileNumber: current?.number ?? 0, position: current?.position ?? 0 },
          partitions,
          erasing: [...state.erasing],
        });
      }, reject);
    });
  }

  async #take(notedLater: Promise<Noted>, snapshot: Snapshot): Promise<number> {
    const { disk, paths, journalId, files, writer, limits } = this.#options;
    const noted = await notedLater;
    try {
      const superseded: { readonly log: PartitionLog; readonly segments: Segment[] }[] = [];
      const partitions = await this.#written(noted, (log) => {
        if (log.superseded.size > 0) superseded.push({ log, segments: [...log.superseded] });
      });
      await this.#sync();
      // The files may hold what came after the barrier, which the journal then has to explain.
      await files.sync();
      const { sequence, place } = noted;
      const checkpoint = { journalId, sequence, journalPlace: place, partitions, snapshot };
      const { journalKeepMs, keptCheckpoints } = limits;
      const kept = { fromSequence: files.forgottenSequence, limit: journalKeepMs > 0 ? keptCheckpoints : 0 };
      await writeCheckpoint(disk, paths.checkpoint, checkpoint, kept);
      files.release(sequence);
      this.#durableBytes = noted.coveredBytes;
      this.#count += 1;
      for (const { log, segments } of superseded) {
        // What is left because the store closes or a removal failed goes with the next checkpoint or recovery.
        await writer.dispose(log, segments).catch(() => undefined);
      }
      return sequence;
    } catch (error) {
      this.#coveredBytes = this.#durableBytes;
      throw error;
    }
  }

  /** Waits until what was durable at the barrier is in the files, and notes the physical side; tells `onNoted` of each. */
  async #written(noted: Noted, onNoted: (log: PartitionLog) => void): Promise<CheckpointPartition[]> {
    const states: CheckpointPartition[] = [];
    const { partitions } = noted;
    let { erasing } = noted;
    let next = 0;
    await this.#options.writer.waitFor(() => {
      // Only as far as the first that is not written: this is asked after every write, with thousands of partitions.
      for (; next < partitions.length; next++) {
        const { log, logStartOffset, endOffset } = partitions[next] as Noted['partitions'][number];
        if (log.deleted) {
          // Since: recovery finds that in the journal, and needs to know only that the partition was there.
          const ends = { endOffset, fileEndOffset: endOffset, cleanEndOffset: logStartOffset };
          states.push({ key: log.key, logStartOffset, ...ends, segments: [] });
        } else {
          if (log.pendingCut !== Infinity || log.writtenEnd < Math.min(endOffset, log.endOffset)) return false;
          states.push(log.checkpointState(logStartOffset, endOffset));
          onNoted(log);
        }
      }
      erasing = erasing.filter((log) => !log.erased);
      return erasing.length === 0;
    });
    for (const log of noted.erasing) this.#options.state.erasing.delete(log);
    return states;
  }

  async #sync(): Promise<void> {
    const { disk, paths, writer, handles } = this.#options;
    // Copies: the writer adds to both while this waits.
    const segments = [...writer.dirtySegments];
    for (const segment of segments) {
      writer.dirtySegments.delete(segment);
      if (segment.removed) continue;
      try {
        await handles.withFile(segment.logPath, 'write', (file) => file.sync());
      } catch (error) {
        // Removed meanwhile. Any other failure is final: a failed sync is never tried again.
        if (!segment.removed || diskErrorCode(error) !== 'ENOENT') throw error;
      }
    }
    const logs = [...writer.dirtyDirectories];
    for (const log of logs) {
      writer.dirtyDirectories.delete(log);
      await this.#syncDirectory(log);
    }
    if (writer.segmentsDirectoryDirty) {
      writer.segmentsDirectoryDirty = false;
      await disk.syncDirectory(paths.segments);
    }
  }

  async #syncDirectory(log: PartitionLog): Promise<void> {
    if (log.deleted) return;
    try {
      await this.#options.disk.syncDirectory(log.directory);
    } catch (error) {
      if (!isGone(log) || diskErrorCode(error) !== 'ENOENT') throw error;
    }
  }
}

/** Deleted meanwhile. */
function isGone(log: PartitionLog): boolean {
  return log.deleted;
}
