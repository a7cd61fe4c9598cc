/**
 * The framing in which Kafka's clients put snappy (that of xerial's snappy-java), and the size that a raw block states.
 *
 * ```
 * stream = 0x82 'SNAPPY' 0x00, version int32 (1), lowest compatible version int32 (1), chunk*
 * chunk  = length int32, raw snappy block
 * block  = inflated size as an unsigned LEB128 varint, elements
 * ```
 */
import { readInt32 } from './batch/bytes.ts';
import { NaruError } from './errors.ts';

export const XERIAL_HEADER_BYTES = 16;

const MAGIC = Uint8Array.of(0x82, 0x53, 0x4e, 0x41, 0x50, 0x50, 0x59, 0x00);
/** No element of a raw block inflates by more: a copy of 64 bytes takes three, a literal more than it holds. */
const MAX_BLOCK_RATIO = 64 / 3;
/** A varint of 32 bits takes at most this. */
const MAX_SIZE_BYTES = 5;

function corrupt(message: string): NaruError {
  return new NaruError('CORRUPT_MESSAGE', `snappy: ${message}`);
}

export function xerialHeader(): Uint8Array {
  const header = new Uint8Array(XERIAL_HEADER_BYTES);
  header.set(MAGIC);
  header[11] = 1;
  header[15] = 1;
  return header;
}

/** Whether `data` is framed. A raw block cannot begin like this: its first element would be a copy of nothing. */
export function isXerial(data: Uint8Array): boolean {
  return data.length >= XERIAL_HEADER_BYTES && MAGIC.every((byte, i) => data[i] === byte);
}

/** The raw blocks of the chunks from `start` on, not copied. */
export function splitXerial(data: Uint8Array, start: number): Uint8Array[] {
  const blocks: Uint8Array[] = [];
  let position = start;
  while (position < data.length) {
    const left = data.length - position - 4;
    if (left < 0) throw corrupt(`the chunk at byte ${position} has no whole length`);
    const length = readInt32(data, position);
    if (length < 1 || length > left) {
      throw corrupt(`the chunk at byte ${position} says that it has ${length} bytes; ${left} are left`);
    }
    position += 4;
    blocks.push(data.subarray(position, position + length));
    position += length;
  }
  return blocks;
}

/** Bytes that a raw block says it inflates to; refused when its elements could not. */
export function measureSnappyBlock(block: Uint8Array): number {
  let size = 0;
  for (let i = 0; i < MAX_SIZE_BYTES; i++) {
    const byte = block[i];
    if (byte === undefined) break;
    size += (byte & 0x7f) * 2 ** (7 * i);
    if (byte >= 0x80) continue;
    if (size > block.length * MAX_BLOCK_RATIO) throw corrupt(`${block.length} bytes cannot inflate to ${size}`);
    return size;
  }
  throw corrupt('the size in front of a block is malformed');
}
