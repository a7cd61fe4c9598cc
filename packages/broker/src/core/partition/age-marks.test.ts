import { describe, expect, it } from 'vitest';
import { AgeMarks, MAX_AGE_MARKS } from './age-marks.ts';

const HOUR = 3_600_000;

describe('age marks', () => {
  it('know nothing of what was stored before the first', () => {
    expect(new AgeMarks().storedBefore(1_000, 5)).toBe(5);
  });

  it('tell what was surely stored by a time', () => {
    const marks = new AgeMarks();
    marks.note(10, 1_000, HOUR);
    marks.note(20, 1_000 + HOUR, HOUR);
    expect(marks.storedBefore(999, 0)).toBe(0);
    expect(marks.storedBefore(1_000, 0)).toBe(10);
    expect(marks.storedBefore(1_000 + HOUR, 0)).toBe(20);
  });

  it('never say too much, and lag behind by a thirtieth of the span at most', () => {
    const marks = new AgeMarks();
    const stored: [offset: number, atMs: number][] = [];
    let offset = 0;
    for (let now = 0; now <= 3 * HOUR; now += 10_000) {
      offset += 1 + (now % 7);
      stored.push([offset, now]);
      marks.note(offset, now, HOUR);
      marks.deletedBefore(marks.storedBefore(now - HOUR, 0));
      expect(marks.all.length).toBeLessThanOrEqual(MAX_AGE_MARKS);
      const asked = now - HOUR / 2;
      const exact = stored.findLast(([, atMs]) => atMs <= asked)?.[0] ?? 0;
      const told = marks.storedBefore(asked, 0);
      expect(told).toBeLessThanOrEqual(exact);
      const late = stored.findLast(([, atMs]) => atMs <= asked - HOUR / 30 - 10_000)?.[0] ?? 0;
      expect(told).toBeGreaterThanOrEqual(late);
    }
  });

  it('keep the oldest when the span gets shorter', () => {
    const marks = new AgeMarks();
    for (let i = 1; i <= 500; i++) marks.note(i, i * 1_000, 1_000);
    expect(marks.all.length).toBeLessThanOrEqual(MAX_AGE_MARKS);
    expect(marks.all[0]).toEqual({ offset: 1, atMs: 1_000 });
    expect(marks.all.at(-1)).toEqual({ offset: 500, atMs: 500_000 });
  });

  it('take no mark from a clock that went back', () => {
    const marks = new AgeMarks();
    marks.note(10, 5_000, HOUR);
    marks.note(20, 4_000, HOUR);
    expect(marks.storedBefore(4_500, 0)).toBe(0);
  });

  it('follow truncation and deletion', () => {
    const marks = new AgeMarks([
      { offset: 10, atMs: 1_000 },
      { offset: 20, atMs: 2_000 },
      { offset: 30, atMs: 3_000 },
    ]);
    marks.truncated(15);
    expect(marks.all).toEqual([
      { offset: 10, atMs: 1_000 },
      { offset: 15, atMs: 2_000 },
    ]);
    marks.deletedBefore(10);
    expect(marks.all).toEqual([{ offset: 15, atMs: 2_000 }]);
  });
});
