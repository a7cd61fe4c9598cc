import { expect, test } from 'vitest';
import { encodeBatch, encodeControlMarker, setBatchOffsets } from '@naru/protocol/batch';
import { inOrderOfBatches } from './aborted-transactions.ts';

function data(producerId: number, baseOffset: number): Uint8Array {
  const record = { key: null, value: new Uint8Array(1), timestampMs: 1_000 };
  return encodeBatch([record], { baseOffset, producerId, producerEpoch: 0, baseSequence: 0, isTransactional: true });
}

function abort(producerId: number, baseOffset: number): Uint8Array {
  const marker = { type: 'abort', coordinatorEpoch: 0, producerId, producerEpoch: 1, timestampMs: 1_000 } as const;
  const batch = encodeControlMarker(marker);
  setBatchOffsets(batch, baseOffset, 0);
  return batch;
}

test('aborted transactions that began before the answer are told in the order of their batches in it', () => {
  const first = { producerId: 1, firstOffset: 0, lastOffset: 25 };
  const second = { producerId: 2, firstOffset: 1, lastOffset: 26 };
  const third = { producerId: 3, firstOffset: 2, lastOffset: 27 };
  const batches = [data(3, 20), data(1, 21), data(2, 22)];
  expect(inOrderOfBatches([first, second, third], batches)).toEqual([third, first, second]);
});

test('one that has only its marker in the answer is left out, and each of one producer is told', () => {
  const only = { producerId: 1, firstOffset: 0, lastOffset: 20 };
  const before = { producerId: 2, firstOffset: 1, lastOffset: 22 };
  const after = { producerId: 2, firstOffset: 23, lastOffset: 24 };
  const batches = [abort(1, 20), data(2, 21), abort(2, 22), data(2, 23), abort(2, 24)];
  expect(inOrderOfBatches([only, before, after], batches)).toEqual([before, after]);
});
