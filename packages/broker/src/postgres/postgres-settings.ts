/** Where the database is and how long things may take there. */
import { NaruError } from '@naru/protocol';

export interface PostgresSettings {
  /** `postgres://user:password@host:port/database?sslmode=…`. A secret: never logged, never part of an error. */
  readonly url: string;
  /** Of all tables; created when missing. Default `naru`. */
  readonly schema?: string | undefined;
  /** How long a start tries to reach the database, milliseconds. Default 30 s. */
  readonly startTimeoutMs?: number | undefined;
  /** For one connection to come about, milliseconds. Default 10 s. */
  readonly connectTimeoutMs?: number | undefined;
  /** How long a statement may take before the connection counts as dead, milliseconds. Default 10 s. */
  readonly statementTimeoutMs?: number | undefined;
  /** How long the broker owns the database after the last sign of life, by the database's clock. Default 5 s. */
  readonly leaseMs?: number | undefined;
  /** The first writes the log, the others do everything else; 1 shares it. Default 3. */
  readonly connections?: number | undefined;
}

export interface CompletePostgresSettings {
  readonly url: string;
  readonly schema: string;
  readonly startTimeoutMs: number;
  readonly connectTimeoutMs: number;
  readonly statementTimeoutMs: number;
  readonly leaseMs: number;
  readonly connections: number;
  /** Host, port and database, to be shown. */
  readonly target: string;
}

const DEFAULTS = {
  schema: 'naru',
  startTimeoutMs: 30_000,
  connectTimeoutMs: 10_000,
  statementTimeoutMs: 10_000,
  leaseMs: 5_000,
  connections: 3,
};
const SCHEMA_NAME = /^[A-Za-z_][A-Za-z0-9_]{0,62}$/;

/** @throws NaruError INVALID_CONFIGURATION, without the URL */
export function completePostgresSettings(given: PostgresSettings): CompletePostgresSettings {
  const schema = given.schema ?? DEFAULTS.schema;
  if (!SCHEMA_NAME.test(schema))
    throw new NaruError('INVALID_CONFIGURATION', `the schema ${JSON.stringify(schema)} is no plain name`);
  return {
    url: given.url,
    schema,
    startTimeoutMs: given.startTimeoutMs ?? DEFAULTS.startTimeoutMs,
    connectTimeoutMs: given.connectTimeoutMs ?? DEFAULTS.connectTimeoutMs,
    statementTimeoutMs: given.statementTimeoutMs ?? DEFAULTS.statementTimeoutMs,
    leaseMs: given.leaseMs ?? DEFAULTS.leaseMs,
    connections: given.connections ?? DEFAULTS.connections,
    target: targetOf(given.url),
  };
}

function targetOf(url: string): string {
  // The parser's own error would quote the URL, password and all.
  const parsed = URL.canParse(url) ? new URL(url) : null;
  if (parsed === null || (parsed.protocol !== 'postgres:' && parsed.protocol !== 'postgresql:')) {
    throw new NaruError(
      'INVALID_CONFIGURATION',
      'the URL of the database is none: expected postgres://user:password@host:port/database',
    );
  }
  const host = parsed.searchParams.get('host') ?? (parsed.hostname === '' ? 'localhost' : parsed.hostname);
  const port = parsed.searchParams.get('port') ?? (parsed.port === '' ? '5432' : parsed.port);
  return `${host}:${port}${parsed.pathname}`;
}
