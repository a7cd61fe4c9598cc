import { expect, test } from 'vitest';
import { encodeBatch } from './batch-builder.ts';
import { verifyBatch } from './batch-header.ts';
import { decodeControlMarker, encodeControlMarker } from './control-marker.ts';
import { decodeRecords } from './record-reader.ts';

const marker = {
  type: 'commit',
  coordinatorEpoch: 70_000,
  producerId: 2 ** 40,
  producerEpoch: 3,
  timestampMs: 5,
} as const;

test('a marker comes back as it was', () => {
  expect(decodeControlMarker(encodeControlMarker(marker))).toEqual(marker);
  const abort = { ...marker, type: 'abort', coordinatorEpoch: -1 } as const;
  expect(decodeControlMarker(encodeControlMarker(abort))).toEqual(abort);
});

test('a marker is a transactional control batch without a sequence, with the bytes that Kafka writes', () => {
  const batch = encodeControlMarker(marker);
  expect(verifyBatch(batch, 'stored')).toMatchObject({ isControl: true, isTransactional: true, baseSequence: -1 });
  const [record] = decodeRecords(batch);
  expect([...(record?.key ?? [])]).toEqual([0, 0, 0, 1]);
  expect([...(record?.value ?? [])]).toEqual([0, 0, 0, 1, 0x11, 0x70]);
});

test('other batches are no markers, and control records of other types are passed over', () => {
  const record = { key: Uint8Array.of(0, 0, 0, 2), value: null, timestampMs: 1 };
  expect(() => decodeControlMarker(encodeBatch([record]))).toThrow('not a control batch');
  expect(decodeControlMarker(encodeBatch([record], { isControl: true }))).toBeNull();
});

test.each([
  ['no key', null, null],
  ['a short key', Uint8Array.of(0, 0, 0), null],
  ['no value', Uint8Array.of(0, 0, 0, 1), null],
  ['a short value', Uint8Array.of(0, 0, 0, 1), Uint8Array.of(0, 0, 0, 0, 0)],
])('a control record with %s is refused', (_, key, value) => {
  const batch = encodeBatch([{ key, value, timestampMs: 1 }], { isControl: true });
  expect(() => decodeControlMarker(batch)).toThrow(expect.objectContaining({ code: 'CORRUPT_MESSAGE' }));
});
