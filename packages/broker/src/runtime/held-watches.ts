/**
 * Who waits for held events: members that look what of their partitions is to be given, and which keys are blocked.
 *
 * Owns the waits. Does not own the events (core/held), nor who was given what (service/held-feed.ts).
 *
 * Invariants: an answer shows durable state only, and is made of one state of the group; one is due when keys were blocked or
 * unblocked, or when something may be given. Commits pay nothing for it unless they change what is held.
 */
import type { Clock, PartitionKey, TimerHandle, Timers } from '@naru/base';
import { refuse, type Refusal } from '@naru/protocol';
import { isParking, type GroupContext, type GroupState } from '../core/group/index.ts';
import type { Deliverable, HeldPartition } from '../core/held/index.ts';
import type { HeldNews, HeldVersion, WatchedPartition, WatchHeldCommand } from './held-commands.ts';

/** Waits at a time. */
export const MAX_HELD_WATCHES = 100_000;
/** Timers that last longer are set again. */
const MAX_TIMER_MS = 3_600_000;

/** @param cycle after which what is told is durable */
type Reply = (reply: readonly HeldNews[] | Refusal, cycle: number) => void;

interface Watch {
  readonly command: WatchHeldCommand;
  readonly reply: Reply;
  readonly end: TimerHandle;
  due: TimerHandle | null;
}

interface Room {
  readonly maxEvents: number;
  readonly maxBytes: number;
  /** One event is taken even when it is larger. */
  readonly alone: boolean;
}

const NO_ROOM: Room = { maxEvents: 0, maxBytes: 0, alone: false };

export interface HeldWatchesOptions {
  readonly groups: { state(groupId: string): GroupState | undefined; cycleOf(groupId: string): number };
  readonly topicConfig: NonNullable<GroupContext['topicConfig']>;
  readonly clock: Clock;
  readonly timers: Timers;
}

export class HeldWatches {
  readonly #options: HeldWatchesOptions;
  readonly #watches = new Map<number, Watch>();
  readonly #byGroup = new Map<string, Set<Watch>>();
  /** Tells apart what a partition holds from what it held before it held nothing. */
  readonly #generations = new WeakMap<HeldPartition, number>();
  #nextGeneration = 1;

  constructor(options: HeldWatchesOptions) {
    this.#options = options;
  }

  /** Keys that are blocked now, and from which version on a watch tells of changes. */
  blockedKeys(groupId: string, partitions: readonly PartitionKey[]): HeldNews[] {
    return partitions.map((partition) => this.#newsOf(groupId, { partition, known: null, given: [] }, NO_ROOM).news);
  }

  watch(command: WatchHeldCommand, reply: Reply): void {
    if (this.#watches.size >= MAX_HELD_WATCHES) {
      return reply(refuse('OVERLOADED', `${MAX_HELD_WATCHES} members wait for held events, which is the limit`), 0);
    }
    const end = this.#options.timers.after(command.maxWaitMs, () => this.cancel(command.watchId));
    const watch: Watch = { command, reply, end, due: null };
    this.#watches.set(command.watchId, watch);
    const ofGroup = this.#byGroup.get(command.groupId);
    if (ofGroup === undefined) this.#byGroup.set(command.groupId, new Set([watch]));
    else ofGroup.add(watch);
    this.#look(watch);
  }

  /** Answers a watch at once, with nothing. */
  cancel(watchId: number): void {
    const watch = this.#watches.get(watchId);
    if (watch === undefined) return;
    this.#forget(watch);
    watch.reply([], 0);
  }

  /** What the group holds has changed, perhaps not durably yet. */
  changed(groupId: string): void {
    for (const watch of this.#byGroup.get(groupId) ?? []) this.#look(watch);
  }

  /** What groups are declared as has changed. */
  lookAll(): void {
    for (const watch of this.#watches.values()) this.#look(watch);
  }

  stop(): void {
    for (const watch of this.#watches.values()) {
      this.#forget(watch);
      watch.reply(refuse('SHUTTING_DOWN', 'the broker is shutting down'), 0);
    }
  }

  #look(watch: Watch): void {
    const { groupId, partitions, maxEvents, maxBytes, hasNothing } = watch.command;
    watch.due?.cancel();
    watch.due = null;
    const found: HeldNews[] = [];
    let nextDueMs = Infinity;
    let [events, bytes] = [maxEvents, maxBytes];
    for (const wanted of partitions) {
      const room = { maxEvents: events, maxBytes: bytes, alone: hasNothing && events === maxEvents };
      const { news, dueMs } = this.#newsOf(groupId, wanted, room);
      events -= news.events.length;
      for (const { event } of news.events) bytes -= event.sizeBytes;
      if (news.events.length > 0 || news.isWhole || news.blocked.length > 0 || news.unblocked.length > 0) {
        found.push(news);
      }
      nextDueMs = Math.min(nextDueMs, dueMs ?? Infinity);
    }
    if (found.length > 0) {
      this.#forget(watch);
      watch.reply(found, this.#options.groups.cycleOf(groupId));
      return;
    }
    if (nextDueMs === Infinity || maxEvents <= 0) return;
    const delayMs = Math.min(Math.max(1, nextDueMs - this.#options.clock.nowMs()), MAX_TIMER_MS);
    watch.due = this.#options.timers.after(delayMs, () => this.#look(watch));
  }

  #newsOf(
    groupId: string,
    { partition, known, given }: WatchedPartition,
    { maxEvents, maxBytes, alone }: Room,
  ): { news: HeldNews; dueMs: number | null } {
    const { groups, topicConfig, clock } = this.#options;
    const held = groups.state(groupId)?.held.get(partition);
    if (held === undefined) {
      const isWhole = known === null || known.generation !== 0;
      const version: HeldVersion = { generation: 0, version: 0 };
      return { news: { partition, version, isWhole, blocked: [], unblocked: [], events: [] }, dueMs: null };
    }
    const parks = isParking(groupId, partition, { topicConfig });
    const generation = this.#generationOf(held);
    const keys = held.keyChanges(known?.generation === generation ? known.version : -1, parks);
    const { events, nextDueMs } = held.deliverable(clock.nowMs(), parks, new Set(given), maxEvents);
    const version: HeldVersion = { generation, version: keys.version };
    const { isWhole, blocked, unblocked } = keys;
    const fitting = withinBytes(events, maxBytes, alone);
    // Where there are more than may be given, what is due next is due already: it is looked at when there is room.
    const dueMs = events.length >= maxEvents ? null : nextDueMs;
    return { news: { partition, version, isWhole, blocked, unblocked, events: fitting }, dueMs };
  }

  #generationOf(held: HeldPartition): number {
    let generation = this.#generations.get(held);
    if (generation === undefined) this.#generations.set(held, (generation = this.#nextGeneration++));
    return generation;
  }

  #forget(watch: Watch): void {
    const { groupId, watchId } = watch.command;
    watch.end.cancel();
    watch.due?.cancel();
    this.#watches.delete(watchId);
    const ofGroup = this.#byGroup.get(groupId);
    ofGroup?.delete(watch);
    if (ofGroup?.size === 0) this.#byGroup.delete(groupId);
  }
}

function withinBytes(events: readonly Deliverable[], maxBytes: number, alone: boolean): Deliverable[] {
  const taken: Deliverable[] = [];
  let bytes = 0;
  for (const found of events) {
    bytes += found.event.sizeBytes;
    if (bytes > maxBytes && !(alone && taken.length === 0)) break;
    taken.push(found);
  }
  return taken;
}
