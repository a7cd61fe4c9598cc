/**
 * The journal's files: preallocated with zeros, written once around, recycled in place.
 *
 * Owns which file is written, which are free, and the budget. Knows nothing of what a frame holds.
 *
 * Invariants:
 * - A file is written from its beginning to its end, and again only when a checkpoint covers its last frame. So within
 *   one file, frames of the present round come first and have ascending sequences; stale frames with lower ones follow.
 * - A file is written only after its zeros and its directory entry are durable, so that a frame changes no metadata.
 */
import type { Disk, DiskFile, Logger, Timers } from '@naru/base';
import { assert, diskErrorCode } from '@naru/base';
import type { FileLogLimits } from './limits.ts';

const NAME_DIGITS = 8;
const NAME_SUFFIX = '.journal';
/** Zeros written at a time while a file is prepared. */
const ZERO_CHUNK = new Uint8Array(1024 * 1024);

export interface JournalFile {
  readonly number: number;
  readonly file: DiskFile;
  readonly sizeBytes: number;
  /** Where the next frame goes. */
  position: number;
  /** Sequence of the last frame of the present round; 0 when it has none. */
  lastSequence: number;
}

export function journalFileName(number: number): string {
  return `${String(number).padStart(NAME_DIGITS, '0')}${NAME_SUFFIX}`;
}

/** The number in a journal file's name, or null for other names. */
export function journalFileNumber(name: string): number | null {
  const match = /^(\d{8})\.journal$/.exec(name);
  return match === null ? null : Number(match[1]);
}

export interface JournalFilesOptions {
  readonly disk: Disk;
  readonly directory: string;
  readonly limits: FileLogLimits;
  readonly timers: Timers;
  readonly logger: Logger;
  /** Something changed that capacity depends on. */
  readonly onChange: () => void;
  /** A file could not be prepared, for another reason than lack of space. */
  readonly onFailure: (error: unknown) => void;
}

export class JournalFiles {
  readonly #options: JournalFilesOptions;
  readonly #maxFiles: number;
  #current: JournalFile | null = null;
  /** Full, and not covered by a checkpoint yet; oldest first. */
  #full: JournalFile[] = [];
  #free: JournalFile[] = [];
  #preparing: Promise<void> | null = null;
  #waiter: (() => void) | null = null;
  #nextNumber = 0;
  #retryMs = 0;
  #closed = false;
  #aborted: Error | null = null;
  /** Files beyond the budget, allowed while a checkpoint waits for room in the journal. */
  #overBudget = false;

  constructor(options: JournalFilesOptions) {
    this.#options = options;
    this.#maxFiles = Math.floor(options.limits.journalBytes / options.limits.journalFileBytes);
  }

  /** Takes over what recovery found. `full` is oldest first. */
  adopt(found: { current: JournalFile | null; full: JournalFile[]; free: JournalFile[]; nextNumber: number }): void {
    this.#current = found.current;
    this.#full = found.full;
    this.#free = found.free;
    this.#nextNumber = found.nextNumber;
  }

  /** Prepares the first file, if there is none to write to. */
  async start(): Promise<void> {
    if (this.#current === null && this.#free.length === 0) await this.#prepare();
  }

  get current(): JournalFile | null {
    return this.#current;
  }

  /** Disk space is missing for the next file. */
  get stalled(): boolean {
    return this.#retryMs > 0;
  }

  /** Bytes that frames surely still find room for, whatever their sizes up to `maxFrameBytes`. */
  headroomBytes(maxFrameBytes: number): number {
    const usable = this.#options.limits.journalFileBytes - maxFrameBytes;
    const count = this.#count();
    // Files that are not there yet count unless the disk has no space for them.
    const files = this.#free.length + (this.stalled ? 0 : Math.max(0, this.#maxFiles - count));
    const current = this.#current;
    return files * usable + (current === null ? 0 : Math.max(0, current.sizeBytes - current.position - maxFrameBytes));
  }

  /** The file for a frame of `bytes`, if that needs no waiting. */
  tryReserve(bytes: number): JournalFile | null {
    assert(bytes <= this.#options.limits.journalFileBytes, `a frame of ${bytes} bytes fits a journal file`);
    const current = this.#current;
    if (current !== null && current.position + bytes <= current.sizeBytes) {
      if (current.position * 2 > current.sizeBytes) this.#prepareSpare();
      return current;
    }
    const next = this.#free.shift();
    if (next === undefined) return null;
    if (current !== null) this.#full.push(current);
    next.position = 0;
    next.lastSequence = 0;
    this.#current = next;
    return next;
  }

  /** The file for a frame of `bytes`; waits until a checkpoint frees one, or space on the disk appears. */
  async reserve(bytes: number): Promise<JournalFile> {
    for (;;) {
      const file = this.tryReserve(bytes);
      if (file !== null) return file;
      if (this.#aborted !== null) throw this.#aborted;
      await new Promise<void>((resolve) => {
        this.#waiter = resolve;
        this.#prepareSpare();
      });
    }
  }

  /** Whoever waits for room stops waiting: the store is offline. */
  abort(error: Error): void {
    this.#aborted ??= error;
    this.#changed();
  }

  /** A checkpoint waits behind a frame that waits for room, which only that checkpoint would free: go beyond the budget. */
  allowOverBudget(): void {
    this.#overBudget = true;
    if (this.#waiter !== null) this.#prepareSpare();
  }

  /** Frees the files whose frames are all at `sequence` or before. */
  release(sequence: number): void {
    this.#overBudget = false;
    while (this.#full.length > 0 && (this.#full[0] as JournalFile).lastSequence <= sequence) {
      const file = this.#full.shift() as JournalFile;
      // Of another size: from before the setting was changed.
      if (file.sizeBytes === this.#options.limits.journalFileBytes) this.#free.push(file);
      else this.#discard(file);
    }
    while (this.#free.length > 1 && this.#count() > this.#maxFiles) this.#discard(this.#free.pop() as JournalFile);
    this.#changed();
  }

  /** Removes a file that was needed beyond the budget. Should the removal be lost, its stale frames do no harm. */
  #discard({ file, number }: JournalFile): void {
    const { disk, directory, logger } = this.#options;
    file
      .close()
      .then(() => disk.remove(`${directory}/${journalFileName(number)}`))
      .catch((error: unknown) => logger.warn({ error, number }, 'a spare journal file could not be removed'));
  }

  #count(): number {
    return this.#full.length + this.#free.length + (this.#current === null ? 0 : 1);
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#preparing;
    const files = [...this.#full, ...this.#free];
    if (this.#current !== null) files.push(this.#current);
    for (const { file } of files) await file.close();
  }

  #changed(): void {
    const waiter = this.#waiter;
    this.#waiter = null;
    waiter?.();
    this.#options.onChange();
  }

  #prepareSpare(): void {
    if (this.#preparing !== null || this.#free.length > 0 || this.#closed || this.stalled) return;
    if (this.#count() >= this.#maxFiles && !(this.#overBudget && this.#waiter !== null)) return;
    this.#prepareInBackground();
  }

  #prepareInBackground(): void {
    this.#preparing ??= this.#prepare()
      .catch((error: unknown) => this.#prepareFailed(error))
      .finally(() => {
        this.#preparing = null;
        this.#changed();
      });
  }

  #prepareFailed(error: unknown): void {
    const code = diskErrorCode(error);
    if (code !== 'ENOSPC' && code !== 'EDQUOT') {
      this.#options.onFailure(error);
      return;
    }
    const { limits, timers, logger } = this.#options;
    this.#retryMs = Math.min(Math.max(this.#retryMs * 2, limits.fullRetryMs), limits.fullRetryMaxMs);
    logger.warn({ code, retryMs: this.#retryMs }, 'no space for another journal file');
    const wait = this.#retryMs;
    timers.after(wait, () => {
      if (!this.#closed) this.#prepareInBackground();
    });
  }

  async #prepare(): Promise<void> {
    const { disk, directory, limits } = this.#options;
    const number = this.#nextNumber;
    this.#nextNumber += 1;
    const path = `${directory}/${journalFileName(number)}`;
    try {
      const plain = await disk.open(path, 'write');
      try {
        await plain.truncate(0);
        for (let at = 0; at < limits.journalFileBytes; at += ZERO_CHUNK.length) {
          await plain.write([ZERO_CHUNK.subarray(0, Math.min(ZERO_CHUNK.length, limits.journalFileBytes - at))], at);
        }
        await plain.sync();
      } finally {
        await plain.close();
      }
      await disk.syncDirectory(directory);
      const file = await disk.open(path, 'write-dsync');
      this.#free.push({ number, file, sizeBytes: limits.journalFileBytes, position: 0, lastSequence: 0 });
      this.#retryMs = 0;
    } catch (error) {
      await disk.remove(path).catch(() => undefined);
      throw error;
    }
  }
}
