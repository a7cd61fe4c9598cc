import type { TopicId } from '@naru/base';
import { NaruEvent, serdes } from '@naru/client';
import { encodeBatch, iterateRecords, setBatchOffsets } from '@naru/protocol/batch';
import { describe, expect, it } from 'vitest';
import { eventJsonLine, eventTextLine } from './event-line.ts';

interface Given {
  readonly key?: Uint8Array | null;
  readonly value: Uint8Array | string | null;
  readonly headers?: { key: string; value: Uint8Array | null }[];
  readonly timestampMs?: number;
}

function event({ key = null, value, headers = [], timestampMs = Date.UTC(2026, 0, 31) }: Given): NaruEvent {
  const bytes = typeof value === 'string' ? Buffer.from(value, 'utf8') : value;
  const batch = encodeBatch([{ key, value: bytes, headers, timestampMs }]);
  setBatchOffsets(batch, 7, 0);
  const record = iterateRecords(batch).next().value as ConstructorParameters<typeof NaruEvent>[3];
  return new NaruEvent('orders', '00000000-0000-4000-8000-000000000000' as TopicId, 2, record, serdes.bytes);
}

const parsed = (given: Given): Record<string, unknown> =>
  JSON.parse(eventJsonLine(event(given))) as Record<string, unknown>;

describe('an event as a line of JSON', () => {
  it('says where it is, its key, its value, its headers and its time', () => {
    const headers = [
      { key: 'a', value: Buffer.from('1') },
      { key: 'a', value: null },
    ];
    const { requestId, ...rest } = parsed({ key: Buffer.from('k'), value: '{"n":1}', headers });
    expect(requestId).toMatch(/^[0-9a-z]+$/);
    expect(rest).toEqual({
      topic: 'orders',
      partition: 2,
      offset: 7,
      key: 'k',
      value: { n: 1 },
      headers: [
        { key: 'a', value: '1' },
        { key: 'a', value: null },
      ],
      timestamp: '2026-01-31T00:00:00.000Z',
    });
  });

  it('keeps every digit of its numbers', () => {
    expect(eventJsonLine(event({ value: '[12345678901234567890, 1.10]' }))).toContain(
      '"value":[12345678901234567890, 1.10]',
    );
  });

  it('is one line whatever the layout of its value', () => {
    const line = eventJsonLine(event({ value: '{\r\n  "a": "x\\ny"\n}\n' }));
    expect(line.indexOf('\n')).toBe(line.length - 1);
    expect((JSON.parse(line) as { value: unknown }).value).toEqual({ a: 'x\ny' });
  });

  it('has text for a value that is not JSON, and base64 for bytes that are not UTF-8', () => {
    expect(parsed({ value: 'a "b"\nc' })['value']).toBe('a "b"\nc');
    expect(parsed({ value: '' })['value']).toBe('');
    const binary = parsed({ key: Buffer.from([0xff]), value: Buffer.from([0xff, 0xfe]) });
    expect(binary).toMatchObject({ keyBase64: '/w==', valueBase64: '//4=' });
    expect(binary).not.toHaveProperty('value');
  });

  it('has null for what is not there', () => {
    expect(parsed({ value: null, timestampMs: -1 })).toMatchObject({ key: null, value: null, timestamp: null });
  });
});

describe('an event as a line for people', () => {
  it('shows control characters in place of sending them to the terminal', () => {
    const line = eventTextLine(event({ key: Buffer.from('k\u001b[2J'), value: 'a\nb\u009bc' }));
    expect(line).toBe('orders/2/7  2026-01-31T00:00:00.000Z  [k\\x1b[2J]  a\\x0ab\\x9bc\n');
  });
});
