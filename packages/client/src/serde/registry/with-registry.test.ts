import { createRequire } from 'node:module';
import { silentLogger } from '@naru/base';
import type confluent from '@kafkajs/confluent-schema-registry';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { deferred } from '../../deferred.ts';
import { FakeSchemaRegistry } from '../../testing/fake-schema-registry.ts';
import { VirtualTime, seededRandom } from '../../testing/virtual-time.ts';
import { avro } from '../avro.ts';
import { jsonSchema } from '../json-schema.ts';
import { protobuf } from '../protobuf.ts';
import { decodeValue, serializeValue } from '../serde.ts';
import { SchemaRegistryClient } from './schema-registry-client.ts';
import type { SchemaRegistryOptions } from './schema-registry-client.ts';
import { withRegistry } from './with-registry.ts';

const { SchemaRegistry, SchemaType } = createRequire(import.meta.url)(
  '@kafkajs/confluent-schema-registry',
) as typeof confluent;

function setUp(options: Partial<SchemaRegistryOptions> = {}) {
  const time = new VirtualTime();
  const registry = new FakeSchemaRegistry();
  const runtime = { clock: time, timers: time, random: seededRandom(1), logger: silentLogger };
  const client = new SchemaRegistryClient({ url: 'localhost:9092', fetch: registry.fetch, runtime, ...options });
  return { time, registry, runtime, client };
}

const v1 = { type: 'record', name: 'Order', fields: [{ name: 'id', type: 'int' }] };
const v2 = {
  type: 'record',
  name: 'Order',
  fields: [
    { name: 'id', type: 'long' },
    { name: 'state', type: 'string', default: 'new' },
  ],
};
const topic = { topic: 'orders' };

describe('with a registry', () => {
  it('the first event registers its schema, the next ones wait for nothing', async () => {
    const { registry, client } = setUp();
    const serde = withRegistry(await avro({ schema: v1 }), { client });
    const first = serde.serialize({ id: 1 }, topic);
    expect(first).toBeInstanceOf(Promise);
    expect(await first).toEqual(Buffer.from([0, 0, 0, 0, 1, 2]));
    expect(serde.serialize({ id: 2 }, topic)).toEqual(Buffer.from([0, 0, 0, 0, 1, 4]));
    expect(registry.requests).toEqual(['POST /subjects/orders-value/versions']);
    const reader = withRegistry(await avro({ schema: v1 }), { client });
    expect(await reader.deserialize(Buffer.from([0, 0, 0, 0, 1, 2]), topic)).toEqual({ id: 1 });
    expect(reader.deserialize(Buffer.from([0, 0, 0, 0, 1, 4]), topic)).toEqual({ id: 2 });
    expect([serde.serialize(null, topic), serde.deserialize(null, topic)]).toEqual([null, null]);
  });

  it('those who ask for the same at the same time share one request', async () => {
    const { registry, client } = setUp();
    registry.add('orders-value', { schema: JSON.stringify(v1) });
    const hold = deferred<void>();
    registry.hold = hold.promise;
    const one = withRegistry(await avro({ schema: v1 }), { client });
    const two = withRegistry(await avro({ schema: v2 }), { client });
    const bytes = Buffer.from([0, 0, 0, 0, 1, 2]);
    const read = async (serde: typeof one): Promise<unknown> => serde.deserialize(bytes, topic);
    const reads = [read(one), read(one), read(two)];
    const writes = [one.serialize({ id: 1 }, topic), one.serialize({ id: 1 }, topic)];
    hold.resolve();
    expect(await Promise.all(reads)).toEqual([{ id: 1 }, { id: 1 }, { id: 1n, state: 'new' }]);
    await Promise.all(writes.map(async (written) => written));
    expect(registry.requests.sort()).toEqual(['GET /schemas/ids/1', 'POST /subjects/orders-value/versions']);
  });

  it('what was written with another version is read as the reader has it', async () => {
    const { client } = setUp();
    const old = withRegistry(await avro({ schema: v1 }), { client });
    const now = withRegistry(await avro({ schema: v2 }), { client });
    expect(await now.deserialize((await old.serialize({ id: 5 }, topic)) as Uint8Array, topic)).toEqual({
      id: 5n,
      state: 'new',
    });
    const oldJson = withRegistry(await jsonSchema({ schema: { type: 'object' } }), { client });
    const nowJson = withRegistry(await jsonSchema({ schema: { properties: { state: { default: 'new' } } } }), {
      client,
    });
    expect(await nowJson.deserialize((await oldJson.serialize({ id: 5 }, topic)) as Uint8Array, topic)).toEqual({
      id: 5,
      state: 'new',
    });
  });

  it('subjects are named as told', async () => {
    const { registry, client } = setUp();
    const serde = await avro({ schema: { ...v1, namespace: 'shop' } });
    for (const subject of ['topic', 'record', 'topic-record', () => 'own'] as const)
      await withRegistry(serde, { client, subject }).serialize({ id: 1 }, topic);
    expect(registry.subjects()).toEqual(['orders-value', 'shop.Order', 'orders-shop.Order', 'own']);
    const untitled = withRegistry(await jsonSchema({ schema: true }), { client, subject: 'record' });
    expect(() => serializeValue(untitled, 1, 'orders')).toThrow(
      'the subject cannot be named by record: its JSON Schema has no title',
    );
  });

  it('nothing is registered when that is turned off, and the latest is used when that is on', async () => {
    const { time, registry, runtime, client } = setUp();
    const strict = withRegistry(await avro({ schema: v1 }), { client, autoRegister: false });
    await expect(serializeValue(strict, { id: 1 }, 'orders')).rejects.toMatchObject({
      code: 'SERIALIZATION',
      retriable: false,
      format: 'avro',
      subject: 'orders-value',
      message: expect.stringMatching(
        /^value for orders is not avro: subject orders-value: .*404: Schema not found$/,
      ) as string,
    });
    registry.add('orders-value', { schema: JSON.stringify(v1) });
    const latest = withRegistry(await avro({ schema: v1 }), { client, useLatest: true, runtime });
    expect(await latest.serialize({ id: 1 }, topic)).toEqual(Buffer.from([0, 0, 0, 0, 1, 2]));
    registry.add('orders-value', { schema: JSON.stringify(v2) });
    expect(latest.serialize({ id: 1 }, topic)).toEqual(Buffer.from([0, 0, 0, 0, 1, 2]));
    await time.advance(60_000);
    expect(await latest.serialize({ id: 1, state: 'x' }, topic)).toEqual(Buffer.from([0, 0, 0, 0, 2, 2, 2, 120]));
  });

  it('a registry that does not answer is asked again, and is no fault of the event', async () => {
    const { time, registry, client } = setUp({ attempts: 3 });
    const serde = withRegistry(await avro({ schema: v1 }), { client });
    registry.instead.push({ status: 503, body: 'busy' }, new TypeError('fetch failed'));
    const written = Promise.resolve(serde.serialize({ id: 1 }, topic));
    await time.advance(1_000);
    expect(await written).toEqual(Buffer.from([0, 0, 0, 0, 1, 2]));
    registry.instead.push(
      ...Array.from({ length: 3 }, () => ({ status: 500, body: { error_code: 50001, message: 'store' } })),
    );
    const reader = withRegistry(await avro({ schema: v1 }), { client });
    const failed = Promise.resolve(decodeValue(reader, Buffer.from([0, 0, 0, 0, 1, 2]), 'orders/0/1')).catch(
      (error: unknown) => error,
    );
    await time.advance(2_000);
    expect(await failed).toMatchObject({
      code: 'NETWORK',
      retriable: true,
      message: expect.stringMatching(/500: store$/) as string,
    });
    expect(await reader.deserialize(Buffer.from([0, 0, 0, 0, 1, 2]), topic)).toEqual({ id: 1 });
  });

  it('of several registries the next is asked when one does not answer', async () => {
    const asked: string[] = [];
    const send = (url: string) => {
      asked.push(new URL(url).host);
      return asked.length === 1
        ? Promise.reject(new Error('refused'))
        : Promise.resolve(Response.json({ id: 1, schema: '"int"' }));
    };
    const { time, client } = setUp({ url: ['a:1', 'http://b:2'], fetch: send as never });
    const schema = client.schema(1);
    await time.advance(1_000);
    expect([(await schema).schema, asked]).toEqual(['"int"', ['a:1', 'b:2']]);
  });

  it('a registry that hangs is given up', async () => {
    const { time, registry, client } = setUp({ attempts: 2, timeoutMs: 1_000 });
    registry.hold = new Promise(() => {});
    const asked = client.schema(1).catch((error: unknown) => error);
    await time.advance(5_000);
    expect(await asked).toMatchObject({ code: 'REQUEST_TIMED_OUT', retriable: true });
    expect(registry.requests.length).toBe(2);
  });

  it('what cannot be read tells which schema', async () => {
    const { time, registry, client } = setUp();
    const serde = withRegistry(await avro({ schema: v1 }), { client });
    await serde.serialize({ id: 1 }, topic);
    registry.add('x', { schema: '{"type":"strng"}' });
    registry.add('x', { schema: '{}', schemaType: 'JSON' });
    registry.add('x', { schema: '"string"' });
    registry.add('x', { schema: '', schemaType: 'XML' });
    const read = async (bytes: readonly number[]) => {
      const failed = await Promise.resolve()
        .then(() => decodeValue(serde, Buffer.from(bytes), 'orders/0/1'))
        .catch((error: unknown) => error as { message: string; code: string; schemaId?: number });
      expect(failed).toMatchObject({ code: 'SERIALIZATION', format: 'avro', retriable: false });
      const { message, schemaId } = failed as { message: string; schemaId?: number };
      return [schemaId, message.replace('value of orders/0/1 is not avro: ', '')];
    };
    expect(await read([0, 0, 0])).toEqual([undefined, 'expected 0 and a schema id in front, got 3 bytes']);
    expect(await read([0x7b, 0, 0, 0, 1])).toEqual([
      undefined,
      'expected 0 and a schema id in front, got a first byte of 123',
    ]);
    expect(await read([0, 0, 0, 0, 1, 0x80])).toEqual([1, 'schema 1: /id: the payload ends within an int']);
    expect(await read([0, 0, 0, 0, 2, 2])).toEqual([2, expect.stringMatching(/^schema 2: schema: .*strng/)]);
    expect(await read([0, 0, 0, 0, 3, 2])).toEqual([3, 'schema 3: it was written with JSON, not Avro']);
    expect(await read([0, 0, 0, 0, 4, 2])).toEqual([
      4,
      expect.stringMatching(/^schema 4: what was written as string cannot be read as Order/),
    ]);
    expect(await read([0, 0, 0, 0, 5])).toEqual([5, 'schema 5: schemas of type "XML" are not known']);
    expect(await read([0, 0xff, 0xff, 0xff, 0xff])).toEqual([
      -1,
      expect.stringMatching(/^schema -1: .*404: Schema -1 not found/),
    ]);
    // Asked for once, although many such events may come.
    const before = registry.requests.length;
    await read([0, 0xff, 0xff, 0xff, 0xff]);
    expect(registry.requests.length).toBe(before);
    await time.advance(10_000);
    await read([0, 0xff, 0xff, 0xff, 0xff]);
    expect(registry.requests.length).toBe(before + 1);
  });

  it.each([
    ['another server', { status: 404, body: '<html>' }, 'INVALID_CONFIGURATION'],
    ['something that is not JSON', { status: 200, body: 'hello' }, 'INVALID_CONFIGURATION'],
    [
      'a refusal of credentials',
      { status: 401, body: { error_code: 401, message: 'Unauthorized' } },
      'INVALID_CONFIGURATION',
    ],
    ['an incompatible schema', { status: 409, body: { error_code: 409, message: 'incompatible' } }, 'SERIALIZATION'],
    ['an answer without an id', { status: 200, body: {} }, 'SERIALIZATION'],
  ])('%s is told as it is', async (_name, answer, code) => {
    const { registry, client } = setUp();
    registry.instead.push(answer);
    const serde = withRegistry(await avro({ schema: v1 }), { client });
    await expect(serializeValue(serde, { id: 1 }, 'orders')).rejects.toMatchObject({ code, retriable: false });
  });

  it('references are fetched with their own references, each once', async () => {
    const { registry, client } = setUp();
    const c = { type: 'record', name: 'C', fields: [{ name: 'n', type: 'long' }] };
    const b = { type: 'record', name: 'B', fields: [{ name: 'c', type: 'C' }] };
    const a = {
      type: 'record',
      name: 'A',
      fields: [
        { name: 'b', type: 'B' },
        { name: 'c', type: 'C' },
      ],
    };
    const at = (name: string) => ({ name, subject: name, version: 1 });
    registry.add('C', { schema: JSON.stringify(c) });
    registry.add('B', { schema: JSON.stringify(b), references: [at('C')] });
    const id = registry.add('orders-value', { schema: JSON.stringify(a), references: [at('B'), at('C')] });
    const references = [
      { name: 'C', schema: c },
      { name: 'B', schema: b },
    ];
    const serde = withRegistry(await avro({ schema: a, references }), { client });
    expect(await serde.deserialize(Buffer.from([0, 0, 0, 0, id, 2, 4]), topic)).toEqual({
      b: { c: { n: 1n } },
      c: { n: 2n },
    });
    expect(registry.requests).toEqual([
      `GET /schemas/ids/${id}`,
      'GET /subjects/B/versions/1',
      'GET /subjects/C/versions/1',
    ]);
  });

  it('credentials of the address go into a header', async () => {
    let seen: unknown;
    const send = (url: string, { headers }: { headers: Record<string, string> }) => {
      seen = [url, headers['authorization']];
      return Promise.resolve(Response.json({ id: 1, schema: '"int"' }));
    };
    await setUp({ url: 'https://me:p%40ss@registry.example/base/', fetch: send as never }).client.schema(1);
    expect(seen).toEqual([
      'https://registry.example/base/schemas/ids/1',
      `Basic ${Buffer.from('me:p@ss').toString('base64')}`,
    ]);
  });
});

describe('protobuf with a registry', () => {
  const schema = `syntax = "proto3"; package shop;
    message A { int32 x = 1; message In { int32 y = 1; message Deep { int32 z = 1; } } map<string, int32> m = 2; message In2 { int32 y = 1; } }
    message B { int32 x = 1; }`;

  it.each([
    ['shop.A', [0], { x: 1 }, [8, 1]],
    ['shop.B', [2, 2], { x: 1 }, [8, 1]],
    ['shop.A.In', [4, 0, 0], { y: 1 }, [8, 1]],
    ['shop.A.In2', [4, 0, 2], { y: 1 }, [8, 1]],
    ['shop.A.In.Deep', [6, 0, 0, 0], { z: 1 }, [8, 1]],
  ])('%s has its message indexes', async (message, indexes, value, payload) => {
    const { client } = setUp();
    const serde = withRegistry(await protobuf<unknown>({ schema, message }), { client });
    const bytes = (await serde.serialize(value, topic)) as Uint8Array;
    expect([...bytes]).toEqual([0, 0, 0, 0, 1, ...indexes, ...payload]);
    expect(await serde.deserialize(bytes, topic)).toMatchObject(value);
  });

  it('another message of the file is not read as this one; one without indexes is the first', async () => {
    const { client } = setUp();
    const a = withRegistry(await protobuf<unknown>({ schema }), { client });
    const b = withRegistry(await protobuf<unknown>({ schema, message: 'shop.B' }), { client });
    const bytes = (await b.serialize({ x: 1 }, topic)) as Uint8Array;
    await expect(decodeValue(a, bytes, 'orders/0/0')).rejects.toThrow(/schema 1: it is shop\.B, not shop\.A$/);
    expect(a.deserialize(Buffer.from([0, 0, 0, 0, 1, 8, 5]), topic)).toMatchObject({ x: 5 });
    expect(a.deserialize(Buffer.from([0, 0, 0, 0, 1]), topic)).toMatchObject({ x: 0 });
  });
});

describe("kafkajs's client of Confluent's registry", () => {
  let server: Awaited<ReturnType<FakeSchemaRegistry['listen']>>;
  beforeAll(async () => {
    server = await new FakeSchemaRegistry().listen();
  });
  afterAll(() => server.close());

  const json = { type: 'object', title: 'Order', properties: { id: { type: 'integer' } }, required: ['id'] };
  const proto = 'syntax = "proto3"; package shop; message Order { int32 id = 1; string state = 2; }';

  it.each([
    ['AVRO', JSON.stringify(v1), () => avro({ schema: v1 })],
    ['JSON', JSON.stringify(json), () => jsonSchema({ schema: json })],
    ['PROTOBUF', proto, () => protobuf<unknown>({ schema: proto })],
  ] as const)('reads what we write, and we read what it writes: %s', async (type, schema, make) => {
    const kafka = new SchemaRegistry({ host: server.url });
    const client = new SchemaRegistryClient({ url: server.url });
    const serde = withRegistry(await make(), { client });
    const theirs = { topic: `theirs-${type}` };
    const { id } = await kafka.register({ type: SchemaType[type], schema }, { subject: `${theirs.topic}-value` });
    const encoded = await kafka.encode(id, { id: 42 });
    expect(await serde.deserialize(encoded, theirs)).toMatchObject({ id: 42 });
    const ours = (await serde.serialize({ id: 43 }, { topic: `ours-${type}` })) as Buffer;
    const decoded = (await new SchemaRegistry({ host: server.url }).decode(ours)) as { id: number };
    expect(decoded.id).toBe(43);
  });
});
