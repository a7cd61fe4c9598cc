/**
 * The gate of a group of a higher order: which events of a partition every declared group of a lower order has finished.
 *
 * Owns what counts as finished upstream, and how that is told. Does not own order per key downstream, which needs the records
 * (service/gated-reading.ts), nor when a view is durable (runtime/gate-watches.ts).
 *
 * An event is released when each upstream group has it below its committed offset or in its finished ranges, and does not hold it:
 * not waiting to be handled again, and not dead unless the group downstream is declared with `on-dead-letter=release`. A group
 * that has committed nothing releases nothing, whether or not it has a member.
 */
import type { PartitionKey } from '@naru/base';
import type { TopicGroup } from '../registry/topic-groups.ts';
import type { HeldEvent } from '../held/held-event.ts';
import type { CommittedOffset, OffsetRange } from './group-state.ts';

/** What a group waits for on a topic. */
export interface Gate {
  /** Groups of a lower order, in the order of their declaration. At least one. */
  readonly upstream: readonly string[];
  readonly releasesDeadLetters: boolean;
}

/** What of a partition is released, from some offset on. */
export interface GateView {
  /** Nothing from here on is released. Infinity: everything is. */
  readonly end: number;
  /** Not released although others after them are: ascending, neither empty nor touching, below `end`. */
  readonly holes: readonly OffsetRange[];
  /** There are more holes than are listed, and `end` is before them: ask again from there on. Default: no. */
  readonly isCut?: boolean | undefined;
}

/** Why an event is not released. */
export interface GateReason {
  readonly groupId: string;
  /** `lag`: the group has not come so far, or handles it. `retry`: it failed there and waits. `dead-letter`: it is one there. */
  readonly kind: 'lag' | 'retry' | 'dead-letter';
}

/** Finds groups by id. */
export type FindGroup = (groupId: string) => GateSource | undefined;

/** What of a group's state gates go by. */
export interface GateSource {
  readonly offsets: ReadonlyMap<PartitionKey, Pick<CommittedOffset, 'offset' | 'finished'>>;
  readonly held: ReadonlyMap<PartitionKey, ReadonlyMap<number, Pick<HeldEvent, 'state'>>>;
}

/** Of a view; beyond it `end` comes earlier. A reader that is so far behind has more withheld than it may. */
export const MAX_GATE_HOLES = 10_000;

export const OPEN_GATE: GateView = { end: Infinity, holes: [] };

/** Null when the group waits for nobody. */
export function gateOf(groups: readonly TopicGroup[], groupId: string): Gate | null {
  const own = groups.find(({ name }) => name === groupId);
  if (own === undefined || own.order === 1) return null;
  const upstream = groups.filter(({ order }) => order < own.order).map(({ name }) => name);
  return upstream.length === 0 ? null : { upstream, releasesDeadLetters: own.onDeadLetter === 'release' };
}

/** What the gate releases of the partition. @param from what is below is of no interest, and no hole */
export function gateView(gate: Gate, partition: PartitionKey, from: number, find: FindGroup): GateView {
  let view: GateView = OPEN_GATE;
  for (const groupId of gate.upstream) {
    const one = releasedBy(find(groupId), partition, from, gate.releasesDeadLetters);
    view = view === OPEN_GATE ? one : intersection(view, one);
    if (view.end <= from) break;
  }
  return bounded(view);
}

export function isReleased(view: GateView, offset: number): boolean {
  if (offset >= view.end) return false;
  const hole = view.holes[firstEndingAfter(view.holes, offset)];
  return hole === undefined || hole[0] > offset;
}

/** Whether some of the offsets from `from` up to, without, `to` are not released. */
export function hasHole(view: GateView, from: number, to: number): boolean {
  if (to > view.end) return true;
  const hole = view.holes[firstEndingAfter(view.holes, from)];
  return hole !== undefined && hole[0] < to;
}

export function sameGateView(a: GateView, b: GateView): boolean {
  return (
    a.end === b.end &&
    a.holes.length === b.holes.length &&
    a.holes.every(([from, to], index) => b.holes[index]?.[0] === from && b.holes[index][1] === to)
  );
}

/** The first upstream group that has not finished an event, and why; null when the event is released. */
export function gateReason(gate: Gate, partition: PartitionKey, offset: number, find: FindGroup): GateReason | null {
  for (const groupId of gate.upstream) {
    const group = find(groupId);
    const held = group?.held.get(partition)?.get(offset);
    if (held?.state === 'waiting') return { groupId, kind: 'retry' };
    if (held?.state === 'dead' && !gate.releasesDeadLetters) return { groupId, kind: 'dead-letter' };
    const committed = group?.offsets.get(partition);
    if (committed === undefined) return { groupId, kind: 'lag' };
    if (offset < committed.offset) continue;
    if (!committed.finished.some(([from, to]) => offset >= from && offset < to)) return { groupId, kind: 'lag' };
  }
  return null;
}

function releasedBy(
  group: ReturnType<FindGroup>,
  partition: PartitionKey,
  from: number,
  releasesDeadLetters: boolean,
): GateView {
  const committed = group?.offsets.get(partition);
  if (committed === undefined) return { end: 0, holes: [] };
  const unfinished: OffsetRange[] = [];
  let end = committed.offset;
  for (const [start, stop] of committed.finished) {
    if (stop <= from) {
      end = stop;
      continue;
    }
    unfinished.push([end, start]);
    end = stop;
  }
  const kept: number[] = [];
  for (const [offset, { state }] of group?.held.get(partition) ?? []) {
    if (offset >= from && offset < end && !(state === 'dead' && releasesDeadLetters)) kept.push(offset);
  }
  if (kept.length === 0) return trimmed(end, unfinished);
  // Numbers alone sort many times faster, and there may be a hundred thousand.
  const sorted = Float64Array.from(kept).sort();
  const cut = sorted[MAX_GATE_HOLES];
  const listed = Array.from(sorted.subarray(0, MAX_GATE_HOLES), (offset): OffsetRange => [offset, offset + 1]);
  const view = trimmed(cut ?? end, union(unfinished, listed));
  return cut === undefined ? view : { ...view, isCut: true };
}

function intersection(a: GateView, b: GateView): GateView {
  const end = Math.min(a.end, b.end);
  const both = trimmed(end, union(a.holes, b.holes));
  return a.isCut === true || b.isCut === true ? { ...both, isCut: true } : both;
}

/** Without what lies at the end or beyond: a hole that reaches the end is no hole. */
function trimmed(end: number, ascending: readonly OffsetRange[]): GateView {
  const holes = [...ascending];
  let to = end;
  for (let last = holes.at(-1); last !== undefined && last[1] >= to; last = holes.at(-1)) {
    to = Math.min(to, last[0]);
    holes.pop();
  }
  return { end: to, holes };
}

/** Both ascending. The result neither overlaps nor touches. */
function union(a: readonly OffsetRange[], b: readonly OffsetRange[]): OffsetRange[] {
  const merged: [number, number][] = [];
  for (let i = 0, j = 0; i < a.length || j < b.length;) {
    const left = a[i];
    const right = b[j];
    const takesLeft = right === undefined || (left !== undefined && left[0] <= right[0]);
    const [from, to] = (takesLeft ? left : right) as OffsetRange;
    if (takesLeft) i += 1;
    else j += 1;
    const last = merged.at(-1);
    if (last !== undefined && from <= last[1]) last[1] = Math.max(last[1], to);
    else merged.push([from, to]);
  }
  return merged;
}

function bounded(view: GateView): GateView {
  const first = view.holes[MAX_GATE_HOLES];
  return first === undefined ? view : { end: first[0], holes: view.holes.slice(0, MAX_GATE_HOLES), isCut: true };
}

/** Index of the first range that ends after `offset`. */
function firstEndingAfter(ranges: readonly OffsetRange[], offset: number): number {
  let low = 0;
  let high = ranges.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((ranges[middle] as OffsetRange)[1] > offset) high = middle;
    else low = middle + 1;
  }
  return low;
}
