/**
 * Reads Avro schemas. Refuses what the specification refuses, with the path of what is wrong: names, duplicate names,
 * unknown types, unions, sizes, symbols, defaults.
 */
import { isObject, jsonKind, numberOf, property, readJson, type JsonObject } from '../json-text.ts';
import { InvalidSchemaError, MAX_SCHEMA_DEPTH, referencedSources, shown, type SchemaSource } from '../schema.ts';
import { defaultProblem } from './avro-default.ts';
import {
  AVRO_PRIMITIVES,
  avroTypeText,
  isNamed,
  namespaceOf,
  type AvroField,
  type AvroNamed,
  type AvroNamedType,
  type AvroPrimitiveName,
  type AvroProps,
  type AvroRecord,
  type AvroType,
} from './avro-type.ts';

const NAME_PATTERN = /^[A-Za-z_][A-Za-z0-9_]*$/;
const ORDERS: ReadonlySet<unknown> = new Set(['ascending', 'descending', 'ignore']);
const PRIMITIVES: ReadonlySet<string> = new Set(AVRO_PRIMITIVES);

const RECORD_KEYS = new Set(['type', 'name', 'namespace', 'doc', 'aliases', 'fields']);
const ENUM_KEYS = new Set(['type', 'name', 'namespace', 'doc', 'aliases', 'symbols', 'default']);
const FIXED_KEYS = new Set(['type', 'name', 'namespace', 'doc', 'aliases', 'size']);
const FIELD_KEYS = new Set(['name', 'type', 'doc', 'default', 'order', 'aliases']);

export interface AvroSchema {
  readonly type: AvroType;
  /** Types that references define: they are used by their names. */
  readonly referenced: ReadonlySet<AvroNamedType>;
}

/** @throws InvalidSchemaError */
export function parseAvro(source: SchemaSource): AvroSchema {
  const reader = new AvroReader();
  for (const { name, source: referenced } of referencedSources(source)) {
    if (referenced.type !== 'AVRO')
      throw new InvalidSchemaError(`reference ${shown(name)} is a schema of type ${referenced.type}, not AVRO`);
    try {
      reader.read(readJson(referenced.text), '', '', 0);
    } catch (error) {
      if (!(error instanceof InvalidSchemaError)) throw error;
      throw new InvalidSchemaError(`reference ${shown(name)}: ${error.message}`);
    }
    if (!reader.knows(name))
      throw new InvalidSchemaError(`reference ${shown(name)}: the schema that it names defines no type of that name`);
  }
  const referenced = reader.named();
  const type = reader.read(readAvroJson(source.text), '', '', 0);
  reader.checkDefaults();
  return { type, referenced };
}

/** A primitive's name may stand without quotes, as Avro's own parser takes it. */
function readAvroJson(text: string): unknown {
  const bare = text.trim();
  return PRIMITIVES.has(bare) && bare !== 'null' ? bare : bare === 'null' ? 'null' : readJson(text);
}

class AvroReader {
  readonly #named = new Map<string, AvroNamedType>();
  /** Checked when all types are known. */
  readonly #defaults: { readonly field: AvroField; readonly path: string }[] = [];

  knows(name: string): boolean {
    return this.#named.has(name);
  }

  named(): Set<AvroNamedType> {
    return new Set(this.#named.values());
  }

  checkDefaults(): void {
    for (const { field, path } of this.#defaults) {
      const problem = defaultProblem(field.type, field.defaultValue);
      if (problem !== null) fail(path, `the default of field ${shown(field.name)} does not fit: ${problem}`);
    }
  }

  /** @param path in the schema, as a JSON pointer */
  read(value: unknown, namespace: string, path: string, depth: number): AvroType {
    if (depth > MAX_SCHEMA_DEPTH) fail(path, `types are nested deeper than ${MAX_SCHEMA_DEPTH} levels`);
    if (typeof value === 'string') return this.#byName(value, namespace, path);
    if (Array.isArray(value)) return this.#union(value, namespace, path, depth);
    if (!isObject(value)) return fail(path, `a type is a name, an object or an array, not ${jsonKind(value)}`);
    const type = property(value, 'type');
    if (type === undefined) return fail(path, 'the type has no "type"');
    switch (type) {
      case 'record':
      case 'error':
        return this.#record(value, type === 'error', namespace, path, depth);
      case 'enum':
        return this.#enum(value, namespace, path);
      case 'fixed':
        return this.#fixed(value, namespace, path);
      case 'array': {
        if (!Object.hasOwn(value, 'items')) return fail(path, 'the array has no "items"');
        const items = this.read(value['items'], namespace, `${path}/items`, depth + 1);
        return { kind: 'array', items, props: propsOf(value, new Set(['type', 'items'])) };
      }
      case 'map': {
        if (!Object.hasOwn(value, 'values')) return fail(path, 'the map has no "values"');
        const values = this.read(value['values'], namespace, `${path}/values`, depth + 1);
        return { kind: 'map', values, props: propsOf(value, new Set(['type', 'values'])) };
      }
      default:
    }
    if (typeof type === 'string' && PRIMITIVES.has(type)) {
      return { kind: 'primitive', name: type as AvroPrimitiveName, props: propsOf(value, new Set(['type'])) };
    }
    return this.read(type, namespace, `${path}/type`, depth + 1);
  }

  #byName(name: string, namespace: string, path: string): AvroType {
    if (PRIMITIVES.has(name)) return { kind: 'primitive', name: name as AvroPrimitiveName, props: [] };
    const full = name.includes('.') || namespace === '' ? name : `${namespace}.${name}`;
    const found = this.#named.get(full) ?? this.#named.get(name);
    return found ?? fail(path, `there is no type ${shown(full)}: it is neither defined before nor referenced`);
  }

  #union(value: readonly unknown[], namespace: string, path: string, depth: number): AvroType {
    const branches: AvroType[] = [];
    const seen = new Set<string>();
    for (const [index, entry] of value.entries()) {
      const branch = this.read(entry, namespace, `${path}/${index}`, depth + 1);
      if (branch.kind === 'union') fail(`${path}/${index}`, 'a union does not contain a union directly');
      const name = isNamed(branch) ? branch.name : avroTypeText(branch);
      if (seen.has(name)) fail(`${path}/${index}`, `the union has ${shown(name)} twice`);
      seen.add(name);
      branches.push(branch);
    }
    return { kind: 'union', branches };
  }

  #record(value: JsonObject, isError: boolean, namespace: string, path: string, depth: number): AvroType {
    const record: AvroRecord = {
      ...this.#name(value, 'record', namespace, path, RECORD_KEYS),
      kind: 'record',
      isError,
      fields: [],
    };
    this.#define(record, path);
    const fields = property(value, 'fields');
    if (!Array.isArray(fields)) fail(path, `record ${record.name} needs "fields", an array, not ${jsonKind(fields)}`);
    const seen = new Set<string>();
    for (const [index, entry] of (fields as unknown[]).entries()) {
      const field = this.#field(entry, record, `${path}/fields/${index}`, depth);
      if (seen.has(field.name))
        fail(`${path}/fields/${index}`, `record ${record.name} has field ${shown(field.name)} twice`);
      seen.add(field.name);
      record.fields.push(field);
    }
    return record;
  }

  #field(value: unknown, record: AvroRecord, path: string, depth: number): AvroField {
    if (!isObject(value)) return fail(path, `a field of record ${record.name} is an object, not ${jsonKind(value)}`);
    const name = property(value, 'name');
    if (typeof name !== 'string') return fail(path, `a field of record ${record.name} has no "name"`);
    if (!NAME_PATTERN.test(name)) return fail(path, `${shown(name)} is no name for a field${NAME_RULE}`);
    if (!Object.hasOwn(value, 'type')) return fail(path, `field ${shown(name)} of record ${record.name} has no "type"`);
    const order = property(value, 'order') ?? null;
    if (order !== null && !ORDERS.has(order))
      fail(path, `the order of field ${shown(name)} is ascending, descending or ignore, not ${shown(order)}`);
    const hasDefault = Object.hasOwn(value, 'default');
    const field: AvroField = {
      name,
      type: this.read(value['type'], namespaceOf(record.name), `${path}/type`, depth + 1),
      doc: textOrNull(value, 'doc'),
      aliases: aliasesOf(value, null, path),
      order: order as string | null,
      hasDefault,
      defaultValue: value['default'],
      props: propsOf(value, FIELD_KEYS),
    };
    if (hasDefault) this.#defaults.push({ field, path });
    return field;
  }

  #enum(value: JsonObject, namespace: string, path: string): AvroType {
    const named = this.#name(value, 'enum', namespace, path, ENUM_KEYS);
    const symbols = property(value, 'symbols');
    if (!Array.isArray(symbols))
      return fail(path, `enum ${named.name} needs "symbols", an array, not ${jsonKind(symbols)}`);
    const seen = new Set<unknown>();
    for (const symbol of symbols) {
      if (typeof symbol !== 'string' || !NAME_PATTERN.test(symbol))
        fail(path, `${shown(symbol)} is no symbol for enum ${named.name}${NAME_RULE}`);
      if (seen.has(symbol)) fail(path, `enum ${named.name} has symbol ${shown(symbol)} twice`);
      seen.add(symbol);
    }
    const defaultSymbol = property(value, 'default') ?? null;
    if (defaultSymbol !== null && !seen.has(defaultSymbol))
      fail(path, `the default ${shown(defaultSymbol)} of enum ${named.name} is none of its symbols`);
    const type: AvroType = { ...named, kind: 'enum', symbols, defaultSymbol: defaultSymbol as string | null };
    return this.#define(type, path);
  }

  #fixed(value: JsonObject, namespace: string, path: string): AvroType {
    const named = this.#name(value, 'fixed', namespace, path, FIXED_KEYS);
    const size = numberOf(property(value, 'size'));
    if (size === null || !Number.isSafeInteger(size) || size < 0)
      return fail(
        path,
        `fixed ${named.name} needs "size", a whole number of bytes, not ${jsonKind(property(value, 'size'))}`,
      );
    return this.#define({ ...named, kind: 'fixed', size }, path);
  }

  #name(value: JsonObject, kind: string, around: string, path: string, keys: ReadonlySet<string>): AvroNamed {
    const name = property(value, 'name');
    if (typeof name !== 'string') return fail(path, `the ${kind} needs a "name", not ${jsonKind(name)}`);
    const given = property(value, 'namespace');
    if (given !== undefined && typeof given !== 'string')
      return fail(path, `the namespace of ${kind} ${name} is not text`);
    const namespace = name.includes('.') ? '' : (given ?? around);
    const full = namespace === '' ? name : `${namespace}.${name}`;
    if (!isFullName(full)) return fail(path, `${shown(full)} is no name for a ${kind}${NAME_RULE}`);
    if (PRIMITIVES.has(full)) return fail(path, `a ${kind} is not called ${shown(full)}: that is a primitive type`);
    const aliases = aliasesOf(value, namespaceOf(full), path);
    return { name: full, aliases, doc: textOrNull(value, 'doc'), props: propsOf(value, keys) };
  }

  #define(type: AvroNamedType, path: string): AvroType {
    if (this.#named.has(type.name)) return fail(path, `type ${shown(type.name)} is defined twice`);
    this.#named.set(type.name, type);
    return type;
  }
}

const NAME_RULE = ': names have letters, digits and "_", and begin with no digit';

function isFullName(name: string): boolean {
  return name.split('.').every((part) => NAME_PATTERN.test(part));
}

/** @param namespace of the type; null for fields, whose aliases have none */
function aliasesOf(value: JsonObject, namespace: string | null, path: string): string[] {
  const aliases = property(value, 'aliases');
  if (aliases === undefined) return [];
  if (!Array.isArray(aliases)) return fail(path, `"aliases" is an array of names, not ${jsonKind(aliases)}`);
  return aliases.map((alias: unknown) => {
    if (typeof alias !== 'string' || !isFullName(alias)) return fail(path, `${shown(alias)} is no alias${NAME_RULE}`);
    return alias.includes('.') || namespace === null || namespace === '' ? alias : `${namespace}.${alias}`;
  });
}

function textOrNull(value: JsonObject, key: string): string | null {
  const text = property(value, key);
  return typeof text === 'string' ? text : null;
}

function propsOf(value: JsonObject, known: ReadonlySet<string>): AvroProps {
  return Object.entries(value).filter(([key]) => !known.has(key));
}

function fail(path: string, what: string): never {
  throw new InvalidSchemaError(`${what}${path === '' ? '' : ` (at ${path})`}`);
}
