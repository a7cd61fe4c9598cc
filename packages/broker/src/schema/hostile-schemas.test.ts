/** Schemas made to cost much: they are read, or refused, in little time. */
import { describe, expect, it } from 'vitest';
import { canonicalText, identityOf, InvalidSchemaError, schemaDifferences } from './index.ts';
import { avro, json, message, proto } from './schema-sources.ts';
import type { SchemaSource } from './schema.ts';

/** Far above what they take, far below what any of them would take with one loop too many. */
const TIMEOUT_MS = 8_000;

function outcome(source: SchemaSource): string {
  try {
    return canonicalText(source, true) === '' ? 'empty' : 'taken';
  } catch (error) {
    if (error instanceof InvalidSchemaError) return 'refused';
    throw error;
  }
}

const many = (count: number, of: (index: number) => string): string =>
  Array.from({ length: count }, (_, i) => of(i)).join('');

describe('reading', () => {
  it.each<[string, SchemaSource, string]>([
    ['comments that never end', proto(`syntax = "proto3"; ${'/*'.repeat(400_000)}`), 'refused'],
    ['strings that never end', proto(`syntax = "proto3"; ${'\\"'.repeat(400_000)}`), 'refused'],
    ['messages in messages', proto(`syntax = "proto3"; ${'message M { '.repeat(50_000)}`), 'refused'],
    [
      'a chain of messages',
      message(
        'M0 m = 1;',
        many(15_000, (i) => `message M${i} { M${(i + 1) % 15_000} m = 1; }\n`),
      ),
      'taken',
    ],
    ['brackets in brackets', json('['.repeat(900_000)), 'refused'],
    [
      'many fields',
      avro(
        `{"type":"record","name":"R","fields":[${many(15_000, (i) => `${i === 0 ? '' : ','}{"name":"f${i}","type":["null","int"]}`)}]}`,
      ),
      'taken',
    ],
    [
      'many properties',
      json(`{"properties":{${many(20_000, (i) => `${i === 0 ? '' : ','}"p${i}":{"$ref":"#"}`)}}}`),
      'taken',
    ],
    [
      'a pattern that takes for ever',
      json({ patternProperties: { '^(a+)+$': {} }, properties: { [`${'a'.repeat(100)}!`]: {} }, pattern: '(x+x+)+y' }),
      'taken',
    ],
    [
      'keys of prototypes',
      json('{"__proto__":{"type":5},"properties":{"constructor":{"type":"string"},"__proto__":{"type":"string"}}}'),
      'taken',
    ],
  ])(
    '%s',
    (_, source, expected) => {
      expect(outcome(source)).toBe(expected);
      if (expected === 'taken') expect(identityOf(source)).not.toBe('');
    },
    TIMEOUT_MS,
  );
});

describe('comparing', () => {
  const NAMES = { reader: 'new', writer: 'old' } as const;
  const wide = (count: number, type: (index: number) => string): SchemaSource =>
    avro(
      `{"type":"record","name":"R","fields":[${many(count, (i) => `${i === 0 ? '' : ','}{"name":"f${i}","type":["null",${type(i)}]}`)}]}`,
    );
  const properties = (count: number, beside: string): SchemaSource =>
    json(
      `{"type":"object","properties":{${many(count, (i) => `${i === 0 ? '' : ','}"p${i}":{"type":"string"}`)}}${beside}}`,
    );
  const branching = (depth: number, leaf: object): object =>
    depth === 0 ? leaf : { anyOf: [0, 1, 2].map((i) => ({ properties: { [`p${i}`]: branching(depth - 1, leaf) } })) };

  it.each<[string, SchemaSource, SchemaSource, boolean]>([
    [
      'many unions of records',
      wide(3_000, (i) => `{"type":"record","name":"A${i}","fields":[]}`),
      wide(3_000, (i) => `{"type":"record","name":"A${i}","fields":[]}`),
      true,
    ],
    ['many properties', properties(10_000, ''), properties(10_000, ',"required":["p1"]'), true],
    ['branches of branches', json(branching(6, { type: 'string' })), json(branching(6, { type: 'integer' })), false],
    [
      'recursive unions',
      json({ $id: 'http://e/a', anyOf: [{ $ref: '#' }, { $ref: '#' }] }),
      json({ $id: 'http://e/b', oneOf: [{ $ref: '#' }, { type: 'string' }] }),
      false,
    ],
  ])(
    '%s',
    (_, reader, writer, fits) => {
      expect(schemaDifferences(reader, writer, NAMES).length === 0).toBe(fits);
    },
    TIMEOUT_MS,
  );
});
