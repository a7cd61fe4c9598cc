/** Under which text a schema is kept, and what counts as the same. */
import { describe, expect, it } from 'vitest';
import { canonicalText, identityOf } from './index.ts';
import { avro, json, proto } from './schema-sources.ts';

describe('the text of an Avro schema', () => {
  it.each([
    ['{"type": "string"}', '"string"'],
    ['string', '"string"'],
    ['{"type": {"type": "array", "items": {"type": "int"}}}', '{"type":"array","items":"int"}'],
    ['{"type":"long", "logicalType": "timestamp-millis"}', '{"type":"long","logicalType":"timestamp-millis"}'],
    ['[ "null", {"type": "map", "values": "bytes"} ]', '["null",{"type":"map","values":"bytes"}]'],
    [
      '{"namespace": "shop", "fields": [{"type": "long", "name": "n", "default": 9007199254740993, "doc": "d"}], "type": "record", "name": "R", "aliases": ["Q"], "owner": {"b": 1, "a": 1.0}}',
      '{"type":"record","name":"R","namespace":"shop","fields":[{"name":"n","type":"long","doc":"d","default":9007199254740993}],"owner":{"b":1,"a":1.0},"aliases":["Q"]}',
    ],
    [
      '{"type":"record","name":"a.R","fields":[{"name":"x","type":{"type":"fixed","name":"b.F","size":2}},{"name":"y","type":"b.F"},{"name":"z","type":["null","R"]}]}',
      '{"type":"record","name":"R","namespace":"a","fields":[{"name":"x","type":{"type":"fixed","name":"F","namespace":"b","size":2}},{"name":"y","type":"b.F"},{"name":"z","type":["null","R"]}]}',
    ],
    [
      '{"type":"enum","name":"E","symbols":["A"],"default":"A"}',
      '{"type":"enum","name":"E","symbols":["A"],"default":"A"}',
    ],
  ])('%s', (text, expected) => {
    expect(canonicalText(avro(text), false)).toBe(expected);
    expect(canonicalText(avro(expected), false)).toBe(expected);
  });

  it('has its own properties in order when it is normalized', () => {
    expect(canonicalText(avro('{"type":"int","b":{"d":1,"c":2},"a":0}'), true)).toBe(
      '{"type":"int","a":0,"b":{"c":2,"d":1}}',
    );
  });

  it('may use types of references', () => {
    const address = avro({ type: 'record', name: 'shop.Address', fields: [] });
    const order = avro({ type: 'record', name: 'shop.Order', fields: [{ name: 'to', type: 'Address' }] }, [
      { name: 'shop.Address', source: address },
    ]);
    const text = '{"type":"record","name":"Order","namespace":"shop","fields":[{"name":"to","type":"Address"}]}';
    expect(canonicalText(order, false)).toBe(text);
  });
});

describe('the text of a JSON Schema', () => {
  it('loses its blanks, and no digit', () => {
    const text = '{ "maximum": 9007199254740993,\n "minimum": 1.0, "title": "a b", "__proto__": {"x": 1} }';
    expect(canonicalText(json(text), false)).toBe(
      '{"maximum":9007199254740993,"minimum":1.0,"title":"a b","__proto__":{"x":1}}',
    );
  });

  it('has its keys in order when it is normalized', () => {
    expect(canonicalText(json('{"type":"object","properties":{"b":{},"a":true}}'), true)).toBe(
      '{"properties":{"a":true,"b":{}},"type":"object"}',
    );
  });

  it.each([
    ['names of definitions', { definitions: { a: { type: 'string' } }, $ref: '#/definitions/a' }],
    ['anchors', { $defs: { a: { $anchor: 'x' } }, $ref: '#x' }],
    [
      'schemas with an $id inside',
      { $id: 'https://e.com/a', $defs: { b: { $id: 'b', $defs: { c: {} }, $ref: '#/$defs/c' } }, $ref: 'b' },
    ],
    ['the meta-schema', { $ref: 'http://json-schema.org/draft-07/schema#' }],
    ['itself', { properties: { next: { $ref: '#' } } }],
  ])('may refer to %s', (_, schema) => {
    expect(canonicalText(json(schema), false)).toBe(JSON.stringify(schema));
  });

  it('may refer to others by their URI', () => {
    const references = [
      { name: 'https://e.com/money.json', source: json({ definitions: { cent: { type: 'integer' } } }) },
    ];
    const schema = { $id: 'https://e.com/order.json', properties: { total: { $ref: 'money.json#/definitions/cent' } } };
    expect(canonicalText(json(schema, references), false)).toBe(JSON.stringify(schema));
  });
});

describe('a .proto file', () => {
  it('is kept as it is, and is the same without comments and blanks', () => {
    const text = '// who\nsyntax = "proto3";\n\nmessage M { /* what */ string a = 1; }\n';
    expect(canonicalText(proto(text), false)).toBe(text);
    const same = { type: 'PROTOBUF', text: "syntax='proto3';message M{string a=1;}" } as const;
    expect(identityOf({ type: 'PROTOBUF', text })).toBe(identityOf(same));
    expect(identityOf({ ...same, text: same.text.replace('a=1', 'a=2') })).not.toBe(identityOf(same));
  });

  it('may import others and those that every compiler brings', () => {
    const references = [
      { name: 'money.proto', source: proto('syntax = "proto3"; package pay; message Money { int64 cents = 1; }') },
    ];
    const text =
      'syntax = "proto3"; package shop; import "money.proto"; import "google/protobuf/timestamp.proto";' +
      'message Order { pay.Money total = 1; google.protobuf.Timestamp at = 2; .pay.Money paid = 3; Line line = 4; message Line {} }';
    expect(canonicalText(proto(text, references), false)).toBe(text);
  });
});
