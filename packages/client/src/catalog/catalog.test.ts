import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { settingsSchema } from '../settings.ts';
import { Catalog } from './catalog.ts';

/** A folder with these files. */
async function folder(files: Readonly<Record<string, string>>): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'naru-catalog-'));
  onTestFinished(() => rm(directory, { recursive: true }));
  for (const [name, text] of Object.entries(files)) {
    await mkdir(dirname(join(directory, name)), { recursive: true });
    await writeFile(join(directory, name), text);
  }
  return directory;
}

const ORDERS = `
events:
  order.placed:
    topic: orders
    key: /orderId
    schema: ./schemas/order-placed.json
    partitions: 3
    retention: { time: 7d, size: 10GiB, policy: [delete, acknowledged] }
    retry: { attempts: 7, backoff: { initial: 1s } }
    deadLetter: { afterDeadLetter: park }
    groups:
      payment: { order: 1, guarantee: exactly-once }
      shipping: { order: 2, deadLetter: { afterDeadLetter: continue }, onDeadLetter: release }
      search: { poll: 5s, concurrency: 32, unhandled: skip, retry: { attempts: unlimited } }
  order.cancelled: { topic: orders, key: /orderId, settings: { segment.bytes: 1MiB } }
include: [more/views.yaml]
environments:
  test:
    events:
      order.placed: { partitions: 1 }
`;
const FILES = {
  'events.yaml': ORDERS,
  'more/views.yaml': 'events:\n  page.viewed: { type: parallel, schema: view.json }\n',
  'more/view.json': '{"type":"object"}',
  'schemas/order-placed.json': '{"type":"object","required":["orderId"]}',
};

describe('a catalog', () => {
  it('has topics of its events, and groups of both', async () => {
    const catalog = await Catalog.load(join(await folder(FILES), 'events.yaml'));
    expect([...catalog.events.keys()]).toEqual(['order.placed', 'order.cancelled', 'page.viewed']);
    expect(catalog.topics.get('orders')).toMatchObject({
      type: 'ordered',
      partitions: 3,
      config: {
        'retention.ms': '604800000',
        'retention.bytes': String(10 * 1024 ** 3),
        'cleanup.policy': 'delete,acknowledged',
        'segment.bytes': '1MiB',
        groups: 'payment:after-dead-letter=park,search:after-dead-letter=park,shipping:order=2:on-dead-letter=release',
      },
    });
    expect(catalog.topics.get('page.viewed')).toMatchObject({ type: 'parallel', partitions: undefined, config: {} });
    expect(catalog.groups.get('search')).toEqual({ poll: 5_000, concurrency: 32, unhandled: 'skip' });
    await catalog.check();
  });

  it('has retry from the group, else the event, else the settings', async () => {
    const catalog = await Catalog.load(join(await folder(FILES), 'events.yaml'));
    const { retry } = settingsSchema.parse({}).subscriber;
    const event = catalog.event('order.placed');
    expect(event.retryOf('payment', retry)).toMatchObject({
      attempts: 7,
      backoff: { initialMs: 1_000, maxMs: 30_000 },
    });
    expect(event.retryOf('search', retry)).toMatchObject({ attempts: 'unlimited', backoff: { initialMs: 1_000 } });
    expect(catalog.event('page.viewed').retryOf('anybody', retry)).toEqual(retry);
  });

  it('is overlaid with what an environment says', async () => {
    const file = join(await folder(FILES), 'events.yaml');
    const catalog = await Catalog.load(file, { environment: 'test' });
    expect(catalog.topics.get('orders')).toMatchObject({ partitions: 1, type: 'ordered' });
    expect(catalog.environments).toEqual(['test']);
    await expect(Catalog.load(file, { environment: 'tset' })).rejects.toMatchObject({
      message: expect.stringContaining('no environment "tset"; did you mean "test"?'),
    });
  });

  it('takes keys out of values, which are text or numbers', async () => {
    const catalog = await Catalog.load(
      join(await folder({ 'e.yaml': 'events: { a: { key: /deep/0/id~1x }, b: {} }' }), 'e.yaml'),
    );
    const event = catalog.event('a');
    expect(event.keyOf({ deep: [{ 'id/x': 'k' }] })).toBe('k');
    expect(event.keyOf({ deep: [{ 'id/x': 0 }] })).toBe('0');
    expect(event.keyOf({ deep: [{ 'id/x': 12345678901234567890n }] })).toBe('12345678901234567890');
    expect(catalog.event('b').keyOf({})).toBeUndefined();
    for (const [value, what] of [
      [{}, 'is missing'],
      [null, 'is missing'],
      [{ deep: [{ 'id/x': '' }] }, 'is empty'],
      [{ deep: [{ 'id/x': true }] }, 'is true'],
      [{ deep: [{ 'id/x': {} }] }, 'is an object'],
    ] as const) {
      const message = `value of a: /deep/0/id~1x: ${what}, and it is the key of a: expected text or a number`;
      expect(() => event.keyOf(value)).toThrow(expect.objectContaining({ code: 'SERIALIZATION', message }));
    }
  });

  it('says what an unknown event may have been meant to be', async () => {
    const catalog = await Catalog.load(join(await folder(FILES), 'events.yaml'));
    expect(() => catalog.event('order.plcaed')).toThrow(/no event "order.plcaed" .*; did you mean "order.placed"\?$/);
    expect(() => catalog.event('orders')).toThrow(
      /no event "orders" .*; it is a topic, with order.placed, order.cancelled$/,
    );
    expect(() => catalog.event('weather')).toThrow(/no event "weather" in the catalog .*events.yaml$/);
  });

  it('takes a part of a large schema with what the part refers to', async () => {
    const schema = {
      $schema: 'http://json-schema.org/draft-07/schema#',
      definitions: {
        order: { type: 'object', properties: { user: { $ref: '#/definitions/user' } }, required: ['user'] },
        user: { type: 'object', properties: { name: { type: 'string' }, friend: { $ref: '#/definitions/user' } } },
        other: { type: 'nonsense that is not needed' },
      },
    };
    const text = 'events: { a: { schema: "s.json#/definitions/order" } }';
    const catalog = await Catalog.load(
      join(await folder({ 'e.yaml': text, 's.json': JSON.stringify(schema) }), 'e.yaml'),
    );
    const serde = await catalog.event('a').localSerde();
    const context = { topic: 'a' };
    expect(serde.serialize({ user: { name: 'x', friend: { name: 'y' } } }, context)).not.toBeNull();
    expect(() => serde.serialize({ user: { friend: { name: 5 } } }, context)).toThrow('/user/friend/name');
    const source = await catalog.event('a').schemaSource();
    expect(Object.keys((JSON.parse(source?.schema ?? '') as typeof schema).definitions)).toEqual(['order', 'user']);
  });
});
