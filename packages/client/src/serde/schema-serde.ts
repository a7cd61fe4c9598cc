/** Serdes that stand on a schema, as the schema registry needs them. */
import type { Awaitable, SyncSerde } from './serde.ts';

/** The registry's names. */
export type SchemaType = 'AVRO' | 'JSON' | 'PROTOBUF';

/** A schema that another refers to: by its Avro name, its `$id`, or the path of a Protobuf import. */
export interface NamedSchema {
  readonly name: string;
  readonly schema: string;
}

/** Text of a schema with everything that it refers to, directly or not, what is referred to first. */
export interface SchemaSource {
  readonly schemaType: SchemaType;
  readonly schema: string;
  readonly references: readonly NamedSchema[];
}

/** Reads what was written with another schema, as this serde's own schema has it. */
export interface PayloadReader<T> {
  /** @throws SerializationError */
  read(payload: Uint8Array): T;
}

export interface SchemaSerde<T> extends SyncSerde<T> {
  readonly schemaType: SchemaType;
  /** What is registered; undefined where only compiled code is known. */
  readonly schemaText: string | undefined;
  /** Full name of the record or message; `title` of a JSON Schema. For the registry's record subjects. */
  readonly recordName: string | undefined;
  /** What stands between the schema id and the payload: Protobuf's message indexes; else nothing. */
  readonly prefix: Uint8Array;
  /** A value to bytes; null is a value like any other here. @throws SerializationError */
  write(value: T): Uint8Array;
  /**
   * The reader of what was written with `writer`, prefix included.
   *
   * @throws SerializationError when `writer` is broken, or nothing of it can be read with this schema
   */
  readerFor(writer: SchemaSource): Awaitable<PayloadReader<T>>;
  /** A serde that writes with `writer`, for the same type. @throws SerializationError */
  writerFor(writer: SchemaSource): Awaitable<Pick<SchemaSerde<T>, 'prefix' | 'write'>>;
}
