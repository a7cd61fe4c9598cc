/**
 * What `run` and the pull form share: the member's partitions, polling while there is room, giving partitions up, seeking and
 * pausing. Commits are partition-commits.ts's, settlements of parallel topics settlements.ts's. Who handles the events is its
 * {@link Consumer}.
 *
 * Invariants
 * - Fetched and unfinished bytes stay below `bufferBytes`, but for one answer to each outstanding poll.
 * - A partition is released only when nothing of it runs any more, or the drain time-out has passed, and what was finished
 *   is committed.
 */
import type { PartitionKey, TimerHandle } from '@naru/base';
import type { MessageInitShape } from '@bufbuild/protobuf';
import { NaruError } from '@naru/protocol';
import type { CompressionCodecs } from '@naru/protocol/batch';
import type {
  Assigned,
  BlockedKeys,
  Claimed,
  HeldEvents,
  JoinSchema,
  LateRecords,
  PartitionError,
  PartitionRef,
  PositionReset,
  Records,
  Revoked,
} from '@naru/protocol/proto';
import type { CallOptions } from '../call-options.ts';
import { withDeadline } from '../call-options.ts';
import type { Settings, SubscriberSettings } from '../settings.ts';
import type { Transport } from '../transport/transport.ts';
import { AssignedPartition } from './assigned-partition.ts';
import { recordKeyId } from './blocked-keys.ts';
import type { RebalanceListeners } from './consumer.ts';
import type { TopicPartition } from './event.ts';
import { FinalCommits } from './final-commits.ts';
import { MAX_OUTSTANDING_POLLS, MemberSession } from './member-session.ts';
import type { OutputProducers } from './output-transactions.ts';
import { PartitionCommits, refKey } from './partition-commits.ts';
import { tellOfFailure, tellOfReset } from './partition-notices.ts';
import type { NoticeListeners } from './partition-notices.ts';
import { QueuePartition } from './queue-partition.ts';
import { RunningHandlers } from './running-handlers.ts';
import { Settlements } from './settlements.ts';
import { wireIsolation, type Isolation } from './isolation.ts';
import type { StartPosition } from './start-position.ts';
import { wireStartPosition } from './start-position.ts';
import { askOutcome } from './transaction-outcome.ts';

/** How long closing waits for a lost connection to come back; milliseconds. A broker is back from a restart by then. */
const MAX_REJOIN_MS = 5_000;
/** Records of parallel topics that wait for a handler, beyond which no more are asked for. */
const MAX_WAITING_ACQUIRED = 2_000;
/** Records of parallel topics whose settlement is under way, beyond which the same. */
const MAX_UNSETTLED = 20_000;

export interface ConsumptionOptions extends NoticeListeners {
  readonly transport: Transport;
  readonly settings: Settings;
  readonly subscriber: SubscriberSettings;
  readonly codecs: CompressionCodecs;
  /** Empty for a reader that commits nothing. */
  readonly group: string;
  readonly topics: readonly string[];
  readonly from: StartPosition;
  readonly instanceId: string | undefined;
  readonly memberId: string;
  readonly isolation?: Isolation | undefined;
  readonly listeners: RebalanceListeners;
  /** With what the outputs of handlers are published, where they go with commits; else undefined. */
  readonly producers?: OutputProducers | undefined;
}

interface PendingSeek {
  readonly partition: AssignedPartition;
  readonly offset: number;
}

export class Consumption {
  readonly #options: ConsumptionOptions;
  readonly #session: MemberSession;
  readonly #partitions = new Map<PartitionKey, AssignedPartition>();
  readonly #running: RunningHandlers;
  /** Partitions of parallel topics. */
  readonly #queues = new Map<PartitionKey, QueuePartition>();
  readonly commits: PartitionCommits;
  readonly settlements: Settlements;
  readonly #final: FinalCommits;
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
      isolation: wireIsolation(options.isolation),
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
        held: (held) => this.#heldEvents(held),
        blockedKeys: (keys) => this.#blockedKeys(keys),
        late: (late) => this.#late(late),
        positionReset: (reset) => this.#positionReset(reset),
        partitionFailed: (failed) => this.#partitionFailed(failed),
        pollable: () => this.pollMore(),
        removed: () => {
          for (const queue of this.#queues.values()) queue.loseAll('the member was removed');
          this.#queues.clear();
          this.#lose([...this.#partitions.values()], 'the member lost its partitions');
        },
        failed: (error) => options.consumer.failed(error),
      },
    });
    this.#running = new RunningHandlers(options.runtime, subscriber.drainTimeoutMs);
    const shared = { session: this.#session, runtime: options.runtime };
    this.commits = new PartitionCommits({
      ...shared,
      isAutomatic: group !== '' && subscriber.autoCommit,
      producers: options.producers,
      ask: (ref, signal) => askOutcome(options, ref, signal),
      failed: (error) => options.consumer.failed(error),
      partitions: () => this.#partitions.values(),
      concluded: (partition, entries) => options.consumer.concluded(partition, entries),
      stalled: (partition, error) => options.consumer.stalled(partition, error),
      outputsRefused: (...refused) => options.consumer.outputsRefused(...refused),
    });
    this.settlements = new Settlements({
      ...shared,
      partitions: () => this.#queues.values(),
      settled: () => this.pollMore(),
      idSettled: (id) => options.consumer.idSettled(id),
    });
    this.#final = new FinalCommits({
      ...options,
      session: this.#session,
      commits: this.commits,
      settlements: this.settlements,
    });
  }

  start(): void {
    this.#session.start();
    if (this.#commits && this.#options.subscriber.autoCommit) this.#scheduleCommit();
  }

  partitions(): Iterable<AssignedPartition> {
    return this.#partitions.values();
  }

  /** Of parallel topics. */
  queues(): Iterable<QueuePartition> {
    return this.#queues.values();
  }

  /** Claims event ids for handling once; at most 1,000. */
  claim(ids: readonly string[], leaseMs: number): Promise<Claimed> {
    return this.#session.claim(ids, leaseMs);
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
    let waiting = 0;
    for (const queue of this.#queues.values()) {
      bufferedBytes += queue.bufferedBytes;
      waiting += queue.waiting;
    }
    if (waiting > MAX_WAITING_ACQUIRED || this.settlements.backlog > MAX_UNSETTLED) return;
    while (this.#session.outstandingPolls < MAX_OUTSTANDING_POLLS) {
      const expectedBytes = bufferedBytes + this.#session.outstandingPolls * pollBytes;
      if (expectedBytes > 0 && expectedBytes + pollBytes > bufferBytes) return;
      this.#session.poll(pollBytes, pollWaitMs);
    }
  }

  /** A handler of the partition has ended. */
  ended(partition: AssignedPartition | QueuePartition): void {
    this.#running.ended(partition);
  }

  /** Commits what is finished and not committed. Resolves when it is durable. */
  commit(partitions: readonly AssignedPartition[] = [...this.#partitions.values()]): Promise<void> {
    if (this.#commits) return this.commits.commit(partitions);
    return Promise.reject(new NaruError('INVALID_REQUEST', 'a reader without a group has nothing to commit to'));
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
    await this.#running.drain([...partitions, ...this.#queues.values()]);
    await this.#tell('revoked', partitions, false);
    await this.#session.rejoined(Math.min(MAX_REJOIN_MS, this.#options.settings.requestTimeoutMs));
    await this.#final.commit(partitions);
    await this.#final.settle();
    this.commits.close();
    this.settlements.close();
    // What still runs learns that it does not count before anybody else may be given it.
    for (const partition of partitions) partition.abandon('the subscriber is closed');
    for (const queue of this.#queues.values()) queue.loseAll('the subscriber is closed');
    await this.#session.close(this.#options.settings.requestTimeoutMs);
    this.#partitions.clear();
    this.#queues.clear();
  }

  get #commits(): boolean {
    return this.#options.group !== '';
  }

  #owned(): { partition: PartitionRef; nextOffset: bigint }[] {
    return [...this.#partitions.values()].map((partition) => {
      partition.resume();
      return { partition: partition.ref, nextOffset: BigInt(partition.fetchPosition) };
    });
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
      if (assignment.parallel) {
        const queue = new QueuePartition(assignment.topic, assignment.partition);
        if (!this.#queues.has(queue.key)) this.#queues.set(queue.key, queue);
        continue;
      }
      const held = this.#partitions.get(refKey(assignment.partition));
      if (held !== undefined) {
        // Told again after a reconnection, as to a reader: it goes on where it was.
        const offset = held.fetchPosition;
        for (const key of assignment.blockedKeys) held.outcomes.keys.blocked(key);
        if (Number(assignment.position) !== offset) this.#seeks.push({ partition: held, offset });
        continue;
      }
      const partition = new AssignedPartition(assignment, assignment.partition, this.#options.codecs);
      this.#partitions.set(partition.key, partition);
      added.push(partition);
    }
    this.#awaitsAssignment = false;
    if (added.length > 0) void this.#open(added);
    else {
      this.#options.consumer.wake();
      this.pollMore();
    }
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
    this.#revokeQueues(partitions, lost);
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

  #revokeQueues(refs: readonly PartitionRef[], lost: boolean): void {
    for (const ref of refs) {
      const queue = this.#queues.get(refKey(ref));
      if (queue === undefined) continue;
      // What is being handled may still be settled, unless the locks are gone.
      if (lost || queue.running === 0) queue.loseAll('the partition was taken away');
      queue.isPaused = true;
      if (lost || queue.running === 0) this.#queues.delete(queue.key);
    }
  }

  async #release(held: AssignedPartition[], refs: PartitionRef[]): Promise<void> {
    for (const partition of held) {
      partition.state = 'revoking';
      partition.dropFetched();
    }
    this.#options.consumer.wake();
    await this.#running.drain(held);
    await this.#tell('revoked', held, false);
    await this.#final.commit(held);
    for (const partition of held) this.#forget(partition, 'the partition was revoked');
    this.#options.consumer.wake();
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
    this.#running.forget(partition);
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

  #records({ partitions, acquired }: Records): void {
    const seeking = new Set(this.#seeks.map(({ partition }) => partition));
    const { consumer, runtime, codecs } = this.#options;
    try {
      for (const { partition: ref, batches, highWatermark, withheld } of partitions) {
        const partition = ref && this.#partitions.get(refKey(ref));
        if (partition === undefined || partition.state === 'revoking' || seeking.has(partition)) continue;
        partition.receive(batches, Number(highWatermark), withheld);
      }
      for (const one of acquired) {
        const queue = one.partition && this.#queues.get(refKey(one.partition));
        queue?.receive(one, runtime.clock.monotonicMs(), codecs);
      }
    } catch (error) {
      consumer.failed(error as Error);
      return;
    }
    if (acquired.length > 0) this.settlements.watch();
    if (partitions.length > 0 || acquired.length > 0) consumer.wake();
  }

  #heldEvents({ partition: ref, events }: HeldEvents): void {
    const partition = ref && this.#partitions.get(refKey(ref));
    if (partition === undefined || partition.state === 'revoking') return;
    try {
      partition.receiveReturned(events, recordKeyId);
    } catch (error) {
      this.#options.consumer.failed(error as Error);
      return;
    }
    this.#options.consumer.wake();
  }

  #blockedKeys({ partition: ref, blocked, unblocked }: BlockedKeys): void {
    const partition = ref && this.#partitions.get(refKey(ref));
    if (partition === undefined) return;
    const { outcomes } = partition;
    for (const key of blocked) outcomes.keys.blocked(key);
    for (const key of unblocked) {
      if (outcomes.keys.unblocked(key) === 'unsent') this.#options.consumer.takenBack(outcomes.takeBackHeld(key));
    }
    if (unblocked.length > 0) this.#options.consumer.wake();
  }

  #late({ partition: ref, batches, gone }: LateRecords): void {
    const partition = ref && this.#partitions.get(refKey(ref));
    if (partition === undefined || partition.state === 'revoking') return;
    partition.receiveLate(batches, gone);
    this.#options.consumer.wake();
  }

  #positionReset(reset: PositionReset): void {
    const partition = reset.partition && this.#partitions.get(refKey(reset.partition));
    if (partition !== undefined) tellOfReset(this.#options, partition, reset);
  }

  #partitionFailed({ partition: ref, error }: PartitionError): void {
    const partition = ref && this.#partitions.get(refKey(ref));
    if (partition !== undefined && error !== undefined) tellOfFailure(this.#options, partition, error);
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

  /** Resolves when what was said about records of parallel topics is durable; rejects with the first refusal. */
  settleWithin(options: CallOptions | undefined, settled: Promise<readonly (Error | null)[]>): Promise<void> {
    const { runtime, settings } = this.#options;
    return withDeadline(runtime.timers, options, settings.requestTimeoutMs, 'commit', async () => {
      void this.settlements.flush();
      const error = (await settled).find((one) => one !== null);
      if (error !== undefined) throw error;
    });
  }

  /** A limit for calls of users. */
  commitWithin(options: CallOptions | undefined, partitions?: readonly AssignedPartition[]): Promise<void> {
    const { runtime, settings } = this.#options;
    return withDeadline(runtime.timers, options, settings.requestTimeoutMs, 'commit', () => this.commit(partitions));
  }
}
