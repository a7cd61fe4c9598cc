/** Requests to the schema registry as they come: path, query and body, checked and turned into what the registry is asked. */
import {
  COMPATIBILITY_LEVELS,
  SUBJECT_MODES,
  type CompatibilityLevel,
  type GivenReference,
  type GivenSchema,
  type SubjectMode,
  type VersionSelector,
} from '../../core/schema-registry/index.ts';
import { SCHEMA_TYPES } from '../../schema/index.ts';
import { invalidVersion, notFound, RegistryError, unprocessable } from './schema-registry-errors.ts';

const MAX_VERSION = 2 ** 31 - 1;

/** What Confluent's registry understands and this one does not: refused, since it would change what is checked. */
const UNSUPPORTED_OF_SCHEMAS = ['metadata', 'ruleSet', 'schemaTagsToAdd', 'schemaTagsToRemove'];
const OF_SCHEMAS = new Set([
  'schema',
  'schemaType',
  'references',
  'id',
  'version',
  'subject',
  'normalize',
  'propagateSchemaTags',
]);

export interface GivenBody {
  readonly schema: GivenSchema;
  readonly id: number | null;
  readonly version: number | null;
}

export function readBody(text: string): Readonly<Record<string, unknown>> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new RegistryError(400, 400, `The body is not JSON: ${(error as Error).message}`);
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new RegistryError(400, 400, 'The body is a JSON object');
  return value as Record<string, unknown>;
}

export function readSchema(text: string, query: URLSearchParams): GivenBody {
  const body = readBody(text);
  for (const [key, value] of Object.entries(body)) {
    if (value === null || OF_SCHEMAS.has(key)) continue;
    if (UNSUPPORTED_OF_SCHEMAS.includes(key)) throw unprocessable(`"${key}" is not supported`);
    throw unprocessable(`Unrecognized field: ${key}`);
  }
  const { schema, schemaType, references, id, version } = body;
  if (schema !== undefined && schema !== null && typeof schema !== 'string')
    throw unprocessable('"schema" is text: a schema as JSON is put into a string');
  const normalize = query.get('normalize') === 'true' || body['normalize'] === true;
  return {
    schema: { type: readType(schemaType), text: schema ?? '', references: readReferences(references), normalize },
    id: readPositive('id', id),
    version: readPositive('version', version),
  };
}

function readType(value: unknown): GivenSchema['type'] {
  const text = value ?? 'AVRO';
  const type = SCHEMA_TYPES.find((candidate) => candidate === text);
  if (type === undefined)
    throw new RegistryError(
      422,
      42201,
      `Invalid schema type ${JSON.stringify(text)}: known are ${SCHEMA_TYPES.join(', ')}`,
    );
  return type;
}

function readReferences(value: unknown): GivenReference[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value)) throw unprocessable('"references" is a list');
  return value.map((entry: unknown) => {
    const { name, subject, version } = (typeof entry === 'object' && entry !== null ? entry : {}) as Record<
      string,
      unknown
    >;
    if (
      typeof name !== 'string' ||
      typeof subject !== 'string' ||
      (typeof version !== 'number' && version !== 'latest')
    )
      throw unprocessable('a reference has "name", "subject" and "version"');
    return { name, subject, version: version === 'latest' ? version : readVersion(String(version)) };
  });
}

/** Clients send -1 or 0 for "none". */
function readPositive(name: string, value: unknown): number | null {
  if (value === undefined || value === null || value === -1 || value === 0) return null;
  if (Number.isInteger(value) && (value as number) > 0 && (value as number) <= MAX_VERSION) return value as number;
  throw unprocessable(`"${name}" is a whole number from 1 to ${MAX_VERSION}`);
}

export function readVersion(text: string): VersionSelector {
  if (text === 'latest' || text === '-1') return 'latest';
  const version = /^\d{1,10}$/.test(text) ? Number(text) : 0;
  if (version < 1 || version > MAX_VERSION) throw invalidVersion(text);
  return version;
}

export function readId(text: string): number {
  const id = /^\d{1,10}$/.test(text) ? Number(text) : -1;
  if (id < 0 || id > MAX_VERSION) throw notFound();
  return id;
}

export function readLevel(text: string): CompatibilityLevel {
  const level = readOnly(text, 'compatibility');
  const found = COMPATIBILITY_LEVELS.find((candidate) => candidate === level);
  if (found !== undefined) return found;
  const known = 'none, backward, forward, full, backward_transitive, forward_transitive, and full_transitive';
  throw new RegistryError(422, 42203, `Invalid compatibility level. Valid values are ${known}`);
}

export function readMode(text: string): SubjectMode {
  const mode = readOnly(text, 'mode');
  const found = SUBJECT_MODES.find((candidate) => candidate === mode);
  if (found !== undefined) return found;
  throw new RegistryError(422, 42204, `Invalid mode. Valid values are ${SUBJECT_MODES.join(', ')}`);
}

/** The one setting that there is; others are refused rather than forgotten. In capitals. */
function readOnly(text: string, key: string): string {
  const body = readBody(text);
  for (const [other, value] of Object.entries(body))
    if (other !== key && value !== null) throw unprocessable(`"${other}" is not supported, only "${key}" is`);
  const value = body[key];
  return typeof value === 'string' ? value.toUpperCase() : '';
}

export function flag(query: URLSearchParams, name: string): boolean {
  return query.get(name) === 'true';
}

/** `offset` and `limit`, as lists have them. */
export function page<T>(list: readonly T[], query: URLSearchParams): readonly T[] {
  const offset = Number(query.get('offset') ?? 0);
  const limit = Number(query.get('limit') ?? -1);
  if (!Number.isInteger(offset) || !Number.isInteger(limit)) throw unprocessable('offset and limit are whole numbers');
  const from = Math.max(0, offset);
  return limit < 0 ? list.slice(from) : list.slice(from, from + limit);
}
