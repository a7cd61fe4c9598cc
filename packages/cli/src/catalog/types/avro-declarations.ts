/** TypeScript of an Avro schema, as `serdes.avro` has the values: longs as bigints, bytes as Uint8Array, ambiguous unions wrapped. */
import type { serdes } from '@naru/client';
import type { Declarations } from './catalog-types.ts';
import { TypeNames, propertyName } from './type-names.ts';

type Schema = { readonly [key: string]: unknown };

const PRIMITIVES: Readonly<Record<string, string>> = {
  null: 'null',
  boolean: 'boolean',
  int: 'number',
  long: 'bigint',
  float: 'number',
  double: 'number',
  bytes: 'Uint8Array',
  string: 'string',
};
/** What a value looks like: branches of a union that look alike are wrapped. */
const LOOKS: Readonly<Record<string, string>> = {
  ...PRIMITIVES,
  record: 'object',
  error: 'object',
  map: 'object',
  array: 'array',
  enum: 'string',
  fixed: 'Uint8Array',
};

export function avroDeclarations({ schema, references }: serdes.SchemaSource): Declarations {
  const writing = new AvroTypes();
  for (const reference of references) writing.type(parsed(reference.schema), '');
  const type = writing.type(parsed(schema), '');
  return { text: writing.lines.join('\n'), type: writing.lines.length === 0 ? type : writing.exported(type) };
}

/** `string` is as good as `"string"`. */
function parsed(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return text;
  }
}

class AvroTypes {
  readonly lines: string[] = [];
  readonly #names = new TypeNames();
  /** Full name → its TypeScript, and how values look. */
  readonly #known = new Map<string, { readonly type: string; readonly looks: string }>();

  /** A type that stands in the namespace, of what `type` is. */
  exported(type: string): string {
    if (/^\w+$/.test(type) && this.lines.some((line) => new RegExp(`^export (?:interface|type) ${type}\\b`).test(line)))
      return type;
    const name = this.#names.take('Value');
    this.lines.push(`export type ${name} = ${type};`);
    return name;
  }

  type(schema: unknown, namespace: string): string {
    if (typeof schema === 'string') return PRIMITIVES[schema] ?? this.#named(schema, namespace)?.type ?? 'unknown';
    if (Array.isArray(schema)) return this.#union(schema, namespace);
    const { type } = schema as Schema;
    if (typeof type !== 'string') return this.type(type, namespace);
    if (type === 'array') return `Array<${this.type((schema as Schema)['items'], namespace)}>`;
    if (type === 'map') return `Record<string, ${this.type((schema as Schema)['values'], namespace)}>`;
    if (type === 'record' || type === 'error' || type === 'enum' || type === 'fixed')
      return this.#declare(schema as Schema, namespace);
    return this.type(type, namespace);
  }

  #declare(schema: Schema, outer: string): string {
    const { full, namespace } = fullName(schema, outer);
    const kind = schema['type'] as string;
    if (kind === 'fixed') {
      this.#known.set(full, { type: 'Uint8Array', looks: 'Uint8Array' });
      return 'Uint8Array';
    }
    const name = this.#names.take(full.slice(full.lastIndexOf('.') + 1));
    this.#known.set(full, { type: name, looks: LOOKS[kind] as string });
    if (kind === 'enum') {
      const symbols = (schema['symbols'] as string[]).map((symbol) => JSON.stringify(symbol));
      this.lines.push(`export type ${name} = ${symbols.join(' | ')};`);
      return name;
    }
    const fields = (schema['fields'] as Schema[]).map(
      (field) => `  ${propertyName(field['name'] as string)}: ${this.type(field['type'], namespace)};`,
    );
    this.lines.push(`export interface ${name} {`, ...fields, '}');
    return name;
  }

  #union(branches: readonly unknown[], namespace: string): string {
    const looks = branches.map((branch) => this.#looks(branch, namespace));
    const others = looks.filter((one) => one !== 'null');
    const isWrapped = new Set(others).size < others.length;
    const types = branches.map((branch) => {
      const type = this.type(branch, namespace);
      return isWrapped && type !== 'null'
        ? `{ ${JSON.stringify(this.#branchName(branch, namespace))}: ${type} }`
        : type;
    });
    return types.length === 1 ? (types[0] as string) : `(${types.join(' | ')})`;
  }

  #looks(branch: unknown, namespace: string): string {
    const name = typeof branch === 'string' ? branch : (branch as Schema)['type'];
    if (typeof name !== 'string') return 'object';
    return LOOKS[name] ?? this.#named(name, namespace)?.looks ?? 'object';
  }

  #branchName(branch: unknown, namespace: string): string {
    if (typeof branch === 'string') return branch in PRIMITIVES ? branch : this.#fullName(branch, namespace);
    const schema = branch as Schema;
    return schema['name'] === undefined ? String(schema['type']) : fullName(schema, namespace).full;
  }

  #named(name: string, namespace: string) {
    return this.#known.get(this.#fullName(name, namespace)) ?? this.#known.get(name);
  }

  #fullName(name: string, namespace: string): string {
    return name.includes('.') || namespace === '' ? name : `${namespace}.${name}`;
  }
}

function fullName(schema: Schema, outer: string): { readonly full: string; readonly namespace: string } {
  const name = schema['name'] as string;
  if (name.includes('.')) return { full: name, namespace: name.slice(0, name.lastIndexOf('.')) };
  const namespace = typeof schema['namespace'] === 'string' ? schema['namespace'] : outer;
  return { full: namespace === '' ? name : `${namespace}.${name}`, namespace };
}
