import { partitionKey, type PartitionKey, type TopicId } from '@naru/base';
import { keyId } from '@naru/protocol';
import { decodeRecords, encodeBatch, setBatchOffsets, type BatchRecord } from '@naru/protocol/batch';
import { nodeCompressionCodecs } from '@naru/protocol/compression-node';
import { beforeEach, expect, test } from 'vitest';
import { AnswerSpace } from './poll-answer.ts';
import type { PartitionCommit } from './session-events.ts';
import { MAX_PASSED_OVER, UnaryHeld } from './unary-held.ts';

const TEXT = new TextEncoder();
const PARTITION: PartitionKey = partitionKey('00000000-0000-4000-8000-000000000001' as TopicId, 0);
const KEY = TEXT.encode('a');

let keys: UnaryHeld;

beforeEach(() => {
  keys = new UnaryHeld(nodeCompressionCodecs);
  keys.add({
    topic: 'orders',
    partition: PARTITION,
    position: 3,
    committedOffset: 3,
    finished: [],
    metadata: '',
    highWatermark: 9,
    blockedKeys: [keyId(KEY)],
  });
});

function batchOf(offset: number): Uint8Array {
  const batch = encodeBatch([{ key: KEY, value: TEXT.encode(String(offset)), timestampMs: 1 }]);
  setBatchOffsets(batch, offset, 0);
  return batch;
}

function record(offset: number): BatchRecord {
  return decodeRecords(batchOf(offset))[0] as BatchRecord;
}

function give(...offsets: number[]): void {
  const events = offsets.map((offset) => {
    return { offset, batch: batchOf(offset), attempts: 2, firstFailureMs: 0, redriven: false };
  });
  keys.heard({ type: 'held', partition: PARTITION, events });
}

/** `offset×delivery count` of the next answer. */
function answer(maxRecords = 0): string[] {
  const space = new AnswerSpace({ maxRecords, maxBytes: 0 });
  keys.giveInto(space);
  return space.records.map((given) => `${given.record.offset}×${given.deliveryCount}`);
}

function outcomes(commits: readonly PartitionCommit[]): string[] {
  return commits.flatMap(({ outcomes: all = [] }) => all.map(({ offset, kind }) => `${offset} ${kind}`));
}

const commitTo = (offset: number): PartitionCommit => ({ partition: PARTITION, offset, finished: null, metadata: '' });

test('held events are given until an answer with them has arrived, and settled by the commit of that answer', () => {
  give(0, 1);
  expect(answer(1)).toEqual(['0×3']);
  keys.takeBack();
  expect(answer()).toEqual(['0×3', '1×3']);
  expect(outcomes(keys.complete([], 'confirmed'))).toEqual([]);
  const [commit] = keys.complete([], 'last');
  expect(commit).toMatchObject({ offset: 3, onlyForward: true });
  expect(outcomes([commit as PartitionCommit])).toEqual(['0 processed', '1 processed']);
  keys.confirm();
  expect(outcomes(keys.complete([commitTo(5)], 'confirmed'))).toEqual(['0 processed', '1 processed']);
  keys.committed(commit as PartitionCommit);
  expect(outcomes(keys.complete([commitTo(5)], 'last'))).toEqual([]);
});

test('what was passed over is told of by every commit that covers it, until it is held; read again it is passed over', () => {
  expect([4, 6].map((offset) => keys.passOver(PARTITION, record(offset)))).toEqual([true, true]);
  expect(outcomes(keys.complete([commitTo(5)], null))).toEqual(['4 held']);
  expect(outcomes(keys.complete([{ ...commitTo(5), finished: [[6, 7]] }], null))).toEqual(['4 held', '6 held']);
  const holding = keys.holding();
  expect(outcomes(holding)).toEqual(['4 held', '6 held']);
  for (const commit of holding) keys.committed(commit);
  expect(outcomes(keys.complete([commitTo(9)], null))).toEqual([]);
  keys.heard({ type: 'blocked-keys', partition: PARTITION, blocked: [], unblocked: [keyId(KEY)] });
  expect([4, 6, 7].map((offset) => keys.passOver(PARTITION, record(offset)))).toEqual([true, true, false]);
});

test('a key of which something was passed over and is not held yet is not free, whatever was said of it before', () => {
  expect(keys.passOver(PARTITION, record(4))).toBe(true);
  // The last held event of the key is done with, and nobody has told of the record yet.
  keys.heard({ type: 'blocked-keys', partition: PARTITION, blocked: [], unblocked: [keyId(KEY)] });
  expect(keys.passOver(PARTITION, record(5))).toBe(true);
  for (const commit of keys.holding()) keys.committed(commit);
  keys.heard({ type: 'blocked-keys', partition: PARTITION, blocked: [], unblocked: [keyId(KEY)] });
  expect(keys.passOver(PARTITION, record(6))).toBe(false);
});

test('reading waits when nothing more can be passed over', () => {
  for (let offset = 0; offset < MAX_PASSED_OVER; offset++) keys.passOver(PARTITION, record(offset));
  expect(keys.mayPassOver(PARTITION)).toBe(false);
  expect(() => keys.passOver(PARTITION, record(MAX_PASSED_OVER))).toThrow('the group holds no more');
});
