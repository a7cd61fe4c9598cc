/**
 * `.proto` text to protobuf-es descriptors.
 *
 * protobufjs parses; nothing of it is compiled to code. Every file becomes one of edition 2023 with all features written out,
 * which says the same as its own syntax. Extensions and custom options are left out: what they carry stays in unknown fields.
 */
import type { DescFile } from '@bufbuild/protobuf';
import { create, createFileRegistry } from '@bufbuild/protobuf';
import type {
  DescriptorProto,
  EnumDescriptorProto,
  FieldDescriptorProto,
  FileDescriptorProto,
} from '@bufbuild/protobuf/wkt';
import * as wkt from '@bufbuild/protobuf/wkt';
import type protobufjs from 'protobufjs';
import type { NamedSchema } from './schema-serde.ts';
import { SerializationError, messageOf } from './serialization-error.ts';

const FORMAT = 'protobuf';
/** Files that a schema may import, directly or not. */
const MAX_FILES = 1_000;
/** Name of a file that nobody named. */
const MAIN_FILE = 'schema.proto';

export type Protobufjs = typeof protobufjs;

/** protobufjs works these out for every declaration; its types keep quiet about them. */
interface Features {
  readonly field_presence: 'EXPLICIT' | 'IMPLICIT' | 'LEGACY_REQUIRED';
  readonly repeated_field_encoding: 'PACKED' | 'EXPANDED';
  readonly message_encoding: 'LENGTH_PREFIXED' | 'DELIMITED';
  readonly enum_type: 'OPEN' | 'CLOSED';
  readonly utf8_validation: 'VERIFY' | 'NONE';
}

/** What the well-known files are called, and their descriptors. */
const WELL_KNOWN: Readonly<Record<string, DescFile>> = Object.fromEntries(
  [
    wkt.file_google_protobuf_any,
    wkt.file_google_protobuf_duration,
    wkt.file_google_protobuf_empty,
    wkt.file_google_protobuf_field_mask,
    wkt.file_google_protobuf_struct,
    wkt.file_google_protobuf_timestamp,
    wkt.file_google_protobuf_wrappers,
  ].map((file) => [`${file.name}.proto`, file]),
);
const OPTIONS_FILE = 'google/protobuf/descriptor.proto';
const OPTION_TYPES = ['File', 'Message', 'Field', 'Oneof', 'Enum', 'EnumValue', 'Service', 'Method', 'ExtensionRange'];

interface ParsedFile {
  readonly name: string;
  readonly package: string;
  readonly imports: readonly string[];
}

/**
 * @param imports what `import` names, by path
 * @throws SerializationError with file and line, where the parser knows them
 */
export function readProtoFile(pb: Protobufjs, text: string, imports: readonly NamedSchema[]): DescFile {
  const texts = new Map(imports.map(({ name, schema }) => [name, schema]));
  const root = new pb.Root();
  const files = new Map<string, ParsedFile>();
  parseAll(pb, root, text, texts, files);
  try {
    root.resolveAll();
  } catch (error) {
    throw broken(messageOf(error), error);
  }
  const protos = new Map([...files.values()].map((file) => [file.name, fileProto(pb, root, file)]));
  try {
    const main = protos.get(MAIN_FILE) as FileDescriptorProto;
    const registry = createFileRegistry(main, (name) => protos.get(name) ?? WELL_KNOWN[name]);
    return registry.getFile(MAIN_FILE) as DescFile;
  } catch (error) {
    throw broken(messageOf(error), error);
  }
}

function parseAll(
  pb: Protobufjs,
  root: protobufjs.Root,
  text: string,
  texts: ReadonlyMap<string, string>,
  files: Map<string, ParsedFile>,
): void {
  const open = [{ name: MAIN_FILE, text, from: '' }];
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    if (files.has(next.name)) continue;
    if (files.size >= MAX_FILES) throw broken(`more than ${MAX_FILES} files`);
    const file = parseFile(pb, root, next.name, next.text);
    files.set(file.name, file);
    for (const name of file.imports) {
      const imported = texts.get(name);
      if (imported !== undefined) open.push({ name, text: imported, from: file.name });
      else if (!addWellKnown(pb, root, name))
        throw broken(`${file.name} imports ${name}, which is not among its references`);
    }
  }
}

function parseFile(pb: Protobufjs, root: protobufjs.Root, name: string, text: string): ParsedFile {
  // protobufjs would leave it out without a word.
  if (/\b__proto__\b/.test(text)) throw broken(`the name __proto__ is not allowed in ${name}`);
  const parse = pb.parse as typeof pb.parse & { filename: string | null };
  parse.filename = name;
  try {
    const parsed = pb.parse(text, root, { keepCase: true });
    return { name, package: parsed.package ?? '', imports: [...(parsed.imports ?? []), ...(parsed.weakImports ?? [])] };
  } catch (error) {
    throw broken(messageOf(error), error);
  } finally {
    parse.filename = null;
  }
}

function addWellKnown(pb: Protobufjs, root: protobufjs.Root, name: string): boolean {
  if (name === OPTIONS_FILE) {
    const google = root.define('google.protobuf');
    for (const option of OPTION_TYPES)
      if (google.get(`${option}Options`) === null) google.add(new pb.Type(`${option}Options`));
    return true;
  }
  if (!Object.hasOwn(WELL_KNOWN, name)) return false;
  const nested = pb.common.get(name)?.nested;
  const isKnown = (root.lookup('google.protobuf') as protobufjs.Namespace | null)?.get(firstType(name)) != null;
  if (nested !== undefined && !isKnown) root.addJSON(nested);
  return true;
}

function firstType(name: string): string {
  return (WELL_KNOWN[name] as DescFile).messages[0]?.name ?? '';
}

function fileProto(pb: Protobufjs, root: protobufjs.Root, file: ParsedFile): FileDescriptorProto {
  const scope = file.package === '' ? root : (root.lookup(file.package) as protobufjs.Namespace | null);
  const declared = (scope?.nestedArray ?? []).filter(({ filename }) => filename === file.name);
  return create(wkt.FileDescriptorProtoSchema, {
    name: file.name,
    package: file.package,
    syntax: 'editions',
    edition: wkt.Edition.EDITION_2023,
    dependency: file.imports.filter((name) => name !== OPTIONS_FILE),
    messageType: declared.filter((one) => one instanceof pb.Type).map((type) => messageProto(pb, type)),
    enumType: declared.filter((one) => one instanceof pb.Enum).map(enumProto),
  });
}

function messageProto(pb: Protobufjs, type: protobufjs.Type): DescriptorProto {
  const fields = type.fieldsArray.filter((field) => !isExtension(field));
  const oneofs = type.oneofsArray.filter((oneof) => !isSynthetic(oneof));
  const maps = fields.filter(({ map }) => map) as unknown as readonly protobufjs.MapField[];
  return create(wkt.DescriptorProtoSchema, {
    name: type.name,
    field: fields.map((field) => fieldProto(pb, type, field, oneofs)),
    oneofDecl: oneofs.map(({ name }) => ({ name })),
    nestedType: [
      ...type.nestedArray.filter((one) => one instanceof pb.Type).map((inner) => messageProto(pb, inner)),
      ...maps.map((field) => entryProto(pb, field)),
    ],
    enumType: type.nestedArray.filter((one) => one instanceof pb.Enum).map(enumProto),
  });
}

function isExtension(field: protobufjs.Field): boolean {
  return field.declaringField !== null && field.declaringField !== undefined;
}

/** protobufjs wraps every `optional` of proto3 in a oneof of its own. */
function isSynthetic({ fieldsArray }: protobufjs.OneOf): boolean {
  return fieldsArray.length === 1 && fieldsArray[0]?.options?.['proto3_optional'] === true;
}

function fieldProto(
  pb: Protobufjs,
  parent: protobufjs.Type,
  field: protobufjs.Field,
  oneofs: readonly protobufjs.OneOf[],
): FieldDescriptorProto {
  if (!(field.id >= 1 && field.id < 2 ** 29) || (field.id >= 19_000 && field.id < 20_000)) {
    throw broken(`field ${parent.fullName}.${field.name} has the number ${field.id}, which is not allowed`);
  }
  const isOptional = field.options?.['proto3_optional'] === true;
  const oneofIndex = field.partOf === null || isOptional ? -1 : oneofs.indexOf(field.partOf);
  const { FieldDescriptorProto_Label: Label } = wkt;
  const isList = field.repeated || field.map;
  const jsonName: unknown = field.options?.['json_name'];
  const defaultValue: unknown = field.options?.['default'];
  return create(wkt.FieldDescriptorProtoSchema, {
    name: field.name,
    number: field.id,
    label: isList ? Label.REPEATED : Label.OPTIONAL,
    ...(field.map ? { type: wkt.FieldDescriptorProto_Type.MESSAGE, typeName: entryName(field) } : typeOf(pb, field)),
    ...(oneofIndex < 0 ? {} : { oneofIndex }),
    ...(typeof jsonName === 'string' ? { jsonName } : {}),
    ...(defaultValue === undefined ? {} : { defaultValue: String(defaultValue as string | number | boolean) }),
    options: { features: featuresOf(field, { isOptional, isList, isInOneof: oneofIndex >= 0 }) },
  });
}

function typeOf(pb: Protobufjs, field: { type: string; resolvedType: protobufjs.Type | protobufjs.Enum | null }) {
  const { FieldDescriptorProto_Type: Kind } = wkt;
  const { resolvedType, type } = field;
  if (resolvedType instanceof pb.Enum) return { type: Kind.ENUM, typeName: resolvedType.fullName };
  if (resolvedType !== null) return { type: Kind.MESSAGE, typeName: resolvedType.fullName };
  return { type: Kind[type.toUpperCase() as keyof typeof Kind] };
}

function featureSet(declared: protobufjs.ReflectionObject): Features {
  // oxlint-disable-next-line no-underscore-dangle -- protobufjs' name for it
  return (declared as unknown as { readonly _features: Features })._features;
}

interface Place {
  readonly isOptional: boolean;
  readonly isList: boolean;
  readonly isInOneof: boolean;
}

function featuresOf(field: protobufjs.Field, { isOptional, isList, isInOneof }: Place) {
  const features = featureSet(field);
  const { FeatureSet_FieldPresence: Presence, FeatureSet_RepeatedFieldEncoding: Encoding } = wkt;
  const isMessage = field.resolvedType !== null && 'fieldsArray' in field.resolvedType;
  const presence = isOptional ? 'EXPLICIT' : features.field_presence;
  const hasPresence = !isList && !isInOneof && !(isMessage && presence === 'IMPLICIT');
  const isDelimited = isMessage && features.message_encoding === 'DELIMITED' && !field.map;
  return {
    ...(hasPresence ? { fieldPresence: Presence[presence] } : {}),
    ...(field.repeated
      ? { repeatedFieldEncoding: Encoding[isPackable(field) ? features.repeated_field_encoding : 'EXPANDED'] }
      : {}),
    ...(isDelimited ? { messageEncoding: wkt.FeatureSet_MessageEncoding.DELIMITED } : {}),
    utf8Validation: wkt.FeatureSet_Utf8Validation[features.utf8_validation],
  };
}

function isPackable({ type, resolvedType }: protobufjs.Field): boolean {
  return type !== 'string' && type !== 'bytes' && (resolvedType === null || 'values' in resolvedType);
}

function entryName(field: protobufjs.FieldBase): string {
  return `${field.parent?.fullName ?? ''}.${entryShortName(field)}`;
}

function entryShortName({ name }: protobufjs.FieldBase): string {
  const camel = name.replace(/(?:^|_)([a-z\d])/gi, (_, first: string) => first.toUpperCase());
  return `${camel}Entry`;
}

function entryProto(pb: Protobufjs, field: protobufjs.MapField): DescriptorProto {
  const { FieldDescriptorProto_Label: Label } = wkt;
  const part = (name: string, number: number, type: object) => ({ name, number, label: Label.OPTIONAL, ...type });
  return create(wkt.DescriptorProtoSchema, {
    name: entryShortName(field),
    field: [
      part('key', 1, typeOf(pb, { type: field.keyType, resolvedType: null })),
      part('value', 2, typeOf(pb, field)),
    ],
    options: { mapEntry: true },
  });
}

function enumProto(type: protobufjs.Enum): EnumDescriptorProto {
  const features = featureSet(type);
  const values = Object.entries(type.values);
  if (values.length === 0) throw broken(`enum ${type.fullName} has no values`);
  if (features.enum_type === 'OPEN' && values[0]?.[1] !== 0) {
    throw broken(`the first value of enum ${type.fullName} must be 0, is ${values[0]?.[0]} = ${values[0]?.[1]}`);
  }
  return create(wkt.EnumDescriptorProtoSchema, {
    name: type.name,
    value: values.map(([name, number]) => ({ name, number })),
    options: {
      ...(type.options?.['allow_alias'] === true ? { allowAlias: true } : {}),
      features: { enumType: wkt.FeatureSet_EnumType[features.enum_type] },
    },
  });
}

function broken(message: string, cause?: unknown): SerializationError {
  return SerializationError.at(FORMAT, '', `schema: ${message.replace(/^\./, '')}`, cause);
}
