/** Schemas of all formats: whether they are valid, their text, and whether one can read what another wrote. */
import { avroDifferences } from './avro/avro-compatibility.ts';
import { parseAvro } from './avro/parse-avro.ts';
import { printAvro } from './avro/print-avro.ts';
import type { ComparedNames } from './comparison.ts';
import { printJson, printSortedJson, readJson } from './json-text.ts';
import { jsonSchemaDifferences } from './json-schema/json-schema-compatibility.ts';
import { parseJsonSchema } from './json-schema/json-schema-document.ts';
import { parseProto } from './protobuf/parse-proto.ts';
import { protoIdentity } from './protobuf/proto-text.ts';
import { protoDifferences } from './protobuf/proto-compatibility.ts';
import { InvalidSchemaError, MAX_SCHEMA_LENGTH, type Difference, type SchemaSource } from './schema.ts';

export {
  InvalidSchemaError,
  MAX_REFERENCE_DEPTH,
  MAX_REFERENCES,
  MAX_REFERENCED_SCHEMAS,
  MAX_SCHEMA_LENGTH,
  SCHEMA_TYPES,
} from './schema.ts';
export type { Difference, ResolvedReference, SchemaSource, SchemaType } from './schema.ts';
export type { ComparedNames } from './comparison.ts';

/**
 * The text under which a valid schema is kept.
 *
 * @param normalize also put in order what has none: keys of JSON Schema, properties of the user's own in Avro
 * @throws InvalidSchemaError
 */
export function canonicalText(source: SchemaSource, normalize: boolean): string {
  const { type, text } = source;
  if (text.length > MAX_SCHEMA_LENGTH)
    throw new InvalidSchemaError(`it has ${text.length} characters, at most ${MAX_SCHEMA_LENGTH} are allowed`);
  return guarded(() => {
    switch (type) {
      case 'AVRO':
        return printAvro(parseAvro(source), normalize);
      case 'JSON':
        parseJsonSchema(source);
        return (normalize ? printSortedJson : printJson)(readJson(text));
      case 'PROTOBUF':
        parseProto(source);
        return text;
    }
  });
}

/** Equal for texts that are one schema. Never throws. @param text as {@link canonicalText} gave it */
export function identityOf({ type, text }: Pick<SchemaSource, 'type' | 'text'>): string {
  return type === 'PROTOBUF' ? protoIdentity(text) : text;
}

/** Why data that was written with one schema cannot be read with the other; empty when it can. Both are valid. */
export function schemaDifferences(reader: SchemaSource, writer: SchemaSource, names: ComparedNames): Difference[] {
  if (reader.type !== writer.type) {
    const description = `the ${names.reader} schema is of type ${reader.type}, the ${names.writer} schema of type ${writer.type}`;
    return [{ errorType: 'SCHEMA_TYPE_CHANGED', description }];
  }
  try {
    return guarded(() => {
      switch (reader.type) {
        case 'AVRO':
          return avroDifferences(parseAvro(reader).type, parseAvro(writer).type, names);
        case 'JSON':
          return jsonSchemaDifferences(parseJsonSchema(reader), parseJsonSchema(writer), names);
        case 'PROTOBUF':
          return protoDifferences(parseProto(reader), parseProto(writer), names);
      }
    });
  } catch (error) {
    if (!(error instanceof InvalidSchemaError)) throw error;
    return [{ errorType: 'NOT_COMPARABLE', description: error.message }];
  }
}

/** What a schema can do to a parser is that schema's fault: too deep for the stack, or a parser that stumbles. */
function guarded<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (error instanceof InvalidSchemaError) throw error;
    if (error instanceof RangeError) throw new InvalidSchemaError('it is nested too deep');
    throw new InvalidSchemaError(`it cannot be read: ${error instanceof Error ? error.message : String(error)}`);
  }
}
