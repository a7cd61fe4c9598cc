/**
 * Compression of record batches: names, wire ids, limits, and the interface behind which the codecs are.
 *
 * Owns the limits on what a batch may inflate to; the codecs themselves (compression-node.ts) are given in, because
 * they are native and this directory must run in a browser.
 */

/** In the order of their ids on the wire (attributes, bits 0–2). */
export const COMPRESSION_TYPES = ['none', 'gzip', 'snappy', 'lz4', 'zstd'] as const;

export type CompressionType = (typeof COMPRESSION_TYPES)[number];

/** Synchronous codecs for all types but `none`. */
export interface CompressionCodecs {
  /**
   * Compresses `data`, as Kafka's clients expect it inside a batch: snappy in xerial framing, lz4 as a frame of
   * independent blocks. The result is the caller's.
   */
  compress(type: CompressionType, data: Uint8Array): Uint8Array;
  /**
   * Decompresses `data`. The result is the caller's.
   *
   * @param maxBytes bytes of the result at most; enforced before more than that is allocated
   * @throws NaruError CORRUPT_MESSAGE when `data` is malformed, RECORD_TOO_LARGE when there is more than `maxBytes`,
   *   UNSUPPORTED_COMPRESSION_TYPE when the codec is not there
   */
  decompress(type: CompressionType, data: Uint8Array, maxBytes: number): Uint8Array;
}

/** No batch inflates to more than this. */
export const MAX_DECOMPRESSED_BYTES = 16 * 1024 * 1024;
/** Beyond {@link FREE_DECOMPRESSED_BYTES} no batch inflates to more than this many times its size. */
export const MAX_DECOMPRESSION_RATIO = 100;
/** Small enough to be harmless whatever the ratio: runs of equal records compress better than 100 to 1. */
export const FREE_DECOMPRESSED_BYTES = 1024 * 1024;

/** Bytes that `compressedBytes` may inflate to. */
export function decompressionLimit(compressedBytes: number): number {
  const byRatio = Math.max(FREE_DECOMPRESSED_BYTES, compressedBytes * MAX_DECOMPRESSION_RATIO);
  return Math.min(MAX_DECOMPRESSED_BYTES, byRatio);
}
