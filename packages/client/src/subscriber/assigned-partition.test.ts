import { create } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { topicIdToBytes, type TopicId } from '@naru/base';
import { nodeCompressionCodecs as codecs } from '@naru/protocol/compression-node';
import { COMPRESSION_TYPES, encodeBatch, rewriteBatch } from '@naru/protocol/batch';
import { AssignedPartitionSchema, PartitionRefSchema } from '@naru/protocol/proto';
import { AssignedPartition } from './assigned-partition.ts';

const TOPIC_ID = '00000000-0000-4000-8000-000000000001' as TopicId;

function assignedAt(position: number, finished: readonly { from: number; to: number }[] = []): AssignedPartition {
  const ref = create(PartitionRefSchema, { topicId: topicIdToBytes(TOPIC_ID), partition: 0 });
  const ranges = finished.map(({ from, to }) => ({ from: BigInt(from), to: BigInt(to) }));
  const fields = { topic: 'orders', partition: ref, position: BigInt(position), finished: ranges };
  const partition = new AssignedPartition(create(AssignedPartitionSchema, fields), ref, codecs);
  partition.state = 'open';
  return partition;
}

/** A batch of `count` offsets of which only `kept` are left; null when none are. */
function compacted(baseOffset: number, count: number, kept: ReadonlySet<number>, compression = 0): Uint8Array | null {
  const list = Array.from({ length: count }, (_, i) => ({
    key: Buffer.from(`k${baseOffset + i}`),
    value: i % 4 === 0 ? null : Buffer.from('a value, a value, a value'),
    timestampMs: 5_000 + i,
  }));
  const batch = encodeBatch(list, { baseOffset, compression: COMPRESSION_TYPES[compression] }, codecs);
  return rewriteBatch(batch, { retain: ({ offset }) => kept.has(offset), deleteHorizonMs: 1e12 }, codecs);
}

function takeAll(partition: AssignedPartition): number[] {
  const offsets: number[] = [];
  for (let taken = partition.take(); taken !== null; taken = partition.take()) {
    offsets.push(taken.record.offset);
    partition.finish(taken);
  }
  return offsets;
}

describe('a compacted partition', () => {
  test('gives every record that is left from the position on once, and is finished up to its end', () => {
    const size = fc.integer({ min: 1, max: 6 });
    const batches = fc.array(fc.tuple(size, fc.nat({ max: COMPRESSION_TYPES.length - 1 })), { minLength: 1 });
    const everyOffset = fc.infiniteStream(fc.boolean());
    fc.assert(
      fc.property(batches, everyOffset, fc.nat({ max: 40 }), fc.nat({ max: 5 }), (sizes, isKept, from, finished) => {
        const end = sizes.reduce((sum, [count]) => sum + count, 0);
        const position = Math.min(from, end - 1);
        // The newest batch always stays.
        const newest = end - (sizes.at(-1) as [number, number])[0];
        const kept = new Set(
          Array.from({ length: end }, (_, i) => i).filter((i) => isKept.next().value || i >= newest),
        );
        const partition = assignedAt(position, [{ from: position + 1, to: position + 1 + finished }]);
        let baseOffset = 0;
        for (const [count, compression] of sizes) {
          const batch = compacted(baseOffset, count, kept, compression);
          if (batch !== null) partition.receive(batch, end);
          baseOffset += count;
        }
        const wanted = [...kept].filter((o) => o >= position && (o <= position || o > position + finished));
        expect(takeAll(partition)).toEqual(wanted);
        expect(partition.fetchPosition).toBe(end);
        expect(partition.tracker.watermark).toBeGreaterThanOrEqual(end);
        expect(partition.tracker.ranges).toEqual([]);
        expect(partition.bufferedBytes).toBe(0);
      }),
    );
  });

  test('keeps what is unfinished before a gap as the offset to commit', () => {
    const partition = assignedAt(0);
    partition.receive(compacted(0, 5, new Set([1, 3])) as Uint8Array, 20);
    partition.receive(compacted(10, 5, new Set([12])) as Uint8Array, 20);
    const first = partition.take();
    const second = partition.take();
    const third = partition.take();
    expect([first, second, third].map((taken) => taken?.record.offset)).toEqual([1, 3, 12]);
    expect(partition.take()).toBeNull();
    if (first === null || third === null || second === null) expect.unreachable();
    partition.finish(third);
    partition.finish(first);
    expect([partition.tracker.watermark, partition.tracker.ranges]).toEqual([3, [{ from: 4, to: 15 }]]);
    partition.finish(second);
    expect([partition.tracker.watermark, partition.tracker.ranges]).toEqual([15, []]);
  });
});

test('commits past what was withheld and has been deleted since', () => {
  const partition = assignedAt(0);
  const given = compacted(0, 4, new Set([1, 3])) as Uint8Array;
  partition.receive(given, 4, [0n, 2n]);
  for (let taken = partition.take(); taken !== null; taken = partition.take()) partition.finish(taken);
  expect([partition.tracker.watermark, partition.tracker.ranges.length]).toEqual([0, 2]);
  partition.receiveLate(new Uint8Array(), [0n, 2n]);
  expect([partition.tracker.watermark, partition.tracker.ranges]).toEqual([4, []]);
});

describe('records that were withheld', () => {
  const keyed = (offsets: readonly number[], keyOf: (offset: number) => string): Uint8Array[] =>
    offsets.map((offset) =>
      encodeBatch([{ key: Buffer.from(keyOf(offset)), value: Buffer.from('v'), timestampMs: 1 }], {
        baseOffset: offset,
      }),
    );

  test('come late, in the order of their keys, keep the partition from being finished, and are taken once', () => {
    const kinds = fc.array(
      fc.record({ key: fc.nat({ max: 2 }), isWithheld: fc.boolean(), early: fc.nat({ max: 3 }) }),
      {
        minLength: 1,
        maxLength: 30,
      },
    );
    fc.assert(
      fc.property(kinds, fc.nat({ max: 30 }), fc.boolean(), (events, cut, reconnects) => {
        const partition = assignedAt(0);
        const keyOf = (offset: number): string => `k${events[offset]?.key}`;
        // What a key has behind a withheld event is withheld, too.
        const held = new Set<string>();
        const withheld: number[] = [];
        const read: number[] = [];
        for (const [offset, { isWithheld }] of events.entries()) {
          if (isWithheld) held.add(keyOf(offset));
          (held.has(keyOf(offset)) ? withheld : read).push(offset);
        }
        // The broker tells of what it leaves out when others after it are there.
        const told = withheld.filter((offset) => offset < (read.at(-1) ?? -1));
        partition.receive(Buffer.concat(keyed(read, keyOf)), events.length, told.map(BigInt));
        const taken: number[] = [];
        const take = (limit: number): void => {
          for (let i = 0; i < limit; i++) {
            const next = partition.take();
            if (next === null) return;
            taken.push(next.record.offset);
            partition.finish(next);
          }
        };
        take(cut);
        if (reconnects) {
          // The broker has forgotten: it reads again, and has nothing to withhold any more.
          partition.resume();
          const again = events.map((_event, offset) => offset).filter((offset) => offset >= partition.fetchPosition);
          partition.receive(Buffer.concat(keyed(again, keyOf)), events.length);
        } else {
          partition.receiveLate(Buffer.concat(keyed(told, keyOf)));
        }
        take(1_000);
        const expected = reconnects ? events.map((_event, offset) => offset) : [...read, ...told];
        expect(taken.toSorted((a, b) => a - b)).toEqual(expected.toSorted((a, b) => a - b));
        for (const key of ['k0', 'k1', 'k2']) {
          const ofKey = taken.filter((offset) => keyOf(offset) === key);
          expect(ofKey).toEqual(ofKey.toSorted((a, b) => a - b));
        }
        expect(partition.tracker.watermark).toBe(expected.length === 0 ? 0 : Math.max(...expected) + 1);
        expect(partition.bufferedBytes).toBe(0);
      }),
    );
  });

  test('are not finished before they come', () => {
    const partition = assignedAt(0);
    partition.receive(Buffer.concat(keyed([0, 2, 3], () => 'a')), 4, [1n]);
    expect(takeAll(partition)).toEqual([0, 2, 3]);
    expect([partition.tracker.watermark, partition.tracker.ranges]).toEqual([1, [{ from: 2, to: 4 }]]);
    expect(partition.resumePosition).toBe(1);
  });
});
