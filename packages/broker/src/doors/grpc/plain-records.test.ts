import { create, fromJson, toJson, type JsonValue } from '@bufbuild/protobuf';
import { ValueSchema } from '@bufbuild/protobuf/wkt';
import { partitionKey } from '@naru/base';
import { PublishRecordSchema, RecordFormat, type Record as WireRecord } from '@naru/protocol/proto';
import type { BatchRecord } from '@naru/protocol/batch';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MAX_JSON_NODES_OF_ANSWER, RecordFormatter, toPlainRecord } from './plain-records.ts';

const PARTITION = partitionKey('11111111-1111-4111-8111-111111111111' as Parameters<typeof partitionKey>[0], 3);

function formatted(record: Partial<BatchRecord>, format = RecordFormat.JSON): WireRecord {
  const whole: BatchRecord = { offset: 7, timestampMs: 5, key: null, value: null, headers: [], ...record };
  return new RecordFormatter(format).format({ topic: 'orders', partition: PARTITION, record: whole });
}

function formOf(value: Uint8Array | string, format?: RecordFormat): string {
  const { valueJson, valueText, value: bytes } = formatted({ value: Buffer.from(value) }, format);
  return valueJson !== undefined ? 'json' : valueText !== undefined ? 'text' : bytes !== undefined ? 'bytes' : 'none';
}

describe('records that are given', () => {
  it('have the form that was asked for, where that says exactly what the bytes are', () => {
    expect(formOf('{"a": [1, 2.50, "x", null, true]}')).toBe('json');
    expect(formOf('{"a": 1}', RecordFormat.TEXT)).toBe('text');
    expect(formOf('{"a": 1}', RecordFormat.UNSPECIFIED)).toBe('text');
    expect(formOf('{"a": 1}', RecordFormat.BYTES)).toBe('bytes');
    expect(formOf('no JSON')).toBe('text');
    expect(formOf('')).toBe('text');
    expect(formOf(Uint8Array.of(0xff, 0xfe))).toBe('bytes');
    expect(formOf(new Uint8Array(2 * 1024 * 1024 + 1))).toBe('bytes');
  });

  it.each([
    ['a whole number beyond 2^53', '{"id": 12345678901234567890}', 'text'],
    ['2^53 + 1', '9007199254740993', 'text'],
    ['2^53', '9007199254740992', 'text'],
    ['2^53 - 1', '9007199254740991', 'json'],
    ['a fraction', '0.1', 'json'],
    ['more digits than a double has', '0.1000000000000000055511151231257827', 'text'],
    ['what no double holds', '1e400', 'text'],
    ['what is too small for a double', '1e-400', 'text'],
    ['minus zero', '-0', 'text'],
    ['zero with a fraction', '0.000', 'json'],
    ['an exponent', '1.5e3', 'json'],
    ['a field that would change the object itself', '{"__proto__": {"a": 1}}', 'text'],
    ['nesting as deep as it goes', `${'['.repeat(64)}${']'.repeat(64)}`, 'json'],
    ['deeper nesting', `${'['.repeat(65)}${']'.repeat(65)}`, 'text'],
    ['nesting without end', `${'['.repeat(100_000)}${']'.repeat(100_000)}`, 'text'],
    ['very many elements', JSON.stringify(Array.from({ length: 5_000 }, () => 1)), 'text'],
    ['a very long text', JSON.stringify('x'.repeat(256 * 1024)), 'text'],
  ])('are JSON only as long as it comes through: %s', (_label, text, form) => {
    expect(formOf(text)).toBe(form);
  });

  it('say in JSON what their bytes say, and can be published again as the same value', () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 5 }), (value) => {
        const text = JSON.stringify(value);
        const { valueJson, valueText } = formatted({ value: Buffer.from(text) });
        if (valueJson === undefined) {
          expect(valueText).toBe(text);
          return;
        }
        expect(toJson(ValueSchema, valueJson)).toEqual(JSON.parse(text));
        const again = toPlainRecord(create(PublishRecordSchema, { valueJson }));
        expect(JSON.parse(Buffer.from(again.value ?? []).toString())).toEqual(JSON.parse(text));
      }),
    );
  });

  it('are text once an answer has as much JSON as it may have', () => {
    const formatter = new RecordFormatter(RecordFormat.JSON);
    const value = Buffer.from(JSON.stringify(Array.from({ length: 4_999 }, () => 1)));
    const record: BatchRecord = { offset: 0, timestampMs: -1, key: null, value, headers: [] };
    const given = { topic: 'orders', partition: PARTITION, record };
    const forms = Array.from({ length: 6 }, () => formatter.format(given).valueJson !== undefined);
    expect(forms.filter(Boolean)).toHaveLength(MAX_JSON_NODES_OF_ANSWER / 5_000);
    expect(forms[0]).toBe(true);
  });

  it('have keys, headers, times and null values as they are', () => {
    const headers = [
      { key: 'a', value: Buffer.from('x') },
      { key: 'b', value: Uint8Array.of(0xff) },
      { key: 'c', value: null },
    ];
    const record = formatted({ key: Buffer.from('k'), headers, timestampMs: -1 });
    expect(record).toMatchObject({ keyText: 'k', partition: 3, offset: 7n, topic: 'orders' });
    expect(record.timestampMs).toBeUndefined();
    expect(formOf('x')).not.toBe('none');
    expect([record.value, record.valueText, record.valueJson]).toEqual([undefined, undefined, undefined]);
    expect(record.headers.map(({ valueText, value }) => valueText ?? value)).toEqual([
      'x',
      Uint8Array.of(0xff),
      undefined,
    ]);
  });

  it('say so when they are too large for an answer', () => {
    const key = 'k'.repeat(3 * 1024 * 1024);
    const record = formatted({ value: Buffer.from('x'), headers: [{ key, value: null }] });
    expect(record.error).toMatchObject({ code: 'RECORD_TOO_LARGE', retriable: false });
    expect([record.valueText, record.headers]).toEqual([undefined, []]);
  });
});

describe('records that are taken', () => {
  const json = (value: JsonValue) => create(PublishRecordSchema, { valueJson: fromJson(ValueSchema, value) });

  it('may be bytes, text or JSON', () => {
    const headers = [{ key: 'h', valueText: 'v' }];
    const plain = toPlainRecord(create(PublishRecordSchema, { keyText: 'k', valueText: 'v', headers }));
    const [key, value] = [Uint8Array.from(Buffer.from('k')), Uint8Array.from(Buffer.from('v'))];
    expect(plain).toEqual({ key, value, headers: [{ key: 'h', value }], partition: null, timestampMs: null });
    expect(Buffer.from(toPlainRecord(json({ b: [1, null], a: 'x' })).value ?? []).toString()).toBe(
      '{"b":[1,null],"a":"x"}',
    );
    expect(Buffer.from(toPlainRecord(json(null)).value ?? []).toString()).toBe('null');
    expect(toPlainRecord(create(PublishRecordSchema, {})).value).toBeNull();
  });

  it('are refused in two forms at once', () => {
    const value = Uint8Array.of(1);
    expect(() => toPlainRecord(create(PublishRecordSchema, { value, valueText: '' }))).toThrow(
      'a value is given in one form',
    );
    expect(() => toPlainRecord(create(PublishRecordSchema, { key: value, keyText: 'k' }))).toThrow('a key');
  });

  it.each([[2 ** 53], [{ a: [-(2 ** 60)] }], [1e300]])('are refused when %j may have been rounded', (value) => {
    expect(() => toPlainRecord(json(value))).toThrow('valueText');
  });
});
