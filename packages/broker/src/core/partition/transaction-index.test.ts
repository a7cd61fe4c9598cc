import { SeededRandom } from '@naru/testkit';
import { describe, expect, it, test } from 'vitest';
import { AbortedRecords, TransactionIndex, type AbortedTransaction } from './transaction-index.ts';

describe('the last stable offset', () => {
  it('is the high watermark when nothing is open', () => {
    expect(new TransactionIndex().lastStableOffset(7)).toBe(7);
  });

  it('lies before the first transaction that is open, whoever ended after it', () => {
    const index = new TransactionIndex();
    index.written(1, 3);
    index.written(2, 5);
    index.written(1, 6);
    index.ended(2, true, 8);
    expect(index.lastStableOffset(9)).toBe(3);
    index.ended(1, false, 9);
    expect(index.lastStableOffset(10)).toBe(10);
  });

  it('does not move before the marker is readable, and then for good', () => {
    const index = new TransactionIndex();
    index.written(1, 3);
    index.ended(1, true, 4);
    index.written(2, 5);
    index.ended(2, false, 6);
    expect([4, 5, 6, 7].map((highWatermark) => index.lastStableOffset(highWatermark))).toEqual([3, 5, 5, 7]);
  });

  it('is not concerned by the marker of a producer that wrote nothing', () => {
    const index = new TransactionIndex();
    index.ended(1, false, 4);
    expect(index.lastStableOffset(4)).toBe(4);
    expect(index.abortedIn(0, 10)).toEqual([]);
  });
});

describe('what was aborted', () => {
  it('is forgotten when nothing of it is left, but not for who was reading before', () => {
    const index = new TransactionIndex();
    for (const [first, marker] of [
      [0, 2],
      [3, 5],
    ] as const) {
      index.written(1, first);
      index.ended(1, false, marker);
    }
    const before = index.lookup();
    index.deletedBefore(2);
    expect(index.size).toBe(2);
    index.deletedBefore(3);
    expect(index.abortedIn(0, 10)).toEqual([{ producerId: 1, firstOffset: 3, lastOffset: 5 }]);
    expect(before(0, 10)).toHaveLength(2);
  });

  it('is open again when the log is cut off before its marker', () => {
    const index = new TransactionIndex();
    index.written(1, 0);
    index.written(2, 1);
    index.written(3, 3);
    index.ended(1, false, 4);
    index.ended(2, true, 5);
    index.truncated(2);
    expect(index.open).toEqual([
      { producerId: 1, firstOffset: 0 },
      { producerId: 2, firstOffset: 1 },
    ]);
    expect(index.abortedIn(0, 10)).toEqual([]);
  });

  it('counts as open for readers until its marker is readable', () => {
    const index = new TransactionIndex();
    index.written(1, 0);
    expect(index.outcomeOf(1, 0, 1)).toBe('open');
    index.ended(1, false, 1);
    expect([index.outcomeOf(1, 0, 1), index.outcomeOf(1, 0, 2)]).toEqual(['open', 'aborted']);
    index.written(1, 2);
    index.ended(1, true, 3);
    expect([index.outcomeOf(1, 2, 3), index.outcomeOf(1, 2, 4), index.outcomeOf(1, 0, 4)]).toEqual([
      'open',
      'committed',
      'aborted',
    ]);
  });
});

interface Written {
  readonly producerId: number;
  readonly firstOffset: number;
  outcome: 'open' | 'commit' | 'abort';
  markerOffset: number;
}

/** The same by looking at everything. */
class Model {
  readonly all: Written[] = [];
  start = 0;

  open(producerId: number): Written | undefined {
    return this.all.find((one) => one.producerId === producerId && one.outcome === 'open');
  }

  lastStableOffset(highWatermark: number): number {
    const pending = this.all.filter(({ outcome, markerOffset }) => outcome === 'open' || markerOffset >= highWatermark);
    return Math.min(highWatermark, ...pending.map(({ firstOffset }) => firstOffset));
  }

  abortedIn(from: number, to: number): AbortedTransaction[] {
    return this.all
      .filter(({ outcome, markerOffset }) => outcome === 'abort' && markerOffset >= Math.max(from, this.start))
      .filter(({ firstOffset }) => firstOffset < to)
      .map(({ producerId, firstOffset, markerOffset }) => ({ producerId, firstOffset, lastOffset: markerOffset }))
      .sort((a, b) => a.firstOffset - b.firstOffset);
  }
}

test.each(Array.from({ length: 20 }, (_, i) => i + 1))(
  'an index knows what looking at everything would find, also after a restart (seed %i)',
  (seed) => {
    const random = new SeededRandom(seed);
    const model = new Model();
    let index = new TransactionIndex();
    let end = 0;
    let highWatermark = 0;
    for (let step = 0; step < 300; step++) {
      const producerId = random.integer(5);
      const open = model.open(producerId);
      if (open === undefined || random.chance(0.3)) {
        index.written(producerId, end);
        if (open === undefined)
          model.all.push({ producerId, firstOffset: end, outcome: 'open', markerOffset: Infinity });
        end += 1 + random.integer(3);
      } else {
        const isCommit = random.chance(0.5);
        index.ended(producerId, isCommit, end);
        open.outcome = isCommit ? 'commit' : 'abort';
        open.markerOffset = end;
        end += 1;
      }
      if (random.chance(0.5)) highWatermark += random.integer(end - highWatermark + 1);
      if (random.chance(0.02))
        index.deletedBefore((model.start = Math.max(model.start, random.integer(highWatermark + 1))));
      if (random.chance(0.05)) {
        highWatermark = end;
        index = new TransactionIndex(index.open, index.aborted);
      }
      expect(index.lastStableOffset(highWatermark)).toBe(model.lastStableOffset(highWatermark));
      const from = Math.max(model.start, random.integer(end));
      const to = from + random.integer(end - from + 5);
      expect(index.abortedIn(from, to)).toEqual(model.abortedIn(from, to));
      if (step % 20 > 0) continue;
      const records = new AbortedRecords(model.abortedIn(model.start, end));
      for (const one of model.all) {
        if (one.firstOffset < model.start) continue;
        expect(records.has(one.producerId, one.firstOffset)).toBe(one.outcome === 'abort');
        expect(records.has(one.producerId + 10, one.firstOffset)).toBe(false);
      }
    }
  },
);
