/**
 * JSON validated by a JSON Schema: 2020-12 unless its `$schema` says draft-07, draft-06 or 2019-09.
 *
 * Payloads are validated when written and when read; when read, the schema's defaults are filled in (where ajv does:
 * `properties` and `items`, not inside `anyOf`, `oneOf` and `not`). Unknown keywords are annotations, as the standard has it;
 * `format` is checked. ajv compiles schemas to code: they are to be trusted like code.
 */
import type { AnySchemaObject, ErrorObject, ValidateFunction } from 'ajv';
import type { Ajv2020 } from 'ajv/dist/2020.js';
import { checkSchemaDocument, readSchemaText } from './json-schema-document.ts';
import type { SchemaDocument } from './json-schema-document.ts';
import type { NamedSchema, PayloadReader, SchemaSerde, SchemaSource } from './schema-serde.ts';
import { readJson, writeJson } from './serde.ts';
import { MAX_VIOLATIONS, SerializationError, describeValue, messageOf, pointer } from './serialization-error.ts';
import type { Violation } from './serialization-error.ts';

const FORMAT = 'json';

export interface JsonSchemaOptions {
  /** A JSON Schema, parsed or as text. */
  readonly schema: object | boolean | string;
  /** Schemas that it refers to by `$ref`, by name or by their own `$id`. */
  readonly references?: readonly { readonly name: string; readonly schema: object | boolean | string }[] | undefined;
}

interface Libraries {
  readonly ajv: (options: object, dialect: string) => Ajv2020;
  readonly addFormats: (ajv: Ajv2020) => unknown;
}

/** Loads ajv; {@link JsonSchemaOptions}. @throws SerializationError for a broken schema, with the path in it */
export async function jsonSchema<T = unknown>(options: JsonSchemaOptions): Promise<SchemaSerde<T>> {
  const libraries = await loadLibraries();
  const references = (options.references ?? []).map(({ name, schema }) => ({ name, schema: schemaText(schema) }));
  return new JsonSchemaSerde<T>(libraries, schemaText(options.schema), references);
}

async function loadLibraries(): Promise<Libraries> {
  const [{ Ajv2020 }, { Ajv2019 }, { Ajv }, formats] = await Promise.all([
    import('ajv/dist/2020.js'),
    import('ajv/dist/2019.js'),
    import('ajv'),
    import('ajv-formats'),
  ]);
  const draft06 = (await import('ajv/dist/refs/json-schema-draft-06.json', { with: { type: 'json' } })).default;
  return {
    ajv: (options, dialect) => {
      if (dialect === '2020-12') return new Ajv2020(options);
      if (dialect === '2019-09') return new Ajv2019(options);
      const ajv = new Ajv(options);
      if (dialect === 'draft-06') ajv.addMetaSchema(draft06);
      return ajv;
    },
    addFormats: (ajv) => formats.default.default(ajv),
  };
}

function schemaText(schema: object | boolean | string): string {
  return typeof schema === 'string' ? schema : JSON.stringify(schema);
}

class JsonSchemaSerde<T> implements SchemaSerde<T> {
  readonly name = FORMAT;
  readonly schemaType = 'JSON';
  readonly schemaText: string;
  readonly recordName: string | undefined;
  readonly prefix = new Uint8Array(0);
  readonly #libraries: Libraries;
  readonly #document: SchemaDocument;
  readonly #validate: ValidateFunction;
  /** The same, but it fills in defaults. */
  readonly #complete: ValidateFunction;

  constructor(libraries: Libraries, text: string, references: readonly NamedSchema[]) {
    this.#libraries = libraries;
    this.schemaText = text;
    this.#document = readSchemaText(text);
    this.recordName = this.#document.title;
    const documents = references.map(({ name, schema }) => ({ name, ...readSchemaText(schema) }));
    const hasDefaults = this.#document.hasDefaults || documents.some((document) => document.hasDefaults);
    const compile = (useDefaults: boolean) => compileSchema(libraries, this.#document, documents, useDefaults);
    this.#validate = compile(false);
    this.#complete = hasDefaults ? compile(true) : this.#validate;
  }

  serialize(value: T): Uint8Array | null {
    return value === null ? null : this.write(value);
  }

  deserialize(bytes: Uint8Array | null): T {
    return bytes === null ? (null as T) : this.read(bytes);
  }

  write(value: T): Uint8Array {
    // What is sent is what JSON makes of the value (toJSON, dates, undefined), so that is what has to be valid.
    const isPlain = isPlainJson(value, 0);
    if (isPlain) check(this.#validate, value);
    const bytes = writeJson(value) ?? Buffer.from('null');
    if (!isPlain) check(this.#validate, JSON.parse(bytes.toString()));
    return bytes;
  }

  read(payload: Uint8Array): T {
    const value = readJson(payload);
    check(this.#complete, value);
    return value as T;
  }

  /** Any version's payload is JSON; what counts is whether it is valid for this one. */
  readerFor(writer: SchemaSource): PayloadReader<T> {
    requireType(writer);
    return this;
  }

  writerFor(writer: SchemaSource): JsonSchemaSerde<T> {
    requireType(writer);
    if (writer.schema === this.schemaText) return this;
    return new JsonSchemaSerde<T>(this.#libraries, writer.schema, writer.references);
  }
}

function requireType({ schemaType }: SchemaSource): void {
  if (schemaType !== 'JSON')
    throw SerializationError.at(FORMAT, '', `it was written with ${schemaType}, not JSON Schema`);
}

function compileSchema(
  { ajv: create, addFormats }: Libraries,
  document: SchemaDocument,
  references: readonly (SchemaDocument & { name: string })[],
  useDefaults: boolean,
): ValidateFunction {
  // Without inlining, since large schemas (GitHub's) take a third of the time and of the memory then.
  const options = { strict: false, logger: false, useDefaults, allErrors: false, verbose: true, inlineRefs: false };
  const ajv = create(options, document.dialect);
  addFormats(ajv);
  for (const reference of references) {
    checkSchemaDocument(reference, ajv, `reference ${reference.name}`);
    ajv.addSchema(reference.schema, reference.name);
    const id = typeof reference.schema === 'object' ? (reference.schema as { $id?: unknown }).$id : undefined;
    if (typeof id === 'string' && id !== reference.name && ajv.getSchema(id) === undefined)
      ajv.addSchema(reference.schema, id);
  }
  checkSchemaDocument(document, ajv, 'schema');
  try {
    return ajv.compile(document.schema as AnySchemaObject);
  } catch (error) {
    throw SerializationError.at(FORMAT, '', `schema: ${messageOf(error)}`, error);
  }
}

/** Deeper values are taken through JSON. */
const MAX_PLAIN_DEPTH = 100;

/** Whether JSON has the same form for a value and everything in it. */
function isPlainJson(value: unknown, depth: number): boolean {
  switch (typeof value) {
    case 'string':
    case 'boolean':
      return true;
    case 'number':
      return Number.isFinite(value);
    case 'object':
      break;
    default:
      return false;
  }
  if (value === null) return true;
  if (depth > MAX_PLAIN_DEPTH) return false;
  if (Array.isArray(value)) {
    for (let index = 0; index < value.length; index++) if (!isPlainJson(value[index], depth + 1)) return false;
    return true;
  }
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null) return false;
  if (typeof (value as { toJSON?: unknown }).toJSON === 'function') return false;
  for (const key in value) if (!isPlainJson((value as Readonly<Record<string, unknown>>)[key], depth + 1)) return false;
  return true;
}

function check(validate: ValidateFunction, value: unknown): void {
  let isValid: unknown;
  try {
    isValid = validate(value);
  } catch (error) {
    throw SerializationError.at(FORMAT, '', messageOf(error), error);
  }
  if (isValid === true) return;
  throw SerializationError.of(FORMAT, violationsOf(validate.errors ?? []));
}

function violationsOf(errors: readonly ErrorObject[]): Violation[] {
  const found = errors.map(violationOf);
  // Of alternatives that all failed, the one that got farthest tells the most.
  const depth = ({ path }: Violation): number => path.split('/').length;
  return found.sort((a, b) => depth(b) - depth(a)).slice(0, MAX_VIOLATIONS);
}

function violationOf({ instancePath, keyword, params, message = keyword, data }: ErrorObject): Violation {
  const given = params as Readonly<Record<string, unknown>>;
  const child = (key: unknown): string => instancePath + pointer([String(key)]);
  switch (keyword) {
    case 'required':
      return { path: child(given['missingProperty']), message: 'is missing' };
    case 'additionalProperties':
      return { path: child(given['additionalProperty']), message: 'is not in the schema' };
    case 'unevaluatedProperties':
      return { path: child(given['unevaluatedProperty']), message: 'is not in the schema' };
    case 'enum': {
      const allowed = (given['allowedValues'] as unknown[]).slice(0, 10).map((value) => JSON.stringify(value));
      return { path: instancePath, message: `must be one of ${allowed.join(', ')}, got ${describeValue(data)}` };
    }
    case 'const':
      return {
        path: instancePath,
        message: `must be ${JSON.stringify(given['allowedValue'])}, got ${describeValue(data)}`,
      };
    case 'type':
      return { path: instancePath, message: `${message}, got ${describeValue(data)}` };
    case 'format':
    case 'pattern':
      return { path: instancePath, message: `${message}, got ${describeValue(data)}` };
    default:
      return { path: instancePath, message };
  }
}
