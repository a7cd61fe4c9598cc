import type { Clock, Timers } from '@naru/base';
import { expect, it } from 'vitest';
import { KeyedTimers } from './keyed-timers.ts';

/** A clock and timers that move by hand; counts how often a platform timer is set. */
function handDriven() {
  let nowMs = 0;
  let set = 0;
  const pending = new Map<number, { dueMs: number; callback: () => void }>();
  const clock: Clock = { nowMs: () => nowMs, monotonicMs: () => nowMs };
  const timers: Timers = {
    after(delayMs, callback) {
      const id = set++;
      pending.set(id, { dueMs: nowMs + delayMs, callback });
      return { cancel: () => pending.delete(id) };
    },
  };
  const advance = (ms: number): void => {
    const untilMs = nowMs + ms;
    for (;;) {
      const next = [...pending]
        .filter(([, { dueMs }]) => dueMs <= untilMs)
        .sort(([, a], [, b]) => a.dueMs - b.dueMs)[0];
      if (next === undefined) break;
      nowMs = next[1].dueMs;
      pending.delete(next[0]);
      next[1].callback();
    }
    nowMs = untilMs;
  };
  return { clock, timers, advance, setCount: () => set, pendingCount: () => pending.size };
}

function create() {
  const driven = handDriven();
  const fired: string[] = [];
  const keyed = new KeyedTimers(driven.clock, driven.timers, (key) => fired.push(key));
  return { ...driven, fired, keyed };
}

it('fires once, when the delay is over', () => {
  const { keyed, fired, advance } = create();
  keyed.set('a', 100);
  advance(99);
  expect(fired).toEqual([]);
  advance(1);
  expect(fired).toEqual(['a']);
  advance(1_000);
  expect(fired).toEqual(['a']);
  expect(keyed.size).toBe(0);
});

it('moves a deadline later without setting a platform timer for each move', () => {
  const { keyed, fired, advance, setCount } = create();
  keyed.set('session', 100);
  for (let i = 0; i < 90; i++) {
    advance(1);
    keyed.set('session', 100);
  }
  expect(setCount()).toBe(1);
  advance(99);
  expect(fired).toEqual([]);
  advance(1);
  expect(fired).toEqual(['session']);
});

it('moves a deadline earlier', () => {
  const { keyed, fired, advance } = create();
  keyed.set('a', 1_000);
  keyed.set('a', 10);
  advance(10);
  expect(fired).toEqual(['a']);
  advance(2_000);
  expect(fired).toEqual(['a']);
});

it('does not fire what was cancelled', () => {
  const { keyed, fired, advance, pendingCount } = create();
  keyed.set('a', 10);
  keyed.set('b', 10);
  keyed.cancel('a');
  advance(20);
  expect(fired).toEqual(['b']);
  keyed.set('c', 10);
  keyed.cancelAll();
  expect(pendingCount()).toBe(0);
});
