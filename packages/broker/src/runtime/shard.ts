/**
 * A shard: one event loop that owns partitions and the coordinators of groups.
 *
 * Everything enters through one bounded queue as a command and leaves as a reply, which waits until what it shows is
 * durable. The loop decides and evolves synchronously; only the log store is asynchronous, behind it.
 *
 * Invariants: commands are executed in the order in which they were submitted; a command that is refused has changed
 * nothing; after a failed append nothing but reads of durable batches is served.
 */
import type { PartitionKey, TimerHandle, TopicId } from '@naru/base';
import { NaruError, type Refusal } from '@naru/protocol';
import { DEFAULT_GROUP_LIMITS, type GroupCommand } from '../core/group/index.ts';
import type { TopicConfig } from '../core/registry/topic-config.ts';
import type { TopicMetadata } from '../core/registry/topic-registry.ts';
import type { Snapshot } from '../log/log-store.ts';
import {
  UNREFUSED,
  type Command,
  type DescribeGroupCommand,
  type GroupOffsetsCommand,
  type ReplyOf,
  type ShardClient,
  type TopicsCommand,
} from './commands.ts';
import { CommitQueue } from './commit-queue.ts';
import { Compactor } from './compactor.ts';
import { encodeCoreSnapshot } from './core-snapshot.ts';
import { EventWatch } from './event-watch.ts';
import { GroupCoordinator } from './group-coordinator.ts';
import { needsWithholding } from './declared-groups.ts';
import { GateWatches } from './gate-watches.ts';
import { HeldReads } from './held-reads.ts';
import { GROUP_LOG_TOPIC, OWN_LOG_TOPICS } from './internal-topics.ts';
import { PartitionRuntime } from './partition-runtime.ts';
import { QueueRuntime } from './queue-runtime.ts';
import { Replay } from './replay.ts';
import { Retention } from './retention.ts';
import { SchemaRegistry } from './schema-registry.ts';
import {
  DEFAULT_COMPACTION_INTERVAL_MS,
  DEFAULT_LEDGER,
  DEFAULT_RETENTION_INTERVAL_MS,
  DEFAULT_SHARD_LIMITS,
  DEFAULT_TOPIC_CONFIG,
  type ShardLimits,
  type ShardOptions,
  type ShardStatus,
} from './shard-options.ts';
import { ShardTopics } from './shard-topics.ts';
import { exhaustedRefusal, storageRefusal } from './storage-refusals.ts';

/** How long to wait before a checkpoint that failed is tried again. */
const CHECKPOINT_RETRY_MS = 1_000;

/** Commands that are executed before the event loop gets a turn. */
const COMMANDS_PER_TURN = 512;

interface Queued {
  readonly command: Command;
  readonly resolve: (reply: never) => void;
  readonly reject: (error: unknown) => void;
}

export class Shard implements ShardClient {
  readonly #options: ShardOptions;
  readonly #limits: ShardLimits;
  readonly #commits: CommitQueue;
  readonly #partitions: PartitionRuntime;
  readonly #groups: GroupCoordinator;
  readonly #schemas: SchemaRegistry;
  readonly #events: EventWatch;
  readonly #gates: GateWatches;
  readonly #held: HeldReads;
  readonly #queues: QueueRuntime;
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
      onAdvanced: (partition) => this.#queues.advanced(partition),
    });
    this.#schemas = new SchemaRegistry({ partitions: this.#partitions, commits: this.#commits, store, clock, codecs });
    this.#topics = new ShardTopics(this.#partitions, options.topicDefaults ?? DEFAULT_TOPIC_CONFIG);
    this.#groups = this.#makeGroups();
    const topicConfig = (topicId: TopicId): TopicConfig | undefined => this.#topics.configOf(topicId);
    this.#queues = new QueueRuntime({
      ...options,
      partitions: this.#partitions,
      groups: this.#groups,
      commits: this.#commits,
      topicConfig,
      onBug: (error) => this.#bug(error),
    });
    this.#held = new HeldReads({ groups: this.#groups, topicConfig, clock, timers });
    this.#events = new EventWatch({ groups: this.#groups, timers, topicConfig });
    this.#gates = new GateWatches({
      timers,
      groups: this.#groups,
      gateOf: (groupId, topicId) => this.#topics.declared.gateOf(groupId, topicId),
      bounds: (key) => {
        const partition = this.#partitions.get(key);
        return partition && { start: partition.state.logStartOffset, end: partition.highWatermark };
      },
    });
    this.#retention = this.#makeRetention();
    this.#compactor = this.#makeCompactor();
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
    this.#schemas.useLog(topics);
    const replay = new Replay(
      {
        isGroupLog: (partition) => partition.startsWith(groupLog.id),
        restoreGroupRecord: (key, value) => this.#groups.restore(key, value),
        replayGroupBatch: (batch) => this.#groups.replay(batch),
        schemas: this.#schemas,
      },
      this.#options.clock.nowMs(),
    );
    await this.#options.store.recover(replay);
    await this.#topics.adopt(topics, replay.partitions);
    this.#groups.useLog(groupLog.id, groupLog.partitionCount);
    for (const [log, name] of OWN_LOG_TOPICS) {
      const topic = topics.find((candidate) => candidate.name === name);
      if (topic !== undefined) this.#groups.useOwnLog(log, topic.id, topic.partitionCount);
    }
    this.#groups.start();
    this.#queues.start();
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
      waitingGates: this.#gates.size,
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
    this.#events.cancelAll();
    this.#gates.cancelAll();
    this.#held.stop();
    this.#queues.stop();
    this.#partitions.cancelAllFetches();
    const isSound = this.#started && this.#broken === null && this.#commits.failure === null;
    if (isSound) this.#commits.flush();
    // State that was refused, or that a bug has touched, must not become a checkpoint.
    await this.#options.store.close(isSound ? this.#snapshot() : undefined);
    await compactor;
  }

  #makeGroups(): GroupCoordinator {
    const { store, clock, timers, codecs, groupLimits, ledger = DEFAULT_LEDGER } = this.#options;
    return new GroupCoordinator({
      partitions: this.#partitions,
      commits: this.#commits,
      store,
      clock,
      timers,
      codecs,
      context: {
        topics: (name) => {
          const topic = this.#topics.registry.byName(name);
          if (topic === undefined) return undefined;
          const { id: topicId, partitionCount, type } = topic;
          return { topicId, partitionCount, isParallel: type === 'parallel' };
        },
        topicName: (topicId) => this.#topics.registry.byId(topicId)?.name,
        topicNames: () => this.#topics.names(),
        ownLogEnd: (log, groupId) => this.#groups.ownLogEnd(log, groupId),
        topicConfig: (topicId) => this.#topics.configOf(topicId),
        ledger: () => this.#groups.ledger,
        refusesKafkaMembers: (groupId) => needsWithholding(groupId, this.#topics.declared, this.#groups.state(groupId)),
        limits: { ...DEFAULT_GROUP_LIMITS, ...groupLimits },
      },
      enqueue: (command) => this.#enqueueOwn(command),
      ledger,
      onChanged: (groupId, records) => {
        this.#events.changed(groupId, records);
        this.#gates.changed(records);
        this.#held.changed(groupId, records);
        this.#queues.changed(groupId, records);
      },
    });
  }

  #makeRetention(): Retention {
    const { store, clock, timers, logger, retentionIntervalMs, yieldTurn = setImmediate } = this.#options;
    return new Retention({
      store,
      clock,
      timers,
      logger,
      intervalMs: retentionIntervalMs ?? DEFAULT_RETENTION_INTERVAL_MS,
      partitions: () => this.#topics.keptByPolicy(),
      finishedBefore: (groupId, partition) => this.#queues.finishedBefore(groupId, partition),
      deleteBefore: (partition, offset) => this.#partitions.deleteBefore(partition, offset),
      flush: () => this.#commits.flush(),
      yieldTurn,
    });
  }

  #makeCompactor(): Compactor {
    const { store, clock, timers, codecs, logger, compactionIntervalMs, compactionMapBytes, yieldTurn } = this.#options;
    return new Compactor({
      store,
      clock,
      timers,
      codecs,
      logger,
      intervalMs: compactionIntervalMs ?? DEFAULT_COMPACTION_INTERVAL_MS,
      partitions: () => this.#topics.compacted(),
      yieldTurn,
      maxMapBytes: compactionMapBytes,
    });
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
        const refusal = this.#appendRefusal(command.partition);
        return refusal === null ? this.#partitions.append(command, afterCycle) : resolve(refusal);
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
        if (refusal === null) this.#partitions.deleteRecords(command).then(resolve, reject);
        return refusal === null ? undefined : resolve(refusal);
      }
      case 'topics':
        this.#applyTopics(command).then(() => resolve(null), reject);
        return undefined;
      case 'group': {
        if (this.#commits.failure !== null) return reject(this.#commits.failure);
        const refusal = exhaustedRefusal(command.command, this.#options.store.capacity());
        return refusal === null ? this.#groups.execute(command.command, afterCycle) : resolve(refusal);
      }
      case 'watch-member':
        return this.#groups.watch(command, resolve);
      case 'cancel-watch':
        this.#groups.cancelWatch(command.watchId);
        return resolve(null);
      case 'watch-gate':
      case 'cancel-gate-watch':
      case 'describe-gates':
        return this.#gates.execute(command, afterCycle);
      case 'trace-event':
      case 'wait-event':
      case 'cancel-event-wait':
        return this.#events.execute(command, afterCycle);
      case 'watch-held':
      case 'cancel-held-watch':
      case 'blocked-keys':
      case 'list-dead-letters':
      case 'own-log':
        return this.#held.execute(command, afterCycle);
      case 'open-queues':
      case 'acquire-records':
      case 'cancel-acquire':
      case 'settle-records':
        return this.#queues.execute(command, resolve, reject);
      case 'schemas':
        return this.#schemas.execute(command, afterCycle);
      case 'group-offsets':
      case 'describe-group':
        return afterCycle(this.#ofGroup(command), this.#groups.cycleOf(command.groupId));
      case 'list-groups':
        return afterCycle(this.#groups.list(), this.#commits.newest);
    }
  }

  #ofGroup(command: GroupOffsetsCommand | DescribeGroupCommand): unknown {
    if (command.type === 'describe-group') return this.#groups.describe(command.groupId);
    return this.#groups.offsets(command.groupId, command.partitions);
  }

  #appendRefusal(partition: PartitionKey): Refusal | null {
    const failed = storageRefusal(this.#commits.failure, this.#options.store.capacity());
    return failed ?? this.#topics.ownedRefusal(partition);
  }

  async #applyTopics(command: TopicsCommand): Promise<void> {
    // Batches that were taken reach the store before their partition may be deleted there.
    this.#commits.flush();
    const applied = this.#topics.apply(command);
    this.#gates.topicsChanged();
    this.#held.topicsChanged();
    const deleted = await applied;
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
    return encodeCoreSnapshot(states, this.#groups.snapshot(), this.#schemas.snapshot());
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
