/** `@naru/protocol/batch`: the Kafka record batch v2. Runs anywhere; native codecs are in `@naru/protocol/compression-node`. */
export { BatchBuilder, MAX_TIMESTAMP_MS, encodeBatch, encodeHeaders, recordSizeUpperBound } from './batch-builder.ts';
export type {
  BatchBuilderOptions,
  BuildOptions,
  EncodeBatchOptions,
  EncodedHeaders,
  RecordHeader,
  RecordHeaders,
  RecordInput,
} from './batch-builder.ts';
export {
  BATCH_HEADER_BYTES,
  BATCH_PREFIX_BYTES,
  MAX_BATCH_BYTES,
  cutBatch,
  firstBatchSize,
  isOfTransaction,
  readBatchHeader,
  rewriteProducer,
  setBatchOffsets,
  setLogAppendTime,
  splitBatches,
  verifyBatch,
} from './batch-header.ts';
export type { BatchHeader, SplitOptions } from './batch-header.ts';
export {
  COMPRESSION_TYPES,
  FREE_DECOMPRESSED_BYTES,
  MAX_DECOMPRESSED_BYTES,
  MAX_DECOMPRESSION_RATIO,
  decompressionLimit,
} from './compression.ts';
export type { CompressionCodecs, CompressionType } from './compression.ts';
export { decodeControlMarker, encodeControlMarker } from './control-marker.ts';
export type { ControlMarker } from './control-marker.ts';
export { crc32c } from './crc32c.ts';
export { decodeRecords, iterateRecords, openBatch, StreamedRecord } from './record-reader.ts';
export type { BatchRecord, DecodeOptions, RecordReader } from './record-reader.ts';
export { isTombstone, rewriteBatch } from './rewrite-batch.ts';
export type { RewriteOptions } from './rewrite-batch.ts';
