/**
 * A shard: one event loop that owns partitions and the coordinators of groups.
 *
 * Everything enters through one bounded queue as a command and leaves as a reply, which waits until what it shows is
 * durable. The loop decides and evolves synchronously; only the log store is asynchronous, behind it.
 *
 * Invariants: commands are executed in the order in which they were submitted; a command that is refused has changed
 * nothing; after a failed append nothing but reads of durable batches is served.
 */
import {
  partitionKey,
  type Clock,
  type Logger,
  type PartitionKey,
  type TimerHandle,
  type Timers,
  type TopicId,
} from '@naru/base';
import { isInternalTopicName, NaruError, refuse, type Refusal } from '@naru/protocol';
import type { CompressionCodecs } from '@naru/protocol/batch';
import { DEFAULT_GROUP_LIMITS, type GroupCommand, type GroupLimits } from '../core/group/index.ts';
import type { PartitionLimits } from '../core/partition/partition-state.ts';
import { TopicRegistry, type TopicMetadata } from '../core/registry/topic-registry.ts';
import type { LogStore, Snapshot } from '../log/log-store.ts';
import type { Command, ReplyOf, ShardClient, TopicsCommand } from './commands.ts';
import { CommitQueue } from './commit-queue.ts';
import { encodeCoreSnapshot } from './core-snapshot.ts';
import { GroupCoordinator } from './group-coordinator.ts';
import { PartitionRuntime } from './partition-runtime.ts';
import { Replay } from './replay.ts';

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

/** How long to wait before a checkpoint that failed is tried again. */
const CHECKPOINT_RETRY_MS = 1_000;

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
}

export class Shard implements ShardClient {
  readonly #options: ShardOptions;
  readonly #limits: ShardLimits;
  readonly #registry = new TopicRegistry();
  readonly #commits: CommitQueue;
  readonly #partitions: PartitionRuntime;
  readonly #groups: GroupCoordinator;
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
    this.#groups = new GroupCoordinator({
      partitions: this.#partitions,
      commits: this.#commits,
      store,
      clock,
      timers,
      codecs,
      context: {
        topics: (name) => {
          const topic = this.#registry.byName(name);
          return topic === undefined ? undefined : { topicId: topic.id, partitionCount: topic.partitionCount };
        },
        topicName: (topicId) => this.#registry.byId(topicId)?.name,
        limits: { ...DEFAULT_GROUP_LIMITS, ...options.groupLimits },
      },
      enqueue: (command) => this.#enqueueOwn(command),
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
    for (const topic of topics) this.#registry.apply({ key: `topic/${topic.name}`, topic });
    const replay = new Replay(
      {
        isGroupLog: (partition) => partition.startsWith(groupLog.id),
        restoreGroupRecord: (key, value) => this.#groups.restore(key, value),
        replayGroupBatch: (batch) => this.#groups.replay(batch),
      },
      this.#options.clock.nowMs(),
    );
    await this.#options.store.recover(replay);
    const known = new Map(topics.map((topic) => [topic.id, topic]));
    for (const key of replay.partitions.keys()) {
      if (known.has(key.slice(0, 36) as TopicId)) continue;
      throw new NaruError(
        'DATA_CORRUPT',
        `the log holds partition ${key}, whose topic the metadata does not know: the metadata is older than the log or was ` +
          'replaced; nothing was changed. Put the metadata that belongs to this log back',
      );
    }
    for (const state of replay.partitions.values()) this.#partitions.adopt(state);
    for (const topic of topics) {
      if (topic.state === 'deleting') await this.#deletePartitions(topic);
      else await this.#createPartitions(topic);
    }
    this.#groups.useLog(groupLog.id, groupLog.partitionCount);
    this.#groups.start();
    // Topics may have changed after the groups last saw them.
    this.#groups.topicsChanged(topics.filter(({ state }) => state === 'deleting').map(({ id }) => id));
    this.#commits.flush();
    this.#started = true;
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
    };
  }

  /** Answers what waits, makes everything durable and closes the store. */
  async close(): Promise<void> {
    if (this.#closing) return;
    this.#closing = true;
    const error = new NaruError('SHUTTING_DOWN', 'the broker is shutting down');
    for (const queued of this.#queue.splice(0)) queued.reject(error);
    this.#retry?.cancel();
    this.#groups.stop();
    this.#partitions.cancelAllFetches();
    const isSound = this.#started && this.#broken === null && this.#commits.failure === null;
    if (isSound) this.#commits.flush();
    // State that was refused, or that a bug has touched, must not become a checkpoint.
    await this.#options.store.close(isSound ? this.#snapshot() : undefined);
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
        const refusal = this.#storageRefusal() ?? this.#ownedRefusal(command.partition);
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
      case 'describe-partitions':
        return resolve(this.#partitions.describe(command.partitions));
      case 'topics':
        this.#applyTopics(command).then(() => resolve(null), reject);
        return undefined;
      case 'group': {
        if (this.#commits.failure !== null) return reject(this.#commits.failure);
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
    if (capacity.state === 'offline') return refuse('STORAGE_ERROR', capacity.reason);
    return null;
  }

  /** The broker's own topics are written by nobody else: what they hold is replayed as state. */
  #ownedRefusal(partition: PartitionKey): Refusal | null {
    const name = this.#registry.byId(partition.slice(0, 36) as TopicId)?.name;
    if (name === undefined || !isInternalTopicName(name)) return null;
    return refuse('INVALID_TOPIC', `topic ${JSON.stringify(name)} is the broker's own: nobody else writes to it`);
  }

  async #applyTopics({ changes }: TopicsCommand): Promise<void> {
    // Batches that were taken reach the store before their partition may be deleted there.
    this.#commits.flush();
    const deleted: TopicId[] = [];
    const work: Promise<void>[] = [];
    for (const change of changes) {
      this.#registry.apply(change);
      if (change.topic === undefined) continue;
      if (change.topic.state === 'deleting') {
        deleted.push(change.topic.id);
        work.push(this.#deletePartitions(change.topic));
      } else {
        work.push(this.#createPartitions(change.topic));
      }
    }
    await Promise.all(work);
    if (this.#closing || this.#broken !== null) return;
    this.#groups.topicsChanged(deleted);
    this.#commits.flush();
  }

  async #createPartitions(topic: TopicMetadata): Promise<void> {
    const missing = partitionKeys(topic).filter((key) => this.#partitions.get(key) === undefined);
    await Promise.all(missing.map((key) => this.#partitions.create(key)));
  }

  async #deletePartitions(topic: TopicMetadata): Promise<void> {
    await Promise.all(partitionKeys(topic).map((key) => this.#partitions.delete(key)));
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

function partitionKeys(topic: TopicMetadata): PartitionKey[] {
  return Array.from({ length: topic.partitionCount }, (_, index) => partitionKey(topic.id, index));
}
