/** A JSON Schema as a document: read, looked through for what must not be in it, and checked against its own meta-schema. */
import type { ValidateFunction } from 'ajv';
import { findPrototypeKey } from './prototype-keys.ts';
import { SerializationError, messageOf, pointer } from './serialization-error.ts';

const FORMAT = 'json';
/** Values in a schema, at most; the largest known ones have some hundred thousand. */
const MAX_NODES = 2_000_000;
/** Nested deeper than this, ajv would overflow the stack. */
const MAX_DEPTH = 500;

export interface SchemaDocument {
  readonly schema: object | boolean;
  readonly dialect: string;
  readonly title: string | undefined;
  readonly hasDefaults: boolean;
}

const DIALECTS: Readonly<Record<string, string>> = {
  'json-schema.org/draft/2020-12/schema': '2020-12',
  'json-schema.org/draft/2019-09/schema': '2019-09',
  'json-schema.org/draft-07/schema': 'draft-07',
  'json-schema.org/draft-06/schema': 'draft-06',
};

/** @throws SerializationError with the path in the schema */
export function readSchemaText(text: string): SchemaDocument {
  const schema = parse(text);
  if (typeof schema === 'boolean') return { schema, dialect: '2020-12', title: undefined, hasDefaults: false };
  if (typeof schema !== 'object' || schema === null || Array.isArray(schema))
    throw broken('', 'a JSON Schema is an object, true or false');
  const bad = findPrototypeKey(schema);
  if (bad !== null) throw broken(pointer(bad), `the key ${bad.at(-1)} is not allowed`);
  const { hasDefaults } = lookThrough(schema);
  const { $schema, title } = schema as Readonly<Record<string, unknown>>;
  return { schema, dialect: dialectOf($schema), title: typeof title === 'string' ? title : undefined, hasDefaults };
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch (error) {
    throw broken('', `not JSON: ${messageOf(error)}`, error);
  }
}

function dialectOf($schema: unknown): string {
  if ($schema === undefined) return '2020-12';
  if (typeof $schema !== 'string') throw broken('/$schema', 'expected a URI');
  const dialect = DIALECTS[$schema.replace(/^https?:\/\//, '').replace(/#$/, '')];
  if (dialect !== undefined) return dialect;
  throw broken('/$schema', `unknown dialect ${$schema}; known are 2020-12, 2019-09, draft-07 and draft-06`);
}

/** Keywords whose keys are names, not keywords. */
const NAMES = new Set(['properties', 'patternProperties', '$defs', 'definitions', 'dependentSchemas']);

interface Node {
  readonly value: object;
  readonly path: Path | null;
  readonly depth: number;
}
interface Path {
  readonly parent: Path | null;
  readonly key: string;
}

/** One look at every value: size, depth, and references that would leave the document through a prototype. */
function lookThrough(schema: object): { hasDefaults: boolean } {
  let hasDefaults = false;
  let nodes = 0;
  const open: Node[] = [{ value: schema, path: null, depth: 1 }];
  for (let node = open.pop(); node !== undefined; node = open.pop()) {
    if (node.depth > MAX_DEPTH) throw broken(written(node.path), `nested deeper than ${MAX_DEPTH}`);
    for (const [key, value] of Object.entries(node.value) as [string, unknown][]) {
      nodes += 1;
      if (nodes > MAX_NODES) throw broken('', `has more than ${MAX_NODES} values`);
      const path = { parent: node.path, key };
      if (key === 'default' && !NAMES.has(node.path?.key ?? '')) hasDefaults = true;
      if (key === '$async' && value === true) throw broken(written(path), 'asynchronous schemas are not supported');
      if (isReference(key) && typeof value === 'string') checkReference(value, path, schema);
      if (typeof value === 'object' && value !== null) open.push({ value, path, depth: node.depth + 1 });
    }
  }
  return { hasDefaults };
}

function isReference(key: string): boolean {
  return key === '$ref' || key === '$dynamicRef' || key === '$recursiveRef';
}

/** A step such as `constructor` would be found on every object: it counts only where the document has it. */
function checkReference(reference: string, path: Path, document: object): void {
  const start = reference.indexOf('#/');
  if (start < 0) return;
  let steps: string[];
  try {
    steps = decodeURIComponent(reference.slice(start + 2)).split('/');
  } catch (error) {
    throw broken(written(path), `not a URI reference: ${reference}`, error);
  }
  const inherited = steps.find((step) => step in Object.prototype);
  if (inherited === undefined) return;
  let at: unknown = document;
  for (const step of steps.map((one) => one.replaceAll('~1', '/').replaceAll('~0', '~'))) {
    if (typeof at !== 'object' || at === null || !Object.hasOwn(at, step))
      throw broken(written(path), `a reference must not lead through ${inherited}, which the schema does not have`);
    at = (at as Readonly<Record<string, unknown>>)[step];
  }
}

function written(path: Path | null): string {
  const keys: string[] = [];
  for (let at = path; at !== null; at = at.parent) keys.unshift(at.key);
  return pointer(keys);
}

/** Against the meta-schema, for a path; what only shows when compiling has none. */
export function checkSchemaDocument(
  { schema }: SchemaDocument,
  ajv: { validateSchema(schema: object | boolean): unknown; errors?: ValidateFunction['errors'] },
  what: string,
): void {
  if (ajv.validateSchema(schema) === true) return;
  const [first] = ajv.errors ?? [];
  const allowed = (first?.params as { allowedValues?: unknown[] } | undefined)?.allowedValues;
  const choice = allowed === undefined ? '' : `: ${allowed.map((value) => JSON.stringify(value)).join(', ')}`;
  throw SerializationError.at(FORMAT, first?.instancePath ?? '', `${what}: ${first?.message ?? 'not valid'}${choice}`);
}

function broken(path: string, message: string, cause?: unknown): SerializationError {
  return SerializationError.at(FORMAT, path, `schema: ${message}`, cause);
}
