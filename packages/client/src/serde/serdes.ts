/** The serdes that come with the SDK. What needs a library loads it when it is made. */
import type { AvroOptions } from './avro.ts';
import type { JsonSchemaOptions } from './json-schema.ts';
import type { SchemaSerde } from './schema-serde.ts';

export type { AvroOptions, JsonSchemaOptions };
export { protobuf, protobufMessage } from './protobuf.ts';
export type { ProtobufMessageOptions, ProtobufOptions, ProtobufSerde } from './protobuf.ts';
export { SchemaRegistryClient } from './registry/schema-registry-client.ts';
export type {
  RegisteredSchema,
  SchemaInput,
  SchemaReference,
  SchemaRegistryOptions,
} from './registry/schema-registry-client.ts';
export type { SubjectName, SubjectStrategy } from './registry/subject-names.ts';
export { withRegistry } from './registry/with-registry.ts';
export type { WithRegistryOptions } from './registry/with-registry.ts';
export type { NamedSchema, PayloadReader, SchemaSerde, SchemaSource, SchemaType } from './schema-serde.ts';
export { bytes, json, string } from './serde.ts';
export type { Awaitable, SerdeContext, SyncSerde } from './serde.ts';
export { SerializationError } from './serialization-error.ts';
export type { Violation } from './serialization-error.ts';
export { validated } from './standard-schema.ts';
export type { ValidatedOptions } from './standard-schema.ts';

/**
 * Avro, binary encoding.
 *
 * @throws SerializationError for a broken schema, with the path in it, or a `readerSchema` that cannot read `schema`
 */
export async function avro<T = unknown>(options: AvroOptions): Promise<SchemaSerde<T>> {
  const loaded = await import('./avro.ts');
  return loaded.avro<T>(options);
}

/** JSON validated by a JSON Schema. @throws SerializationError for a broken schema, with the path in it */
export async function jsonSchema<T = unknown>(options: JsonSchemaOptions): Promise<SchemaSerde<T>> {
  const loaded = await import('./json-schema.ts');
  return loaded.jsonSchema<T>(options);
}
