import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { WatermarkTracker } from './watermark-tracker.ts';

describe('a watermark', () => {
  it('moves with what is finished in order', () => {
    const tracker = new WatermarkTracker(10);
    for (const offset of [10, 11, 12]) tracker.begin(offset);
    tracker.finish(10);
    tracker.finish(11);
    expect([tracker.watermark, tracker.position, tracker.ranges]).toEqual([12, 13, []]);
  });

  it('stays at the first unfinished event, and keeps what is finished beyond it as ranges', () => {
    const tracker = new WatermarkTracker(0);
    for (let offset = 0; offset < 10; offset++) tracker.begin(offset);
    for (const offset of [3, 1, 4, 7, 2]) tracker.finish(offset);
    expect([tracker.watermark, tracker.ranges]).toEqual([
      0,
      [
        { from: 1, to: 5 },
        { from: 7, to: 8 },
      ],
    ]);
    tracker.finish(0);
    expect([tracker.watermark, tracker.ranges]).toEqual([5, [{ from: 7, to: 8 }]]);
  });

  it('passes over offsets that do not exist and events that an earlier owner finished', () => {
    const tracker = new WatermarkTracker(5, [
      { from: 7, to: 9 },
      { from: 20, to: 30 },
    ]);
    expect([4, 5, 7, 8, 9, 20, 30].filter((offset) => tracker.isFinished(offset))).toEqual([4, 7, 8, 20]);
    tracker.begin(5);
    tracker.begin(10); // 6 and 9 were compacted away
    tracker.finish(5);
    expect([tracker.watermark, tracker.ranges]).toEqual([10, [{ from: 20, to: 30 }]]);
    tracker.finish(10);
    tracker.skipTo(20);
    expect([tracker.watermark, tracker.position, tracker.ranges]).toEqual([30, 30, []]);
  });

  it('takes nothing up twice', () => {
    const tracker = new WatermarkTracker(0);
    tracker.begin(3);
    expect(() => tracker.begin(3)).toThrow(/in order/);
    expect(() => tracker.finish(4)).toThrow(/begun/);
  });

  it('has a new version exactly when there is something new to commit', () => {
    const tracker = new WatermarkTracker(0, [{ from: 5, to: 6 }]);
    expect(tracker.version).toBe(0);
    tracker.begin(0);
    expect(tracker.version).toBe(0);
    tracker.finish(0);
    expect(tracker.version).toBe(1);
  });

  it('agrees with a plain set for any order of finishing', () => {
    const offsets = fc.uniqueArray(fc.integer({ min: 0, max: 60 }), { minLength: 1, maxLength: 40 });
    fc.assert(
      fc.property(offsets, fc.infiniteStream(fc.nat()), (existing, order) => {
        const tracker = new WatermarkTracker(0);
        const begun = existing.toSorted((a, b) => a - b);
        for (const offset of begun) tracker.begin(offset);
        const end = (begun.at(-1) ?? 0) + 1;
        const open = new Set(begun);
        while (open.size > 0) {
          const pick = [...open][(order.next().value as number) % open.size] as number;
          tracker.finish(pick);
          open.delete(pick);
          const unfinished = [...open].toSorted((a, b) => a - b);
          expect(tracker.watermark).toBe(unfinished[0] ?? end);
          for (let offset = 0; offset < end; offset++) expect(tracker.isFinished(offset)).toBe(!open.has(offset));
          for (const [index, range] of tracker.ranges.entries()) {
            expect(range.from).toBeGreaterThan(tracker.ranges[index - 1]?.to ?? tracker.watermark);
            expect(range.to).toBeGreaterThan(range.from);
          }
        }
      }),
      { numRuns: 200 },
    );
  });
});
