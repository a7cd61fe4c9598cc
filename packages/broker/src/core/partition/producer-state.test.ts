import { describe, expect, it } from 'vitest';
import { advanceSequence, decideSequence, evolveProducer, type ProducerState } from './producer-state.ts';

const MAX_SEQUENCE = 2 ** 31 - 1;

function claim(baseSequence: number, recordCount = 10, producerEpoch = 0) {
  return { producerId: 7, producerEpoch, baseSequence, lastOffsetDelta: recordCount - 1 };
}

/** A producer that wrote these batches, one after the other from offset 100 on. */
function given(...batches: [baseSequence: number, recordCount?: number, epoch?: number][]): ProducerState {
  let state: ProducerState | undefined;
  let offset = 100;
  for (const [baseSequence, recordCount = 10, epoch = 0] of batches) {
    state = evolveProducer(state, claim(baseSequence, recordCount, epoch), offset, 0);
    offset += recordCount;
  }
  return state as ProducerState;
}

describe('a producer that the partition does not know', () => {
  it('may begin at sequence 0', () => {
    expect(decideSequence(undefined, claim(0))).toEqual({ kind: 'append' });
  });

  it('may not begin in the middle, since what came before could be lost', () => {
    expect(decideSequence(undefined, claim(10))).toMatchObject({ kind: 'refused', code: 'UNKNOWN_PRODUCER_ID' });
  });

  it('needs an epoch and a sequence', () => {
    expect(decideSequence(undefined, claim(-1))).toMatchObject({ kind: 'refused', code: 'INVALID_RECORD' });
    expect(decideSequence(undefined, claim(0, 1, -1))).toMatchObject({ kind: 'refused', code: 'INVALID_RECORD' });
  });
});

describe('a known producer', () => {
  it('goes on with the next sequence', () => {
    expect(decideSequence(given([0], [10]), claim(20))).toEqual({ kind: 'append' });
  });

  it('gets the first offset again for each of its last five batches', () => {
    const state = given([0], [10], [20], [30], [40], [50]);
    for (const [sequence, baseOffset] of [
      [10, 110],
      [20, 120],
      [30, 130],
      [40, 140],
      [50, 150],
    ] as const) {
      expect(decideSequence(state, claim(sequence))).toEqual({ kind: 'duplicate', baseOffset });
    }
  });

  it('is told when what it repeats is too old to tell where it is', () => {
    const state = given([0], [10], [20], [30], [40], [50]);
    expect(decideSequence(state, claim(0))).toMatchObject({ kind: 'refused', code: 'DUPLICATE_SEQUENCE_NUMBER' });
  });

  it('is refused when it repeats with other bounds', () => {
    const state = given([0], [10], [20], [30], [40], [50]);
    for (const claimed of [claim(10, 5), claim(11), claim(45, 20), claim(5, 10)]) {
      expect(decideSequence(state, claimed)).toMatchObject({ kind: 'refused', code: 'OUT_OF_ORDER_SEQUENCE_NUMBER' });
    }
  });

  it('is refused when it skips', () => {
    expect(decideSequence(given([0]), claim(11))).toMatchObject({
      kind: 'refused',
      code: 'OUT_OF_ORDER_SEQUENCE_NUMBER',
    });
  });

  it('wraps its sequence from 2³¹−1 to 0', () => {
    const state = given([0], [MAX_SEQUENCE - 4, 5]);
    expect(advanceSequence(MAX_SEQUENCE, 1)).toBe(0);
    expect(decideSequence(state, claim(0, 3))).toEqual({ kind: 'append' });
    const across = given([MAX_SEQUENCE - 1, 4]);
    expect(across.batches.at(-1)).toMatchObject({ firstSequence: MAX_SEQUENCE - 1, lastSequence: 1 });
    expect(decideSequence(across, claim(2))).toEqual({ kind: 'append' });
    expect(decideSequence(across, claim(MAX_SEQUENCE - 1, 4))).toEqual({ kind: 'duplicate', baseOffset: 100 });
  });

  it('begins a new epoch at sequence 0, which forgets the batches of the old one', () => {
    const state = given([0], [10]);
    expect(decideSequence(state, claim(0, 10, 1))).toEqual({ kind: 'append' });
    expect(decideSequence(state, claim(20, 10, 1))).toMatchObject({ code: 'OUT_OF_ORDER_SEQUENCE_NUMBER' });
    const next = evolveProducer(state, claim(0, 10, 1), 500, 0);
    expect(next).toMatchObject({ epoch: 1, batches: [{ firstSequence: 0, baseOffset: 500 }] });
  });

  it('is fenced when it comes with an old epoch', () => {
    expect(decideSequence(given([0, 10, 3]), claim(0, 10, 2))).toMatchObject({
      kind: 'refused',
      code: 'INVALID_PRODUCER_EPOCH',
    });
  });
});
