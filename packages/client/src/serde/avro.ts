/**
 * Avro, binary encoding without a container: the payload alone, which only its schema can read.
 *
 * Longs are bigints; a number is taken where it is exact. Records come as objects with the schema's fields, bytes and fixed as
 * Buffers. In a union where a value would not tell its branch (two records, say) it is wrapped: `{ 'shop.Card': {…} }`. Beside
 * other kinds of numbers only a bigint is the long. Logical types are the user's; without one a value stays as its underlying
 * type has it.
 */
import type { Type } from 'avsc';
import { payloadCheck } from './avro-payload.ts';
import { avroType } from './avro-types.ts';
import type { Avsc, LogicalTypes } from './avro-types.ts';
import type { NamedSchema, PayloadReader, SchemaSerde, SchemaSource } from './schema-serde.ts';
import { MAX_VIOLATIONS, SerializationError, describeValue, messageOf, pointer } from './serialization-error.ts';
import type { Violation } from './serialization-error.ts';

const FORMAT = 'avro';

export interface AvroOptions {
  /** What values are written with: an Avro schema, parsed or as JSON text. */
  readonly schema: object | string;
  /** What handlers want to see; payloads are resolved to it from what they were written with. Default: `schema`. */
  readonly readerSchema?: object | string | undefined;
  /** Schemas of named types that these refer to, what is referred to first. */
  readonly references?: readonly { readonly name: string; readonly schema: object | string }[] | undefined;
  /** By `logicalType`, avsc's classes. One that stands on a long gets numbers, and refuses longs that would not be exact. */
  readonly logicalTypes?: LogicalTypes | undefined;
  /** Fields of a value that its record does not have: refused, or left out. Default refuse. */
  readonly unknownFields?: 'refuse' | 'drop' | undefined;
}

/** Loads avsc. @throws SerializationError for a broken schema, with the path in it, or a `readerSchema` that cannot read */
export async function avro<T = unknown>(options: AvroOptions): Promise<SchemaSerde<T>> {
  const loaded = await import('avsc');
  const avsc = loaded.default ?? loaded;
  const { logicalTypes, unknownFields = 'refuse' } = options;
  const references = (options.references ?? []).map(({ name, schema }) => ({ name, schema: textOf(schema) }));
  const parts = { avsc, logicalTypes, dropsUnknown: unknownFields === 'drop' };
  const written = { text: textOf(options.schema), references };
  const read = options.readerSchema === undefined ? written : { text: textOf(options.readerSchema), references };
  return new AvroSerde<T>(parts, written, read);
}

function textOf(schema: object | string): string {
  return typeof schema === 'string' ? schema : JSON.stringify(schema);
}

interface Parts {
  readonly avsc: Avsc;
  readonly logicalTypes: LogicalTypes | undefined;
  readonly dropsUnknown: boolean;
}

interface Source {
  readonly text: string;
  readonly references: readonly NamedSchema[];
}

class AvroSerde<T> implements SchemaSerde<T> {
  readonly name = FORMAT;
  readonly schemaType = 'AVRO';
  readonly schemaText: string;
  readonly recordName: string | undefined;
  readonly prefix = new Uint8Array(0);
  readonly #parts: Parts;
  readonly #writerType: Type;
  readonly #readerType: Type;
  readonly #reader: PayloadReader<T>;

  constructor(parts: Parts, written: Source, read: Source) {
    this.#parts = parts;
    this.schemaText = written.text;
    this.#writerType = avroType(parts.avsc, written.text, written.references, parts.logicalTypes);
    this.#readerType =
      read === written ? this.#writerType : avroType(parts.avsc, read.text, read.references, parts.logicalTypes);
    this.recordName = this.#writerType.name;
    this.#reader = this.#readerOf(this.#writerType);
  }

  serialize(value: T): Uint8Array | null {
    return value === null ? null : this.write(value);
  }

  deserialize(bytes: Uint8Array | null): T {
    return bytes === null ? (null as T) : this.#reader.read(bytes);
  }

  write(value: T): Uint8Array {
    const type = this.#writerType;
    if (!this.#parts.dropsUnknown && !isValid(type, value, true)) throw this.#invalid(value);
    try {
      return type.toBuffer(value);
    } catch (error) {
      throw this.#invalid(value, error);
    }
  }

  readerFor(writer: SchemaSource): PayloadReader<T> {
    requireType(writer);
    const { avsc, logicalTypes } = this.#parts;
    return this.#readerOf(avroType(avsc, writer.schema, writer.references, logicalTypes));
  }

  writerFor(writer: SchemaSource): AvroSerde<T> {
    requireType(writer);
    const source = { text: writer.schema, references: writer.references };
    return new AvroSerde<T>(this.#parts, source, source);
  }

  #readerOf(writer: Type): PayloadReader<T> {
    const reader = this.#readerType;
    const check = payloadCheck(writer);
    const resolver = writer === reader ? undefined : resolverOf(reader, writer);
    return {
      read(payload) {
        check(payload);
        try {
          return reader.fromBuffer(asBuffer(payload), resolver) as T;
        } catch (error) {
          throw SerializationError.at(FORMAT, '', messageOf(error), error);
        }
      },
    };
  }

  #invalid(value: T, cause?: unknown): SerializationError {
    const violations: Violation[] = [];
    const errorHook = (path: readonly string[], found: unknown, type: Type): void => {
      if (violations.length < MAX_VIOLATIONS) violations.push(violationOf(path, found, type));
    };
    try {
      this.#writerType.isValid(value, { noUndeclaredFields: !this.#parts.dropsUnknown, errorHook });
    } catch (error) {
      return SerializationError.at(FORMAT, '', messageOf(error), error);
    }
    if (violations.length === 0) violations.push({ path: '', message: messageOf(cause) });
    return SerializationError.of(FORMAT, violations, cause);
  }
}

function isValid(type: Type, value: unknown, noUndeclaredFields: boolean): boolean {
  try {
    return type.isValid(value, { noUndeclaredFields });
  } catch {
    // Told again, with the reason, by #invalid.
    return false;
  }
}

function resolverOf(reader: Type, writer: Type): never {
  try {
    return reader.createResolver(writer) as never;
  } catch (error) {
    const message = `what was written as ${nameOf(writer)} cannot be read as ${nameOf(reader)}: ${messageOf(error)}`;
    throw SerializationError.at(FORMAT, '', shortened(message), error);
  }
}

/** avsc puts whole schemas into its messages. */
function shortened(message: string): string {
  return message.length <= 500 ? message : `${message.slice(0, 500)}…`;
}

function requireType({ schemaType }: SchemaSource): void {
  if (schemaType !== 'AVRO') throw SerializationError.at(FORMAT, '', `it was written with ${schemaType}, not Avro`);
}

function violationOf(path: readonly string[], found: unknown, type: Type): Violation {
  const at = pointer(path);
  if (found === undefined) return { path: at, message: `is missing; expected ${nameOf(type)}` };
  const unknown = unknownField(found, type);
  if (unknown !== undefined) return { path: at + pointer([unknown]), message: `is not a field of ${nameOf(type)}` };
  return { path: at, message: `expected ${nameOf(type)}, got ${describeValue(found)}` };
}

function unknownField(found: unknown, type: Type): string | undefined {
  if (!type.typeName.startsWith('record') || typeof found !== 'object' || found === null || Array.isArray(found))
    return undefined;
  const { fields } = type as unknown as { fields: readonly { name: string }[] };
  return Object.keys(found).find((key) => !fields.some(({ name }) => name === key));
}

function nameOf(type: Type): string {
  const { typeName, name } = type;
  if (typeName.startsWith('union:')) {
    const { types } = type as unknown as { types: readonly Type[] };
    return `one of ${types.map(nameOf).join(', ')}`;
  }
  if (typeName === 'enum') {
    const { symbols } = type as unknown as { symbols: readonly string[] };
    return `${name ?? 'enum'} (${symbols.slice(0, 10).join(', ')})`;
  }
  return name ?? typeName.replace('abstract:', '');
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
}
