/** Committed positions: what is finished by one, and the difference between two. Pure. */

/** Offsets from the first (inclusive) to the second (exclusive). */
export type OffsetRange = readonly [from: number, to: number];

export interface FinishedOffsets {
  /** Everything below is finished. */
  readonly offset: number;
  /** Finished beyond it, ascending and disjoint. */
  readonly finished: readonly OffsetRange[];
}

/** What `after` has finished and `before` has not. @param began where the group began to read, when it had no offset */
export function newlyFinished(
  before: FinishedOffsets | undefined,
  after: FinishedOffsets,
  began: number,
): OffsetRange[] {
  const start = before?.offset ?? began;
  const known = before?.finished ?? [];
  const found: OffsetRange[] = [];
  let next = 0;
  const all = after.offset > start ? [[start, after.offset] as const, ...after.finished] : after.finished;
  for (const [from, to] of all) {
    let at = Math.max(from, start);
    while (next < known.length && (known[next] as OffsetRange)[1] <= at) next += 1;
    for (let i = next; at < to; i++) {
      const range = known[i];
      const gapEnd = range === undefined ? to : Math.min(range[0], to);
      if (gapEnd > at) found.push([at, gapEnd]);
      if (range === undefined || range[0] >= to) break;
      at = Math.max(at, range[1]);
    }
  }
  return found;
}

export function isFinished(watermark: number, finished: readonly OffsetRange[], offset: number): boolean {
  if (offset < watermark) return true;
  let low = 0;
  let high = finished.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((finished[middle] as OffsetRange)[1] <= offset) low = middle + 1;
    else high = middle;
  }
  const range = finished[low];
  return range !== undefined && range[0] <= offset;
}
