import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { nodeCompressionCodecs as codecs } from '../compression-node.ts';
import { encodeBatch } from './batch-builder.ts';
import type { EncodeBatchOptions, RecordInput } from './batch-builder.ts';
import { readBatchHeader, rewriteProducer, sealBatch, setLogAppendTime, verifyBatch } from './batch-header.ts';
import { readInt32, writeInt16, writeInt64 } from './bytes.ts';
import { COMPRESSION_TYPES } from './compression.ts';
import { decodeRecords } from './record-reader.ts';
import type { BatchRecord } from './record-reader.ts';
import { isTombstone, rewriteBatch } from './rewrite-batch.ts';

const HORIZON_MS = 1.8e12;
const text = (value: string): Uint8Array => new TextEncoder().encode(value);

function batchOf(count: number, options: EncodeBatchOptions = {}): Uint8Array {
  const records = Array.from({ length: count }, (_, i) => ({
    key: text(`k${i}`),
    value: i % 3 === 2 ? null : text(`value ${i} that repeats, that repeats, that repeats`),
    timestampMs: 1.7e12 + i * 10,
    headers: i === 1 ? [{ key: 'ce_id', value: text('7') }] : undefined,
  }));
  return encodeBatch(records, options, codecs);
}

/** Keeps the records whose place in the batch is in `kept`. */
function keep(...kept: number[]): (record: BatchRecord) => boolean {
  let index = 0;
  return () => kept.includes(index++);
}

/** Comparable contents, whichever class of bytes a codec answers with. */
function plain(records: readonly BatchRecord[]): unknown {
  const hex = (value: Uint8Array | null): string | null => (value === null ? null : Buffer.from(value).toString('hex'));
  const headers = (r: BatchRecord): unknown => r.headers.map((h) => [h.key, hex(h.value)]);
  return records.map((r) => [r.offset, r.timestampMs, hex(r.key), hex(r.value), headers(r)]);
}

const times = fc.oneof(
  fc.constant(-1),
  fc.integer({ min: 0, max: 4e12 }),
  fc.integer({ min: 1.7e12, max: 1.7e12 + 50 }),
);
const bytes = fc.option(fc.uint8Array({ maxLength: 40 }), { nil: null });
const record: fc.Arbitrary<RecordInput> = fc.record({
  key: bytes,
  value: bytes,
  timestampMs: times,
  headers: fc.array(fc.record({ key: fc.string({ maxLength: 6 }), value: bytes }), { maxLength: 2 }),
});
const batchOptions = fc.record({
  baseOffset: fc.nat({ max: 2 ** 45 }),
  partitionLeaderEpoch: fc.nat({ max: 1e6 }),
  compression: fc.constantFrom(...COMPRESSION_TYPES),
  producerId: fc.nat(),
  producerEpoch: fc.nat({ max: 32_767 }),
  baseSequence: fc.nat({ max: 2 ** 31 - 1 }),
  isTransactional: fc.boolean(),
});

describe('rewriteBatch', () => {
  test('keeps exactly the records that stay, twice in a row, and of the header what producers and offsets need', () => {
    const rounds = fc.array(fc.infiniteStream(fc.boolean()), { minLength: 2, maxLength: 2 });
    const appendTime = fc.option(fc.integer({ min: 0, max: 4e12 }), { nil: undefined });
    const horizon = fc.option(fc.integer({ min: 0, max: 4e12 }), { nil: undefined });
    fc.assert(
      fc.property(
        fc.array(record, { minLength: 1, maxLength: 30 }),
        batchOptions,
        appendTime,
        horizon,
        rounds,
        (list, chosen, appendTimeMs, deleteHorizonMs, choices) => {
          let batch = encodeBatch(list, chosen, codecs);
          if (appendTimeMs !== undefined) setLogAppendTime(batch, appendTimeMs);
          const before = readBatchHeader(batch);
          for (const choice of choices) {
            const pristine = batch.slice();
            const decoded = decodeRecords(batch, codecs);
            const expected = decoded.filter(() => choice.next().value);
            const offsets = new Set(expected.map(({ offset }) => offset));
            const retain = ({ offset }: BatchRecord): boolean => offsets.has(offset);
            const rewritten = rewriteBatch(batch, { retain, deleteHorizonMs }, codecs);
            expect(batch).toEqual(pristine);
            if (rewritten === null) {
              expect(expected).toEqual([]);
              return;
            }
            const header = verifyBatch(rewritten, 'stored');
            expect(plain(decodeRecords(rewritten, codecs))).toEqual(plain(expected));
            const known = readBatchHeader(batch).deleteHorizonMs;
            expect(header).toEqual({
              ...before,
              sizeBytes: rewritten.length,
              crc: header.crc,
              attributes: header.attributes,
              compression: header.compression === 'none' ? 'none' : before.compression,
              recordCount: expected.length,
              baseTimestampMs: header.baseTimestampMs,
              maxTimestampMs: appendTimeMs ?? Math.max(...expected.map(({ timestampMs }) => timestampMs)),
              deleteHorizonMs: known ?? (expected.some(isTombstone) ? (deleteHorizonMs ?? null) : null),
            });
            batch = rewritten;
          }
        },
      ),
    );
  });

  test('gives the same bytes when nothing changes, and null when nothing stays', () => {
    const batch = batchOf(5);
    expect(rewriteBatch(batch, { retain: () => true })).toBe(batch);
    expect(rewriteBatch(batch, { retain: () => false, deleteHorizonMs: HORIZON_MS })).toBeNull();
    const values = rewriteBatch(batch, { retain: (r) => r.value !== null, deleteHorizonMs: HORIZON_MS });
    expect(readBatchHeader(values as Uint8Array).deleteHorizonMs).toBeNull();
  });

  test('sets a delete horizon once: the base timestamp is the horizon and readers see the same times', () => {
    const batch = batchOf(5);
    const first = rewriteBatch(batch, { retain: () => true, deleteHorizonMs: HORIZON_MS }) as Uint8Array;
    expect(readBatchHeader(first)).toMatchObject({ deleteHorizonMs: HORIZON_MS, baseTimestampMs: HORIZON_MS });
    expect(decodeRecords(first)).toEqual(decodeRecords(batch));
    expect(rewriteBatch(first, { retain: () => true, deleteHorizonMs: HORIZON_MS + 5 })).toBe(first);
    const later = rewriteBatch(first, { retain: keep(0, 3), deleteHorizonMs: HORIZON_MS + 5 }) as Uint8Array;
    expect(readBatchHeader(later)).toMatchObject({ deleteHorizonMs: HORIZON_MS, recordCount: 2, lastOffsetDelta: 4 });
    expect(decodeRecords(later).map((r) => [r.offset, r.timestampMs])).toEqual([
      [0, 1.7e12],
      [3, 1.7e12 + 30],
    ]);
  });

  test('keeps a record with neither key nor value from counting as a tombstone', () => {
    const batch = encodeBatch([{ key: null, value: null, timestampMs: 1 }]);
    expect(rewriteBatch(batch, { retain: () => true, deleteHorizonMs: HORIZON_MS })).toBe(batch);
  });

  test.each(COMPRESSION_TYPES)('%s: the codec stays while it gains something', (compression) => {
    const batch = batchOf(200, { compression });
    const retain = ({ offset }: BatchRecord): boolean => offset % 2 === 0;
    const rewritten = rewriteBatch(batch, { retain }, codecs) as Uint8Array;
    expect(verifyBatch(rewritten, 'stored')).toMatchObject({ compression, recordCount: 100 });
    expect(rewritten.length).toBeLessThan(batch.length);
    expect(rewriteBatch(batch, { retain: keep(2) }, codecs)?.length).toBeLessThan(100);
  });

  test('keeps what it does not understand: attributes of records, header keys that are no UTF-8, later batch bits', () => {
    const batch = encodeBatch([
      { key: text('a'), value: text('1'), timestampMs: 5 },
      { key: text('b'), value: text('2'), timestampMs: 7, headers: [{ key: '??', value: null }] },
    ]);
    const at = batch.findIndex((byte, i) => byte === 0x3f && batch[i + 1] === 0x3f);
    batch.set([0xc3, 0x28], at);
    batch[62] = 0x11; // attributes of the first record
    writeInt16(batch, 21, 0x0100);
    sealBatch(batch);
    const rewritten = rewriteBatch(batch, { retain: keep(1) }) as Uint8Array;
    expect(Buffer.from(rewritten).indexOf(Buffer.from([0xc3, 0x28]))).toBeGreaterThan(61);
    expect(readBatchHeader(rewritten).attributes).toBe(0x0100);
    expect((rewriteBatch(batch, { retain: keep(0) }) as Uint8Array)[62]).toBe(0x11);
  });

  test('does not spoil a batch whose times it cannot write again', () => {
    const batch = encodeBatch([{ key: text('a'), value: null, timestampMs: 0 }]);
    writeInt64(batch, 27, -Number.MAX_SAFE_INTEGER);
    sealBatch(batch);
    expect(decodeRecords(batch)).toHaveLength(1);
    expect(() => rewriteBatch(batch, { retain: () => true, deleteHorizonMs: HORIZON_MS })).toThrow(
      expect.objectContaining({ code: 'INVALID_RECORD' }),
    );
  });

  test('does not write what readers would take for a bomb', () => {
    const noise = Uint8Array.from({ length: 60_000 }, (_, i) => (Math.imul(i, 0x9e3779b1) ^ (i * i)) >>> 7);
    const list = [noise, ...Array.from({ length: 30 }, () => new Uint8Array(100_000))].map((value, i) => ({
      key: text(`k${i}`),
      value,
      timestampMs: 1,
    }));
    const batch = encodeBatch(list, { compression: 'zstd' }, codecs);
    expect(readBatchHeader(batch).compression).toBe('zstd');
    expect(() => rewriteBatch(batch, { retain: ({ offset }) => offset > 0 }, codecs)).toThrow(
      expect.objectContaining({ code: 'RECORD_TOO_LARGE' }),
    );
  });

  test('refuses a damaged batch', () => {
    const batch = batchOf(3);
    batch[70] = (batch[70] as number) ^ 1;
    expect(() => rewriteBatch(batch, { retain: () => true })).toThrow(
      expect.objectContaining({ code: 'CORRUPT_MESSAGE' }),
    );
  });

  test('leaves a producer its sequences: the last one is that of the last offset', () => {
    const batch = batchOf(4);
    rewriteProducer(batch, 9, 2, 100);
    const rewritten = rewriteBatch(batch, { retain: keep(0) }) as Uint8Array;
    expect(readBatchHeader(rewritten)).toMatchObject({ producerId: 9, producerEpoch: 2, baseSequence: 100 });
    expect(readInt32(rewritten, 23)).toBe(3);
  });
});
