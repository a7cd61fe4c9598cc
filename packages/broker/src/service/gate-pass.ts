/**
 * One fetch on its way through a gate: what of its batches is given, and what is passed over.
 *
 * Owns the choice for each record, and batches without those that are passed over, with their offsets. Batches of which everything
 * is given are not touched.
 */
import { keyId, isNaruError } from '@naru/protocol';
import {
  cutBatch,
  decodeRecords,
  encodeBatch,
  iterateRecords,
  readBatchHeader,
  rewriteBatch,
  type BatchRecord,
  type CompressionCodecs,
} from '@naru/protocol/batch';
import { hasHole, isReleased, type GateView, type OffsetRange } from '../core/group/index.ts';
import type { WithheldEvents } from './withheld-events.ts';

/** Events of one partition that were passed over. Beyond it the partition is not read on. */
export const MAX_WITHHELD = 1_000;
/** Stretches of them: what is finished between is committed as ranges, of which there may be as many again for other reasons. */
export const MAX_WITHHELD_RUNS = 500;

export interface PassingState {
  readonly withheld: WithheldEvents;
  /** Finished by this group: passed on, its member leaves it out. */
  readonly finished: readonly OffsetRange[];
  readonly view: GateView;
}

export class GatePass {
  readonly batches: Uint8Array[] = [];
  readonly withheld: number[] = [];
  /** The offset after what was looked at. */
  next: number;
  /** No more can be passed over. */
  stalled = false;
  readonly #gated: PassingState;
  readonly #codecs: CompressionCodecs;
  #runs: number;
  #lastWithheld: number;

  constructor(gated: PassingState, offset: number, codecs: CompressionCodecs) {
    this.#gated = gated;
    this.#codecs = codecs;
    this.next = offset;
    this.#runs = 0;
    this.#lastWithheld = -2;
    for (const { offset: at } of gated.withheld.all(gated.view)) this.#countRun(at);
  }

  /** Whether to go on. */
  take(batch: Uint8Array): boolean {
    const { view, withheld } = this.#gated;
    const { baseOffset, lastOffsetDelta, isControl } = readBatchHeader(batch);
    const end = baseOffset + lastOffsetDelta + 1;
    if (baseOffset >= view.end) {
      this.next = Math.max(this.next, view.end);
      return false;
    }
    const isWhole = this.next <= baseOffset && end <= view.end;
    if (isControl || (isWhole && withheld.size === 0 && !hasHole(view, baseOffset, end))) {
      if (end <= view.end) this.batches.push(batch);
      this.next = Math.min(end, view.end);
      return end <= view.end;
    }
    return this.#takeSome(batch, end);
  }

  /** There is nothing before `offset` that could be given. */
  skipTo(offset: number): void {
    this.next = Math.max(this.next, Math.min(offset, this.#gated.view.end));
  }

  #takeSome(batch: Uint8Array, end: number): boolean {
    const { view } = this.#gated;
    const from = this.next;
    let cut = Math.min(end, view.end);
    const kept: number[] = [];
    for (const record of iterateRecords(batch, this.#codecs)) {
      if (record.offset < from) continue;
      if (record.offset >= cut) break;
      if (!this.#holdsBack(record)) kept.push(record.offset);
      else if (!this.#withhold(record)) cut = record.offset;
    }
    this.stalled = cut < Math.min(end, view.end);
    this.next = Math.max(this.next, cut);
    if (kept.length > 0) this.batches.push(...this.#rewritten(batch, new Set(kept), cut, end));
    return cut === end;
  }

  #holdsBack({ offset, key }: BatchRecord): boolean {
    const { view, withheld, finished } = this.#gated;
    if (finished.some(([from, to]) => offset >= from && offset < to)) return false;
    return !isReleased(view, offset) || (key !== null && withheld.hasKey(keyId(key)));
  }

  /** Whether there was room for it. */
  #withhold({ offset, key }: BatchRecord): boolean {
    const { withheld } = this.#gated;
    if (withheld.size >= MAX_WITHHELD) return false;
    if (this.#runs >= MAX_WITHHELD_RUNS && offset !== this.#lastWithheld + 1) return false;
    this.#countRun(offset);
    withheld.add(offset, key === null ? '' : keyId(key));
    this.withheld.push(offset);
    return true;
  }

  #countRun(offset: number): void {
    if (offset !== this.#lastWithheld + 1) this.#runs += 1;
    this.#lastWithheld = offset;
  }

  #rewritten(batch: Uint8Array, kept: ReadonlySet<number>, cut: number, end: number): Uint8Array[] {
    try {
      const rewritten = rewriteBatch(batch, { retain: ({ offset }) => kept.has(offset) }, this.#codecs);
      if (rewritten === null) return [];
      return [cut === end ? rewritten : cutBatch(rewritten, cut - 1)];
    } catch (error) {
      // It can be read, but not be written again as it was.
      if (!isNaruError(error, 'INVALID_RECORD') && !isNaruError(error, 'RECORD_TOO_LARGE')) throw error;
      return decodeRecords(batch, this.#codecs)
        .filter(({ offset }) => kept.has(offset))
        .map(batchOf);
    }
  }
}

/** A batch of this record alone, at its offset. */
export function batchOf({ offset, key, value, headers, timestampMs }: BatchRecord): Uint8Array {
  return encodeBatch([{ key, value, headers, timestampMs }], { baseOffset: offset });
}
