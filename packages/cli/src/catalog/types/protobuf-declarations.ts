/** TypeScript of a Protobuf message, as protobuf-es has the values; plain objects of it can be published. */
import type { serdes } from '@naru/client';
import type { Declarations } from './catalog-types.ts';
import { TypeNames, propertyName } from './type-names.ts';

type DescMessage = serdes.ProtobufSerde<unknown>['message'];
type DescField = DescMessage['fields'][number];
type DescOneof = DescMessage['oneofs'][number];
type DescEnum = Extract<DescField, { readonly fieldKind: 'enum' }>['enum'];

/** By the numbers of `FieldDescriptorProto.Type` (descriptor.proto). */
const SCALARS: Readonly<Record<number, string>> = {
  1: 'number', // double
  2: 'number', // float
  3: 'bigint', // int64
  4: 'bigint', // uint64
  5: 'number', // int32
  6: 'bigint', // fixed64
  7: 'number', // fixed32
  8: 'boolean', // bool
  9: 'string', // string
  12: 'Uint8Array', // bytes
  13: 'number', // uint32
  15: 'number', // sfixed32
  16: 'bigint', // sfixed64
  17: 'number', // sint32
  18: 'bigint', // sint64
};
const BOOL = 8;
/** Of `FeatureSet.FieldPresence`. */
const IMPLICIT = 2;
const LEGACY_REQUIRED = 3;
/** Messages of Google's that protobuf-es has as what they stand for. */
const WRAPPER = /^google\.protobuf\.(?:Double|Float|U?Int(?:32|64)|Bool|String|Bytes)Value$/;

export function protobufDeclarations(message: DescMessage): Declarations {
  const writing = new MessageTypes();
  const type = writing.message(message);
  return { text: writing.lines.join('\n'), type };
}

class MessageTypes {
  readonly lines: string[] = [];
  readonly #names = new TypeNames();
  readonly #known = new Map<string, string>();

  message(message: DescMessage): string {
    const known = this.#known.get(message.typeName);
    if (known !== undefined) return known;
    const name = this.#names.take(message.name);
    this.#known.set(message.typeName, name);
    const members = message.members.map((member) =>
      member.kind === 'oneof' ? this.#oneof(member) : this.#field(member),
    );
    this.lines.push(`export interface ${name} {`, ...members, '}');
    return name;
  }

  #field(field: DescField): string {
    const name = propertyName(field.localName);
    if (field.fieldKind === 'list') return `  ${name}: Array<${this.#value(field, field.listKind)}>;`;
    if (field.fieldKind === 'map') {
      const mapKey: number = field.mapKey;
      const isBool = mapKey === BOOL;
      const key = isBool ? '"true" | "false"' : SCALARS[field.mapKey] === 'number' ? 'number' : 'string';
      return `  ${name}: Partial<Record<${key}, ${this.#value(field, field.mapKind)}>>;`;
    }
    const presence: number = field.presence;
    const isThere = presence === IMPLICIT || (presence === LEGACY_REQUIRED && field.fieldKind !== 'message');
    const type = this.#value(field, field.fieldKind);
    return isThere ? `  ${name}: ${type};` : `  ${name}?: ${type} | undefined;`;
  }

  #oneof({ localName, fields }: DescOneof): string {
    const cases = fields.map(
      (field) => `{ case: ${JSON.stringify(field.localName)}; value: ${this.#value(field, field.fieldKind)} }`,
    );
    return `  ${propertyName(localName)}: ${[...cases, '{ case: undefined; value?: undefined }'].join(' | ')};`;
  }

  #value(field: DescField, kind: string): string {
    if (kind === 'enum') return this.#enum(field.enum as DescEnum);
    if (kind === 'scalar') return scalar(field.scalar as number);
    const message = field.message as DescMessage;
    if (message.typeName === 'google.protobuf.Struct') return 'Record<string, unknown>';
    const [inner] = message.fields;
    if (WRAPPER.test(message.typeName) && inner?.scalar !== undefined && field.fieldKind === 'message')
      return scalar(inner.scalar);
    return this.message(message);
  }

  #enum(described: DescEnum): string {
    const known = this.#known.get(described.typeName);
    if (known !== undefined) return known;
    const name = this.#names.take(described.name);
    this.#known.set(described.typeName, name);
    // Numbers that the reader's version does not know are values, too.
    const values = described.values.map((value) => `${value.name} = ${value.number}`);
    this.lines.push(`/** ${values.join(', ')} */`, `export type ${name} = number;`);
    return name;
  }
}

function scalar(type: number): string {
  return SCALARS[type] ?? 'unknown';
}
