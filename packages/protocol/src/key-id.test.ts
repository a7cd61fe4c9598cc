import { expect, it } from 'vitest';
import { keyId } from './key-id.ts';

it('is the key itself for a short key, also for an empty one', () => {
  expect(keyId(Uint8Array.of(0, 10, 255))).toBe('=000aff');
  expect(keyId(new Uint8Array())).toBe('=');
});

it('tells long keys with the same beginning apart', () => {
  const key = new Uint8Array(65).fill(7);
  const other = key.slice();
  other[64] = 8;
  expect(keyId(key)).not.toBe(keyId(other));
  expect(keyId(key)).toBe(keyId(key.slice()));
  expect(keyId(key).length).toBeLessThan(160);
  expect(keyId(key.subarray(0, 64))).toBe(`=${'07'.repeat(64)}`);
});
