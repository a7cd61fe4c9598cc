/**
 * A shard: one event loop that owns partitions and the coordinators of groups.
 *
 * Everything enters through one bounded queue as a command and leaves as a reply, which waits until what it shows is
 * durable. The loop decides and evolves synchronously; only the log store is asynchronous, behind it.
 *
 * Invariants: commands are executed in the order in which they were submitted; a command that is refused has changed
 * nothing; after a failed append nothing but reads of durable batches is served.
 */
import type { Clock, Logger, TimerHandle, Timers } from '@naru/base';
import { NaruError, refuse, type Refusal } from '@naru/protocol';
import type { CompressionCodecs } from '@naru/protocol/batch';
import { DEFAULT_GROUP_LIMITS, type GroupCommand, type GroupLimits } from '../core/group/index.ts';
import type { PartitionLimits } from '../core/partition/partition-state.ts';
import type { TopicConfigDefaults } from '../core/registry/topic-config.ts';
import type { TopicMetadata } from '../core/registry/topic-registry.ts';
import type { LogStore, Snapshot } from '../log/log-store.ts';
import type { Command, ReplyOf, ShardClient, TopicsCommand } from './commands.ts';
import { CommitQueue } from './commit-queue.ts';
import { Compactor, type CompactorMetrics } from './compactor.ts';
import { encodeCoreSnapshot } from './core-snapshot.ts';
import { GroupCoordinator } from './group-coordinator.ts';
import { PartitionRuntime } from './partition-runtime.ts';
import { Replay } from './replay.ts';
import { Retention, type RetentionMetrics } from './retention.ts';
import { ShardTopics } from './shard-topics.ts';

/** The internal topic that holds groups and their offsets. */
export const GROUP_LOG_TOPIC = '__groups';
export const GROUP_LOG_PARTITIONS = 8;

export interface ShardLimits extends PartitionLimits {
  readonly maxQueuedCommands: number;
  /** Of batches that wait in the queue. */
  readonly maxQueuedBytes: number;
  /** Of batches that are being made durable; beyond it the queue waits. */
  readonly maxCommittingBytes: number;
}

export const DEFAULT_SHARD_LIMITS: ShardLimits = {
  maxBatchBytes: 1024 * 1024 + 512,
  maxProducers: 10_000,
  maxQueuedCommands: 100_000,
  maxQueuedBytes: 64 * 1024 * 1024,
  maxCommittingBytes: 32 * 1024 * 1024,
};

/**
 * Taken although the queue is full: changes of topics, which would be lost for good, and what ends a wait. Their number
 * is bounded by what they follow.
 */
const UNREFUSED: ReadonlySet<Command['type']> = new Set(['topics', 'cancel-fetch', 'cancel-watch']);

/** Commands of groups that a client repeats when they are refused for the moment. */
const REPEATABLE: ReadonlySet<GroupCommand['type']> = new Set([
  'join',
  'classic-join',
  'classic-sync',
  'commit',
  'reset-offsets',
  'delete-group',
]);

/** How long to wait before a checkpoint that failed is tried again. */
const CHECKPOINT_RETRY_MS = 1_000;

/** Of topics and limits that a caller leaves open. */
export const DEFAULT_TOPIC_CONFIG: TopicConfigDefaults = {
  retentionMs: 7 * 86_400_000,
  retentionBytes: Infinity,
  allowKeyReorder: false,
  segmentMs: 7 * 86_400_000,
  segmentBytes: 128 * 1024 * 1024,
  maxBatchBytes: DEFAULT_SHARD_LIMITS.maxBatchBytes,
};
const DEFAULT_RETENTION_INTERVAL_MS = 30_000;
const DEFAULT_COMPACTION_INTERVAL_MS = 15_000;

/** Commands that are executed before the event loop gets a turn. */
const COMMANDS_PER_TURN = 512;

export interface ShardOptions {
  readonly store: LogStore;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly logger: Logger;
  readonly codecs: CompressionCodecs;
  /** The leader epoch of everything that this broker writes; grows with each start. */
  readonly leaderEpoch: number;
  readonly limits?: Partial<ShardLimits> | undefined;
  readonly groupLimits?: Partial<GroupLimits> | undefined;
  /** What holds where topics say nothing. */
  readonly topicDefaults?: TopicConfigDefaults | undefined;
  /** How often retention is looked at. Default 30 s. */
  readonly retentionIntervalMs?: number | undefined;
  /** How often is looked what there is to compact. Default 15 s. */
  readonly compactionIntervalMs?: number | undefined;
  /** Memory for keys while a partition is compacted. Default 128 MiB. */
  readonly compactionMapBytes?: number | undefined;
  /** Runs a function after other events had their turn. */
  readonly yieldTurn?: ((callback: () => void) => void) | undefined;
  /** Called once, when an append has failed. */
  readonly onFailed?: ((error: NaruError) => void) | undefined;
}

interface Queued {
  readonly command: Command;
  readonly resolve: (reply: never) => void;
  readonly reject: (error: unknown) => void;
}

export interface ShardStatus {
  readonly queuedCommands: number;
  readonly committingBytes: number;
  readonly partitions: number;
  readonly groups: number;
  readonly waitingFetches: number;
  readonly retention: RetentionMetrics;
  readonly compaction: CompactorMetrics;
}

export class Shard implements ShardClient {
  readonly #options: ShardOptions;
  readonly #limits: ShardLimits;
  readonly #commits: CommitQueue;
  readonly #partitions: PartitionRuntime;
  readonly #groups: GroupCoordinator;
  readonly #topics: ShardTopics;
  readonly #retention: Retention;
  readonly #compactor: Compactor;
  #queue: Queued[] = [];
  #queuedBytes = 0;
  #scheduled = false;
  #waitingForStore = false;
  #checkpointing = false;
  /** Recovered and in agreement with the metadata: only then is the state worth a checkpoint. */
  #started = false;
  /** An invariant broke: see {@link #bug}. */
  #broken: NaruError | null = null;
  #closing = false;
  #retry: TimerHandle | null = null;

  constructor(options: ShardOptions) {
    this.#options = options;
    this.#limits = { ...DEFAULT_SHARD_LIMITS, ...options.limits };
    const { store, clock, timers, codecs, leaderEpoch } = options;
    this.#commits = new CommitQueue(
      store,
      (entries) => {
        this.#partitions.advance(entries);
        if (this.#queue.length > 0) this.#schedule();
        else this.#checkpointWhenDue();
      },
      (error) => this.#failed(error),
    );
    this.#partitions = new PartitionRuntime({
      store,
      commits: this.#commits,
      clock,
      timers,
      codecs,
      leaderEpoch,
      limits: this.#limits,
    });
    this.#topics = new ShardTopics(this.#partitions, options.topicDefaults ?? DEFAULT_TOPIC_CONFIG);
    this.#groups = new GroupCoordinator({
      partitions: this.#partitions,
      commits: this.#commits,
      store,
      clock,
      timers,
      codecs,
      context: {
        topics: (name) => {
          const topic = this.#topics.registry.byName(name);
          return topic === undefined ? undefined : { topicId: topic.id, partitionCount: topic.partitionCount };
        },
        topicName: (topicId) => this.#topics.registry.byId(topicId)?.name,
        topicNames: () => this.#topics.names(),
        limits: { ...DEFAULT_GROUP_LIMITS, ...options.groupLimits },
      },
      enqueue: (command) => this.#enqueueOwn(command),
    });
    this.#retention = new Retention({
      store,
      clock,
      timers,
      logger: options.logger,
      intervalMs: options.retentionIntervalMs ?? DEFAULT_RETENTION_INTERVAL_MS,
      partitions: () => this.#topics.keptByPolicy(),
      finishedBefore: (groupId, partition) => this.#groups.offsets(groupId, [partition])[0]?.committed?.offset ?? null,
      deleteBefore: (partition, offset) => this.#partitions.deleteBefore(partition, offset),
      flush: () => this.#commits.flush(),
      yieldTurn: options.yieldTurn ?? setImmediate,
    });
    this.#compactor = new Compactor({
      store,
      clock,
      timers,
      codecs,
      logger: options.logger,
      intervalMs: options.compactionIntervalMs ?? DEFAULT_COMPACTION_INTERVAL_MS,
      partitions: () => this.#topics.compacted(),
      yieldTurn: options.yieldTurn,
      maxMapBytes: options.compactionMapBytes,
    });
  }

  /**
   * Recovers from the store, and makes it agree with the metadata: partitions that are missing are created, those of
   * topics that are being deleted are deleted.
   *
   * @throws NaruError DATA_CORRUPT when the store has partitions that the metadata does not know: nothing is deleted.
   */
  async start(topics: readonly TopicMetadata[]): Promise<void> {
    const groupLog = topics.find((topic) => topic.name === GROUP_LOG_TOPIC);
    if (groupLog === undefined)
      throw new NaruError('INTERNAL', `topic ${GROUP_LOG_TOPIC} must exist before a shard starts`);
    this.#topics.load(topics);
    const replay = new Replay(
      {
        isGroupLog: (partition) => partition.startsWith(groupLog.id),
        restoreGroupRecord: (key, value) => this.#groups.restore(key, value),
        replayGroupBatch: (batch) => this.#groups.replay(batch),
      },
      this.#options.clock.nowMs(),
    );
    await this.#options.store.recover(replay);
    await this.#topics.adopt(topics, replay.partitions);
    this.#groups.useLog(groupLog.id, groupLog.partitionCount);
    this.#groups.start();
    // Topics may have changed after the groups last saw them.
    this.#groups.topicsChanged(topics.filter(({ state }) => state === 'deleting').map(({ id }) => id));
    this.#commits.flush();
    this.#started = true;
    this.#retention.start();
    this.#compactor.start();
  }

  submit<C extends Command>(command: C): Promise<ReplyOf<C> | Refusal> {
    const bytes = command.type === 'append' ? command.batch.length : 0;
    if (this.#closing) return Promise.reject(new NaruError('SHUTTING_DOWN', 'the broker is shutting down'));
    if (this.#broken !== null) return Promise.reject(this.#broken);
    const isFull =
      this.#queue.length >= this.#limits.maxQueuedCommands || this.#queuedBytes + bytes > this.#limits.maxQueuedBytes;
    if (isFull && !UNREFUSED.has(command.type)) {
      return Promise.reject(
        new NaruError('OVERLOADED', 'the broker has more requests waiting than it takes; try again later'),
      );
    }
    return new Promise((resolve, reject) => {
      this.#queue.push({ command, resolve, reject });
      this.#queuedBytes += bytes;
      this.#schedule();
    });
  }

  status(): ShardStatus {
    return {
      queuedCommands: this.#queue.length,
      committingBytes: this.#commits.inFlightBytes,
      partitions: this.#partitions.count,
      groups: this.#groups.groupCount,
      waitingFetches: this.#partitions.waitingFetches,
      retention: this.#retention.metrics(),
      compaction: this.#compactor.metrics(),
    };
  }

  /** Answers what waits, makes everything durable and closes the store. */
  async close(): Promise<void> {
    if (this.#closing) return;
    this.#closing = true;
    const error = new NaruError('SHUTTING_DOWN', 'the broker is shutting down');
    for (const queued of this.#queue.splice(0)) queued.reject(error);
    this.#retry?.cancel();
    this.#retention.stop();
    const compactor = this.#compactor.stop();
    this.#groups.stop();
    this.#partitions.cancelAllFetches();
    const isSound = this.#started && this.#broken === null && this.#commits.failure === null;
    if (isSound) this.#commits.flush();
    // State that was refused, or that a bug has touched, must not become a checkpoint.
    await this.#options.store.close(isSound ? this.#snapshot() : undefined);
    await compactor;
  }

  #enqueueOwn(command: GroupCommand): void {
    // The broker's own commands are few, and may not be lost to a full queue.
    if (this.#closing || this.#broken !== null) return;
    this.#queue.push({ command: { type: 'group', command }, resolve: () => {}, reject: () => {} });
    this.#schedule();
  }

  #schedule(): void {
    if (this.#scheduled || this.#waitingForStore) return;
    this.#scheduled = true;
    queueMicrotask(() => this.#drain());
  }

  #drain(): void {
    this.#scheduled = false;
    let done = 0;
    let paused = false;
    while (done < this.#queue.length) {
      const queued = this.#queue[done] as Queued;
      if (queued.command.type === 'append' && this.#mustWait()) {
        paused = true;
        break;
      }
      done += 1;
      this.#run(queued);
      if (this.#broken !== null) return;
      if (done >= COMMANDS_PER_TURN) break;
    }
    if (done >= this.#queue.length) this.#queue = [];
    else if (done > 0) this.#queue = this.#queue.slice(done);
    this.#commits.flush();
    this.#checkpointWhenDue();
    if (this.#queue.length > 0 && !paused && !this.#scheduled) {
      this.#scheduled = true;
      (this.#options.yieldTurn ?? setImmediate)(() => this.#drain());
    }
  }

  /** Whether appends must wait for the store; if so, somebody will call {@link #schedule} again. */
  #mustWait(): boolean {
    if (this.#commits.failure !== null) return false;
    if (this.#commits.inFlightBytes >= this.#limits.maxCommittingBytes) return true;
    if (this.#options.store.capacity().state !== 'busy') return false;
    this.#waitingForStore = true;
    const goOn = (): void => {
      this.#waitingForStore = false;
      this.#schedule();
    };
    this.#options.store.whenOpen().then(goOn, goOn);
    return true;
  }

  #run({ command, resolve, reject }: Queued): void {
    if (command.type === 'append') this.#queuedBytes -= command.batch.length;
    const reply = resolve as (reply: unknown) => void;
    try {
      this.#execute(command, reply, reject);
    } catch (error) {
      reject(error);
      this.#bug(error);
    }
  }

  #execute(command: Command, resolve: (reply: unknown) => void, reject: (error: unknown) => void): void {
    const afterCycle = (value: unknown, cycle: number): void => {
      this.#commits.after(cycle, (error) => (error === null ? resolve(value) : reject(error)));
    };
    switch (command.type) {
      case 'append': {
        const refusal = this.#storageRefusal() ?? this.#topics.ownedRefusal(command.partition);
        if (refusal !== null) return resolve(refusal);
        return this.#partitions.append(command, afterCycle);
      }
      case 'fetch':
        return this.#partitions.fetch(command, resolve, reject);
      case 'cancel-fetch':
        this.#partitions.cancelFetch(command.fetchId);
        return resolve(null);
      case 'find-offset':
        this.#partitions.findOffset(command).then(resolve, reject);
        return undefined;
      case 'epoch-end':
        return resolve(this.#partitions.epochEnd(command));
      case 'describe-partitions':
        return resolve(this.#partitions.describe(command.partitions));
      case 'delete-records': {
        const refusal = this.#commits.failure?.toRefusal() ?? this.#topics.ownedRefusal(command.partition);
        if (refusal !== null) return resolve(refusal);
        this.#partitions.deleteRecords(command).then(resolve, reject);
        return undefined;
      }
      case 'topics':
        this.#applyTopics(command).then(() => resolve(null), reject);
        return undefined;
      case 'group': {
        if (this.#commits.failure !== null) return reject(this.#commits.failure);
        const refusal = this.#exhaustedRefusal(command.command);
        if (refusal !== null) return resolve(refusal);
        return this.#groups.execute(command.command, afterCycle);
      }
      case 'watch-member':
        return this.#groups.watch(command, resolve);
      case 'cancel-watch':
        this.#groups.cancelWatch(command.watchId);
        return resolve(null);
      case 'group-offsets':
        return afterCycle(
          this.#groups.offsets(command.groupId, command.partitions),
          this.#groups.cycleOf(command.groupId),
        );
      case 'list-groups':
        return afterCycle(this.#groups.list(), this.#commits.newest);
      case 'describe-group':
        return afterCycle(this.#groups.describe(command.groupId), this.#groups.cycleOf(command.groupId));
    }
  }

  /** Why the store takes no batches now; null when it does. */
  #storageRefusal(): Refusal | null {
    if (this.#commits.failure !== null) return this.#commits.failure.toRefusal();
    const capacity = this.#options.store.capacity();
    if (capacity.state === 'full') return refuse('STORAGE_FULL', capacity.reason);
    if (capacity.state === 'unavailable') return refuse('STORAGE_UNAVAILABLE', capacity.reason);
    if (capacity.state === 'offline') return refuse('STORAGE_ERROR', capacity.reason);
    return null;
  }

  /** A full disk leaves room for groups. When that is used up too, what a client can repeat is refused; it would wait. */
  #exhaustedRefusal({ type }: GroupCommand): Refusal | null {
    if (!REPEATABLE.has(type)) return null;
    const capacity = this.#options.store.capacity();
    if (capacity.state === 'unavailable') return refuse('STORAGE_UNAVAILABLE', capacity.reason);
    return capacity.state === 'full' && capacity.exhausted === true ? refuse('STORAGE_FULL', capacity.reason) : null;
  }

  async #applyTopics(command: TopicsCommand): Promise<void> {
    // Batches that were taken reach the store before their partition may be deleted there.
    this.#commits.flush();
    const deleted = await this.#topics.apply(command);
    if (this.#closing || this.#broken !== null) return;
    this.#groups.topicsChanged(deleted);
    this.#commits.flush();
  }

  #checkpointWhenDue(): void {
    if (this.#checkpointing || this.#closing || this.#broken !== null || this.#commits.failure !== null) return;
    if (!this.#started || !this.#options.store.checkpointDue()) return;
    this.#checkpointing = true;
    this.#commits.flush();
    const done = (): void => {
      this.#checkpointing = false;
      // What was written meanwhile may be enough for another one, for which a store that is busy waits.
      this.#checkpointWhenDue();
    };
    this.#options.store.checkpoint(this.#snapshot()).then(done, (error: unknown) => {
      this.#options.logger.error({ error }, 'the checkpoint failed; it is tried again');
      this.#retry = this.#options.timers.after(CHECKPOINT_RETRY_MS, done);
    });
  }

  #snapshot(): Snapshot {
    const states = [...this.#partitions.all()].map((partition) => partition.state);
    return encodeCoreSnapshot(states, this.#groups.snapshot());
  }

  #failed(error: NaruError): void {
    const cause = error.cause ?? error;
    this.#options.logger.error(
      { code: error.code, cause },
      'an append failed: nothing more is stored until the broker is started again',
    );
    this.#groups.fail(error.toRefusal());
    this.#options.onFailed?.(error);
    if (this.#queue.length > 0) this.#schedule();
  }

  /** An invariant broke: state in memory can no longer be trusted, so nothing more may be stored on top of it. */
  #bug(error: unknown): void {
    this.#options.logger.error({ error }, 'a bug stopped the shard');
    this.#broken = new NaruError('INTERNAL', 'a bug stopped the broker; see its log', { cause: error });
    // The command that broke it was told already.
    for (const { reject } of this.#queue.splice(0)) reject(this.#broken);
    this.#queuedBytes = 0;
    // Also tells whoever started the shard.
    this.#commits.fail(this.#broken);
  }
}
