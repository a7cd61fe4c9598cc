/** Errors of the schema registry on the wire: HTTP status, Confluent's error code, message. */
import { ERRORS, isNaruError, type Refusal } from '@naru/protocol';
import type { SchemaRefusal, SchemaRefusalReason } from '../../core/schema-registry/index.ts';

/** Thrown by what reads a request; answered as it is. */
export class RegistryError extends Error {
  override readonly name = 'RegistryError';
  readonly status: number;
  readonly errorCode: number;

  constructor(status: number, errorCode: number, message: string) {
    super(message);
    this.status = status;
    this.errorCode = errorCode;
  }
}

const CODES: Readonly<Record<SchemaRefusalReason, readonly [status: number, errorCode: number]>> = {
  SUBJECT_NOT_FOUND: [404, 40401],
  VERSION_NOT_FOUND: [404, 40402],
  SCHEMA_NOT_FOUND: [404, 40403],
  SUBJECT_SOFT_DELETED: [404, 40404],
  SUBJECT_NOT_SOFT_DELETED: [404, 40405],
  VERSION_SOFT_DELETED: [404, 40406],
  VERSION_NOT_SOFT_DELETED: [404, 40407],
  COMPATIBILITY_NOT_CONFIGURED: [404, 40408],
  MODE_NOT_CONFIGURED: [404, 40409],
  INVALID_SCHEMA: [422, 42201],
  OPERATION_NOT_PERMITTED: [422, 42205],
  REFERENCE_EXISTS: [422, 42206],
  ID_DOES_NOT_MATCH: [422, 42207],
  INVALID_SUBJECT: [422, 42208],
  INCOMPATIBLE: [409, 409],
};

const STORE_ERROR = 50001;

export function refusedBySchemas({ refused, message }: SchemaRefusal): RegistryError {
  const [status, errorCode] = CODES[refused];
  return new RegistryError(status, errorCode, message);
}

export function refusedByBroker({ code, message }: Refusal): RegistryError {
  return new RegistryError(ERRORS[code].retriable ? 503 : 500, STORE_ERROR, `${message} (${code})`);
}

/** Null for what nobody expected. */
export function asRegistryError(error: unknown): RegistryError | null {
  if (error instanceof RegistryError) return error;
  return isNaruError(error) ? refusedByBroker(error.toRefusal()) : null;
}

export const notFound = (): RegistryError => new RegistryError(404, 404, 'HTTP 404 Not Found');
export const methodNotAllowed = (): RegistryError => new RegistryError(405, 405, 'HTTP 405 Method Not Allowed');
export const unsupportedMediaType = (): RegistryError =>
  new RegistryError(
    415,
    415,
    'HTTP 415 Unsupported Media Type: send application/vnd.schemaregistry.v1+json or application/json',
  );

export function invalidVersion(text: string): RegistryError {
  const allowed = 'Allowed values are between [1, 2^31-1] and the string "latest"';
  return new RegistryError(422, 42202, `The specified version '${text}' is not a valid version id. ${allowed}`);
}

export function unprocessable(message: string): RegistryError {
  return new RegistryError(422, 422, message);
}
