/** Values to bytes and back. */
import { NaruError } from '@naru/protocol';

export interface Serde<T> {
  /** For messages. */
  readonly name: string;
  /** Null is a record without a value: a tombstone in a compacted topic. */
  serialize(value: T): Uint8Array | null;
  deserialize(bytes: Uint8Array | null): T;
}

const strictDecoder = new TextDecoder('utf-8', { fatal: true });

/** JSON text in UTF-8, the default. `null` becomes a record without a value, and back. */
export const json: Serde<unknown> = {
  name: 'json',
  serialize(value) {
    if (value === null) return null;
    const text = JSON.stringify(value) as string | undefined;
    if (text === undefined) throw new TypeError(`${typeof value} has no JSON form`);
    return Buffer.from(text, 'utf8');
  },
  deserialize(bytes) {
    return bytes === null ? null : (JSON.parse(strictDecoder.decode(bytes)) as unknown);
  },
};

/** Bytes as they are. They are copied when published; what a subscriber gets is shared with its batch. */
export const bytes: Serde<Uint8Array | null> = {
  name: 'bytes',
  serialize(value) {
    if (value !== null && !(value instanceof Uint8Array)) throw new TypeError('expected a Uint8Array');
    return value;
  },
  deserialize: (value) => value,
};

/** Text in UTF-8. */
export const string: Serde<string | null> = {
  name: 'string',
  serialize(value) {
    if (value !== null && typeof value !== 'string') throw new TypeError('expected a string');
    return value === null ? null : Buffer.from(value, 'utf8');
  },
  deserialize: (value) => (value === null ? null : strictDecoder.decode(value)),
};

/** @throws NaruError SERIALIZATION */
export function serializeValue<T>(serde: Serde<T>, value: T, topic: string): Uint8Array | null {
  try {
    return serde.serialize(value);
  } catch (error) {
    throw new NaruError('SERIALIZATION', `value for ${topic} is not ${serde.name}: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

/** @throws NaruError SERIALIZATION */
export function deserializeValue<T>(serde: Serde<T>, value: Uint8Array | null, where: string): T {
  try {
    return serde.deserialize(value);
  } catch (error) {
    throw new NaruError('SERIALIZATION', `value of ${where} is not ${serde.name}: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
