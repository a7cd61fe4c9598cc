/**
 * Giving records of parallel topics to members, and where queues begin.
 *
 * What is given is what nobody holds, what is due, and what the caller has read; never more than the limits of the topic
 * and, while others ask too, the member's share of them. What is read and holds no record is finished.
 */
import { splitPartitionKey, type PartitionKey } from '@naru/base';
import { refuse, type Refusal } from '@naru/protocol';
import type { GroupContext, GroupDecision, TimerChange } from './commands.ts';
import { checkMember, refused } from './decide-join.ts';
import type { GroupRecord, GroupState } from './group-state.ts';
import type { TopicConfig } from '../registry/topic-config.ts';
import {
  MIN_UNFINISHED,
  type AcquiredOffsets,
  type AcquiredRange,
  type QueueAcquireCommand,
  type QueueAcquireReply,
  type QueueOpenCommand,
  type QueueOpenReply,
  type QueueReading,
  type SeenRange,
} from '../queue/queue-commands.ts';
import {
  acquired,
  acquiredBy,
  available,
  countQueue,
  cut,
  finished,
  newQueueState,
  RunBuilder,
  type QueueRun,
  type QueueState,
} from '../queue/queue-state.ts';
import { queueTimers } from './queue-timers.ts';

export function decideOpen(
  state: GroupState | undefined,
  command: QueueOpenCommand,
  context: GroupContext,
): GroupDecision<QueueOpenReply> {
  const { groupId } = command;
  const member = checkMember(state, command.memberId, command.memberEpoch);
  if ('code' in member) return refused(member);
  const records: GroupRecord[] = [];
  const startOffsets: number[] = [];
  for (const { partition, startOffset } of command.partitions) {
    const refusal = checkQueue(partition, member.topics, context);
    if (refusal !== null) return refused(refusal);
    const before = state?.queues.get(partition);
    startOffsets.push(before?.startOffset ?? startOffset);
    if (before !== undefined) continue;
    records.push({ kind: 'queue', groupId, partition, value: newQueueState(startOffset) });
  }
  return { records, reply: { startOffsets }, timers: [] };
}

export function decideAcquire(
  state: GroupState | undefined,
  command: QueueAcquireCommand,
  context: GroupContext,
  nowMs: number,
): GroupDecision<QueueAcquireReply> {
  const { groupId, memberId } = command;
  const member = checkMember(state, memberId, command.memberEpoch);
  if ('code' in member) return refused(member);
  const records: GroupRecord[] = [];
  const timers: TimerChange[] = [];
  const partitions: AcquiredOffsets[] = [];
  let rest = command.maxRecords;
  for (const reading of command.partitions) {
    const { partition } = reading;
    const refusal = checkQueue(partition, member.topics, context);
    if (refusal !== null) return refused(refusal);
    const config = context.topicConfig?.(splitPartitionKey(partition).topicId) as TopicConfig;
    const before = state?.queues.get(partition);
    if (before === undefined) {
      return refused(refuse('NOT_ASSIGNED', `group ${groupId} has not begun with ${partition}: open its queue first`));
    }
    const limit = Math.min(rest, shareOf(before, command, reading, config));
    const giving = new Giving(before, memberId, limit, maxUnfinished(config), nowMs);
    const held = giving.heldEvents(reading, state);
    giving.records(reading);
    rest -= giving.given;
    const after = giving.build();
    if (after === null) continue;
    records.push({ kind: 'queue', groupId, partition, value: after });
    timers.push(...queueTimers(partition, before, after, config.deliveryLockMs));
    if (giving.given === 0) continue;
    partitions.push({ partition, lockMs: config.deliveryLockMs, ranges: giving.ranges, held });
  }
  return { records, reply: { partitions }, timers };
}

/** Why there is no queue to be read there; null when there is. */
export function checkQueue(
  partition: PartitionKey,
  subscribed: readonly string[],
  context: GroupContext,
): Refusal | null {
  const { topicId } = splitPartitionKey(partition);
  const name = context.topicName(topicId);
  if (name === undefined) return refuse('UNKNOWN_TOPIC_OR_PARTITION', `there is no partition ${partition}`);
  if (context.topics(name)?.isParallel !== true) {
    return refuse('INVALID_REQUEST', `topic ${JSON.stringify(name)} is ordered: its records are not acquired singly`);
  }
  if (subscribed.includes(name)) return null;
  return refuse('NOT_ASSIGNED', `the member does not subscribe to topic ${JSON.stringify(name)}`);
}

/** How many records the member may be given now. */
function shareOf(
  queue: QueueState,
  { memberId, sharers }: QueueAcquireCommand,
  { endOffset, heldSeen }: QueueReading,
  config: TopicConfig,
): number {
  const maxInFlight = config.deliveryMaxInFlight;
  const room = maxInFlight - acquiredBy(queue, null);
  if (sharers <= 1) return Math.max(0, room);
  const own = Math.ceil(maxInFlight / sharers) - acquiredBy(queue, memberId);
  const all = countQueue(queue).available + heldSeen.length + Math.max(0, endOffset - queue.endOffset);
  return Math.max(0, Math.min(room, own, Math.ceil(Math.min(room, all) / sharers)));
}

/** Records that were given out and are not finished, those that wait for their time among them: what the state has to name. */
export function maxUnfinished({ deliveryMaxInFlight }: TopicConfig): number {
  return Math.max(deliveryMaxInFlight, MIN_UNFINISHED);
}

/** One member's taking from one partition. */
class Giving {
  readonly ranges: AcquiredRange[] = [];
  given = 0;
  readonly #queue: QueueState;
  readonly #memberId: string;
  readonly #limit: number;
  readonly #nowMs: number;
  readonly #builder = new RunBuilder();
  readonly #heldLocks = new Map<number, number>();
  #changed = false;
  /** Records beyond `endOffset` that may be taken on. */
  #freshRoom: number;

  constructor(queue: QueueState, memberId: string, limit: number, maxUnfinishedCount: number, nowMs: number) {
    this.#queue = queue;
    this.#memberId = memberId;
    this.#limit = limit;
    this.#nowMs = nowMs;
    const { available: waiting, acquired: taken, dying } = countQueue(queue);
    this.#freshRoom = maxUnfinishedCount - waiting - taken - dying;
  }

  /** Those that were redriven come first: they are the oldest. */
  heldEvents({ partition, heldSeen }: QueueReading, state: GroupState | undefined): AcquiredRange[] {
    const events = state?.held.get(partition);
    const given: AcquiredRange[] = [];
    for (const offset of heldSeen) {
      const event = events?.get(offset);
      if (event?.state !== 'waiting' || event.notBeforeMs > this.#nowMs || this.#queue.heldLocks.has(offset)) continue;
      if (this.given >= this.#limit) break;
      this.#heldLocks.set(offset, this.#queue.nextLockId);
      given.push({ from: offset, to: offset + 1, deliveryCount: event.attempts + 1 });
      this.given += 1;
    }
    return given;
  }

  records({ logStartOffset, seen }: QueueReading): void {
    const { runs, startOffset, endOffset } = this.#queue;
    // What the log no longer has, nobody can be given; what somebody has, is still theirs.
    for (const run of runs) {
      const isGone = (run.state === 'available' || run.state === 'dying') && run.from < logStartOffset;
      const gone = isGone ? cut(run, run.from, logStartOffset) : null;
      if (gone !== null) this.#finish(gone.from, gone.to);
      const rest = gone === null ? run : cut(run, gone.to, run.to);
      if (rest.state === 'available' && rest.notBeforeMs <= this.#nowMs) this.#give(rest, seen);
      else this.#builder.add(rest);
    }
    let at = Math.max(startOffset, endOffset);
    if (logStartOffset > at) {
      this.#finish(at, logStartOffset);
      at = logStartOffset;
    }
    for (const range of seen) {
      if (range.to <= at) continue;
      if (range.from > at || this.given >= this.#limit || this.#freshRoom <= 0) break;
      at = this.#giveFresh(at, range);
    }
  }

  /** Null when nothing changed. */
  build(): QueueState | null {
    if (!this.#changed && this.given === 0) return null;
    const { locks, heldLocks, nextLockId } = this.#queue;
    if (this.given === 0) return this.#builder.build(this.#queue);
    const state = {
      ...this.#queue,
      locks: new Map([...locks, [nextLockId, this.#memberId]]),
      nextLockId: nextLockId + 1,
    };
    return this.#builder.build(state, new Map([...heldLocks, ...this.#heldLocks]));
  }

  /** An available run, as far as it was read. */
  #give(run: QueueRun, seen: readonly SeenRange[]): void {
    let at = run.from;
    for (const range of seen) {
      if (range.to <= at) continue;
      if (range.from >= run.to || this.given >= this.#limit) break;
      const piece = cut(run, Math.max(at, range.from), range.to);
      this.#builder.add({ ...run, from: at, to: piece.from });
      at = this.#giveSeen(piece, range);
    }
    this.#builder.add({ ...run, from: at, to: run.to });
  }

  #giveFresh(from: number, range: SeenRange): number {
    const before = this.given;
    const room = Math.min(this.#limit, this.given + this.#freshRoom);
    const end = this.#giveSeen(available(from, range.to), range, room);
    this.#freshRoom -= this.given - before;
    return end;
  }

  /** All of a run was read. Returns the offset up to which it was given or is finished. */
  #giveSeen(run: QueueRun, { gaps }: SeenRange, limit = this.#limit): number {
    let at = run.from;
    for (const [from, to] of gaps) {
      if (to <= at) continue;
      if (from >= run.to) break;
      at = this.#giveRecords(run, at, Math.max(at, from), limit);
      if (at < from) return at;
      this.#finish(at, Math.min(to, run.to));
      at = Math.min(to, run.to);
    }
    return this.#giveRecords(run, at, run.to, limit);
  }

  #giveRecords({ failures }: QueueRun, from: number, to: number, limit: number): number {
    const end = Math.min(to, from + Math.max(0, limit - this.given));
    if (end === from) return from;
    this.#builder.add(acquired(from, end, failures, this.#queue.nextLockId));
    const last = this.ranges.at(-1);
    const deliveryCount = failures + 1;
    if (last?.to === from && last.deliveryCount === deliveryCount) {
      this.ranges[this.ranges.length - 1] = { ...last, to: end };
    } else {
      this.ranges.push({ from, to: end, deliveryCount });
    }
    this.given += end - from;
    return end;
  }

  #finish(from: number, to: number): void {
    if (from >= to) return;
    this.#builder.add(finished(from, to));
    this.#changed = true;
  }
}
