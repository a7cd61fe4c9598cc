/**
 * When which part of a partition was stored, roughly: a bounded list of (end offset, time) marks.
 *
 * Retention by age goes by it, in the broker's own time. Batches' timestamps belong to their publishers.
 *
 * Invariants: marks ascend in both; never more than {@link MAX_AGE_MARKS}; {@link storedBefore} may be too low, never too high.
 */

/** Retention is exact to about this part of its time. */
export const MAX_AGE_MARKS = 64;

export interface AgeMark {
  /** Everything below was stored at {@link atMs} or before. */
  readonly offset: number;
  /** Milliseconds since the Unix epoch, the broker's clock. */
  readonly atMs: number;
}

export class AgeMarks {
  #marks: AgeMark[];

  constructor(marks: readonly AgeMark[] = []) {
    this.#marks = [...marks];
  }

  /** Oldest first. */
  get all(): readonly AgeMark[] {
    return this.#marks;
  }

  /**
   * Notes that everything below `endOffset` is stored at `nowMs`.
   *
   * @param spanMs how far back anybody will ask; marks are spread over it
   */
  note(endOffset: number, nowMs: number, spanMs: number): void {
    const last = this.#marks.at(-1);
    if (last !== undefined && (endOffset <= last.offset || nowMs < last.atMs)) return;
    // The newest mark moves along until it is far enough from the one before it.
    const before = this.#marks.at(-2);
    const spacingMs = Math.max(spanMs, 0) / (MAX_AGE_MARKS / 2);
    if (
      before !== undefined &&
      last !== undefined &&
      last.atMs - before.atMs < spacingMs &&
      nowMs - before.atMs <= spacingMs
    ) {
      this.#marks.pop();
    }
    this.#marks.push({ offset: endOffset, atMs: nowMs });
    if (this.#marks.length > MAX_AGE_MARKS) this.#thin();
  }

  /** Everything below the answer was stored at `timeMs` or before. `none` when nothing is known to be. */
  storedBefore(timeMs: number, none: number): number {
    let found = none;
    for (const { offset, atMs } of this.#marks) {
      if (atMs > timeMs) break;
      found = offset;
    }
    return found;
  }

  /** Marks at or below the log start say nothing any more. */
  deletedBefore(logStartOffset: number): void {
    while (this.#marks.length > 0 && (this.#marks[0] as AgeMark).offset <= logStartOffset) this.#marks.shift();
  }

  /** What was stored beyond `endOffset` is gone. */
  truncated(endOffset: number): void {
    this.#marks = this.#marks.map(({ offset, atMs }) => ({ offset: Math.min(offset, endOffset), atMs }));
    this.#marks = this.#marks.filter(({ offset }, index) => this.#marks[index - 1]?.offset !== offset);
  }

  /** Forgets every second mark, neither the oldest nor the newest. */
  #thin(): void {
    const newest = this.#marks.length - 1;
    this.#marks = this.#marks.filter((_, index) => index % 2 === 0 || index === newest);
  }
}
