/**
 * What of one partition is finished: a contiguous watermark, and ranges beyond it.
 *
 * Events are begun in order of offset and finished in any order. Offsets that are jumped over (compaction, control
 * records, events finished earlier) count as finished.
 *
 * Invariants: `watermark ≤ position`; ranges are ascending, disjoint, not adjacent, above the watermark.
 */
import { assert } from '@naru/base';

/** Offsets in [from, to). */
export interface OffsetSpan {
  readonly from: number;
  readonly to: number;
}

export class WatermarkTracker {
  #watermark: number;
  #position: number;
  #ranges: OffsetSpan[] = [];
  /** Grows with every change of what could be committed. */
  #version = 0;

  /**
   * @param position first offset that is not finished, as far as is known
   * @param finished what is finished beyond it
   */
  constructor(position: number, finished: readonly OffsetSpan[] = []) {
    this.#watermark = position;
    this.#position = position;
    for (const { from, to } of finished) this.#add(from, to);
    this.#version = 0;
  }

  /** Everything below is finished. */
  get watermark(): number {
    return this.#watermark;
  }

  /** The next offset that may be begun. */
  get position(): number {
    return this.#position;
  }

  /** Finished beyond the watermark. Also what an earlier owner finished beyond the position. */
  get ranges(): readonly OffsetSpan[] {
    return this.#ranges;
  }

  get version(): number {
    return this.#version;
  }

  isFinished(offset: number): boolean {
    if (offset < this.#watermark) return true;
    const range = this.#ranges[this.#firstEndingAfter(offset)];
    return range !== undefined && range.from <= offset;
  }

  /** An event is taken up. */
  begin(offset: number): void {
    this.skipTo(offset);
    assert(this.#position === offset, 'an event that is finished is not taken up');
    this.#position = offset + 1;
  }

  /** There is nothing to do before `offset`. */
  skipTo(offset: number): void {
    assert(offset >= this.#position, 'events are taken up in order');
    if (offset === this.#position) return;
    const from = this.#position;
    this.#position = offset;
    this.#add(from, offset);
  }

  finish(offset: number): void {
    assert(offset < this.#position, 'an event is begun before it is finished');
    this.#add(offset, offset + 1);
  }

  /** Offsets in [from, to) are finished; each was begun or passed over. */
  finishSpan({ from, to }: OffsetSpan): void {
    assert(to <= this.#position, 'an event is begun before it is finished');
    this.#add(from, to);
  }

  /** What it would be with `offsets`, and the offsets in `spans`, finished. */
  with(offsets: Iterable<number>, spans: Iterable<OffsetSpan> = []): WatermarkTracker {
    const copy = new WatermarkTracker(this.#watermark);
    copy.#position = this.#position;
    copy.#ranges = [...this.#ranges];
    for (const offset of offsets) copy.finish(offset);
    for (const span of spans) copy.finishSpan(span);
    return copy;
  }

  #add(from: number, to: number): void {
    if (to <= this.#watermark) return;
    this.#version += 1;
    if (from <= this.#watermark) {
      this.#watermark = to;
      this.#absorb();
      return;
    }
    // Everything that overlaps or touches [from, to) becomes one range with it.
    const first = this.#firstEndingAfter(from - 1);
    let end = first;
    let lower = from;
    let upper = to;
    for (let range = this.#ranges[end]; range !== undefined && range.from <= to; range = this.#ranges[++end]) {
      lower = Math.min(lower, range.from);
      upper = Math.max(upper, range.to);
    }
    this.#ranges.splice(first, end - first, { from: lower, to: upper });
  }

  #absorb(): void {
    let count = 0;
    for (
      let range = this.#ranges[0];
      range !== undefined && range.from <= this.#watermark;
      range = this.#ranges[count]
    ) {
      this.#watermark = Math.max(this.#watermark, range.to);
      count += 1;
    }
    if (count > 0) this.#ranges.splice(0, count);
    // An earlier owner's ranges may reach beyond what was begun here.
    if (this.#position < this.#watermark) this.#position = this.#watermark;
  }

  /** Index of the first range whose end is above `offset`. */
  #firstEndingAfter(offset: number): number {
    let low = 0;
    let high = this.#ranges.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#ranges[middle] as OffsetSpan).to > offset) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}
