/**
 * The partitions of a member that speaks in single calls, and how far each was given to it.
 *
 * Owns the positions that count: what a poller (poller.ts) has read beyond them was not given and is read again.
 */
import type { PartitionKey } from '@naru/base';
import { isNaruError, type Refusal } from '@naru/protocol';
import { iterateRecords, readBatchHeader, type CompressionCodecs } from '@naru/protocol/batch';
import type { OffsetRange } from '../core/group/index.ts';
import type { AnswerSpace } from './poll-answer.ts';
import type { PolledPartition } from './poller.ts';
import type { AssignedPartition, PartitionCommit } from './subscriber-session.ts';

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
}

export interface Taken {
  /** To be read again from their positions, in this order. */
  readonly unread: readonly PartitionKey[];
  /** Cannot be read on. What was before the damage is in the answer. */
  readonly damaged: readonly { readonly partition: PartitionKey; readonly refusal: Refusal }[];
}

export class HeldPartitions {
  readonly #codecs: CompressionCodecs;
  readonly #held = new Map<PartitionKey, Held>();

  constructor(codecs: CompressionCodecs) {
    this.#codecs = codecs;
  }

  add({ partition, topic, position, finished, committedOffset: committed }: AssignedPartition): void {
    this.#held.set(partition, { topic, finished, next: position, confirmed: position, committed });
  }

  delete(partition: PartitionKey): void {
    this.#held.delete(partition);
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
    if (held !== undefined) held.next = held.confirmed = to;
  }

  /** The last answer arrived. */
  confirm(): void {
    for (const held of this.#held.values()) held.confirmed = held.next;
  }

  /** The last answer was lost. Returns the partitions of which it gave something. */
  takeBack(): PartitionKey[] {
    const back: PartitionKey[] = [];
    for (const [partition, held] of this.#held) {
      if (held.next === held.confirmed) continue;
      held.next = held.confirmed;
      back.push(partition);
    }
    return back;
  }

  /** What there is to commit when everything is finished that the last answer gave, or the one before it. */
  commits(answer: 'last' | 'confirmed'): PartitionCommit[] {
    const commits: PartitionCommit[] = [];
    for (const [partition, { next, confirmed, committed }] of this.#held) {
      const offset = answer === 'last' ? next : confirmed;
      if (offset > (committed ?? 0)) commits.push({ partition, offset, finished: null, metadata: '' });
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
    for (const { partition, batches } of partitions) {
      const held = this.#held.get(partition);
      if (held === undefined) continue;
      if (cut !== null) {
        unread.push(partition);
        continue;
      }
      try {
        if (!batches.every((batch) => this.#takeBatch(batch, partition, held, answer))) cut = partition;
      } catch (error) {
        if (!isNaruError(error)) throw error;
        damaged.push({ partition, refusal: error.toRefusal() });
      }
    }
    // The one that had its turn goes to the end of the line.
    return { unread: cut === null ? unread : [...unread, cut], damaged };
  }

  /** Whether all of it went into the answer. @throws NaruError when it is damaged */
  #takeBatch(batch: Uint8Array, partition: PartitionKey, held: Held, answer: AnswerSpace): boolean {
    const { isControl, baseOffset, lastOffsetDelta } = readBatchHeader(batch);
    if (!isControl) {
      for (const record of iterateRecords(batch, this.#codecs)) {
        if (record.offset < held.next) continue;
        if (!isFinished(record.offset, held.finished)) {
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

function isFinished(offset: number, finished: readonly OffsetRange[]): boolean {
  return finished.some(([from, to]) => offset >= from && offset < to);
}
