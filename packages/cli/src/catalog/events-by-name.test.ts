/** Publishing and subscribing by event name, through a whole broker; topics and schemas made by `naru catalog apply`. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Broker } from '@naru/broker';
import type { Naru, NaruEvent } from '@naru/client';
import { Catalog, connect } from '@naru/client';
import { beforeEach, expect, it, onTestFinished } from 'vitest';
import { runCommandLine } from '../program.ts';
import { testTerminal } from '../test-terminal.ts';

const CATALOG = `
events:
  order.placed:
    topic: orders
    key: /order/id
    schema: order.json
    partitions: 2
    retry: { attempts: 2, backoff: { initial: 1ms, max: 1ms } }
    groups:
      shipping: { guarantee: exactly-once, concurrency: 4, poll: 20ms }
      careful: { unhandled: fail, poll: 20ms }
      patient: { retry: { attempts: 3 }, poll: 20ms }
  order.cancelled: { topic: orders, key: /order/id }
  payment.made: { format: avro, schema: payment.avsc, key: /id, registry: true, partitions: 1 }
  page.viewed: { format: protobuf, schema: view.proto, key: /userId, partitions: 1 }
  page.title: { format: string, partitions: 1 }
`;
const FILES: Readonly<Record<string, string>> = {
  'events.yaml': CATALOG,
  'order.json': JSON.stringify({
    type: 'object',
    required: ['order', 'lines'],
    properties: {
      order: { type: 'object', properties: { id: { type: 'integer' } } },
      lines: { type: 'array', items: { type: 'object', properties: { count: { type: 'integer', minimum: 1 } } } },
    },
  }),
  'payment.avsc': JSON.stringify({
    type: 'record',
    name: 'Payment',
    fields: [
      { name: 'id', type: 'string' },
      { name: 'amount', type: 'long' },
    ],
  }),
  'view.proto': 'syntax = "proto3"; message View { int64 user_id = 1; string page = 2; }',
};

let naru: Naru;
let broker: Broker;
let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'naru-catalog-sdk-'));
  for (const [name, text] of Object.entries(FILES)) await writeFile(join(directory, name), text);
  broker = await Broker.start({ storage: 'memory', port: 0 });
  const catalog = join(directory, 'events.yaml');
  const terminal = testTerminal();
  const exitCode = await runCommandLine(
    ['catalog', 'apply', '--file', catalog, '--broker', broker.bootstrap],
    terminal,
  );
  if (exitCode !== 0) throw new Error(terminal.err());
  naru = await connect({ brokers: [broker.bootstrap], catalog });
  onTestFinished(async () => {
    await naru.close();
    await broker.close();
    await rm(directory, { recursive: true });
  });
});

/** The first `count` events that `group` gets of `name`. */
async function received(group: string, name: string, count: number): Promise<NaruEvent[]> {
  const events: NaruEvent[] = [];
  const { promise: done, resolve } = Promise.withResolvers<void>();
  const subscriber = naru.subscriber(group);
  subscriber.handle(name, (event) => {
    if (events.push(event) === count) resolve();
  });
  const running = subscriber.run();
  await Promise.race([done, running]);
  await subscriber.close();
  await running;
  return events;
}

const order = (id: unknown, ...counts: number[]) => ({ order: { id }, lines: counts.map((count) => ({ count })) });

it('topic, key, type and format come from the catalog', async () => {
  const sent = await naru.publish('order.placed', order(7, 1));
  expect(sent.topic).toBe('orders');
  await naru.publish('order.cancelled', { order: { id: 7 } });
  expect(naru.enqueue('order.placed', order(8, 2))).toBe(true);
  await naru.flush();
  const events = await received('shipping', 'order.placed', 2);
  const found = events.map(({ type, key, value }) => ({ type, key, value }));
  expect(found.sort((a, b) => (String(a.key) < String(b.key) ? -1 : 1))).toEqual([
    { type: 'order.placed', key: '7', value: order(7, 1) },
    { type: 'order.placed', key: '8', value: order(8, 2) },
  ]);
  const [cancelled] = await received('others', 'order.cancelled', 1);
  expect(cancelled).toMatchObject({ type: 'order.cancelled', value: { order: { id: 7 } } });
});

it('avro through the registry, protobuf and text', async () => {
  await naru.publish('payment.made', { id: 'p', amount: 2n ** 60n });
  await naru.publish('page.viewed', { userId: 5n, page: '/' });
  await naru.publish('page.title', 'a title');
  const [payment] = await received('g', 'payment.made', 1);
  expect(payment?.value).toEqual({ id: 'p', amount: 2n ** 60n });
  expect(payment?.valueBytes?.[0]).toBe(0);
  const [view] = await received('g2', 'page.viewed', 1);
  expect(view).toMatchObject({ key: '5', value: { userId: 5n, page: '/' } });
  const [title] = await received('g3', 'page.title', 1);
  expect(title?.value).toBe('a title');
});

it.each([
  [
    'an unknown event',
    'order.plcaed',
    {},
    'INVALID_REQUEST',
    /no event "order\.plcaed" in the catalog .*; did you mean "order\.placed"\?$/,
  ],
  ['a topic', 'orders', {}, 'INVALID_REQUEST', /"orders" .* it is a topic, with order\.placed, order\.cancelled$/],
  [
    'a missing key',
    'order.placed',
    { order: {}, lines: [] },
    'SERIALIZATION',
    /^value of order\.placed: \/order\/id: is missing/,
  ],
  ['a key that is an object', 'order.cancelled', order({}), 'SERIALIZATION', /\/order\/id: is an object/],
  [
    'a JSON payload',
    'order.placed',
    order(1, 1, 0),
    'SERIALIZATION',
    /^value for orders is not json: \/lines\/1\/count: .*>= 1/,
  ],
  [
    'an Avro payload',
    'payment.made',
    { id: 'p', amount: 'much' },
    'SERIALIZATION',
    /\/amount: expected long, got "much"/,
  ],
  ['an unknown Avro field', 'payment.made', { id: 'p', amount: 1n, more: 1 }, 'SERIALIZATION', /more/],
  ['a Protobuf payload', 'page.viewed', { userId: 1n, page: 5 }, 'SERIALIZATION', /\/page: /],
  ['text that is none', 'page.title', 5, 'SERIALIZATION', /expected a string/],
])('%s is refused before it is sent', async (_name, event, value, code, message) => {
  await expect(naru.publish(event, value)).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
  const topics = ['orders', 'payment.made', 'page.viewed', 'page.title'];
  const offsets = await Promise.all(topics.map((topic) => naru.admin.listOffsets(topic, 'end')));
  expect(offsets.flat().every(({ offset }) => offset === 0n)).toBe(true);
});

it('options in code win over the catalog', async () => {
  await naru.publish('order.cancelled', { order: {} }, { key: 'mine', type: 'other' });
  const events: string[] = [];
  const { promise: done, resolve } = Promise.withResolvers<void>();
  const subscriber = naru.subscriber('patient', { retry: { attempts: 1 } });
  subscriber.handle('order.cancelled', { type: 'other' }, (found) => {
    events.push(`${found.key} ${found.type}`);
    resolve();
  });
  const running = subscriber.run();
  await done;
  await subscriber.close();
  await running;
  expect(events).toEqual(['mine other']);
});

it('a failing event is tried as often as the catalog says, for its group', async () => {
  await naru.publish('order.placed', order(1));
  const attempts = async (group: string): Promise<number> => {
    let count = 0;
    const subscriber = naru.subscriber(group);
    subscriber.handle('order.placed', () => {
      count += 1;
      throw new Error('no');
    });
    const running = subscriber.run();
    await expect.poll(async () => (await deadLetters(group)).length, { timeout: 10_000 }).toBe(1);
    await subscriber.close();
    await running;
    return count;
  };
  expect(await attempts('shipping')).toBe(2);
  expect(await attempts('patient')).toBe(3);
});

it('an event that no handler wants is a dead letter where the group’s “unhandled” is fail', async () => {
  await naru.publish('order.cancelled', { order: { id: 1 } });
  const subscriber = naru.subscriber('careful');
  subscriber.handle('order.placed', () => {});
  const running = subscriber.run();
  await expect.poll(async () => (await deadLetters('careful')).length, { timeout: 10_000 }).toBe(1);
  await subscriber.close();
  await running;
});

it('an event that does not fit its schema when it is read is a dead letter, and the next goes on', async () => {
  await using plain = await connect({ brokers: [broker.bootstrap] });
  await plain.publish('orders', { order: { id: 3 }, lines: 'none' }, { key: '3', type: 'order.placed' });
  await naru.publish('order.placed', order(3, 1));
  const [event] = await received('shipping', 'order.placed', 1);
  expect(event?.value).toEqual(order(3, 1));
  await expect.poll(async () => (await deadLetters('shipping')).length, { timeout: 10_000 }).toBe(1);
});

it('a schema that cannot be read ends the subscriber before it joins, and refuses to publish', async () => {
  await rm(join(directory, 'order.json'));
  const subscriber = naru.subscriber('shipping').handle('order.placed', () => {});
  const expected = {
    code: 'INVALID_CONFIGURATION',
    message: expect.stringMatching(
      /events\.yaml:\d+:\d+: event order\.placed: cannot read the schema .*order\.json: no such file/,
    ),
  };
  await expect(subscriber.run()).rejects.toMatchObject(expected);
  await expect(naru.publish('order.placed', order(1))).rejects.toMatchObject(expected);
  expect(await naru.admin.listGroups()).toEqual([]);
});

it('handleBatch takes an event that has its topic for itself', async () => {
  const subscriber = naru.subscriber('g');
  expect(() => subscriber.handleBatch('order.placed', () => {})).toThrow(
    /orders has others than order\.placed: use handle\(\)/,
  );
  expect(() => subscriber.handle('order.plcaed', () => {})).toThrow(/did you mean "order\.placed"\?/);
  subscriber.handleBatch('page.title', () => {});
  await subscriber.close();
});

it('a catalog can be given that was loaded before', async () => {
  const catalog = await Catalog.load(join(directory, 'events.yaml'));
  await using other = await connect({ brokers: [broker.bootstrap] }, { catalog });
  expect((await other.publish('page.title', 'x')).topic).toBe('page.title');
});

async function deadLetters(group: string): Promise<unknown[]> {
  const found: unknown[] = [];
  for await (const letter of naru.deadLetters.list(group)) found.push(letter);
  return found;
}
