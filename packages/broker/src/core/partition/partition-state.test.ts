import {
  encodeBatch,
  encodeControlMarker,
  readBatchHeader,
  setBatchOffsets,
  type BatchHeader,
  type EncodeBatchOptions,
} from '@naru/protocol/batch';
import { partitionKey, type TopicId } from '@naru/base';
import { describe, expect, it } from 'vitest';
import {
  decideAppend,
  epochAt,
  epochEnd,
  evolveAppend,
  evolveDeletedBefore,
  evolveTruncated,
  lastStableOffset,
  leaderEpoch,
  markerIn,
  newPartitionState,
  PRODUCER_EXPIRY_MS,
  type PartitionState,
} from './partition-state.ts';

const KEY = partitionKey('11111111-1111-4111-8111-111111111111' as TopicId, 0);
const LIMITS = { maxBatchBytes: 10_000, maxProducers: 2 };
const NOW = 1_700_000_000_000;

function header(count: number, options: EncodeBatchOptions = {}): BatchHeader {
  const records = Array.from({ length: count }, () => ({ key: null, value: new Uint8Array(10), timestampMs: 5 }));
  return readBatchHeader(encodeBatch(records, options));
}

function append(state: PartitionState, count: number, options: EncodeBatchOptions = {}, nowMs = NOW): void {
  const batch = header(count, { partitionLeaderEpoch: 0, ...options });
  const decision = decideAppend(state, batch, nowMs, LIMITS);
  if (decision.kind !== 'append') throw new Error(`refused: ${JSON.stringify(decision)}`);
  evolveAppend(state, batch, null, decision.baseOffset, nowMs);
}

describe('appending', () => {
  it('gives each batch the offset after the one before', () => {
    const state = newPartitionState(KEY, 40);
    expect(decideAppend(state, header(3), NOW, LIMITS)).toEqual({ kind: 'append', baseOffset: 40 });
    append(state, 3);
    expect(decideAppend(state, header(1), NOW, LIMITS)).toEqual({ kind: 'append', baseOffset: 43 });
  });

  it('decides without changing anything', () => {
    const state = newPartitionState(KEY);
    const before = structuredClone(state);
    decideAppend(state, header(3, { producerId: 1, producerEpoch: 0, baseSequence: 0 }), NOW, LIMITS);
    expect(state).toEqual(before);
  });

  it('refuses a batch beyond the size limit, and says both sizes', () => {
    const decision = decideAppend(newPartitionState(KEY), header(1_000), NOW, LIMITS);
    expect(decision).toMatchObject({ kind: 'refused', code: 'RECORD_TOO_LARGE' });
    expect((decision as { message: string }).message).toMatch(/\d+ bytes, the limit is 10000/);
  });

  it('refuses control batches and offsets that do not fit the number of records', () => {
    const state = newPartitionState(KEY);
    const batch = header(2);
    expect(decideAppend(state, { ...batch, isControl: true }, NOW, LIMITS)).toMatchObject({ code: 'INVALID_RECORD' });
    expect(decideAppend(state, { ...batch, lastOffsetDelta: 5 }, NOW, LIMITS)).toMatchObject({
      code: 'INVALID_RECORD',
    });
  });
});

describe('producers of a partition', () => {
  const from = (producerId: number, baseSequence: number) => ({ producerId, producerEpoch: 0, baseSequence });

  it('get their offset again when they repeat a batch', () => {
    const state = newPartitionState(KEY);
    append(state, 5);
    append(state, 2, from(1, 0));
    expect(decideAppend(state, header(2, from(1, 0)), NOW, LIMITS)).toEqual({ kind: 'duplicate', baseOffset: 5 });
  });

  it('go on where they were after any time of silence, while nobody needs their place', () => {
    const state = newPartitionState(KEY);
    append(state, 2, from(1, 0));
    const late = NOW + PRODUCER_EXPIRY_MS + 1;
    expect(decideAppend(state, header(1, from(1, 2)), late, LIMITS)).toMatchObject({ kind: 'append' });
    expect(decideAppend(state, header(2, from(1, 0)), late, LIMITS)).toEqual({ kind: 'duplicate', baseOffset: 0 });
    expect(decideAppend(state, header(1, from(1, 5)), NOW, LIMITS)).toMatchObject({
      code: 'OUT_OF_ORDER_SEQUENCE_NUMBER',
    });
    expect(decideAppend(state, header(1, from(1, 5)), late, LIMITS)).toMatchObject({ code: 'UNKNOWN_PRODUCER_ID' });
  });

  it('are forgotten when others need their place, a day after they last wrote by the broker’s clock', () => {
    const state = newPartitionState(KEY);
    append(state, 2, from(1, 0));
    append(state, 1, from(2, 0), NOW + 1);
    const isFull = { code: 'TOO_MANY_PRODUCERS' };
    expect(decideAppend(state, header(1, from(3, 0)), NOW + PRODUCER_EXPIRY_MS, LIMITS)).toMatchObject(isFull);
    append(state, 1, from(3, 0), NOW + PRODUCER_EXPIRY_MS + 1);
    expect(decideAppend(state, header(1, from(1, 2)), NOW + PRODUCER_EXPIRY_MS + 1, LIMITS)).toMatchObject({
      code: 'UNKNOWN_PRODUCER_ID',
    });
  });

  it('are limited in number; those that expired make room', () => {
    const state = newPartitionState(KEY);
    append(state, 1, from(1, 0));
    append(state, 1, from(2, 0));
    expect(decideAppend(state, header(1, from(3, 0)), NOW, LIMITS)).toMatchObject({ code: 'TOO_MANY_PRODUCERS' });
    append(state, 1, from(3, 0), NOW + PRODUCER_EXPIRY_MS + 1);
    expect([...state.producers.keys()]).toEqual([3]);
  });
});

describe('the table of leader epochs', () => {
  it('notes the first offset of each epoch that wrote', () => {
    const state = newPartitionState(KEY);
    append(state, 2, { partitionLeaderEpoch: 1 });
    append(state, 2, { partitionLeaderEpoch: 1 });
    append(state, 2, { partitionLeaderEpoch: 4 });
    expect(state.epochs).toEqual([
      { epoch: 1, startOffset: 0 },
      { epoch: 4, startOffset: 4 },
    ]);
    expect(leaderEpoch(state)).toBe(4);
  });

  it('loses what is truncated, and what is deleted before the log start', () => {
    const state = newPartitionState(KEY);
    for (const epoch of [1, 2, 3])
      append(
        state,
        2,
        { partitionLeaderEpoch: epoch, producerId: epoch, producerEpoch: 0, baseSequence: 0 },
        NOW + epoch * (PRODUCER_EXPIRY_MS + 1),
      );
    evolveTruncated(state, 4);
    expect(state.epochs.map(({ epoch }) => epoch)).toEqual([1, 2]);
    expect(state.endOffset).toBe(4);
    evolveDeletedBefore(state, 3);
    expect(state.epochs).toEqual([{ epoch: 2, startOffset: 2 }]);
    expect(state.logStartOffset).toBe(3);
  });
});

describe('leader epochs', () => {
  /** Offsets 0 to 2 in epoch 1, 3 and 4 in epoch 4, none yet in epoch 6, which is in force. */
  function written(): PartitionState {
    const state = newPartitionState(KEY);
    append(state, 3, { partitionLeaderEpoch: 1 });
    append(state, 2, { partitionLeaderEpoch: 4 });
    return state;
  }

  it('end where the next one began, or where the log ends', () => {
    const ends = [0, 1, 2, 3, 4, 5, 6, 7].map((epoch) => epochEnd(written(), epoch, 6));
    expect(ends).toEqual([
      { epoch: 0, endOffset: 0 },
      { epoch: 1, endOffset: 3 },
      { epoch: 1, endOffset: 3 },
      { epoch: 1, endOffset: 3 },
      { epoch: 4, endOffset: 5 },
      { epoch: 4, endOffset: 5 },
      { epoch: 6, endOffset: 5 },
      null,
    ]);
  });

  it('never end below the log start', () => {
    const state = written();
    evolveDeletedBefore(state, 4);
    expect(epochEnd(state, 1, 6)?.endOffset).toBeGreaterThanOrEqual(4);
  });

  it('are known for every offset in the log', () => {
    expect([0, 2, 3, 4, 5].map((offset) => epochAt(written(), offset))).toEqual([1, 1, 4, 4, undefined]);
  });
});

describe('transactions of a partition', () => {
  const part = (producerId: number, baseSequence: number, producerEpoch = 0) => ({
    producerId,
    producerEpoch,
    baseSequence,
    isTransactional: true,
  });

  function mark(state: PartitionState, producerId: number, producerEpoch: number, type: 'commit' | 'abort'): void {
    const batch = encodeControlMarker({ type, coordinatorEpoch: 0, producerId, producerEpoch, timestampMs: NOW });
    setBatchOffsets(batch, state.endOffset, 0);
    const read = readBatchHeader(batch);
    evolveAppend(state, read, markerIn(batch, read), state.endOffset, NOW);
  }

  it('hold back what is stable from their first record on, until their marker is readable', () => {
    const state = newPartitionState(KEY);
    append(state, 2);
    append(state, 1, part(1, 0));
    append(state, 1);
    expect(lastStableOffset(state, 4)).toBe(2);
    mark(state, 1, 1, 'commit');
    expect([lastStableOffset(state, 4), lastStableOffset(state, 5)]).toEqual([2, 5]);
  });

  it('end what there is to read before a marker that nothing follows', () => {
    const state = newPartitionState(KEY);
    append(state, 2, part(1, 0));
    expect(state.dataEndOffset).toBe(2);
    mark(state, 1, 1, 'abort');
    expect([state.dataEndOffset, state.endOffset]).toEqual([2, 3]);
    evolveDeletedBefore(state, 3);
    expect(state.dataEndOffset).toBe(3);
  });

  it('are fenced by a marker of a higher epoch, and begin a new sequence', () => {
    const state = newPartitionState(KEY);
    append(state, 2, part(1, 0));
    mark(state, 1, 1, 'commit');
    expect(decideAppend(state, header(2, part(1, 0)), NOW, LIMITS)).toMatchObject({ code: 'INVALID_PRODUCER_EPOCH' });
    expect(decideAppend(state, header(2, part(1, 2)), NOW, LIMITS)).toMatchObject({ code: 'INVALID_PRODUCER_EPOCH' });
    expect(decideAppend(state, header(1, part(1, 2, 1)), NOW, LIMITS)).toMatchObject({
      code: 'OUT_OF_ORDER_SEQUENCE_NUMBER',
    });
    expect(decideAppend(state, header(1, part(1, 0, 1)), NOW, LIMITS)).toMatchObject({ kind: 'append' });
  });

  it('go on with their sequence after a marker of the same epoch, and repeated batches are still known', () => {
    const state = newPartitionState(KEY);
    append(state, 2, part(1, 0));
    mark(state, 1, 0, 'commit');
    expect(decideAppend(state, header(2, part(1, 0)), NOW, LIMITS)).toEqual({ kind: 'duplicate', baseOffset: 0 });
    expect(decideAppend(state, header(1, part(1, 2)), NOW, LIMITS)).toMatchObject({ kind: 'append' });
  });

  it('take no batch of their producer that is not part of them, and need a producer', () => {
    const state = newPartitionState(KEY);
    append(state, 1, part(1, 0));
    const alone = { producerId: 1, producerEpoch: 0, baseSequence: 1 };
    expect(decideAppend(state, header(1, alone), NOW, LIMITS)).toMatchObject({ code: 'INVALID_TXN_STATE' });
    mark(state, 1, 0, 'commit');
    expect(decideAppend(state, header(1, alone), NOW, LIMITS)).toMatchObject({ kind: 'append' });
    const nobody = header(1, { isTransactional: true });
    expect(decideAppend(state, nobody, NOW, LIMITS)).toMatchObject({ code: 'INVALID_RECORD' });
  });

  it('are limited in number with those that were aborted, until these are deleted', () => {
    const limits = { maxBatchBytes: 10_000, maxProducers: 9, maxAborted: 2 };
    const state = newPartitionState(KEY);
    append(state, 1, part(1, 0));
    mark(state, 1, 1, 'abort');
    append(state, 1, part(1, 0, 1));
    const full = { code: 'TOO_MANY_TRANSACTIONS' };
    expect(decideAppend(state, header(1, part(2, 0)), NOW, limits)).toMatchObject(full);
    // What is open goes on, and what is no transaction is not concerned.
    expect(decideAppend(state, header(1, part(1, 1, 1)), NOW, limits)).toMatchObject({ kind: 'append' });
    expect(decideAppend(state, header(1), NOW, limits)).toMatchObject({ kind: 'append' });
    evolveDeletedBefore(state, 2);
    expect(decideAppend(state, header(1, part(2, 0)), NOW, limits)).toMatchObject({ kind: 'append' });
  });

  it('keep their producer known for as long as they are open', () => {
    const state = newPartitionState(KEY);
    append(state, 1, part(1, 0));
    append(state, 1, { producerId: 2, producerEpoch: 0, baseSequence: 0 });
    const late = NOW + PRODUCER_EXPIRY_MS + 1;
    append(state, 1, { producerId: 3, producerEpoch: 0, baseSequence: 0 }, late);
    expect([...state.producers.keys()]).toEqual([1, 3]);
  });

  it('leave what is stable at the log start when their first records are deleted', () => {
    const state = newPartitionState(KEY);
    append(state, 1);
    append(state, 3, part(1, 0));
    evolveDeletedBefore(state, 3);
    expect(lastStableOffset(state, 4)).toBe(3);
    mark(state, 1, 1, 'abort');
    expect(lastStableOffset(state, 5)).toBe(5);
    expect(state.transactions.abortedIn(3, 5)).toEqual([{ producerId: 1, firstOffset: 1, lastOffset: 4 }]);
  });
});
