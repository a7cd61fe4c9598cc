/** The gate of a group of a higher order, against a model that looks at one offset at a time. */
import { partitionKey, type TopicId } from '@naru/base';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { TopicGroup } from '../registry/topic-groups.ts';
import {
  gateOf,
  gateReason,
  gateView,
  hasHole,
  isReleased,
  MAX_GATE_HOLES,
  OPEN_GATE,
  sameGateView,
  type FindGroup,
  type Gate,
} from './gate.ts';
import type { OffsetRange } from './group-state.ts';

const PARTITION = partitionKey('00000001-0000-4000-8000-000000000000' as TopicId, 0);

interface Upstream {
  /** Null: nothing committed. */
  readonly offset: number | null;
  readonly finished?: readonly OffsetRange[];
  readonly held?: Readonly<Record<number, 'waiting' | 'dead'>>;
}

function finding(groups: Readonly<Record<string, Upstream>>): FindGroup {
  return (groupId) => {
    const group = groups[groupId];
    if (group === undefined) return undefined;
    const committed = { offset: group.offset ?? 0, finished: group.finished ?? [] };
    const events = Object.entries(group.held ?? {}).map(([at, state]) => [Number(at), { state }] as const);
    return {
      offsets: new Map(group.offset === null ? [] : [[PARTITION, committed]]),
      held: new Map(events.length === 0 ? [] : [[PARTITION, new Map(events)]]),
    };
  };
}

function declared(name: string, order: number, onDeadLetter: TopicGroup['onDeadLetter'] = 'withhold'): TopicGroup {
  return { name, order, afterDeadLetter: 'continue', onDeadLetter };
}

const STRICT: Gate = { upstream: ['a'], releasesDeadLetters: false };
const LENIENT: Gate = { upstream: ['a'], releasesDeadLetters: true };

describe('which groups a group waits for', () => {
  const groups = [declared('a', 1), declared('b', 1), declared('c', 5, 'release'), declared('d', 9)];

  it('is those of every lower order, with gaps in the numbers, and nobody of its own order', () => {
    expect(gateOf(groups, 'c')).toEqual({ upstream: ['a', 'b'], releasesDeadLetters: true });
    expect(gateOf(groups, 'd')).toEqual({ upstream: ['a', 'b', 'c'], releasesDeadLetters: false });
  });

  it('is nobody for groups of the first order, for those that are not declared, and where nobody has a lower order', () => {
    expect([gateOf(groups, 'a'), gateOf(groups, 'x'), gateOf([declared('d', 9)], 'd')]).toEqual([null, null, null]);
  });
});

describe('a gate', () => {
  it('stays closed while a group of a lower order has never committed', () => {
    expect(gateView(STRICT, PARTITION, 0, finding({}))).toEqual({ end: 0, holes: [] });
    const both: Gate = { upstream: ['a', 'b'], releasesDeadLetters: false };
    expect(gateView(both, PARTITION, 0, finding({ a: { offset: 10 } }))).toEqual({ end: 0, holes: [] });
  });

  it('releases finished ranges beyond the committed offset, around what is unfinished', () => {
    const find = finding({
      a: {
        offset: 3,
        finished: [
          [5, 7],
          [9, 10],
        ],
      },
    });
    expect(gateView(STRICT, PARTITION, 0, find)).toEqual({
      end: 10,
      holes: [
        [3, 5],
        [7, 9],
      ],
    });
  });

  it('releases nothing that waits upstream, and dead letters only to a group that says so', () => {
    const find = finding({ a: { offset: 6, held: { 1: 'waiting', 4: 'dead', 5: 'dead' } } });
    expect(gateView(STRICT, PARTITION, 0, find)).toEqual({ end: 4, holes: [[1, 2]] });
    expect(gateView(LENIENT, PARTITION, 0, find)).toEqual({ end: 6, holes: [[1, 2]] });
  });

  it('says why an event is not released, and by whom', () => {
    const gate: Gate = { upstream: ['a', 'b'], releasesDeadLetters: false };
    const find = finding({ a: { offset: 6, held: { 1: 'waiting', 4: 'dead' } }, b: { offset: 5, finished: [[6, 7]] } });
    expect([0, 1, 4, 5, 6].map((offset) => gateReason(gate, PARTITION, offset, find))).toEqual([
      null,
      { groupId: 'a', kind: 'retry' },
      { groupId: 'a', kind: 'dead-letter' },
      { groupId: 'b', kind: 'lag' },
      { groupId: 'a', kind: 'lag' },
    ]);
  });

  it('ends early rather than to list more holes than its limit', () => {
    const finished = Array.from({ length: MAX_GATE_HOLES + 5 }, (_, index): OffsetRange => [
      2 * index + 1,
      2 * index + 2,
    ]);
    const view = gateView(STRICT, PARTITION, 0, finding({ a: { offset: 0, finished } }));
    expect([view.holes.length, view.end, view.isCut]).toEqual([MAX_GATE_HOLES, 2 * MAX_GATE_HOLES, true]);
    const held = Object.fromEntries(
      Array.from({ length: 2 * MAX_GATE_HOLES }, (_, index) => [3 * index, 'dead' as const]),
    );
    const dead = finding({ a: { offset: 10 * MAX_GATE_HOLES, held } });
    expect(gateView(STRICT, PARTITION, 0, dead)).toMatchObject({ end: 3 * MAX_GATE_HOLES, isCut: true });
    // Whoever has come so far asks for the rest.
    const rest = gateView(STRICT, PARTITION, 3 * MAX_GATE_HOLES, dead);
    expect([rest.holes.length, rest.end, rest.isCut]).toEqual([MAX_GATE_HOLES, 10 * MAX_GATE_HOLES, undefined]);
  });

  it('agrees with a model that looks at one offset at a time', () => {
    const END = 40;
    const bits = fc.array(fc.boolean(), { minLength: END, maxLength: END });
    const states = fc.dictionary(
      fc.integer({ min: 0, max: END - 1 }).map(String),
      fc.constantFrom('waiting' as const, 'dead' as const),
      { maxKeys: 6 },
    );
    const upstream = fc.record({ done: fc.option(bits, { freq: 8 }), held: states });
    const all = fc.array(upstream, { minLength: 1, maxLength: 3 });
    fc.assert(
      fc.property(all, fc.boolean(), fc.integer({ min: 0, max: END }), (groups, releasesDeadLetters, from) => {
        const names = groups.map((_, index) => `g${index}`);
        const find = finding(
          Object.fromEntries(groups.map(({ done, held }, index) => [`g${index}`, { ...committedOf(done), held }])),
        );
        const gate: Gate = { upstream: names, releasesDeadLetters };
        const view = gateView(gate, PARTITION, from, find);
        const model = (offset: number): boolean =>
          groups.every(({ done, held }) => {
            const state = held[String(offset)];
            if (state === 'waiting' || (state === 'dead' && !releasesDeadLetters)) return false;
            return done !== null && done[offset] === true;
          });
        for (let offset = from; offset < END; offset++) {
          expect(isReleased(view, offset), `offset ${offset}`).toBe(model(offset));
          expect(gateReason(gate, PARTITION, offset, find) === null).toBe(model(offset));
          expect(hasHole(view, offset, offset + 1)).toBe(!model(offset));
        }
        for (const [index, [start, stop]] of view.holes.entries()) {
          expect(stop).toBeGreaterThan(start);
          expect(stop).toBeLessThan(view.holes[index + 1]?.[0] ?? view.end);
        }
        expect(sameGateView(view, structuredClone(view))).toBe(true);
        expect(sameGateView(view, OPEN_GATE)).toBe(false);
      }),
      { numRuns: 500 },
    );
  });
});

/** What a group commits that has finished these offsets. */
function committedOf(done: readonly boolean[] | null): Upstream {
  if (done === null) return { offset: null };
  const finished: [number, number][] = [];
  let offset = 0;
  while (done[offset] === true) offset += 1;
  for (let at = offset; at < done.length; at++) {
    if (done[at] !== true) continue;
    const last = finished.at(-1);
    if (last !== undefined && last[1] === at) last[1] = at + 1;
    else finished.push([at, at + 1]);
  }
  return { offset, finished };
}
