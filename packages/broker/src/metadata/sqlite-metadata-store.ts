/**
 * The embedded metadata store: one node:sqlite database, written with synchronous=FULL, so that a commit is durable when
 * it returns. `:memory:` serves brokers that keep nothing.
 */
import { DatabaseSync } from 'node:sqlite';
import { NaruError } from '@naru/protocol';
import type { Commit } from './commit-history.ts';
import { CommitHistory } from './commit-history.ts';
import type {
  CommitResult,
  MetadataChange,
  MetadataCondition,
  MetadataEntry,
  MetadataSnapshot,
  MetadataStore,
  Revision,
} from './metadata-store.ts';

export const METADATA_FORMAT_VERSION = 1;

/** SQLite's primary result codes. */
const SQLITE_CORRUPT = 11;
const SQLITE_NOTADB = 26;

/** For other programs that have the file open. */
const BUSY_TIMEOUT_MS = 5_000;

export interface SqliteMetadataOptions {
  /** Whether the log has its tables in the same file. Default false. */
  readonly sharesFile?: boolean | undefined;
}

export class SqliteMetadataStore implements MetadataStore {
  readonly #database: DatabaseSync;
  readonly #history: CommitHistory;
  #closed = false;

  /** @param path of the database file, created when missing; `:memory:` keeps nothing. */
  constructor(path: string, { sharesFile = false }: SqliteMetadataOptions = {}) {
    this.#database = openDatabase(path, sharesFile);
    const version = Number(this.#database.prepare('PRAGMA user_version').get()?.['user_version']);
    if (version > METADATA_FORMAT_VERSION) {
      this.#database.close();
      throw new NaruError(
        'DATA_DIRECTORY_VERSION',
        `${path} has format ${version}, this version of Naru reads up to ${METADATA_FORMAT_VERSION}: start the version that wrote it`,
      );
    }
    this.#database.exec(`
      CREATE TABLE IF NOT EXISTS entries (key TEXT PRIMARY KEY, value TEXT NOT NULL, revision INTEGER NOT NULL) STRICT;
      CREATE TABLE IF NOT EXISTS state (only INTEGER PRIMARY KEY CHECK (only = 1), revision INTEGER NOT NULL) STRICT;
      INSERT OR IGNORE INTO state VALUES (1, 0);
      PRAGMA user_version = ${METADATA_FORMAT_VERSION};
    `);
    const revision = Number(this.#database.prepare('SELECT revision FROM state').get()?.['revision']);
    this.#history = new CommitHistory(revision);
  }

  async snapshot(): Promise<MetadataSnapshot> {
    const rows = this.#database.prepare('SELECT key, value, revision FROM entries ORDER BY key').all();
    return { revision: this.#history.revision, entries: rows.map(entryOf) };
  }

  async get(key: string): Promise<MetadataEntry | undefined> {
    const row = this.#database.prepare('SELECT key, value, revision FROM entries WHERE key = ?').get(key);
    return row === undefined ? undefined : entryOf(row);
  }

  async commit(conditions: readonly MetadataCondition[], changes: readonly MetadataChange[]): Promise<CommitResult> {
    const revisionOf = this.#database.prepare('SELECT revision FROM entries WHERE key = ?');
    for (const { key, revision } of conditions) {
      const row = revisionOf.get(key);
      if ((row === undefined ? 0 : Number(row['revision'])) !== revision) return { ok: false, key };
    }
    const revision = this.#history.revision + 1;
    this.#database.exec('BEGIN IMMEDIATE');
    try {
      const put = this.#database.prepare(
        'INSERT INTO entries VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value, revision = excluded.revision',
      );
      const remove = this.#database.prepare('DELETE FROM entries WHERE key = ?');
      for (const change of changes) {
        if ('deleted' in change) remove.run(change.key);
        else put.run(change.key, JSON.stringify(change.value), revision);
      }
      this.#database.prepare('UPDATE state SET revision = ?').run(revision);
      this.#database.exec('COMMIT');
    } catch (error) {
      if (this.#database.isTransaction) this.#database.exec('ROLLBACK');
      throw new NaruError('STORAGE_ERROR', `the metadata could not be written: ${(error as Error).message}`, {
        cause: error,
      });
    }
    this.#history.add({ revision, changes });
    return { ok: true, revision };
  }

  watch(afterRevision: Revision, signal: AbortSignal): AsyncIterable<Commit> {
    return this.#history.watch(afterRevision, signal);
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#history.close();
    this.#database.close();
  }
}

function entryOf(row: Record<string, unknown>): MetadataEntry {
  const value = JSON.parse(String(row['value'])) as unknown;
  return { key: String(row['key']), value, revision: Number(row['revision']) };
}

/** @throws NaruError DATA_CORRUPT when the file is no database, DATA_DIRECTORY_NOT_WRITABLE when it cannot be opened */
function openDatabase(path: string, sharesFile: boolean): DatabaseSync {
  let database: DatabaseSync | null = null;
  try {
    database = new DatabaseSync(path);
    // The log's connection writes ahead; it never holds the file for longer than one synchronous transaction.
    const mode = sharesFile ? 'WAL' : 'DELETE';
    database.exec(`PRAGMA busy_timeout = ${BUSY_TIMEOUT_MS}; PRAGMA journal_mode = ${mode}; PRAGMA synchronous = FULL`);
    return database;
  } catch (error) {
    database?.close();
    const code = Number((error as { errcode?: unknown }).errcode) & 0xff;
    const { message } = error as Error;
    if (code === SQLITE_CORRUPT || code === SQLITE_NOTADB) {
      const advice = 'nothing was changed. Put the file that belongs to this log back';
      throw new NaruError('DATA_CORRUPT', `${path} cannot be read as metadata (${message}): ${advice}`, {
        cause: error,
      });
    }
    throw new NaruError('DATA_DIRECTORY_NOT_WRITABLE', `${path} cannot be opened: ${message}`, { cause: error });
  }
}
