/**
 * CRC-32C (Castagnoli, RFC 3720 §B.4), the checksum of record batches and of the broker's own frames.
 *
 * The native function costs about 120 ns a call whatever the length, so short inputs stay in JavaScript (slicing by 8).
 * `#crc32c-native` is picked by package.json: the native binding on Node, nothing elsewhere; results are the same.
 */
import { nativeCrc32c } from '#crc32c-native';

/** The reversed Castagnoli polynomial. */
const POLYNOMIAL = 0x82f63b78;
/** Bytes from which the native function is faster. */
const NATIVE_FROM_BYTES = 256;

const TABLES = buildTables();

/** Eight tables of 256 in one array: table `t` takes a byte that is followed by `t` more bytes of the same step. */
function buildTables(): Uint32Array {
  const tables = new Uint32Array(8 * 256);
  for (let byte = 0; byte < 256; byte++) {
    let crc = byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc & 1) === 0 ? crc >>> 1 : (crc >>> 1) ^ POLYNOMIAL;
    tables[byte] = crc;
  }
  for (let i = 256; i < tables.length; i++) {
    const previous = tables[i - 256] as number;
    tables[i] = (previous >>> 8) ^ (tables[previous & 0xff] as number);
  }
  return tables;
}

/**
 * The checksum of `bytes` as an unsigned 32-bit integer.
 *
 * @param initial checksum of the bytes before these: `crc32c(b, crc32c(a))` equals the checksum of a and b joined. Default 0.
 */
export function crc32c(bytes: Uint8Array, initial = 0): number {
  if (bytes.length >= NATIVE_FROM_BYTES && nativeCrc32c !== null) return nativeCrc32c(bytes, initial);
  return portableCrc32c(bytes, initial);
}

/** {@link crc32c} in JavaScript only; exported for tests. */
export function portableCrc32c(bytes: Uint8Array, initial = 0): number {
  const tables = TABLES;
  const length = bytes.length;
  let crc = ~initial;
  let i = 0;
  for (; i + 8 <= length; i += 8) {
    crc ^=
      (bytes[i] as number) |
      ((bytes[i + 1] as number) << 8) |
      ((bytes[i + 2] as number) << 16) |
      ((bytes[i + 3] as number) << 24);
    crc =
      (tables[1792 + (crc & 0xff)] as number) ^
      (tables[1536 + ((crc >>> 8) & 0xff)] as number) ^
      (tables[1280 + ((crc >>> 16) & 0xff)] as number) ^
      (tables[1024 + (crc >>> 24)] as number) ^
      (tables[768 + (bytes[i + 4] as number)] as number) ^
      (tables[512 + (bytes[i + 5] as number)] as number) ^
      (tables[256 + (bytes[i + 6] as number)] as number) ^
      (tables[bytes[i + 7] as number] as number);
  }
  for (; i < length; i++) crc = (crc >>> 8) ^ (tables[(crc ^ (bytes[i] as number)) & 0xff] as number);
  return ~crc >>> 0;
}
