/**
 * Errors of PostgreSQL and of the way to it, as errors that stores understand.
 *
 * - STORAGE_UNAVAILABLE: waiting can heal it. The outcome of what was asked may be unknown.
 * - STORAGE_FULL: nothing was changed; waiting can heal it.
 * - DATA_CORRUPT, STORAGE_ERROR: waiting cannot.
 */
import { toError } from '@naru/base';
import { isNaruError, NaruError } from '@naru/protocol';
import type { ErrorCode } from '@naru/protocol';

/** SQLSTATEs (PostgreSQL, appendix A), whole or by their class. */
const CODES: Readonly<Record<string, ErrorCode>> = {
  '08': 'STORAGE_UNAVAILABLE', // connection exceptions
  '25006': 'STORAGE_UNAVAILABLE', // read-only: a standby, until it is promoted or the way leads elsewhere
  '25P03': 'STORAGE_UNAVAILABLE', // idle in a transaction for too long
  '40': 'STORAGE_UNAVAILABLE', // serialization failure, deadlock
  '53': 'STORAGE_UNAVAILABLE', // too many connections, out of memory
  '53100': 'STORAGE_FULL',
  '55P03': 'STORAGE_UNAVAILABLE', // a lock that somebody else holds
  '57': 'STORAGE_UNAVAILABLE', // shutting down, starting up, statement time-out
  '58030': 'STORAGE_ERROR', // I/O error
  XX001: 'DATA_CORRUPT',
  XX002: 'DATA_CORRUPT',
};

/** Errors while connecting that are the settings' fault: user, password, database, permissions. */
const SETTINGS_STATES = new Set(['28000', '28P01', '3D000', '3F000', '42501']);

/** The SQLSTATE of an error that the server sent; undefined for errors of the connection. */
export function sqlState(error: unknown): string | undefined {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === 'string' && /^[0-9A-Z]{5}$/.test(code) && 'severity' in (error as object) ? code : undefined;
}

/** @param target where the database is, to be shown */
export function postgresError(error: unknown, target: string): NaruError {
  if (isNaruError(error)) return error;
  const state = sqlState(error);
  const { message } = toError(error);
  if (state === undefined) {
    return new NaruError('STORAGE_UNAVAILABLE', `the database ${target} cannot be reached: ${message}`, {
      cause: error,
    });
  }
  const code = CODES[state] ?? CODES[state.slice(0, 2)] ?? 'STORAGE_ERROR';
  return new NaruError(code, `the database ${target} says: ${message} (${state})`, { cause: error });
}

/** The same while a broker starts. */
export function postgresStartError(error: unknown, target: string): NaruError {
  const state = sqlState(error) ?? sqlState((error as { cause?: unknown } | null)?.cause);
  if (state === undefined || !SETTINGS_STATES.has(state)) return postgresError(error, target);
  const message = `the database ${target} refuses the broker: ${toError(error).message} (${state})`;
  return new NaruError('INVALID_CONFIGURATION', message, { cause: error });
}
