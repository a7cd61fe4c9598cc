import { crc32c as native } from '@node-rs/crc32';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { crc32c, portableCrc32c } from './crc32c.ts';

const text = (value: string): Uint8Array => new TextEncoder().encode(value);

describe('crc32c', () => {
  test.each([
    ['nothing', new Uint8Array(0), 0],
    ['the check value of the algorithm', text('123456789'), 0xe3069283],
    ['RFC 3720 B.4: 32 bytes of zeros', new Uint8Array(32), 0x8a9136aa],
    ['RFC 3720 B.4: 32 bytes of ones', new Uint8Array(32).fill(0xff), 0x62a8ab43],
    ['RFC 3720 B.4: 32 bytes going up', Uint8Array.from({ length: 32 }, (_, i) => i), 0x46dd794e],
    ['RFC 3720 B.4: 32 bytes going down', Uint8Array.from({ length: 32 }, (_, i) => 31 - i), 0x113fdb5c],
  ])('has the published value for %s', (_, bytes, expected) => {
    expect(crc32c(bytes)).toBe(expected);
    expect(portableCrc32c(bytes)).toBe(expected);
  });

  test('is the same in JavaScript as in the native binding, for every length and start', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 700 }), fc.nat({ max: 0xffff_ffff }), (bytes, initial) => {
        expect(portableCrc32c(bytes, initial)).toBe(native(bytes, initial));
        expect(crc32c(bytes, initial)).toBe(native(bytes, initial));
      }),
    );
  });

  test('goes on over several buffers', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 600 }), fc.nat({ max: 600 }), (bytes, cut) => {
        expect(crc32c(bytes.subarray(cut), crc32c(bytes.subarray(0, cut)))).toBe(crc32c(bytes));
      }),
    );
  });
});
