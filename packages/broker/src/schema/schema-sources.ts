/** Schemas for tests. */
import type { ResolvedReference, SchemaSource, SchemaType } from './schema.ts';

/** @param schema text, or what becomes JSON */
export function source(type: SchemaType, schema: unknown, references: readonly ResolvedReference[] = []): SchemaSource {
  return { type, text: typeof schema === 'string' ? schema : JSON.stringify(schema), references };
}

export const avro = (schema: unknown, references?: readonly ResolvedReference[]): SchemaSource =>
  source('AVRO', schema, references);

export const json = (schema: unknown, references?: readonly ResolvedReference[]): SchemaSource =>
  source('JSON', schema, references);

export const proto = (text: string, references?: readonly ResolvedReference[]): SchemaSource =>
  source('PROTOBUF', text, references);

/** A proto3 message M with these fields. */
export const message = (fields: string, beside = ''): SchemaSource =>
  proto(`syntax = "proto3"; package shop; message M { ${fields} } ${beside}`);

/** An Avro record R with these fields. */
export const record = (...fields: readonly unknown[]): SchemaSource => avro({ type: 'record', name: 'R', fields });
