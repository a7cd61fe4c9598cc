/**
 * Integers in byte arrays: big-endian, and Kafka's zigzag varints (KIP-98 record format; Protocol Buffers' encoding).
 *
 * Owns no bounds checks: the caller knows that the bytes are there. 64-bit integers are numbers here; whoever reads one
 * from outside checks that it is safe. Plain byte arithmetic is used because it needs no DataView for each batch.
 */

export const TWO_TO_32 = 0x1_0000_0000;
/** Below this magnitude a zigzag value fits 31 bits, and integer arithmetic does. */
const SMALL_LIMIT = 0x4000_0000;

export function readInt16(bytes: Uint8Array, at: number): number {
  return (((bytes[at] as number) << 24) >> 16) | (bytes[at + 1] as number);
}

export function readInt32(bytes: Uint8Array, at: number): number {
  return (
    ((bytes[at] as number) << 24) |
    ((bytes[at + 1] as number) << 16) |
    ((bytes[at + 2] as number) << 8) |
    (bytes[at + 3] as number)
  );
}

/** Exact when the value is a safe integer; otherwise some number that is not one. */
export function readInt64(bytes: Uint8Array, at: number): number {
  return readInt32(bytes, at) * TWO_TO_32 + (readInt32(bytes, at + 4) >>> 0);
}

export function writeInt16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >> 8;
  bytes[at + 1] = value;
}

export function writeInt32(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >> 24;
  bytes[at + 1] = value >> 16;
  bytes[at + 2] = value >> 8;
  bytes[at + 3] = value;
}

/** @param value a safe integer */
export function writeInt64(bytes: Uint8Array, at: number, value: number): void {
  writeInt32(bytes, at, Math.floor(value / TWO_TO_32));
  writeInt32(bytes, at + 4, value >>> 0);
}

/** Bytes that {@link writeVarint} takes for a value below 2³⁰ in magnitude. */
function smallVarintSize(value: number): number {
  const zigzag = (value << 1) ^ (value >> 31);
  if (zigzag < 0x80) return 1;
  if (zigzag < 0x4000) return 2;
  if (zigzag < 0x20_0000) return 3;
  return zigzag < 0x1000_0000 ? 4 : 5;
}

/** Bytes that {@link writeVarint} takes. */
export function varintSize(value: number): number {
  if (value > -SMALL_LIMIT && value < SMALL_LIMIT) return smallVarintSize(value);
  let zigzag = toZigzag(value);
  let size = 1;
  for (; zigzag >= 0x80n; zigzag >>= 7n) size += 1;
  return size;
}

/**
 * Writes a zigzag varint (or varlong: the encoding is the same) and returns the position after it.
 *
 * @param value a safe integer
 */
export function writeVarint(bytes: Uint8Array, at: number, value: number): number {
  let position = at;
  if (value > -SMALL_LIMIT && value < SMALL_LIMIT) {
    let rest = (value << 1) ^ (value >> 31);
    for (; rest >= 0x80; rest >>>= 7) bytes[position++] = rest | 0x80;
    bytes[position++] = rest;
    return position;
  }
  let rest = toZigzag(value);
  for (; rest >= 0x80n; rest >>= 7n) bytes[position++] = Number(rest & 0x7fn) | 0x80;
  bytes[position++] = Number(rest);
  return position;
}

function toZigzag(value: number): bigint {
  const big = BigInt(value);
  return BigInt.asUintN(64, (big << 1n) ^ (big >> 63n));
}

export function fromZigzag(zigzag: bigint): bigint {
  return (zigzag >> 1n) ^ -(zigzag & 1n);
}
