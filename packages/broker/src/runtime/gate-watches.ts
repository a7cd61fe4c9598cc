/**
 * Tells readers of staged groups what groups of a lower order have released, as those commit.
 *
 * Owns who waits. Does not own what is released (core/group/gate.ts).
 *
 * Invariants: what is told is durable, since every answer waits for the newest cycle of each group that it shows; a commit
 * costs nothing for partitions that nobody watches.
 */
import { splitPartitionKey, type PartitionKey, type TimerHandle, type Timers, type TopicId } from '@naru/base';
import { refuse, type Refusal } from '@naru/protocol';
import {
  gateReason,
  gateView,
  OPEN_GATE,
  sameGateView,
  type Gate,
  type GateView,
  type GroupRecord,
  type GroupState,
} from '../core/group/index.ts';
import type {
  DescribeGatesCommand,
  GateCommand,
  GateDescription,
  GateInterest,
  GateNews,
  WatchGateCommand,
} from './gate-commands.ts';

/** Readers that wait at once. */
const MAX_WATCHES = 100_000;
/** Of one watch. */
const MAX_WATCHED_PARTITIONS = 10_000;

type Reply<T> = (reply: T | Refusal, cycle: number) => void;

interface Watch {
  readonly command: WatchGateCommand;
  readonly reply: Reply<GateNews>;
  readonly timer: TimerHandle;
}

interface Watched {
  readonly watch: Watch;
  readonly interest: GateInterest;
}

export interface GateWatchesOptions {
  readonly timers: Timers;
  readonly groups: {
    state(groupId: string): GroupState | undefined;
    /** After which what is known of the group is durable; 0 when it is. */
    cycleOf(groupId: string): number;
  };
  /** What the group waits for on the topic; null for nobody. */
  readonly gateOf: (groupId: string, topicId: TopicId) => Gate | null;
  /** Undefined when there is no such partition. */
  readonly bounds: (partition: PartitionKey) => { readonly start: number; readonly end: number } | undefined;
}

export class GateWatches {
  readonly #options: GateWatchesOptions;
  readonly #watches = new Map<number, Watch>();
  readonly #watched = new Map<PartitionKey, Set<Watched>>();

  constructor(options: GateWatchesOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#watches.size;
  }

  execute(command: GateCommand, reply: (reply: unknown, cycle: number) => void): void {
    switch (command.type) {
      case 'watch-gate':
        return this.#watch(command, reply);
      case 'cancel-gate-watch':
        this.cancel(command.watchId);
        return reply(null, 0);
      case 'describe-gates':
        return this.#describeAll(command, reply);
    }
  }

  #watch(command: WatchGateCommand, reply: Reply<GateNews>): void {
    const { partitions, watchId, maxWaitMs } = command;
    if (this.#watches.size >= MAX_WATCHES) {
      return reply(refuse('OVERLOADED', `${MAX_WATCHES} readers watch gates, which is the limit`), 0);
    }
    if (partitions.length > MAX_WATCHED_PARTITIONS) {
      const message = `${partitions.length} partitions in one watch: at most ${MAX_WATCHED_PARTITIONS} are allowed`;
      return reply(refuse('INVALID_REQUEST', message), 0);
    }
    const news = partitions.flatMap((interest) => this.#newsOf(command.groupId, interest) ?? []);
    if (news.length > 0 || maxWaitMs <= 0) return reply(news, this.#cycleOf(command));
    const timer = this.#options.timers.after(maxWaitMs, () => this.cancel(watchId));
    const watch: Watch = { command, reply, timer };
    this.#watches.set(watchId, watch);
    for (const interest of partitions) {
      let ofPartition = this.#watched.get(interest.partition);
      if (ofPartition === undefined) this.#watched.set(interest.partition, (ofPartition = new Set()));
      ofPartition.add({ watch, interest });
    }
  }

  cancel(watchId: number): void {
    const watch = this.#watches.get(watchId);
    if (watch !== undefined) this.#answer(watch, []);
  }

  cancelAll(): void {
    for (const watch of this.#watches.values()) this.#answer(watch, []);
  }

  /** A group has changed: to be called with every record that was applied. */
  changed(records: readonly GroupRecord[]): void {
    if (this.#watched.size === 0) return;
    const touched = new Set<PartitionKey>();
    for (const record of records) {
      if (record.kind === 'offset' || record.kind === 'held') touched.add(record.partition);
    }
    for (const partition of touched) this.#look(partition);
  }

  /** Topics have changed, and with them perhaps who waits for whom. */
  topicsChanged(): void {
    for (const partition of this.#watched.keys()) this.#look(partition);
  }

  /** Without those that wait for nobody. */
  #describeAll({ groupId, partitions }: DescribeGatesCommand, reply: Reply<readonly GateDescription[]>): void {
    let cycle = 0;
    const described = partitions.flatMap((partition): GateDescription[] => {
      const gate = this.#gateOf(groupId, partition);
      const bounds = this.#options.bounds(partition);
      if (gate === null || bounds === undefined) return [];
      cycle = Math.max(cycle, this.#newestCycle(groupId, gate));
      return [this.#describe(groupId, partition, gate, bounds)];
    });
    reply(described, cycle);
  }

  #describe(
    groupId: string,
    partition: PartitionKey,
    gate: Gate,
    { start, end }: { readonly start: number; readonly end: number },
  ): GateDescription {
    const { groups } = this.#options;
    const find = (id: string): GroupState | undefined => groups.state(id);
    const own = find(groupId)?.offsets.get(partition);
    const from = Math.max(own?.offset ?? start, start);
    const view = gateView(gate, partition, from, find);
    const finished = own?.finished ?? [];
    let withheld = 0;
    let first: number | null = null;
    for (const [holeFrom, holeTo] of [...view.holes, [Math.max(view.end, from), end] as const]) {
      let next = Math.max(holeFrom, from);
      const to = Math.min(holeTo, end);
      for (const [doneFrom, doneTo] of [...finished, [to, to] as const]) {
        if (doneTo < next) continue;
        const stop = Math.min(doneFrom, to);
        if (stop > next) {
          first ??= next;
          withheld += stop - next;
        }
        next = Math.max(next, doneTo);
        if (next >= to) break;
      }
    }
    const reason = first === null ? null : gateReason(gate, partition, first, find);
    const oldest = first === null || reason === null ? null : { offset: first, ...reason };
    return { partition, waitsFor: gate.upstream, gateOffset: Math.min(view.end, end), withheld, oldest };
  }

  #look(partition: PartitionKey): void {
    for (const { watch, interest } of this.#watched.get(partition) ?? []) {
      const news = this.#newsOf(watch.command.groupId, interest);
      if (news !== null) this.#answer(watch, [news]);
    }
  }

  #newsOf(groupId: string, { partition, from, known }: GateInterest): GateNews[number] | null {
    const gate = this.#gateOf(groupId, partition);
    const { groups } = this.#options;
    const view: GateView = gate === null ? OPEN_GATE : gateView(gate, partition, from, (id) => groups.state(id));
    if (known !== null && (sameGateView(view, known) || tellsNothing(view, known, from))) return null;
    return { partition, view };
  }

  #answer(watch: Watch, news: GateNews): void {
    const { watchId, partitions } = watch.command;
    watch.timer.cancel();
    this.#watches.delete(watchId);
    for (const { partition } of partitions) {
      const ofPartition = this.#watched.get(partition);
      for (const watched of ofPartition ?? []) if (watched.watch === watch) ofPartition?.delete(watched);
      if (ofPartition?.size === 0) this.#watched.delete(partition);
    }
    watch.reply(news, this.#cycleOf(watch.command));
  }

  /** After which everything is durable that the watched gates go by. */
  #cycleOf({ groupId, partitions }: WatchGateCommand): number {
    let cycle = 0;
    const seen = new Set<TopicId>();
    for (const { partition } of partitions) {
      const { topicId } = splitPartitionKey(partition);
      if (seen.has(topicId)) continue;
      seen.add(topicId);
      const gate = this.#options.gateOf(groupId, topicId);
      if (gate !== null) cycle = Math.max(cycle, this.#newestCycle(groupId, gate));
    }
    return cycle;
  }

  #newestCycle(groupId: string, gate: Gate): number {
    return Math.max(...[groupId, ...gate.upstream].map((id) => this.#options.groups.cycleOf(id)));
  }

  #gateOf(groupId: string, partition: PartitionKey): Gate | null {
    return this.#options.gateOf(groupId, splitPartitionKey(partition).topicId);
  }
}

/** Both release nothing from `from` on. */
function tellsNothing(a: GateView, b: GateView, from: number): boolean {
  return a.end <= from && b.end <= from;
}
