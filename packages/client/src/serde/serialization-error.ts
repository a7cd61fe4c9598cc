/** What is wrong with a value, its bytes or a schema: which format, whose schema, and where. */
import { NaruError } from '@naru/protocol';

/** Findings that an error lists at most. */
export const MAX_VIOLATIONS = 10;

/** One thing that is wrong. */
export interface Violation {
  /** JSON pointer (RFC 6901); empty for the whole. */
  readonly path: string;
  readonly message: string;
}

export interface SerializationDetails {
  /** The serde's name: `json`, `avro`, … */
  readonly format: string;
  /** Of the schema registry. */
  readonly subject?: string | undefined;
  readonly schemaId?: number | undefined;
  /** At most {@link MAX_VIOLATIONS}, the first the most telling. */
  readonly violations?: readonly Violation[] | undefined;
}

/**
 * Code SERIALIZATION, never retriable: the same value, bytes or schema will fail again. A registry that does not answer is
 * another error, NETWORK.
 */
export class SerializationError extends NaruError implements SerializationDetails {
  override readonly name: string = 'SerializationError';
  readonly format: string;
  readonly subject: string | undefined;
  readonly schemaId: number | undefined;
  readonly violations: readonly Violation[];

  constructor(message: string, details: SerializationDetails, options?: { cause?: unknown }) {
    super('SERIALIZATION', message, options);
    this.format = details.format;
    this.subject = details.subject;
    this.schemaId = details.schemaId;
    this.violations = (details.violations ?? []).slice(0, MAX_VIOLATIONS);
  }

  /** JSON pointer to what is wrong, into the value or, for a broken schema, into the schema; undefined when not known. */
  get path(): string | undefined {
    return this.violations[0]?.path;
  }

  /** An error of one place, or of several. */
  static of(format: string, violations: readonly Violation[], cause?: unknown): SerializationError {
    const shown = violations.slice(0, 3).map(describeViolation);
    const more = violations.length > shown.length ? `; and ${violations.length - shown.length} more` : '';
    return new SerializationError(`${shown.join('; ')}${more}`, { format, violations }, { cause });
  }

  static at(format: string, path: string, message: string, cause?: unknown): SerializationError {
    return SerializationError.of(format, [{ path, message }], cause);
  }

  /** The same with words before its message, and what its thrower did not know. */
  within(prefix: string, more: Partial<SerializationDetails> = {}): SerializationError {
    const details = {
      format: more.format ?? this.format,
      subject: more.subject ?? this.subject,
      schemaId: more.schemaId ?? this.schemaId,
      violations: this.violations,
    };
    return new SerializationError(`${prefix}${this.message}`, details, { cause: this.cause ?? this });
  }
}

function describeViolation({ path, message }: Violation): string {
  return path === '' ? message : `${path}: ${message}`;
}

/** A JSON pointer of keys, escaped. */
export function pointer(keys: readonly (string | number)[]): string {
  return keys.map((key) => `/${String(key).replaceAll('~', '~0').replaceAll('/', '~1')}`).join('');
}

/** What somebody passed, for a message: short, whatever it is. */
export function describeValue(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  if (typeof value === 'string')
    return value.length > 40 ? `text of ${value.length} characters` : JSON.stringify(value);
  if (typeof value === 'bigint') return `${String(value)}n`;
  if (typeof value === 'number' || typeof value === 'boolean') return String(value);
  if (typeof value === 'function' || typeof value === 'symbol') return `a ${typeof value}`;
  if (Array.isArray(value)) return `an array of ${value.length}`;
  if (value instanceof Uint8Array) return `${value.length} bytes`;
  return 'an object';
}

export function messageOf(error: unknown): string {
  if (error instanceof RangeError && /call stack/i.test(error.message)) return 'nested too deeply';
  return error instanceof Error ? error.message : String(error);
}
