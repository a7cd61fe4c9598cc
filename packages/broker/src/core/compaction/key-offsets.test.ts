import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { KeyOffsets } from './key-offsets.ts';
import { SupersededOffsets } from './superseded-offsets.ts';

const MAX_BYTES = 2 ** 20;
const text = (value: string): Uint8Array => new TextEncoder().encode(value);

describe('KeyOffsets', () => {
  test('agrees with a map of whole keys, whatever the seed', () => {
    const key = fc.uint8Array({ maxLength: 3 });
    fc.assert(
      fc.property(fc.array(fc.tuple(key, fc.nat())), fc.integer(), (puts, seed) => {
        const keys = new KeyOffsets({ maxBytes: MAX_BYTES, seed });
        const model = new Map<string, number>();
        for (const [bytes, offset] of puts) {
          keys.put(bytes, offset);
          model.set(bytes.join(), Math.max(offset, model.get(bytes.join()) ?? -1));
        }
        expect(keys.size).toBe(model.size);
        for (const [bytes] of puts) expect(keys.get(bytes)).toBe(model.get(bytes.join()));
        expect(keys.get(text('absent'))).toBe(-1);
      }),
    );
  });

  test('keeps tens of thousands of keys apart while it grows, and copies them', () => {
    const keys = new KeyOffsets({ maxBytes: MAX_BYTES });
    const buffer = new Uint8Array(4);
    const count = 40_000;
    for (let i = 0; i < count; i++) {
      new DataView(buffer.buffer).setInt32(0, i);
      keys.put(buffer, i + 2 ** 40);
    }
    for (let i = 0; i < count; i++) {
      new DataView(buffer.buffer).setInt32(0, i);
      if (keys.get(buffer) !== i + 2 ** 40) expect.unreachable(`key ${i} is at ${keys.get(buffer)}`);
    }
    expect(keys.size).toBe(count);
  });

  test('tells a key that came again: earlier records of it only', () => {
    const keys = new KeyOffsets({ maxBytes: MAX_BYTES });
    keys.put(text('a'), 7);
    expect([6, 7, 8].map((offset) => keys.isSuperseded(text('a'), offset))).toEqual([true, false, false]);
    expect(keys.isSuperseded(text('b'), 0)).toBe(false);
  });

  test('is full from its limit on, and takes keys all the same', () => {
    const keys = new KeyOffsets({ maxBytes: 1000 });
    expect(keys.isFull).toBe(false);
    keys.put(text('x'.repeat(900)), 1);
    expect(keys.isFull).toBe(false);
    keys.put(text('y'.repeat(100)), 2);
    expect(keys.isFull).toBe(true);
    keys.put(text('z'), 3);
    expect(keys.get(text('z'))).toBe(3);
  });

  test('has every key in exactly one share, and shares of about the same size', () => {
    const shares = Array.from(
      { length: 8 },
      (_, index) => new KeyOffsets({ maxBytes: MAX_BYTES, seed: 5, share: { bits: 3, index } }),
    );
    for (let i = 0; i < 4_000; i++) for (const share of shares) share.put(text(`order-${i}`), i);
    for (let i = 0; i < 4_000; i++) {
      expect(shares.filter((share) => share.get(text(`order-${i}`)) === i)).toHaveLength(1);
    }
    for (const share of shares) expect(Math.abs(share.size - 500)).toBeLessThan(150);
  });
});

test('superseded offsets are a set within their range', () => {
  const from = 2 ** 40 + 3;
  fc.assert(
    fc.property(fc.uniqueArray(fc.nat({ max: 99 })), (added) => {
      const superseded = new SupersededOffsets(from, from + 100);
      for (const index of added) superseded.add(from + index);
      superseded.add(from - 1);
      superseded.add(from + 1000);
      const found = Array.from({ length: 130 }, (_, i) => i - 10).filter((i) =>
        superseded.isSuperseded(new Uint8Array(), from + i),
      );
      expect(found).toEqual(added.toSorted((a, b) => a - b));
    }),
  );
});
