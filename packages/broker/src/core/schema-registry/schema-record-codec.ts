/**
 * Records of the registry's log as bytes: JSON, as in Confluent's `_schemas`, so that it can be read with any tool. A key
 * has its properties in a fixed order, since equal keys must be equal bytes. Unknown properties of values are passed over.
 */
import { NaruError } from '@naru/protocol';
import { SCHEMA_TYPES } from '../../schema/index.ts';
import { COMPATIBILITY_LEVELS, SUBJECT_MODES } from './commands.ts';
import type { SchemaContent, Scope } from './commands.ts';
import type { SchemaRecord, SubjectVersion } from './registry-state.ts';

const TEXT = new TextEncoder();
const FROM_TEXT = new TextDecoder('utf-8', { fatal: true });

export interface EncodedSchemaRecord {
  readonly key: Uint8Array;
  /** Null for a tombstone. */
  readonly value: Uint8Array | null;
}

export function encodeSchemaRecord(record: SchemaRecord): EncodedSchemaRecord {
  return { key: encode(keyOf(record)), value: record.value === null ? null : encode(record.value) };
}

/** @throws NaruError DATA_CORRUPT */
export function decodeSchemaRecord(key: Uint8Array, value: Uint8Array | null): SchemaRecord {
  try {
    return decode(
      fields(JSON.parse(FROM_TEXT.decode(key))),
      value === null ? null : JSON.parse(FROM_TEXT.decode(value)),
    );
  } catch (error) {
    if (error instanceof NaruError) throw error;
    throw new NaruError('DATA_CORRUPT', 'a record of the schema log cannot be read', { cause: error });
  }
}

function keyOf(record: SchemaRecord): unknown {
  switch (record.kind) {
    case 'schema':
      return { kind: 'schema', id: record.id };
    case 'version':
      return { kind: 'version', subject: record.subject, version: record.version };
    case 'compatibility':
    case 'mode':
      return { kind: record.kind, subject: record.scope };
    case 'last-id':
      return { kind: 'last-id' };
  }
}

function encode(value: unknown): Uint8Array {
  return TEXT.encode(JSON.stringify(value));
}

type Fields = Readonly<Record<string, unknown>>;

function decode(key: Fields, value: unknown): SchemaRecord {
  switch (key['kind']) {
    case 'schema':
      return { kind: 'schema', id: count(key['id']), value: value === null ? null : content(fields(value)) };
    case 'version': {
      const at = { subject: text(key['subject']), version: count(key['version']) };
      return { kind: 'version', ...at, value: value === null ? null : version(fields(value)) };
    }
    case 'compatibility':
      return {
        kind: 'compatibility',
        scope: scope(key),
        value: value === null ? null : oneOf(COMPATIBILITY_LEVELS, value),
      };
    case 'mode':
      return { kind: 'mode', scope: scope(key), value: value === null ? null : oneOf(SUBJECT_MODES, value) };
    case 'last-id':
      return { kind: 'last-id', value: count(value) };
    default:
      throw corrupt('its key is of no kind that this version knows');
  }
}

function content(value: Fields): SchemaContent {
  const references = value['references'];
  if (!Array.isArray(references)) throw corrupt('its references are no list');
  return {
    type: oneOf(SCHEMA_TYPES, value['type']),
    text: text(value['text']),
    references: references.map((entry: unknown) => {
      const { name, subject, version: number } = fields(entry);
      return { name: text(name), subject: text(subject), version: count(number) };
    }),
  };
}

function version({ schemaId, isDeleted }: Fields): SubjectVersion {
  return { schemaId: count(schemaId), isDeleted: isDeleted === true };
}

function scope(key: Fields): Scope {
  return key['subject'] === null ? null : text(key['subject']);
}

function fields(value: unknown): Fields {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw corrupt('it is no object');
  return value as Fields;
}

function text(value: unknown): string {
  if (typeof value !== 'string') throw corrupt('a text is missing');
  return value;
}

function count(value: unknown): number {
  if (!Number.isSafeInteger(value) || (value as number) < 1) throw corrupt('a number is missing');
  return value as number;
}

function oneOf<T extends string>(values: readonly T[], value: unknown): T {
  const found = values.find((entry) => entry === value);
  if (found === undefined) throw corrupt(`${JSON.stringify(value)} is none of ${values.join(', ')}`);
  return found;
}

function corrupt(what: string): NaruError {
  return new NaruError('DATA_CORRUPT', `a record of the schema log cannot be read: ${what}`);
}
