/**
 * From a line of input to what is published: checks that it is JSON, and finds its key.
 *
 * The bytes are published as they came: parsing is for checking only, so that no digit is lost.
 */
import { NaruError } from '@naru/protocol';
import { resolvePointer, type JsonPointer } from './json-pointer.ts';

export interface EventInput {
  readonly key: string | null;
  /** Null is an event without a value: a tombstone in a compacted topic. */
  readonly value: Uint8Array | null;
}

export interface EventInputOptions {
  readonly key?: string | undefined;
  /** Where in the value the key is. */
  readonly keyField?: JsonPointer | undefined;
  /** Publish bytes as they are, whatever they are. */
  readonly raw: boolean;
}

const strictDecoder = new TextDecoder('utf-8', { fatal: true });

/** @throws NaruError SERIALIZATION for a value that is not JSON or lacks its key */
export function readEventInput(bytes: Uint8Array, { key, keyField, raw }: EventInputOptions): EventInput {
  if (raw) return { key: key ?? null, value: bytes };
  const value = parse(bytes);
  const fieldKey = keyField === undefined ? null : keyText(value, keyField);
  return { key: key ?? fieldKey, value: value === null ? null : bytes };
}

function parse(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(strictDecoder.decode(bytes)) as unknown;
  } catch (error) {
    const why = error instanceof SyntaxError ? error.message : 'it is not UTF-8';
    throw new NaruError(
      'SERIALIZATION',
      `not JSON: ${why}. Put text in double quotes, or publish it as it is with --raw`,
      {
        cause: error,
      },
    );
  }
}

function keyText(value: unknown, pointer: JsonPointer): string {
  const found = resolvePointer(value, pointer);
  if (typeof found === 'string') return found;
  if (typeof found === 'boolean') return String(found);
  if (typeof found === 'number') {
    // Beyond that, two different numbers could become one key.
    if (Math.abs(found) <= Number.MAX_SAFE_INTEGER) return String(found);
    throw new NaruError('SERIALIZATION', `the key at ${pointer.text} is a number too large to be exact: make it text`);
  }
  const what = found === undefined ? 'missing' : found === null ? 'null' : 'no text, number or boolean';
  throw new NaruError('SERIALIZATION', `the key at ${pointer.text} is ${what}`);
}
