/**
 * The journal's files: preallocated with zeros, written once around, recycled in place.
 *
 * Owns which file is written, which are free, and the budget. Knows nothing of what a frame holds.
 *
 * Files that a checkpoint has made superfluous are recycled; with `journalKeepMs` they are kept for a while first, beside
 * the budget.
 *
 * Invariants:
 * - A file is written from its beginning to its end, and again only when a checkpoint covers its last frame. So within
 *   one file, frames of the present round come first and have ascending sequences; stale frames with lower ones follow.
 * - A file is written only after its zeros and its directory entry are durable, so that a frame changes no metadata.
 */
import type { Clock, Disk, DiskFile, Logger, Timers } from '@naru/base';
import { assert, diskErrorCode } from '@naru/base';
import type { FileLogLimits } from './limits.ts';

const NAME_DIGITS = 8;
/** The next file is prepared when this part of the present one is written. */
const SPARE_FRACTION = 4;
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

/** What recovery found. `full` is oldest first. */
export interface AdoptedJournalFiles {
  readonly current: JournalFile | null;
  readonly full: JournalFile[];
  readonly free: JournalFile[];
  readonly nextNumber: number;
  /** From which recovery went on. */
  readonly checkpointSequence: number;
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
  /** How files are opened for frames: 'write' where they need not be durable. */
  readonly mode: 'write' | 'write-dsync';
  readonly clock: Clock;
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
  /** Superfluous, and not yet for long enough; oldest first. */
  #kept: { readonly file: JournalFile; readonly sinceMs: number }[] = [];
  /** Frames up to this sequence are not in the files any more, or not for sure. */
  #forgottenSequence = 0;
  /** Full, and written without being durable. */
  readonly #unsynced = new Set<JournalFile>();
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

  /** Takes over what recovery found. */
  adopt(found: AdoptedJournalFiles): void {
    this.#current = found.current;
    this.#full = found.full;
    this.#nextNumber = found.nextNumber;
    this.#forgottenSequence = found.checkpointSequence;
    const { clock, limits } = this.#options;
    // Whatever older frames are in them: how long they have been superfluous is not known.
    if (limits.journalKeepMs > 0) this.#kept = found.free.map((file) => ({ file, sinceMs: clock.nowMs() }));
    else this.#free = found.free;
  }

  /** A checkpoint with this sequence or a higher one finds all frames after it in the files. */
  get forgottenSequence(): number {
    return this.#forgottenSequence;
  }

  /** Frames in full files that may not be durable; none unless files are written without it. */
  get hasUnsynced(): boolean {
    return this.#unsynced.size > 0;
  }

  /** Makes every frame durable that was written; nothing is to be done where each is at once. */
  async sync(): Promise<void> {
    if (this.#options.mode === 'write-dsync') return;
    const files = [...this.#unsynced];
    for (const file of files) {
      await file.file.sync();
      this.#unsynced.delete(file);
    }
    await this.#current?.file.sync();
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
    // Files that are not there yet count unless the disk has no space for them.
    const missing = this.stalled ? 0 : Math.max(0, this.#maxFiles - this.#count());
    return missing * usable + this.readyBytes(maxFrameBytes);
  }

  /** A file is being made ready; until then it is not known whether the disk has space for it. */
  get preparing(): boolean {
    return this.#preparing !== null;
  }

  /** As {@link headroomBytes}, in the files that are there. */
  readyBytes(maxFrameBytes: number): number {
    const usable = this.#options.limits.journalFileBytes - maxFrameBytes;
    const current = this.#current;
    const inCurrent = current === null ? 0 : Math.max(0, current.sizeBytes - current.position - maxFrameBytes);
    return this.#free.length * usable + inCurrent;
  }

  /** The file for a frame of `bytes`, if that needs no waiting. */
  tryReserve(bytes: number): JournalFile | null {
    assert(bytes <= this.#options.limits.journalFileBytes, `a frame of ${bytes} bytes fits a journal file`);
    const current = this.#current;
    if (current !== null && current.position + bytes <= current.sizeBytes) {
      // Early, so that a disk without space for another file is known while much of this one is left.
      if (current.position * SPARE_FRACTION > current.sizeBytes) this.#prepareSpare();
      return current;
    }
    const next = this.#free.shift();
    if (next === undefined) return null;
    if (current !== null) {
      this.#full.push(current);
      if (this.#options.mode === 'write') this.#unsynced.add(current);
    }
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
      this.#unsynced.delete(file);
      this.#kept.push({ file, sinceMs: this.#options.clock.nowMs() });
    }
    this.#recycle();
    while (this.#free.length > 1 && this.#count() > this.#maxFiles) this.#discard(this.#free.pop() as JournalFile);
    this.#changed();
  }

  /** Frees what was kept for long enough. */
  #recycle(): void {
    const { clock, limits } = this.#options;
    const untilMs = clock.nowMs() - limits.journalKeepMs;
    while (this.#kept.length > 0 && (this.#kept[0] as { sinceMs: number }).sinceMs <= untilMs) {
      const { file } = this.#kept.shift() as { file: JournalFile };
      this.#forgottenSequence = Math.max(this.#forgottenSequence, file.lastSequence);
      // Of another size: from before the setting was changed.
      if (file.sizeBytes === limits.journalFileBytes) this.#free.push(file);
      else this.#discard(file);
    }
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
    const files = [...this.#full, ...this.#free, ...this.#kept.map(({ file }) => file)];
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
      const file = await disk.open(path, this.#options.mode);
      this.#free.push({ number, file, sizeBytes: limits.journalFileBytes, position: 0, lastSequence: 0 });
      this.#retryMs = 0;
    } catch (error) {
      await disk.remove(path).catch(() => undefined);
      throw error;
    }
  }
}
