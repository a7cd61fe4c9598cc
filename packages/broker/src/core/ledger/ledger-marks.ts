/**
 * Where the ledger has what a group did in a partition: an index of a few dozen intervals of the ledger's offsets, each
 * with the range of event offsets that is named in it. A look-up reads only the intervals that may name the event, so that
 * the ledger is never loaded whole.
 *
 * The newest interval is open. Its bounds are set ahead, so that marks are written once for thousands of events and not with
 * each commit; what lies outside widens it or begins the next one.
 *
 * Invariants: marks ascend by ledger offset; never more than {@link MAX_LEDGER_MARKS}; every entry for the partition since the
 * first mark lies inside the bounds of the interval that holds it.
 */
import type { OffsetRange } from './newly-finished.ts';

export const MAX_LEDGER_MARKS = 64;
/** Event offsets of an interval at least. */
const MIN_SPAN = 4_096;
/** Records of the ledger's partition, of whatever group, after which the next interval begins, at the latest. */
const MAX_INTERVAL_RECORDS = 20_000;

/** From this ledger offset up to the next mark's, entries name event offsets from `low` (inclusive) to `high` only. */
export interface LedgerMark {
  readonly ledgerOffset: number;
  readonly low: number;
  readonly high: number;
  /** When the interval began. */
  readonly atMs: number;
}

export interface LedgerMarks {
  /** Oldest first. */
  readonly marks: readonly LedgerMark[];
}

/**
 * @param touched event offsets that the entry at `ledgerOffset` names, from the first to after the last
 * @param keepMs how long the ledger keeps entries
 * @returns what has to be written; null when the marks say it already
 */
export function noteLedgerEntry(
  before: LedgerMarks | undefined,
  ledgerOffset: number,
  touched: OffsetRange,
  nowMs: number,
  keepMs: number,
): LedgerMarks | null {
  const [from, to] = touched;
  const marks = before?.marks ?? [];
  const open = marks.at(-1);
  const isOld = open !== undefined && ledgerOffset - open.ledgerOffset >= MAX_INTERVAL_RECORDS;
  if (open !== undefined && !isOld && to <= open.high) {
    if (from >= open.low) return null;
    // What is redriven or read again lies below: one wider interval, not many narrow ones.
    return { marks: [...marks.slice(0, -1), { ...open, low: from }] };
  }
  const kept = marks.filter((_, index) => (marks[index + 1]?.atMs ?? nowMs) + keepMs >= nowMs);
  const span = Math.max(MIN_SPAN, Math.ceil((to - Math.min(from, kept[0]?.low ?? from)) / (MAX_LEDGER_MARKS / 2)));
  const next = { ledgerOffset, low: from, high: Math.max(to, from + span), atMs: nowMs };
  const all = [...kept, next];
  return { marks: all.length > MAX_LEDGER_MARKS ? mergePairs(all) : all };
}

/** Intervals of the ledger that may name the event, oldest first; the end of the open one is null. */
export function ledgerPlaces(
  marks: LedgerMarks | undefined,
  offset: number,
): (readonly [from: number, to: number | null])[] {
  const found: [number, number | null][] = [];
  for (const [index, { ledgerOffset, low, high }] of (marks?.marks ?? []).entries()) {
    if (offset < low || offset >= high) continue;
    const end = marks?.marks[index + 1]?.ledgerOffset ?? null;
    const last = found.at(-1);
    if (last?.[1] === ledgerOffset) last[1] = end;
    else found.push([ledgerOffset, end]);
  }
  return found;
}

/** Every two become one, but the newest, which is open. */
function mergePairs(marks: readonly LedgerMark[]): LedgerMark[] {
  const merged: LedgerMark[] = [];
  for (let i = 0; i < marks.length - 1; i += 2) {
    const [first, second] = [marks[i] as LedgerMark, marks[i + 1] as LedgerMark];
    if (i + 1 === marks.length - 1) {
      merged.push(first);
      break;
    }
    merged.push({ ...first, low: Math.min(first.low, second.low), high: Math.max(first.high, second.high) });
  }
  merged.push(marks.at(-1) as LedgerMark);
  return merged;
}
