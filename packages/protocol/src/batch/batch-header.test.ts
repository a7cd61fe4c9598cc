import { describe, expect, test } from 'vitest';
import { NaruError } from '../errors.ts';
import type { ErrorCode } from '../errors.ts';
import { encodeBatch } from './batch-builder.ts';
import {
  firstBatchSize,
  readBatchHeader,
  rewriteProducer,
  sealBatch,
  setBatchOffsets,
  setLogAppendTime,
  splitBatches,
  verifyBatch,
} from './batch-header.ts';
import { writeInt16, writeInt32, writeInt64 } from './bytes.ts';
import { encodeControlMarker } from './control-marker.ts';
import { decodeRecords } from './record-reader.ts';

const value = new TextEncoder().encode('value');

function sample(count = 3): Uint8Array {
  const records = Array.from({ length: count }, (_, i) => ({ key: null, value, timestampMs: 1_700_000_000_000 + i }));
  return encodeBatch(records, { producerId: 2 ** 33 + 7, producerEpoch: 4, baseSequence: 90, isTransactional: true });
}

function codeOf(run: () => unknown): ErrorCode | 'no error' {
  try {
    run();
  } catch (error) {
    if (error instanceof NaruError) return error.code;
    throw error;
  }
  return 'no error';
}

/** A sample that `change` was done to, with its checksum set anew. */
function changed(change: (batch: Uint8Array) => void): Uint8Array {
  const batch = sample();
  change(batch);
  sealBatch(batch);
  return batch;
}

describe('readBatchHeader', () => {
  test('reads every field, at any position', () => {
    const batch = sample();
    setBatchOffsets(batch, 2 ** 40 + 5, 12);
    const shifted = new Uint8Array(batch.length + 9);
    shifted.set(batch, 9);
    expect(readBatchHeader(shifted, 9)).toEqual({
      baseOffset: 2 ** 40 + 5,
      sizeBytes: batch.length,
      partitionLeaderEpoch: 12,
      magic: 2,
      crc: verifyBatch(batch).crc,
      attributes: 16,
      compression: 'none',
      timestampType: 'create',
      isTransactional: true,
      isControl: false,
      lastOffsetDelta: 2,
      baseTimestampMs: 1_700_000_000_000,
      deleteHorizonMs: null,
      maxTimestampMs: 1_700_000_000_002,
      producerId: 2 ** 33 + 7,
      producerEpoch: 4,
      baseSequence: 90,
      recordCount: 3,
    });
  });

  test('needs the header only, not the records', () => {
    expect(readBatchHeader(sample().subarray(0, 61)).recordCount).toBe(3);
    expect(codeOf(() => readBatchHeader(sample().subarray(0, 60)))).toBe('CORRUPT_MESSAGE');
    expect(codeOf(() => readBatchHeader(sample(), 1000))).toBe('CORRUPT_MESSAGE');
  });

  test('tells old message formats from damage', () => {
    expect(codeOf(() => readBatchHeader(changed((b) => (b[16] = 0))))).toBe('INVALID_RECORD');
    expect(codeOf(() => readBatchHeader(changed((b) => (b[16] = 1))))).toBe('INVALID_RECORD');
    expect(codeOf(() => readBatchHeader(changed((b) => (b[16] = 3))))).toBe('CORRUPT_MESSAGE');
    expect(codeOf(() => readBatchHeader(changed((b) => (b[16] = 0xff))))).toBe('CORRUPT_MESSAGE');
  });

  test('refuses 64-bit fields that are no safe integers', () => {
    for (const at of [0, 27, 35, 43]) {
      expect(codeOf(() => readBatchHeader(changed((b) => (b[at] = 0x7f))))).toBe('CORRUPT_MESSAGE');
      expect(codeOf(() => readBatchHeader(changed((b) => (b[at] = 0x80))))).toBe('CORRUPT_MESSAGE');
    }
  });
});

describe('verifyBatch', () => {
  test('accepts a whole batch and answers with its header', () => {
    expect(verifyBatch(sample())).toEqual(readBatchHeader(sample()));
  });

  test('refuses more or fewer bytes than one batch', () => {
    const batch = sample();
    expect(codeOf(() => verifyBatch(batch.subarray(0, -1)))).toBe('CORRUPT_MESSAGE');
    expect(codeOf(() => verifyBatch(new Uint8Array([...batch, 0])))).toBe('CORRUPT_MESSAGE');
    expect(codeOf(() => verifyBatch(new Uint8Array([...batch, ...batch])))).toBe('CORRUPT_MESSAGE');
    expect(codeOf(() => verifyBatch(new Uint8Array(0)))).toBe('CORRUPT_MESSAGE');
  });

  test.each<[string, (b: Uint8Array) => void, ErrorCode]>([
    ['an unknown compression', (b) => writeInt16(b, 21, 5), 'UNSUPPORTED_COMPRESSION_TYPE'],
    ['no records', (b) => (writeInt32(b, 23, -1), writeInt32(b, 57, 0)), 'INVALID_RECORD'],
    ['a negative record count', (b) => writeInt32(b, 57, -3), 'INVALID_RECORD'],
    ['fewer records than offsets', (b) => writeInt32(b, 57, 2), 'INVALID_RECORD'],
    ['more records than offsets', (b) => writeInt32(b, 57, 4), 'INVALID_RECORD'],
    ['the control bit', (b) => writeInt16(b, 21, 0x30), 'INVALID_RECORD'],
    ['the log append time bit', (b) => writeInt16(b, 21, 0x18), 'INVALID_RECORD'],
    ['the delete horizon bit', (b) => writeInt16(b, 21, 0x50), 'INVALID_RECORD'],
    ['a negative producer id', (b) => writeInt64(b, 43, -2), 'INVALID_RECORD'],
    ['a producer id without an epoch', (b) => writeInt16(b, 51, -1), 'INVALID_RECORD'],
    ['a producer id without a sequence', (b) => writeInt32(b, 53, -1), 'INVALID_RECORD'],
    ['the transactional bit without a producer id', (b) => writeInt64(b, 43, -1), 'INVALID_RECORD'],
  ])('refuses %s from a client', (_, change, code) => {
    expect(codeOf(() => verifyBatch(changed(change)))).toBe(code);
  });

  test('takes stored batches that lost records to compaction, and markers', () => {
    expect(
      verifyBatch(
        changed((b) => writeInt32(b, 57, 1)),
        'stored',
      ).recordCount,
    ).toBe(1);
    const marker = { type: 'abort', coordinatorEpoch: 1, producerId: 1, producerEpoch: 0, timestampMs: 1 } as const;
    expect(verifyBatch(encodeControlMarker(marker), 'stored').isControl).toBe(true);
    expect(codeOf(() => verifyBatch(encodeControlMarker(marker)))).toBe('INVALID_RECORD');
  });

  test('ignores epoch and sequence when there is no producer id, as some clients fill them with zeros', () => {
    const batch = encodeBatch([{ key: null, value, timestampMs: 1 }], { producerEpoch: 0, baseSequence: 0 });
    expect(verifyBatch(batch).producerId).toBe(-1);
  });
});

describe('changes in place', () => {
  test('setBatchOffsets moves the records and leaves the checksum right', () => {
    const batch = sample();
    setBatchOffsets(batch, 2 ** 52 + 1, 2 ** 31 - 1);
    expect(verifyBatch(batch)).toMatchObject({ baseOffset: 2 ** 52 + 1, partitionLeaderEpoch: 2 ** 31 - 1 });
    expect(decodeRecords(batch).map((r) => r.offset)).toEqual([2 ** 52 + 1, 2 ** 52 + 2, 2 ** 52 + 3]);
  });

  test('setLogAppendTime gives every record the time', () => {
    const batch = sample();
    setLogAppendTime(batch, 1_800_000_000_000);
    expect(verifyBatch(batch, 'stored')).toMatchObject({ timestampType: 'append', maxTimestampMs: 1_800_000_000_000 });
    expect(new Set(decodeRecords(batch).map((r) => r.timestampMs))).toEqual(new Set([1_800_000_000_000]));
  });

  test('rewriteProducer gives the batch to another producer and leaves the records', () => {
    const batch = sample();
    const before = decodeRecords(batch);
    rewriteProducer(batch, 8, 32_767, 2 ** 31 - 1);
    const header = { producerId: 8, producerEpoch: 32_767, baseSequence: 2 ** 31 - 1, recordCount: 3 };
    expect(verifyBatch(batch)).toMatchObject(header);
    expect(decodeRecords(batch)).toEqual(before);
  });
});

describe('splitBatches', () => {
  const [a, b] = [sample(1), sample(4)];
  const both = new Uint8Array([...a, ...b]);

  test('cuts at the batches, without copying', () => {
    const parts = splitBatches(both);
    expect(parts).toEqual([a, b]);
    expect(parts[1]?.buffer).toBe(both.buffer);
    expect(splitBatches(new Uint8Array(0))).toEqual([]);
  });

  test('ignores a last batch that is cut anywhere, or refuses it when asked', () => {
    for (let end = a.length + 1; end < both.length; end++) {
      const cut = both.subarray(0, end);
      expect(splitBatches(cut)).toEqual([a]);
      expect(codeOf(() => splitBatches(cut, { partial: 'refuse' }))).toBe('CORRUPT_MESSAGE');
    }
    expect(splitBatches(both, { partial: 'refuse' })).toEqual([a, b]);
  });

  test('refuses sizes that cannot be, so that it always comes to an end', () => {
    for (const length of [-12, -1, 0, 48, -(2 ** 31), 2 ** 31 - 1]) {
      const broken = both.slice();
      writeInt32(broken, 8, length);
      expect(codeOf(() => splitBatches(broken))).toBe('CORRUPT_MESSAGE');
    }
  });

  test('firstBatchSize tells the size from the prefix alone', () => {
    expect(firstBatchSize(both.subarray(0, 12))).toBe(a.length);
    expect(firstBatchSize(both, a.length)).toBe(b.length);
    expect(firstBatchSize(both.subarray(0, 11))).toBeUndefined();
    expect(firstBatchSize(both, both.length)).toBeUndefined();
  });
});
