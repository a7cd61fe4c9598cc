import { createRequire } from 'node:module';
import { create, toBinary } from '@bufbuild/protobuf';
import { timestampFromMs, TimestampSchema } from '@bufbuild/protobuf/wkt';
import fc from 'fast-check';
import type protobufjs from 'protobufjs';
import { describe, expect, it } from 'vitest';
import { protobuf, protobufMessage } from './protobuf.ts';
import type { SerializationError } from './serialization-error.ts';

const pb = createRequire(import.meta.url)('protobufjs') as typeof protobufjs;

const other =
  'syntax = "proto3"; package shop.v1; import "google/protobuf/duration.proto"; message Other { google.protobuf.Duration took = 1; }';
const schema = `
syntax = "proto3";
package shop.v1;
import "google/protobuf/timestamp.proto";
import "google/protobuf/descriptor.proto";
import "shop/other.proto";
extend google.protobuf.FieldOptions { string pii = 50000; }
message Order {
  string order_id = 1 [(pii) = "no"];
  int64 total = 2;
  repeated Line lines = 3;
  map<string, int64> tags = 4;
  optional string note = 5;
  oneof pay { string card = 6; Cash cash = 7; }
  google.protobuf.Timestamp at = 8;
  State state = 9;
  repeated sint32 nums = 10;
  Other other = 11;
  bytes digest = 12;
  double weight = 13;
  map<int32, Line> by_number = 14;
  repeated int32 unpacked = 15 [packed = false];
  message Cash { uint64 cents = 1; }
  enum State { UNKNOWN = 0; PAID = 1; }
}
message Line { string sku = 1; Line inner = 2; }
`;
const imports = { 'shop/other.proto': other };
const full = {
  orderId: 'a',
  total: 2n ** 62n + 1n,
  lines: [{ sku: 'x', inner: { sku: 'y' } }],
  tags: { a: 1n },
  note: '',
  pay: { case: 'cash', value: { cents: 5n } },
  at: timestampFromMs(1_500),
  state: 1,
  nums: [-1, 2],
  other: { took: { seconds: 3n, nanos: 0 } },
  digest: Uint8Array.of(1, 2),
  weight: 1.5,
  byNumber: { 7: { sku: 'z' } },
  unpacked: [1, 2],
};

function thrown(work: () => unknown): SerializationError {
  try {
    work();
  } catch (error) {
    return error as SerializationError;
  }
  throw new Error('nothing was thrown');
}

/** The same schema as protobufjs has it. */
function bareType(name: string) {
  const root = new pb.Root();
  pb.parse(schema.replace(/extend .*\n/, '').replace(' [(pii) = "no"]', ''), root, { keepCase: false });
  pb.parse(other, root);
  for (const file of ['timestamp', 'duration'])
    root.addJSON(pb.common.get(`google/protobuf/${file}.proto`)?.nested ?? {});
  return root.lookupType(name);
}

describe('protobuf', () => {
  it('gives back what it wrote', async () => {
    const serde = await protobuf({ schema, imports });
    expect(serde.deserialize(serde.serialize(full))).toMatchObject(full);
    expect([serde.recordName, serde.serialize(null as never), serde.deserialize(null)]).toEqual([
      'shop.v1.Order',
      null,
      null,
    ]);
  });

  it('writes what other implementations read, and reads what they write', async () => {
    const serde = await protobuf({ schema, imports });
    const bare = bareType('shop.v1.Order');
    const decoded = bare.toObject(bare.decode(serde.serialize(full) as Uint8Array), { longs: String, bytes: Array });
    expect(decoded).toEqual({
      orderId: 'a',
      total: String(2n ** 62n + 1n),
      lines: [{ sku: 'x', inner: { sku: 'y' } }],
      tags: { a: '1' },
      note: '',
      cash: { cents: '5' },
      at: { seconds: '1', nanos: 500_000_000 },
      state: 1,
      nums: [-1, 2],
      other: { took: { seconds: '3' } },
      digest: [1, 2],
      weight: 1.5,
      byNumber: { 7: { sku: 'z' } },
      unpacked: [1, 2],
    });
    const again = Uint8Array.from(bare.encode(bare.fromObject(decoded)).finish());
    expect(serde.deserialize(again)).toMatchObject(full);
    expect(Buffer.from(again).equals(Buffer.from(serde.serialize(full) as Uint8Array))).toBe(true);
  });

  it('knows proto2: required fields, groups and closed enums', async () => {
    const text = `syntax = "proto2"; message M { required int32 a = 1; optional group G = 2 { optional int32 z = 1; }
      repeated int32 p = 3 [packed = true]; optional E e = 4; extensions 100 to 200; enum E { ONE = 1; } } extend M { optional int32 x = 100; }`;
    const serde = await protobuf({ schema: text });
    const bare = pb.parse(text, new pb.Root()).root.lookupType('M');
    const bytes = serde.serialize({ a: 0, g: { z: 5 }, p: [1, 2], e: 1 });
    expect(bare.toObject(bare.decode(bytes as Uint8Array))).toEqual({ a: 0, g: { z: 5 }, p: [1, 2], e: 1 });
    expect(thrown(() => serde.serialize({ g: {} })).message).toMatch(/M\.a.*required/);
  });

  it('takes generated code, and its messages', () => {
    const serde = protobufMessage(TimestampSchema);
    const value = create(TimestampSchema, { seconds: 5n });
    expect(serde.serialize(value)).toEqual(toBinary(TimestampSchema, value));
    expect(serde.deserialize(serde.serialize(value))).toEqual(value);
  });

  it('keeps fields that the reader does not know', async () => {
    const v2 = await protobuf({
      schema:
        'syntax = "proto3"; message M { string a = 1; int64 more = 2; Inner i = 3; message Inner { int32 x = 1; int32 y = 2; } }',
    });
    const v1 = await protobuf({
      schema: 'syntax = "proto3"; message M { string a = 1; Inner i = 3; message Inner { int32 x = 1; } }',
    });
    const bytes = v2.serialize({ a: 'x', more: 5n, i: { x: 1, y: 2 } });
    const old = v1.deserialize(bytes);
    expect(old).toMatchObject({ a: 'x', i: { x: 1 } });
    expect(v2.deserialize(v1.serialize(old))).toMatchObject({ a: 'x', more: 5n, i: { x: 1, y: 2 } });
  });

  const schemas: [name: string, text: string, message: RegExp][] = [
    ['a syntax error', 'syntax = "proto3";\nmessage {', /illegal type name '\{' \(schema\.proto, line 2\)/],
    ['an unknown type', 'syntax = "proto3"; message M { Foo a = 1; }', /no such Type or Enum 'Foo' in Type \.M/],
    ['a number twice', 'syntax = "proto3"; message M { int32 a = 1; int32 b = 1; }', /duplicate id 1 in Type M/],
    ['the number 0', 'syntax = "proto3"; message M { int32 a = 0; }', /M\.a has the number 0, which is not allowed/],
    ['a reserved number', 'syntax = "proto3"; message M { int32 a = 19500; }', /number 19500, which is not allowed/],
    [
      'an import that is not there',
      'syntax = "proto3"; import "x/y.proto"; message M {}',
      /schema\.proto imports x\/y\.proto, which is not among/,
    ],
    [
      'an enum that does not begin with 0',
      'syntax = "proto3"; enum E { A = 1; } message M { E e = 1; }',
      /first value of enum \.E must be 0, is A = 1/,
    ],
    ['an unknown syntax', 'syntax = "proto9"; message M {}', /[Uu]nknown edition: proto9|proto9/],
    ['no message', 'syntax = "proto3"; package a;', /has no message/],
    ['something else', '{"type":"record"}', /illegal token '\{'/],
    [
      'the name __proto__',
      'syntax = "proto3"; message M { string __proto__ = 1; }',
      /the name __proto__ is not allowed in schema\.proto/,
    ],
  ];
  it.each(schemas)('refuses a schema: %s', async (_name, text, message) => {
    await expect(protobuf({ schema: text })).rejects.toMatchObject({
      code: 'SERIALIZATION',
      format: 'protobuf',
      retriable: false,
    });
    await expect(protobuf({ schema: text })).rejects.toThrow(message);
  });

  it('names the messages that there are', async () => {
    await expect(protobuf({ schema, imports, message: 'Ordr' })).rejects.toThrow(
      'schema: has no message Ordr; it has shop.v1.Order, shop.v1.Order.Cash, shop.v1.Line',
    );
  });

  const values: [name: string, value: unknown, message: string][] = [
    ['a field that is not there', { ...full, totl: 1 }, '/totl: is not a field of shop.v1.Order'],
    ['a field by its name in the file', { order_id: 'x' }, '/order_id: is not a field of shop.v1.Order; it is orderId'],
    [
      'a oneof by its field',
      { card: 'x' },
      '/card: is not a field of shop.v1.Order; it is one of pay: { case, value }',
    ],
    ['text for a long', { total: '5' }, '/total: expected int64, got "5"'],
    ['a number that is not exact', { total: 2 ** 60 }, `/total: expected int64, got ${2 ** 60}`],
    ['a long of 65 bits', { total: 2n ** 64n }, `/total: expected int64, got ${2n ** 64n}n`],
    ['something else in a list', { lines: [{ sku: 'x' }, { sku: 5 }] }, '/lines/1/sku: expected string, got 5'],
    ['no list', { lines: {} }, '/lines: expected an array, got an object'],
    ['null', { note: null }, '/note: expected string, got null; leave it out instead'],
    ['an unknown case', { pay: { case: 'gold', value: 1 } }, '/pay/case: expected one of card, cash, got "gold"'],
    [
      'another type inside a oneof',
      { pay: { case: 'cash', value: { cents: -1n } } },
      '/pay/value/cents: expected uint64, got -1n',
    ],
    [
      'a field that is not there inside a oneof',
      { pay: { case: 'cash', value: { cent: 1n } } },
      '/pay/value/cent: is not a field of shop.v1.Order.Cash',
    ],
    ['another type in a map', { tags: { a: 'x' } }, '/tags/a: expected int64, got "x"'],
    ['the name of an enum value', { state: 'PAID' }, '/state: expected one of 0 (UNKNOWN), 1 (PAID), got "PAID"'],
    ['text', 'x', 'expected shop.v1.Order, got "x"'],
  ];
  it.each(values)('refuses a value: %s', async (_name, value, message) => {
    const serde = await protobuf({ schema, imports });
    expect(thrown(() => serde.serialize(value as never))).toMatchObject({ code: 'SERIALIZATION', message });
  });

  const payloads: [name: string, payload: readonly number[], message: RegExp][] = [
    ['a length beyond the end', [0x0a, 100, 97], /premature EOF|out of range/i],
    ['a huge length', [0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f], /premature EOF|out of range|invalid/i],
    ['a varint without end', [0x10, ...Array.from({ length: 11 }, () => 0xff)], /invalid varint/],
    ['field number 0', [0x00, 0x01], /illegal tag|field no 0/i],
    ['an unknown wire type', [0x0f, 0x01], /illegal tag|wire type 7/i],
    [
      'endless nesting',
      Array.from({ length: 120 }).reduce<number[]>((inner) => [0x12, ...varint(inner.length), ...inner], []),
      /recursion depth/,
    ],
  ];
  it.each(payloads)('refuses a payload: %s', async (_name, payload, message) => {
    const serde = await protobuf({ schema, imports, message: payload[0] === 0x12 ? 'shop.v1.Line' : 'shop.v1.Order' });
    const error = thrown(() => serde.deserialize(Uint8Array.from(payload)));
    expect(error).toMatchObject({ code: 'SERIALIZATION', format: 'protobuf' });
    expect(error.message).toMatch(message);
  });

  it('refuses damaged payloads, or reads them as something else, but never fails in another way', async () => {
    const serde = await protobuf({ schema, imports });
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
    fc.assert(damage, { seed: 5, numRuns: 2_000 });
  });
});

function varint(value: number): number[] {
  return value < 0x80 ? [value] : [(value % 0x80) + 0x80, ...varint(Math.floor(value / 0x80))];
}
