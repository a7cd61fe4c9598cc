/** The tables of the log in SQLite, and their version. The metadata's tables are beside them in the same file. */
import type { DatabaseSync } from 'node:sqlite';
import { NaruError } from '@naru/protocol';

const FORMAT_VERSION = 1;

const TABLES = `
  CREATE TABLE log_state (
    only INTEGER PRIMARY KEY CHECK (only = 1), format_version INTEGER NOT NULL, last_id INTEGER NOT NULL
  ) STRICT;
  CREATE TABLE log_snapshot (
    only INTEGER PRIMARY KEY CHECK (only = 1), id INTEGER NOT NULL, version INTEGER NOT NULL, data BLOB NOT NULL,
    last_partition_id INTEGER NOT NULL
  ) STRICT;
  CREATE TABLE log_partitions (id INTEGER PRIMARY KEY, key TEXT NOT NULL, state TEXT NOT NULL) STRICT;
  CREATE TABLE log_batches (
    id INTEGER PRIMARY KEY, partition_id INTEGER NOT NULL, base_offset INTEGER NOT NULL, last_offset INTEGER NOT NULL,
    max_timestamp INTEGER NOT NULL, size INTEGER NOT NULL, dead INTEGER NOT NULL, replacement INTEGER NOT NULL,
    records BLOB NOT NULL
  ) STRICT;
  CREATE UNIQUE INDEX log_batches_live ON log_batches (partition_id, last_offset) WHERE dead = 0;
  CREATE INDEX log_batches_dead ON log_batches (id) WHERE dead = 1;
  CREATE TABLE log_operations (
    id INTEGER PRIMARY KEY, type INTEGER NOT NULL, partition_id INTEGER NOT NULL, "offset" INTEGER NOT NULL,
    detail TEXT NOT NULL
  ) STRICT;
  INSERT INTO log_state VALUES (1, ${FORMAT_VERSION}, 0);
`;

/**
 * Creates the tables where there are none.
 *
 * @throws NaruError DATA_DIRECTORY_VERSION
 */
export function prepareSchema(database: DatabaseSync, path: string): void {
  if (!checkSchemaVersion(database, path)) database.exec(`BEGIN IMMEDIATE; ${TABLES} COMMIT`);
}

/**
 * False when there are no tables; changes nothing.
 *
 * @throws NaruError DATA_DIRECTORY_VERSION
 */
export function checkSchemaVersion(database: DatabaseSync, path: string): boolean {
  const exists = database.prepare("SELECT 1 FROM sqlite_schema WHERE name = 'log_state'").get() !== undefined;
  if (!exists) return false;
  const version = Number(database.prepare('SELECT format_version FROM log_state').get()?.['format_version']);
  if (version === FORMAT_VERSION) return true;
  const message = `the log in ${path} has format ${version}; this broker reads format ${FORMAT_VERSION}`;
  throw new NaruError('DATA_DIRECTORY_VERSION', `${message}; nothing was changed`);
}
