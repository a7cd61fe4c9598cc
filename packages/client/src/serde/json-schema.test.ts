import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { describe, expect, it } from 'vitest';
import { jsonSchema } from './json-schema.ts';
import { decodeValue, json, string } from './serde.ts';
import type { SerializationError } from './serialization-error.ts';

const schema = {
  $schema: 'https://json-schema.org/draft/2020-12/schema',
  title: 'Order',
  type: 'object',
  required: ['id', 'lines'],
  properties: {
    id: { type: 'string', pattern: '^o-' },
    email: { type: 'string', format: 'email' },
    state: { enum: ['new', 'paid'], default: 'new' },
    'a/b': { type: 'number' },
    lines: {
      type: 'array',
      minItems: 1,
      items: { type: 'object', properties: { sku: { type: 'string' }, count: { type: 'integer', default: 1 } } },
    },
    pay: {
      anyOf: [
        { type: 'object', required: ['card'], properties: { card: { type: 'object', required: ['number'] } } },
        { type: 'null' },
      ],
    },
  },
  additionalProperties: false,
};
const full = { id: 'o-1', lines: [{ sku: 'x', count: 2 }], state: 'paid' };

function thrown(work: () => unknown): SerializationError {
  try {
    work();
  } catch (error) {
    return error as SerializationError;
  }
  throw new Error('nothing was thrown');
}

describe('json with a schema', () => {
  it('writes what JSON makes of a value, and reads it', async () => {
    const serde = await jsonSchema({ schema });
    expect(serde.deserialize(serde.serialize(full))).toEqual(full);
    expect([serde.serialize(null), serde.deserialize(null), serde.recordName]).toEqual([null, null, 'Order']);
    const dated = await jsonSchema({
      schema: { type: 'object', properties: { at: { type: 'string', format: 'date-time' } } },
    });
    const at = new Date(0);
    expect(dated.deserialize(dated.serialize({ at, none: undefined }))).toEqual({ at: at.toJSON() });
  });

  it('fills in defaults when reading, and leaves what is published alone', async () => {
    const serde = await jsonSchema({ schema });
    const value = { id: 'o-1', lines: [{ sku: 'x' }] };
    const bytes = serde.serialize(value);
    expect(Buffer.from(bytes as Uint8Array).toString()).toBe(JSON.stringify(value));
    expect(serde.deserialize(bytes)).toEqual({ id: 'o-1', lines: [{ sku: 'x', count: 1 }], state: 'new' });
  });

  it.each([
    ['draft-07', 'http://json-schema.org/draft-07/schema#'],
    ['draft-06', 'http://json-schema.org/draft-06/schema#'],
    ['2019-09', 'https://json-schema.org/draft/2019-09/schema'],
  ])('knows %s', async (_name, $schema) => {
    const made = await jsonSchema({
      schema: { $schema, definitions: { n: { type: 'number' } }, items: { $ref: '#/definitions/n' } },
    });
    expect(thrown(() => made.serialize([1, 'x'])).message).toBe('/1: must be number, got "x"');
  });

  it('takes tuples as each draft has them', async () => {
    const tuple = [{ type: 'string' }];
    const old = await jsonSchema({ schema: { $schema: 'http://json-schema.org/draft-07/schema#', items: tuple } });
    const now = await jsonSchema({ schema: { prefixItems: tuple } });
    for (const serde of [old, now]) expect(thrown(() => serde.serialize([5])).path).toBe('/0');
  });

  it('knows the schemas of GitHub webhooks', async () => {
    const path = createRequire(import.meta.url).resolve('@octokit/webhooks-schemas/schema.json');
    const webhooks = JSON.parse(readFileSync(path, 'utf8')) as { definitions: object };
    const serde = await jsonSchema({ schema: { ...webhooks, oneOf: undefined, $ref: '#/definitions/star$created' } });
    expect(thrown(() => serde.serialize({ action: 'created', starred_at: 5 }))).toMatchObject({
      code: 'SERIALIZATION',
      format: 'json',
    });
  });

  it('takes schemas from others, by their name and by their $id', async () => {
    const references = [{ name: 'money.json', schema: { $id: 'https://shop.example/money', type: 'integer' } }];
    for (const $ref of ['money.json', 'https://shop.example/money']) {
      const serde = await jsonSchema({ schema: { properties: { total: { $ref } } }, references });
      expect(thrown(() => serde.serialize({ total: 1.5 })).message).toBe('/total: must be integer, got 1.5');
    }
  });

  it('takes properties with the names of inherited ones, where the schema has them', async () => {
    const constructor = { type: 'number' };
    const serde = await jsonSchema({
      schema: { $defs: { constructor }, properties: { constructor: { $ref: '#/$defs/constructor' } } },
    });
    expect(serde.deserialize(serde.serialize({ constructor: 5 }))).toEqual({ constructor: 5 });
    expect(thrown(() => serde.serialize({ constructor: 'x' })).path).toBe('/constructor');
  });

  const schemas: [name: string, schema: object | boolean | string, path: string, message: RegExp][] = [
    ['no JSON', '{"type"', '', /not JSON/],
    ['a number', '5', '', /a JSON Schema is an object, true or false/],
    [
      'an unknown type',
      { properties: { a: { type: 'strng' } } },
      '/properties/a/type',
      /schema: must be equal to one of the allowed values: .*"string"/,
    ],
    ['a keyword of another type', { required: 'id' }, '/required', /must be array/],
    ['a broken pattern', { pattern: '(' }, '', /Invalid regular expression|must match format "regex"/],
    [
      'an unknown draft',
      { $schema: 'http://json-schema.org/draft-04/schema#' },
      '/$schema',
      /unknown dialect .*draft-04.*known are 2020-12/,
    ],
    ['a reference to nothing', { $ref: '#/$defs/nothing' }, '', /can't resolve reference #\/\$defs\/nothing/],
    ['a reference to an unknown file', { $ref: 'other.json' }, '', /can't resolve reference other\.json/],
    [
      'a reference through __proto__',
      { properties: { a: { $ref: '#/__proto__/x' } } },
      '/properties/a/$ref',
      /must not lead through __proto__/,
    ],
    [
      'a reference through an inherited constructor',
      { $ref: '#/constructor' },
      '/$ref',
      /must not lead through constructor/,
    ],
    [
      'a key __proto__',
      '{"properties":{"__proto__":{"type":"object"}}}',
      '/properties/__proto__',
      /the key __proto__ is not allowed/,
    ],
    ['an asynchronous one', { $async: true }, '/$async', /asynchronous schemas are not supported/],
    [
      'one nested without end',
      Array.from({ length: 600 }).reduce<object>((inner) => ({ not: inner }), {}),
      '/not'.repeat(500),
      /nested deeper than 500/,
    ],
  ];
  it.each(schemas)('refuses a schema: %s', async (_name, bad, path, message) => {
    const error = (await jsonSchema({ schema: bad }).catch((caught: unknown) => caught)) as SerializationError;
    expect(error).toMatchObject({ code: 'SERIALIZATION', format: 'json', retriable: false });
    expect(error.message).toMatch(message);
    if (path !== '') expect(error.path).toBe(path);
  });

  const values: [name: string, value: unknown, message: string][] = [
    ['a missing property', { id: 'o-1' }, '/lines: is missing'],
    ['another type', { ...full, lines: 'x' }, '/lines: must be array, got "x"'],
    ['an unknown property', { ...full, totl: 1 }, '/totl: is not in the schema'],
    ['none of an enum', { ...full, state: 'lost' }, '/state: must be one of "new", "paid", got "lost"'],
    ['not the pattern', { ...full, id: 'x' }, '/id: must match pattern "^o-", got "x"'],
    ['no e-mail address', { ...full, email: 'x' }, '/email: must match format "email", got "x"'],
    [
      'a fraction deep inside',
      { ...full, lines: [{ count: 1 }, { count: 1.5 }] },
      '/lines/1/count: must be integer, got 1.5',
    ],
    ['a key with a slash', { ...full, 'a/b': 'x' }, '/a~1b: must be number, got "x"'],
    [
      'a branch of several',
      { ...full, pay: { card: {} } },
      '/pay/card/number: is missing; /pay: must be null, got an object; /pay: must match a schema in anyOf',
    ],
    ['too few items', { ...full, lines: [] }, '/lines: must NOT have fewer than 1 items'],
  ];
  it.each(values)('refuses a value and a payload: %s', async (_name, value, message) => {
    const serde = await jsonSchema({ schema });
    expect(thrown(() => serde.serialize(value))).toMatchObject({ code: 'SERIALIZATION', message });
    expect(thrown(() => serde.deserialize(Buffer.from(JSON.stringify(value)))).message).toBe(message);
  });

  it('refuses a value nested beyond what the stack takes, with a type', async () => {
    const serde = await jsonSchema({ schema: { properties: { a: { $ref: '#' } } } });
    const text = `${'{"a":'.repeat(200_000)}1${'}'.repeat(200_000)}`;
    expect(thrown(() => serde.deserialize(Buffer.from(text)))).toMatchObject({
      code: 'SERIALIZATION',
      message: 'nested too deeply',
    });
  });
});

describe('json and text', () => {
  const read = (text: string | Uint8Array): string =>
    thrown(() => decodeValue(json, Buffer.from(text), 'orders/0/7')).message;

  it('tell where an unreadable event is, and why', () => {
    expect(read('{"a":')).toMatch(/^value of orders\/0\/7 is not json: Unexpected end/);
    expect(read(Uint8Array.of(0x22, 0xff, 0x22))).toMatch(/^value of orders\/0\/7 is not json: .*not valid/);
    expect(thrown(() => decodeValue(string, Uint8Array.of(0xff), 'a/1/2'))).toMatchObject({
      code: 'SERIALIZATION',
      format: 'string',
    });
    expect(thrown(() => string.serialize('\uD800')).message).toBe('the text has half of a surrogate pair');
  });

  it.each([
    ['__proto__', '{"a":[{"__proto__":{"admin":true}}]}', '/a/0/__proto__'],
    ['__proto__ in escapes', '{"\\u005F_pr\\u006fto__":1}', '/__proto__'],
    ['constructor.prototype', '{"constructor":{"prototype":{"x":1}}}', '/constructor/prototype'],
    ['constructor.prototype in escapes', '{"c\\u006fnstructor":{"p\\u0072ototype":1}}', '/constructor/prototype'],
    ['constructor.prototype with one escape', '{"constructor":{"protot\\u0079pe":1}}', '/constructor/prototype'],
  ])('refuse the key %s', (_name, text, path) => {
    expect(thrown(() => decodeValue(json, Buffer.from(text), 'a/0/0'))).toMatchObject({ code: 'SERIALIZATION', path });
  });

  it('take such words where they do no harm', () => {
    const text = '{"constructor":"Ferrari","prototype":{"a":"__proto__"},"b":[{"constructor":{"name":"x"}}]}';
    expect(json.deserialize(Buffer.from(text))).toEqual(JSON.parse(text));
  });

  it('read deep nesting without a deep stack', () => {
    const text = `${'['.repeat(100_000)}"__proto__"${']'.repeat(100_000)}`;
    expect(json.deserialize(Buffer.from(text))).toBeInstanceOf(Array);
  });

  it('keep a byte-order mark in text', () => {
    expect(string.deserialize(string.serialize('\uFEFFa'))).toBe('\uFEFFa');
  });
});
