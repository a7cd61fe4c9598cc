/**
 * What became of single events: reads of it, and waits for it.
 *
 * Owns who waits, by group and partition. Does not own groups (group-coordinator.ts) nor what the answers mean (core/ledger).
 *
 * Invariants: an answer shows durable state only; a wait ends when every group has processed the event, when one of them
 * dead-lettered it, or after its time. Commits pay nothing for it while nobody waits in their group.
 */
import { splitPartitionKey, type PartitionKey, type TimerHandle, type Timers, type TopicId } from '@naru/base';
import { refuse, type Refusal } from '@naru/protocol';
import type { GroupRecord, GroupState } from '../core/group/index.ts';
import { eventProgress, isProcessed, type EventProgress } from '../core/group/event-progress.ts';
import { ledgerPlaces } from '../core/ledger/ledger-marks.ts';
import type { TopicConfig } from '../core/registry/topic-config.ts';
import type { CancelEventWaitCommand, TraceEventCommand, WaitEventCommand } from './commands.ts';

/** Waits at a time. */
export const MAX_EVENT_WAITS = 10_000;
/** Groups that one answer tells of. */
const MAX_TRACED_GROUPS = 1_000;

interface Waiting {
  readonly command: WaitEventCommand;
  readonly reply: Answer;
  readonly timer: TimerHandle;
}

type EventCommand = TraceEventCommand | WaitEventCommand | CancelEventWaitCommand;
type Answer = (reply: readonly EventProgress[] | Refusal | null, cycle: number) => void;

/** What of the group coordinator is needed. */
export interface WatchedGroups {
  all(): Iterable<GroupState>;
  state(groupId: string): GroupState | undefined;
  cycleOf(groupId: string): number;
  ledgerOf(groupId: string): PartitionKey | null;
}

export interface EventWatchOptions {
  readonly groups: WatchedGroups;
  readonly timers: Timers;
  readonly topicConfig: (topicId: TopicId) => TopicConfig | undefined;
}

export class EventWatch {
  readonly #options: EventWatchOptions;
  readonly #waits = new Map<number, Waiting>();
  /** By group, then partition. */
  readonly #byGroup = new Map<string, Map<PartitionKey, Set<Waiting>>>();

  constructor(options: EventWatchOptions) {
    this.#options = options;
  }

  get waiting(): number {
    return this.#waits.size;
  }

  /** @param reply gets the cycle after which what it is told is durable */
  execute(command: EventCommand, reply: Answer): void {
    if (command.type === 'trace-event') return this.#trace(command, reply);
    if (command.type === 'wait-event') return this.#wait(command, reply);
    this.#cancel(command.waitId);
    reply(null, 0);
  }

  #trace(command: TraceEventCommand, reply: Answer): void {
    const groups = command.groups ?? this.#groupsOf(command.partition);
    this.#answer(command, groups.slice(0, MAX_TRACED_GROUPS), reply);
  }

  #wait(command: WaitEventCommand, reply: Answer): void {
    if (this.#isOver(command) || command.maxWaitMs <= 0) return this.#answer(command, command.groups, reply);
    if (this.#waits.size >= MAX_EVENT_WAITS) {
      return reply(refuse('OVERLOADED', `${MAX_EVENT_WAITS} callers wait for events, which is the limit`), 0);
    }
    const timer = this.#options.timers.after(command.maxWaitMs, () => this.#cancel(command.waitId));
    const waiting: Waiting = { command, reply, timer };
    this.#waits.set(command.waitId, waiting);
    for (const groupId of command.groups) {
      let partitions = this.#byGroup.get(groupId);
      if (partitions === undefined) this.#byGroup.set(groupId, (partitions = new Map()));
      let waits = partitions.get(command.partition);
      if (waits === undefined) partitions.set(command.partition, (waits = new Set()));
      waits.add(waiting);
    }
  }

  /** Answers a wait at once, with what is known. */
  #cancel(waitId: number): void {
    const waiting = this.#waits.get(waitId);
    if (waiting !== undefined) this.#end(waiting);
  }

  cancelAll(): void {
    for (const waiting of this.#waits.values()) this.#end(waiting);
  }

  /** The group's state has changed by `records`. */
  changed(groupId: string, records: readonly GroupRecord[]): void {
    const partitions = this.#byGroup.get(groupId);
    if (partitions === undefined) return;
    const looked = new Set<PartitionKey>();
    for (const record of records) {
      if (record.kind !== 'offset' && record.kind !== 'held' && record.kind !== 'queue') continue;
      if (looked.has(record.partition)) continue;
      looked.add(record.partition);
      for (const waiting of partitions.get(record.partition) ?? []) {
        if (this.#isOver(waiting.command)) this.#end(waiting);
      }
    }
  }

  #isOver(command: WaitEventCommand): boolean {
    let processed = 0;
    for (const groupId of command.groups) {
      const progress = this.#progress(command, groupId);
      if (progress.state === 'dead-lettered') return true;
      if (isProcessed(progress)) processed += 1;
    }
    return processed === command.groups.length;
  }

  #end(waiting: Waiting): void {
    const { command, reply, timer } = waiting;
    timer.cancel();
    this.#waits.delete(command.waitId);
    for (const groupId of command.groups) {
      const partitions = this.#byGroup.get(groupId);
      const waits = partitions?.get(command.partition);
      waits?.delete(waiting);
      if (waits?.size === 0) partitions?.delete(command.partition);
      if (partitions?.size === 0) this.#byGroup.delete(groupId);
    }
    this.#answer(command, command.groups, reply);
  }

  #answer(command: TraceEventCommand | WaitEventCommand, groups: readonly string[], reply: Answer): void {
    let cycle = 0;
    const answers = groups.map((groupId) => {
      cycle = Math.max(cycle, this.#options.groups.cycleOf(groupId));
      return this.#progress(command, groupId);
    });
    reply(answers, cycle);
  }

  #progress(command: TraceEventCommand | WaitEventCommand, groupId: string): EventProgress {
    const { groups, topicConfig } = this.#options;
    const { partition, offset } = command;
    const state = groups.state(groupId);
    const { topicId } = splitPartitionKey(partition);
    const declared = topicConfig(topicId)?.groups.find(({ name }) => name === groupId);
    const keyId = command.type === 'trace-event' ? command.keyId : null;
    const event = { partition, offset, keyId };
    const progress = eventProgress(state, groupId, event, declared?.afterDeadLetter === 'park');
    if (command.type === 'wait-event') return { ...progress, ledger: null };
    const log = groups.ledgerOf(groupId);
    const ranges = log === null ? [] : ledgerPlaces(state?.ledgers.get(partition), offset);
    return { ...progress, ledger: log === null || ranges.length === 0 ? null : { partition: log, ranges } };
  }

  /** Those that are declared for the topic, in their order, and those that have something to do with the partition. */
  #groupsOf(partition: PartitionKey): string[] {
    const { groups, topicConfig } = this.#options;
    const { topicId } = splitPartitionKey(partition);
    const declared = [...(topicConfig(topicId)?.groups ?? [])].sort((a, b) => a.order - b.order);
    const found = new Set(declared.map(({ name }) => name));
    const others: string[] = [];
    for (const state of groups.all()) {
      if (!found.has(state.groupId) && concerns(state, partition)) others.push(state.groupId);
    }
    return [...found, ...others.sort()];
  }
}

function concerns(state: GroupState, partition: PartitionKey): boolean {
  if (state.offsets.has(partition) || state.queues.has(partition) || state.held.has(partition)) return true;
  return [...state.members.values()].some(
    ({ assigned, revoking }) => assigned.has(partition) || revoking.has(partition),
  );
}
