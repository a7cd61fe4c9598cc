import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { nodeCompressionCodecs } from '../compression-node.ts';
import { BatchBuilder, MAX_TIMESTAMP_MS, encodeBatch, recordSizeUpperBound } from './batch-builder.ts';
import type { RecordInput } from './batch-builder.ts';
import { readBatchHeader, verifyBatch } from './batch-header.ts';
import { readInt64, varintSize, writeInt64, writeVarint } from './bytes.ts';
import { COMPRESSION_TYPES } from './compression.ts';
import { decodeRecords, iterateRecords } from './record-reader.ts';

const bytes = fc.option(fc.uint8Array({ maxLength: 300 }), { nil: null });
const headers = fc.array(
  fc.record({ key: fc.oneof(fc.string({ unit: 'binary', maxLength: 40 }), fc.constant('ce_id')), value: bytes }),
  { maxLength: 4 },
);
const timestamp = fc.oneof(
  fc.integer({ min: -1, max: 2 ** 43 }),
  fc.constantFrom(0, MAX_TIMESTAMP_MS, -MAX_TIMESTAMP_MS),
);
const record: fc.Arbitrary<RecordInput> = fc.record({ key: bytes, value: bytes, headers, timestampMs: timestamp });
const compression = fc.constantFrom(...COMPRESSION_TYPES);

describe('encodeBatch and decodeRecords', () => {
  test('give back what was put in, with every codec', () => {
    const options = fc.record({
      compression,
      baseOffset: fc.nat({ max: 2 ** 52 }),
      producerId: fc.nat({ max: 2 ** 52 }),
      producerEpoch: fc.nat({ max: 32_767 }),
      baseSequence: fc.nat({ max: 2 ** 31 - 1 }),
      partitionLeaderEpoch: fc.nat({ max: 2 ** 31 - 1 }),
      isTransactional: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(record, { minLength: 1, maxLength: 30 }), options, (records, chosen) => {
        const batch = encodeBatch(records, chosen, nodeCompressionCodecs);
        const { compression: wanted, ...rest } = chosen;
        const header = verifyBatch(batch);
        expect(header).toMatchObject({ ...rest, recordCount: records.length, lastOffsetDelta: records.length - 1 });
        expect([wanted, 'none']).toContain(header.compression);
        expect(header.maxTimestampMs).toBe(Math.max(...records.map((r) => r.timestampMs)));
        const expected = records.map((r, i) => ({ ...r, offset: chosen.baseOffset + i }));
        expect(decodeRecords(batch, nodeCompressionCodecs).map(plain)).toEqual(expected.map(plain));
        expect([...iterateRecords(batch, nodeCompressionCodecs)].map(plain)).toEqual(expected.map(plain));
      }),
      { numRuns: 300 },
    );
  });

  test('compress what can be compressed', () => {
    const records = Array.from({ length: 50 }, (_, i) => ({
      key: null,
      value: Buffer.alloc(90, 'event '),
      timestampMs: i,
    }));
    const plainBytes = encodeBatch(records).length;
    for (const type of COMPRESSION_TYPES) {
      const batch = encodeBatch(records, { compression: type }, nodeCompressionCodecs);
      expect(readBatchHeader(batch).compression).toBe(type);
      if (type !== 'none') expect(batch.length).toBeLessThan(plainBytes / 2);
      expect(decodeRecords(batch, nodeCompressionCodecs)).toHaveLength(50);
    }
  });

  test('store records as they are where compression gains nothing', () => {
    const batch = encodeBatch(
      [{ key: null, value: null, timestampMs: 1 }],
      { compression: 'gzip' },
      nodeCompressionCodecs,
    );
    expect(readBatchHeader(batch).compression).toBe('none');
  });

  test('store records as they are where a reader would refuse what they inflate to', () => {
    for (const size of [2, 17]) {
      const records = [{ key: null, value: new Uint8Array(size * 1024 * 1024), timestampMs: 1 }];
      const batch = encodeBatch(records, { compression: 'zstd' }, nodeCompressionCodecs);
      expect(decodeRecords(batch, nodeCompressionCodecs)[0]?.value).toHaveLength(size * 1024 * 1024);
    }
  });

  test('need codecs to compress', () => {
    const records = [{ key: null, value: null, timestampMs: 1 }];
    expect(() => encodeBatch(records, { compression: 'lz4' })).toThrow(
      expect.objectContaining({ code: 'UNSUPPORTED_COMPRESSION_TYPE' }),
    );
  });
});

/** Views and buffers as plain arrays, so that only contents are compared. */
function plain(r: RecordInput & { offset?: number }): unknown {
  const array = (b: Uint8Array | null): number[] | null => (b === null ? null : [...b]);
  const list = (r.headers ?? []).map((h) => ({ key: h.key, value: array(h.value) }));
  return { offset: r.offset, timestampMs: r.timestampMs, key: array(r.key), value: array(r.value), headers: list };
}

describe('BatchBuilder', () => {
  const value = new Uint8Array(100);

  test('is full at maxBytes, and never passes it', () => {
    fc.assert(
      fc.property(fc.integer({ min: 61, max: 3000 }), fc.integer({ min: 0, max: 400 }), (maxBytes, valueBytes) => {
        const builder = new BatchBuilder({ maxBytes, initialBytes: 70 });
        while (builder.tryAppend(null, new Uint8Array(valueBytes), undefined, 5)) {
          if (builder.count > 1) expect(builder.sizeBytes).toBeLessThanOrEqual(maxBytes);
        }
        const { count, sizeBytes } = builder;
        const batch = builder.build();
        expect(count).toBeGreaterThan(0);
        expect(batch.length).toBe(sizeBytes);
        expect(decodeRecords(batch)).toHaveLength(count);
        expect(sizeBytes + recordSizeUpperBound(null, new Uint8Array(valueBytes))).toBeGreaterThan(maxBytes);
      }),
    );
  });

  test('takes a record that fits to the last byte, and not one byte less', () => {
    const fill = (maxBytes: number): BatchBuilder => {
      const builder = new BatchBuilder({ maxBytes });
      for (let i = 0; i < 3; i++) builder.tryAppend(null, value, undefined, 1);
      return builder;
    };
    const exact = fill(10_000).sizeBytes;
    expect(fill(exact).count).toBe(3);
    expect(fill(exact - 1).count).toBe(2);
  });

  test('takes a first record that is larger than it, and no second', () => {
    const builder = new BatchBuilder({ maxBytes: 80 });
    expect(builder.tryAppend(null, value, undefined, 1)).toBe(true);
    expect(builder.tryAppend(null, null, undefined, 1)).toBe(false);
    expect(decodeRecords(builder.build())[0]?.value).toEqual(value);
  });

  test('does not take a time whose distance to another could not be written', () => {
    for (const timestampMs of [MAX_TIMESTAMP_MS + 1, -MAX_TIMESTAMP_MS - 1, 0.5, Number.NaN]) {
      const builder = new BatchBuilder({ maxBytes: 1000 });
      expect(() => builder.tryAppend(null, null, undefined, timestampMs)).toThrow('timestamp');
    }
  });

  test('leaves everything as it was when a record is refused', () => {
    const builder = new BatchBuilder({ maxBytes: 200 });
    builder.tryAppend(null, value, undefined, 1);
    const before = builder.sizeBytes;
    expect(builder.tryAppend(null, value, undefined, 99)).toBe(false);
    expect([builder.count, builder.sizeBytes]).toEqual([1, before]);
    expect(builder.tryAppend(null, new Uint8Array(10), undefined, 2)).toBe(true);
    expect(readBatchHeader(builder.build()).maxTimestampMs).toBe(2);
  });

  test('copies what it is given', () => {
    const builder = new BatchBuilder({ maxBytes: 1000 });
    const mine = new Uint8Array(50).fill(7);
    builder.tryAppend(mine, mine, [{ key: 'h', value: mine }], 1);
    mine.fill(0);
    const [only] = decodeRecords(builder.build());
    expect([only?.key?.[0], only?.value?.[49], only?.headers[0]?.value?.[20]]).toEqual([7, 7, 7]);
  });

  test('is spent once it has built, and does not build nothing', () => {
    const builder = new BatchBuilder({ maxBytes: 1000 });
    expect(() => builder.build()).toThrow('at least one record');
    builder.tryAppend(null, value, undefined, 1);
    builder.build();
    expect(() => builder.build()).toThrow('spent');
    expect(() => builder.tryAppend(null, value, undefined, 1)).toThrow('spent');
  });

  test('can build without compression after building with it has failed', () => {
    const builder = new BatchBuilder({ maxBytes: 1000 });
    builder.tryAppend(null, value, undefined, 1);
    expect(() => builder.build({ compression: 'gzip' })).toThrow('no codecs');
    expect(decodeRecords(builder.build())).toHaveLength(1);
  });
});

test('recordSizeUpperBound is never below the batch of that record', () => {
  fc.assert(
    fc.property(record, (r) => {
      const size = encodeBatch([r]).length;
      const bound = recordSizeUpperBound(r.key, r.value, r.headers);
      expect(bound).toBeGreaterThanOrEqual(size);
      expect(bound).toBeLessThanOrEqual(size + 20);
    }),
  );
});

test('a byte order mark and lone surrogates in header keys do no harm', () => {
  const long = '\uFEFF' + 'é'.repeat(40);
  const batch = encodeBatch([
    { key: null, value: null, timestampMs: 1, headers: [long, '\uFEFFa', 'x\uD800', '\uDC00y', '😀', ''].map(named) },
  ]);
  const keys = decodeRecords(batch)[0]?.headers.map((h) => h.key);
  expect(keys).toEqual([long, '\uFEFFa', 'x\uFFFD', '\uFFFDy', '😀', '']);
});

function named(key: string): { key: string; value: null } {
  return { key, value: null };
}

describe('integers', () => {
  const safe = fc.oneof(
    fc.maxSafeInteger(),
    fc.integer(),
    fc.constantFrom(2 ** 30, -(2 ** 30), 2 ** 30 - 1, 1 - 2 ** 30),
  );

  test('of 64 bits come back from their bytes, which are those of a DataView', () => {
    fc.assert(
      fc.property(safe, (n) => {
        const buffer = new Uint8Array(8);
        writeInt64(buffer, 0, n);
        expect(new DataView(buffer.buffer).getBigInt64(0)).toBe(BigInt(n));
        expect(readInt64(buffer, 0)).toBe(n);
      }),
    );
  });

  test('next to powers of two take as varints the bytes that the encoding says', () => {
    for (let power = 0; power < 53; power++) {
      for (const n of [2 ** power - 1, 2 ** power, -(2 ** power), -(2 ** power) - 1].filter(Number.isSafeInteger)) {
        const zigzagBits = (n >= 0 ? BigInt(n) * 2n : BigInt(n) * -2n - 1n).toString(2).length;
        expect(varintSize(n), `${n}`).toBe(Math.ceil(zigzagBits / 7));
        expect(writeVarint(new Uint8Array(12), 0, n), `${n}`).toBe(Math.ceil(zigzagBits / 7));
      }
    }
  });

  test('as varints take the bytes that were counted', () => {
    fc.assert(
      fc.property(safe, (n) => {
        expect(writeVarint(new Uint8Array(12), 1, n)).toBe(1 + varintSize(n));
      }),
    );
  });
});
