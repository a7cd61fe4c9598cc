/**
 * How much an LZ4 frame inflates to, found without inflating it (LZ4 frame format 1.6.4, LZ4 block format).
 *
 * ```
 * frame    = magic uint32 LE, FLG, BD, [content size uint64 LE], header checksum, block*, end mark (0), [checksum uint32]
 * block    = size uint32 LE (top bit: stored as is), data, [checksum uint32]
 * sequence = token (literals << 4 | match), [literal length bytes], literals, offset uint16 LE, [match length bytes]
 * ```
 * Owns the bounds only: offsets, checksums and the data itself are left to the decoder.
 */
import { NaruError } from './errors.ts';

const MAGIC = 0x184d2204;
const VERSION_MASK = 0xc0;
const VERSION = 0x40;
const BLOCK_CHECKSUM = 0x10;
const CONTENT_SIZE = 0x08;
const CONTENT_CHECKSUM = 0x04;
const DICTIONARY = 0x01;
const STORED = 0x8000_0000;
/** A match is at least this long; the token counts from here. */
const MIN_MATCH = 4;
/** BD, bits 4–6: 4 is 64 KiB, and each step to 7 is four times as much; smaller values are not in use. */
const MIN_BLOCK_SIZE_ID = 4;

function corrupt(message: string): NaruError {
  return new NaruError('CORRUPT_MESSAGE', `lz4: ${message}`);
}

function readUint32(data: Uint8Array, at: number): number {
  if (at + 4 > data.length) throw corrupt(`the frame is cut short at byte ${data.length}`);
  return (
    ((data[at] as number) |
      ((data[at + 1] as number) << 8) |
      ((data[at + 2] as number) << 16) |
      ((data[at + 3] as number) << 24)) >>>
    0
  );
}

/**
 * Bytes that the one frame in `data` inflates to, or some number above `maxBytes` as soon as it is known to be more.
 *
 * @throws NaruError CORRUPT_MESSAGE when the frame or a block is cut short, or bytes follow the frame
 */
export function measureLz4Frame(data: Uint8Array, maxBytes: number): number {
  if (readUint32(data, 0) !== MAGIC) throw corrupt('no frame magic');
  const flags = data[4] ?? 0;
  const blockSizeId = ((data[5] ?? 0) >> 4) & 0x07;
  if ((flags & VERSION_MASK) !== VERSION || (flags & DICTIONARY) !== 0 || blockSizeId < MIN_BLOCK_SIZE_ID) {
    throw corrupt(`frame flags 0x${flags.toString(16)} with block size ${blockSizeId} are not known`);
  }
  const blockBytes = 2 ** (8 + 2 * blockSizeId);
  let position = 6;
  if ((flags & CONTENT_SIZE) !== 0) {
    const declared = readUint32(data, position) + readUint32(data, position + 4) * 2 ** 32;
    if (declared > maxBytes) return declared;
    position += 8;
  }
  position += 1;

  let total = 0;
  for (;;) {
    const mark = readUint32(data, position);
    position += 4;
    if (mark === 0) break;
    const size = mark >= STORED ? mark - STORED : mark;
    const end = position + size;
    if (size > blockBytes || end > data.length) throw corrupt(`the block at byte ${position} is too long or cut short`);
    total += mark >= STORED ? size : measureBlock(data, position, end, blockBytes);
    if (total > maxBytes) return total;
    position = end + ((flags & BLOCK_CHECKSUM) === 0 ? 0 : 4);
  }
  if ((flags & CONTENT_CHECKSUM) !== 0) position += 4;
  if (position !== data.length) throw corrupt(`the frame ends at byte ${position} of ${data.length}`);
  return total;
}

function measureBlock(data: Uint8Array, start: number, end: number, blockBytes: number): number {
  let position = start;
  let total = 0;
  while (position < end) {
    const token = data[position++] as number;
    let literals = token >> 4;
    if (literals === 15) {
      for (let byte = 255; byte === 255 && position < end; literals += byte) byte = data[position++] as number;
    }
    position += literals;
    total += literals;
    if (position === end) break; // The last sequence has no match.
    position += 2;
    let match = token & 0x0f;
    if (match === 15) {
      for (let byte = 255; byte === 255 && position < end; match += byte) byte = data[position++] as number;
    }
    total += match + MIN_MATCH;
  }
  if (position !== end || total > blockBytes) throw corrupt(`the block at byte ${start} is malformed`);
  return total;
}
