/**
 * What `run` and the pull form share: the member's partitions, polling while there is room, commits, giving partitions up,
 * seeking and pausing. Who handles the events is its {@link Consumer}.
 *
 * Invariants
 * - Fetched and unfinished bytes stay below `bufferBytes`, but for one answer to each outstanding poll.
 * - A partition is released only when nothing of it runs any more, or the drain time-out has passed, and what was finished
 *   is committed.
 */
import type { PartitionKey, TimerHandle } from '@naru/base';
import { partitionKey, topicIdFromBytes } from '@naru/base';
import type { MessageInitShape } from '@bufbuild/protobuf';
import { NaruError } from '@naru/protocol';
import type { CompressionCodecs } from '@naru/protocol/batch';
import type {
  Assigned,
  JoinSchema,
  PartitionCommitSchema,
  PartitionError,
  PartitionRef,
  PositionReset,
  Records,
  Revoked,
} from '@naru/protocol/proto';
import type { CallOptions } from '../call-options.ts';
import { withDeadline } from '../call-options.ts';
import type { Deferred } from '../deferred.ts';
import { deferred } from '../deferred.ts';
import type { Runtime } from '../runtime.ts';
import type { Settings, SubscriberSettings } from '../settings.ts';
import type { Transport } from '../transport/transport.ts';
import { fromWireError } from '../transport/wire-errors.ts';
import { AssignedPartition, MAX_FINISHED_RANGES } from './assigned-partition.ts';
import type { TopicPartition } from './event.ts';
import { MAX_OUTSTANDING_POLLS, MemberSession } from './member-session.ts';
import type { StartPosition } from './start-position.ts';
import { wireStartPosition } from './start-position.ts';

/** How long closing waits for a lost connection to come back; milliseconds. A broker is back from a restart by then. */
const MAX_REJOIN_MS = 5_000;

export interface Consumer {
  /** There may be something to take. */
  wake(): void;
  /** Milliseconds since something was finished while something is at work; 0 when nothing is. */
  stalledMs(): number;
  /** Everything is over. */
  failed(error: Error): void;
}

export interface RebalanceListeners {
  readonly assigned: ((partitions: TopicPartition[]) => unknown)[];
  readonly revoked: ((partitions: TopicPartition[], details: { lost: boolean }) => unknown)[];
}

/** Events were gone, deleted by retention or by an operator, before the subscriber came to them. */
export interface PositionJump extends TopicPartition {
  /** The offset that was next. */
  readonly from: bigint;
  /** Where the subscriber goes on, by its setting `from`. */
  readonly to: bigint;
}

/** The broker cannot read on in a partition, whose storage is damaged there, say. */
export interface PartitionFailure extends TopicPartition {
  /** The offset that is next, and cannot be read. A seek beyond what is damaged goes on. */
  readonly offset: bigint;
  readonly error: NaruError;
}

export interface ConsumptionOptions {
  readonly transport: Transport;
  readonly runtime: Runtime;
  readonly settings: Settings;
  readonly subscriber: SubscriberSettings;
  readonly codecs: CompressionCodecs;
  /** Empty for a reader that commits nothing. */
  readonly group: string;
  readonly topics: readonly string[];
  readonly from: StartPosition;
  readonly instanceId: string | undefined;
  readonly memberId: string;
  readonly listeners: RebalanceListeners;
  /** Told once for each jump; what it throws ends the consumption. */
  readonly jumped?: ((jump: PositionJump) => unknown) | undefined;
  /** Told of it, in place of ending the consumption: other partitions go on. */
  readonly partitionFailed?: ((failure: PartitionFailure) => unknown) | undefined;
  readonly consumer: Consumer;
}

interface PendingSeek {
  readonly partition: AssignedPartition;
  readonly offset: number;
}

export class Consumption {
  readonly #options: ConsumptionOptions;
  readonly #session: MemberSession;
  readonly #partitions = new Map<PartitionKey, AssignedPartition>();
  /** Who waits for a partition's running handlers. */
  readonly #idle = new Map<AssignedPartition, Deferred<void>>();
  #seeks: PendingSeek[] = [];
  #commitTimer: TimerHandle | null = null;
  #awaitsAssignment = false;
  #isClosing = false;

  constructor(options: ConsumptionOptions) {
    this.#options = options;
    const { subscriber, group, topics, from, instanceId, settings } = options;
    const start = wireStartPosition(from);
    const join: MessageInitShape<typeof JoinSchema> = {
      groupId: group,
      topics: [...topics],
      sessionTimeoutMs: subscriber.sessionTimeoutMs,
      maxPollIntervalMs: subscriber.maxPollIntervalMs,
      clientId: settings.clientId,
      ...(instanceId === undefined ? {} : { instanceId }),
      ...(start === undefined ? {} : { start }),
    };
    this.#session = new MemberSession({
      transport: options.transport,
      runtime: options.runtime,
      memberId: options.memberId,
      join,
      reconnect: settings.reconnect,
      joinTimeoutMs: settings.requestTimeoutMs,
      events: {
        owned: () => this.#owned(),
        joined: () => this.#joined(),
        assigned: (assigned) => this.#assigned(assigned),
        revoked: (revoked) => this.#revoked(revoked),
        records: (records) => this.#records(records),
        positionReset: (reset) => this.#positionReset(reset),
        partitionFailed: (failed) => this.#partitionFailed(failed),
        pollable: () => this.pollMore(),
        removed: () => this.#lose([...this.#partitions.values()], 'the member lost its partitions'),
        failed: (error) => options.consumer.failed(error),
      },
    });
  }

  start(): void {
    this.#session.start();
    if (this.#commits && this.#options.subscriber.autoCommit) this.#scheduleCommit();
  }

  partitions(): Iterable<AssignedPartition> {
    return this.#partitions.values();
  }

  find({ topic, partition }: TopicPartition): AssignedPartition | undefined {
    for (const candidate of this.#partitions.values()) {
      if (candidate.topic === topic && candidate.partition === partition) return candidate;
    }
    return undefined;
  }

  /** Asks the broker for more while there is room. Call it when something was finished. */
  pollMore(): void {
    const { pollBytes, bufferBytes, pollWaitMs, maxPollIntervalMs } = this.#options.subscriber;
    if (this.#session.outstandingPolls >= MAX_OUTSTANDING_POLLS || !this.#session.isJoined) return;
    if (this.#isClosing || this.#awaitsAssignment) return;
    if (this.#seeks.length > 0) {
      if (this.#session.outstandingPolls > 0) return;
      this.#sendSeeks();
    }
    // A handler that hangs must cost the member its partitions, not keep them for ever.
    if (this.#options.consumer.stalledMs() > maxPollIntervalMs) return;
    let bufferedBytes = 0;
    for (const partition of this.#partitions.values()) bufferedBytes += partition.bufferedBytes;
    while (this.#session.outstandingPolls < MAX_OUTSTANDING_POLLS) {
      const expectedBytes = bufferedBytes + this.#session.outstandingPolls * pollBytes;
      if (expectedBytes > 0 && expectedBytes + pollBytes > bufferBytes) return;
      this.#session.poll(pollBytes, pollWaitMs);
    }
  }

  /** A handler of the partition has ended. */
  ended(partition: AssignedPartition): void {
    partition.running -= 1;
    if (partition.running > 0) return;
    this.#idle.get(partition)?.resolve();
    this.#idle.delete(partition);
  }

  /** Commits what is finished and not committed. Resolves when it is durable. */
  async commit(partitions: readonly AssignedPartition[] = [...this.#partitions.values()]): Promise<void> {
    if (!this.#commits) {
      throw new NaruError('INVALID_REQUEST', 'a reader without a group has nothing to commit to');
    }
    const dirty = partitions.filter((partition) => partition.hasUncommitted && partition.state !== 'gone');
    if (dirty.length === 0) return;
    const versions = dirty.map(({ tracker }) => ({ tracker, version: tracker.version }));
    const refused = await this.#session.commit(dirty.map(partitionCommit));
    const errors = new Map(refused.map(({ partition, error }) => [partition ? refKey(partition) : undefined, error]));
    for (const [index, partition] of dirty.entries()) {
      const committed = versions[index];
      if (errors.has(partition.key) || committed === undefined || committed.tracker !== partition.tracker) continue;
      partition.committedVersion = Math.max(partition.committedVersion, committed.version);
    }
    const first = refused[0]?.error;
    if (first !== undefined) throw fromWireError(first);
  }

  /** Goes on from `offset`. Takes effect when the polls that are outstanding are answered. */
  seek(partition: AssignedPartition, offset: number): void {
    partition.moveTo(offset);
    this.#seeks = this.#seeks.filter((seek) => seek.partition !== partition);
    this.#seeks.push({ partition, offset });
    this.pollMore();
  }

  setPaused(partitions: Iterable<AssignedPartition>, isPaused: boolean): void {
    for (const partition of partitions) partition.isPaused = isPaused;
    this.#sendPaused();
    if (!isPaused) this.#options.consumer.wake();
  }

  /** Waits for what runs, commits, leaves the group. The consumer has stopped taking events before. */
  async close(): Promise<void> {
    if (this.#isClosing) return;
    this.#isClosing = true;
    this.#commitTimer?.cancel();
    const partitions = [...this.#partitions.values()].filter((partition) => partition.state !== 'gone');
    for (const partition of partitions) partition.state = 'revoking';
    await this.#drain(partitions);
    await this.#tell('revoked', partitions, false);
    await this.#session.rejoined(Math.min(MAX_REJOIN_MS, this.#options.settings.requestTimeoutMs));
    await this.#commitLast(partitions);
    await this.#session.close(this.#options.settings.requestTimeoutMs);
    for (const partition of partitions) partition.abandon('the subscriber is closed');
    this.#partitions.clear();
  }

  get #commits(): boolean {
    return this.#options.group !== '';
  }

  #owned(): { partition: PartitionRef; nextOffset: bigint }[] {
    return [...this.#partitions.values()].map(({ ref, fetchPosition }) => ({
      partition: ref,
      nextOffset: BigInt(fetchPosition),
    }));
  }

  #joined(): void {
    // The join has told the positions.
    this.#seeks = [];
    // A reader is told its partitions anew, at their start: nothing may be read before it has moved back to where it was.
    this.#awaitsAssignment = !this.#commits && this.#partitions.size > 0;
    this.#sendPaused();
  }

  #assigned({ partitions }: Assigned): void {
    const added: AssignedPartition[] = [];
    for (const assignment of partitions) {
      if (assignment.partition === undefined) continue;
      const held = this.#partitions.get(refKey(assignment.partition));
      if (held !== undefined) {
        // Told again after a reconnection, as to a reader: it goes on where it was.
        const offset = held.fetchPosition;
        if (Number(assignment.position) !== offset) this.#seeks.push({ partition: held, offset });
        continue;
      }
      const partition = new AssignedPartition(assignment, assignment.partition, this.#options.codecs);
      this.#partitions.set(partition.key, partition);
      added.push(partition);
    }
    this.#awaitsAssignment = false;
    if (added.length > 0) void this.#open(added);
    else this.pollMore();
  }

  async #open(added: AssignedPartition[]): Promise<void> {
    if (!(await this.#tell('assigned', added))) return;
    for (const partition of added) if (partition.state === 'opening') partition.state = 'open';
    this.#options.consumer.wake();
    this.pollMore();
  }

  #revoked({ partitions, lost }: Revoked): void {
    const held = partitions
      .map((ref) => this.#partitions.get(refKey(ref)))
      .filter((partition) => partition !== undefined);
    if (lost) {
      this.#lose(held, 'the partition is another member’s');
      return;
    }
    // One that is being released already, from before a reconnection, is told as released when that is done.
    const releasing = new Set(held.filter(({ state }) => state === 'revoking').map(({ key }) => key));
    const fresh = held.filter(({ key }) => !releasing.has(key));
    void this.#release(
      fresh,
      partitions.filter((ref) => !releasing.has(refKey(ref))),
    );
  }

  async #release(held: AssignedPartition[], refs: PartitionRef[]): Promise<void> {
    for (const partition of held) {
      partition.state = 'revoking';
      partition.dropFetched();
    }
    this.#options.consumer.wake();
    await this.#drain(held);
    await this.#tell('revoked', held, false);
    await this.#commitLast(held);
    for (const partition of held) this.#forget(partition, 'the partition was revoked');
    if (!this.#isClosing) this.#session.released(refs);
    this.pollMore();
  }

  #lose(partitions: AssignedPartition[], reason: string): void {
    if (partitions.length === 0) return;
    for (const partition of partitions) this.#forget(partition, reason);
    this.#options.consumer.wake();
    void this.#tell('revoked', partitions, true);
  }

  #forget(partition: AssignedPartition, reason: string): void {
    partition.abandon(reason);
    if (this.#partitions.get(partition.key) === partition) this.#partitions.delete(partition.key);
    this.#seeks = this.#seeks.filter((seek) => seek.partition !== partition);
    this.#idle.get(partition)?.resolve();
    this.#idle.delete(partition);
  }

  /** Resolves when no handler of the partitions runs any more, or the drain time-out has passed. */
  async #drain(partitions: AssignedPartition[]): Promise<void> {
    const { runtime, subscriber } = this.#options;
    const waits = partitions
      .filter(({ running }) => running > 0)
      .map((partition) => {
        const idle = this.#idle.get(partition) ?? deferred<void>();
        this.#idle.set(partition, idle);
        return idle;
      });
    if (waits.length === 0) return;
    const timer = runtime.timers.after(subscriber.drainTimeoutMs, () => {
      runtime.logger.warn({ drainTimeoutMs: subscriber.drainTimeoutMs }, 'handlers still run; giving partitions up');
      for (const wait of waits) wait.resolve();
    });
    await Promise.all(waits.map(({ promise }) => promise));
    timer.cancel();
  }

  async #commitLast(partitions: AssignedPartition[]): Promise<void> {
    const { runtime, settings, subscriber } = this.#options;
    if (!this.#commits || !subscriber.autoCommit || !this.#session.isJoined) return;
    try {
      const limit = { timeoutMs: settings.requestTimeoutMs };
      await withDeadline(runtime.timers, limit, undefined, 'the last commit', () => this.commit(partitions));
    } catch (error) {
      runtime.logger.warn({ error: String(error) }, 'the last commit failed; events will be handled again');
    }
  }

  #scheduleCommit(): void {
    const { runtime, subscriber } = this.#options;
    this.#commitTimer = runtime.timers.after(subscriber.autoCommitIntervalMs, () => {
      this.pollMore();
      this.commit()
        .catch((error: unknown) =>
          runtime.logger.warn({ error: String(error) }, 'commit failed; the next one will repeat it'),
        )
        .finally(() => {
          if (!this.#isClosing) this.#scheduleCommit();
        });
    });
  }

  #records({ partitions }: Records): void {
    const seeking = new Set(this.#seeks.map(({ partition }) => partition));
    for (const { partition: ref, batches, highWatermark } of partitions) {
      const partition = ref && this.#partitions.get(refKey(ref));
      if (partition === undefined || partition.state === 'revoking' || seeking.has(partition)) continue;
      try {
        partition.receive(batches, Number(highWatermark));
      } catch (error) {
        this.#options.consumer.failed(error as Error);
        return;
      }
    }
    if (partitions.length > 0) this.#options.consumer.wake();
  }

  #positionReset({ partition: ref, from, to }: PositionReset): void {
    const partition = ref && this.#partitions.get(refKey(ref));
    if (partition === undefined) return;
    const { topic, partition: number } = partition;
    this.#options.runtime.logger.warn({ topic, partition: number, from, to }, 'position was outside the log');
    partition.moveTo(Number(to));
    void Promise.resolve({ topic, partition: number, from, to })
      .then(this.#options.jumped)
      .catch((error: unknown) => this.#options.consumer.failed(error as Error));
  }

  #partitionFailed({ partition: ref, error: wire }: PartitionError): void {
    const partition = ref && this.#partitions.get(refKey(ref));
    if (partition === undefined || wire === undefined) return;
    const { topic, partition: number, fetchPosition: offset } = partition;
    const { consumer, partitionFailed, runtime } = this.#options;
    const cause = fromWireError(wire);
    const message = `${topic}/${number} cannot be read on at offset ${offset}: ${cause.message}`;
    const error = new NaruError(cause.code, message, { cause });
    const fields = { topic, partition: number, offset, code: error.code, error: cause.message };
    runtime.logger.error(fields, 'the broker cannot read on in this partition');
    // A topic that was deleted is taken away in due course; anything else somebody has to look at.
    if (error.code === 'UNKNOWN_TOPIC_OR_PARTITION') return;
    if (partitionFailed === undefined) {
      consumer.failed(error);
      return;
    }
    void Promise.resolve({ topic, partition: number, offset: BigInt(offset), error })
      .then(partitionFailed)
      .catch((thrown: unknown) => consumer.failed(thrown as Error));
  }

  #sendSeeks(): void {
    for (const { partition, offset } of this.#seeks) {
      const position = { position: { case: 'offset', value: BigInt(offset) } } as const;
      this.#session.seek({ partition: partition.ref, position });
    }
    this.#seeks = [];
  }

  #sendPaused(): void {
    const paused = [...this.#partitions.values()].filter(({ isPaused }) => isPaused);
    this.#session.pause(paused.map(({ ref }) => ref));
  }

  /** @returns false when a listener threw, which ends everything */
  async #tell(what: keyof RebalanceListeners, partitions: AssignedPartition[], lost = false): Promise<boolean> {
    if (partitions.length === 0) return true;
    const told = partitions.map(({ topic, partition }) => ({ topic, partition }));
    try {
      for (const listener of this.#options.listeners[what]) await listener(told, { lost });
      return true;
    } catch (error) {
      this.#options.consumer.failed(error as Error);
      return false;
    }
  }

  /** A limit for calls of users. */
  commitWithin(options: CallOptions | undefined, partitions?: readonly AssignedPartition[]): Promise<void> {
    const { runtime, settings } = this.#options;
    return withDeadline(runtime.timers, options, settings.requestTimeoutMs, 'commit', () => this.commit(partitions));
  }
}

function refKey({ topicId, partition }: PartitionRef): PartitionKey {
  return partitionKey(topicIdFromBytes(topicId), partition);
}

function partitionCommit({ ref, tracker }: AssignedPartition): MessageInitShape<typeof PartitionCommitSchema> {
  const finished = tracker.ranges
    .slice(0, MAX_FINISHED_RANGES)
    .map(({ from, to }) => ({ from: BigInt(from), to: BigInt(to) }));
  return { partition: ref, offset: BigInt(tracker.watermark), finished };
}
