import { partitionKey, type TopicId } from '@naru/base';
import { encodeBatch, encodeControlMarker, setBatchOffsets } from '@naru/protocol/batch';
import { nodeCompressionCodecs } from '@naru/protocol/compression-node';
import { beforeEach, expect, it } from 'vitest';
import { HeldPartitions } from './held-partitions.ts';
import { AnswerSpace } from './poll-answer.ts';

const TOPIC = '11111111-1111-4111-8111-111111111111' as TopicId;
const [ONE, TWO] = [partitionKey(TOPIC, 1), partitionKey(TOPIC, 2)];

let held: HeldPartitions;

beforeEach(() => {
  held = new HeldPartitions(nodeCompressionCodecs);
  for (const partition of [ONE, TWO]) {
    held.add({
      topic: 'orders',
      partition,
      position: 1,
      committedOffset: null,
      finished: [],
      metadata: '',
      highWatermark: 9,
    });
  }
});

function batch(baseOffset: number, count: number): Uint8Array {
  const records = Array.from({ length: count }, () => ({ key: null, value: Buffer.from('x'), timestampMs: 0 }));
  const bytes = encodeBatch(records);
  setBatchOffsets(bytes, baseOffset, 0);
  return bytes;
}

function damaged(baseOffset: number): Uint8Array {
  const bytes = batch(baseOffset, 1);
  bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
  return bytes;
}

function answer(maxRecords = 0): AnswerSpace {
  return new AnswerSpace({ maxRecords, maxBytes: 0 });
}

const offsetsOf = ({ records }: AnswerSpace): number[] => records.map(({ record }) => record.offset);

it('gives what is before a damaged batch, says which partition it is, and goes on with the others', () => {
  const space = answer();
  const polled = [
    { partition: ONE, batches: [batch(0, 3), damaged(3), batch(4, 1)], highWatermark: 5 },
    { partition: TWO, batches: [batch(1, 1)], highWatermark: 2 },
  ];
  const taken = held.take(polled, space);
  expect(offsetsOf(space)).toEqual([1, 2, 1]);
  expect(taken.damaged).toMatchObject([{ partition: ONE, refusal: { code: 'CORRUPT_MESSAGE' } }]);
  expect(taken.unread).toEqual([]);
  expect([held.positionOf(ONE), held.positionOf(TWO)]).toEqual([3, 2]);
});

it('lets the partition that was cut wait for the others', () => {
  const space = answer(2);
  const polled = [
    { partition: ONE, batches: [batch(1, 5)], highWatermark: 6 },
    { partition: TWO, batches: [batch(1, 5)], highWatermark: 6 },
  ];
  expect(held.take(polled, space).unread).toEqual([TWO, ONE]);
  expect([held.positionOf(ONE), held.positionOf(TWO)]).toEqual([3, 1]);
});

it('passes over control batches and offsets without a record', () => {
  const marker = encodeControlMarker({
    type: 'commit',
    coordinatorEpoch: 0,
    producerId: 1,
    producerEpoch: 0,
    timestampMs: 0,
  });
  setBatchOffsets(marker, 2, 0);
  const space = answer();
  held.take([{ partition: ONE, batches: [batch(1, 1), marker, batch(7, 1)], highWatermark: 8 }], space);
  expect(offsetsOf(space)).toEqual([1, 7]);
  expect(held.positionOf(ONE)).toBe(8);
  held.take([{ partition: TWO, batches: [marker], highWatermark: 3 }], answer());
  expect(held.positionOf(TWO)).toBe(3);
});

it('commits and takes back what the last answer gave, and no more', () => {
  held.take([{ partition: ONE, batches: [batch(1, 2)], highWatermark: 3 }], answer());
  held.confirm();
  held.noteCommitted({ partition: ONE, offset: 2, finished: null, metadata: '' });
  held.take([{ partition: ONE, batches: [batch(3, 2)], highWatermark: 5 }], answer());
  expect(held.commits('confirmed')).toMatchObject([
    { partition: ONE, offset: 3 },
    { partition: TWO, offset: 1 },
  ]);
  expect(held.commits('last')).toMatchObject([{ offset: 5 }, { offset: 1 }]);
  expect([...held.takeBack().keys()]).toEqual([ONE]);
  expect(held.commits('last')).toMatchObject([{ offset: 3 }, { offset: 1 }]);
  expect([...held.takeBack().keys()]).toEqual([]);
});
