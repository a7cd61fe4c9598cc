/**
 * Moves batches from the tails to the segments, behind the journal, partition by partition in turn; cuts and removes files.
 *
 * Owns every change of segment files while the store is open: one loop, one step at a time, so that a file's writes, cuts
 * and removal never run into each other. Nothing is synced here (closed segments' indexes apart); a checkpoint does that.
 * Others who change the files of a partition (compaction) do it between two steps.
 *
 * Invariants:
 * - Every file write is at an absolute position that advances only when it succeeded; so a failed one is simply repeated.
 * - A full disk stalls the loop, which tries again with back-off; what needs no space, and may give some back, is done
 *   meanwhile. Any other failure takes the store offline.
 * - Nothing is appended to a file that was cut: recovery relies on what is below the cut (RecoveryPlan).
 */
import type { Clock, Disk, DiskFile, Logger, TimerHandle, Timers } from '@naru/base';
import { diskErrorCode } from '@naru/base';
import type { StoredBatch } from '../log-store.ts';
import type { HandleCache } from './handle-cache.ts';
import type { FileLogLimits } from './limits.ts';
import type { PartitionLog } from './partition-log.ts';
import { Segment, newSegmentState } from './segment.ts';
import type { SegmentReader } from './segment-reader.ts';

export interface SegmentWriterOptions {
  readonly disk: Disk;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly logger: Logger;
  readonly limits: FileLogLimits;
  readonly handles: HandleCache;
  readonly reader: SegmentReader;
  /** Batches may leave memory, or capacity changed. */
  readonly onProgress: () => void;
  readonly onFailure: (error: unknown) => void;
}

/** Work of others on a partition's files, between two steps. */
interface Task {
  readonly work: () => Promise<void>;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

interface Waiter {
  readonly condition: () => boolean;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

export class SegmentWriter {
  readonly #options: SegmentWriterOptions;
  /** Partitions with work, in turn. */
  #queue: PartitionLog[] = [];
  #running = false;
  #stopWaiters: (() => void)[] = [];
  #stopped: Error | null = null;
  #waiters: Waiter[] = [];
  readonly #tasks = new Map<PartitionLog, Task[]>();
  #supersededBytes = 0;
  #unwrittenBytes = 0;
  #retryMs = 0;
  #pause: { readonly timer: TimerHandle; readonly end: () => void } | null = null;
  /** Written or cut since they were last synced. */
  readonly dirtySegments = new Set<Segment>();
  /** Files were created or removed in them since they were last synced. */
  readonly dirtyDirectories = new Set<PartitionLog>();
  /** Partition directories were created or removed since the last sync. */
  segmentsDirectoryDirty = false;

  constructor(options: SegmentWriterOptions) {
    this.#options = options;
  }

  /** The disk is full; writing is tried again from time to time. */
  get stalled(): boolean {
    return this.#retryMs > 0;
  }

  get idle(): boolean {
    return this.#queue.length === 0 && !this.#running;
  }

  /** Bytes that are in the journal and not in segments. */
  get unwrittenBytes(): number {
    return this.#unwrittenBytes;
  }

  adjustUnwritten(bytes: number): void {
    this.#unwrittenBytes += bytes;
  }

  /** `log` has batches to write, files to cut or to remove. */
  enqueue(log: PartitionLog): void {
    if (log.held || this.#stopped !== null) return;
    if (!log.queued) {
      log.queued = true;
      this.#queue.push(log);
    }
    if (!this.#running) {
      this.#running = true;
      void this.#run();
    } else if (this.#unwrittenBytes >= this.#options.limits.writeBehindBytes && !this.stalled) {
      this.#pause?.end();
    }
  }

  /** Settles when `condition` holds; it is asked after every step. Does not wait for more data to gather. */
  waitFor(condition: () => boolean): Promise<void> {
    if (condition()) return Promise.resolve();
    if (this.#stopped !== null) return Promise.reject(this.#stopped);
    return new Promise((resolve, reject) => {
      this.#waiters.push({ condition, resolve, reject });
      if (!this.stalled) this.#pause?.end();
    });
  }

  /**
   * Runs `work` between two steps: nothing else touches the files of `log` meanwhile, nor any other's, so it is to be short.
   * The partition may be deleted by then. Settles as `work` does.
   */
  between(log: PartitionLog, work: () => Promise<void>): Promise<void> {
    if (this.#stopped !== null) return Promise.reject(this.#stopped);
    return new Promise((resolve, reject) => {
      const task = { work, resolve, reject };
      const tasks = this.#tasks.get(log);
      if (tasks === undefined) this.#tasks.set(log, [task]);
      else tasks.push(task);
      this.enqueue(log);
      if (!this.stalled) this.#pause?.end();
    });
  }

  /** Writes what is durable now, and closes the last segment, so that it takes no more batches. */
  async seal(log: PartitionLog): Promise<void> {
    const { endOffset } = log;
    const isWritten = (): boolean =>
      log.deleted || (log.pendingCut === Infinity && log.writtenEnd >= Math.min(endOffset, log.endOffset));
    await this.waitFor(isWritten);
    await this.between(log, async () => {
      const last = log.segments.at(-1);
      if (!log.deleted && last !== undefined && last.sizeBytes > 0) await this.#seal(log, last);
    });
  }

  /** Removes files that compaction replaced, once no checkpoint lists them. */
  async dispose(log: PartitionLog, segments: readonly Segment[]): Promise<void> {
    await this.between(log, async () => {
      // With the directory they are gone already; another partition of the name may be in it.
      if (log.deleted) return;
      for (const segment of segments) await this.#removeFiles(log, segment);
      this.#forgetSuperseded(log, segments);
    });
  }

  /** Bytes of files that compaction replaced and that wait for a checkpoint. */
  get supersededBytes(): number {
    return this.#supersededBytes;
  }

  /** `segments` are on the list of `log` no more, and on disk still. */
  supersede(log: PartitionLog, segments: readonly Segment[]): void {
    for (const segment of segments) {
      log.superseded.add(segment);
      this.#supersededBytes += segment.sizeBytes;
    }
  }

  #forgetSuperseded(log: PartitionLog, segments: Iterable<Segment>): void {
    for (const segment of segments) {
      if (log.superseded.delete(segment)) this.#supersededBytes -= segment.sizeBytes;
    }
  }

  /** Stops after the present step. Whoever waits is rejected with `reason`. */
  stop(reason: Error): void {
    if (this.#stopped !== null) return;
    this.#stopped = reason;
    this.#pause?.end();
    for (const { reject } of this.#waiters.splice(0)) reject(reason);
    for (const tasks of this.#tasks.values()) for (const { reject } of tasks) reject(reason);
    this.#tasks.clear();
  }

  /** After {@link stop}: settles when the step under way is over. */
  stopped(): Promise<void> {
    return this.#running ? new Promise((resolve) => this.#stopWaiters.push(resolve)) : Promise.resolve();
  }

  async #run(): Promise<void> {
    for (let roundLeft = 0; this.#stopped === null; roundLeft--) {
      if (roundLeft <= 0) {
        await this.#gather();
        roundLeft = this.#queue.length;
      }
      const log = this.#queue[0];
      if (log === undefined || this.#stopped !== null) break;
      try {
        await this.#step(log);
        this.#retryMs = 0;
      } catch (error) {
        if (!(await this.#survive(error))) break;
        continue;
      }
      this.#queue.shift();
      log.queued = false;
      if (hasWork(log) || this.#tasks.has(log)) this.enqueue(log);
      this.#progress();
      if (this.#queue.length === 0) break;
    }
    this.#running = false;
    this.#progress();
    for (const wake of this.#stopWaiters.splice(0)) wake();
  }

  /** Lets a little data become more. */
  async #gather(): Promise<void> {
    const { limits } = this.#options;
    const isAwaited = this.#waiters.length > 0 || this.#tasks.size > 0;
    if (isAwaited || this.#unwrittenBytes >= limits.writeBehindBytes) return;
    await this.#sleep(limits.writeBehindDelayMs);
  }

  #sleep(delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      const end = (): void => {
        timer.cancel();
        this.#pause = null;
        resolve();
      };
      const timer = this.#options.timers.after(delayMs, end);
      this.#pause = { timer, end };
      if (this.#stopped !== null) end();
    });
  }

  /** After a failed step: true when it is to be tried again. */
  async #survive(error: unknown): Promise<boolean> {
    const { limits, logger } = this.#options;
    for (let failure = error; ;) {
      const code = diskErrorCode(failure);
      if (code !== 'ENOSPC' && code !== 'EDQUOT') {
        if (this.#stopped === null) this.#options.onFailure(failure);
        return false;
      }
      this.#retryMs = Math.min(Math.max(this.#retryMs * 2, limits.fullRetryMs), limits.fullRetryMaxMs);
      logger.warn({ code, retryMs: this.#retryMs }, 'no space to write segments');
      this.#progress();
      await this.#sleep(this.#retryMs);
      try {
        await this.#tidyAll();
        return true;
      } catch (again) {
        failure = again;
      }
    }
  }

  #progress(): void {
    this.#options.onProgress();
    if (this.#waiters.length === 0) return;
    this.#waiters = this.#waiters.filter((waiter) => {
      if (!waiter.condition()) return true;
      waiter.resolve();
      return false;
    });
  }

  async #step(log: PartitionLog): Promise<void> {
    await this.#tidy(log);
    if (!log.deleted && log.pendingCut === Infinity) await this.#writeChunk(log);
    // At once, not in its next turn: a partition of the same name may already wait behind it.
    if (log.deleted) await this.#erase(log);
  }

  /** Everything that needs no space. */
  async #tidy(log: PartitionLog): Promise<void> {
    if (!log.deleted && log.pendingCut !== Infinity) await this.#cut(log);
    if (!log.deleted) await this.#removeExpired(log);
    if (log.deleted) await this.#erase(log);
    for (let tasks = this.#tasks.get(log); tasks !== undefined; tasks = this.#tasks.get(log)) {
      this.#tasks.delete(log);
      for (const { work, resolve, reject } of tasks) await work().then(resolve, reject);
    }
  }

  /** Without space for one partition, others may give some back. */
  async #tidyAll(): Promise<void> {
    for (const log of this.#queue) {
      if (this.#stopped === null) await this.#tidy(log);
    }
  }

  async #erase(log: PartitionLog): Promise<void> {
    if (log.erased) return;
    const removed = [...log.segments, ...log.superseded];
    for (const segment of removed) {
      segment.removed = true;
      await this.#forget(segment);
    }
    await this.#options.disk.removeDirectory(log.directory);
    for (const segment of removed) await this.#options.handles.discard(segment.logPath);
    this.segmentsDirectoryDirty = true;
    this.dirtyDirectories.delete(log);
    log.segments = [];
    log.segmentBytes = 0;
    this.#forgetSuperseded(log, log.superseded);
    log.erased = true;
  }

  /** Removes what is at `pendingCut` and beyond it from the files. */
  async #cut(log: PartitionLog): Promise<void> {
    const offset = log.pendingCut;
    let last = log.segments.at(-1);
    while (last !== undefined && last.baseOffset >= offset) {
      log.segments.pop();
      log.segmentBytes -= last.sizeBytes;
      log.epoch += 1;
      await this.#removeFiles(log, last);
      last = log.segments.at(-1);
    }
    if (last !== undefined) await this.#cutSegment(log, last, offset);
    if (log.pendingCut === offset) log.pendingCut = Infinity;
  }

  async #cutSegment(log: PartitionLog, segment: Segment, offset: number): Promise<void> {
    const { handles, reader, disk } = this.#options;
    const position = await reader.positionOf(segment, offset);
    if (position === segment.sizeBytes) return;
    // What is appended goes into another file, see RecoveryPlan.
    segment.closed = true;
    if (segment.sealed) {
      // Its index would be one of another file.
      await disk.remove(segment.indexPath);
      this.dirtyDirectories.add(log);
      segment.sealed = false;
      reader.forget(segment);
    }
    // First what readers go by, then the file: one that began before starts over, one that begins now reads no further.
    log.segmentBytes -= segment.sizeBytes - position;
    segment.shrink(position);
    log.epoch += 1;
    await handles.withFile(segment.logPath, 'write', (file) => file.truncate(position));
    this.dirtySegments.add(segment);
  }

  async #removeExpired(log: PartitionLog): Promise<void> {
    for (let count = log.expiredSegments(); count > 0 && !log.deleted; count--) {
      const segment = log.segments.shift() as Segment;
      log.segmentBytes -= segment.sizeBytes;
      await this.#removeFiles(log, segment);
    }
  }

  /** Removes what is no longer in the partition's list. Should that fail, recovery does it. */
  async #removeFiles(log: PartitionLog, segment: Segment): Promise<void> {
    const { disk, handles } = this.#options;
    segment.removed = true;
    await this.#forget(segment);
    await disk.remove(segment.logPath);
    // A reader may have opened it once more: a new file of the name is not to be reached through that.
    await handles.discard(segment.logPath);
    await disk.remove(segment.indexPath);
    this.dirtyDirectories.add(log);
  }

  async #forget(segment: Segment): Promise<void> {
    this.dirtySegments.delete(segment);
    this.#options.reader.forget(segment);
    await this.#options.handles.discard(segment.logPath);
  }

  async #writeChunk(log: PartitionLog): Promise<void> {
    const { limits, handles } = this.#options;
    const first = log.firstUnwritten();
    if (first >= log.tail.length) return;
    const segment = await this.#segmentForWrite(log, log.tail.at(first));
    // Something may have been truncated while the segment was prepared.
    const batches: StoredBatch[] = [];
    let bytes = 0;
    for (let i = log.firstUnwritten(); i < log.tail.length && log.pendingCut === Infinity; i++) {
      const batch = log.tail.at(i);
      const size = batch.records.length;
      if (batches.length > 0 && bytes + size > limits.segmentWriteBytes) break;
      if (segment.sizeBytes + bytes > 0 && segment.sizeBytes + bytes + size > limits.segmentBytes) break;
      batches.push(batch);
      bytes += size;
    }
    if (batches.length === 0) return;
    const buffers = batches.map((batch) => batch.records);
    await handles.withFile(segment.logPath, 'write', (file) => file.write(buffers, segment.sizeBytes));
    // Not before: a sync while the write was under way does not count.
    this.dirtySegments.add(segment);
    for (const batch of batches) segment.grow(batch);
    log.segmentBytes += bytes;
    const before = log.unwrittenBytes;
    log.markWritten(batches);
    this.#unwrittenBytes -= before - log.unwrittenBytes;
  }

  /** The segment that takes `batch`: the last one, unless it is full or old. */
  async #segmentForWrite(log: PartitionLog, batch: StoredBatch): Promise<Segment> {
    const { clock, limits } = this.#options;
    const last = log.segments.at(-1);
    if (last !== undefined && !last.sealed) {
      const tooLarge = last.sizeBytes > 0 && last.sizeBytes + batch.records.length > limits.segmentBytes;
      const tooOld = last.sizeBytes > 0 && clock.nowMs() - last.createdMs >= limits.segmentAgeMs;
      if (!last.closed && !tooLarge && !tooOld) return last;
      await this.#seal(log, last);
    }
    return this.#createSegment(log, batch.baseOffset);
  }

  async #seal(log: PartitionLog, segment: Segment): Promise<void> {
    const { disk, reader } = this.#options;
    if (segment.sealed) return;
    segment.closed = true;
    // After a restart, only the index of what was written since is in memory.
    await reader.ensureIndex(segment);
    const file = await disk.open(segment.indexPath, 'write');
    try {
      await file.truncate(0);
      await file.write([segment.index.encode(segment.sizeBytes)], 0);
      // Otherwise an older index of the same name and size could come back after a power cut.
      await file.sync();
    } finally {
      await file.close();
    }
    this.dirtyDirectories.add(log);
    segment.sealed = true;
    reader.noteSealed(segment);
  }

  async #createSegment(log: PartitionLog, baseOffset: number): Promise<Segment> {
    const { disk, clock, limits, handles } = this.#options;
    if (!log.directoryReady) {
      await disk.makeDirectory(log.directory);
      log.directoryReady = true;
      this.segmentsDirectoryDirty = true;
    }
    // A file that compaction replaced may still have the plain name, and a checkpoint that needs it.
    const isTaken = [...log.superseded].some((old) => old.baseOffset === baseOffset && old.generation === 0);
    const state = newSegmentState(baseOffset, clock.nowMs(), isTaken ? log.takeGeneration() : 0);
    const segment = new Segment(log.directory, state, limits.indexIntervalBytes);
    await handles.withFile(segment.logPath, 'write', (file) => emptyFile(file));
    // Not before: a checkpoint under way would take it off the list without the file being there yet.
    this.dirtyDirectories.add(log);
    log.segments.push(segment);
    return segment;
  }
}

function hasWork(log: PartitionLog): boolean {
  if (log.deleted) return !log.erased;
  return log.pendingCut !== Infinity || log.unwrittenBytes > 0 || log.expiredSegments() > 0;
}

/** A file of this name may be left from before a truncate. */
async function emptyFile(file: DiskFile): Promise<void> {
  if ((await file.size()) > 0) await file.truncate(0);
}
