/**
 * For tests: values that tell where they came from, so that what a foreign decoder made of a message can be compared
 * without knowing its names for the fields. Error codes are zero, for which decoders do not throw.
 */
import type { TopicId } from '@naru/base';
import type { ValueSource } from './sample-message.ts';

export interface DistinctValues extends ValueSource {
  /** Path of the field by the text of the value that was given to it. */
  readonly written: ReadonlyMap<string, string>;
}

/** Everything is there, arrays have two elements, record batches none. */
export function distinctValues(): DistinctValues {
  const written = new Map<string, string>();
  let n = 0;
  const note = <T>(value: T, text: string, path: string): T => {
    written.set(text, path);
    return value;
  };
  return {
    written,
    integer(_, max, path) {
      if (/errorCode$/i.test(path)) return 0;
      n += 1;
      // An int8 has room for few.
      const value = max === 127 ? 10 + (n % 100) : max > 2 ** 31 ? 10_000_000_000 + n : 1000 + n;
      return note(value, String(value), path);
    },
    boolean: () => true,
    text(path) {
      const text = `text-${(n += 1)}`;
      return note(text, text, path);
    },
    bytes(path) {
      const text = `bytes-${(n += 1)}`;
      return note(new TextEncoder().encode(text), text, path);
    },
    uuid(path) {
      const text = `01234567-89ab-cdef-0123-${String((n += 1)).padStart(12, '0')}`;
      return note(text as TopicId, text, path);
    },
    takesNull: (path) => /errorMessage$/i.test(path),
    arrayLength: (path) => (path.endsWith('records') ? 0 : 2),
  };
}

/** The texts of all numbers, texts and bytes within a value, but for zeros and ''. */
export function leavesOf(value: unknown, found = new Set<string>()): Set<string> {
  if (typeof value === 'string' || typeof value === 'bigint' || typeof value === 'number') {
    if (value !== '' && Number(value) !== 0) found.add(String(value));
  } else if (value instanceof Uint8Array) {
    leavesOf(new TextDecoder().decode(value), found);
  } else if (value instanceof Map || value instanceof Set) {
    leavesOf([...value], found);
  } else if (typeof value === 'object' && value !== null) {
    for (const inner of Object.values(value)) leavesOf(inner, found);
  }
  return found;
}
