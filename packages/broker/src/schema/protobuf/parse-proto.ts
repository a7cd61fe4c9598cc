/**
 * Reads .proto files, and resolves their types over files that they import. protobufjs parses; what it lets pass is checked
 * here: field numbers, first values of enums, types and imports that are not there.
 */
import protobuf from 'protobufjs';
import { InvalidSchemaError, referencedSources, shown, type SchemaSource } from '../schema.ts';
import { protoSyntax } from './proto-text.ts';
import {
  SCALARS,
  type ProtoField,
  type ProtoFile,
  type ProtoMessage,
  type ProtoScalar,
  type ProtoType,
} from './proto-file.ts';

const MAX_FIELD_NUMBER = 536_870_911;
const RESERVED_FROM = 19_000;
const RESERVED_TO = 19_999;
const SCALAR_NAMES: ReadonlySet<string> = new Set(SCALARS);
/** Imports that every compiler brings. */
const BUILT_IN = /^(?:google\/protobuf|google\/type|confluent)\/[a-z0-9_/]+\.proto$/;
const BUILT_IN_TYPES = /^(?:google\.protobuf|google\.type|confluent)\./;
/** The only one of them whose fields are enums. */
const BUILT_IN_ENUMS: ReadonlySet<string> = new Set(['google.protobuf.NullValue', 'google.protobuf.Syntax']);

interface Declared {
  readonly kind: 'message' | 'group' | 'enum';
}

interface ReadFile {
  readonly root: protobuf.Root;
  readonly packageName: string;
  readonly imports: readonly string[];
  readonly isProto3: boolean;
}

/** @throws InvalidSchemaError */
export function parseProto(source: SchemaSource): ProtoFile {
  const declared = new Map<string, Declared>();
  const references = referencedSources(source);
  const known = new Set(references.map(({ name }) => name));
  const files = references.map(({ name, source: { type, text } }) => {
    if (type !== 'PROTOBUF')
      throw new InvalidSchemaError(`reference ${shown(name)} is a schema of type ${type}, not PROTOBUF`);
    return within(`reference ${shown(name)}`, () => readFile(text, known));
  });
  const main = readFile(source.text, known);
  for (const file of [...files, main]) declareTypes(file.root, declared);
  const reachable = new Map<string, ProtoMessage>();
  files.forEach((file, index) =>
    within(`reference ${shown(references[index]?.name)}`, () => collect(file, declared, reachable)),
  );
  const messages = new Map<string, ProtoMessage>();
  collect(main, declared, messages);
  for (const [name, message] of messages) reachable.set(name, message);
  return { packageName: main.packageName, messages, reachable };
}

function readFile(text: string, known: ReadonlySet<string>): ReadFile {
  const { keyword, value } = protoSyntax(text);
  if (keyword === 'edition')
    throw new InvalidSchemaError(`edition ${shown(value)} is not supported: use proto3 or proto2`);
  if (value !== 'proto2' && value !== 'proto3')
    throw new InvalidSchemaError(`syntax ${shown(value)} is not known: use proto3 or proto2`);
  const parsed = parseText(text, value);
  const imports = [...(parsed.imports ?? []), ...(parsed.weakImports ?? [])];
  for (const path of imports) {
    if (known.has(path) || BUILT_IN.test(path)) continue;
    throw new InvalidSchemaError(`it imports ${shown(path)}, which is none of its references`);
  }
  return { root: parsed.root, packageName: parsed.package ?? '', imports, isProto3: value === 'proto3' };
}

function parseText(text: string, syntax: string): protobuf.IParserResult {
  let parsed: protobuf.IParserResult;
  try {
    parsed = protobuf.parse(text, { keepCase: true });
  } catch (error) {
    const message = (error as Error).message.replace(
      /illegal (?:token|end of input) 'null'/,
      'unexpected end of the file',
    );
    const label = /illegal token '([\w.]+)'/.exec(message)?.[1];
    const isUnlabelled = syntax === 'proto2' && label !== undefined && SCALAR_NAMES.has(label);
    const hint = isUnlabelled
      ? ': in proto2, which it is without a syntax line, fields are optional, required or repeated'
      : '';
    throw new InvalidSchemaError(`it is not a .proto file: ${message}${hint}`);
  }
  if (parsed.root.nestedArray.length === 0 && !/\b(?:message|enum|service|extend)\b/.test(text))
    throw new InvalidSchemaError('it declares no message, enum or service');
  return parsed;
}

function declareTypes(namespace: protobuf.NamespaceBase, declared: Map<string, Declared>): void {
  for (const nested of namespace.nestedArray) {
    const name = nameOf(nested);
    if (nested instanceof protobuf.Type)
      declare(declared, name, (nested as { group?: boolean }).group === true ? 'group' : 'message');
    else if (nested instanceof protobuf.Enum) declare(declared, name, 'enum');
    if (nested instanceof protobuf.Namespace) declareTypes(nested, declared);
  }
}

function declare(declared: Map<string, Declared>, name: string, kind: Declared['kind']): void {
  if (declared.has(name)) throw new InvalidSchemaError(`type ${name} is declared in two files`);
  declared.set(name, { kind });
}

function collect(file: ReadFile, declared: ReadonlyMap<string, Declared>, into: Map<string, ProtoMessage>): void {
  const hasBuiltIns = file.imports.some((path) => BUILT_IN.test(path));
  const visit = (namespace: protobuf.NamespaceBase): void => {
    for (const nested of namespace.nestedArray) {
      if (nested instanceof protobuf.Enum) checkEnum(nested, file.isProto3);
      if (nested instanceof protobuf.Type) {
        const name = nameOf(nested);
        into.set(name, {
          name,
          fields: nested.fieldsArray.map((field) => fieldOf(field, name, declared, hasBuiltIns)),
        });
      }
      if (nested instanceof protobuf.Service) checkService(nested, declared, hasBuiltIns);
      if (nested instanceof protobuf.Namespace) visit(nested);
    }
  };
  visit(file.root);
}

function fieldOf(
  field: protobuf.Field,
  message: string,
  declared: ReadonlyMap<string, Declared>,
  hasBuiltIns: boolean,
): ProtoField {
  const where = `field ${shown(field.name)} of message ${message}`;
  const number = field.id;
  if (number < 1 || number > MAX_FIELD_NUMBER)
    throw new InvalidSchemaError(`${where} has number ${number}: numbers are 1 to ${MAX_FIELD_NUMBER}`);
  if (number >= RESERVED_FROM && number <= RESERVED_TO)
    throw new InvalidSchemaError(
      `${where} has number ${number}: ${RESERVED_FROM} to ${RESERVED_TO} are Protobuf's own`,
    );
  const { partOf } = field;
  return {
    name: field.name,
    number,
    label: (field as { rule?: string }).rule === 'required' ? 'required' : field.repeated ? 'repeated' : 'optional',
    type: typeOf(field.type, message, where, declared, hasBuiltIns),
    mapKey: field instanceof protobuf.MapField ? (field.keyType as ProtoScalar) : null,
    oneof: partOf === null || partOf === undefined || partOf.isProto3Optional ? null : partOf.name,
  };
}

/** The innermost scope that has the name counts. */
function typeOf(
  name: string,
  scope: string,
  where: string,
  declared: ReadonlyMap<string, Declared>,
  hasBuiltIns: boolean,
): ProtoType {
  if (SCALAR_NAMES.has(name)) return { kind: 'scalar', name: name as ProtoScalar };
  const bare = name.replace(/^\./, '');
  const scopes = name.startsWith('.') ? [] : scope.split('.');
  for (let depth = scopes.length; depth >= 0; depth--) {
    const full = [...scopes.slice(0, depth), bare].join('.');
    const found = declared.get(full);
    if (found !== undefined) return { kind: found.kind, name: full };
    if (hasBuiltIns && BUILT_IN_TYPES.test(full))
      return { kind: BUILT_IN_ENUMS.has(full) ? 'enum' : 'message', name: full };
  }
  throw new InvalidSchemaError(`${where} is of type ${shown(name)}, which neither the file nor its imports declare`);
}

function checkEnum(type: protobuf.Enum, isProto3: boolean): void {
  const [first] = Object.entries(type.values);
  if (first === undefined) throw new InvalidSchemaError(`enum ${nameOf(type)} has no values`);
  if (isProto3 && first[1] !== 0)
    throw new InvalidSchemaError(
      `the first value of enum ${nameOf(type)} is ${first[0]} = ${first[1]}: in proto3 it is 0`,
    );
}

function checkService(service: protobuf.Service, declared: ReadonlyMap<string, Declared>, hasBuiltIns: boolean): void {
  for (const method of service.methodsArray) {
    const where = `method ${shown(method.name)} of service ${nameOf(service)}`;
    for (const name of [method.requestType, method.responseType])
      typeOf(name, nameOf(service), where, declared, hasBuiltIns);
  }
}

function nameOf(object: protobuf.ReflectionObject): string {
  return object.fullName.replace(/^\./, '');
}

function within<T>(where: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (error instanceof InvalidSchemaError) throw new InvalidSchemaError(`${where}: ${error.message}`);
    throw error;
  }
}
