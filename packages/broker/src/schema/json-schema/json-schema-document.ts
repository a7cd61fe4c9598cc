/**
 * JSON Schemas as documents: which draft, where `$ref` leads, and whether every keyword is what the drafts want.
 *
 * Read as data: nothing is compiled, patterns are never run.
 */
import { isObject, jsonKind, numberOf, property, readJson, type JsonObject } from '../json-text.ts';
import { InvalidSchemaError, referencedSources, shown, type SchemaSource } from '../schema.ts';

/** Drafts by their number; 2019-09 and 2020-12 by their year. */
const DRAFTS: readonly (readonly [RegExp, number])[] = [
  [/^https?:\/\/json-schema\.org\/draft-04\/schema#?$/, 4],
  [/^https?:\/\/json-schema\.org\/draft-06\/schema#?$/, 6],
  [/^https?:\/\/json-schema\.org\/draft-07\/schema#?$/, 7],
  [/^https?:\/\/json-schema\.org\/draft\/2019-09\/schema#?$/, 2019],
  [/^https?:\/\/json-schema\.org\/draft\/2020-12\/schema#?$/, 2020],
];
/** What a schema without `$schema` is read as, which is what Confluent's registry takes. */
const DEFAULT_DRAFT = 7;
const META_SCHEMA = /^https?:\/\/json-schema\.org\/draft/;

/** A schema and the document that it stands in, which is what its `$ref` are relative to. */
export interface PlacedSchema {
  readonly schema: unknown;
  readonly document: JsonSchemaDocument;
}

export interface JsonSchemaDocument {
  readonly root: unknown;
  readonly draft: number;
  /** Roots of this schema and of those that it refers to, by URI. */
  readonly byUri: ReadonlyMap<string, PlacedSchema>;
  /** By `#name`. */
  readonly anchors: ReadonlyMap<string, unknown>;
  readonly baseUri: string;
  /** Schemas inside that have an `$id`, and so are documents of their own. */
  readonly embedded: ReadonlyMap<unknown, JsonSchemaDocument>;
}

/** The document that a schema's `$ref` are relative to. */
export function documentOf({ schema, document }: PlacedSchema): JsonSchemaDocument {
  return document.embedded.get(schema) ?? document;
}

/** @throws InvalidSchemaError */
export function parseJsonSchema(source: SchemaSource): PlacedSchema {
  const byUri = new Map<string, PlacedSchema>();
  const references = referencedSources(source).map(({ name, source: referenced }) => {
    if (referenced.type !== 'JSON')
      throw new InvalidSchemaError(`reference ${shown(name)} is a schema of type ${referenced.type}, not JSON`);
    const document = readDocument(referenced.text, name, byUri);
    byUri.set(name, { schema: document.root, document });
    return { name, document };
  });
  const main = readDocument(source.text, '', byUri);
  for (const { name, document } of references) {
    try {
      new SchemaWalk(document).check();
    } catch (error) {
      if (!(error instanceof InvalidSchemaError)) throw error;
      throw new InvalidSchemaError(`reference ${shown(name)}: ${error.message}`);
    }
  }
  new SchemaWalk(main).check();
  return { schema: main.root, document: main };
}

function readDocument(text: string, uri: string, byUri: Map<string, PlacedSchema>): JsonSchemaDocument {
  const root = readJson(text);
  if (typeof root !== 'boolean' && !isObject(root))
    throw new InvalidSchemaError(`a JSON Schema is an object, true or false, not ${jsonKind(root)}`);
  const id = isObject(root) ? (property(root, '$id') ?? property(root, 'id')) : undefined;
  return makeDocument(root, draftOf(root), typeof id === 'string' ? resolveUri(id, uri) : uri, byUri, new Map());
}

function makeDocument(
  root: unknown,
  draft: number,
  baseUri: string,
  byUri: Map<string, PlacedSchema>,
  embedded: Map<unknown, JsonSchemaDocument>,
): JsonSchemaDocument {
  const anchors = new Map<string, unknown>();
  const document = { root, draft, byUri, anchors, baseUri, embedded };
  if (baseUri !== '') byUri.set(withoutFragment(baseUri), { schema: root, document });
  const visit = (value: unknown): void => {
    if (Array.isArray(value)) for (const entry of value) visit(entry);
    if (!isObject(value)) return;
    const id = property(value, '$id');
    if (typeof id === 'string' && !id.startsWith('#') && value !== root) {
      embedded.set(value, makeDocument(value, draft, resolveUri(id, baseUri), byUri, embedded));
      return;
    }
    for (const anchor of [property(value, '$anchor'), property(value, '$dynamicAnchor')])
      if (typeof anchor === 'string') anchors.set(`#${anchor}`, value);
    if (typeof id === 'string' && id.startsWith('#')) anchors.set(id, value);
    for (const entry of Object.values(value)) visit(entry);
  };
  visit(root);
  return document;
}

function draftOf(root: unknown): number {
  const uri = isObject(root) ? property(root, '$schema') : undefined;
  if (uri === undefined) return DEFAULT_DRAFT;
  const draft = typeof uri === 'string' ? DRAFTS.find(([pattern]) => pattern.test(uri))?.[1] : undefined;
  if (draft !== undefined) return draft;
  throw new InvalidSchemaError(`"$schema" is ${shown(uri)}: known are drafts 04, 06, 07, 2019-09 and 2020-12`);
}

/** Where a `$ref` leads; undefined when nothing is there; null for a meta-schema, which is known to be there. */
export function resolveRef(ref: string, document: JsonSchemaDocument): PlacedSchema | undefined | null {
  const { baseUri, byUri, root, anchors } = document;
  const hash = ref.indexOf('#');
  const uri = hash < 0 ? ref : ref.slice(0, hash);
  const fragment = hash < 0 ? '' : ref.slice(hash);
  let target: PlacedSchema | undefined;
  let names: ReadonlyMap<string, unknown> = anchors;
  if (uri === '') target = { schema: root, document };
  else {
    target = byUri.get(uri) ?? byUri.get(withoutFragment(resolveUri(uri, baseUri)));
    if (target === undefined) return META_SCHEMA.test(uri) ? null : undefined;
    names = target.document.anchors;
  }
  if (fragment === '' || fragment === '#') return target;
  if (!fragment.startsWith('#/')) {
    return names.has(fragment) ? { schema: names.get(fragment), document: target.document } : undefined;
  }
  const schema = atPointer(target.schema, fragment.slice(1));
  return schema === undefined ? undefined : { schema, document: target.document };
}

function atPointer(root: unknown, pointer: string): unknown {
  let value: unknown = root;
  for (const step of pointer.slice(1).split('/')) {
    const key = decoded(step).replaceAll('~1', '/').replaceAll('~0', '~');
    if (Array.isArray(value)) value = /^\d{1,9}$/.test(key) ? value[Number(key)] : undefined;
    else value = isObject(value) ? property(value, key) : undefined;
  }
  return value;
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function resolveUri(uri: string, base: string): string {
  return URL.canParse(uri, base) ? new URL(uri, base).href : URL.canParse(uri) ? new URL(uri).href : uri;
}

function withoutFragment(uri: string): string {
  const hash = uri.indexOf('#');
  return hash < 0 ? uri : uri.slice(0, hash);
}

type Check = (value: unknown, path: string, walk: SchemaWalk) => void;

const TYPES: ReadonlySet<unknown> = new Set(['null', 'boolean', 'integer', 'number', 'string', 'array', 'object']);

const schema: Check = (value, path, walk) => walk.schema(value, path);

const schemaList: Check = (value, path, walk) => {
  if (!Array.isArray(value) || value.length === 0)
    return fail(path, `an array of schemas is needed, not ${shown(value)}`);
  for (const [index, entry] of value.entries()) walk.schema(entry, `${path}/${index}`);
};

const schemaMap: Check = (value, path, walk) => {
  if (!isObject(value)) return fail(path, `an object of schemas is needed, not ${jsonKind(value)}`);
  for (const [key, entry] of Object.entries(value)) walk.schema(entry, `${path}/${escaped(key)}`);
};

const patternMap: Check = (value, path, walk) => {
  schemaMap(value, path, walk);
  for (const key of Object.keys(value as JsonObject)) pattern(key, `${path}/${escaped(key)}`, walk);
};

const pattern: Check = (value, path) => {
  if (typeof value !== 'string') return fail(path, `a pattern is text, not ${jsonKind(value)}`);
  try {
    // Made to see whether it is one; never run.
    return void new RegExp(value, 'u');
  } catch (error) {
    return fail(path, `${shown(value)} is no regular expression: ${(error as Error).message.replace(/^.*: /s, '')}`);
  }
};

const count: Check = (value, path) => {
  const number = numberOf(value);
  if (number === null || !Number.isInteger(number) || number < 0)
    fail(path, `a whole number from 0 is needed, not ${jsonKind(value)}`);
};

const number: Check = (value, path) => {
  if (numberOf(value) === null) fail(path, `a number is needed, not ${jsonKind(value)}`);
};

const boolean: Check = (value, path) => {
  if (typeof value !== 'boolean') fail(path, `true or false is needed, not ${jsonKind(value)}`);
};

const text: Check = (value, path) => {
  if (typeof value !== 'string') fail(path, `text is needed, not ${jsonKind(value)}`);
};

const names: Check = (value, path) => {
  if (!Array.isArray(value) || value.some((name) => typeof name !== 'string'))
    return fail(path, `an array of names is needed, not ${shown(value)}`);
  if (new Set(value).size !== value.length) fail(path, 'a name is there twice');
};

const type: Check = (value, path) => {
  const list: unknown[] = Array.isArray(value) ? value : [value];
  for (const entry of list) if (!TYPES.has(entry)) fail(path, `${shown(entry)} is no type: ${[...TYPES].join(', ')}`);
  if (list.length === 0) fail(path, 'a type is needed');
  if (new Set(list).size !== list.length) fail(path, 'a type is there twice');
};

const CHECKS: Readonly<Record<string, Check>> = {
  type,
  enum: (value, path) => {
    if (!Array.isArray(value) || value.length === 0) fail(path, `an array of values is needed, not ${shown(value)}`);
  },
  multipleOf: (value, path) => {
    if (!((numberOf(value) ?? 0) > 0)) fail(path, `a number above 0 is needed, not ${jsonKind(value)}`);
  },
  minimum: number,
  maximum: number,
  minLength: count,
  maxLength: count,
  pattern,
  minItems: count,
  maxItems: count,
  uniqueItems: boolean,
  minContains: count,
  maxContains: count,
  minProperties: count,
  maxProperties: count,
  format: text,
  $ref: text,
  properties: schemaMap,
  patternProperties: patternMap,
  definitions: schemaMap,
  $defs: schemaMap,
  dependentSchemas: schemaMap,
  dependentRequired: (value, path, walk) => {
    if (!isObject(value)) return fail(path, `an object of arrays is needed, not ${jsonKind(value)}`);
    for (const [key, entry] of Object.entries(value)) names(entry, `${path}/${escaped(key)}`, walk);
  },
  dependencies: (value, path, walk) => {
    if (!isObject(value)) return fail(path, `an object is needed, not ${jsonKind(value)}`);
    for (const [key, entry] of Object.entries(value))
      (Array.isArray(entry) ? names : schema)(entry, `${path}/${escaped(key)}`, walk);
  },
  additionalProperties: schema,
  unevaluatedProperties: schema,
  unevaluatedItems: schema,
  additionalItems: schema,
  propertyNames: schema,
  contains: schema,
  not: schema,
  if: schema,
  else: schema,
  allOf: schemaList,
  anyOf: schemaList,
  oneOf: schemaList,
  prefixItems: schemaList,
};

/** Goes through all schemas of a document and refuses what is wrong, with its place as a JSON pointer. */
class SchemaWalk {
  readonly #document: JsonSchemaDocument;

  constructor(document: JsonSchemaDocument) {
    this.#document = document;
  }

  check(): void {
    this.schema(this.#document.root, '#');
  }

  schema(value: unknown, path: string): void {
    if (typeof value === 'boolean') return;
    if (!isObject(value)) return fail(path, `a schema is an object, true or false, not ${jsonKind(value)}`);
    const document = documentOf({ schema: value, document: this.#document });
    if (document !== this.#document) return new SchemaWalk(document).schema(value, path);
    for (const [key, entry] of Object.entries(value)) this.#keyword(key, entry, `${path}/${escaped(key)}`);
    const ref = property(value, '$ref');
    if (typeof ref === 'string' && resolveRef(ref, document) === undefined)
      fail(`${path}/$ref`, `${shown(ref)} leads nowhere: it is neither in the schema nor one of its references`);
  }

  #keyword(key: string, value: unknown, path: string): void {
    const { draft } = this.#document;
    if (key === 'items')
      return (Array.isArray(value) && draft < 2020 && value.length > 0 ? schemaList : schema)(value, path, this);
    if (key === 'required') return draft === 4 && typeof value === 'boolean' ? undefined : names(value, path, this);
    if (key === 'exclusiveMinimum' || key === 'exclusiveMaximum')
      return (draft === 4 ? boolean : number)(value, path, this);
    if (key === 'then') schema(value, path, this);
    else if (Object.hasOwn(CHECKS, key)) CHECKS[key]?.(value, path, this);
  }
}

function escaped(key: string): string {
  return key.replaceAll('~', '~0').replaceAll('/', '~1');
}

function fail(path: string, what: string): never {
  throw new InvalidSchemaError(`${what} (at ${path})`);
}
