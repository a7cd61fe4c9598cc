/** One JSON Schema object under one roof for all drafts: what it says of types, values, numbers, items and properties. */
import { isObject, numberOf, property, type JsonObject } from '../json-text.ts';
import { documentOf, resolveRef, type JsonSchemaDocument, type PlacedSchema } from './json-schema-document.ts';
import { sameValue } from './json-schema-equality.ts';

export type JsonType = 'null' | 'boolean' | 'integer' | 'fraction' | 'string' | 'array' | 'object';

/** `number` is both: whole numbers and those that are not. */
export const ALL_TYPES: readonly JsonType[] = ['null', 'boolean', 'integer', 'fraction', 'string', 'array', 'object'];

/** A schema without its `$ref` and `allOf`: everything it says holds at once with its neighbours. */
export interface Conjunct {
  readonly object: JsonObject;
  readonly document: JsonSchemaDocument;
}

export interface Items {
  readonly prefix: readonly PlacedSchema[];
  readonly rest: PlacedSchema;
}

const MAX_REF_CHAIN = 100;

/** The draft that a keyword came with: before it, validators pass it over. */
const KEYWORDS_SINCE: ReadonlyMap<string, number> = new Map([
  ['const', 6],
  ['contains', 6],
  ['propertyNames', 6],
  ['if', 7],
  ['then', 7],
  ['else', 7],
  ['dependentRequired', 2019],
  ['dependentSchemas', 2019],
  ['minContains', 2019],
  ['maxContains', 2019],
  ['unevaluatedItems', 2019],
  ['unevaluatedProperties', 2019],
  ['$recursiveRef', 2019],
  ['prefixItems', 2020],
  ['$dynamicRef', 2020],
]);

/**
 * Whether a schema's words are read as what it demands or as what it promises. Where drafts differ in what counts, all of it
 * is demanded, and only what surely counts is promised.
 */
export type Role = 'demand' | 'promise';

/** What must hold at once; null when the schema is `false`, which nothing fulfils; undefined when it leads to the unknown. */
export function conjuncts(placed: PlacedSchema, role: Role, depth = 0): Conjunct[] | null | undefined {
  const { schema } = placed;
  const document = documentOf(placed);
  if (schema === true) return [];
  if (schema === false) return null;
  if (!isObject(schema) || depth > MAX_REF_CHAIN) return undefined;
  const ref = property(schema, '$ref');
  const parts: PlacedSchema[] = [];
  if (typeof ref === 'string') {
    const target = resolveRef(ref, document);
    if (target === undefined || target === null) return undefined;
    parts.push(target);
    // Before 2019-09 what stands beside `$ref` does not count.
    if (document.draft < 2019 && role === 'promise') return conjuncts(target, role, depth + 1);
  }
  const allOf = property(schema, 'allOf');
  if (Array.isArray(allOf)) for (const part of allOf as unknown[]) parts.push({ schema: part, document });
  const all: Conjunct[] = [{ object: role === 'promise' ? knownTo(document.draft, schema) : schema, document }];
  for (const part of parts) {
    const inner = conjuncts(part, role, depth + 1);
    if (inner === null || inner === undefined) return inner;
    all.push(...inner);
  }
  return all;
}

const knownParts = new WeakMap<JsonObject, JsonObject>();

/** Without keywords that came later. */
function knownTo(draft: number, object: JsonObject): JsonObject {
  const isKnown = (key: string): boolean => (KEYWORDS_SINCE.get(key) ?? 0) <= draft;
  let known = knownParts.get(object);
  if (known !== undefined) return known;
  known = Object.keys(object).every(isKnown)
    ? object
    : Object.fromEntries(Object.entries(object).filter(([key]) => isKnown(key)));
  knownParts.set(object, known);
  return known;
}

/** Schemas do not change, and are asked for the same again and again. */
const knownTypes = new WeakMap<JsonObject, ReadonlySet<JsonType>>();
const knownProperties = new WeakMap<object, ReadonlyMap<string, PlacedSchema>>();

export function typesOf(object: JsonObject): ReadonlySet<JsonType> {
  let types = knownTypes.get(object);
  if (types === undefined) knownTypes.set(object, (types = computeTypes(object)));
  return types;
}

function computeTypes(object: JsonObject): ReadonlySet<JsonType> {
  const given = property(object, 'type');
  const named = given === undefined ? [...ALL_TYPES] : (Array.isArray(given) ? given : [given]).flatMap(expanded);
  const values = valuesOf(object);
  if (values === null) return new Set(named);
  const ofValues = new Set(values.map(typeOfValue));
  return new Set(named.filter((type) => ofValues.has(type)));
}

export function expanded(type: unknown): JsonType[] {
  return type === 'number' ? ['integer', 'fraction'] : [type as JsonType];
}

function typeOfValue(value: unknown): JsonType {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'array';
  if (typeof value === 'boolean' || typeof value === 'string') return typeof value as JsonType;
  const number = numberOf(value);
  if (number !== null) return Number.isInteger(number) ? 'integer' : 'fraction';
  return 'object';
}

/** Of `enum` and `const`; null when any value may be. */
export function valuesOf(object: JsonObject): readonly unknown[] | null {
  const list = property(object, 'enum');
  const values = Array.isArray(list) ? (list as unknown[]) : null;
  if (!Object.hasOwn(object, 'const')) return values;
  const only = object['const'];
  return values === null || values.some((value) => sameValue(value, only)) ? [only] : [];
}

/** The bound, and whether it is excluded; null without one. */
export function lowerBound(object: JsonObject): readonly [number, boolean] | null {
  return bound(object, 'minimum', 'exclusiveMinimum', (a, b) => a > b);
}

export function upperBound(object: JsonObject): readonly [number, boolean] | null {
  return bound(object, 'maximum', 'exclusiveMaximum', (a, b) => a < b);
}

function bound(
  object: JsonObject,
  key: string,
  exclusiveKey: string,
  isStricter: (a: number, b: number) => boolean,
): readonly [number, boolean] | null {
  const inclusive = numberOf(property(object, key));
  const exclusive = property(object, exclusiveKey);
  if (typeof exclusive === 'boolean') return inclusive === null ? null : [inclusive, exclusive];
  const other = numberOf(exclusive);
  if (other === null) return inclusive === null ? null : [inclusive, false];
  return inclusive === null || !isStricter(inclusive, other) ? [other, true] : [inclusive, false];
}

export function itemsOf({ object, document }: Conjunct): Items {
  const placed = (schema: unknown): PlacedSchema => ({ schema, document });
  const prefixItems = property(object, 'prefixItems');
  const items = property(object, 'items');
  if (Array.isArray(prefixItems)) return { prefix: prefixItems.map(placed), rest: placed(items ?? true) };
  if (!Array.isArray(items)) return { prefix: [], rest: placed(items ?? true) };
  return { prefix: items.map(placed), rest: placed(property(object, 'additionalItems') ?? true) };
}

const NO_PROPERTIES: ReadonlyMap<string, PlacedSchema> = new Map();

/** @param key `properties` or `patternProperties` */
export function propertiesOf({ object, document }: Conjunct, key: string): ReadonlyMap<string, PlacedSchema> {
  const value = property(object, key);
  if (!isObject(value)) return NO_PROPERTIES;
  let found = knownProperties.get(value);
  if (found === undefined) {
    found = new Map(Object.entries(value).map(([name, schema]) => [name, { schema, document }]));
    knownProperties.set(value, found);
  }
  return found;
}

export function additionalOf({ object, document }: Conjunct): PlacedSchema {
  return { schema: property(object, 'additionalProperties') ?? true, document };
}

export function requiredOf({ object }: Conjunct): readonly string[] {
  const value = property(object, 'required');
  return Array.isArray(value) ? (value as string[]) : [];
}
