/** Which .proto files read each other's data, and what is said of those that do not. */
import { describe, expect, it } from 'vitest';
import { schemaDifferences } from './index.ts';
import { message, proto } from './schema-sources.ts';
import type { SchemaSource } from './schema.ts';

function differences(reader: SchemaSource, writer: SchemaSource): string[] {
  const found = schemaDifferences(reader, writer, { reader: 'new', writer: 'old' });
  return found.map(({ errorType, description }) => `${errorType}: ${description}`);
}

const proto2 = (fields: string): SchemaSource => proto(`syntax = "proto2"; package shop; message M { ${fields} }`);
const inner = (fields: string): SchemaSource => message('N n = 1;', `message N { ${fields} }`);
const importing = (fields: string): SchemaSource =>
  proto('syntax = "proto3"; package shop; import "pay.proto"; message M { pay.Money m = 1; }', [
    { name: 'pay.proto', source: proto(`syntax = "proto3"; package pay; message Money { ${fields} }`) },
  ]);

describe('a new .proto file reads old data', () => {
  it.each<[string, SchemaSource, SchemaSource]>([
    ['of the same file', message('int32 a = 1;'), message('int32 a = 1;')],
    ['when fields were added', message('int32 a = 1; string b = 2;'), message('int32 a = 1;')],
    ['when fields were removed', message('int32 a = 1;'), message('int32 a = 1; string b = 2;')],
    ['when a field was renamed', message('int32 b = 1;'), message('int32 a = 1;')],
    [
      'when a type became one of the same wire type',
      message('bool a = 1; sint64 b = 2; bytes c = 3; sfixed32 d = 4;'),
      message('uint64 a = 1; sint32 b = 2; string c = 3; fixed32 d = 4;'),
    ],
    [
      'when a number became an enum',
      message('E a = 1;', 'enum E { A = 0; }'),
      message('int32 a = 1;', 'enum E { A = 0; }'),
    ],
    ['when text became repeated', message('repeated string a = 1;'), message('string a = 1;')],
    [
      'when one field moved into a new oneof',
      message('oneof o { int32 a = 1; int32 b = 2; }'),
      message('int32 a = 1;'),
    ],
    [
      'when a oneof was renamed',
      message('oneof p { int32 a = 1; int32 b = 2; }'),
      message('oneof o { int32 a = 1; int32 b = 2; }'),
    ],
    [
      'when a oneof got a new field',
      message('oneof o { int32 a = 1; int32 b = 2; }'),
      message('oneof o { int32 a = 1; }'),
    ],
    [
      'when a oneof was dissolved',
      message('int32 a = 1; int32 b = 2;'),
      message('oneof o { int32 a = 1; int32 b = 2; }'),
    ],
    ['when a field became optional', message('optional int32 a = 1;'), message('int32 a = 1;')],
    ['when messages and enums were added', message('', 'message N {} enum E { A = 0; }'), message('')],
    [
      'when values of an enum changed',
      message('E e = 1;', 'enum E { A = 0; C = 2; }'),
      message('E e = 1;', 'enum E { A = 0; B = 1; }'),
    ],
    ['when a required field became optional', proto2('optional int32 a = 1;'), proto2('required int32 a = 1;')],
    ['when proto2 became proto3', message('int32 a = 1;'), proto2('optional int32 a = 1;')],
    [
      'when an imported message got a field',
      importing('int64 cents = 1; string currency = 2;'),
      importing('int64 cents = 1;'),
    ],
    ['when it contains itself', message('M m = 1; int32 a = 2;'), message('M m = 1;')],
  ])('%s', (_, reader, writer) => {
    expect(differences(reader, writer)).toEqual([]);
  });
});

const change = (reader: string, writer: string, number = 1, name = 'a'): string =>
  `field ${number} ('${name}') of message shop.M is ${reader} in the new schema and ${writer} in the old schema`;

describe('a new .proto file does not read old data', () => {
  it.each<[string, SchemaSource, SchemaSource, string]>([
    [
      'when a type changed its wire type',
      message('string a = 1;'),
      message('int32 a = 1;'),
      `FIELD_SCALAR_KIND_CHANGED: ${change('string', 'int32')}: text or bytes does not read varint`,
    ],
    [
      'when a number became a zigzag one',
      message('sint32 a = 1;'),
      message('int32 a = 1;'),
      `FIELD_SCALAR_KIND_CHANGED: ${change('sint32', 'int32')}: zigzag varint does not read varint`,
    ],
    [
      'when a number became wider on the wire',
      message('fixed64 a = 1;'),
      message('fixed32 a = 1;'),
      `FIELD_SCALAR_KIND_CHANGED: ${change('fixed64', 'fixed32')}: 64 bits does not read 32 bits`,
    ],
    [
      'when text became a message',
      message('N a = 1;', 'message N {}'),
      message('string a = 1;', 'message N {}'),
      `FIELD_KIND_CHANGED: ${change('shop.N', 'string')}: message does not read text or bytes`,
    ],
    [
      'when a message became another',
      message('N a = 1;', 'message N {} message O {}'),
      message('O a = 1;', 'message N {} message O {}'),
      `FIELD_NAMED_TYPE_CHANGED: ${change('shop.N', 'shop.O')}: another type`,
    ],
    [
      'when numbers became repeated',
      message('repeated int32 a = 1;'),
      message('int32 a = 1;'),
      `FIELD_NUMERIC_LABEL_CHANGED: ${change('repeated int32', 'int32')}: only text, bytes and messages may become repeated or stop being it`,
    ],
    [
      'when a map became something else',
      message('string a = 1;'),
      message('map<string, string> a = 1;'),
      `FIELD_KIND_CHANGED: ${change('string', 'map<string, string>')}`,
    ],
    [
      "when a map's values changed",
      message('map<string, string> a = 1;'),
      message('map<string, int32> a = 1;'),
      `FIELD_SCALAR_KIND_CHANGED: ${change('map<string, string>', 'map<string, int32>')}: text or bytes does not read varint`,
    ],
    [
      "when a map's keys changed",
      message('map<string, int32> a = 1;'),
      message('map<int32, int32> a = 1;'),
      `FIELD_SCALAR_KIND_CHANGED: ${change('map<string, int32>', 'map<int32, int32>')}: the keys differ`,
    ],
    [
      'when a group became a message',
      proto2('optional G g = 1; message G {}'),
      proto2('optional group G = 1 {}'),
      `FIELD_KIND_CHANGED: ${change('shop.M.G', 'shop.M.G', 1, 'g')}: message does not read group`,
    ],
    [
      'when a message was removed',
      message(''),
      message('', 'message N {}'),
      'MESSAGE_REMOVED: message shop.N of the old schema is missing in the new schema',
    ],
    [
      'when a required field was added',
      proto2('required int32 a = 1;'),
      proto2(''),
      "REQUIRED_FIELD_ADDED: required field 1 ('a') of message shop.M of the new schema is missing in the old schema",
    ],
    [
      'when a required field was removed',
      proto2(''),
      proto2('required int32 a = 1;'),
      "REQUIRED_FIELD_REMOVED: required field 1 ('a') of message shop.M of the old schema is missing in the new schema",
    ],
    [
      'when a field became required',
      proto2('required int32 a = 1;'),
      proto2('optional int32 a = 1;'),
      `REQUIRED_FIELD_ADDED: ${change('required int32', 'int32')}`,
    ],
    [
      'when two fields moved into a oneof',
      message('oneof o { int32 a = 1; int32 b = 2; }'),
      message('int32 a = 1; int32 b = 2;'),
      "MULTIPLE_FIELDS_MOVED_TO_ONEOF: oneof 'o' of message shop.M has fields in the new schema that can be set together in the old schema",
    ],
    [
      'when a field moved into a oneof that was there',
      message('oneof o { int32 a = 1; int32 b = 2; }'),
      message('oneof o { int32 a = 1; } int32 b = 2;'),
      "MULTIPLE_FIELDS_MOVED_TO_ONEOF: oneof 'o' of message shop.M has fields in the new schema that can be set together in the old schema",
    ],
    [
      'when a field left its oneof',
      message('oneof o { int32 a = 1; }'),
      message('oneof o { int32 a = 1; int32 b = 2; }'),
      "ONEOF_FIELD_REMOVED: field 2 ('b') of message shop.M is in oneof 'o' in the old schema and is not in the new schema",
    ],
    [
      'when the package changed',
      proto('syntax = "proto3"; package store; message M {}'),
      message(''),
      "PACKAGE_CHANGED: the package is 'store' in the new schema and 'shop' in the old schema",
    ],
    [
      'when an imported message changed',
      importing('string cents = 1;'),
      importing('int64 cents = 1;'),
      "FIELD_SCALAR_KIND_CHANGED: field 1 ('cents') of message pay.Money is string in the new schema and int64 in the old schema: text or bytes does not read varint",
    ],
    [
      'when a message inside changed',
      inner('double x = 1;'),
      inner('int32 x = 1;'),
      "FIELD_SCALAR_KIND_CHANGED: field 1 ('x') of message shop.N is double in the new schema and int32 in the old schema: double does not read varint",
    ],
  ])('%s', (_, reader, writer, message) => {
    expect(differences(reader, writer)).toEqual([message]);
  });
});
