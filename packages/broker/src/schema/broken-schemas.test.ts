/** Schemas that are refused, each with where and what. */
import { describe, expect, it } from 'vitest';
import { canonicalText, InvalidSchemaError } from './index.ts';
import { avro, json, message, proto, record } from './schema-sources.ts';
import { MAX_SCHEMA_LENGTH, type SchemaSource } from './schema.ts';

function refusal(source: SchemaSource): string {
  try {
    canonicalText(source, false);
  } catch (error) {
    expect(error).toBeInstanceOf(InvalidSchemaError);
    return (error as Error).message;
  }
  return 'it was taken';
}

const nested = (depth: number): string => `${'{"type":"array","items":'.repeat(depth)}"int"${'}'.repeat(depth)}`;
const field = (type: unknown, beside: object = {}): SchemaSource => record({ name: 'f', type, ...beside });

describe('a broken Avro schema', () => {
  it.each<[string, SchemaSource, string]>([
    [
      'that is cut off',
      avro('{"type": "record"'),
      "it is not JSON: Expected ',' or '}' after property value at line 1, column 18",
    ],
    [
      'with a comma too many',
      avro('{\n  "type": "int",\n}'),
      'it is not JSON: Expected double-quoted property name at line 3, column 1',
    ],
    ['of an unknown type', avro('"strin"'), 'there is no type "strin": it is neither defined before nor referenced'],
    ['without a type', avro({ name: 'R' }), 'the type has no "type"'],
    ['that is a number', avro('5'), 'a type is a name, an object or an array, not 5'],
    ['whose record has no name', avro({ type: 'record', fields: [] }), 'the record needs a "name", not missing'],
    [
      'whose record has no fields',
      avro({ type: 'record', name: 'R' }),
      'record R needs "fields", an array, not missing',
    ],
    [
      'with a name that is none',
      avro({ type: 'fixed', name: '1a', size: 4 }),
      '"1a" is no name for a fixed: names have letters, digits and "_", and begin with no digit',
    ],
    [
      'with a namespace that is none',
      avro({ type: 'enum', name: 'E', namespace: 'a..b', symbols: [] }),
      '"a..b.E" is no name for a enum: names have letters, digits and "_", and begin with no digit',
    ],
    [
      'named as a primitive',
      avro({ type: 'record', name: 'int', fields: [] }),
      'a record is not called "int": that is a primitive type',
    ],
    [
      'with a type defined twice',
      field({ type: 'record', name: 'R', fields: [] }),
      'type "R" is defined twice (at /fields/0/type)',
    ],
    [
      'with a field twice',
      record({ name: 'a', type: 'int' }, { name: 'a', type: 'int' }),
      'record R has field "a" twice (at /fields/1)',
    ],
    ['with a field without type', record({ name: 'a' }), 'field "a" of record R has no "type" (at /fields/0)'],
    ['with a field without name', record({ type: 'int' }), 'a field of record R has no "name" (at /fields/0)'],
    [
      'with a default of another type',
      field('int', { default: 'x' }),
      'the default of field "f" does not fit: int does not take "x" (at /fields/0)',
    ],
    [
      'with a default beyond int',
      field('int', { default: 2 ** 31 }),
      'the default of field "f" does not fit: int does not take 2147483648 (at /fields/0)',
    ],
    [
      'with a default for no branch',
      field(['null', 'int'], { default: 'x' }),
      'the default of field "f" does not fit: no branch of the union [null, int] takes "x" (at /fields/0)',
    ],
    [
      'with an incomplete default',
      field({ type: 'record', name: 'S', fields: [{ name: 'x', type: 'int' }] }, { default: {} }),
      'the default of field "f" does not fit: "x": it is missing (at /fields/0)',
    ],
    ['with a union in a union', avro(['int', ['null']]), 'a union does not contain a union directly (at /1)'],
    ['with a branch twice', avro(['int', { type: 'int', logicalType: 'date' }]), 'the union has "int" twice (at /1)'],
    ['with a symbol twice', avro({ type: 'enum', name: 'E', symbols: ['A', 'A'] }), 'enum E has symbol "A" twice'],
    [
      'with a default that is no symbol',
      avro({ type: 'enum', name: 'E', symbols: ['A'], default: 'B' }),
      'the default "B" of enum E is none of its symbols',
    ],
    [
      'with a negative size',
      avro({ type: 'fixed', name: 'F', size: -1 }),
      'fixed F needs "size", a whole number of bytes, not -1',
    ],
    ['whose array has no items', field({ type: 'array' }), 'the array has no "items" (at /fields/0/type)'],
    [
      'with an order that is none',
      field('int', { order: 'up' }),
      'the order of field "f" is ascending, descending or ignore, not "up" (at /fields/0)',
    ],
    ['that is too deep', avro(nested(300)), 'it is nested deeper than 200 levels at line 1, column 4801'],
    [
      'that is too long',
      avro(JSON.stringify('x'.repeat(MAX_SCHEMA_LENGTH))),
      'it has 1048578 characters, at most 1048576 are allowed',
    ],
    [
      'that refers to another format',
      avro('"a.B"', [{ name: 'a.B', source: json({}) }]),
      'reference "a.B" is a schema of type JSON, not AVRO',
    ],
    [
      'whose reference defines something else',
      avro('"a.B"', [{ name: 'a.B', source: avro({ type: 'record', name: 'a.C', fields: [] }) }]),
      'reference "a.B": the schema that it names defines no type of that name',
    ],
  ])('%s', (_, source, message) => {
    expect(refusal(source)).toBe(message);
  });
});

describe('a broken JSON Schema', () => {
  it.each<[string, SchemaSource, string]>([
    ['that is text', json('"object"'), 'a JSON Schema is an object, true or false, not "object"'],
    ['that is cut off', json('{"type":'), 'it is not JSON: it ends too early at line 1, column 9'],
    [
      'of an unknown type',
      json({ properties: { a: { type: 'int' } } }),
      '"int" is no type: null, boolean, integer, number, string, array, object (at #/properties/a/type)',
    ],
    [
      'of an unknown draft',
      json({ $schema: 'http://json-schema.org/draft-03/schema#' }),
      '"$schema" is "http://json-schema.org/draft-03/schema#": known are drafts 04, 06, 07, 2019-09 and 2020-12',
    ],
    [
      'whose $ref leads nowhere',
      json({ properties: { a: { $ref: '#/definitions/b' } } }),
      '"#/definitions/b" leads nowhere: it is neither in the schema nor one of its references (at #/properties/a/$ref)',
    ],
    [
      'whose $ref is not registered',
      json({ $ref: 'https://example.com/order.json' }),
      '"https://example.com/order.json" leads nowhere: it is neither in the schema nor one of its references (at #/$ref)',
    ],
    ['with a negative length', json({ minLength: -1 }), 'a whole number from 0 is needed, not -1 (at #/minLength)'],
    ['whose bound is text', json({ maximum: '5' }), 'a number is needed, not "5" (at #/maximum)'],
    [
      'with a pattern that is none',
      json({ pattern: '(' }),
      '"(" is no regular expression: Unterminated group (at #/pattern)',
    ],
    ['whose required is no list', json({ required: true }), 'an array of names is needed, not true (at #/required)'],
    ['with a name required twice', json({ required: ['a', 'a'] }), 'a name is there twice (at #/required)'],
    ['with an empty anyOf', json({ anyOf: [] }), 'an array of schemas is needed, not [] (at #/anyOf)'],
    [
      'whose properties are a list',
      json({ properties: ['a'] }),
      'an object of schemas is needed, not an array (at #/properties)',
    ],
    [
      'whose schema is a number',
      json({ items: { not: 5 } }),
      'a schema is an object, true or false, not 5 (at #/items/not)',
    ],
    ['that divides by nothing', json({ multipleOf: 0 }), 'a number above 0 is needed, not 0 (at #/multipleOf)'],
    [
      'with a list of items in 2020-12',
      json({ $schema: 'https://json-schema.org/draft/2020-12/schema', items: [{}] }),
      'a schema is an object, true or false, not an array (at #/items)',
    ],
  ])('%s', (_, source, message) => {
    expect(refusal(source)).toBe(message);
  });
});

describe('a broken .proto file', () => {
  const notProto = 'it is not a .proto file: ';
  it.each<[string, SchemaSource, string]>([
    ['that is something else', proto('hello'), `${notProto}illegal token 'hello' (line 1)`],
    ['that says nothing', proto('syntax = "proto3";'), 'it declares no message, enum or service'],
    ['that is cut off', proto('syntax = "proto3";\nmessage M {'), `${notProto}unexpected end of the file (line 2)`],
    [
      'without syntax and labels',
      proto('message M { int32 a = 1; }'),
      `${notProto}illegal token 'int32' (line 1): in proto2, which it is without a syntax line, fields are optional, required or repeated`,
    ],
    [
      'of an unknown syntax',
      proto('syntax = "proto9"; message M {}'),
      'syntax "proto9" is not known: use proto3 or proto2',
    ],
    ['of an edition', proto('edition = "2023"; message M {}'), 'edition "2023" is not supported: use proto3 or proto2'],
    ['with a number twice', message('int32 a = 1; int32 b = 1;'), `${notProto}duplicate id 1 in Type M`],
    ['with a reserved number', message('reserved 1; int32 a = 1;'), `${notProto}id 1 is reserved in Type M`],
    [
      'with the number 0',
      message('int32 a = 0;'),
      'field "a" of message shop.M has number 0: numbers are 1 to 536870911',
    ],
    [
      "with one of Protobuf's numbers",
      message('int32 a = 19500;'),
      'field "a" of message shop.M has number 19500: 19000 to 19999 are Protobuf\'s own',
    ],
    [
      'with an unknown type',
      message('Order a = 1;'),
      'field "a" of message shop.M is of type "Order", which neither the file nor its imports declare',
    ],
    [
      'with an import that is not registered',
      proto('syntax = "proto3"; import "order.proto"; message M {}'),
      'it imports "order.proto", which is none of its references',
    ],
    [
      'with a required field in proto3',
      message('required int32 a = 1;'),
      `${notProto}illegal token 'required' (line 1)`,
    ],
    [
      'whose enum does not begin with 0',
      message('', 'enum E { A = 1; }'),
      'the first value of enum shop.E is A = 1: in proto3 it is 0',
    ],
    ['with a message twice', message('', 'message M {}'), `${notProto}duplicate name 'M' in Namespace .shop`],
    [
      'with a method of an unknown type',
      message('', 'service S { rpc Get(N) returns (M); }'),
      'method "Get" of service shop.S is of type "N", which neither the file nor its imports declare',
    ],
    ['that is too deep', proto(`syntax = "proto3"; ${'message M { '.repeat(3_000)}`), `${notProto}max depth exceeded`],
  ])('%s', (_, source, message) => {
    expect(refusal(source)).toBe(message);
  });
});
