/**
 * Keys that reach an object's prototype in careless code: `__proto__`, and `prototype` in `constructor`. What JSON.parse makes
 * of them is harmless; what merges and copies behind it make of that is not.
 */
import { SerializationError, pointer } from './serialization-error.ts';

/** Whether a character of such a key is written as an escape somewhere in the text. */
const HIDDEN = /\\u00(?:5f|65|6f|7[0249])/i;

interface Open {
  readonly value: object;
  readonly parent: Open | null;
  readonly key: string;
}

/**
 * @param text what `value` was parsed from: as good as never does it need more than two looks at it
 * @throws SerializationError with the path
 */
export function checkNoPrototypeKeys(text: string, value: unknown): void {
  const isHidden = text.includes('\\u00') && HIDDEN.test(text);
  // Without the quotation mark before it, of which there are many to stop at.
  if (!isHidden && !text.includes('__proto__') && !text.includes('prototype"')) return;
  const found = findPrototypeKey(value);
  if (found !== null) throw SerializationError.at('json', pointer(found), `the key ${found.at(-1)} is not allowed`);
}

/** Path of the first such key; null for none. Without recursion, however deep the value. */
export function findPrototypeKey(value: unknown): string[] | null {
  if (typeof value !== 'object' || value === null) return null;
  const open: Open[] = [{ value, parent: null, key: '' }];
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    for (const [key, inner] of Object.entries(next.value) as [string, unknown][]) {
      const isBad = key === '__proto__' || (key === 'prototype' && next.key === 'constructor' && next.parent !== null);
      if (isBad) return [...pathOf(next), key];
      if (typeof inner === 'object' && inner !== null) open.push({ value: inner, parent: next, key });
    }
  }
  return null;
}

function pathOf(open: Open): string[] {
  const keys: string[] = [];
  for (let at = open; at.parent !== null; at = at.parent) keys.unshift(at.key);
  return keys;
}
