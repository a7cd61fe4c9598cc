import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { encodeBatch, type RecordHeader } from './batch-builder.ts';
import { iterateRecords, type StreamedRecord } from './record-reader.ts';

function recordWith(headers: readonly RecordHeader[]): StreamedRecord {
  return iterateRecords(encodeBatch([{ key: null, value: null, headers, timestampMs: 1 }])).next()
    .value as StreamedRecord;
}

const text = (bytes: Uint8Array | null | undefined) => (bytes == null ? bytes : Buffer.from(bytes).toString());

describe('headers that are read when they are asked for', () => {
  it('give the last value of a key', () => {
    const record = recordWith([
      { key: 'a', value: Buffer.from('1') },
      { key: 'ab', value: Buffer.from('2') },
      { key: 'a', value: Buffer.from('3') },
      { key: 'b', value: null },
    ]);
    expect(text(record.headerValue('a'))).toBe('3');
    expect(text(record.headerValue('ab'))).toBe('2');
    expect(record.headerValue('b')).toBeNull();
    expect(record.headerValue('c')).toBeUndefined();
    expect(record.headerValue('')).toBeUndefined();
  });

  it('are none for a record without any', () => {
    expect(recordWith([]).headers).toEqual([]);
    expect(recordWith([]).headerValue('a')).toBeUndefined();
  });

  it('are what was written, whatever it is', () => {
    const header = fc.record({
      key: fc.string({ unit: 'binary', maxLength: 200 }),
      value: fc.option(fc.uint8Array({ maxLength: 300 }), { nil: null }),
    });
    fc.assert(
      fc.property(fc.array(header, { maxLength: 20 }), (headers) => {
        const record = recordWith(headers);
        expect(record.headers).toEqual(headers);
        for (const { key } of headers) {
          expect(record.headerValue(key)).toEqual(headers.findLast((other) => other.key === key)?.value);
        }
      }),
    );
  });
});
