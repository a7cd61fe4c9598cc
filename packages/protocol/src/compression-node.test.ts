import { gzipSync, zstdCompressSync } from 'node:zlib';
import fc from 'fast-check';
import { compressFrameSync } from 'lz4-napi';
import { compressSync as snappyCompress } from 'snappy';
import { describe, expect, test } from 'vitest';
import { COMPRESSION_TYPES, decompressionLimit } from './batch/compression.ts';
import { nodeCompressionCodecs as codecs } from './compression-node.ts';
import { NaruError } from './errors.ts';

const MIB = 1024 * 1024;
const NATIVE_TYPES = COMPRESSION_TYPES.filter((type) => type !== 'none');

function codeOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (error instanceof NaruError) return error.code;
    throw error;
  }
  return 'no error';
}

describe.each(COMPRESSION_TYPES)('%s', (type) => {
  test('gives back what was put in, whatever it is', () => {
    const random = fc.uint8Array({ maxLength: 500 });
    const repeated = fc.tuple(fc.uint8Array({ minLength: 1, maxLength: 50 }), fc.integer({ min: 1, max: 5000 }));
    const data = fc.oneof(
      random,
      repeated.map(([part, times]) => Uint8Array.from(Buffer.alloc(times, part))),
    );
    fc.assert(
      fc.property(data, (bytes) => {
        const result = codecs.decompress(type, codecs.compress(type, bytes), Math.max(bytes.length, 1));
        expect(Buffer.compare(result, bytes)).toBe(0);
      }),
    );
  });

  test('gives back data of many blocks', () => {
    let state = 1;
    const bytes = Uint8Array.from({ length: 3 * MIB }, (_, i) => {
      state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
      return i % 3 === 0 ? state >>> 24 : i & 7;
    });
    expect(Buffer.compare(codecs.decompress(type, codecs.compress(type, bytes), bytes.length), bytes)).toBe(0);
  });

  test('reads data that is a part of a larger buffer', () => {
    const compressed = codecs.compress(type, Buffer.from('in the middle'));
    const larger = new Uint8Array(compressed.length + 20).fill(0xaa);
    larger.set(compressed, 9);
    const part = larger.subarray(9, 9 + compressed.length);
    expect(Buffer.from(codecs.decompress(type, part, 100)).toString()).toBe('in the middle');
  });

  test('stops at maxBytes: one less is too much', () => {
    for (const size of [2, 1000, 100_000]) {
      const compressed = codecs.compress(type, Buffer.alloc(size, 'abcdefgh'));
      expect(codecs.decompress(type, compressed, size)).toHaveLength(size);
      expect(codeOf(() => codecs.decompress(type, compressed, size - 1))).toBe('RECORD_TOO_LARGE');
    }
  });
});

describe.each(NATIVE_TYPES)('%s, damaged', (type) => {
  const data = Buffer.from('text that repeats, text that repeats, and text that does not: 8ad1x93.'.repeat(4));
  const compressed = codecs.compress(type, data);

  test('is refused wherever it is cut', () => {
    for (let end = 0; end < compressed.length; end++) {
      const cut = compressed.subarray(0, end);
      // The framing of snappy-java has no end mark: cut between chunks it is whole. Here that leaves nothing.
      if (type === 'snappy' && end === 16) expect(codecs.decompress(type, cut, MIB)).toHaveLength(0);
      else
        expect(
          codeOf(() => codecs.decompress(type, cut, MIB)),
          `cut at ${end}`,
        ).toBe('CORRUPT_MESSAGE');
    }
  });

  test('is a typed error or some bytes within the limit, whichever bit is flipped', () => {
    for (let bit = 0; bit < compressed.length * 8; bit++) {
      const flipped = Uint8Array.from(compressed);
      flipped[bit >> 3] = (flipped[bit >> 3] as number) ^ (1 << (bit & 7));
      const code = codeOf(() => expect(codecs.decompress(type, flipped, 1000).length).toBeLessThanOrEqual(1000));
      expect(['no error', 'CORRUPT_MESSAGE', 'RECORD_TOO_LARGE']).toContain(code);
    }
  });

  test('is a typed error or some bytes within the limit, whatever the bytes are', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), fc.nat({ max: 20 }), (bytes, kept) => {
        const mixed = Buffer.concat([compressed.subarray(0, kept), bytes]);
        codeOf(() => expect(codecs.decompress(type, mixed, 1000).length).toBeLessThanOrEqual(1000));
      }),
      { numRuns: 500 },
    );
  });
});

describe('decompression bombs', () => {
  const zeros = Buffer.alloc(64 * MIB);
  const bombs: Readonly<Record<string, () => Uint8Array>> = {
    gzip: () => gzipSync(zeros),
    snappy: () => snappyCompress(zeros),
    lz4: () => compressFrameSync(zeros),
    zstd: () => zstdCompressSync(zeros),
  };

  test.each(NATIVE_TYPES)('%s: 64 MiB are refused without being inflated', (type) => {
    const bomb = bombs[type]?.() ?? new Uint8Array(0);
    const before = process.memoryUsage();
    expect(codeOf(() => codecs.decompress(type, bomb, decompressionLimit(bomb.length)))).toBe('RECORD_TOO_LARGE');
    const after = process.memoryUsage();
    expect(after.external + after.arrayBuffers - before.external - before.arrayBuffers).toBeLessThan(40 * MIB);
  });

  test('snappy in many chunks counts them together', () => {
    const bomb = codecs.compress('snappy', zeros);
    expect(codeOf(() => codecs.decompress('snappy', bomb, decompressionLimit(bomb.length)))).toBe('RECORD_TOO_LARGE');
  });

  test('snappy that states a size that its bytes cannot have is refused before it is allocated', () => {
    const bomb = Uint8Array.of(0x80, 0x80, 0x80, 0x04, 0x00, 0x61); // 8 MiB
    expect(() => codecs.decompress('snappy', bomb, 16 * MIB)).toThrow('cannot inflate');
  });

  test('lz4 that declares a huge content is refused before it is read', () => {
    const frame = Uint8Array.of(0x04, 0x22, 0x4d, 0x18, 0x68, 0x40, 0, 0, 0, 0, 0xff, 0, 0, 0, 0x11, 0, 0, 0, 0);
    expect(codeOf(() => codecs.decompress('lz4', frame, 16 * MIB))).toBe('RECORD_TOO_LARGE');
  });

  test('lz4 block lengths that run past the block are refused', () => {
    const block = [0x1f, 0x61, 0x01, 0x00, ...Array<number>(400).fill(0xff), 0x00];
    const header = [0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82, block.length & 0xff, block.length >> 8, 0, 0];
    const frame = Uint8Array.from([...header, ...block, 0, 0, 0, 0]);
    expect(() => codecs.decompress('lz4', frame, 16 * MIB)).toThrow('malformed');
  });

  test('lz4 frames end with the data: bytes or a second frame after them would not be counted', () => {
    const frame = codecs.compress('lz4', Buffer.from('one frame'));
    for (const more of [Uint8Array.of(0), frame]) {
      expect(() => codecs.decompress('lz4', Buffer.concat([frame, more]), MIB)).toThrow('the frame ends at byte');
    }
  });

  test('the limit is 100 to 1, but at least 1 MiB and at most 16 MiB', () => {
    expect([0, 10, 20_000, 200_000, 20 * MIB].map(decompressionLimit)).toEqual([
      MIB,
      MIB,
      2_000_000,
      16 * MIB,
      16 * MIB,
    ]);
  });
});

describe('the framing of snappy', () => {
  test('is that of snappy-java: magic, two versions, then chunks of at most 32 KiB with a length each', () => {
    const data = Buffer.alloc(70_000, 'snappy ');
    const framed = Buffer.from(codecs.compress('snappy', data));
    expect(framed.subarray(0, 16).toString('hex')).toBe('82534e41505059000000000100000001');
    const chunks: number[] = [];
    for (let at = 16; at < framed.length; at += 4 + framed.readInt32BE(at)) {
      const chunk = framed.subarray(at + 4, at + 4 + framed.readInt32BE(at));
      chunks.push(codecs.decompress('snappy', chunk, MIB).length);
    }
    expect(chunks).toEqual([32_768, 32_768, 4_464]);
  });

  test('is not needed when reading: a raw block does too', () => {
    expect(Buffer.from(codecs.decompress('snappy', snappyCompress('raw'), 10)).toString()).toBe('raw');
  });
});

test('lz4 frames have independent blocks of at most 4 MiB, as Kafka demands', () => {
  for (const size of [10, 100_000, 9 * MIB]) {
    const frame = codecs.compress('lz4', new Uint8Array(size));
    expect([...frame.subarray(0, 4)]).toEqual([0x04, 0x22, 0x4d, 0x18]);
    expect((frame[4] as number) & 0x20).toBe(0x20);
    expect([4, 5, 6, 7]).toContain((frame[5] as number) >> 4);
  }
});
