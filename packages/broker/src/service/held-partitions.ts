/**
 * The partitions of a member that speaks in single calls, and how far each was given to it.
 *
 * Owns the positions that count: what a poller (poller.ts) has read beyond them was not given and is read again.
 */
import type { PartitionKey } from '@naru/base';
import { isNaruError, type Refusal } from '@naru/protocol';
import { iterateRecords, readBatchHeader, type CompressionCodecs } from '@naru/protocol/batch';
import type { OffsetRange } from '../core/group/index.ts';
import type { LateEvents } from './gated-reading.ts';
import type { AnswerSpace } from './poll-answer.ts';
import type { PolledPartition } from './poller.ts';
import { UnaryHeld } from './unary-held.ts';
import type { AssignedPartition, PartitionCommit } from './session-events.ts';

/** Also while the member is to release it. */
interface Held {
  readonly topic: string;
  /** Finished by the group beyond where it began: not given. */
  readonly finished: readonly OffsetRange[];
  /** The first offset that was not given. */
  next: number;
  /** The same as of the last answer that surely arrived. */
  confirmed: number;
  committed: number | null;
  /** Passed over before `next`, and not given yet: ascending. */
  withheld: readonly number[];
  /** The same as of the last answer that surely arrived. */
  confirmedWithheld: readonly number[];
  /** Given late in the last answer. */
  late: LateEvents['events'];
}

export interface Taken {
  /** To be read again from their positions, in this order. */
  readonly unread: readonly PartitionKey[];
  /** Cannot be read on. What was before the damage is in the answer. */
  readonly damaged: readonly { readonly partition: PartitionKey; readonly refusal: Refusal }[];
}

export class HeldPartitions {
  readonly #codecs: CompressionCodecs;
  /** Told of what is told here, too. */
  readonly #keys: UnaryHeld;
  readonly #held = new Map<PartitionKey, Held>();

  /** @param keys says what is not to be given although it was read */
  constructor(codecs: CompressionCodecs, keys: UnaryHeld = new UnaryHeld(codecs)) {
    this.#codecs = codecs;
    this.#keys = keys;
  }

  add(assigned: AssignedPartition): void {
    const { partition, topic, position, finished, committedOffset: committed } = assigned;
    this.#keys.add(assigned);
    const none = { withheld: [], confirmedWithheld: [], late: [] };
    this.#held.set(partition, { topic, finished, next: position, confirmed: position, committed, ...none });
  }

  delete(partition: PartitionKey): void {
    this.#held.delete(partition);
    this.#keys.delete(partition);
  }

  /** Empty for a partition that is not held. */
  topicOf(partition: PartitionKey): string {
    return this.#held.get(partition)?.topic ?? '';
  }

  /** Undefined for a partition that is not held. */
  positionOf(partition: PartitionKey): number | undefined {
    return this.#held.get(partition)?.next;
  }

  /** The position was outside the log. */
  reset(partition: PartitionKey, to: number): void {
    const held = this.#held.get(partition);
    if (held === undefined) return;
    held.next = held.confirmed = to;
    held.withheld = held.confirmedWithheld = held.late = [];
  }

  /** The last answer arrived. */
  confirm(): void {
    this.#keys.confirm();
    for (const held of this.#held.values()) {
      held.confirmed = held.next;
      held.confirmedWithheld = held.withheld;
      held.late = [];
    }
  }

  /** The last answer was lost. Returns the partitions of which it gave something, with what it gave of them late. */
  takeBack(): Map<PartitionKey, LateEvents['events']> {
    this.#keys.takeBack();
    const back = new Map<PartitionKey, LateEvents['events']>();
    for (const [partition, held] of this.#held) {
      if (held.next === held.confirmed && held.late.length === 0) continue;
      const { late, confirmed } = held;
      held.next = confirmed;
      held.withheld = held.confirmedWithheld;
      held.late = [];
      // What was passed over since the answer before is met again.
      back.set(
        partition,
        late.filter(({ offset }) => offset < confirmed),
      );
    }
    return back;
  }

  /** What there is to commit when everything is finished that the last answer gave, or the one before it. */
  commits(answer: 'last' | 'confirmed'): PartitionCommit[] {
    const commits: PartitionCommit[] = [];
    for (const [partition, held] of this.#held) {
      const next = answer === 'last' ? held.next : held.confirmed;
      const withheld = answer === 'last' ? held.withheld : held.confirmedWithheld;
      const [offset = next] = withheld;
      const finished = withheld.length === 0 ? null : finishedAround(withheld, next, held.finished);
      const isNews = offset > (held.committed ?? 0) || (finished !== null && finished.length > 0);
      if (isNews) commits.push({ partition, offset, finished, metadata: '' });
    }
    return commits;
  }

  noteCommitted({ partition, offset }: PartitionCommit): void {
    const held = this.#held.get(partition);
    if (held !== undefined) held.committed = offset;
  }

  /** Puts as many records into the answer as it has room for. */
  take(partitions: readonly PolledPartition[], answer: AnswerSpace): Taken {
    const unread: PartitionKey[] = [];
    const damaged: { partition: PartitionKey; refusal: Refusal }[] = [];
    let cut: PartitionKey | null = null;
    for (const { partition, batches, withheld = [] } of partitions) {
      const held = this.#held.get(partition);
      if (held === undefined) continue;
      if (cut !== null) {
        unread.push(partition);
        continue;
      }
      try {
        if (!batches.every((batch) => this.#takeBatch(batch, partition, held, answer))) cut = partition;
        else held.next = Math.max(held.next, (withheld.at(-1) ?? -1) + 1);
      } catch (error) {
        if (!isNaruError(error)) throw error;
        damaged.push({ partition, refusal: error.toRefusal() });
      }
      // What was passed over beyond it is met again.
      const passed = withheld.filter((offset) => offset < held.next);
      if (passed.length > 0) held.withheld = [...held.withheld, ...passed];
    }
    // The one that had its turn goes to the end of the line.
    return { unread: cut === null ? unread : [...unread, cut], damaged };
  }

  /** Puts late events into the answer; returns those that have no room, which are to be given another time. */
  takeLate({ partition, batches, events }: LateEvents, answer: AnswerSpace): LateEvents['events'] {
    const held = this.#held.get(partition);
    if (held === undefined) return [];
    const given = new Set<number>();
    for (const record of batches.flatMap((batch) => [...iterateRecords(batch, this.#codecs)])) {
      if (!this.#keys.mayPassOver(partition)) break;
      if (this.#keys.passOver(partition, record)) {
        given.add(record.offset);
        continue;
      }
      // Those behind it stay behind it.
      if (!answer.hasRoomFor(record)) break;
      answer.add({ topic: held.topic, partition, record });
      given.add(record.offset);
    }
    held.withheld = held.withheld.filter((offset) => !given.has(offset));
    held.late = [...held.late, ...events.filter(({ offset }) => given.has(offset))];
    return events.filter(({ offset }) => !given.has(offset));
  }

  /** What was passed over was deleted: there is nothing to give. */
  gone(partition: PartitionKey, offsets: readonly number[]): void {
    const held = this.#held.get(partition);
    if (held === undefined || offsets.length === 0) return;
    const gone = new Set(offsets);
    held.withheld = held.withheld.filter((offset) => !gone.has(offset));
    held.confirmedWithheld = held.confirmedWithheld.filter((offset) => !gone.has(offset));
  }

  /** Whether all of it went into the answer. @throws NaruError when it is damaged, HELD_LIMIT_REACHED when it has to wait */
  #takeBatch(batch: Uint8Array, partition: PartitionKey, held: Held, answer: AnswerSpace): boolean {
    const { isControl, baseOffset, lastOffsetDelta } = readBatchHeader(batch);
    if (!isControl) {
      for (const record of iterateRecords(batch, this.#codecs)) {
        if (record.offset < held.next) continue;
        if (!isFinished(record.offset, held.finished) && !this.#keys.passOver(partition, record)) {
          if (!answer.hasRoomFor(record)) return false;
          answer.add({ topic: held.topic, partition, record });
        }
        held.next = record.offset + 1;
      }
    }
    held.next = Math.max(held.next, baseOffset + lastOffsetDelta + 1);
    return true;
  }
}

/** What a member has finished that lacks only `withheld`, and has met nothing from `next` on but what was finished before. */
function finishedAround(
  withheld: readonly number[],
  next: number,
  before: readonly OffsetRange[],
): readonly OffsetRange[] {
  const ranges: [number, number][] = [];
  for (const [index, offset] of withheld.entries()) {
    const to = withheld[index + 1] ?? next;
    if (offset + 1 < to) ranges.push([offset + 1, to]);
  }
  for (const [from, to] of before) if (to > next) ranges.push([Math.max(from, next), to]);
  return ranges;
}

function isFinished(offset: number, finished: readonly OffsetRange[]): boolean {
  return finished.some(([from, to]) => offset >= from && offset < to);
}
