/** An event's schema: its files read, and a serde made of it. */
import { readFile } from 'node:fs/promises';
import { NaruError } from '@naru/protocol';
import type { SchemaSource, SchemaType } from '../serde/schema-serde.ts';
import type { Serde } from '../serde/serde.ts';
import { bytes, json, string } from '../serde/serde.ts';
import { avro, jsonSchema, protobuf } from '../serde/serdes.ts';
import type { CatalogEvent } from './catalog-event.ts';
import { shown } from './catalog-files.ts';
import { schemaPart } from './schema-part.ts';

const MAX_SCHEMA_BYTES = 16 * 1024 * 1024;

const SCHEMA_TYPES: Readonly<Record<string, SchemaType>> = { json: 'JSON', avro: 'AVRO', protobuf: 'PROTOBUF' };

/** @throws NaruError INVALID_CONFIGURATION for a file that cannot be read, SerializationError for a broken schema */
export async function loadEventSerde(event: CatalogEvent): Promise<Serde<unknown>> {
  const { format, message } = event.source;
  if (format === 'string') return string;
  if (format === 'bytes') return bytes;
  const source = await readEventSchema(event);
  if (source === undefined) return json;
  const { schema, references } = source;
  if (format === 'json') return jsonSchema({ schema, references });
  if (format === 'avro') return avro({ schema, references });
  const imports = Object.fromEntries(references.map((one) => [one.name, one.schema]));
  return protobuf({ schema, message, imports });
}

/** @throws NaruError INVALID_CONFIGURATION */
export async function readEventSchema({ format, schema: files }: CatalogEvent): Promise<SchemaSource | undefined> {
  const schemaType = SCHEMA_TYPES[format];
  if (files === undefined || schemaType === undefined) return undefined;
  const text = await readSchemaFile(files.file);
  const references = await Promise.all(
    files.references.map(async ({ name, file }) => ({ name, schema: await readSchemaFile(file) })),
  );
  const schema = files.part === undefined ? text : schemaPart(text, files.part, shown(files.file));
  return { schemaType, schema, references };
}

async function readSchemaFile(file: string): Promise<string> {
  let content: Buffer;
  try {
    content = await readFile(file);
  } catch (error) {
    const why = (error as NodeJS.ErrnoException).code === 'ENOENT' ? 'no such file' : (error as Error).message;
    throw new NaruError('INVALID_CONFIGURATION', `cannot read the schema ${shown(file)}: ${why}`, { cause: error });
  }
  if (content.length <= MAX_SCHEMA_BYTES) return content.toString('utf8');
  throw new NaruError('INVALID_CONFIGURATION', `the schema ${shown(file)} is larger than ${MAX_SCHEMA_BYTES} bytes`);
}
