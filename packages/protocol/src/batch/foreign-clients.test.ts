/**
 * The same records through the encoders of kafkajs and @platformatic/kafka, byte for byte, and theirs and ours through
 * each other's decoders. Both are reached inside their packages: neither exports its codec.
 */
import { createRequire } from 'node:module';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { nodeCompressionCodecs as codecs } from '../compression-node.ts';
import { encodeBatch } from './batch-builder.ts';
import type { RecordHeader, RecordInput } from './batch-builder.ts';
import { readBatchHeader, setBatchOffsets, verifyBatch } from './batch-header.ts';
import { COMPRESSION_TYPES, MAX_DECOMPRESSED_BYTES } from './compression.ts';
import type { CompressionType } from './compression.ts';
import { decodeRecords } from './record-reader.ts';
import { rewriteBatch } from './rewrite-batch.ts';

const require = createRequire(import.meta.url);

interface KafkajsBuffer {
  readonly buffer: Buffer;
}
interface KafkajsRecord {
  readonly offset: string;
  readonly timestamp: string;
  readonly key: Buffer | null;
  readonly value: Buffer | null;
  readonly headers: Readonly<Record<string, Buffer | Buffer[]>>;
}
const kafkajs = {
  encodeBatch: (
    require('kafkajs/src/protocol/recordBatch/v0') as {
      readonly RecordBatch: (fields: unknown) => Promise<KafkajsBuffer>;
    }
  ).RecordBatch,
  encodeRecord: require('kafkajs/src/protocol/recordBatch/record/v0') as (fields: unknown) => KafkajsBuffer,
  decodeBatch: require('kafkajs/src/protocol/recordBatch/v0/decoder') as (
    decoder: unknown,
  ) => Promise<{ records: KafkajsRecord[] }>,
  Decoder: require('kafkajs/src/protocol/decoder') as new (bytes: Buffer) => unknown,
  long: require('kafkajs/src/utils/long') as { fromValue(value: number | string): unknown },
};

/** kafkajs has gzip alone; the others are for its user to add. */
const { Codecs: kafkajsCodecs } = require('kafkajs/src/protocol/message/compression') as { Codecs: unknown[] };
for (const [id, type] of COMPRESSION_TYPES.entries()) {
  if (id < 2) continue;
  const decompress = async (data: Buffer): Promise<Buffer> =>
    Buffer.from(codecs.decompress(type, data, MAX_DECOMPRESSED_BYTES));
  kafkajsCodecs[id] = () => ({ decompress });
}

interface PlatformaticRecord {
  readonly offsetDelta: number;
  readonly timestampDelta: bigint;
  readonly key: Buffer | null;
  readonly value: Buffer | null;
  readonly headers: readonly (readonly [Buffer | null, Buffer | null])[];
}
const platformaticRoot = import.meta.resolve('@platformatic/kafka');
const platformatic = {
  ...((await import(new URL('./protocol/records.js', platformaticRoot).href)) as {
    createRecordsBatch(messages: unknown[], options: unknown): { readonly buffer: Buffer };
    readRecordsBatch(reader: unknown): { firstTimestamp: bigint; records: PlatformaticRecord[] };
  }),
  ...((await import(new URL('./protocol/reader.js', platformaticRoot).href)) as {
    Reader: { from(bytes: Buffer): unknown };
  }),
};

interface Fields {
  readonly producerId: number;
  readonly producerEpoch: number;
  readonly baseSequence: number;
  readonly isTransactional: boolean;
  readonly compression: CompressionType;
}

async function kafkajsBatch(records: readonly RecordInput[], fields: Fields): Promise<Buffer> {
  const first = (records[0] as RecordInput).timestampMs;
  const encoded = records.map((record, offsetDelta) =>
    kafkajs.encodeRecord({
      offsetDelta,
      timestampDelta: record.timestampMs - first,
      key: record.key === null ? null : Buffer.from(record.key),
      value: record.value === null ? null : Buffer.from(record.value),
      headers: Object.fromEntries((record.headers ?? []).map((h) => [h.key, Buffer.from(h.value ?? [])])),
    }),
  );
  const batch = await kafkajs.encodeBatch({
    compression: COMPRESSION_TYPES.indexOf(fields.compression),
    firstTimestamp: first,
    maxTimestamp: Math.max(...records.map((r) => r.timestampMs)),
    lastOffsetDelta: records.length - 1,
    transactional: fields.isTransactional,
    producerId: kafkajs.long.fromValue(String(fields.producerId)),
    producerEpoch: fields.producerEpoch,
    firstSequence: fields.baseSequence,
    records: encoded,
  });
  return batch.buffer;
}

function platformaticBatch(records: readonly RecordInput[], fields: Fields): Buffer {
  const messages = records.map((record) => ({
    topic: 't',
    partition: 0,
    key: record.key === null ? null : Buffer.from(record.key),
    value: record.value === null ? null : Buffer.from(record.value),
    headers: new Map(
      (record.headers ?? []).map((h) => [Buffer.from(h.key), h.value === null ? null : Buffer.from(h.value)]),
    ),
    timestamp: BigInt(record.timestampMs),
  }));
  return platformatic.createRecordsBatch(messages, {
    compression: fields.compression,
    transactionalId: fields.isTransactional ? 'tx' : undefined,
    producerId: BigInt(fields.producerId),
    producerEpoch: fields.producerEpoch,
    sequences: { getWithDefault: () => fields.baseSequence },
  }).buffer;
}

/** Ours, with the leader epoch that both of them write. */
function ourBatch(records: readonly RecordInput[], fields: Fields): Buffer {
  const batch = encodeBatch(records, fields, codecs);
  setBatchOffsets(batch, 0, 0);
  return Buffer.from(batch);
}

/** Comparable contents: hexadecimal text. */
function plain(records: readonly (RecordInput & { offset?: number })[]): unknown {
  const text = (bytes: Uint8Array | null): string | null =>
    bytes === null ? null : Buffer.from(bytes).toString('hex');
  const headers = (list: readonly RecordHeader[] = []): unknown => list.map((h) => [h.key, text(h.value)]);
  return records.map((r, i) => [r.offset ?? i, r.timestampMs, text(r.key), text(r.value), headers(r.headers)]);
}

async function throughKafkajs(batch: Buffer): Promise<RecordInput[]> {
  const { records } = await kafkajs.decodeBatch(new kafkajs.Decoder(batch));
  return records.map((r) => ({
    offset: Number(r.offset),
    timestampMs: Number(r.timestamp),
    key: r.key,
    value: r.value,
    headers: Object.entries(r.headers).map(([key, value]) => ({ key, value: value as Buffer })),
  }));
}

function throughPlatformatic(batch: Buffer): RecordInput[] {
  const { records, firstTimestamp } = platformatic.readRecordsBatch(platformatic.Reader.from(batch));
  return records.map((r) => ({
    offset: r.offsetDelta,
    timestampMs: Number(firstTimestamp + r.timestampDelta),
    key: r.key,
    value: r.value,
    headers: r.headers.map(([key, value]) => ({ key: String(key), value })),
  }));
}

const bytes = fc.option(fc.uint8Array({ maxLength: 200 }), { nil: null });
// Names that a JavaScript object keeps in order, once each; kafkajs writes no null header values.
const headers = fc.uniqueArray(
  fc.record({ key: fc.stringMatching(/^[a-zé][a-z_é]{0,20}$/), value: fc.uint8Array({ maxLength: 40 }) }),
  { maxLength: 4, selector: (header) => header.key },
);
const anyTime = fc.oneof(fc.integer({ min: 1.7e12, max: 1.7e12 + 5000 }), fc.integer({ min: 0, max: 4e12 }));
/** @platformatic/kafka 2.12.1 takes zigzag and continuation bits of 64-bit varints from 32 bits, so its wider deltas are wrong. */
const nearTime = fc.integer({ min: 1.7e12, max: 1.7e12 + 2 ** 30 });
const listOf = (timestampMs: fc.Arbitrary<number>): fc.Arbitrary<RecordInput[]> =>
  fc.array(fc.record({ key: bytes, value: bytes, headers, timestampMs }), { minLength: 1, maxLength: 20 });
const fields = fc.record({
  producerId: fc.oneof(fc.constant(-1), fc.nat({ max: Number.MAX_SAFE_INTEGER })),
  producerEpoch: fc.nat({ max: 32_767 }),
  baseSequence: fc.nat({ max: 2 ** 31 - 1 }),
  isTransactional: fc.boolean(),
  compression: fc.constant<CompressionType>('none'),
});

describe('without compression', () => {
  test('our batches are those of kafkajs, byte for byte, and both decode to the same', async () => {
    await fc.assert(
      fc.asyncProperty(listOf(anyTime), fields, async (list, chosen) => {
        const ours = ourBatch(list, chosen);
        expect(ours.toString('hex')).toBe((await kafkajsBatch(list, chosen)).toString('hex'));
        expect(plain(decodeRecords(ours))).toEqual(plain(list));
        expect(plain(await throughKafkajs(ours))).toEqual(plain(list));
      }),
    );
  });

  test('our batches are those of @platformatic/kafka, byte for byte, and both decode to the same', () => {
    fc.assert(
      fc.property(listOf(nearTime), fields, (list, chosen) => {
        const ours = ourBatch(list, chosen);
        expect(ours.toString('hex')).toBe(Buffer.from(platformaticBatch(list, chosen)).toString('hex'));
        expect(plain(throughPlatformatic(ours))).toEqual(plain(list));
      }),
    );
  });
});

describe('with compression', () => {
  const list = Array.from({ length: 400 }, (_, i) => ({
    key: Buffer.from(`key-${i % 7}`),
    value: Buffer.from(JSON.stringify({ number: i, text: 'some text that repeats in every record', at: i * 31 })),
    headers: [{ key: 'ce_type', value: Buffer.from('order.placed') }],
    timestampMs: 1.7e12 + i,
  }));
  const chosen = (compression: CompressionType): Fields => ({
    producerId: 77,
    producerEpoch: 1,
    baseSequence: 5,
    isTransactional: false,
    compression,
  });

  test('gzip is the same, byte for byte, from all three', async () => {
    const ours = ourBatch(list, chosen('gzip'));
    expect(ours.equals(await kafkajsBatch(list, chosen('gzip')))).toBe(true);
    expect(ours.equals(Buffer.from(platformaticBatch(list, chosen('gzip'))))).toBe(true);
    expect(plain(await throughKafkajs(ours))).toEqual(plain(list));
  });

  test('zstd is the same, byte for byte, from @platformatic/kafka', () => {
    const ours = ourBatch(list, chosen('zstd'));
    expect(ours.equals(Buffer.from(platformaticBatch(list, chosen('zstd'))))).toBe(true);
  });

  test.each(COMPRESSION_TYPES)('%s: what @platformatic/kafka writes we read, and the other way round', (type) => {
    const theirs = Buffer.from(platformaticBatch(list, chosen(type)));
    expect(verifyBatch(theirs).compression).toBe(type);
    expect(plain(decodeRecords(theirs, codecs))).toEqual(plain(list));
    const ours = ourBatch(list, chosen(type));
    expect(verifyBatch(ours).compression).toBe(type);
    expect(plain(throughPlatformatic(ours))).toEqual(plain(list));
  });
});

describe('a compacted batch', () => {
  const list = Array.from({ length: 400 }, (_, i) => ({
    key: Buffer.from(`key-${i}`),
    value: i % 5 === 0 ? null : Buffer.from(`value ${i}: some text that repeats in every record`),
    headers: [{ key: 'ce_type', value: Buffer.from('order.placed') }],
    timestampMs: 1.7e12 + i * 1000,
  }));

  test.each(COMPRESSION_TYPES)(
    '%s: both read what is left, with a delete horizon and gaps of offsets',
    async (type) => {
      const batch = encodeBatch(list, { compression: type, baseOffset: 1000 }, codecs);
      const left = decodeRecords(batch, codecs).filter(({ offset }) => offset % 3 !== 0);
      const retain = ({ offset }: { offset: number }): boolean => offset % 3 !== 0;
      const deleteHorizonMs = 1.7e12 + 86_400_000;
      const rewritten = rewriteBatch(batch, { retain, deleteHorizonMs }, codecs) as Uint8Array;
      expect(readBatchHeader(rewritten)).toMatchObject({
        compression: type,
        deleteHorizonMs,
        recordCount: left.length,
      });
      expect(plain(decodeRecords(rewritten, codecs))).toEqual(plain(left));
      expect(plain(await throughKafkajs(Buffer.from(rewritten)))).toEqual(plain(left));
      const deltas = left.map((record) => ({ ...record, offset: record.offset - 1000 }));
      expect(plain(throughPlatformatic(Buffer.from(rewritten)))).toEqual(plain(deltas));
    },
  );
});
