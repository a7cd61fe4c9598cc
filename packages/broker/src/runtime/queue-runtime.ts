/**
 * The queues of a shard: who waits for records of parallel topics, and giving them out.
 *
 * Owns waiting, and whose turn it is: of a group one member at a time is served, who waited longest first, each with its share
 * while others wait. What may be given is decided in core/queue, what it says is read by queue-records.ts. Records are read
 * before they are given out, so that nothing is given that cannot be told, and told when it is durable that they are given.
 *
 * Invariants: whoever waits is answered once; nothing is given to somebody who no longer waits.
 */
import type { Clock, Logger, PartitionKey, TimerHandle, Timers } from '@naru/base';
import { NaruError, refuse, type Refusal } from '@naru/protocol';
import type { CompressionCodecs } from '@naru/protocol/batch';
import type { GroupContext, GroupRecord, GroupState } from '../core/group/index.ts';
import { doomedOffsets } from '../core/group/decide-settle.ts';
import type { QueueAcquireReply, QueueReading } from '../core/queue/queue-commands.ts';
import { acquiredBy, nextDueMs } from '../core/queue/queue-state.ts';
import { lastStableOffset } from '../core/partition/partition-state.ts';
import type { TopicConfig } from '../core/registry/topic-config.ts';
import type { LogStore } from '../log/log-store.ts';
import type { CommitQueue } from './commit-queue.ts';
import { isRefusal } from './commands.ts';
import type { GroupCoordinator } from './group-coordinator.ts';
import type { Partition, PartitionRuntime } from './partition-runtime.ts';
import { unknownPartition } from './partition-runtime.ts';
import { QueueBurials } from './queue-burials.ts';
import type {
  AcquireRecordsCommand,
  AcquireRecordsReply,
  OpenedQueue,
  OpenQueuesCommand,
  QueueShardCommand,
  SettleRecordsCommand,
} from './queue-commands.ts';
import { nothingRead, readableRanges, toAcquired, type Found } from './queue-readings.ts';
import { QueueRecords } from './queue-records.ts';
import { roomRefusal } from './storage-refusals.ts';

/** Members that wait for records at once. */
const MAX_WAITING = 100_000;
/** Held events of a partition that are given out at a time. */
const HELD_AT_A_TIME = 64;
/** Of whole events that one settlement makes dead letters at once; those beyond it follow by themselves. */
const SETTLED_COPY_BYTES = 8 * 1024 * 1024;

type Settle = (reply: unknown) => void;

interface Waiter {
  readonly command: AcquireRecordsCommand;
  readonly resolve: Settle;
  readonly reject: Settle;
  readonly timer: TimerHandle | null;
}

interface GroupWaiters {
  readonly groupId: string;
  /** Who waited longest first. */
  readonly waiting: Set<Waiter>;
  serving: boolean;
  again: boolean;
  /** Where to begin among the partitions, so that all have their turn. */
  turn: number;
  /** For records that wait for their time. */
  due: TimerHandle | null;
}

export interface QueueRuntimeOptions {
  readonly partitions: PartitionRuntime;
  readonly groups: GroupCoordinator;
  readonly commits: CommitQueue;
  readonly store: LogStore;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly codecs: CompressionCodecs;
  readonly logger: Logger;
  readonly topicConfig: NonNullable<GroupContext['topicConfig']>;
  /** An invariant broke. */
  readonly onBug: (error: unknown) => void;
}

export class QueueRuntime {
  readonly #options: QueueRuntimeOptions;
  readonly #records: QueueRecords;
  readonly #burials: QueueBurials;
  readonly #waiters = new Map<number, Waiter>();
  readonly #groups = new Map<string, GroupWaiters>();
  /** Groups in which somebody waits for a partition. */
  readonly #byPartition = new Map<PartitionKey, Map<GroupWaiters, number>>();
  #stopped = false;

  constructor(options: QueueRuntimeOptions) {
    this.#options = options;
    this.#records = new QueueRecords(options);
    const { groups, timers, logger, commits, onBug } = options;
    this.#burials = new QueueBurials({
      groups,
      records: this.#records,
      timers,
      logger,
      flush: () => commits.flush(),
      onBug,
    });
  }

  get waitingCount(): number {
    return this.#waiters.size;
  }

  /** After recovery. */
  start(): void {
    for (const group of this.#options.groups.all()) {
      for (const partition of group.queues.keys()) this.#burials.look(group.groupId, partition);
    }
  }

  stop(): void {
    this.#stopped = true;
    this.#burials.stop();
    for (const waiter of this.#waiters.values()) this.#answer(waiter, { partitions: [], failed: [] }, 0);
  }

  /** Below it the group has finished everything; null when it has finished nothing. */
  finishedBefore(groupId: string, partition: PartitionKey): number | null {
    const queue = this.#options.groups.state(groupId)?.queues.get(partition);
    if (queue !== undefined) return queue.startOffset;
    return this.#options.groups.offsets(groupId, [partition])[0]?.committed?.offset ?? null;
  }

  execute(command: QueueShardCommand, resolve: Settle, reject: Settle): void {
    const { commits, store } = this.#options;
    if (commits.failure !== null) return reject(commits.failure);
    const refusal = command.type === 'cancel-acquire' ? null : roomRefusal(store.capacity());
    if (refusal !== null) return resolve(refusal);
    switch (command.type) {
      case 'open-queues':
        this.#open(command, resolve, reject).catch(reject);
        return;
      case 'acquire-records':
        return this.#acquire(command, resolve, reject);
      case 'cancel-acquire': {
        const waiter = this.#waiters.get(command.acquireId);
        if (waiter !== undefined) this.#answer(waiter, { partitions: [], failed: [] }, 0);
        return resolve(null);
      }
      case 'settle-records':
        return this.#settle(command, resolve, reject);
    }
  }

  /** A group has changed: records may be free, or dying. */
  changed(groupId: string, records: readonly GroupRecord[]): void {
    let isAffected = false;
    for (const record of records) {
      if (record.kind === 'queue') this.#burials.look(groupId, record.partition);
      isAffected ||= record.kind === 'queue' || record.kind === 'held';
    }
    const group = isAffected ? this.#groups.get(groupId) : undefined;
    if (group !== undefined) this.#serve(group);
  }

  /** Records may be read that could not be before. */
  advanced(partition: PartitionKey): void {
    for (const group of this.#byPartition.get(partition)?.keys() ?? []) this.#serve(group);
  }

  async #open(command: OpenQueuesCommand, resolve: Settle, reject: Settle): Promise<void> {
    const { groupId, memberId, memberEpoch, start } = command;
    const { groups, partitions } = this.#options;
    const begun: { partition: PartitionKey; startOffset: number }[] = [];
    for (const partition of command.partitions) {
      const known = groups.state(groupId)?.queues.get(partition);
      if (known === undefined && start === null) {
        const message = `group ${JSON.stringify(groupId)} has not begun with ${partition}, and no start position was given`;
        return resolve(refuse('NO_OFFSET', message));
      }
      const position = start ?? { at: 'end' };
      const found =
        known === undefined
          ? await partitions.findOffset({ type: 'find-offset', partition, position, isStable: true })
          : null;
      if (found !== null && isRefusal(found)) return resolve(found);
      begun.push({ partition, startOffset: known?.startOffset ?? found?.offset ?? 0 });
    }
    if (this.#stopped) return reject(new NaruError('SHUTTING_DOWN', 'the broker is shutting down'));
    groups.execute({ type: 'queue-open', groupId, memberId, memberEpoch, partitions: begun }, (reply, cycle) => {
      const answer = isRefusal(reply)
        ? reply
        : begun.map(({ partition }, index): OpenedQueue => {
            const highWatermark = partitions.get(partition)?.highWatermark ?? 0;
            return { partition, startOffset: reply.startOffsets[index] as number, highWatermark };
          });
      this.#afterCycle(cycle, answer, resolve, reject);
    });
    this.#options.commits.flush();
  }

  #settle(command: SettleRecordsCommand, resolve: Settle, reject: Settle): void {
    const { groupId, memberId } = command;
    const state = this.#options.groups.state(groupId);
    const doomed = command.partitions.map((settlement) => doomedOffsets(state, memberId, settlement, this.#options));
    if (doomed.every((offsets) => offsets.length === 0)) return this.#decideSettle(command, resolve, reject);
    this.#withCopies(command, doomed)
      .then((complete) => {
        this.#decideSettle(complete, resolve, reject);
        this.#options.commits.flush();
      })
      .catch((error: unknown) => {
        reject(error);
        this.#options.onBug(error);
      });
  }

  async #withCopies(
    command: SettleRecordsCommand,
    doomed: readonly (readonly number[])[],
  ): Promise<SettleRecordsCommand> {
    let restBytes = SETTLED_COPY_BYTES;
    const partitions = [];
    for (const [index, settlement] of command.partitions.entries()) {
      const offsets = doomed[index] ?? [];
      const read =
        offsets.length === 0 || restBytes <= 0 ? null : await this.#copies(settlement.partition, offsets, restBytes);
      const copies = new Map(
        [...(read ?? [])].flatMap(([offset, copy]) => (copy === null ? [] : [[offset, copy] as const])),
      );
      for (const { batch } of copies.values()) restBytes -= batch.length;
      partitions.push({ ...settlement, copies });
    }
    return { ...command, partitions };
  }

  /** What cannot be read now is copied later, when it is dying. */
  async #copies(partition: PartitionKey, offsets: readonly number[], maxBytes: number) {
    try {
      return await this.#records.copies(partition, offsets, maxBytes);
    } catch (error) {
      if (error instanceof NaruError) return null;
      throw error;
    }
  }

  #decideSettle({ groupId, memberId, partitions }: SettleRecordsCommand, resolve: Settle, reject: Settle): void {
    this.#options.groups.execute({ type: 'queue-settle', groupId, memberId, partitions }, (reply, cycle) =>
      this.#afterCycle(cycle, reply, resolve, reject),
    );
  }

  #acquire(command: AcquireRecordsCommand, resolve: Settle, reject: Settle): void {
    if (this.#waiters.size >= MAX_WAITING) {
      return resolve(refuse('OVERLOADED', `${MAX_WAITING} members wait for records, which is the limit`));
    }
    const { acquireId, groupId, maxWaitMs } = command;
    const timer = maxWaitMs <= 0 ? null : this.#options.timers.after(maxWaitMs, () => this.#expire(acquireId));
    const waiter: Waiter = { command, resolve, reject, timer };
    this.#waiters.set(acquireId, waiter);
    let group = this.#groups.get(groupId);
    if (group === undefined) {
      group = { groupId, waiting: new Set(), serving: false, again: false, turn: 0, due: null };
      this.#groups.set(groupId, group);
    }
    group.waiting.add(waiter);
    for (const partition of command.partitions) this.#count(partition, group, 1);
    this.#serve(group);
  }

  #expire(acquireId: number): void {
    const waiter = this.#waiters.get(acquireId);
    if (waiter !== undefined) this.#answer(waiter, { partitions: [], failed: [] }, 0);
  }

  #count(partition: PartitionKey, group: GroupWaiters, change: number): void {
    let groups = this.#byPartition.get(partition);
    if (groups === undefined) this.#byPartition.set(partition, (groups = new Map()));
    const count = (groups.get(group) ?? 0) + change;
    if (count > 0) groups.set(group, count);
    else if (groups.delete(group) && groups.size === 0) this.#byPartition.delete(partition);
  }

  #serve(group: GroupWaiters): void {
    group.again = true;
    if (group.serving || this.#stopped) return;
    group.serving = true;
    this.#serveAll(group).catch(this.#options.onBug);
  }

  async #serveAll(group: GroupWaiters): Promise<void> {
    // What else happens at this moment is served with it.
    await Promise.resolve();
    while (group.again) {
      group.again = false;
      for (const waiter of group.waiting) {
        if (this.#waits(waiter)) await this.#attempt(group, waiter);
      }
      this.#options.commits.flush();
    }
    group.serving = false;
    this.#waitForDue(group);
    if (group.waiting.size === 0) {
      group.due?.cancel();
      if (this.#groups.get(group.groupId) === group) this.#groups.delete(group.groupId);
    }
  }

  #waits(waiter: Waiter): boolean {
    return this.#waiters.get(waiter.command.acquireId) === waiter;
  }

  async #attempt(group: GroupWaiters, waiter: Waiter): Promise<void> {
    const { groupId, memberId, memberEpoch, partitions, maxRecords, maxBytes, maxWaitMs } = waiter.command;
    const { commits, groups } = this.#options;
    if (commits.failure !== null) return this.#fail(waiter, commits.failure);
    const readings: QueueReading[] = [];
    const found = new Map<PartitionKey, Found>();
    const failed: { partition: PartitionKey; refusal: Refusal }[] = [];
    let restBytes = maxBytes;
    let restRecords = maxRecords;
    group.turn += 1;
    for (let index = 0; index < partitions.length && restBytes > 0 && restRecords > 0; index++) {
      const partition = partitions[(index + group.turn) % partitions.length] as PartitionKey;
      const read = await this.#read(groupId, partition, restBytes, restRecords);
      if (read === null) continue;
      if (read.refusal !== null) failed.push({ partition, refusal: read.refusal });
      readings.push(read.reading);
      found.set(partition, read);
      restBytes -= read.bytes;
      restRecords -= read.records;
    }
    if (!this.#waits(waiter)) return;
    let answer: AcquireRecordsReply | Refusal | null = null;
    let cycle = 0;
    if (readings.length > 0) {
      const sharers = new Set([...group.waiting].map(({ command }) => command.memberId)).size;
      const command = { type: 'queue-acquire', groupId, memberId, memberEpoch, maxRecords, sharers } as const;
      groups.execute({ ...command, partitions: readings }, (reply: QueueAcquireReply | Refusal, durableAfter) => {
        answer = isRefusal(reply) ? reply : { partitions: toAcquired(reply.partitions, found), failed };
        cycle = durableAfter;
      });
    }
    const done = answer as AcquireRecordsReply | Refusal | null;
    if (done !== null && (isRefusal(done) || done.partitions.length > 0 || failed.length > 0)) {
      return this.#answer(waiter, done, cycle);
    }
    if (maxWaitMs <= 0 && !group.again) this.#answer(waiter, { partitions: [], failed: [] }, 0);
  }

  /** Null when there is nothing to be given. */
  async #read(groupId: string, key: PartitionKey, maxBytes: number, maxRecords: number): Promise<Found | null> {
    const partition = this.#options.partitions.get(key);
    if (partition === undefined) return { ...nothingRead(key), refusal: unknownPartition(key) };
    const state = this.#options.groups.state(groupId);
    const queue = state?.queues.get(key);
    // Deciding says what is wrong.
    if (queue === undefined) return nothingRead(key);
    const nowMs = this.#options.clock.nowMs();
    if (acquiredBy(queue, null) >= partition.config.deliveryMaxInFlight) return null;
    const endOffset = lastStableOffset(partition.state, partition.highWatermark);
    const ranges = readableRanges(queue, partition, endOffset, maxRecords, nowMs);
    const held = await this.#readHeld(groupId, key, partition, nowMs);
    if (ranges.length === 0 && held.size === 0) return null;
    const { seen, batches, bytes, refusal } = await this.#records.read(partition, ranges, maxBytes);
    let records = held.size;
    for (const { from, to } of seen) records += to - from;
    const { logStartOffset } = partition.state;
    const reading = { partition: key, logStartOffset, endOffset, seen, heldSeen: [...held.keys()] };
    return { reading, batches, held, bytes, records, refusal };
  }

  /** Copies of held events that may be given out again, by offset: what was redriven. */
  async #readHeld(
    groupId: string,
    key: PartitionKey,
    { config }: Partition,
    nowMs: number,
  ): Promise<Map<number, Uint8Array>> {
    const copies = new Map<number, Uint8Array>();
    const state = this.#options.groups.state(groupId);
    const events = state?.held.get(key);
    if (state === undefined || events === undefined || events.waitingCount === 0) return copies;
    const given = new Set(state.queues.get(key)?.heldLocks.keys());
    const log = this.#options.groups.ownLog('held', groupId);
    const { events: due } = events.deliverable(nowMs, parks(groupId, config), given, HELD_AT_A_TIME);
    // Given in the order of their offsets, as every answer says its ranges.
    for (const { offset, event } of due.toSorted((a, b) => a.offset - b.offset)) {
      try {
        const copy = await this.#records.heldCopy(log, event.copyOffset);
        if (copy !== null) copies.set(offset, copy);
      } catch (error) {
        if (!(error instanceof NaruError)) throw error;
        this.#options.logger.warn(
          { error, groupId, partition: key, offset },
          'the copy of a held event cannot be read',
        );
      }
    }
    return copies;
  }

  #answer(waiter: Waiter, reply: AcquireRecordsReply | Refusal, cycle: number): void {
    this.#forget(waiter);
    this.#afterCycle(cycle, reply, waiter.resolve, waiter.reject);
  }

  #fail(waiter: Waiter, error: NaruError): void {
    this.#forget(waiter);
    waiter.reject(error);
  }

  #forget(waiter: Waiter): void {
    const { acquireId, groupId, partitions } = waiter.command;
    waiter.timer?.cancel();
    this.#waiters.delete(acquireId);
    const group = this.#groups.get(groupId);
    if (group === undefined || !group.waiting.delete(waiter)) return;
    for (const partition of partitions) this.#count(partition, group, -1);
    if (group.waiting.size > 0 || group.serving) return;
    group.due?.cancel();
    this.#groups.delete(groupId);
  }

  #afterCycle(cycle: number, reply: unknown, resolve: Settle, reject: Settle): void {
    this.#options.commits.after(cycle, (error) => (error === null ? resolve(reply) : reject(error)));
  }

  /** Looks again when the next of the records that wait for their time may be given out. */
  #waitForDue(group: GroupWaiters): void {
    group.due?.cancel();
    group.due = null;
    const state = this.#options.groups.state(group.groupId);
    if (state === undefined || group.waiting.size === 0 || this.#stopped) return;
    const nowMs = this.#options.clock.nowMs();
    let next = Infinity;
    for (const { command } of group.waiting) {
      for (const partition of command.partitions) {
        const config = this.#options.partitions.get(partition)?.config;
        if (config !== undefined) next = Math.min(next, dueMs(state, partition, parks(group.groupId, config), nowMs));
      }
    }
    if (next === Infinity) return;
    group.due = this.#options.timers.after(Math.max(1, next - nowMs), () => this.#serve(group));
  }
}

/** When something of the partition is due that is not yet; Infinity for never. */
function dueMs(state: GroupState, partition: PartitionKey, doesPark: boolean, nowMs: number): number {
  const queue = state.queues.get(partition);
  const next = queue === undefined ? null : nextDueMs(queue, nowMs);
  const events = state.held.get(partition);
  if (events === undefined || events.waitingCount === 0) return next ?? Infinity;
  const { nextDueMs: held } = events.deliverable(nowMs, doesPark, new Set(queue?.heldLocks.keys()), HELD_AT_A_TIME);
  return Math.min(next ?? Infinity, held ?? Infinity);
}

/** Nothing follows from it here, where keys block nobody; held events are asked for it. */
function parks(groupId: string, { groups }: TopicConfig): boolean {
  return groups.some(({ name, afterDeadLetter }) => name === groupId && afterDeadLetter === 'park');
}
