/**
 * A shard: one event loop that owns partitions and the coordinators of groups.
 *
 * Everything enters through one bounded queue as a command and leaves as a reply, which waits until what it shows is
 * durable. The loop decides and evolves synchronously; only the log store is asynchronous, behind it.
 *
 * Invariants: commands are executed in the order in which they were submitted; a command that is refused has changed
 * nothing; after a failed append nothing but reads of durable batches is served.
 */
import type { TimerHandle } from '@naru/base';
import { NaruError, type Refusal } from '@naru/protocol';
import type { TopicMetadata } from '../core/registry/topic-registry.ts';
import type { Snapshot } from '../log/log-store.ts';
import { UNREFUSED, type Command, type ReplyOf, type ShardClient, type TopicsCommand } from './commands.ts';
import { encodeCoreSnapshot } from './core-snapshot.ts';
import { GROUP_LOG_TOPIC, OWN_LOG_TOPICS } from './internal-topics.ts';
import { Replay } from './replay.ts';
import { ShardCommands } from './shard-commands.ts';
import { DEFAULT_SHARD_LIMITS, type ShardLimits, type ShardOptions, type ShardStatus } from './shard-options.ts';
import { ShardParts } from './shard-parts.ts';

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
  readonly #parts: ShardParts;
  readonly #commands: ShardCommands;
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
    this.#parts = new ShardParts(options, this.#limits, {
      onDurable: () => {
        if (this.#queue.length > 0) this.#schedule();
        else this.#checkpointWhenDue();
      },
      onFailed: (error) => this.#failed(error),
      onBug: (error) => this.#bug(error),
      enqueue: (command) => this.#enqueueOwn(command),
    });
    this.#commands = new ShardCommands(this.#parts, options.store, (command) => this.#applyTopics(command));
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
    this.#parts.topics.load(topics);
    this.#parts.schemas.useLog(topics);
    this.#parts.transactions.useLog(topics);
    const replay = new Replay(
      {
        isGroupLog: (partition) => partition.startsWith(groupLog.id),
        restoreGroupRecord: (key, value) => this.#parts.groups.restore(key, value),
        replayGroupBatch: (batch) => this.#parts.groups.replay(batch),
        schemas: this.#parts.schemas,
        transactions: this.#parts.transactions,
      },
      this.#options.clock.nowMs(),
    );
    await this.#options.store.recover(replay);
    await this.#parts.topics.adopt(topics, replay.partitions);
    this.#parts.groupLog.use(groupLog.id, groupLog.partitionCount);
    for (const [log, name] of OWN_LOG_TOPICS) {
      const topic = topics.find((candidate) => candidate.name === name);
      if (topic !== undefined) this.#parts.groupLog.useOwn(log, topic.id, topic.partitionCount);
    }
    this.#parts.groups.start();
    this.#parts.queues.start();
    this.#parts.transactions.start();
    // Topics may have changed after the groups last saw them.
    this.#parts.groups.topicsChanged(topics.filter(({ state }) => state === 'deleting').map(({ id }) => id));
    this.#parts.commits.flush();
    this.#started = true;
    this.#parts.retention.start();
    this.#parts.compactor.start();
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
      committingBytes: this.#parts.commits.inFlightBytes,
      partitions: this.#parts.partitions.count,
      groups: this.#parts.groups.groupCount,
      waitingFetches: this.#parts.partitions.waitingFetches,
      waitingGates: this.#parts.gates.size,
      retention: this.#parts.retention.metrics(),
      compaction: this.#parts.compactor.metrics(),
      transactions: this.#parts.transactions.metrics(),
    };
  }

  /** Answers what waits, makes everything durable and closes the store. */
  async close(): Promise<void> {
    if (this.#closing) return;
    this.#closing = true;
    const error = new NaruError('SHUTTING_DOWN', 'the broker is shutting down');
    for (const queued of this.#queue.splice(0)) queued.reject(error);
    this.#retry?.cancel();
    this.#parts.retention.stop();
    const compactor = this.#parts.compactor.stop();
    this.#parts.groups.stop();
    this.#parts.transactions.stop();
    this.#parts.events.cancelAll();
    this.#parts.gates.cancelAll();
    this.#parts.held.stop();
    this.#parts.queues.stop();
    this.#parts.partitions.cancelAllFetches();
    const isSound = this.#started && this.#broken === null && this.#parts.commits.failure === null;
    if (isSound) this.#parts.commits.flush();
    // State that was refused, or that a bug has touched, must not become a checkpoint.
    await this.#options.store.close(isSound ? this.#snapshot() : undefined);
    await compactor;
  }

  #enqueueOwn(command: Command): void {
    // The broker's own commands are few, and may not be lost to a full queue.
    if (this.#closing || this.#broken !== null) return;
    this.#queue.push({ command, resolve: () => {}, reject: () => {} });
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
    this.#parts.commits.flush();
    this.#checkpointWhenDue();
    if (this.#queue.length > 0 && !paused && !this.#scheduled) {
      this.#scheduled = true;
      (this.#options.yieldTurn ?? setImmediate)(() => this.#drain());
    }
  }

  /** Whether appends must wait for the store; if so, somebody will call {@link #schedule} again. */
  #mustWait(): boolean {
    if (this.#parts.commits.failure !== null) return false;
    if (this.#parts.commits.inFlightBytes >= this.#limits.maxCommittingBytes) return true;
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
      this.#commands.execute(command, reply, reject);
    } catch (error) {
      reject(error);
      this.#bug(error);
    }
  }

  async #applyTopics(command: TopicsCommand): Promise<void> {
    // Batches that were taken reach the store before their partition may be deleted there.
    this.#parts.commits.flush();
    const applied = this.#parts.topics.apply(command);
    this.#parts.gates.topicsChanged();
    this.#parts.held.topicsChanged();
    const deleted = await applied;
    if (this.#closing || this.#broken !== null) return;
    this.#parts.groups.topicsChanged(deleted);
    this.#parts.commits.flush();
  }

  #checkpointWhenDue(): void {
    if (this.#checkpointing || this.#closing || this.#broken !== null || this.#parts.commits.failure !== null) return;
    if (!this.#started || !this.#options.store.checkpointDue()) return;
    this.#checkpointing = true;
    this.#parts.commits.flush();
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
    const { partitions, groups, schemas, transactions } = this.#parts;
    const states = [...partitions.all()].map((partition) => partition.state);
    return encodeCoreSnapshot(states, groups.snapshot(), schemas.snapshot(), transactions.snapshot());
  }

  #failed(error: NaruError): void {
    const cause = error.cause ?? error;
    this.#options.logger.error(
      { code: error.code, cause },
      'an append failed: nothing more is stored until the broker is started again',
    );
    this.#parts.groups.fail(error.toRefusal());
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
    this.#parts.commits.fail(this.#broken);
  }
}
