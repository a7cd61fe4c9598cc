/**
 * Opens an SQLite database that nobody else uses, for reading, so that not even SQLite changes a file beside it.
 *
 * What a process leaves that is killed is still read as it should be: a write-ahead log is read with the file; a rollback
 * journal, which would have to be played back into the file, is played back into a copy among the temporary files.
 */
import { copyFileSync, existsSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { pathToFileURL } from 'node:url';

/** @throws the platform's or SQLite's error when it cannot be opened */
export async function withDatabaseAtRest<T>(path: string, use: (database: DatabaseSync) => Promise<T> | T): Promise<T> {
  if (!isThere(`${path}-journal`)) return open(uriOf(path), true, use);
  const directory = mkdtempSync(join(tmpdir(), 'naru-doctor-'));
  try {
    const copy = join(directory, basename(path));
    copyFileSync(path, copy);
    copyFileSync(`${path}-journal`, `${copy}-journal`);
    return await open(copy, false, use);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** With nothing beside it, the file is all there is. Otherwise the index of the write-ahead log is read, never made. */
function uriOf(path: string): URL {
  const uri = pathToFileURL(path);
  uri.search = isThere(`${path}-wal`) ? 'readonly_shm=1' : 'immutable=1';
  return uri;
}

function isThere(path: string): boolean {
  return existsSync(path) && statSync(path).size > 0;
}

async function open<T>(
  path: string | URL,
  readOnly: boolean,
  use: (database: DatabaseSync) => Promise<T> | T,
): Promise<T> {
  const database = new DatabaseSync(path, { readOnly });
  try {
    // SQLite looks at the file when it reads, not when it opens.
    database.prepare('SELECT count(*) FROM sqlite_schema').get();
    return await use(database);
  } finally {
    database.close();
  }
}
