/**
 * The log on local files: puts journal, tails, segments, checkpoints and recovery together.
 *
 * Owns the states of the store, the checking of operations, and the way of an operation: checked against everything that
 * was submitted before it → journal → applied to what is visible → its promise settles. Segment files follow later.
 *
 * See log-store.ts for what every engine promises. In addition: an append that comes while the store is not 'open' waits
 * for room, it never fails for it; after a failure of the disk the store is offline, with reads going on.
 */
import type { Clock, Disk, Logger, PartitionKey, Random, Timers } from '@naru/base';
import { assert, silentLogger, toError } from '@naru/base';
import { NaruError } from '@naru/protocol';
import { checkAppendEntry, unknownPartition } from '../append-entry.ts';
import type {
  AppendEntry,
  Capacity,
  LogStore,
  LogStoreMetrics,
  PartitionInfo,
  RecoveryVisitor,
  Snapshot,
  StoredBatch,
} from '../log-store.ts';
import { Checkpointer } from './checkpointer.ts';
import type { DataPaths } from './data-directory.ts';
import { dataPaths, openError, removeCleanMark, storageError, writeCleanMark } from './data-directory.ts';
import { HandleCache } from './handle-cache.ts';
import { JournalFiles } from './journal-files.ts';
import type { EntryType, JournalOperation } from './journal-frame.ts';
import { ENTRY, FRAME_ENTRY_BYTES, FRAME_HEADER_BYTES, alignUp } from './journal-frame.ts';
import { Journal } from './journal.ts';
import type { FileLogLimits } from './limits.ts';
import { resolveFileLogLimits } from './limits.ts';
import { LogReader } from './log-reader.ts';
import { LogState } from './log-state.ts';
import type { PartitionLog } from './partition-log.ts';
import { adoptJournalFiles, findLog, recoveredBytes, replay } from './recovery.ts';
import { SegmentReader } from './segment-reader.ts';
import { SegmentWriter } from './segment-writer.ts';
import { TailCache } from './tail-cache.ts';

export interface FileLogStoreOptions {
  readonly disk: Disk;
  /** The data directory; created when missing. Its caller holds the lock (data-dir-lock.ts). */
  readonly path: string;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly random: Random;
  /** Default: silent. */
  readonly logger?: Logger | undefined;
  /** Defaults: DEFAULT_FILE_LOG_LIMITS. */
  readonly limits?: Partial<FileLogLimits> | undefined;
}

interface Operation extends JournalOperation {
  /** The partition of each entry, or the one partition. */
  readonly logs: readonly PartitionLog[];
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

const OPEN: Capacity = { state: 'open' };
const BUSY: Capacity = { state: 'busy' };
const NO_ENTRIES: readonly AppendEntry[] = [];
/** A batch is 61 bytes at least, so that an append's entry table is never larger than its batches. */
const WORST_ENTRY_OVERHEAD = 2;

export function openFileLogStore(options: FileLogStoreOptions): LogStore {
  return new FileLogStore(options);
}

class FileLogStore implements LogStore {
  readonly maxAppendBytes: number;
  readonly #options: FileLogStoreOptions;
  readonly #limits: FileLogLimits;
  readonly #logger: Logger;
  readonly #paths: DataPaths;
  readonly #maxFrameBytes: number;
  readonly #handles: HandleCache;
  readonly #logReader: LogReader;
  readonly #writer: SegmentWriter;
  readonly #cache: TailCache;
  readonly #state: LogState;
  readonly #files: JournalFiles;
  #journal: Journal<Operation> | null = null;
  #checkpointer: Checkpointer<Operation> | null = null;
  #phase: 'new' | 'recovering' | 'open' | 'closing' | 'closed' = 'new';
  #failure: NaruError | null = null;
  #openWaiters: (() => void)[] = [];
  /** Created and not durable yet. */
  readonly #creating = new Map<PartitionKey, PartitionLog>();
  #appends = 0;
  #appendedBytes = 0;

  constructor(options: FileLogStoreOptions) {
    const limits = resolveFileLogLimits(options.limits);
    this.#options = options;
    this.#limits = limits;
    this.#logger = options.logger ?? silentLogger;
    this.#paths = dataPaths(options.path);
    this.maxAppendBytes = limits.maxAppendBytes;
    const largestAppend = limits.maxAppendBytes * WORST_ENTRY_OVERHEAD;
    this.#maxFrameBytes = alignUp(
      Math.max(largestAppend, limits.mergedFrameBytes) + FRAME_HEADER_BYTES + FRAME_ENTRY_BYTES,
    );
    assert(this.#maxFrameBytes <= limits.journalFileBytes, 'the largest frame fits a journal file');
    const { disk, clock, timers } = options;
    const onFailure = (error: unknown): void => this.#fail(error);
    this.#handles = new HandleCache(disk, limits.openFiles);
    const reader = new SegmentReader(disk, this.#handles, limits);
    this.#cache = new TailCache(limits.cacheBytes);
    this.#writer = new SegmentWriter({
      disk,
      clock,
      timers,
      limits,
      onFailure,
      reader,
      logger: this.#logger,
      handles: this.#handles,
      onProgress: () => this.#settled(),
    });
    this.#state = new LogState(this.#paths.segments, this.#cache, this.#writer);
    this.#logReader = new LogReader(this.#state.logs, reader);
    this.#files = new JournalFiles({
      disk,
      limits,
      timers,
      onFailure,
      directory: this.#paths.journal,
      logger: this.#logger,
      onChange: () => this.#settled(),
    });
  }

  async recover(visitor: RecoveryVisitor): Promise<void> {
    assert(this.#phase === 'new', 'recover is called once, first');
    this.#phase = 'recovering';
    try {
      await this.#recover(visitor);
    } catch (error) {
      const failure = openError(error, this.#paths.root);
      this.#fail(failure);
      await this.#letGo();
      this.#phase = 'closed';
      throw failure;
    }
    this.#phase = 'open';
  }

  async #recover(visitor: RecoveryVisitor): Promise<void> {
    const { disk, clock, random } = this.#options;
    const limits = this.#limits;
    const randomBytes = (length: number): Uint8Array => random.bytes(length);
    const context = { disk, paths: this.#paths, limits, logger: this.#logger, randomBytes };
    const found = await findLog(context);
    try {
      this.#files.adopt(await adoptJournalFiles(context, found));
      await found.plan.carryOut();
      await replay(found, this.#state, this.#writer, limits, visitor);
    } finally {
      await found.reader.close();
    }
    for (const log of this.#state.logs.values()) {
      log.submittedEnd = log.endOffset;
      log.submittedStart = log.logStartOffset;
    }
    await this.#files.start();
    // Before anything is written that the mark would deny.
    if (found.hasCleanMark) await removeCleanMark(disk, this.#paths);
    const { journalId, sequence } = found.checkpoint;
    const journal = new Journal<Operation>({
      journalId,
      limits,
      clock,
      files: this.#files,
      lastSequence: sequence + found.scan.frames.length,
      onDurable: (operations) => this.#applyAll(operations),
      onFailure: (error, operations) => this.#failAll(error, operations),
    });
    this.#journal = journal;
    this.#checkpointer = new Checkpointer({
      disk,
      journalId,
      journal,
      paths: this.#paths,
      files: this.#files,
      handles: this.#handles,
      state: this.#state,
      writer: this.#writer,
      recoveredBytes: recoveredBytes(found),
    });
    if (this.#failure !== null) throw this.#failure;
    this.#logger.info({ partitions: this.#state.logs.size, frames: found.scan.frames.length }, 'log recovered');
  }

  // These are no async functions: promises settle in the order of the calls, to the microtask.
  create(key: PartitionKey, logStartOffset = 0): Promise<void> {
    return this.#checked(() => {
      this.#assertUsable();
      assert(!this.#state.logs.has(key) && !this.#creating.has(key), `partition ${key} exists`);
      const log = this.#state.prepare(key, logStartOffset);
      this.#creating.set(key, log);
      return this.#submit(ENTRY.create, log, logStartOffset);
    });
  }

  delete(key: PartitionKey): Promise<void> {
    return this.#checked(() => {
      const log = this.#require(key);
      log.deleteSubmitted = true;
      return this.#submit(ENTRY.delete, log, 0);
    });
  }

  append(entries: readonly AppendEntry[]): Promise<void> {
    const logs: PartitionLog[] = [];
    const keys: Uint8Array[] = [];
    let recordBytes = 0;
    try {
      for (const entry of entries) {
        const log = this.#require(entry.partition);
        logs.push(log);
        keys.push(log.keyBytes);
        recordBytes += entry.records.length;
      }
      this.#checkAppend(entries, logs, recordBytes);
    } catch (error) {
      return rejected(error);
    }
    if (entries.length === 0) return Promise.resolve();
    this.#appends += 1;
    this.#appendedBytes += recordBytes;
    return new Promise((resolve, reject) => {
      const operation = { type: ENTRY.append, entries, keys, offset: 0, recordBytes, logs, resolve, reject };
      (this.#journal as Journal<Operation>).submit(operation);
    });
  }

  /** Checks everything, and only then counts it as submitted: a bad append leaves nothing behind. */
  #checkAppend(entries: readonly AppendEntry[], logs: readonly PartitionLog[], recordBytes: number): void {
    assert(recordBytes <= this.maxAppendBytes, `an append of ${recordBytes} bytes, at most ${this.maxAppendBytes}`);
    let checked = 0;
    const ends: number[] = [];
    try {
      for (; checked < entries.length; checked++) {
        const entry = entries[checked] as AppendEntry;
        const log = logs[checked] as PartitionLog;
        checkAppendEntry(entry, log.submittedEnd);
        ends.push(log.submittedEnd);
        log.submittedEnd = entry.lastOffset + 1;
      }
    } catch (error) {
      while (checked-- > 0) (logs[checked] as PartitionLog).submittedEnd = ends[checked] as number;
      throw error;
    }
  }

  truncate(key: PartitionKey, endOffset: number): Promise<void> {
    return this.#checked(() => {
      const log = this.#require(key);
      assert(endOffset >= log.submittedStart, `truncate of ${key} to ${endOffset}, below its log start offset`);
      log.submittedEnd = Math.min(log.submittedEnd, endOffset);
      return this.#submit(ENTRY.truncate, log, endOffset);
    });
  }

  deleteBefore(key: PartitionKey, offset: number): Promise<void> {
    return this.#checked(() => {
      const log = this.#require(key);
      assert(offset <= log.submittedEnd, `deleteBefore of ${key} to ${offset}, beyond its end offset`);
      log.submittedStart = Math.max(log.submittedStart, offset);
      return this.#submit(ENTRY.deleteBefore, log, offset);
    });
  }

  #checked(submit: () => Promise<void>): Promise<void> {
    try {
      return submit();
    } catch (error) {
      return rejected(error);
    }
  }

  #submit(type: EntryType, log: PartitionLog, offset: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const place = { keys: [log.keyBytes], logs: [log], offset };
      const operation = { type, entries: NO_ENTRIES, recordBytes: 0, ...place, resolve, reject };
      (this.#journal as Journal<Operation>).submit(operation);
    });
  }

  #assertUsable(): void {
    if (this.#failure !== null) throw this.#failure;
    if (this.#phase === 'closing' || this.#phase === 'closed')
      throw new NaruError('STORAGE_ERROR', 'the log is closed');
    assert(this.#phase === 'open', 'recover comes first');
  }

  /** A partition as of everything submitted. */
  #require(key: PartitionKey): PartitionLog {
    this.#assertUsable();
    const log = this.#state.logs.get(key) ?? this.#creating.get(key);
    if (log === undefined || log.deleteSubmitted) throw unknownPartition(key);
    return log;
  }

  #applyAll(operations: readonly Operation[]): void {
    for (const operation of operations) this.#apply(operation);
    for (const operation of operations) operation.resolve();
    this.#settled();
  }

  #apply({ type, entries, logs, offset }: Operation): void {
    const state = this.#state;
    for (let i = 0; i < entries.length; i++) state.append(logs[i] as PartitionLog, entries[i] as AppendEntry);
    if (type === ENTRY.append) return;
    const log = logs[0] as PartitionLog;
    if (type === ENTRY.create) {
      this.#creating.delete(log.key);
      state.create(log);
    } else if (type === ENTRY.truncate) state.truncate(log, offset);
    else if (type === ENTRY.deleteBefore) state.deleteBefore(log, offset);
    else state.delete(log);
  }

  /** Something moved: memory may be freed, and whoever waits for room may go on. */
  #settled(): void {
    this.#cache.evict();
    if (this.#openWaiters.length === 0 || this.capacity().state === 'busy') return;
    for (const wake of this.#openWaiters.splice(0)) wake();
  }

  #fail(error: unknown): void {
    if (this.#failure !== null) return;
    const failure = storageError(error, 'the log store failed');
    // A full disk where none may be (the journal's files are preallocated) is a failure like any other.
    this.#failure =
      failure.code === 'STORAGE_FULL' ? new NaruError('STORAGE_ERROR', failure.message, { cause: error }) : failure;
    this.#logger.error({ code: this.#failure.code, reason: this.#failure.message }, 'the log store is offline');
    this.#journal?.fail(this.#failure);
    this.#files.abort(this.#failure);
    this.#writer.stop(this.#failure);
    this.#settled();
  }

  #failAll(error: unknown, operations: readonly Operation[]): void {
    this.#fail(error);
    for (const { reject } of operations) reject(this.#failure as NaruError);
  }

  read(
    key: PartitionKey,
    offset: number,
    maxBytes: number,
    limitOffset: number,
  ): StoredBatch[] | Promise<StoredBatch[]> {
    return this.#logReader.read(key, offset, maxBytes, limitOffset);
  }

  findByTimestamp(key: PartitionKey, timestampMs: number): Promise<StoredBatch | null> {
    return this.#logReader.findByTimestamp(key, timestampMs);
  }

  info(key: PartitionKey): PartitionInfo | undefined {
    return this.#state.logs.get(key)?.info();
  }

  partitions(): PartitionInfo[] {
    return [...this.#state.logs.values()].map((log) => log.info());
  }

  capacity(): Capacity {
    if (this.#failure !== null) return { state: 'offline', reason: this.#failure.message };
    const journal = this.#journal;
    if (journal === null || this.#phase !== 'open') return { state: 'offline', reason: 'the log is closed' };
    if (this.#writer.stalled) return { state: 'full', reason: 'no disk space to write segments' };
    const { unwrittenBytes, pendingBytes } = this.#limits;
    const roomBytes = this.#files.headroomBytes(this.#maxFrameBytes) - journal.pendingBytes;
    if (roomBytes < this.#maxFrameBytes) {
      return this.#files.stalled ? { state: 'full', reason: 'no disk space for the journal' } : BUSY;
    }
    return this.#writer.unwrittenBytes > unwrittenBytes || journal.pendingBytes > pendingBytes ? BUSY : OPEN;
  }

  whenOpen(): Promise<void> {
    if (this.capacity().state !== 'busy') return Promise.resolve();
    return new Promise((resolve) => this.#openWaiters.push(resolve));
  }

  checkpointDue(): boolean {
    if (this.#failure !== null || this.#checkpointer === null) return false;
    return this.#checkpointer.uncoveredBytes > this.#limits.checkpointBytes;
  }

  async checkpoint(snapshot: Snapshot): Promise<void> {
    this.#assertUsable();
    await this.#checkpoint(snapshot);
  }

  async #checkpoint(snapshot: Snapshot): Promise<number> {
    try {
      return await (this.#checkpointer as Checkpointer<Operation>).take(snapshot);
    } catch (error) {
      const failure = storageError(error, 'writing a checkpoint');
      // Without space nothing is lost: the journal is kept, and another checkpoint will be due.
      if (failure.code !== 'STORAGE_FULL') this.#fail(failure);
      throw failure;
    }
  }

  async close(snapshot?: Snapshot): Promise<void> {
    if (this.#phase === 'closed' || this.#phase === 'closing') return;
    const wasOpen = this.#phase === 'open';
    this.#phase = 'closing';
    try {
      if (wasOpen && this.#failure === null) await this.#finish(snapshot);
    } finally {
      await this.#letGo();
      this.#phase = 'closed';
      this.#settled();
    }
  }

  async #finish(snapshot: Snapshot | undefined): Promise<void> {
    if (snapshot !== undefined) {
      const sequence = await this.#checkpoint(snapshot);
      await writeCleanMark(this.#options.disk, this.#paths, sequence);
      return;
    }
    await new Promise<void>((resolve, reject) => {
      (this.#journal as Journal<Operation>).barrier(() => resolve(), reject);
    });
  }

  /** Nothing touches the directory after this: another process may open it. */
  async #letGo(): Promise<void> {
    await this.#checkpointer?.idle();
    this.#writer.stop(new NaruError('STORAGE_ERROR', 'the log is closed'));
    await this.#writer.stopped();
    await this.#journal?.idle();
    await this.#files.close();
    await this.#handles.closeAll();
  }

  metrics(): LogStoreMetrics {
    return {
      appends: this.#appends,
      appendedBytes: this.#appendedBytes,
      commitCycles: this.#journal?.cycles ?? 0,
      commitMs: this.#journal?.commitMs ?? 0,
      checkpoints: this.#checkpointer?.count ?? 0,
      unwrittenBytes: this.#writer.unwrittenBytes,
      cacheBytes: this.#cache.bytes,
      cacheHits: this.#logReader.cacheHits,
      cacheMisses: this.#logReader.cacheMisses,
    };
  }
}

function rejected(error: unknown): Promise<never> {
  return Promise.reject(toError(error));
}
