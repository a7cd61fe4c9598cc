/**
 * Keeps a second process, or a second broker in this process, off a data directory.
 *
 * An SQLite database held in an exclusive transaction: a lock that the operating system drops when the process ends,
 * however it ends, and that does not depend on a process id which another process may have by now.
 */
import { existsSync, mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { NaruError } from '@naru/protocol';

const LOCK_FILE = 'lock.db';
/** SQLite's primary result codes. */
const SQLITE_BUSY = 5;
const SQLITE_LOCKED = 6;

export interface DataDirectoryLock {
  /** Lets others in. Called once, last. */
  release(): void;
}

/**
 * Takes the directory, creating it when missing.
 *
 * @throws NaruError DATA_DIRECTORY_IN_USE, DATA_DIRECTORY_NOT_WRITABLE
 */
export function lockDataDirectory(path: string): DataDirectoryLock {
  let database: DatabaseSync | null = null;
  try {
    makeDirectories(path);
    database = new DatabaseSync(`${path}/${LOCK_FILE}`, { timeout: 0 });
    database.exec('PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE;');
  } catch (error) {
    database?.close();
    throw lockError(error, path);
  }
  const held = database;
  return { release: () => held.close() };
}

/**
 * Keeps brokers off while the directory is only read; any number of readers may. Creates and writes nothing.
 *
 * @returns null where no broker has ever locked the directory, so that there is nothing to hold
 * @throws NaruError DATA_DIRECTORY_IN_USE, STORAGE_ERROR when the lock cannot be read
 */
export function shareDataDirectory(path: string): DataDirectoryLock | null {
  if (!existsSync(`${path}/${LOCK_FILE}`)) return null;
  let database: DatabaseSync | null = null;
  try {
    database = new DatabaseSync(`${path}/${LOCK_FILE}`, { readOnly: true, timeout: 0 });
    // The lock for reading comes with the first read, and stays until the transaction ends.
    database.exec('BEGIN');
    database.prepare('SELECT count(*) FROM sqlite_master').get();
  } catch (error) {
    database?.close();
    if (lockError(error, path).code === 'DATA_DIRECTORY_IN_USE') {
      const message = `a broker is running on the data directory ${path}: stop it first`;
      throw new NaruError('DATA_DIRECTORY_IN_USE', message, { cause: error });
    }
    const text = error instanceof Error ? error.message : String(error);
    throw new NaruError('STORAGE_ERROR', `${path}/${LOCK_FILE} cannot be read: ${text}`, { cause: error });
  }
  const held = database;
  return { release: () => held.close() };
}

/** Not node's `recursive`: where a directory cannot be made although its parent exists (in /proc), that never returns. */
function makeDirectories(path: string): void {
  if (existsSync(path)) return;
  const parent = dirname(path);
  if (parent !== path) makeDirectories(parent);
  mkdirSync(path, { mode: 0o750 });
}

function lockError(error: unknown, path: string): NaruError {
  const code = (error as { errcode?: unknown }).errcode;
  const primary = typeof code === 'number' ? code & 0xff : undefined;
  if (primary === SQLITE_BUSY || primary === SQLITE_LOCKED) {
    const message = `the data directory ${path} is in use by another broker, or is being verified`;
    return new NaruError('DATA_DIRECTORY_IN_USE', message, { cause: error });
  }
  const text = error instanceof Error ? error.message : String(error);
  return new NaruError('DATA_DIRECTORY_NOT_WRITABLE', `the data directory ${path} is not writable: ${text}`, {
    cause: error,
  });
}
