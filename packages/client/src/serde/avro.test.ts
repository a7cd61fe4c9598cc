import { createRequire } from 'node:module';
import type avscModule from 'avsc';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { avro } from './avro.ts';
import type { SerializationError } from './serialization-error.ts';

const avsc = createRequire(import.meta.url)('avsc') as typeof avscModule;

const order = {
  type: 'record',
  name: 'Order',
  namespace: 'shop',
  fields: [
    { name: 'id', type: 'string' },
    { name: 'total', type: 'long' },
    {
      name: 'lines',
      type: {
        type: 'array',
        items: {
          type: 'record',
          name: 'Line',
          fields: [
            { name: 'sku', type: 'string' },
            { name: 'count', type: 'int' },
          ],
        },
      },
      default: [],
    },
    { name: 'tags', type: { type: 'map', values: 'string' }, default: {} },
    { name: 'state', type: { type: 'enum', name: 'State', symbols: ['NEW', 'PAID'] }, default: 'NEW' },
    { name: 'note', type: ['null', 'string'], default: null },
    { name: 'digest', type: ['null', { type: 'fixed', name: 'Digest', size: 4 }], default: null },
    { name: 'paid', type: 'boolean', default: false },
    { name: 'weight', type: 'double', default: 0 },
  ],
};
const full = {
  id: 'a',
  total: 2n ** 62n + 1n,
  lines: [{ sku: 'x', count: -3 }],
  tags: { colour: 'grün' },
  state: 'PAID',
  note: 'x',
  digest: Buffer.from([1, 2, 3, 4]),
  paid: true,
  weight: 1.5,
};

function thrown(work: () => unknown): SerializationError {
  try {
    work();
  } catch (error) {
    return error as SerializationError;
  }
  throw new Error('nothing was thrown');
}

describe('avro', () => {
  it('gives back what it wrote, longs beyond 2^53 included', async () => {
    const serde = await avro({ schema: order });
    const bytes = serde.serialize(full);
    expect({ ...(serde.deserialize(bytes) as object) }).toEqual(full);
    expect(serde.serialize(null)).toBeNull();
    expect(serde.deserialize(null)).toBeNull();
    expect(serde.recordName).toBe('shop.Order');
  });

  it('writes the bytes that other implementations write', async () => {
    const serde = await avro({ schema: order });
    const bare = avsc.Type.forSchema(order as never);
    const value = { ...full, total: 123_456 };
    expect(serde.serialize(value)).toEqual(bare.toBuffer(value));
  });

  it('keeps every long exactly', async () => {
    const serde = await avro<bigint>({ schema: 'long' });
    const property = fc.property(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }), (value) => {
      expect(serde.deserialize(serde.serialize(value))).toBe(value);
    });
    fc.assert(property, { seed: 7 });
    expect(serde.deserialize(serde.serialize(5 as never))).toBe(5n);
  });

  it('keeps a long beside another number apart: only a bigint is the long', async () => {
    const serde = await avro({ schema: ['null', 'int', 'long', 'string'] });
    for (const value of [5, 5n, 2n ** 60n, 'x']) expect(serde.deserialize(serde.serialize(value))).toBe(value);
  });

  it('reads what an older writer wrote as the reader wants it', async () => {
    const v1 = {
      type: 'record',
      name: 'Order',
      fields: [
        { name: 'id', type: 'int' },
        { name: 'old', type: 'string' },
        { name: 'count', type: 'int' },
      ],
    };
    const v2 = {
      type: 'record',
      name: 'Order',
      fields: [
        { name: 'id', type: 'long' },
        { name: 'amount', aliases: ['count'], type: 'double' },
        { name: 'state', type: 'string', default: 'new' },
        { name: 'big', type: 'long', default: 7 },
      ],
    };
    const serde = await avro({ schema: v1, readerSchema: v2 });
    const read = serde.deserialize(serde.serialize({ id: 4, old: 'x', count: 2 }));
    expect({ ...(read as object) }).toEqual({ id: 4n, amount: 2, state: 'new', big: 7n });
  });

  it('leaves logical types to the user, with numbers for longs', async () => {
    class Millis extends avsc.types.LogicalType {
      override _fromValue(value: number): Date {
        return new Date(value);
      }
      override _toValue(value: unknown): unknown {
        return value instanceof Date ? value.getTime() : undefined;
      }
    }
    const schema = {
      type: 'record',
      name: 'E',
      fields: [{ name: 'at', type: { type: 'long', logicalType: 'timestamp-millis' } }],
    };
    const plain = await avro<{ at: unknown }>({ schema });
    const dated = await avro<{ at: unknown }>({ schema, logicalTypes: { 'timestamp-millis': Millis } });
    const bytes = dated.serialize({ at: new Date(5_000) });
    expect(dated.deserialize(bytes).at).toEqual(new Date(5_000));
    expect(plain.deserialize(bytes).at).toBe(5_000n);
  });

  it('takes named types from other schemas', async () => {
    const line = { type: 'record', name: 'shop.Line', fields: [{ name: 'count', type: 'long' }] };
    const schema = { type: 'record', name: 'shop.Cart', fields: [{ name: 'line', type: 'shop.Line' }] };
    const serde = await avro({ schema, references: [{ name: 'shop.Line', schema: line }] });
    expect(serde.deserialize(serde.serialize({ line: { count: 3n } }))).toEqual({ line: { count: 3n } });
  });

  it('leaves out fields that the record does not have only when told to', async () => {
    const serde = await avro({ schema: order, unknownFields: 'drop' });
    expect(serde.deserialize(serde.serialize({ ...full, more: 1 }))).toEqual(full);
  });
});

describe('avro refuses', () => {
  const record = (...fields: object[]): object => ({ type: 'record', name: 'R', fields });
  const schemas: [name: string, schema: object | string, path: string, message: RegExp][] = [
    ['text that is no JSON', '{"type":', '', /schema: not JSON/],
    ['an unknown type', record({ name: 'a', type: 'strng' }), '', /undefined type name: strng/],
    ['a record without fields', { type: 'record', name: 'R' }, '', /record without fields/],
    ['a record without a name', { type: 'record', fields: [] }, '', /record without name/],
    ['a field without a type', record({ name: 'a' }), '/fields/0', /field without type/],
    [
      'a field twice',
      record({ name: 'a', type: 'int' }, { name: 'a', type: 'int' }),
      '/fields/1/name',
      /duplicate field a/,
    ],
    ['a name with a dash', record({ name: 'a-b', type: 'int' }), '/fields/0/name', /not a name: "a-b"/],
    [
      'a field called __proto__',
      '{"type":"record","name":"R","fields":[{"name":"__proto__","type":"int"}]}',
      '/fields/0/name',
      /__proto__ is not allowed/,
    ],
    ['an array without items', record({ name: 'a', type: { type: 'array' } }), '/fields/0/type', /array without items/],
    ['an enum without symbols', { type: 'enum', name: 'E', symbols: [] }, '/symbols', /at least one symbol/],
    ['a fixed of no size', { type: 'fixed', name: 'F', size: 0 }, '/size', /whole number above 0/],
    ['a union in a union', record({ name: 'a', type: ['null', ['int', 'string']] }), '', /directly nested/],
    ['a default of another type', record({ name: 'a', type: 'int', default: 'x' }), '', /incompatible field default/],
    [
      'a schema nested without end',
      Array.from({ length: 200 }).reduce<object>((inner) => ({ type: 'array', items: inner }), { type: 'int' }),
      '/items'.repeat(101),
      /nested deeper than 100/,
    ],
    ['a number', '5', '', /expected the name of a type/],
  ];
  it.each(schemas)('a schema: %s', async (_name, schema, path, message) => {
    await expect(avro({ schema })).rejects.toMatchObject({
      code: 'SERIALIZATION',
      format: 'avro',
      path,
      retriable: false,
    });
    await expect(avro({ schema })).rejects.toThrow(message);
  });

  it('a reader that cannot read what was written', async () => {
    const made = avro({
      schema: record({ name: 'a', type: 'string' }),
      readerSchema: record({ name: 'a', type: 'int' }),
    });
    await expect(made).rejects.toThrow(/what was written as R cannot be read as R/);
  });

  const values: [name: string, value: unknown, path: string, message: string][] = [
    ['text for a long', { ...full, total: '5' }, '/total', '/total: expected long, got "5"'],
    ['a number that is not exact', { ...full, total: 2 ** 60 }, '/total', `/total: expected long, got ${2 ** 60}`],
    ['a bigint of 65 bits', { ...full, total: 2n ** 64n }, '/total', `/total: expected long, got ${2n ** 64n}n`],
    ['a missing field', { total: 1n }, '/id', '/id: is missing; expected string'],
    [
      'a fraction for an int',
      { ...full, lines: [{ sku: 'x', count: 1.5 }] },
      '/lines/0/count',
      '/lines/0/count: expected int, got 1.5',
    ],
    ['an unknown symbol', { ...full, state: 'LOST' }, '/state', '/state: expected shop.State (NEW, PAID), got "LOST"'],
    ['no branch of a union', { ...full, note: 5 }, '/note', '/note: expected one of null, string, got 5'],
    ['a field that is not there', { ...full, totl: 1 }, '/totl', '/totl: is not a field of shop.Order'],
    [
      'bytes of another size',
      { ...full, digest: Buffer.alloc(3) },
      '/digest',
      '/digest: expected shop.Digest, got 3 bytes',
    ],
    ['a text', 'x', '', 'expected shop.Order, got "x"'],
  ];
  it.each(values)('a value: %s', async (_name, value, path, message) => {
    const serde = await avro({ schema: order });
    expect(thrown(() => serde.serialize(value))).toMatchObject({
      code: 'SERIALIZATION',
      format: 'avro',
      path,
      message,
    });
  });

  const list = record(
    { name: 'list', type: { type: 'array', items: 'int' } },
    { name: 'more', type: { type: 'map', values: 'long' } },
  );
  const tree = record({ name: 'next', type: ['null', 'R'] });
  const payloads: [name: string, schema: object | string, payload: readonly number[], message: string][] = [
    ['nothing', order, [], '/id: the payload ends within the length of a string'],
    ['a text longer than the payload', order, [40, 97], '/id: a string of 20 bytes, but only 1 are left'],
    ['a text of negative length', order, [3], '/id: a string of -2 bytes'],
    ['a text that is not UTF-8', 'string', [2, 0xff], 'a string is not UTF-8'],
    [
      'a huge count',
      list,
      [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
      `/list/0: ${2 ** 47 * 4 - 1} items, but only 0 bytes are left`,
    ],
    ['a varint without end', 'long', Array.from({ length: 11 }, () => 0xff), 'a long has more than 64 bits'],
    ['an int of 64 bits', 'int', [0xff, 0xff, 0xff, 0xff, 0xff, 1], 'an int of more than 32 bits'],
    ['a branch that is not there', ['null', 'int'], [8], 'branch 4 of a union of 2'],
    ['a symbol that is not there', { type: 'enum', name: 'E', symbols: ['A'] }, [2], 'symbol 1 of an enum of 1'],
    ['a boolean of 2', 'boolean', [2], 'a boolean is 0 or 1, got 2'],
    ['bytes left over', 'int', [2, 2, 2], '2 bytes are left over'],
    ['half a double', 'double', [1, 2, 3], 'a double of 8 bytes, but only 3 are left'],
    [
      'a map key __proto__',
      list,
      [0, 2, 18, ...Buffer.from('__proto__'), 2, 0],
      '/more: the key __proto__ is not allowed',
    ],
    ['a broken value in a map', list, [0, 2, 2, 97, 0x80], '/more/a: the payload ends within a long'],
    ['a block with a size beyond the end', list, [1, 100], '/list/0: a block of 50 bytes'],
    [
      'endless nulls',
      { type: 'array', items: 'null' },
      [...Array.from({ length: 300 }, () => [0x80, 0x01]).flat(), 0],
      '/10000: more than 10000 items without any bytes',
    ],
    [
      'endless nesting',
      tree,
      Array.from({ length: 100_000 }, () => 2),
      `${'/next'.repeat(250)}: nested deeper than 250`,
    ],
  ];
  it.each(payloads)('a payload: %s', async (_name, schema, payload, message) => {
    const serde = await avro({ schema });
    expect(thrown(() => serde.deserialize(Uint8Array.from(payload))).message).toBe(message);
  });

  it('damaged payloads, or reads them as something else, but never fails in another way', async () => {
    const serde = await avro({ schema: order });
    const good = serde.serialize(full) as Uint8Array;
    const damage = fc.property(fc.nat(good.length - 1), fc.nat(255), fc.nat(good.length), (at, byte, length) => {
      const bad = Uint8Array.from(good.subarray(0, length));
      if (at < length) bad[at] = byte;
      try {
        serde.deserialize(bad);
      } catch (error) {
        expect(error).toMatchObject({ code: 'SERIALIZATION' });
      }
    });
    fc.assert(damage, { seed: 11, numRuns: 2_000 });
  });
});
