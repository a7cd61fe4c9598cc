/**
 * All consumer groups of a shard: runs the pure group machine, writes its records to the group log, keeps its timers,
 * and tells waiting members what changed.
 *
 * The group log is an internal topic; a group lives in one of its partitions, so that one batch, which is one atomic
 * append, holds everything that a command changed. The log compacts itself: when a partition has grown far beyond what
 * its groups need, their whole state is written again at its end, and everything before that is deleted.
 */
import { assert, partitionKey, type Clock, type PartitionKey, type Timers, type TopicId } from '@naru/base';
import { murmur2, NaruError, refuse, type Refusal } from '@naru/protocol';
import { decodeRecords, encodeBatch, type CompressionCodecs, type RecordInput } from '@naru/protocol/batch';
import {
  decideGroup,
  decodeGroupRecord,
  describeGroup,
  encodeGroupRecord,
  evolveGroups,
  fetchOffsets,
  groupRecords,
  groupStateName,
  memberView,
  protocolOf,
  timersAfterRecovery,
  type ClassicRound,
  type CommitCommand,
  type EncodedGroupRecord,
  type GroupCommand,
  type GroupContext,
  type GroupDescription,
  type GroupRecord,
  type GroupReplies,
  type GroupState,
  type MemberView,
  type OwnLog,
  type OwnLogAppend,
  type Parked,
  type ParkedAnswer,
  type TimerChange,
  type TimerReply,
} from '../core/group/index.ts';
import { evolveDeletedBefore } from '../core/partition/partition-state.ts';
import type { LogStore } from '../log/log-store.ts';
import type { CommitQueue } from './commit-queue.ts';
import { isRefusal, type GroupListing, type PartitionOffset, type WatchMemberCommand } from './commands.ts';
import { KeyedTimers } from './keyed-timers.ts';
import { sameView } from './member-views.ts';
import type { PartitionRuntime } from './partition-runtime.ts';
import type { LedgerSettings } from './shard-options.ts';

const TEXT = new TextEncoder();
/** Of one batch in the logs of held events and of the ledger; one record is appended even when it is larger. */
const OWN_BATCH_BYTES = 512 * 1024;

/** A partition of the group log is rewritten when it grew by this, and to a multiple of its state. */
const REWRITE_AFTER_BYTES = 4 * 1024 * 1024;
const REWRITE_AFTER_FACTOR = 2;
/** What a decision changes is one batch up to here. Stores take appends of 8 MiB. */
const MAX_GROUP_BATCH_BYTES = 4 * 1024 * 1024;
/** Records are gathered into batches of about this when the whole state is written. */
const REWRITE_BATCH_BYTES = 256 * 1024;
/** Members that wait for news at once. */
const MAX_WATCHES = 100_000;
/** Requests that wait for other members at once. Each has a time-out of its own: that of the group's round. */
const MAX_PARKED = 100_000;

/** What a request that waited is told, or how the broker failed meanwhile. */
type ParkedReply = (reply: ParkedAnswer['reply'], cycle: number) => void;

interface Watch {
  readonly command: WatchMemberCommand;
  readonly reply: (reply: MemberView | Refusal) => void;
  readonly timer: { cancel(): void };
  /** Why the member was removed, when that happened while somebody waited here. */
  removed: Refusal | null;
}

interface LogPartition {
  readonly key: PartitionKey;
  /** Written since the last rewrite. */
  grownBytes: number;
  /** What the last rewrite took. */
  stateBytes: number;
}

export interface GroupCoordinatorOptions {
  readonly partitions: PartitionRuntime;
  readonly commits: CommitQueue;
  readonly store: LogStore;
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
  readonly #watches = new Map<number, Watch>();
  readonly #watchesByGroup = new Map<string, Set<Watch>>();
  /** Soft state of groups whose members assign. */
  readonly #rounds = new Map<string, ClassicRound>();
  /** Requests that wait for other members of their group, by group and key. */
  readonly #parked = new Map<string, ParkedReply>();
  readonly #timers: KeyedTimers;
  /** Timers that fired and whose command still waits: one that is set again meanwhile must not act. */
  readonly #due = new Set<string>();
  #log: LogPartition[] = [];
  readonly #ownLogs = new Map<OwnLog, readonly PartitionKey[]>();

  constructor(options: GroupCoordinatorOptions) {
    this.#options = options;
    this.#timers = new KeyedTimers(options.clock, options.timers, (key) => this.#onDue(key));
  }

  get groupCount(): number {
    return this.#groups.size;
  }

  /** Tells the coordinator which topic its log is. Its partitions exist. */
  useLog(topicId: TopicId, partitionCount: number): void {
    this.#log = Array.from({ length: partitionCount }, (_, index) => {
      const key = partitionKey(topicId, index);
      return { key, grownBytes: this.#options.store.info(key)?.sizeBytes ?? 0, stateBytes: 0 };
    });
  }

  /** Tells the coordinator which topic another of its logs is. */
  useOwnLog(log: OwnLog, topicId: TopicId, partitionCount: number): void {
    this.#ownLogs.set(
      log,
      Array.from({ length: partitionCount }, (_, index) => partitionKey(topicId, index)),
    );
  }

  state(groupId: string): GroupState | undefined {
    return this.#groups.get(groupId);
  }

  all(): Iterable<GroupState> {
    return this.#groups.values();
  }

  /** Null while there is none. */
  get ledger(): LedgerSettings | null {
    return this.#ownLogs.has('ledger') ? this.#options.ledger : null;
  }

  /** The group's partition of the ledger; null before it is there. */
  ledgerOf(groupId: string): PartitionKey | null {
    return this.#ownLogs.has('ledger') ? this.ownLog('ledger', groupId) : null;
  }

  /** The group's partition of one of the broker's own logs. @throws NaruError NOT_READY before it is there */
  ownLog(log: OwnLog, groupId: string): PartitionKey {
    const partitions = this.#ownLogs.get(log) ?? [];
    const partition = partitions[indexOf(groupId, partitions.length)];
    if (partition === undefined) throw new NaruError('NOT_READY', `the log ${log} is not there yet`);
    return partition;
  }

  /** The offset of the next record there. */
  ownLogEnd(log: OwnLog, groupId: string): number {
    return this.#options.partitions.get(this.ownLog(log, groupId))?.state.endOffset ?? 0;
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
    for (const watch of this.#watches.values()) this.#answer(watch, refusal);
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
    const { context, clock, partitions } = this.#options;
    const complete = command.type === 'commit' ? this.#withEndOffsets(command) : command;
    const round = this.#rounds.get(groupId) ?? null;
    const decision = decideGroup(this.#groups.get(groupId), complete as C, context, clock.nowMs(), round);
    for (const append of decision.appends ?? []) if (append.isAfter !== true) this.#appendOwn(groupId, append);
    if (decision.records.length > 0) {
      const log = this.#logPartition(groupId);
      for (const batch of this.#batches(decision.records)) {
        this.#lastCycles.set(groupId, partitions.appendOwn(log.key, batch));
        log.grownBytes += batch.length;
      }
      for (const append of decision.appends ?? []) if (append.isAfter === true) this.#appendOwn(groupId, append);
      for (const record of decision.records) evolveGroups(this.#groups, record);
      this.#compact(log);
    }
    if (decision.round === null) this.#rounds.delete(groupId);
    else if (decision.round !== undefined) this.#rounds.set(groupId, decision.round);
    this.#setTimers(groupId, decision.timers);
    if (command.type === 'timer') this.#noteRemoval(groupId, decision.reply as TimerReply | Refusal);
    const cycle = this.cycleOf(groupId);
    for (const answer of decision.answers ?? []) this.#answerParked(groupId, answer, cycle);
    if (isParked(decision.reply)) this.#park(groupId, decision.reply, reply as ParkedReply);
    else reply(decision.reply as AnsweredReply<C> | Refusal, cycle);
    if (decision.records.length > 0) {
      this.#notify(groupId, cycle);
      this.#options.onChanged?.(groupId, decision.records);
    }
  }

  /** The cycle after which what is known of the group is durable; 0 when it is. */
  cycleOf(groupId: string): number {
    return this.#lastCycles.get(groupId) ?? 0;
  }

  offsets(groupId: string, partitions: readonly PartitionKey[] | null): PartitionOffset[] {
    const found = fetchOffsets(this.#groups.get(groupId), partitions);
    return [...found].map(([partition, committed]) => ({ partition, committed: committed ?? null }));
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
    if (this.#watches.size >= MAX_WATCHES) {
      return reply(refuse('OVERLOADED', `${MAX_WATCHES} members are watched, which is the limit`));
    }
    const timer = this.#options.timers.after(command.maxWaitMs, () => this.cancelWatch(command.watchId));
    const watch: Watch = { command, reply, timer, removed: null };
    this.#watches.set(command.watchId, watch);
    let ofGroup = this.#watchesByGroup.get(command.groupId);
    if (ofGroup === undefined) this.#watchesByGroup.set(command.groupId, (ofGroup = new Set()));
    ofGroup.add(watch);
    this.#look(watch);
  }

  /** Answers a watch at once, with what the member has. */
  cancelWatch(watchId: number): void {
    const watch = this.#watches.get(watchId);
    if (watch !== undefined) this.#answer(watch, watch.command.known);
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
      for (const watch of this.#watchesByGroup.get(groupId) ?? []) this.#look(watch);
    });
  }

  #noteRemoval(groupId: string, reply: TimerReply | Refusal): void {
    if (isRefusal(reply) || reply.removed === null) return;
    for (const watch of this.#watchesByGroup.get(groupId) ?? []) {
      if (watch.command.memberId === reply.removed.memberId) watch.removed = reply.removed.refusal;
    }
  }

  /** Answers when there is news and it is durable. */
  #look(watch: Watch): void {
    const { groupId, memberId, known, watchId } = watch.command;
    if (!this.#watches.has(watchId) || this.cycleOf(groupId) > 0) return;
    const view = memberView(this.#groups.get(groupId), memberId);
    if (view === undefined) this.#answer(watch, watch.removed ?? unknownMember(groupId, memberId));
    else if (!sameView(view, known)) this.#answer(watch, view);
  }

  #answer(watch: Watch, reply: MemberView | Refusal): void {
    const { groupId, watchId } = watch.command;
    watch.timer.cancel();
    this.#watches.delete(watchId);
    const ofGroup = this.#watchesByGroup.get(groupId);
    ofGroup?.delete(watch);
    if (ofGroup?.size === 0) this.#watchesByGroup.delete(groupId);
    watch.reply(reply);
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

  #withEndOffsets(command: CommitCommand): CommitCommand {
    const { partitions } = this.#options;
    const offsets = command.offsets.map((offset) => {
      const partition = partitions.get(offset.partition);
      // Retention goes by what is committed there: what comes later must not count as finished.
      const mayExceedEnd = offset.mayExceedEnd === true && partition?.config.cleanup.acknowledged === false;
      return { ...offset, endOffset: partition?.highWatermark ?? null, mayExceedEnd };
    });
    return { ...command, offsets };
  }

  #logPartition(groupId: string): LogPartition {
    const partition = this.#log[indexOf(groupId, this.#log.length)];
    if (partition === undefined) throw new NaruError('NOT_READY', 'the group log is not there yet');
    return partition;
  }

  /** In one journal with the records that name its offsets: what goes before them is durable first, or with them. */
  #appendOwn(groupId: string, { log, records }: OwnLogAppend): void {
    const partition = this.ownLog(log, groupId);
    let gathered: RecordInput[] = [];
    let bytes = 0;
    const write = (): void => {
      if (gathered.length === 0) return;
      this.#lastCycles.set(groupId, this.#options.partitions.appendOwn(partition, encodeBatch(gathered)));
      gathered = [];
      bytes = 0;
    };
    for (const record of records) {
      const size = (record.key?.length ?? 0) + (record.value?.length ?? 0);
      if (bytes + size > OWN_BATCH_BYTES) write();
      gathered.push(record);
      bytes += size;
    }
    write();
  }

  /** One, which is atomic, but for decisions that are larger than an append may be: the order of their records must do. */
  *#batches(records: readonly GroupRecord[]): Generator<Uint8Array> {
    let gathered: EncodedGroupRecord[] = [];
    let bytes = 0;
    for (const record of records) {
      const encoded = encodeGroupRecord(record);
      const size = encoded.key.length + (encoded.value?.length ?? 0);
      if (bytes + size > MAX_GROUP_BATCH_BYTES && gathered.length > 0) {
        yield this.#encode(gathered);
        gathered = [];
        bytes = 0;
      }
      gathered.push(encoded);
      bytes += size;
    }
    yield this.#encode(gathered);
  }

  #encode(records: readonly EncodedGroupRecord[]): Uint8Array {
    const timestampMs = this.#options.clock.nowMs();
    return encodeBatch(records.map(({ key, value }): RecordInput => ({ key, value, timestampMs })));
  }

  /** Writes the log partition's whole state at its end and deletes what is before, when that saves enough. */
  #compact(log: LogPartition): void {
    if (log.grownBytes < Math.max(REWRITE_AFTER_BYTES, REWRITE_AFTER_FACTOR * log.stateBytes)) return;
    const { partitions, commits, store } = this.#options;
    const written = partitions.get(log.key);
    assert(written !== undefined, `group log ${log.key} exists`);
    const startOffset = written.state.endOffset;
    let bytes = 0;
    // Without a group left nothing is written here, and what is deleted may still be on its way to the disk.
    let cycle = written.lastCycle;
    let gathered: EncodedGroupRecord[] = [];
    let gatheredBytes = 0;
    const write = (): void => {
      if (gathered.length === 0) return;
      const batch = this.#encode(gathered);
      cycle = partitions.appendOwn(log.key, batch);
      bytes += batch.length;
      gathered = [];
      gatheredBytes = 0;
    };
    for (const group of this.#groups.values()) {
      if (this.#logPartition(group.groupId) !== log) continue;
      for (const record of groupRecords(group)) {
        const encoded = encodeGroupRecord(record);
        gathered.push(encoded);
        gatheredBytes += encoded.key.length + (encoded.value?.length ?? 0);
        if (gatheredBytes >= REWRITE_BATCH_BYTES) write();
      }
    }
    write();
    log.stateBytes = bytes;
    log.grownBytes = 0;
    commits.after(cycle, (error) => {
      if (error !== null) return;
      const partition = partitions.get(log.key);
      if (partition !== undefined) evolveDeletedBefore(partition.state, startOffset);
      // A failure takes the store offline, which everything else reports.
      store.deleteBefore(log.key, startOffset).catch(() => {});
    });
  }
}

/** What the caller gets in the end: never that it waits. */
type AnsweredReply<C extends GroupCommand> = Exclude<GroupReplies[C['type']], Parked>;

function isParked(reply: object): reply is Parked {
  return 'parked' in reply;
}

function indexOf(groupId: string, partitionCount: number): number {
  return (murmur2(TEXT.encode(groupId)) >>> 1) % partitionCount;
}

function timerKey(groupId: string, key: string): string {
  return `${groupId}\n${key}`;
}

function unknownGroup(groupId: string): Refusal {
  return refuse('GROUP_ID_NOT_FOUND', `there is no group ${JSON.stringify(groupId)}`);
}

function unknownMember(groupId: string, memberId: string): Refusal {
  return refuse('UNKNOWN_MEMBER_ID', `group ${JSON.stringify(groupId)} has no member ${memberId} (any more)`);
}
