import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  decodePublishBatch,
  encodePublishAcks,
  encodePublishBatch,
  encodeRecords,
  frameOf,
  GrpcFrameReader,
} from './grpc-frames.ts';
import { PublishStreamRequestSchema, PublishStreamResponseSchema, SubscribeResponseSchema } from './proto.ts';

const bytes = (maxLength: number) => fc.uint8Array({ maxLength });
const topicId = fc.uint8Array({ minLength: 16, maxLength: 16 });
const partition = fc.integer({ min: 0, max: 2 ** 31 - 1 });

function joined(pieces: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(pieces));
}

describe('a reader of frames', () => {
  it('gives back the messages however the stream is cut', () => {
    fc.assert(
      fc.property(
        fc.array(fc.oneof(bytes(300), bytes(3_000))),
        fc.array(fc.integer({ min: 1, max: 200 }), { minLength: 1 }),
        (messages, cuts) => {
          const stream = joined(messages.flatMap((message) => frameOf([message])));
          const reader = new GrpcFrameReader(3_000);
          const read: Uint8Array[] = [];
          for (let at = 0, turn = 0; at < stream.length; turn++) {
            const size = cuts[turn % cuts.length] as number;
            reader.push(stream.subarray(at, at + size), (message) => read.push(message));
            at += size;
          }
          expect(read).toEqual(messages);
          expect(reader.isBetweenMessages).toBe(true);
        },
      ),
    );
  });

  it('knows that a stream ended inside a message', () => {
    const reader = new GrpcFrameReader(100);
    reader.push(joined(frameOf([new Uint8Array(10)])).subarray(0, 9), () => {});
    expect(reader.isBetweenMessages).toBe(false);
  });

  it('refuses a hostile length before it takes memory for it', () => {
    const reader = new GrpcFrameReader(1_000);
    expect(() => reader.push(Uint8Array.of(0, 0xff, 0xff, 0xff, 0xff), () => {})).toThrow(
      /4294967295 bytes, the limit is 1000/,
    );
  });

  it('refuses compressed messages', () => {
    const reader = new GrpcFrameReader(1_000);
    expect(() => reader.push(Uint8Array.of(1, 0, 0, 0, 1, 9), () => {})).toThrow(/compressed/);
  });
});

describe('messages with every batch', () => {
  const parts = fc.record({
    correlationId: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
    topicId: bytes(20),
    partition: fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }),
    records: bytes(300),
  });
  it('reads a batch to publish as protobuf does', () => {
    fc.assert(
      fc.property(parts, ({ correlationId, topicId: topic, partition: number, records }) => {
        const message = joined(encodePublishBatch(correlationId, topic, number, records));
        expect(decodePublishBatch(message)).toEqual({ correlationId, topicId: topic, partition: number, records });
      }),
    );
  });

  it('leaves to protobuf what is anything else, however it is damaged', () => {
    fc.assert(
      fc.property(
        parts,
        fc.array(fc.tuple(fc.nat(40), fc.nat(255)), { maxLength: 3 }),
        fc.nat(400),
        ({ correlationId, topicId: topic, partition: number, records }, changes, cut) => {
          const whole = joined(encodePublishBatch(correlationId, topic, number, records));
          for (const [at, byte] of changes) if (at < whole.length) whole[at] = byte;
          const message = cut < 40 ? whole.subarray(0, whole.length - cut) : whole;
          const read = decodePublishBatch(message);
          if (read === null) return;
          const { message: theirs } = fromBinary(PublishStreamRequestSchema, message);
          expect(theirs).toMatchObject({ case: 'batch', value: read });
        },
      ),
    );
    const fields = toBinary(PublishStreamRequestSchema, create(PublishStreamRequestSchema));
    expect(decodePublishBatch(fields)).toBeNull();
    const open = create(PublishStreamRequestSchema, { message: { case: 'open', value: { clientId: 'a' } } });
    expect(decodePublishBatch(toBinary(PublishStreamRequestSchema, open))).toBeNull();
  });

  it('encodes acknowledgements as protobuf does', () => {
    const ack = fc.record({
      correlationId: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
      baseOffset: fc.oneof(fc.nat(200), fc.maxSafeNat()),
    });
    fc.assert(
      fc.property(fc.array(ack, { maxLength: 30 }), (acks) => {
        const value = { acks: acks.map((one) => ({ ...one, baseOffset: BigInt(one.baseOffset) })) };
        const response = create(PublishStreamResponseSchema, { message: { case: 'acks', value } });
        expect(new Uint8Array(encodePublishAcks(acks))).toEqual(toBinary(PublishStreamResponseSchema, response));
      }),
    );
  });
});

describe('messages in pieces', () => {
  it('encodes a batch to publish as protobuf does', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 2 ** 32 - 1 }),
        topicId,
        partition,
        bytes(200),
        (correlationId, topic, number, records) => {
          const value = { correlationId, topicId: topic, partition: number, records };
          const message = fromBinary(
            PublishStreamRequestSchema,
            joined(encodePublishBatch(correlationId, topic, number, records)),
          );
          expect(message).toEqual(create(PublishStreamRequestSchema, { message: { case: 'batch', value } }));
        },
      ),
    );
  });

  it('encodes records as protobuf does', () => {
    const part = fc.record({
      topicId,
      partition,
      batches: fc.array(bytes(100), { maxLength: 3 }),
      highWatermark: fc.maxSafeNat(),
      withheld: fc.option(fc.array(fc.maxSafeNat(), { maxLength: 3 }), { nil: undefined }),
    });
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 2 ** 32 - 1 }), fc.array(part, { maxLength: 4 }), (pollId, parts) => {
        const partitions = parts.map((entry) => ({
          partition: { topicId: entry.topicId, partition: entry.partition },
          batches: joined(entry.batches),
          highWatermark: BigInt(entry.highWatermark),
          withheld: entry.withheld?.map(BigInt) ?? [],
        }));
        const expected = create(SubscribeResponseSchema, {
          message: { case: 'records', value: { pollId, partitions } },
        });
        const decoded = fromBinary(SubscribeResponseSchema, joined(encodeRecords(pollId, parts)));
        expect(toBinary(SubscribeResponseSchema, decoded)).toEqual(toBinary(SubscribeResponseSchema, expected));
      }),
    );
  });
});
