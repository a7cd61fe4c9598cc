/**
 * Protobuf, from `.proto` text or from generated code: protobuf-es messages either way.
 *
 * Values are what protobuf-es has: camelCase fields, 64-bit integers as bigints (numbers are taken where they are exact), a
 * oneof as `{ case, value }`, enums as numbers. Plain objects will do for writing. Fields that a reader does not know stay in
 * the message, and are written again with it.
 */
import type { DescFile, DescMessage, MessageInitShape, MessageShape } from '@bufbuild/protobuf';
import { create, fromBinary, isMessage, toBinary } from '@bufbuild/protobuf';
import { MAX_MESSAGE_DEPTH, messageViolations } from './message-check.ts';
import { findMessage, messageIndexes } from './message-indexes.ts';
import type { NamedSchema, PayloadReader, SchemaSerde, SchemaSource } from './schema-serde.ts';
import { SerializationError, messageOf } from './serialization-error.ts';

const FORMAT = 'protobuf';

export interface ProtobufOptions {
  /** The text of a `.proto` file. */
  readonly schema: string;
  /** Full name of the message in it; default the first one. */
  readonly message?: string | undefined;
  /** Files that it imports, by path. Google's well-known types are there already. */
  readonly imports?: Readonly<Record<string, string>> | undefined;
}

export interface ProtobufMessageOptions {
  /** The `.proto` text that the code was generated from; only a schema registry needs it. */
  readonly schema?: string | undefined;
  /** Files that it imports, by path. */
  readonly imports?: Readonly<Record<string, string>> | undefined;
}

export interface ProtobufSerde<T> extends SchemaSerde<T> {
  /** Its descriptor, for protobuf-es' own functions: `create(serde.message, …)`, `toJson`. */
  readonly message: DescMessage;
}

/** Loads protobufjs, which parses. @throws SerializationError for a broken schema, or one without the message */
export async function protobuf<T = Readonly<Record<string, unknown>>>(
  options: ProtobufOptions,
): Promise<ProtobufSerde<T>> {
  const file = await readFile(options.schema, importsOf(options.imports));
  const known = messagesOf(file).map(({ typeName }) => typeName);
  const found = messagesOf(file).find(({ typeName }) => typeName === (options.message ?? known[0]));
  if (found === undefined) {
    const what = options.message === undefined ? 'has no message' : `has no message ${options.message}`;
    throw SerializationError.at(FORMAT, '', `schema: ${what}${known.length > 0 ? `; it has ${known.join(', ')}` : ''}`);
  }
  return new MessageSerde<T>(found, options.schema);
}

/** A message of generated code (protoc-gen-es). */
export function protobufMessage<Desc extends DescMessage>(
  message: Desc,
  options: ProtobufMessageOptions = {},
): ProtobufSerde<MessageShape<Desc>> {
  return new MessageSerde<MessageShape<Desc>>(message, options.schema);
}

function importsOf(imports: Readonly<Record<string, string>> = {}): NamedSchema[] {
  return Object.entries(imports).map(([name, schema]) => ({ name, schema }));
}

/** Both the parser and Google's own descriptors are large. */
async function readFile(schema: string, imports: readonly NamedSchema[]): Promise<DescFile> {
  const [{ default: protobufjs }, { readProtoFile }] = await Promise.all([
    import('protobufjs'),
    import('./proto-file.ts'),
  ]);
  return readProtoFile(protobufjs, schema, imports);
}

/** Messages of a file, also those inside others, in the order of the text. */
function messagesOf({ messages }: { readonly messages: readonly DescMessage[] }): DescMessage[] {
  return messages.flatMap((message) => [message, ...messagesOf({ messages: message.nestedMessages })]);
}

class MessageSerde<T> implements ProtobufSerde<T> {
  readonly name = FORMAT;
  readonly schemaType = 'PROTOBUF';
  readonly schemaText: string | undefined;
  readonly recordName: string;
  readonly prefix: Uint8Array;
  readonly message: DescMessage;

  constructor(message: DescMessage, schemaText: string | undefined) {
    this.message = message;
    this.schemaText = schemaText;
    this.recordName = message.typeName;
    this.prefix = messageIndexes(message);
  }

  serialize(value: T): Uint8Array | null {
    return value === null ? null : this.write(value);
  }

  deserialize(bytes: Uint8Array | null): T {
    return bytes === null ? (null as T) : this.#read(bytes);
  }

  write(value: T): Uint8Array {
    const desc = this.message;
    if (isMessage(value) && value.$typeName !== desc.typeName)
      throw SerializationError.at(FORMAT, '', `expected ${desc.typeName}, got ${value.$typeName}`);
    const violations = messageViolations(desc, value);
    if (violations.length > 0) throw SerializationError.of(FORMAT, violations);
    try {
      return toBinary(desc, isMessage(value, desc) ? value : create(desc, value as MessageInitShape<DescMessage>));
    } catch (error) {
      throw SerializationError.at(FORMAT, '', messageOf(error), error);
    }
  }

  async readerFor(writer: SchemaSource): Promise<PayloadReader<T>> {
    const file = await fileOf(writer);
    return {
      read: (payload) => {
        const found = findMessage(file, payload);
        if (found?.message.typeName === this.message.typeName) return this.#read(payload.subarray(found.at));
        throw SerializationError.at(
          FORMAT,
          '',
          `it is ${found?.message.typeName ?? 'no message'}, not ${this.recordName}`,
        );
      },
    };
  }

  /** The value stays this message's; which one of the file it is, the text tells. */
  async writerFor(writer: SchemaSource): Promise<Pick<SchemaSerde<T>, 'prefix' | 'write'>> {
    const found = messagesOf(await fileOf(writer)).find(({ typeName }) => typeName === this.recordName);
    if (found === undefined) throw SerializationError.at(FORMAT, '', `its registered schema has no ${this.recordName}`);
    return { prefix: messageIndexes(found), write: (value) => this.write(value) };
  }

  #read(payload: Uint8Array): T {
    try {
      return fromBinary(this.message, payload, { recursionLimit: MAX_MESSAGE_DEPTH }) as T;
    } catch (error) {
      throw SerializationError.at(FORMAT, '', messageOf(error), error);
    }
  }
}

async function fileOf(writer: SchemaSource): Promise<DescFile> {
  if (writer.schemaType !== 'PROTOBUF')
    throw SerializationError.at(FORMAT, '', `it was written with ${writer.schemaType}, not Protobuf`);
  return readFile(writer.schema, writer.references);
}
