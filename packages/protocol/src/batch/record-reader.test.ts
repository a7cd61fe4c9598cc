import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { nodeCompressionCodecs as codecs } from '../compression-node.ts';
import { NaruError } from '../errors.ts';
import { encodeBatch } from './batch-builder.ts';
import { BATCH_HEADER_BYTES, readBatchHeader, sealBatch } from './batch-header.ts';
import { writeInt32, writeVarint } from './bytes.ts';
import { COMPRESSION_TYPES } from './compression.ts';
import type { CompressionType } from './compression.ts';
import { decodeRecords, iterateRecords, openBatch } from './record-reader.ts';
import type { BatchRecord } from './record-reader.ts';

const text = (value: string): Uint8Array => new TextEncoder().encode(value);

function sample(compression: CompressionType): Uint8Array {
  const records = [
    {
      key: text('k1'),
      value: text('a value that repeats, a value that repeats, a value that repeats'),
      timestampMs: 1e12,
    },
    { key: null, value: null, timestampMs: 1e12 + 5 },
    {
      key: text('k3'),
      value: text('a value that repeats'.repeat(8)),
      timestampMs: 1e12 - 3,
      headers: [
        { key: 'ce_id', value: text('01890000') },
        { key: 'none', value: null },
      ],
    },
  ];
  const batch = encodeBatch(records, { compression, producerId: 9, producerEpoch: 1, baseSequence: 3 }, codecs);
  expect(readBatchHeader(batch).compression).toBe(compression);
  return batch;
}

/** The records, or the NaruError; anything else that is thrown fails the test. */
function outcome(batch: Uint8Array): BatchRecord[] | NaruError {
  try {
    return decodeRecords(batch, codecs);
  } catch (error) {
    if (error instanceof NaruError) return error;
    throw error;
  }
}

function codeOf(batch: Uint8Array): string {
  const result = outcome(batch);
  return result instanceof NaruError ? result.code : 'no error';
}

/** Base offset and leader epoch belong to the broker; the checksum does not cover them. */
function isOutsideChecksum(byte: number): boolean {
  return byte < 8 || (byte >= 12 && byte < 16);
}

describe.each(COMPRESSION_TYPES)('a damaged batch (%s)', (compression) => {
  const batch = sample(compression);
  const intact = outcome(batch);
  const accepted = ['CORRUPT_MESSAGE', 'INVALID_RECORD', 'UNSUPPORTED_COMPRESSION_TYPE'];

  test('is refused wherever it is cut', () => {
    for (let end = 0; end < batch.length; end++) expect(codeOf(batch.subarray(0, end))).toBe('CORRUPT_MESSAGE');
    expect(codeOf(new Uint8Array([...batch, 0]))).toBe('CORRUPT_MESSAGE');
  });

  test('is refused whichever bit is flipped', () => {
    for (let bit = 0; bit < batch.length * 8; bit++) {
      const byte = bit >> 3;
      const flipped = batch.slice();
      flipped[byte] = (flipped[byte] as number) ^ (1 << (bit & 7));
      const result = outcome(flipped);
      if (result instanceof NaruError) expect(accepted).toContain(result.code);
      else {
        expect(isOutsideChecksum(byte), `bit ${bit} went unnoticed`).toBe(true);
        const withoutOffset = (records: unknown): unknown =>
          (records as BatchRecord[]).map((r) => ({ ...r, offset: 0 }));
        expect(withoutOffset(result)).toEqual(withoutOffset(intact));
      }
    }
  });

  test('gives a typed error or records, never anything else, when its checksum is right', () => {
    let refused = 0;
    for (let bit = 21 * 8; bit < batch.length * 8; bit++) {
      const flipped = batch.slice();
      flipped[bit >> 3] = (flipped[bit >> 3] as number) ^ (1 << (bit & 7));
      sealBatch(flipped);
      if (outcome(flipped) instanceof NaruError) refused += 1;
    }
    expect(refused).toBeGreaterThan(0);
    for (let end = BATCH_HEADER_BYTES; end < batch.length; end++) {
      const cut = batch.slice(0, end);
      writeInt32(cut, 8, end - 12);
      sealBatch(cut);
      expect(codeOf(cut)).toBe('CORRUPT_MESSAGE');
    }
  });
});

test('random records under a right header and checksum give a typed error or records', () => {
  const body = fc.uint8Array({ maxLength: 200 });
  fc.assert(
    fc.property(body, fc.integer({ min: 1, max: 5 }), fc.constantFrom(0, 1, 2, 3, 4), (bytes, count, type) => {
      const batch = withBody(bytes, count);
      batch[22] = type;
      sealBatch(batch);
      outcome(batch);
    }),
    { numRuns: 2000 },
  );
});

/** A sealed batch that says it has `count` records in `body`. */
function withBody(body: Uint8Array, count: number): Uint8Array {
  const batch = new Uint8Array(BATCH_HEADER_BYTES + body.length);
  batch.set(sample('none').subarray(0, BATCH_HEADER_BYTES));
  batch.set(body, BATCH_HEADER_BYTES);
  writeInt32(batch, 8, batch.length - 12);
  writeInt32(batch, 23, Math.max(count, 1) - 1);
  writeInt32(batch, 57, count);
  sealBatch(batch);
  return batch;
}

/** A record of the fields given, each a varint, after its length and attributes. */
function recordOf(...fields: number[]): Uint8Array {
  const bytes = new Uint8Array(100);
  let end = 1;
  for (const field of fields) end = writeVarint(bytes, end, field);
  const length = new Uint8Array(10);
  const lengthBytes = writeVarint(length, 0, end);
  return new Uint8Array([...length.subarray(0, lengthBytes), ...bytes.subarray(0, end)]);
}

describe('hostile lengths', () => {
  const [timestamp, offset, none] = [0, 0, -1];
  const good = recordOf(timestamp, offset, none, none, 0);

  test('are not read past, however often it is asked', () => {
    const next = recordOf(timestamp, 1, none, none, 0);
    const reader = openBatch(withBody(new Uint8Array([...good, ...good, ...next]), 3));
    expect(reader.next()?.offset).toBe(0);
    for (let i = 0; i < 3; i++) expect(() => reader.next()).toThrow('offset delta 0');
  });

  test('the record that the others are made from is good', () => {
    expect(decodeRecords(withBody(good, 1))).toHaveLength(1);
  });

  test.each<[string, Uint8Array, number, string]>([
    [
      'a record length beyond the batch',
      Uint8Array.of(0xfe, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0, 0, 0),
      1,
      'record length',
    ],
    ['a negative record length', Uint8Array.of(1, 0, 0, 0, 1, 1, 0), 1, 'record length -1'],
    ['a record longer than its fields', Uint8Array.of(14, ...good.subarray(1), 0), 1, '1 bytes longer than its fields'],
    ['a record shorter than its fields', Uint8Array.of(10, ...good.subarray(1)), 1, 'header count is cut short'],
    ['a record of no bytes', new Uint8Array(7), 1, 'ends within its fields'],
    ['a key length beyond the record', recordOf(timestamp, offset, 1000, none, 0), 1, 'key length 1000'],
    ['a key length below −1', recordOf(timestamp, offset, -2, none, 0), 1, 'key length -2'],
    ['a value length of 2³¹−1', recordOf(timestamp, offset, none, 2 ** 31 - 1, 0), 1, 'value length 2147483647'],
    ['a value length beyond 32 bits', recordOf(timestamp, offset, none, 2 ** 32, 0), 1, 'more than 32 bits'],
    ['2³¹−1 headers', recordOf(timestamp, offset, none, none, 2 ** 31 - 1), 1, 'cannot hold 2147483647 headers'],
    ['a negative header count', recordOf(timestamp, offset, none, none, -1), 1, 'cannot hold -1 headers'],
    ['a header key of null', recordOf(timestamp, offset, none, none, 1, -1, -1), 1, 'header key length -1'],
    ['a header value beyond the record', recordOf(timestamp, offset, none, none, 1, 0, 9), 1, 'header value length 9'],
    ['a time outside ±2⁵³', recordOf(Number.MAX_SAFE_INTEGER, offset, none, none, 0), 1, 'timestamp is outside'],
    ['a varint without end', Uint8Array.of(28, 0, ...new Uint8Array(13).fill(0xff)), 1, 'timestamp delta is too large'],
    ['an offset delta beyond the last', recordOf(timestamp, 1, none, none, 0), 1, 'offset delta 1'],
    ['a negative offset delta', recordOf(timestamp, -1, none, none, 0), 1, 'offset delta -1'],
    ['the same offset twice', new Uint8Array([...good, ...good]), 2, 'offset delta 0'],
    ['bytes after the last record', new Uint8Array([...good, 0]), 1, '1 bytes follow the last record'],
    ['more records than there is room for', good, 2, 'cannot hold the 2 records'],
    ['2³¹−1 records', good, 2 ** 31 - 1, 'cannot hold the 2147483647 records'],
    ['no records but bytes', good, 0, '7 bytes follow the last record'],
  ])('are refused for what they are: %s', (_, body, count, message) => {
    const result = outcome(withBody(body, count));
    expect(result).toMatchObject({ code: 'CORRUPT_MESSAGE' });
    expect((result as NaruError).message).toContain(message);
  });

  test('are refused while iterating, after the good records', () => {
    const bad = recordOf(timestamp, 1, 1000, none, 0);
    const seen: number[] = [];
    const run = (): void => {
      for (const record of iterateRecords(withBody(new Uint8Array([...good, ...bad]), 2))) seen.push(record.offset);
    };
    expect(run).toThrow(expect.objectContaining({ code: 'CORRUPT_MESSAGE' }));
    expect(seen).toEqual([0]);
  });
});

describe('decodeRecords', () => {
  test('does not copy keys and values', () => {
    const batch = sample('none');
    const [first] = decodeRecords(batch);
    expect(first?.key?.buffer).toBe(batch.buffer);
    expect(first?.value?.buffer).toBe(batch.buffer);
  });

  test('takes offsets with gaps, as compaction leaves them', () => {
    const gap = withBody(new Uint8Array([...recordOf(0, 3, -1, -1, 0), ...recordOf(0, 7, -1, -1, 0)]), 2);
    writeInt32(gap, 23, 9);
    sealBatch(gap);
    expect(decodeRecords(gap).map((r) => r.offset)).toEqual([3, 7]);
  });

  test('checks the checksum before the first record, also when iterating, unless told that it was checked', () => {
    const batch = sample('none');
    batch[17] = (batch[17] as number) ^ 1;
    expect(codeOf(batch)).toBe('CORRUPT_MESSAGE');
    expect(() => iterateRecords(batch)).toThrow('checksum');
    expect(decodeRecords(batch, undefined, { checkCrc: false })).toHaveLength(3);
  });

  test('needs codecs for a compressed batch', () => {
    expect(() => decodeRecords(sample('zstd'))).toThrow(
      expect.objectContaining({ code: 'UNSUPPORTED_COMPRESSION_TYPE' }),
    );
  });
});
