/** The tables of a broker in PostgreSQL, under one version. */
import { NaruError } from '@naru/protocol';
import type { PostgresQuery } from './postgres-connection.ts';

const FORMAT_VERSION = 1;

/** @param s the schema, quoted */
function tables(s: string): string {
  return `
  CREATE TABLE ${s}.broker (
    only_row integer PRIMARY KEY CHECK (only_row = 1), format_version integer NOT NULL,
    epoch bigint NOT NULL, owner text NOT NULL, token text NOT NULL, lease_until timestamptz NOT NULL
  );
  CREATE TABLE ${s}.metadata_entries (key text PRIMARY KEY, value text NOT NULL, revision bigint NOT NULL);
  CREATE TABLE ${s}.metadata_state (only_row integer PRIMARY KEY CHECK (only_row = 1), revision bigint NOT NULL);
  CREATE TABLE ${s}.log_state (only_row integer PRIMARY KEY CHECK (only_row = 1), last_id bigint NOT NULL);
  CREATE TABLE ${s}.log_snapshot (
    only_row integer PRIMARY KEY CHECK (only_row = 1), id bigint NOT NULL, version integer NOT NULL, data bytea NOT NULL,
    last_partition_id bigint NOT NULL
  );
  CREATE TABLE ${s}.log_partitions (id bigint PRIMARY KEY, key text NOT NULL, state text NOT NULL);
  CREATE TABLE ${s}.log_batches (
    id bigint PRIMARY KEY, partition_id bigint NOT NULL, base_offset bigint NOT NULL, last_offset bigint NOT NULL,
    max_timestamp bigint NOT NULL, size integer NOT NULL, dead boolean NOT NULL, replacement boolean NOT NULL,
    records bytea NOT NULL
  );
  -- Batches are compressed by publishers, if at all.
  ALTER TABLE ${s}.log_batches ALTER COLUMN records SET STORAGE EXTERNAL;
  CREATE UNIQUE INDEX log_batches_live ON ${s}.log_batches (partition_id, last_offset)
    INCLUDE (id, base_offset, max_timestamp, size) WHERE NOT dead;
  CREATE INDEX log_batches_dead ON ${s}.log_batches (id) WHERE dead;
  CREATE TABLE ${s}.log_operations (
    id bigint PRIMARY KEY, type integer NOT NULL, partition_id bigint NOT NULL, "offset" bigint NOT NULL,
    detail text NOT NULL
  );
  INSERT INTO ${s}.broker VALUES (1, ${FORMAT_VERSION}, 0, '', '', '-infinity');
  INSERT INTO ${s}.metadata_state VALUES (1, 0);
  INSERT INTO ${s}.log_state VALUES (1, 0);
`;
}

export function quoteName(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

/**
 * Creates what is missing, in the transaction of `query`.
 *
 * @throws NaruError DATA_DIRECTORY_VERSION when what is there is of another version, or not a broker's
 */
export async function preparePostgresSchema(query: PostgresQuery, schema: string): Promise<void> {
  // Of two brokers that start on a new database at the same time, one creates the tables.
  await query('SELECT pg_advisory_xact_lock(hashtext($1))', [`naru ${schema}`]);
  const s = quoteName(schema);
  const existing = await query('SELECT 1 FROM pg_namespace WHERE nspname = $1', [schema]);
  if (existing.rowCount === 0) await query(`CREATE SCHEMA ${s}`);
  const names = await query('SELECT relname FROM pg_class WHERE relnamespace = $1::regnamespace AND relkind = $2', [
    s,
    'r',
  ]);
  if (names.rowCount === 0) {
    await query(tables(s));
    return;
  }
  const nothingChanged = 'nothing was changed';
  if (!names.rows.some(({ relname }) => relname === 'broker')) {
    const message = `the schema ${s} holds tables, but not the one that says which version of the broker they belong to`;
    throw new NaruError('DATA_DIRECTORY_VERSION', `${message}: ${nothingChanged}`);
  }
  const { rows } = await query(`SELECT format_version FROM ${s}.broker`);
  const version = Number(rows[0]?.['format_version']);
  if (version === FORMAT_VERSION) return;
  const message = `the schema ${s} has format ${version}, this broker reads format ${FORMAT_VERSION}`;
  throw new NaruError('DATA_DIRECTORY_VERSION', `${message}: ${nothingChanged}`);
}
