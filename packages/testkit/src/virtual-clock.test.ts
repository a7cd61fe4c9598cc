import { describe, expect, it } from 'vitest';
import { SeededRandom } from './seeded-random.ts';
import { VirtualClock } from './virtual-clock.ts';

describe('VirtualClock', () => {
  it('fires timers in order of time, then of being set, each at its time', () => {
    const clock = new VirtualClock(1_000);
    const fired: string[] = [];
    const note = (name: string) => (): void => void fired.push(`${name}@${clock.nowMs()}`);
    clock.after(20, note('late'));
    clock.after(10, note('first'));
    clock.after(10, () => {
      note('second')();
      clock.after(5, note('chained'));
    });
    clock.after(15, note('cancelled')).cancel();
    clock.advance(9);
    expect(fired).toEqual([]);
    clock.advance(11);
    expect(fired).toEqual(['first@1010', 'second@1010', 'chained@1015', 'late@1020']);
    expect([clock.monotonicMs(), clock.pendingTimers]).toEqual([20, 0]);
    clock.jump(-500);
    expect([clock.nowMs(), clock.monotonicMs()]).toEqual([520, 20]);
  });
});

describe('SeededRandom', () => {
  it('gives the same stream for the same seed, evenly', () => {
    const [a, b] = [new SeededRandom(42), new SeededRandom(42)];
    expect([...a.bytes(20)]).toEqual([...b.bytes(20)]);
    expect(new SeededRandom(43).float()).not.toBe(new SeededRandom(42).float());
    for (const value of Array.from({ length: 1_000 }, () => a.float())) expect(value >= 0 && value < 1).toBe(true);
    const rolls = Array.from({ length: 10 }, () => 0);
    for (let i = 0; i < 10_000; i++) {
      const roll = a.integer(10);
      rolls[roll] = (rolls[roll] ?? 0) + 1;
    }
    for (const count of rolls) expect(Math.abs(count - 1_000)).toBeLessThan(150);
  });
});
