import { OutcomeKind } from '@naru/protocol/proto';
import { describe, expect, it } from 'vitest';
import type { TakenRecord } from './assigned-partition.ts';
import { NO_BATCH } from './open-batches.ts';
import { OutcomeBook } from './outcome-book.ts';
import type { Concluded, FinishedOutputs } from './outcome-book.ts';
import { WatermarkTracker } from './watermark-tracker.ts';

const outputsOf = (eventCount: number): FinishedOutputs => ({ events: [], sizeBytes: 100, eventCount });

function begun(offsets: readonly number[]): WatermarkTracker {
  const tracker = new WatermarkTracker(0);
  for (const offset of offsets) {
    if (offset > tracker.position) tracker.skipTo(offset);
    tracker.begin(offset);
  }
  return tracker;
}

function processed(offset: number, tracker: WatermarkTracker, order: number, outputs?: FinishedOutputs): Concluded {
  const taken = { record: { offset }, tracker, batch: { ...NO_BATCH } } as unknown as TakenRecord;
  const kind = OutcomeKind.PROCESSED;
  return { offset, keyId: `key-${offset}`, taken, kind, fields: {}, isPlain: true, order, outputs };
}

describe('a book of outcomes with outputs', () => {
  it('never says of a part of a call that it is finished, where all of it does not fit', () => {
    const tracker = begun([0, 1, 2, 3, 4, 5]);
    const book = new OutcomeBook();
    const outputs = outputsOf(2);
    // 0, 2 and 4 are at work, so that each of these is a range; two of which fit.
    book.conclude(processed(1, tracker, 1));
    book.conclude(processed(3, tracker, 2, outputs));
    book.conclude(processed(5, tracker, 2, outputs));
    expect(book.send(tracker, { maxRanges: 2 }).finished).toEqual([{ from: 1, to: 2 }]);
    expect(book.sent().map(({ offset }) => offset)).toEqual([1]);
  });

  it('counts no bytes of what is not in it any more', () => {
    const tracker = begun([0, 1]);
    const book = new OutcomeBook();
    book.conclude(processed(0, tracker, 1, outputsOf(1)));
    book.send(tracker, { maxRanges: 10 });
    const moved = begun([0]);
    book.refused(moved);
    expect(book.outputBytes).toBe(0);
    book.conclude(processed(0, moved, 2, outputsOf(1)));
    book.send(moved, { maxRanges: 10 });
    book.conclude({ ...processed(0, moved, 3, outputsOf(1)), taken: null });
    book.refused(moved);
    expect(book.outputBytes).toBe(100);
    expect(book.size).toBe(1);
  });
});
