/** Errors of node:sqlite, as errors that the store understands. */
import { toError } from '@naru/base';
import { isNaruError, NaruError } from '@naru/protocol';
import type { ErrorCode } from '@naru/protocol';

/** SQLite's primary result codes. */
const SQLITE = { busy: 5, locked: 6, readonly: 8, corrupt: 11, full: 13, cantOpen: 14, notADatabase: 26 } as const;

const CODES = new Map<number, ErrorCode>([
  // Another program holds the file, for a backup say.
  [SQLITE.busy, 'STORAGE_UNAVAILABLE'],
  [SQLITE.locked, 'STORAGE_UNAVAILABLE'],
  [SQLITE.full, 'STORAGE_FULL'],
  [SQLITE.corrupt, 'DATA_CORRUPT'],
  [SQLITE.notADatabase, 'DATA_CORRUPT'],
]);

function primaryCode(error: unknown): number {
  return Number((error as { errcode?: unknown } | null)?.errcode) & 0xff;
}

/** Of a statement on an open database. */
export function sqliteError(error: unknown, path: string): NaruError {
  if (isNaruError(error)) return error;
  const code = CODES.get(primaryCode(error)) ?? 'STORAGE_ERROR';
  return new NaruError(code, `${path}: ${toError(error).message}`, { cause: error });
}

/** Of opening it. */
export function sqliteOpenError(error: unknown, path: string): NaruError {
  if (isNaruError(error)) return error;
  const code = primaryCode(error);
  const { message } = toError(error);
  if (code === SQLITE.corrupt || code === SQLITE.notADatabase) {
    const advice = 'nothing was changed. Put a sound copy of the database back';
    return new NaruError('DATA_CORRUPT', `${path} cannot be read as the broker's database (${message}): ${advice}`, {
      cause: error,
    });
  }
  if (code === SQLITE.readonly || code === SQLITE.cantOpen)
    return new NaruError('DATA_DIRECTORY_NOT_WRITABLE', `${path} cannot be opened: ${message}`, { cause: error });
  return sqliteError(error, path);
}
