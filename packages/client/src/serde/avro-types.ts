/**
 * Avro schemas to avsc types: longs are bigints, unless a logical type of the user's takes them.
 *
 * avsc compiles schemas to code: they are to be trusted like code.
 */
import type avscModule from 'avsc';
import type { Type, types } from 'avsc';
import type { NamedSchema } from './schema-serde.ts';
import { SerializationError, messageOf, pointer } from './serialization-error.ts';

const FORMAT = 'avro';
/** Values in a schema, at most. */
const MAX_NODES = 200_000;
/** How deep a schema may be nested. */
const MAX_DEPTH = 100;

export type Avsc = typeof avscModule;
export type LogicalTypes = Readonly<Record<string, new (schema: never, options?: never) => types.LogicalType>>;

interface TypeOptions {
  registry: Record<string, Type>;
  logicalTypes?: LogicalTypes | undefined;
  assertLogicalTypes: boolean;
  typeHook(schema: unknown, options: TypeOptions): Type | undefined;
}

/** @throws SerializationError with what is wrong and, where that can be told, the path in the schema */
export function avroType(
  avsc: Avsc,
  text: string,
  references: readonly NamedSchema[],
  logicalTypes: LogicalTypes | undefined,
): Type {
  const long = longType(avsc, false);
  const bigintOnly = longType(avsc, true);
  const options: TypeOptions = {
    registry: { long },
    logicalTypes,
    assertLogicalTypes: true,
    typeHook(schema, inner) {
      if (Array.isArray(schema)) {
        const branches: unknown[] = schema;
        if (!branches.some(isLong) || !branches.some(isOtherNumber)) return undefined;
        // Beside another kind of number only a bigint says that it is the long.
        const distinct = branches.map((branch) => (isLong(branch) ? bigintOnly : branch));
        return avsc.Type.forSchema(distinct as never, inner as never);
      }
      if (!isObject(schema) || schema['type'] !== 'long') return undefined;
      const { logicalType } = schema;
      const isTaken =
        typeof logicalType === 'string' && logicalTypes !== undefined && Object.hasOwn(logicalTypes, logicalType);
      return isTaken ? undefined : long;
    },
  };
  for (const reference of references) forSchema(avsc, reference.schema, options, `reference ${reference.name}: `);
  return forSchema(avsc, text, options, '');
}

function forSchema(avsc: Avsc, text: string, options: TypeOptions, what: string): Type {
  const schema = parse(text, what);
  checkShape(schema, what);
  try {
    return avsc.Type.forSchema(schema as never, { ...options } as never);
  } catch (error) {
    throw SerializationError.at(FORMAT, '', `schema: ${what}${messageOf(error)}`, error);
  }
}

function parse(text: string, what: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch (error) {
    // `string` is as good as `"string"`; the registry has both.
    if (/^[A-Za-z_][\w.]*$/.test(text)) return text;
    throw SerializationError.at(FORMAT, '', `schema: ${what}not JSON: ${messageOf(error)}`, error);
  }
}

/** What avsc would say without telling where, or not say at all. */
function checkShape(schema: unknown, what: string): void {
  let nodes = 0;
  const fail = (path: readonly (string | number)[], message: string): never => {
    throw SerializationError.at(FORMAT, pointer(path), `schema: ${what}${message}`);
  };
  const walk = (node: unknown, path: readonly (string | number)[]): void => {
    nodes += 1;
    if (nodes > MAX_NODES) fail([], `has more than ${MAX_NODES} types`);
    if (path.length > MAX_DEPTH) fail(path, `nested deeper than ${MAX_DEPTH}`);
    if (typeof node === 'string') return;
    if (Array.isArray(node)) {
      for (const [index, branch] of (node as unknown[]).entries()) walk(branch, [...path, index]);
      return;
    }
    if (!isObject(node)) fail(path, 'expected the name of a type, an object or an array');
    walkObject(node as Readonly<Record<string, unknown>>, path);
  };
  const walkObject = (node: Readonly<Record<string, unknown>>, path: readonly (string | number)[]): void => {
    const { type } = node;
    if (type === undefined) fail(path, 'has no type');
    if (node['name'] !== undefined) checkName(node['name'], [...path, 'name'], fail);
    if (type === 'record' || type === 'error') walkFields(node, path);
    else if (type === 'array') walk(required(node, 'items', path), [...path, 'items']);
    else if (type === 'map') walk(required(node, 'values', path), [...path, 'values']);
    else if (type === 'enum') checkSymbols(required(node, 'symbols', path), [...path, 'symbols']);
    else if (type === 'fixed') checkSize(required(node, 'size', path), [...path, 'size']);
    else if (typeof type !== 'string') walk(type, [...path, 'type']);
  };
  const required = (
    node: Readonly<Record<string, unknown>>,
    key: string,
    path: readonly (string | number)[],
  ): unknown => {
    if (node[key] === undefined) fail(path, `${String(node['type'])} without ${key}`);
    return node[key];
  };
  const walkFields = (node: Readonly<Record<string, unknown>>, path: readonly (string | number)[]): void => {
    if (node['name'] === undefined) fail(path, 'record without name');
    const fields = required(node, 'fields', path);
    if (!Array.isArray(fields)) fail([...path, 'fields'], 'expected an array');
    const names = new Set<unknown>();
    for (const [index, field] of (fields as unknown[]).entries()) {
      const at = [...path, 'fields', index];
      if (!isObject(field)) fail(at, 'expected an object');
      const { name, type } = field as Readonly<Record<string, unknown>>;
      if (name === undefined) fail(at, 'field without name');
      checkName(name, [...at, 'name'], fail);
      if (names.has(name)) fail([...at, 'name'], `duplicate field ${String(name)}`);
      names.add(name);
      if (type === undefined) fail(at, 'field without type');
      walk(type, [...at, 'type']);
    }
  };
  const checkSymbols = (symbols: unknown, path: readonly (string | number)[]): void => {
    if (!Array.isArray(symbols) || symbols.length === 0) fail(path, 'expected at least one symbol');
    for (const [index, symbol] of (symbols as unknown[]).entries()) checkName(symbol, [...path, index], fail);
  };
  const checkSize = (size: unknown, path: readonly (string | number)[]): void => {
    if (!Number.isSafeInteger(size) || (size as number) < 1) fail(path, 'expected a whole number above 0');
  };
  walk(schema, []);
}

type Fail = (path: readonly (string | number)[], message: string) => never;

function checkName(name: unknown, path: readonly (string | number)[], fail: Fail): void {
  const isName = typeof name === 'string' && /^[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*$/.test(name);
  if (!isName) fail(path, `not a name: ${JSON.stringify(name)}`);
  if (name === '__proto__') fail(path, 'the name __proto__ is not allowed');
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isLong(branch: unknown): boolean {
  return branch === 'long' || (isObject(branch) && branch['type'] === 'long' && branch['logicalType'] === undefined);
}

function isOtherNumber(branch: unknown): boolean {
  const type = isObject(branch) ? branch['type'] : branch;
  return type === 'int' || type === 'float' || type === 'double';
}

const MIN_LONG = -(2n ** 63n);
const MAX_LONG = 2n ** 63n - 1n;

/** All 64 bits. A number is taken where it is exact. */
function longType(avsc: Avsc, bigintOnly: boolean): Type {
  const isValid = (value: unknown): boolean =>
    typeof value === 'bigint' ? value >= MIN_LONG && value <= MAX_LONG : !bigintOnly && Number.isSafeInteger(value);
  // oxlint-disable-next-line no-underscore-dangle -- avsc's name for it
  return avsc.types.LongType.__with({
    fromBuffer: (buffer: Buffer) => buffer.readBigInt64LE(),
    toBuffer(value: bigint | number) {
      const buffer = Buffer.allocUnsafe(8);
      buffer.writeBigInt64LE(BigInt(value));
      return buffer;
    },
    fromJSON: (value: number | string | bigint) => BigInt(value),
    toJSON: String,
    isValid,
    compare: (a: bigint | number, b: bigint | number) => (BigInt(a) < BigInt(b) ? -1 : BigInt(a) > BigInt(b) ? 1 : 0),
  });
}
