import { decodeRecords, encodeBatch } from '@naru/protocol/batch';
import type { RecordHeaders } from '@naru/protocol/batch';
import { describe, expect, it } from 'vitest';
import { json, string } from '../serde/serde.ts';
import type { Serde } from '../serde/serde.ts';
import { seededRandom } from '../testing/virtual-time.ts';
import { CloudEvents, headerList, ownHeaders } from './cloud-events.ts';

const NOW_MS = Date.UTC(2026, 0, 31, 12, 30, 15, 7);

function make(traceparent?: () => string | undefined): CloudEvents {
  return new CloudEvents({ source: '/shop', random: seededRandom(1), traceparent });
}

function texts(headers: RecordHeaders | undefined): Record<string, string> {
  const decoder = new TextDecoder();
  return Object.fromEntries(headerList(headers).map(({ key, value }) => [key, decoder.decode(value ?? undefined)]));
}

describe('the headers of an event', () => {
  it('are those of CloudEvents in binary mode, as a record has them', () => {
    const headers = make().headers('orders', { id: 1 }, {}, undefined, NOW_MS);
    expect(texts(headers)).toEqual({
      ce_specversion: '1.0',
      ce_id: expect.stringMatching(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/),
      ce_type: 'orders',
      ce_source: '/shop',
      ce_time: '2026-01-31T12:30:15.007Z',
      'content-type': 'application/json',
    });
    const record = { key: null, value: null, headers: headerList(headers), timestampMs: 0 };
    const [read] = decodeRecords(encodeBatch([record]));
    expect(texts(read?.headers)).toEqual(texts(headers));
  });

  it('are what the caller says, where the caller says something', () => {
    const serde = string as Serde<unknown>;
    const given = [{ key: 'ce_source', value: new TextEncoder().encode('/mine') }];
    const attributes = { type: 'order.placed', id: 'my-id', traceparent: '00-aa-bb-01', serde };
    expect(texts(make().headers('orders', 'x', attributes, given, NOW_MS))).toMatchObject({
      ce_type: 'order.placed',
      ce_id: 'my-id',
      ce_source: '/mine',
      traceparent: '00-aa-bb-01',
      'content-type': 'text/plain',
    });
    expect(texts(make(() => '00-cc-dd-00').headers('orders', 'x', {}, undefined, NOW_MS))['traceparent']).toBe(
      '00-cc-dd-00',
    );
  });

  it('have no content type without a value', () => {
    expect(texts(make().headers('orders', null, { serde: json }, undefined, NOW_MS))).not.toHaveProperty(
      'content-type',
    );
  });

  it('have the time of each event, wherever in a second it was and after whichever other', () => {
    const events = make();
    const steps = [0, 7, 999, 1_000, 1_001, 59_999, 60_000, 59_998, NOW_MS, NOW_MS + 992, NOW_MS + 993, NOW_MS, 5];
    for (const timestampMs of steps) {
      const { ce_time: time } = texts(events.headers('orders', 1, {}, undefined, timestampMs));
      expect(time).toBe(new Date(timestampMs).toISOString());
    }
  });

  it('stay an event’s own once they are kept', () => {
    const events = make();
    const first = ownHeaders(events.headers('orders', 1, {}, undefined, NOW_MS));
    const before = texts(first);
    events.headers('orders', 2, {}, undefined, NOW_MS + 5);
    expect(texts(first)).toEqual(before);
  });

  it('have ids in the order in which the events were made, none of them twice', () => {
    const events = make();
    // Many within a millisecond, then a millisecond for each.
    const madeMs = (i: number): number => NOW_MS + (i < 6_000 ? Math.floor(i / 1_000) : i - 5_990);
    const ids = Array.from({ length: 6_200 }, (_, i) =>
      String(texts(events.headers('orders', i, {}, undefined, madeMs(i)))['ce_id']),
    );
    expect(new Set(ids).size).toBe(ids.length);
    expect(ids).toEqual(ids.toSorted());
    const randomParts = ids.slice(6_000).map((id) => id.slice(19));
    expect(new Set(randomParts).size).toBe(randomParts.length);
    expect(parseInt(ids[0]?.replaceAll('-', '').slice(0, 12) ?? '', 16)).toBe(NOW_MS);
  });
});
