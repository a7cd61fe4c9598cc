import { topicIdFromBytes } from '@naru/base';
import type { TopicId } from '@naru/base';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { decodeRequestId, encodeRequestId } from './request-id.ts';

const ALPHABET = '0123456789abcdefghjkmnpqrstvwxyz';
const topicId = fc.uint8Array({ minLength: 16, maxLength: 16 }).map(topicIdFromBytes);
const partition = fc.oneof(fc.nat({ max: 300 }), fc.nat({ max: 2 ** 31 - 1 }));
const offset = fc.oneof(fc.nat({ max: 300 }), fc.maxSafeNat(), fc.constantFrom(127, 128, 2 ** 32, 2 ** 53 - 1));
const place = fc.record({ topicId, partition, offset });
const id = place.map((p) => encodeRequestId(p.topicId, p.partition, p.offset));

const sample = encodeRequestId('0190a1b2-c3d4-7e5f-8a6b-7c8d9e0f1a2b' as TopicId, 3, 123_456);

describe('request ids', () => {
  test('have one text that does not change between versions', () => {
    expect(encodeRequestId('00000000-0000-0000-0000-000000000000' as TopicId, 0, 0)).toBe('0'.repeat(30));
    // Worked out apart from this code, the check character as a sum of digits times powers of x.
    expect(sample).toBe('068a3cp3thz5z2kbfj6sw3rt5c1w1h07m');
  });

  test('give back topic, partition and offset', () => {
    fc.assert(
      fc.property(place, (p) => {
        expect(decodeRequestId(encodeRequestId(p.topicId, p.partition, p.offset))).toEqual(p);
      }),
    );
  });

  test('are read in any case, and with o, i and l for 0 and 1', () => {
    fc.assert(
      fc.property(id, fc.boolean(), (text, upper) => {
        const typed = text.replaceAll('0', 'o').replace('1', 'i').replaceAll('1', 'l');
        expect(decodeRequestId(upper ? typed.toUpperCase() : typed)).toEqual(decodeRequestId(text));
      }),
    );
  });

  test('are refused with any one character wrong', () => {
    fc.assert(
      fc.property(id, (text) => {
        for (let i = 0; i < text.length; i++) {
          for (const other of ALPHABET) {
            if (other === text[i]) continue;
            expect(decodeRequestId(text.slice(0, i) + other + text.slice(i + 1))).toHaveProperty(
              'code',
              'INVALID_REQUEST',
            );
          }
        }
      }),
      { numRuns: 20 },
    );
  });

  test('are refused with any two different neighbours exchanged', () => {
    fc.assert(
      fc.property(id, (text) => {
        for (let i = 0; i + 1 < text.length; i++) {
          if (text[i] === text[i + 1]) continue;
          const swapped = text.slice(0, i) + text[i + 1] + text[i] + text.slice(i + 2);
          expect(decodeRequestId(swapped)).toHaveProperty('code', 'INVALID_REQUEST');
        }
      }),
    );
  });

  test('have no second spelling: whatever text is read is, in lower case, the text that would be written', () => {
    // Random texts with a right check character reach the rules on varints and padding.
    const digits = fc.array(fc.nat({ max: 31 }), { minLength: 29, maxLength: 46 });
    let read = 0;
    fc.assert(
      fc.property(digits, (list) => {
        const text = withCheck(list);
        const result = decodeRequestId(text);
        if ('code' in result) return;
        read += 1;
        expect(encodeRequestId(result.topicId, result.partition, result.offset)).toBe(text);
      }),
      { numRuns: 5000 },
    );
    expect(read).toBeGreaterThan(0);
  });

  test.each([
    ['nothing', ''],
    ['a letter that is not in the alphabet', sample.replace('c', 'u')],
    ['a space', `${sample} `],
    ['white space inside', sample.replace('c', ' ')],
    ['half of one', sample.slice(0, 16)],
    ['two in a row', sample + sample],
    ['a letter that becomes two in lower case', sample.replace('c', 'İ')],
    ['a million characters', '0'.repeat(1_000_000)],
  ])('are refused: %s', (_, text) => {
    expect(decodeRequestId(text)).toMatchObject({ code: 'INVALID_REQUEST' });
  });

  test.each([
    ['a partition in two bytes where one does', [...Array<number>(16).fill(0), 0x80, 0, 0]],
    ['an offset in two bytes where one does', [...Array<number>(16).fill(0), 0, 0x81, 0]],
    ['a partition above 2³¹−1', [...Array<number>(16).fill(0), 0x80, 0x80, 0x80, 0x80, 0x08, 0]],
    ['an offset above 2⁵³−1', [...Array<number>(16).fill(0), 0, ...Array<number>(7).fill(0xff), 0x1f]],
    ['an offset that is cut short', [...Array<number>(16).fill(0), 0, 0xff]],
    ['a byte after the offset', [...Array<number>(16).fill(0), 0, 1, 1]],
  ])('are refused with a right check character and %s', (_, bytes) => {
    expect(decodeRequestId(withCheck(toDigits(bytes)))).toMatchObject({ code: 'INVALID_REQUEST' });
  });

  test('are not made from what is no partition or offset', () => {
    const topic = '0190a1b2-c3d4-7e5f-8a6b-7c8d9e0f1a2b' as TopicId;
    for (const bad of [-1, 1.5, 2 ** 31]) expect(() => encodeRequestId(topic, bad, 0)).toThrow('partition');
    for (const bad of [-1, 1.5, 2 ** 53]) expect(() => encodeRequestId(topic, 0, bad)).toThrow('offset');
  });
});

function toDigits(bytes: readonly number[]): number[] {
  const bits = bytes.map((byte) => byte.toString(2).padStart(8, '0')).join('');
  const padded = bits.padEnd(Math.ceil(bits.length / 5) * 5, '0');
  return (padded.match(/.{5}/g) ?? []).map((group) => Number.parseInt(group, 2));
}

/** Brute force: the one check character for which no complaint is about the check character. */
function withCheck(digits: readonly number[]): string {
  const text = digits.map((digit) => ALPHABET[digit]).join('');
  for (const check of ALPHABET) {
    const result = decodeRequestId(text + check);
    if (!('code' in result) || !result.message.includes('mistyped')) return text + check;
  }
  throw new Error('no check character fits');
}
