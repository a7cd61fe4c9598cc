/**
 * `@naru/protocol/compression-node`: the batch codecs on Node, native and synchronous.
 *
 * Invariant: nothing allocates more than `maxBytes` for a result. gzip and zstd stop while inflating; snappy states its
 * size in front; lz4 states it only sometimes, so its sequences are added up first, without writing anything.
 *
 * Synchronous native codecs called in a tight loop outrun the collector, which does not see their memory: yield to the
 * event loop between batches.
 */
import { createRequire } from 'node:module';
import { gunzipSync, gzipSync, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { unreachable } from '@naru/base';
import type * as Lz4 from 'lz4-napi';
import type * as Snappy from 'snappy';
import type { CompressionCodecs, CompressionType } from './batch/compression.ts';
import { NaruError, isNaruError } from './errors.ts';
import { measureLz4Frame } from './lz4-frame.ts';
import { XERIAL_HEADER_BYTES, isXerial, measureSnappyBlock, splitXerial, xerialHeader } from './xerial.ts';

/** Snappy input for each chunk, as snappy-java cuts it. */
const XERIAL_CHUNK_BYTES = 32 * 1024;
/** Inflated bytes that zlib hands over at a time. */
const ZLIB_CHUNK_BYTES = 64 * 1024;

const require = createRequire(import.meta.url);
let loadedLz4: typeof Lz4 | undefined;
let loadedSnappy: typeof Snappy | undefined;

/** Loaded when the first batch needs it: most programs never see one. */
function lz4(): typeof Lz4 {
  loadedLz4 ??= require('lz4-napi') as typeof Lz4;
  return loadedLz4;
}

/** As {@link lz4}. */
function snappy(): typeof Snappy {
  loadedSnappy ??= require('snappy') as typeof Snappy;
  return loadedSnappy;
}

export const nodeCompressionCodecs: CompressionCodecs = {
  compress(type, data) {
    switch (type) {
      case 'none':
        return data.slice();
      case 'gzip':
        return gzipSync(data);
      case 'snappy':
        return compressXerial(data);
      case 'lz4':
        return lz4().compressFrameSync(asBuffer(data));
      case 'zstd':
        return zstdCompressSync(data);
      default:
        return unreachable(type, 'compression type');
    }
  },

  decompress(type, data, maxBytes) {
    try {
      return decompress(type, data, maxBytes);
    } catch (cause) {
      if (isNaruError(cause)) throw cause;
      if ((cause as { code?: unknown }).code === 'ERR_BUFFER_TOO_LARGE') throw tooLarge(type, data.length, maxBytes);
      throw new NaruError('CORRUPT_MESSAGE', `${data.length} bytes of ${type} do not decompress`, { cause });
    }
  },
};

function decompress(type: CompressionType, data: Uint8Array, maxBytes: number): Uint8Array {
  // zlib takes no limit below 1.
  const options = { maxOutputLength: Math.max(maxBytes, 1), chunkSize: ZLIB_CHUNK_BYTES };
  switch (type) {
    case 'none':
      if (data.length > maxBytes) throw tooLarge(type, data.length, maxBytes);
      return data.slice();
    case 'gzip':
      return gunzipSync(data, options);
    case 'snappy':
      return decompressSnappy(data, maxBytes);
    case 'lz4':
      if (measureLz4Frame(data, maxBytes) > maxBytes) throw tooLarge(type, data.length, maxBytes);
      return lz4().decompressFrameSync(asBuffer(data));
    case 'zstd':
      return zstdDecompressSync(data, options);
    default:
      return unreachable(type, 'compression type');
  }
}

function tooLarge(type: CompressionType, bytes: number, maxBytes: number): NaruError {
  return new NaruError('RECORD_TOO_LARGE', `${bytes} bytes of ${type} decompress to more than ${maxBytes} bytes`);
}

function asBuffer(data: Uint8Array): Buffer {
  return Buffer.from(data.buffer, data.byteOffset, data.byteLength);
}

function compressXerial(data: Uint8Array): Uint8Array {
  const parts: Uint8Array[] = [xerialHeader()];
  for (let position = 0; position < data.length; position += XERIAL_CHUNK_BYTES) {
    const chunk = snappy().compressSync(data.subarray(position, position + XERIAL_CHUNK_BYTES));
    const length = Buffer.allocUnsafe(4);
    length.writeUInt32BE(chunk.length);
    parts.push(length, chunk);
  }
  return Buffer.concat(parts);
}

function decompressSnappy(data: Uint8Array, maxBytes: number): Uint8Array {
  const blocks = isXerial(data) ? splitXerial(data, XERIAL_HEADER_BYTES) : [data];
  let total = 0;
  for (const block of blocks) {
    total += measureSnappyBlock(block);
    if (total > maxBytes) throw tooLarge('snappy', data.length, maxBytes);
  }
  // Given bytes, snappy answers with bytes; its type also covers the option to answer with a string.
  const inflated = blocks.map((block) => snappy().uncompressSync(block) as Buffer);
  return inflated.length === 1 ? (inflated[0] as Buffer) : Buffer.concat(inflated, total);
}
