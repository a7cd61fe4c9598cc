/**
 * Records of parallel topics in answers to a member that speaks in single calls.
 *
 * Owns which of them may have been lost on their way: those of the last answer, until the member says that it arrived. Does not
 * own locks: what is not settled comes back to the group by itself.
 */
import type { PartitionKey } from '@naru/base';
import { isNaruError, type Refusal } from '@naru/protocol';
import { iterateRecords, type CompressionCodecs } from '@naru/protocol/batch';
import type { AcquiredRange } from '../core/queue/queue-commands.ts';
import type { AcquiredPartition } from '../runtime/queue-commands.ts';
import type { AnswerSpace } from './poll-answer.ts';
import type { AssignedPartition } from './session-events.ts';

export interface TakenRecords {
  /** Did not fit: to be given back. */
  readonly left: readonly AcquiredPartition[];
  /** Cannot be read; what is in hand of them comes back when its lock ends. */
  readonly damaged: readonly { readonly partition: PartitionKey; readonly refusal: Refusal }[];
}

export class AcquiredRecords {
  readonly #codecs: CompressionCodecs;
  readonly #topics = new Map<PartitionKey, string>();
  #unconfirmed: AcquiredPartition[] = [];

  constructor(codecs: CompressionCodecs) {
    this.#codecs = codecs;
  }

  add({ partition, topic }: AssignedPartition): void {
    this.#topics.set(partition, topic);
  }

  delete(partition: PartitionKey): void {
    this.#topics.delete(partition);
  }

  /** Undefined for a partition that is not of a parallel topic. */
  topicOf(partition: PartitionKey): string | undefined {
    return this.#topics.get(partition);
  }

  /** The last answer arrived. */
  confirm(): void {
    this.#unconfirmed = [];
  }

  /** The last answer was lost: what it gave, to be given back. */
  takeBack(): readonly AcquiredPartition[] {
    const back = this.#unconfirmed;
    this.#unconfirmed = [];
    return back;
  }

  /** Puts as many records into the answer as it has room for. */
  take(acquired: readonly AcquiredPartition[], answer: AnswerSpace): TakenRecords {
    const left: AcquiredPartition[] = [];
    const damaged: { partition: PartitionKey; refusal: Refusal }[] = [];
    for (const entry of acquired) {
      const given: AcquiredRange[] = [];
      let next: number | null = null;
      try {
        next = this.#takePartition(entry, answer, given);
      } catch (error) {
        if (!isNaruError(error)) throw error;
        damaged.push({ partition: entry.partition, refusal: error.toRefusal() });
      }
      if (given.length > 0) this.#unconfirmed.push({ ...entry, batches: [], ranges: given });
      if (next !== null) left.push({ ...entry, batches: [], ranges: from(entry.ranges, next) });
    }
    return { left, damaged };
  }

  /** The first offset that did not fit; null when all of it did. */
  #takePartition(
    { partition, batches, ranges }: AcquiredPartition,
    answer: AnswerSpace,
    given: AcquiredRange[],
  ): number | null {
    const topic = this.#topics.get(partition) ?? '';
    let index = 0;
    for (const batch of batches) {
      for (const record of iterateRecords(batch, this.#codecs)) {
        const { offset } = record;
        while (index < ranges.length && (ranges[index] as AcquiredRange).to <= offset) index += 1;
        const range = ranges[index];
        if (range === undefined) return null;
        if (offset < range.from) continue;
        if (!answer.hasRoomFor(record)) return offset;
        const { deliveryCount } = range;
        answer.add({ topic, partition, record, deliveryCount });
        given.push({ from: offset, to: offset + 1, deliveryCount });
      }
    }
    return null;
  }
}

function from(ranges: readonly AcquiredRange[], offset: number): AcquiredRange[] {
  return ranges.flatMap((range) => (range.to <= offset ? [] : [{ ...range, from: Math.max(range.from, offset) }]));
}
