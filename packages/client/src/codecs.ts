/** Compression as the SDK uses it. */
import type { CompressionCodecs } from '@naru/protocol/batch';
import { nodeCompressionCodecs } from '@naru/protocol/compression-node';

/** What users get is a plain Uint8Array whatever the codec: a Buffer's `slice` shares where an array's copies. */
export const codecs: CompressionCodecs = {
  compress: (type, data) => nodeCompressionCodecs.compress(type, data),
  decompress(type, data, maxBytes) {
    const { buffer, byteOffset, length } = nodeCompressionCodecs.decompress(type, data, maxBytes);
    return new Uint8Array(buffer, byteOffset, length);
  },
};
