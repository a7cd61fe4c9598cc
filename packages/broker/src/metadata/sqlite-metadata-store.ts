/**
 * The embedded metadata store: one node:sqlite database, written with synchronous=FULL, so that a commit is durable when
 * it returns. `:memory:` serves brokers that keep nothing.
 */
import { DatabaseSync } from 'node:sqlite';
import { NaruError } from '@naru/protocol';
import type {
  CommitResult,
  MetadataChange,
  MetadataCondition,
  MetadataEntry,
  MetadataSnapshot,
  MetadataStore,
  Revision,
} from './metadata-store.ts';

const FORMAT_VERSION = 1;

/** SQLite's primary result codes. */
const SQLITE_CORRUPT = 11;
const SQLITE_NOTADB = 26;

/** Commits that a watcher may lag behind before it must take a snapshot anew. */
const HISTORY_LIMIT = 10_000;

interface Commit {
  readonly revision: Revision;
  readonly changes: readonly MetadataChange[];
}

export class SqliteMetadataStore implements MetadataStore {
  readonly #database: DatabaseSync;
  readonly #history: Commit[] = [];
  readonly #watchers = new Set<() => void>();
  #revision: Revision;
  #closed = false;

  /** @param path of the database file, created when missing; `:memory:` keeps nothing. */
  constructor(path: string) {
    this.#database = openDatabase(path);
    const version = Number(this.#database.prepare('PRAGMA user_version').get()?.['user_version']);
    if (version > FORMAT_VERSION) {
      this.#database.close();
      throw new NaruError(
        'DATA_DIRECTORY_VERSION',
        `${path} has format ${version}, this version of Naru reads up to ${FORMAT_VERSION}: start the version that wrote it`,
      );
    }
    this.#database.exec(`
      CREATE TABLE IF NOT EXISTS entries (key TEXT PRIMARY KEY, value TEXT NOT NULL, revision INTEGER NOT NULL) STRICT;
      CREATE TABLE IF NOT EXISTS state (only INTEGER PRIMARY KEY CHECK (only = 1), revision INTEGER NOT NULL) STRICT;
      INSERT OR IGNORE INTO state VALUES (1, 0);
      PRAGMA user_version = ${FORMAT_VERSION};
    `);
    this.#revision = Number(this.#database.prepare('SELECT revision FROM state').get()?.['revision']);
  }

  async snapshot(): Promise<MetadataSnapshot> {
    const rows = this.#database.prepare('SELECT key, value, revision FROM entries ORDER BY key').all();
    const entries = rows.map((row): MetadataEntry => ({
      key: String(row['key']),
      value: JSON.parse(String(row['value'])) as unknown,
      revision: Number(row['revision']),
    }));
    return { revision: this.#revision, entries };
  }

  async commit(conditions: readonly MetadataCondition[], changes: readonly MetadataChange[]): Promise<CommitResult> {
    const revisionOf = this.#database.prepare('SELECT revision FROM entries WHERE key = ?');
    for (const { key, revision } of conditions) {
      const row = revisionOf.get(key);
      if ((row === undefined ? 0 : Number(row['revision'])) !== revision) return { ok: false, key };
    }
    const revision = this.#revision + 1;
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
    this.#revision = revision;
    this.#history.push({ revision, changes });
    if (this.#history.length > HISTORY_LIMIT) this.#history.shift();
    for (const wake of this.#watchers) wake();
    return { ok: true, revision };
  }

  async *watch(afterRevision: Revision, signal: AbortSignal): AsyncIterable<Commit> {
    let seen = afterRevision;
    while (!signal.aborted && !this.#closed) {
      const oldest = this.#history[0]?.revision ?? this.#revision + 1;
      if (seen + 1 < oldest) {
        throw new NaruError(
          'OFFSET_OUT_OF_RANGE',
          `revision ${seen} is no longer in the watch history: take a snapshot`,
        );
      }
      const next = this.#history[seen + 1 - oldest];
      if (next !== undefined) {
        seen = next.revision;
        yield next;
        continue;
      }
      await new Promise<void>((resolve) => {
        const wake = (): void => {
          this.#watchers.delete(wake);
          signal.removeEventListener('abort', wake);
          resolve();
        };
        this.#watchers.add(wake);
        signal.addEventListener('abort', wake, { once: true });
      });
    }
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    for (const wake of this.#watchers) wake();
    this.#database.close();
  }
}

/** @throws NaruError DATA_CORRUPT when the file is no database, DATA_DIRECTORY_NOT_WRITABLE when it cannot be opened */
function openDatabase(path: string): DatabaseSync {
  let database: DatabaseSync | null = null;
  try {
    database = new DatabaseSync(path);
    database.exec('PRAGMA journal_mode = DELETE; PRAGMA synchronous = FULL');
    return database;
  } catch (error) {
    database?.close();
    const code = Number((error as { errcode?: unknown }).errcode) & 0xff;
    const { message } = error as Error;
    if (code === SQLITE_CORRUPT || code === SQLITE_NOTADB) {
      const advice = 'nothing was changed. Put the metadata.db that belongs to this log back';
      throw new NaruError('DATA_CORRUPT', `${path} cannot be read as metadata (${message}): ${advice}`, {
        cause: error,
      });
    }
    throw new NaruError('DATA_DIRECTORY_NOT_WRITABLE', `${path} cannot be opened: ${message}`, { cause: error });
  }
}
