/**
 * Which JSON Schemas read each other's data, and what is said of those that do not. A search with ajv over many values looks for
 * one that the old schema takes and a new one, which is said to be compatible, does not.
 */
import { Ajv } from 'ajv';
import { Ajv2020 } from 'ajv/dist/2020.js';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { schemaDifferences } from './index.ts';
import { json } from './schema-sources.ts';

function differences(reader: unknown, writer: unknown): string[] {
  const found = schemaDifferences(json(reader), json(writer), { reader: 'new', writer: 'old' });
  return found.map(({ errorType, description }) => `${errorType}: ${description}`);
}

const closed = (properties: object, beside: object = {}): object => ({
  type: 'object',
  properties,
  additionalProperties: false,
  ...beside,
});
const open = (properties: object, beside: object = {}): object => ({ type: 'object', properties, ...beside });
const text = { type: 'string' };
const whole = { type: 'integer' };
const tree = (value: object): object => ({
  definitions: { node: closed({ value, left: { $ref: '#/definitions/node' } }) },
  $ref: '#/definitions/node',
});
/** Not as a literal: the linter takes an object with `then` for a promise. */
const conditional = (condition: object, consequence: object, beside: object = {}): object => {
  const text = `{"if": ${JSON.stringify(condition)}, "then": ${JSON.stringify(consequence)}}`;
  return { ...(JSON.parse(text) as object), ...beside };
};
const tagged = (kind: string, properties: object): object =>
  open({ kind: { const: kind }, ...properties }, { required: ['kind'] });

/** @returns a new and an old schema */
const COMPATIBLE: readonly [string, unknown, unknown][] = [
  ['of the same schema', open({ a: text }), open({ a: text })],
  ['when it allows everything', {}, { type: 'object', required: ['a'] }],
  ['when a type was widened', { type: ['string', 'null'] }, { type: 'string' }],
  ['when integers became numbers', { type: 'number' }, { type: 'integer' }],
  ['when an optional property was added to a closed object', closed({ a: text, b: whole }), closed({ a: text })],
  ['when a property was removed from an open object', open({}), open({ a: text })],
  ['when a property is not required any more', open({ a: text }), open({ a: text }, { required: ['a'] })],
  [
    'when a required property with a default was added',
    closed({ a: { type: 'string', default: '' } }, { required: ['a'] }),
    closed({}),
  ],
  ['when a closed object was opened', open({ a: text }), closed({ a: text })],
  ['when values were added', { enum: ['a', 'b', 'c'] }, { enum: ['a', 'b'] }],
  ['when a constant became one of several values', { enum: ['a', 'b'] }, { const: 'a' }],
  [
    'when bounds were widened',
    { type: 'number', minimum: 0, maximum: 20 },
    { type: 'number', exclusiveMinimum: 0, maximum: 10 },
  ],
  ['when an excluded bound became included', { type: 'integer', minimum: 5 }, { type: 'integer', exclusiveMinimum: 5 }],
  [
    'when lengths were widened',
    { type: 'string', minLength: 1, maxLength: 9 },
    { type: 'string', minLength: 2, maxLength: 8 },
  ],
  ['when values fit the bounds', { type: 'integer', minimum: 1 }, { enum: [1, 2, 3] }],
  ['when multiples became coarser before', { type: 'integer', multipleOf: 5 }, { type: 'integer', multipleOf: 10 }],
  [
    'when what is demanded concerns other types',
    { minLength: 5, minItems: 5, minimum: 5, required: ['x'] },
    { type: 'boolean' },
  ],
  [
    'when items were widened',
    { type: 'array', items: { type: 'number' } },
    { type: 'array', items: whole, minItems: 2 },
  ],
  [
    'when a tuple became a list',
    { type: 'array', items: { type: ['string', 'integer'] } },
    { type: 'array', items: [text, whole], additionalItems: false },
  ],
  ['when uniqueness was dropped', { type: 'array' }, { type: 'array', uniqueItems: true }],
  ['when a union got a branch', { anyOf: [text, whole, { type: 'null' }] }, { anyOf: [text, whole] }],
  ['when a type became a union with it', { oneOf: [{ type: 'null' }, text] }, text],
  ['when a list of types became a union', { anyOf: [text, { type: 'null' }] }, { type: ['string', 'null'] }],
  [
    'when a union of records got a branch that is told apart',
    { oneOf: [tagged('a', {}), tagged('b', {}), tagged('c', {})] },
    { oneOf: [tagged('a', {}), tagged('b', {})] },
  ],
  ['when unions stayed', { oneOf: [{ minimum: 3 }, { maximum: 5 }] }, { oneOf: [{ minimum: 3 }, { maximum: 5 }] }],
  [
    'when it is put together of parts',
    { allOf: [open({ a: text }), { required: ['a'] }] },
    open({ a: { enum: ['x'] } }, { required: ['a', 'b'] }),
  ],
  [
    'when the old one is put together of parts',
    open({ a: text, b: whole }),
    { allOf: [open({ a: text }), open({ b: whole })] },
  ],
  ['when a recursive schema was widened', tree({ type: ['integer', 'string'] }), tree(whole)],
  ['when a recursive schema stayed', tree(whole), tree(whole)],
  ['when a pattern stayed', { type: 'string', pattern: '^a' }, { type: 'string', pattern: '^a', minLength: 3 }],
  [
    'when properties by pattern were widened',
    { type: 'object', patternProperties: { '^x': { type: 'number' } } },
    { type: 'object', patternProperties: { '^x': whole } },
  ],
  [
    'when only explanations changed',
    { ...open({ a: text }), title: 'new', description: 'x', $comment: 'y' },
    open({ a: text }),
  ],
  [
    'when conditions stayed',
    conditional({ required: ['a'] }, { required: ['b'] }),
    conditional({ required: ['a'] }, { required: ['b'] }, { type: 'object' }),
  ],
  ['when it says not to', { not: { type: 'null' } }, { not: { type: 'null' }, type: ['string', 'integer'] }],
  ['when nothing could be written', { type: 'string' }, false],
];

describe('a new JSON Schema reads old data', () => {
  it.each(COMPATIBLE)('%s', (_, reader, writer) => {
    expect(differences(reader, writer)).toEqual([]);
  });
});

describe('a new JSON Schema does not read old data', () => {
  it.each<[string, unknown, unknown, string]>([
    [
      'when a type was narrowed',
      text,
      { type: ['string', 'null'] },
      'TYPE_NARROWED: the type is "string" in the new schema, the old schema allows null too (at #/type)',
    ],
    [
      'when a type changed',
      open({ a: whole }),
      open({ a: text }),
      'TYPE_CHANGED: the type is "integer" in the new schema, the old schema allows string too (at #/properties/a/type)',
    ],
    [
      'when numbers became integers',
      whole,
      { type: 'number' },
      'TYPE_NARROWED: the type is "integer" in the new schema, the old schema allows number too (at #/type)',
    ],
    [
      'when an optional property was added to an open object',
      open({ a: text }),
      open({}),
      'PROPERTY_ADDED_TO_OPEN_CONTENT_MODEL: property \'a\' is declared in the new schema and not in the old schema, which allows any value under that name since it has no "additionalProperties": false (at #/properties/a)',
    ],
    [
      'when a property was removed from a closed object',
      closed({}),
      closed({ a: text }),
      "PROPERTY_REMOVED_FROM_CLOSED_CONTENT_MODEL: property 'a' of the old schema is not allowed in the new schema (at #/properties/a)",
    ],
    [
      'when an object was closed',
      closed({ a: text }),
      open({ a: text }),
      'ADDITIONAL_PROPERTIES_REMOVED: the new schema allows no other properties than it lists, the old schema does (at #/additionalProperties)',
    ],
    [
      'when a property became required',
      open({ a: text }, { required: ['a'] }),
      open({ a: text }),
      "REQUIRED_ATTRIBUTE_ADDED: property 'a' is required in the new schema, without a default, and not in the old schema (at #/required)",
    ],
    [
      'when a required property was added',
      closed({ a: text }, { required: ['a'] }),
      closed({}),
      "REQUIRED_PROPERTY_ADDED: property 'a' is required in the new schema, without a default, and not in the old schema (at #/required)",
    ],
    [
      'when values were removed',
      { enum: ['a'] },
      { enum: ['a', 'b'] },
      'ENUM_ARRAY_NARROWED: the new schema does not allow "b", the old schema does (at #)',
    ],
    [
      'when values were listed',
      { type: 'string', enum: ['a'] },
      text,
      'ENUM_ARRAY_ADDED: the new schema allows the values ["a"] only, the old schema others too (at #)',
    ],
    [
      'when a minimum was added',
      { type: 'integer', minimum: 1 },
      whole,
      'MINIMUM_ADDED: numbers are at least 1 in the new schema, the old schema allows others (at #)',
    ],
    [
      'when a maximum became smaller',
      { type: 'integer', maximum: 5 },
      { type: 'integer', maximum: 6 },
      'MAXIMUM_NARROWED: numbers are at most 5 in the new schema, the old schema allows others (at #)',
    ],
    [
      'when a bound became excluded',
      { type: 'integer', exclusiveMinimum: 5 },
      { type: 'integer', minimum: 5 },
      'MINIMUM_NARROWED: numbers are at least 5 (excluded) in the new schema, the old schema allows others (at #)',
    ],
    [
      'when multiples were demanded',
      { type: 'integer', multipleOf: 3 },
      { type: 'integer', multipleOf: 2 },
      'MULTIPLE_OF_CHANGED: the new schema demands multiples of 3, the old schema allows others (at #/multipleOf)',
    ],
    [
      'when a length was bounded',
      { type: 'string', maxLength: 5 },
      text,
      'MAX_LENGTH_ADDED: the new schema demands at most 5 characters, the old schema does not (at #/maxLength)',
    ],
    [
      'when more items were demanded',
      { type: 'array', minItems: 2 },
      { type: 'array', minItems: 1 },
      'MIN_ITEMS_NARROWED: the new schema demands at least 2 items, the old schema does not (at #/minItems)',
    ],
    [
      'when items were narrowed',
      { type: 'array', items: text },
      { type: 'array' },
      'TYPE_NARROWED: the type is "string" in the new schema, the old schema allows null, boolean, integer, number, array, object too (at #/items/type)',
    ],
    [
      'when items became unique',
      { type: 'array', uniqueItems: true },
      { type: 'array' },
      'UNIQUE_ITEMS_ADDED: items are unique in the new schema, the old schema allows the same twice (at #/uniqueItems)',
    ],
    [
      'when a branch was removed',
      { anyOf: [text] },
      { anyOf: [text, whole] },
      'SUM_TYPE_NARROWED: no branch of "anyOf" in the new schema takes all that the old schema allows (at #/anyOf)',
    ],
    [
      'when nothing is allowed any more',
      false,
      text,
      'NOTHING_ALLOWED: the new schema allows no value there, the old schema does (at #)',
    ],
    [
      'when a pattern changed',
      { type: 'string', pattern: 'a' },
      { type: 'string', pattern: 'aa' },
      'NOT_DECIDABLE: it cannot be decided whether the schemas are compatible: "pattern" changed, and is compared as it stands (at #/pattern)',
    ],
    [
      'when a format was added',
      { type: 'string', format: 'date' },
      text,
      'NOT_DECIDABLE: it cannot be decided whether the schemas are compatible: "format" is on one side only, and is compared as it stands (at #/format)',
    ],
    [
      'when a condition changed',
      conditional(text, { minLength: 2 }),
      conditional(text, { minLength: 3 }),
      'NOT_DECIDABLE: it cannot be decided whether the schemas are compatible: "if" changed, and is compared as it stands (at #/if)',
    ],
    [
      'when branches of oneOf overlap',
      {
        oneOf: [
          { type: 'integer', minimum: 0 },
          { type: 'integer', maximum: 9 },
        ],
      },
      { type: 'integer', minimum: 10 },
      'NOT_DECIDABLE: it cannot be decided whether the schemas are compatible: values of "oneOf/0" may be values of "oneOf/1" too, which is not told apart by type, enum, const or a required property (at #/oneOf)',
    ],
    [
      'when unevaluated properties are forbidden',
      open({ a: text }, { unevaluatedProperties: false }),
      closed({}),
      'NOT_DECIDABLE: it cannot be decided whether the schemas are compatible: a schema with "unevaluatedProperties" or "unevaluatedItems" is compared as it stands (at #)',
    ],
    [
      'when it leads to itself only',
      { definitions: { a: { $ref: '#/definitions/a' } }, $ref: '#/definitions/a' },
      text,
      'NOT_DECIDABLE: it cannot be decided whether the schemas are compatible: a "$ref" leads to a schema that is not known, or to itself (at #)',
    ],
  ])('%s', (_, reader, writer, message) => {
    expect(differences(reader, writer)).toEqual([message]);
  });
});

describe('schemas of different drafts', () => {
  const draft7 = { $schema: 'http://json-schema.org/draft-07/schema#' };
  const draft2020 = { $schema: 'https://json-schema.org/draft/2020-12/schema' };

  it('are compared by what counts in each', () => {
    expect(
      differences({ ...draft2020, ...closed({ a: text, b: whole }) }, { ...draft7, ...closed({ a: text }) }),
    ).toEqual([]);
    expect(differences({ ...draft2020, prefixItems: [text] }, { ...draft2020, prefixItems: [text] })).toEqual([]);
  });

  it.each<[string, object, object]>([
    [
      'a keyword that came later',
      { ...draft2020, type: 'array', prefixItems: [text] },
      { ...draft7, type: 'array', prefixItems: [text] },
    ],
    [
      'a keyword that the old draft passes over',
      { ...draft7, const: 1 },
      { $schema: 'http://json-schema.org/draft-04/schema#', const: 1 },
    ],
    [
      'what stands beside $ref',
      { ...draft2020, $ref: '#/$defs/a', $defs: { a: {} }, type: 'string' },
      { ...draft7, $ref: '#/$defs/a', $defs: { a: {} }, type: 'string' },
    ],
    [
      'the same words in another draft',
      { ...draft2020, not: { prefixItems: [text] } },
      { ...draft7, not: { prefixItems: [text] } },
    ],
  ])('do not promise %s', (_, reader, writer) => {
    expect(differences(reader, writer)).toHaveLength(1);
  });
});

it('says where recursive schemas differ, once for each way that leads there', () => {
  expect(differences(tree(whole), tree({ type: ['integer', 'string'] }))).toEqual([
    'TYPE_NARROWED: the type is "integer" in the new schema, the old schema allows string too (at #/properties/value/type)',
    'TYPE_NARROWED: the type is "integer" in the new schema, the old schema allows string too (at #/properties/left/properties/value/type)',
  ]);
});

const scalar: fc.Arbitrary<object> = fc.oneof(
  fc.constantFrom<object>({}, { type: 'null' }, { type: 'boolean' }, { type: 'string' }, { type: ['string', 'null'] }),
  fc.record({ type: fc.constantFrom('integer', 'number') }, { requiredKeys: ['type'] }),
  fc.record(
    {
      type: fc.constantFrom('integer', 'number'),
      minimum: fc.integer({ min: -2, max: 2 }),
      exclusiveMaximum: fc.integer({ min: -1, max: 3 }),
      multipleOf: fc.constantFrom(1, 2, 3),
    },
    { requiredKeys: ['type'] },
  ),
  fc.record({ type: fc.constant('string'), minLength: fc.nat(2), maxLength: fc.nat(3) }, { requiredKeys: [] }),
  fc.record({
    enum: fc.uniqueArray(fc.constantFrom<unknown>(null, 0, 1, 2, 0.5, 'a', 'bb', true), { minLength: 1, maxLength: 4 }),
  }),
  fc.record({ const: fc.constantFrom<unknown>('a', 'b', 1) }),
);

const schemas = fc.letrec<{ schema: object | boolean }>((tie) => {
  const inner = tie('schema');
  const names = fc.constantFrom('a', 'b', 'c');
  return {
    schema: fc.oneof(
      { maxDepth: 3, depthSize: 'small' },
      scalar,
      fc.constantFrom(true, false),
      fc.record(
        {
          type: fc.constant('object'),
          properties: fc.dictionary(names, inner, { maxKeys: 3 }),
          required: fc.uniqueArray(names, { maxLength: 2 }),
          additionalProperties: inner,
          patternProperties: fc.dictionary(fc.constantFrom('^a', '^[bc]'), inner, { minKeys: 1, maxKeys: 1 }),
          minProperties: fc.nat(2),
          maxProperties: fc.nat(3),
        },
        { requiredKeys: [] },
      ),
      fc.record(
        {
          type: fc.constant('array'),
          items: inner,
          minItems: fc.nat(2),
          maxItems: fc.nat(3),
          uniqueItems: fc.boolean(),
          prefixItems: fc.array(inner, { minLength: 1, maxLength: 2 }),
        },
        { requiredKeys: [] },
      ),
      fc.record({ anyOf: fc.array(inner, { minLength: 1, maxLength: 3 }) }),
      fc.record({ oneOf: fc.array(inner, { minLength: 1, maxLength: 3 }) }),
      fc.record({ allOf: fc.array(inner, { minLength: 1, maxLength: 2 }) }),
      fc.record({
        anyOf: fc.array(inner, { minLength: 1, maxLength: 2 }),
        required: fc.uniqueArray(names, { maxLength: 1 }),
      }),
    ),
  };
}).schema;

const values: fc.Arbitrary<unknown> = fc.letrec<{ value: unknown }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 3, depthSize: 'small' },
    fc.constantFrom<unknown>(null, true, false, 0, 1, 2, 3, -1, 0.5, 6, 'a', 'b', 'bb', 'ccc', ''),
    fc.dictionary(fc.constantFrom('a', 'b', 'c', 'd'), tie('value'), { maxKeys: 3 }),
    fc.array(tie('value'), { maxLength: 3 }),
  ),
})).value;

/** A schema and one that is like it but for some piece. */
const pairs = fc.oneof(
  fc.tuple(schemas, schemas),
  schemas.chain((old) => fc.tuple(fc.constant(old), similar(old))),
);

function similar(old: object | boolean): fc.Arbitrary<object | boolean> {
  if (typeof old === 'boolean') return fc.constant(old);
  return fc.tuple(schemas, fc.nat(4)).map(([other, way]) => {
    if (typeof other === 'boolean' || way === 0) return { anyOf: [old, other] };
    if (way === 1) return { ...other, ...old };
    if (way === 2) return { oneOf: [old, other] };
    const entries = Object.entries(old);
    return Object.fromEntries(way === 3 ? entries.slice(1) : [...entries, ...Object.entries(other)]);
  });
}

const in2020 = (schema: object | boolean): object | boolean =>
  typeof schema === 'boolean' ? schema : { $schema: 'https://json-schema.org/draft/2020-12/schema', ...schema };

const RUNS = process.env['NARU_TEST_LONG'] === undefined ? 150 : 2_000;

describe('what is said to be compatible', () => {
  it('is: no value is taken by the old schema and refused by the new one', () => {
    let compatible = 0;
    const check = fc.property(pairs, fc.array(values, { minLength: 30, maxLength: 30 }), ([old, next], candidates) => {
      if (differences(in2020(next), in2020(old)).length > 0) return;
      compatible += 1;
      const ajv = new Ajv2020({ strict: false, logger: false });
      const [takesOld, takesNew] = [ajv.compile(old), ajv.compile(next)];
      for (const value of candidates)
        if (takesOld(value)) expect({ value, taken: takesNew(value) }).toEqual({ value, taken: true });
    });
    fc.assert(check, { numRuns: RUNS, seed: 20_261 });
    // Else nothing was looked at.
    expect(compatible).toBeGreaterThan(RUNS / 5);
  }, 120_000);

  it('is so in the examples above', () => {
    const ajv = new Ajv({ strict: false, logger: false, useDefaults: true });
    const check = fc.property(values, (value) => {
      for (const [takesOld, takesNew] of pairsOfValidators) {
        if (takesOld(structuredClone(value))) expect(takesNew(structuredClone(value))).toBe(true);
      }
    });
    const pairsOfValidators = COMPATIBLE.map(
      ([, next, old]) => [ajv.compile(old as object), ajv.compile(next as object)] as const,
    );
    fc.assert(check, { numRuns: 1_000, seed: 7 });
  });
});
