/**
 * Avro schemas as text: the form in which Avro's own library prints them, so that what differs only in blanks, order of
 * keys or long forms (`{"type": "string"}`) is one schema.
 */
import { printJson, printSortedJson } from '../json-text.ts';
import {
  namespaceOf,
  shortName,
  type AvroField,
  type AvroNamedType,
  type AvroProps,
  type AvroType,
} from './avro-type.ts';
import type { AvroSchema } from './parse-avro.ts';

/** @param normalize also put properties of the user's own in order */
export function printAvro({ type, referenced }: AvroSchema, normalize: boolean): string {
  return new AvroPrinter(referenced, normalize).print(type, '');
}

class AvroPrinter {
  readonly #normalize: boolean;
  readonly #seen: Set<AvroNamedType>;

  constructor(referenced: ReadonlySet<AvroNamedType>, normalize: boolean) {
    this.#seen = new Set(referenced);
    this.#normalize = normalize;
  }

  print(type: AvroType, namespace: string): string {
    switch (type.kind) {
      case 'primitive':
        return type.props.length === 0
          ? JSON.stringify(type.name)
          : this.#object([['type', JSON.stringify(type.name)]], type.props);
      case 'union':
        return `[${type.branches.map((branch) => this.print(branch, namespace)).join(',')}]`;
      case 'array':
        return this.#object(
          [
            ['type', '"array"'],
            ['items', this.print(type.items, namespace)],
          ],
          type.props,
        );
      case 'map':
        return this.#object(
          [
            ['type', '"map"'],
            ['values', this.print(type.values, namespace)],
          ],
          type.props,
        );
      default:
        return this.#named(type, namespace);
    }
  }

  #named(type: AvroNamedType, around: string): string {
    const own = namespaceOf(type.name);
    if (this.#seen.has(type)) return JSON.stringify(own === around ? shortName(type.name) : type.name);
    this.#seen.add(type);
    const kind = type.kind === 'record' && type.isError ? 'error' : type.kind;
    const parts: [string, string][] = [
      ['type', JSON.stringify(kind)],
      ['name', JSON.stringify(shortName(type.name))],
    ];
    if (own !== around) parts.push(['namespace', JSON.stringify(own)]);
    if (type.doc !== null) parts.push(['doc', JSON.stringify(type.doc)]);
    if (type.kind === 'record')
      parts.push(['fields', `[${type.fields.map((field) => this.#field(field, own)).join(',')}]`]);
    if (type.kind === 'enum') {
      parts.push(['symbols', printJson(type.symbols)]);
      if (type.defaultSymbol !== null) parts.push(['default', printJson(type.defaultSymbol)]);
    }
    if (type.kind === 'fixed') parts.push(['size', String(type.size)]);
    const aliases = type.aliases.map((alias) => (namespaceOf(alias) === own ? shortName(alias) : alias));
    return this.#object(parts, type.props, aliases);
  }

  #field(field: AvroField, namespace: string): string {
    const parts: [string, string][] = [
      ['name', JSON.stringify(field.name)],
      ['type', this.print(field.type, namespace)],
    ];
    if (field.doc !== null) parts.push(['doc', JSON.stringify(field.doc)]);
    if (field.hasDefault) parts.push(['default', printJson(field.defaultValue)]);
    if (field.order !== null && field.order !== 'ascending') parts.push(['order', JSON.stringify(field.order)]);
    if (field.aliases.length > 0) parts.push(['aliases', printJson(field.aliases)]);
    return this.#object(parts, field.props);
  }

  #object(parts: readonly (readonly [string, string])[], props: AvroProps, aliases: readonly string[] = []): string {
    const print = this.#normalize ? printSortedJson : printJson;
    const own = props.map(([key, value]): [string, string] => [key, print(value)]);
    if (this.#normalize) own.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
    if (aliases.length > 0) own.push(['aliases', printJson(aliases)]);
    return `{${[...parts, ...own].map(([key, text]) => `${JSON.stringify(key)}:${text}`).join(',')}}`;
  }
}
