/**
 * All consumer groups of a shard: runs the pure group machine, has its records written to the group log (group-log.ts), keeps
 * its timers, and tells waiting members what changed.
 *
 * Deciding a command is apart from applying it, so that several can be decided and applied together, with other things, or not
 * at all: the end of a transaction.
 */
import type { Clock, PartitionKey, Timers, TopicId } from '@naru/base';
import { refuse, type Refusal } from '@naru/protocol';
import { decodeRecords, type CompressionCodecs } from '@naru/protocol/batch';
import {
  decideGroup,
  decodeGroupRecord,
  describeGroup,
  encodeGroupRecord,
  evolveGroups,
  fetchOffsets,
  groupRecords,
  groupStateName,
  protocolOf,
  timersAfterRecovery,
  unstablePartitions,
  type ClassicRound,
  type CommitCommand,
  type CommitInTransactionGroupCommand,
  type DecisionFor,
  type EncodedGroupRecord,
  type GroupCommand,
  type GroupContext,
  type GroupDescription,
  type GroupRecord,
  type GroupReplies,
  type GroupState,
  type MemberView,
  type OwnLog,
  type Parked,
  type ParkedAnswer,
  type TimerChange,
  type TimerReply,
} from '../core/group/index.ts';
import type { CommitQueue } from './commit-queue.ts';
import { isRefusal, type GroupListing, type PartitionOffset, type WatchMemberCommand } from './commands.ts';
import type { GroupLog, GroupWrites } from './group-log.ts';
import { KeyedTimers } from './keyed-timers.ts';
import { MemberWatches } from './member-watches.ts';
import type { PartitionRuntime } from './partition-runtime.ts';
import type { LedgerSettings } from './shard-options.ts';

/** Requests that wait for other members at once. Each has a time-out of its own: that of the group's round. */
const MAX_PARKED = 100_000;

/** What a request that waited is told, or how the broker failed meanwhile. */
type ParkedReply = (reply: ParkedAnswer['reply'], cycle: number) => void;

/** A command, decided but not applied. */
export interface DecidedGroup<C extends GroupCommand = GroupCommand> {
  readonly groupId: string;
  readonly decision: DecisionFor<C>;
  readonly writes: GroupWrites;
}

export interface GroupCoordinatorOptions {
  readonly log: GroupLog;
  readonly partitions: PartitionRuntime;
  readonly commits: CommitQueue;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly codecs: CompressionCodecs;
  readonly context: GroupContext;
  /** Puts a command that a timer gave into the shard's queue. */
  readonly enqueue: (command: GroupCommand) => void;
  readonly ledger: LedgerSettings | null;
  /** Told of every change, at once: it is durable after {@link GroupCoordinator.cycleOf}. */
  readonly onChanged?: ((groupId: string, records: readonly GroupRecord[]) => void) | undefined;
}

export class GroupCoordinator {
  readonly #options: GroupCoordinatorOptions;
  readonly #groups = new Map<string, GroupState>();
  /** The cycle of each group's newest record, until it is durable. */
  readonly #lastCycles = new Map<string, number>();
  readonly #log: GroupLog;
  readonly #watches: MemberWatches;
  /** Soft state of groups whose members assign. */
  readonly #rounds = new Map<string, ClassicRound>();
  /** Requests that wait for other members of their group, by group and key. */
  readonly #parked = new Map<string, ParkedReply>();
  readonly #timers: KeyedTimers;
  /** Timers that fired and whose command still waits: one that is set again meanwhile must not act. */
  readonly #due = new Set<string>();

  constructor(options: GroupCoordinatorOptions) {
    this.#options = options;
    this.#timers = new KeyedTimers(options.clock, options.timers, (key) => this.#onDue(key));
    this.#log = options.log;
    this.#watches = new MemberWatches({
      timers: options.timers,
      state: (groupId) => this.#groups.get(groupId),
      cycleOf: (groupId) => this.cycleOf(groupId),
    });
  }

  get groupCount(): number {
    return this.#groups.size;
  }

  /** Null while there is none. */
  get ledger(): LedgerSettings | null {
    return this.#log.has('ledger') ? this.#options.ledger : null;
  }

  /** The group's partition of the ledger; null before it is there. */
  ledgerOf(groupId: string): PartitionKey | null {
    return this.#log.has('ledger') ? this.#log.own('ledger', groupId) : null;
  }

  /** The group's partition of one of the broker's own logs. @throws NaruError NOT_READY before it is there */
  ownLog(log: OwnLog, groupId: string): PartitionKey {
    return this.#log.own(log, groupId);
  }

  state(groupId: string): GroupState | undefined {
    return this.#groups.get(groupId);
  }

  all(): Iterable<GroupState> {
    return this.#groups.values();
  }

  /** Applies a batch of the group log, in recovery. */
  replay(batch: Uint8Array): void {
    for (const record of decodeRecords(batch, this.#options.codecs))
      this.restore(record.key as Uint8Array, record.value);
  }

  /** Applies one record of the group log or of a snapshot, in recovery. */
  restore(key: Uint8Array, value: Uint8Array | null): void {
    evolveGroups(this.#groups, decodeGroupRecord(key, value));
  }

  /** After recovery: every member gets its whole time again. */
  start(): void {
    const { context } = this.#options;
    for (const group of this.#groups.values()) this.#setTimers(group.groupId, timersAfterRecovery(group, context));
  }

  stop(): void {
    this.#timers.cancelAll();
    const refusal = refuse('SHUTTING_DOWN', 'the broker is shutting down');
    this.#watches.end(refusal);
    this.#endParked(refusal);
  }

  /** The broker failed: nothing is decided any more that could answer those who wait for other members. */
  fail(refusal: Refusal): void {
    this.#endParked(refusal);
  }

  /** Every record that builds the present state, for a checkpoint. */
  *snapshot(): Generator<EncodedGroupRecord> {
    for (const group of this.#groups.values())
      for (const record of groupRecords(group)) yield encodeGroupRecord(record);
  }

  /** A request that waits for other members is answered when one of their commands says so. */
  execute<C extends GroupCommand>(command: C, reply: (reply: AnsweredReply<C> | Refusal, cycle: number) => void): void {
    const { groupId } = command;
    if (command.type === 'timer' && !this.#due.delete(timerKey(groupId, command.key))) {
      return reply({ removed: null } as AnsweredReply<C>, 0);
    }
    const mayWait = command.type === 'classic-join' || command.type === 'classic-sync';
    if (mayWait && this.#parked.size >= MAX_PARKED) {
      return reply(refuse('OVERLOADED', `${MAX_PARKED} members wait for others, which is the limit`), 0);
    }
    const decided = this.#decide(command);
    const { decision } = decided;
    this.apply(decided);
    if (decision.records.length > 0) this.#log.compact(groupId, this.#groups.values());
    if (command.type === 'timer') this.#noteRemoval(groupId, decision.reply as TimerReply | Refusal);
    const cycle = this.cycleOf(groupId);
    for (const answer of decision.answers ?? []) this.#answerParked(groupId, answer, cycle);
    if (isParked(decision.reply)) this.#park(groupId, decision.reply, reply as ParkedReply);
    else reply(decision.reply as AnsweredReply<C> | Refusal, cycle);
    this.#tell(decided);
  }

  /**
   * Decides commands without changing anything, for {@link apply}. Each is decided as if those before it were applied as far as
   * their groups' logs go; so they are of different groups, nobody waits for their answers, and all are applied in this order,
   * or none.
   */
  decideTogether<C extends GroupCommand>(commands: readonly C[]): DecidedGroup<C>[] {
    return this.#log.ahead(() => commands.map((command) => this.#decide(command)));
  }

  /** Makes a decision's changes, and stages them. {@link afterTogether} is to follow, once everything else is staged. */
  apply({ groupId, decision, writes }: DecidedGroup): void {
    const cycle = this.#log.write(groupId, writes);
    if (cycle > 0) this.#lastCycles.set(groupId, cycle);
    for (const record of decision.records) evolveGroups(this.#groups, record);
    if (decision.round === null) this.#rounds.delete(groupId);
    else if (decision.round !== undefined) this.#rounds.set(groupId, decision.round);
    this.#setTimers(groupId, decision.timers);
  }

  /** Tells those who wait for changes of decisions that were applied together. */
  afterTogether(decided: readonly DecidedGroup[]): void {
    for (const { groupId, decision } of decided) {
      if (decision.records.length > 0) this.#log.compact(groupId, this.#groups.values());
    }
    for (const one of decided) this.#tell(one);
  }

  #decide<C extends GroupCommand>(command: C): DecidedGroup<C> {
    const { context, clock } = this.#options;
    const { groupId } = command;
    const isCommit = command.type === 'commit' || command.type === 'commit-in-transaction';
    const complete = isCommit ? this.#withEndOffsets(command) : command;
    const round = this.#rounds.get(groupId) ?? null;
    const decision = decideGroup(this.#groups.get(groupId), complete as C, context, clock.nowMs(), round);
    return { groupId, decision, writes: this.#log.prepare(groupId, decision, clock.nowMs()) };
  }

  #tell({ groupId, decision }: DecidedGroup): void {
    if (decision.records.length === 0) return;
    this.#notify(groupId, this.cycleOf(groupId));
    this.#options.onChanged?.(groupId, decision.records);
  }

  /** The cycle after which what is known of the group is durable; 0 when it is. */
  cycleOf(groupId: string): number {
    return this.#lastCycles.get(groupId) ?? 0;
  }

  offsets(groupId: string, partitions: readonly PartitionKey[] | null): PartitionOffset[] {
    const group = this.#groups.get(groupId);
    const unstable = unstablePartitions(group);
    return [...fetchOffsets(group, partitions)].map(([partition, committed]) => {
      return { partition, isUnstable: unstable.has(partition), committed: committed ?? null };
    });
  }

  list(): GroupListing[] {
    return [...this.#groups.values()]
      .map((group) => ({
        groupId: group.groupId,
        ...protocolOf(group),
        state: groupStateName(group, this.#rounds.get(group.groupId)),
        memberCount: group.members.size,
        topics: [...new Set([...group.members.values()].flatMap((member) => member.topics))].sort(),
      }))
      .sort((a, b) => (a.groupId < b.groupId ? -1 : 1));
  }

  describe(groupId: string): GroupDescription | Refusal {
    const group = this.#groups.get(groupId);
    if (group === undefined) return unknownGroup(groupId);
    return describeGroup(group, this.#rounds.get(groupId), this.#options.context);
  }

  /** Topics changed: every group with members looks whether that concerns it. */
  topicsChanged(deleted: readonly TopicId[]): void {
    const ignore = (): void => {};
    for (const group of this.#groups.values()) {
      if (group.members.size > 0) this.execute({ type: 'topics-changed', groupId: group.groupId }, ignore);
      for (const topicId of deleted)
        this.execute({ type: 'delete-offsets-of-topic', groupId: group.groupId, topicId }, ignore);
    }
  }

  watch(command: WatchMemberCommand, reply: (reply: MemberView | Refusal) => void): void {
    this.#watches.watch(command, reply);
  }

  /** Answers a watch at once, with what the member has. */
  cancelWatch(watchId: number): void {
    this.#watches.cancel(watchId);
  }

  #park(groupId: string, { parked }: Parked, reply: ParkedReply): void {
    const key = timerKey(groupId, parked);
    // The machine answers a member that asks again; this is for a request that it knew nothing of.
    this.#parked.get(key)?.(refuse('REBALANCE_IN_PROGRESS', 'the member asked again'), 0);
    this.#parked.set(key, reply);
  }

  #answerParked(groupId: string, answer: ParkedAnswer, cycle: number): void {
    const key = timerKey(groupId, answer.key);
    const reply = this.#parked.get(key);
    this.#parked.delete(key);
    reply?.(answer.reply, cycle);
  }

  #endParked(refusal: Refusal): void {
    for (const reply of this.#parked.values()) reply(refusal, 0);
    this.#parked.clear();
  }

  #notify(groupId: string, cycle: number): void {
    this.#options.commits.after(cycle, (error) => {
      // A newer change is on its way to the journal: its own notice follows.
      if (error !== null || this.cycleOf(groupId) !== cycle) return;
      this.#lastCycles.delete(groupId);
      this.#watches.changed(groupId);
    });
  }

  #noteRemoval(groupId: string, reply: TimerReply | Refusal): void {
    if (!isRefusal(reply) && reply.removed !== null) this.#watches.noteRemoval(groupId, reply.removed);
  }

  #setTimers(groupId: string, changes: readonly TimerChange[]): void {
    for (const { key, delayMs } of changes) {
      const full = timerKey(groupId, key);
      this.#due.delete(full);
      if (delayMs === null) this.#timers.cancel(full);
      else this.#timers.set(full, delayMs);
    }
  }

  #onDue(full: string): void {
    this.#due.add(full);
    // Group ids have no line breaks; what Kafka's clients call their members may.
    const groupEnd = full.indexOf('\n');
    this.#options.enqueue({ type: 'timer', groupId: full.slice(0, groupEnd), key: full.slice(groupEnd + 1) });
  }

  #withEndOffsets<C extends CommitCommand | CommitInTransactionGroupCommand>(command: C): C {
    const { partitions } = this.#options;
    const offsets = command.offsets.map((offset) => {
      const partition = partitions.get(offset.partition);
      // Retention goes by what is committed there: what comes later must not count as finished.
      const mayExceedEnd = offset.mayExceedEnd === true && partition?.config.cleanup.acknowledged === false;
      return { ...offset, endOffset: partition?.highWatermark ?? null, mayExceedEnd };
    });
    return { ...command, offsets };
  }
}

/** What the caller gets in the end: never that it waits. */
type AnsweredReply<C extends GroupCommand> = Exclude<GroupReplies[C['type']], Parked>;

function isParked(reply: object): reply is Parked {
  return 'parked' in reply;
}

function timerKey(groupId: string, key: string): string {
  return `${groupId}\n${key}`;
}

function unknownGroup(groupId: string): Refusal {
  return refuse('GROUP_ID_NOT_FOUND', `there is no group ${JSON.stringify(groupId)}`);
}
