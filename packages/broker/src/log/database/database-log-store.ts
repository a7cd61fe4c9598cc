/**
 * The log in a database, whatever database: puts state, commit loop, reader, checkpoints, sweeper and compaction together.
 *
 * Owns the states of the store and the checking of operations. The way of an operation: checked against everything that was
 * submitted before it → commit loop, with others as one transaction → applied to what is visible → its promise settles.
 *
 * See log-store.ts for what every engine promises. In addition: an operation that comes while the database cannot be
 * reached, or has no space, waits for it; only an error that waiting cannot heal takes the store offline.
 */
import type { Clock, Logger, PartitionKey, TimerHandle, Timers } from '@naru/base';
import { assert, silentLogger, toError } from '@naru/base';
import { isNaruError, NaruError } from '@naru/protocol';
import { checkAppendEntry, unknownPartition } from '../append-entry.ts';
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
import { ownMemory } from '../own-memory.ts';
import { Backoff } from './backoff.ts';
import { BatchCache } from './batch-cache.ts';
import { DatabaseCheckpointer } from './checkpointer.ts';
import { CommitLoop, storageError } from './commit-loop.ts';
import { compactPartition } from './compaction.ts';
import { DatabaseReader } from './database-reader.ts';
import type { DatabaseLogLimits } from './limits.ts';
import { resolveDatabaseLogLimits } from './limits.ts';
import type { LogDatabase } from './log-database.ts';
import { OPERATION } from './log-database.ts';
import type { Operation, RewritePiece } from './operation.ts';
import { OperationApplier } from './operation.ts';
import { DatabasePartition } from './partition-state.ts';
import { recoverLog } from './recovery.ts';
import { Sweeper } from './sweeper.ts';

export interface DatabaseLogStoreOptions {
  readonly database: LogDatabase;
  readonly clock: Clock;
  readonly timers: Timers;
  /** Default: silent. */
  readonly logger?: Logger | undefined;
  /** Defaults: DEFAULT_DATABASE_LOG_LIMITS. */
  readonly limits?: Partial<DatabaseLogLimits> | undefined;
}

const OPEN: Capacity = { state: 'open' };
const BUSY: Capacity = { state: 'busy' };

type CutType =
  | typeof OPERATION.create
  | typeof OPERATION.delete
  | typeof OPERATION.truncate
  | typeof OPERATION.deleteBefore;

export class DatabaseLogStore implements LogStore {
  readonly maxAppendBytes: number;
  readonly #options: DatabaseLogStoreOptions;
  readonly #limits: DatabaseLogLimits;
  readonly #logger: Logger;
  readonly #database: LogDatabase;
  readonly #cache: BatchCache;
  readonly #applier: OperationApplier;
  readonly #reader: DatabaseReader;
  readonly #sweeper: Sweeper;
  /** One for each that may wait. */
  readonly #backoffs: {
    readonly commit: Backoff;
    readonly checkpoint: Backoff;
    readonly sweep: Backoff;
    readonly compact: Backoff;
  };
  #loop: CommitLoop | null = null;
  #checkpointer: DatabaseCheckpointer | null = null;
  #phase: 'new' | 'recovering' | 'open' | 'closing' | 'closed' = 'new';
  #failure: NaruError | null = null;
  #openWaiters: (() => void)[] = [];
  /** Created and not durable yet. */
  readonly #creating = new Map<PartitionKey, DatabasePartition>();
  #lastPartitionId = 0;
  #rewriting: Promise<void> = Promise.resolve();
  #spaceTimer: TimerHandle | null = null;
  #appends = 0;
  #appendedBytes = 0;

  constructor(options: DatabaseLogStoreOptions) {
    const { database, timers } = options;
    const limits = resolveDatabaseLogLimits(options.limits);
    this.#options = options;
    this.#limits = limits;
    this.#logger = options.logger ?? silentLogger;
    this.#database = database;
    this.maxAppendBytes = limits.maxAppendBytes;
    const backoff = (): Backoff => new Backoff(timers, limits.retryMs, limits.retryMaxMs);
    this.#backoffs = { commit: backoff(), checkpoint: backoff(), sweep: backoff(), compact: backoff() };
    this.#cache = new BatchCache(limits.cacheBytes);
    this.#sweeper = new Sweeper({ database, limits, logger: this.#logger, backoff: this.#backoffs.sweep });
    this.#applier = new OperationApplier(this.#cache, (garbage) => this.#sweeper.add(garbage));
    this.#reader = new DatabaseReader(this.#applier.partitions, database, limits);
  }

  async recover(visitor: RecoveryVisitor): Promise<void> {
    assert(this.#phase === 'new', 'recover is called once, first');
    this.#phase = 'recovering';
    try {
      await this.#recover(visitor);
    } catch (error) {
      const failure = storageError(error, 'opening the log');
      this.#fail(failure);
      await this.#letGo();
      this.#phase = 'closed';
      throw failure;
    }
    this.#phase = 'open';
  }

  async #recover(visitor: RecoveryVisitor): Promise<void> {
    const database = this.#database;
    const limits = this.#limits;
    const applier = this.#applier;
    const recovered = await recoverLog(database, applier, limits, visitor);
    this.#lastPartitionId = recovered.lastPartitionId;
    const loop = new CommitLoop({
      database,
      applier,
      limits,
      clock: this.#options.clock,
      backoff: this.#backoffs.commit,
      logger: this.#logger,
      lastId: recovered.lastId,
      onProgress: () => this.#settled(),
      onFailure: (error) => this.#fail(error),
    });
    this.#loop = loop;
    const { snapshotId, historyBytes } = recovered;
    const onCovered = (throughId: number): void => this.#sweeper.cover(throughId);
    this.#checkpointer = new DatabaseCheckpointer({
      database,
      applier,
      loop,
      snapshotId,
      historyBytes,
      onCovered,
      lastPartitionId: () => this.#lastPartitionId,
      backoff: this.#backoffs.checkpoint,
    });
    if (snapshotId > 0) this.#sweeper.cover(snapshotId);
    database.onLost((error) => this.#fail(error));
    if (this.#failure !== null) throw this.#failure;
    const { partitions } = applier;
    this.#logger.info({ partitions: partitions.size, rows: recovered.lastId - snapshotId }, 'log recovered');
  }

  // These are no async functions: promises settle in the order of the calls, to the microtask.
  create(key: PartitionKey, logStartOffset = 0): Promise<void> {
    return this.#checked(() => {
      this.#assertUsable();
      const existing = this.#creating.get(key) ?? this.#applier.partitions.get(key);
      assert(existing === undefined || existing.deleteSubmitted, `partition ${key} exists`);
      const partition = new DatabasePartition(++this.#lastPartitionId, key, logStartOffset);
      this.#creating.set(key, partition);
      const created = this.#submit(OPERATION.create, partition, logStartOffset);
      const done = (): void => {
        if (this.#creating.get(key) === partition) this.#creating.delete(key);
      };
      created.then(done, done);
      return created;
    });
  }

  delete(key: PartitionKey): Promise<void> {
    return this.#checked(() => {
      const partition = this.#require(key);
      partition.deleteSubmitted = true;
      return this.#submit(OPERATION.delete, partition, 0);
    });
  }

  append(entries: readonly AppendEntry[]): Promise<void> {
    return this.#checked(() => {
      const partitions = entries.map((entry) => this.#require(entry.partition));
      const recordBytes = entries.reduce((sum, entry) => sum + entry.records.length, 0);
      assert(recordBytes <= this.maxAppendBytes, `an append of ${recordBytes} bytes, at most ${this.maxAppendBytes}`);
      checkEntries(entries, partitions);
      if (entries.length === 0) return Promise.resolve();
      this.#appends += 1;
      this.#appendedBytes += recordBytes;
      return new Promise((resolve, reject) => {
        const owned = entries.map(ownMemory);
        this.#enqueue({ type: 'append', entries: owned, partitions, recordBytes, resolve, reject });
      });
    });
  }

  truncate(key: PartitionKey, endOffset: number): Promise<void> {
    return this.#checked(() => {
      const partition = this.#require(key);
      const { submittedStart, submittedEnd } = partition;
      assert(endOffset >= submittedStart, `truncate of ${key} to ${endOffset}, below its log start offset`);
      partition.submittedEnd = Math.min(submittedEnd, endOffset);
      partition.truncateSubmitted = Math.min(partition.truncateSubmitted, endOffset);
      return this.#submit(OPERATION.truncate, partition, endOffset);
    });
  }

  deleteBefore(key: PartitionKey, offset: number): Promise<void> {
    return this.#checked(() => {
      const partition = this.#require(key);
      assert(offset <= partition.submittedEnd, `deleteBefore of ${key} to ${offset}, beyond its end offset`);
      partition.submittedStart = Math.max(partition.submittedStart, offset);
      return this.#submit(OPERATION.deleteBefore, partition, offset);
    });
  }

  rewrite(key: PartitionKey, endOffset: number, rewriter: Rewriter): Promise<void> {
    const work = this.#rewriting.then(() => this.#rewrite(key, endOffset, rewriter));
    this.#rewriting = work.catch(() => {});
    return work;
  }

  async #rewrite(key: PartitionKey, endOffset: number, rewriter: Rewriter): Promise<void> {
    const partition = this.#require(key);
    // What is submitted before this is applied when compaction begins, what is submitted after it is noticed.
    partition.truncateSubmitted = Infinity;
    await new Promise<void>((resolve, reject) => (this.#loop as CommitLoop).barrier(resolve, reject));
    const submit = (target: DatabasePartition, offset: number, piece: RewritePiece): Promise<void> =>
      this.#checked(() => {
        this.#assertUsable();
        if (target.deleteSubmitted) throw unknownPartition(key);
        return new Promise((resolve, reject) => {
          this.#enqueue({ type: OPERATION.rewrite, partition: target, offset, piece, resolve, reject });
        });
      });
    const backoff = this.#backoffs.compact;
    await compactPartition(partition, endOffset, rewriter, {
      database: this.#database,
      limits: this.#limits,
      backoff,
      submit,
    });
  }

  async seal(key: PartitionKey): Promise<void> {
    this.#require(key);
  }

  #checked(submit: () => Promise<void>): Promise<void> {
    try {
      return submit();
    } catch (error) {
      return Promise.reject(toError(error));
    }
  }

  #submit(type: CutType, partition: DatabasePartition, offset: number): Promise<void> {
    return new Promise((resolve, reject) => this.#enqueue({ type, partition, offset, resolve, reject }));
  }

  #enqueue(operation: Operation): void {
    (this.#loop as CommitLoop).submit(operation);
  }

  #assertUsable(): void {
    if (this.#failure !== null) throw this.#failure;
    if (this.#phase === 'closing' || this.#phase === 'closed')
      throw new NaruError('STORAGE_ERROR', 'the log is closed');
    assert(this.#phase === 'open', 'recover comes first');
  }

  /** A partition as of everything submitted. */
  #require(key: PartitionKey): DatabasePartition {
    this.#assertUsable();
    const partition = this.#creating.get(key) ?? this.#applier.partitions.get(key);
    if (partition === undefined || partition.deleteSubmitted) throw unknownPartition(key);
    return partition;
  }

  /** Something moved: whoever waits for room may go on. */
  #settled(): void {
    if (this.#database.spaceReason() !== null) this.#watchSpace();
    if (this.#openWaiters.length === 0 || this.capacity().state === 'busy') return;
    for (const wake of this.#openWaiters.splice(0)) wake();
  }

  /** Nothing is stored while space is short, so that nothing else would look whether it has come back. */
  #watchSpace(): void {
    if (this.#spaceTimer !== null || this.#phase !== 'open') return;
    this.#spaceTimer = this.#options.timers.after(this.#limits.retryMaxMs, () => {
      this.#spaceTimer = null;
      this.#settled();
    });
  }

  #fail(error: Error): void {
    if (this.#failure !== null) return;
    this.#failure = storageError(error, 'the log store failed');
    this.#logger.error({ code: this.#failure.code, reason: this.#failure.message }, 'the log store is offline');
    for (const backoff of Object.values(this.#backoffs)) backoff.stop();
    this.#loop?.fail(this.#failure);
    this.#settled();
  }

  read(
    key: PartitionKey,
    offset: number,
    maxBytes: number,
    limitOffset: number,
  ): StoredBatch[] | Promise<StoredBatch[]> {
    return this.#reader.read(key, offset, maxBytes, limitOffset);
  }

  findByTimestamp(key: PartitionKey, timestampMs: number): Promise<StoredBatch | null> {
    return this.#reader.findByTimestamp(key, timestampMs);
  }

  findBySize(key: PartitionKey, maxBytes: number): Promise<number> {
    return this.#reader.findBySize(key, maxBytes);
  }

  compactionStatus(key: PartitionKey, beforeMs = Infinity, beforeOffset = Infinity): CompactionStatus {
    const partition = this.#applier.partitions.get(key);
    if (partition === undefined) throw unknownPartition(key);
    return partition.compactionStatus(beforeMs, beforeOffset);
  }

  info(key: PartitionKey): PartitionInfo | undefined {
    return this.#applier.partitions.get(key)?.info();
  }

  partitions(): PartitionInfo[] {
    return [...this.#applier.partitions.values()].map((partition) => partition.info());
  }

  capacity(): Capacity {
    if (this.#failure !== null) return { state: 'offline', reason: this.#failure.message };
    const loop = this.#loop;
    if (loop === null || this.#phase !== 'open') return { state: 'offline', reason: 'the log is closed' };
    if (loop.trouble?.state === 'full') return { ...loop.trouble, state: 'full', exhausted: true };
    if (loop.trouble !== null) return loop.trouble;
    const reason = this.#database.spaceReason();
    if (reason !== null) return { state: 'full', reason };
    return loop.pendingBytes > this.#limits.pendingBytes ? BUSY : OPEN;
  }

  whenOpen(): Promise<void> {
    if (this.capacity().state !== 'busy') return Promise.resolve();
    return new Promise((resolve) => this.#openWaiters.push(resolve));
  }

  checkpointDue(): boolean {
    if (this.#failure !== null || this.#checkpointer === null || this.#loop?.trouble !== null) return false;
    return this.#checkpointer.uncoveredBytes > this.#limits.checkpointBytes;
  }

  async checkpoint(snapshot: Snapshot): Promise<void> {
    this.#assertUsable();
    await this.#checkpoint(snapshot);
  }

  async #checkpoint(snapshot: Snapshot): Promise<void> {
    try {
      await (this.#checkpointer as DatabaseCheckpointer).take(snapshot);
    } catch (error) {
      const failure = storageError(error, 'writing a checkpoint');
      // Nothing is lost without it: history is kept, and another checkpoint will be due.
      if (failure.code !== 'STORAGE_FULL' && failure.code !== 'STORAGE_UNAVAILABLE') this.#fail(failure);
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

  /** A database that cannot be reached is not waited for: what is pending is rejected, what was acknowledged is there. */
  async #finish(snapshot: Snapshot | undefined): Promise<void> {
    this.#backoffs.sweep.stop();
    this.#backoffs.compact.stop();
    this.#backoffs.commit.stop();
    this.#backoffs.checkpoint.stop();
    try {
      if (snapshot !== undefined) await this.#checkpoint(snapshot);
      else {
        const loop = this.#loop as CommitLoop;
        await new Promise<void>((resolve, reject) => loop.barrier(resolve, reject));
      }
    } catch (error) {
      if (!isNaruError(error, 'STORAGE_UNAVAILABLE', 'STORAGE_FULL')) throw error;
      this.#logger.warn({ code: error.code, reason: error.message }, 'the log closes without a checkpoint');
    }
  }

  /** Nothing touches the database after this: another broker may open it. */
  async #letGo(): Promise<void> {
    for (const backoff of Object.values(this.#backoffs)) backoff.stop();
    this.#spaceTimer?.cancel();
    this.#reader.close();
    await this.#sweeper.idle();
    await this.#loop?.idle();
    await this.#checkpointer?.idle();
    await this.#database.close();
  }

  metrics(): LogStoreMetrics {
    return {
      appends: this.#appends,
      appendedBytes: this.#appendedBytes,
      commitCycles: this.#loop?.cycles ?? 0,
      commitMs: this.#loop?.commitMs ?? 0,
      checkpoints: this.#checkpointer?.count ?? 0,
      unwrittenBytes: 0,
      cacheBytes: this.#cache.bytes,
      cacheHits: this.#reader.cacheHits,
      cacheMisses: this.#reader.cacheMisses,
    };
  }
}

/** Checks everything, and only then counts it as submitted: a bad append leaves nothing behind. */
function checkEntries(entries: readonly AppendEntry[], partitions: readonly DatabasePartition[]): void {
  const ends = new Map<DatabasePartition, number>();
  for (const [i, entry] of entries.entries()) {
    const partition = partitions[i] as DatabasePartition;
    checkAppendEntry(entry, ends.get(partition) ?? partition.submittedEnd);
    ends.set(partition, entry.lastOffset + 1);
  }
  for (const [partition, end] of ends) partition.submittedEnd = end;
}
