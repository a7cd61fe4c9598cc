import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FrameReader } from './frame-reader.ts';

const MAX_BYTES = 1_000;

function framed(content: Uint8Array): Buffer {
  const size = Buffer.alloc(4);
  size.writeInt32BE(content.length);
  return Buffer.concat([size, content]);
}

function takeAll(reader: FrameReader): Buffer[] {
  const taken: Buffer[] = [];
  for (let frame = reader.next(); frame !== null; frame = reader.next()) taken.push(frame);
  return taken;
}

describe('a frame reader', () => {
  it('gives the frames that were sent, however they are cut on the way', () => {
    const frames = fc.array(fc.uint8Array({ minLength: 1, maxLength: 60 }), { maxLength: 12 });
    const cuts = fc.infiniteStream(fc.integer({ min: 1, max: 40 }));
    fc.assert(
      fc.property(frames, cuts, fc.boolean(), (sent, sizes, takesEachTime) => {
        const bytes = Buffer.concat(sent.map(framed));
        const reader = new FrameReader(MAX_BYTES);
        const taken: Buffer[] = [];
        for (let at = 0; at < bytes.length;) {
          const size = sizes.next().value as number;
          reader.push(bytes.subarray(at, at + size));
          at += size;
          if (takesEachTime) taken.push(...takeAll(reader));
        }
        taken.push(...takeAll(reader));
        expect(taken.map((frame) => [...frame])).toEqual(sent.map((frame) => [...frame]));
        expect(reader.isInside).toBe(false);
      }),
    );
  });

  it('keeps nothing of a chunk that is written again', () => {
    const reader = new FrameReader(MAX_BYTES);
    const sent = [1, 2, 3].map((value) => new Uint8Array(100).fill(value));
    const bytes = Buffer.concat(sent.map(framed));
    const taken: Buffer[] = [];
    for (const [from, to] of [
      [0, 150],
      [150, 210],
      [210, bytes.length],
    ]) {
      const chunk = Buffer.from(bytes.subarray(from, to));
      reader.push(chunk);
      const frame = reader.next();
      if (frame !== null) taken.push(frame);
      reader.keep();
      chunk.fill(0xff);
    }
    taken.push(...takeAll(reader));
    expect(taken.map((frame) => [...frame])).toEqual(sent.map((frame) => [...frame]));
  });

  it('gives each frame memory of its own, and says what it takes before it is all there', () => {
    const reader = new FrameReader(MAX_BYTES);
    const bytes = framed(new Uint8Array(100));
    reader.push(bytes);
    expect(reader.missingMemory()).toBe(0);
    expect(reader.next()?.buffer.byteLength).toBe(100);
    reader.push(bytes.subarray(0, 50));
    expect(reader.missingMemory()).toBe(100);
    expect(reader.next()).toBeNull();
    expect(reader.missingMemory()).toBe(0);
    expect(reader.isInside).toBe(true);
  });

  it.each([0, -1, MAX_BYTES + 1, 0x7fff_ffff])('refuses a size of %i before it takes any memory', (size) => {
    const reader = new FrameReader(MAX_BYTES);
    const bytes = Buffer.alloc(4);
    bytes.writeInt32BE(size);
    reader.push(bytes);
    expect(() => reader.missingMemory()).toThrow(`a request of ${size} bytes`);
    expect(() => reader.next()).toThrow(`a request of ${size} bytes`);
  });
});
