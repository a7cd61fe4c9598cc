/**
 * Names of keys, by which broker and SDK tell each other which keys are blocked.
 *
 * Equal keys have equal ids. Different keys of up to {@link MAX_EXACT_BYTES} have different ones; longer ones share an id only when
 * their beginning, length and hash are equal, and then merely wait for each other.
 */
import { murmur2 } from './murmur2.ts';

const MAX_EXACT_BYTES = 64;

/**
 * @param key of a record
 * @returns `=` and the key's bytes in hexadecimal; for a long key `#`, its length, its hash and its beginning
 */
export function keyId(key: Uint8Array): string {
  if (key.length <= MAX_EXACT_BYTES) return `=${hex(key)}`;
  const hash = (murmur2(key) >>> 0).toString(16).padStart(8, '0');
  return `#${key.length}.${hash}.${hex(key.subarray(0, MAX_EXACT_BYTES))}`;
}

function hex(bytes: Uint8Array): string {
  let text = '';
  for (const byte of bytes) text += (byte < 16 ? '0' : '') + byte.toString(16);
  return text;
}
