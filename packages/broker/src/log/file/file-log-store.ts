/**
 * The log on local files: puts journal, tails, segments, checkpoints and recovery together.
 *
 * Owns the states of the store, the checking of operations, and the way of an operation: checked against everything that
 * was submitted before it → journal → applied to what is visible → its promise settles. Segment files follow later.
 *
 * See log-store.ts for what every engine promises. In addition: an append that comes while the store is not 'open' waits
 * for room, it never fails for it; after a failure of the disk the store is offline, with reads going on. Closing does not
 * wait for space on a full disk longer than `closeMs`: then the last checkpoint is left out, nothing acknowledged is lost.
 */
import type { Logger, PartitionKey } from '@naru/base';
import { assert, silentLogger, toError } from '@naru/base';
import { NaruError } from '@naru/protocol';
import { unknownPartition } from '../append-entry.ts';
import type {
  AppendEntry,
  Capacity,
  CompactionStatus,
  LogStore,
  LogStoreMetrics,
  PartitionInfo,
  RecoveryVisitor,
  Rewriter,
  Snapshot,
  StoredBatch,
} from '../log-store.ts';
import { Checkpointer } from './checkpointer.ts';
import { compactionStatusOf } from './compaction-status.ts';
import { finishInTime } from './closing.ts';
import type { DataPaths } from './data-directory.ts';
import { dataPaths, markUnsynced, openError, removeCleanMark, storageError, writeCleanMark } from './data-directory.ts';
import type { FileLogStoreOptions } from './file-log-options.ts';
import { HandleCache } from './handle-cache.ts';
import { JournalFiles } from './journal-files.ts';
import type { EntryType, JournalOperation } from './journal-frame.ts';
import { ENTRY } from './journal-frame.ts';
import { Journal } from './journal.ts';
import type { FileLogLimits } from './limits.ts';
import { largestFrameBytes, resolveFileLogLimits } from './limits.ts';
import { logCapacity } from './log-capacity.ts';
import { LogReader } from './log-reader.ts';
import { LogState } from './log-state.ts';
import { submitBatches } from './partition-log.ts';
import type { PartitionLog } from './partition-log.ts';
import { adoptJournalFiles, findLog, recoveredBytes, replay } from './recovery.ts';
import { SegmentReader } from './segment-reader.ts';
import { SegmentRewriter, clearRewriteDirectory } from './segment-rewriter.ts';
import { SegmentWriter } from './segment-writer.ts';
import { TailCache } from './tail-cache.ts';

export type { FileLogStoreOptions } from './file-log-options.ts';

interface Operation extends JournalOperation {
  /** The partition of each entry, or the one partition. */
  readonly logs: readonly PartitionLog[];
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

const NO_ENTRIES: readonly AppendEntry[] = [];

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
  readonly #journalMode: 'write' | 'write-dsync';
  readonly #handles: HandleCache;
  readonly #logReader: LogReader;
  readonly #writer: SegmentWriter;
  readonly #rewriter: SegmentRewriter;
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
    this.#journalMode = options.syncJournal === false ? 'write' : 'write-dsync';
    this.#logger = options.logger ?? silentLogger;
    this.#paths = dataPaths(options.path);
    this.maxAppendBytes = limits.maxAppendBytes;
    this.#maxFrameBytes = largestFrameBytes(limits);
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
    const shared = { disk, limits, reader, handles: this.#handles, writer: this.#writer, cache: this.#cache };
    this.#rewriter = new SegmentRewriter({ ...shared, directory: this.#paths.rewrite });
    this.#state = new LogState(this.#paths.segments, this.#cache, this.#writer);
    this.#logReader = new LogReader(this.#state.logs, reader);
    this.#files = new JournalFiles({
      disk,
      limits,
      clock,
      mode: this.#journalMode,
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
    const context = {
      disk,
      paths: this.#paths,
      limits,
      logger: this.#logger,
      journalMode: this.#journalMode,
      randomBytes,
    };
    const found = await findLog(context);
    try {
      this.#files.adopt(await adoptJournalFiles(context, found));
      await found.plan.carryOut();
      await clearRewriteDirectory(disk, this.#paths.rewrite);
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
    const unsynced = this.#journalMode === 'write';
    if (unsynced !== found.isUnsynced) await markUnsynced(disk, this.#paths, unsynced);
    const { journalId, sequence } = found.checkpoint;
    const journal = new Journal<Operation>({
      journalId,
      limits,
      clock,
      files: this.#files,
      unsynced,
      lastSequence: sequence + found.scan.frames.length,
      onDurable: (operations) => this.#applyAll(operations),
      onFailure: (error, operations) => this.#failAll(error, operations),
    });
    this.#journal = journal;
    this.#checkpointer = new Checkpointer({
      disk,
      journalId,
      journal,
      limits,
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
      assert(this.#find(key) === undefined, `partition ${key} exists`);
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
      assert(recordBytes <= this.maxAppendBytes, `an append of ${recordBytes} bytes, at most ${this.maxAppendBytes}`);
      submitBatches(entries, logs);
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
    const log = this.#find(key);
    if (log === undefined) throw unknownPartition(key);
    return log;
  }

  #find(key: PartitionKey): PartitionLog | undefined {
    // One that is being created may follow one of the same key that is being deleted.
    const log = this.#creating.get(key) ?? this.#state.logs.get(key);
    return log?.deleteSubmitted === true ? undefined : log;
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
      if (this.#creating.get(log.key) === log) this.#creating.delete(log.key);
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
    this.#rewriter.stop(this.#failure);
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

  findBySize(key: PartitionKey, maxBytes: number): Promise<number> {
    return this.#logReader.findBySize(key, maxBytes);
  }

  async seal(key: PartitionKey): Promise<void> {
    const log = this.#visible(key);
    try {
      await this.#writer.seal(log);
    } catch (error) {
      throw storageError(error, `closing a segment of partition ${key}`);
    }
    if (log.deleted) throw unknownPartition(key);
  }

  compactionStatus(key: PartitionKey, beforeMs = Infinity, beforeOffset = Infinity): CompactionStatus {
    return compactionStatusOf(this.#visible(key), beforeMs, beforeOffset);
  }

  async rewrite(key: PartitionKey, endOffset: number, rewriter: Rewriter): Promise<void> {
    await this.#rewriter.rewrite(this.#visible(key), endOffset, rewriter);
  }

  /** A partition as readers see it. */
  #visible(key: PartitionKey): PartitionLog {
    this.#assertUsable();
    const log = this.#state.logs.get(key);
    if (log === undefined) throw unknownPartition(key);
    return log;
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
    return logCapacity(this.#files, this.#writer, this.#cache, journal.pendingBytes, this.#limits, this.#maxFrameBytes);
  }

  whenOpen(): Promise<void> {
    if (this.capacity().state !== 'busy') return Promise.resolve();
    return new Promise((resolve) => this.#openWaiters.push(resolve));
  }

  checkpointDue(): boolean {
    if (this.#failure !== null || this.#checkpointer === null) return false;
    const { checkpointBytes, supersededBytes } = this.#limits;
    return this.#checkpointer.uncoveredBytes > checkpointBytes || this.#writer.supersededBytes > supersededBytes;
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
      this.#rewriter.stop(new NaruError('STORAGE_ERROR', 'the log is closed'));
      await this.#rewriter.stopped();
      if (wasOpen && this.#failure === null) await this.#finishInTime(snapshot);
    } finally {
      await this.#letGo();
      this.#phase = 'closed';
      this.#settled();
    }
  }

  #finishInTime(snapshot: Snapshot | undefined): Promise<void> {
    return finishInTime(this.#finish(snapshot), {
      timers: this.#options.timers,
      logger: this.#logger,
      closeMs: this.#limits.closeMs,
      isFull: () => this.#writer.stalled || this.#files.stalled,
      giveUp: () => this.#fail(new NaruError('STORAGE_ERROR', 'the log is closed')),
    });
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
    await this.#rewriter.stopped();
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
