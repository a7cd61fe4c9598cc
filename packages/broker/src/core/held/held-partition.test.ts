import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { HeldEvent } from './held-event.ts';
import { HeldPartition, MAX_KEY_CHANGES } from './held-partition.ts';

const EVENT: HeldEvent = {
  state: 'waiting',
  keyId: '',
  copyOffset: 0,
  attempts: 0,
  notBeforeMs: 0,
  reason: '',
  error: '',
  firstFailureMs: 0,
  lastFailureMs: 0,
  atMs: 0,
  redrives: 0,
  sizeBytes: 10,
};

/** The same, by looking at everything. */
function naive(events: ReadonlyMap<number, HeldEvent>, parks: boolean) {
  const sorted = [...events].sort(([a], [b]) => a - b);
  const isBlocked = (keyId: string): boolean =>
    sorted.some(([, event]) => event.keyId === keyId && (event.state === 'waiting' || parks));
  const keys = new Set(sorted.map(([, { keyId }]) => keyId).filter((keyId) => keyId !== ''));
  const deliverable = (nowMs: number, given: ReadonlySet<number>): number[] => {
    const busy = new Set([...given].map((offset) => events.get(offset)?.keyId ?? ''));
    return sorted
      .filter(([offset, { keyId, state, notBeforeMs }]) => {
        if (state !== 'waiting' || notBeforeMs > nowMs || given.has(offset)) return false;
        if (keyId === '') return true;
        const before = sorted.filter(([other, event]) => other < offset && event.keyId === keyId);
        const stops = before.some(([, event]) => event.state === 'waiting' || parks);
        return !stops && !busy.has(keyId);
      })
      .map(([offset]) => offset);
  };
  return { blocked: [...keys].filter(isBlocked).sort(), deliverable };
}

const STEP = fc.record({
  offset: fc.integer({ min: 0, max: 15 }),
  key: fc.constantFrom('', 'a', 'b', 'c'),
  state: fc.constantFrom<('waiting' | 'dead' | null)[]>('waiting', 'waiting', 'dead', null),
  notBeforeMs: fc.constantFrom(0, 0, 3, 6),
  atMs: fc.integer({ min: 0, max: 8 }),
  parks: fc.boolean(),
  switches: fc.boolean(),
  nowMs: fc.integer({ min: 0, max: 8 }),
  given: fc.array(fc.integer({ min: 0, max: 15 }), { maxLength: 3 }),
});

test('keys, and what may be given, are what a look at everything says', () => {
  fc.assert(
    fc.property(fc.array(STEP, { maxLength: 60 }), (steps) => {
      const held = new HeldPartition();
      const keys = new Map<number, string>();
      let parks = false;
      const known = new Set<string>();
      let version = 0;
      for (const { offset, key, state, notBeforeMs, atMs, nowMs, given: all, ...step } of steps) {
        if (step.switches) parks = step.parks;
        if (state === null) held.delete(offset);
        else {
          // An event has its key for good.
          const keyId = keys.get(offset) ?? key;
          keys.set(offset, keyId);
          held.set(offset, { ...EVENT, state, keyId, notBeforeMs, atMs });
        }
        const { blocked, deliverable } = naive(held, parks);
        expect(held.blockedKeys(parks).sort()).toEqual(blocked);
        expect(held.blockedCount(parks)).toBe(blocked.length);
        // A key that was told of as blocked and free again may have changed twice in between.
        const changes = held.keyChanges(version, parks);
        version = changes.version;
        if (changes.isWhole) known.clear();
        for (const keyId of changes.blocked) known.add(keyId);
        for (const keyId of changes.unblocked) known.delete(keyId);
        expect([...known].sort()).toEqual(blocked);
        const given = new Set(all);
        const expected = deliverable(nowMs, given);
        const found = held.deliverable(nowMs, parks, given, 100);
        expect(found.events.map(({ offset: at }) => at).sort((a, b) => a - b)).toEqual(expected);
        expect(held.deliverable(nowMs, parks, given, 1).events).toHaveLength(Math.min(1, expected.length));
        const later = naive(held, parks).deliverable(Infinity, given);
        const dueMs = found.nextDueMs ?? Infinity;
        for (const at of later) {
          const notBefore = held.get(at)?.notBeforeMs ?? 0;
          expect(notBefore <= nowMs || notBefore >= dueMs).toBe(true);
        }
        expect(held.waitingCount + held.deadCount).toBe(held.size);
        expect(held.sizeBytes).toBe(10 * held.size);
        expect(held.letters).toEqual(
          [...held].flatMap(([at, event]) => (event.state === 'dead' ? [at] : [])).sort((a, b) => a - b),
        );
      }
    }),
    { numRuns: 300, seed: 5 },
  );
});

test('who knows too old a version is told of all keys', () => {
  const held = new HeldPartition();
  held.set(0, { ...EVENT, keyId: 'first' });
  const { version } = held.keyChanges(-1, false);
  for (let turn = 0; turn < MAX_KEY_CHANGES; turn++) {
    held.set(1, { ...EVENT, keyId: 'other' });
    held.delete(1);
  }
  expect(held.keyChanges(version, false)).toMatchObject({ isWhole: true, blocked: ['first'] });
  const { version: newest } = held.keyChanges(version, false);
  held.delete(0);
  expect(held.keyChanges(newest, false)).toMatchObject({ isWhole: false, blocked: [], unblocked: ['first'] });
});

test('what waited longest comes first, so that no key waits for ever', () => {
  const held = new HeldPartition();
  held.set(0, { ...EVENT, keyId: 'late', atMs: 50 });
  held.set(1, { ...EVENT, keyId: 'early', atMs: 10 });
  held.set(2, { ...EVENT, keyId: 'retry', atMs: 60, notBeforeMs: 30 });
  const offsets = held.deliverable(100, false, new Set(), 3).events.map(({ offset }) => offset);
  expect(offsets).toEqual([1, 2, 0]);
});

test('giving many events costs no look at all of them', () => {
  const held = new HeldPartition();
  const count = 50_000;
  for (let offset = 0; offset < count; offset++)
    held.set(offset, { ...EVENT, keyId: `k${offset % 10_000}`, atMs: offset });
  let given = 0;
  for (let found = held.deliverable(count, true, new Set(), 64).events; found.length > 0;) {
    for (const { offset } of found) held.delete(offset);
    given += found.length;
    found = held.deliverable(count, true, new Set(), 64).events;
  }
  expect(given).toBe(count);
}, 10_000);
