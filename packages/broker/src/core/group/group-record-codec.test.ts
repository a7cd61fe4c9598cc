import { partitionKey } from '@naru/base';
import type { PartitionKey, TopicId } from '@naru/base';
import { isNaruError } from '@naru/protocol';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { decodeGroupRecord, encodeGroupRecord } from './group-record-codec.ts';
import { comparePartitions } from './group-state.ts';
import type { CommittedOffset, GroupRecord, MemberState, OffsetRange } from './group-state.ts';

const SEED = 848;

const int32 = fc.integer({ min: 0, max: 2 ** 31 - 1 });
const partitions: fc.Arbitrary<PartitionKey> = fc
  .tuple(fc.uuid(), int32)
  .map(([id, partition]) => partitionKey(id as TopicId, partition));
const sortedPartitions = fc.uniqueArray(partitions, { maxLength: 5 }).map((list) => list.toSorted(comparePartitions));
const held = fc
  .tuple(sortedPartitions, fc.array(int32, { minLength: 5, maxLength: 5 }))
  .map(([list, epochs]) => new Map(list.map((key, index) => [key, epochs[index]!])));

const bytes = fc.uint8Array({ maxLength: 20 });
const protocols = fc.record({ name: fc.string(), metadata: bytes });

function members(memberId: string): fc.Arbitrary<MemberState> {
  return fc.record({
    memberId: fc.constant(memberId),
    memberEpoch: fc.integer({ min: -2, max: 2 ** 31 - 1 }),
    joinEpoch: int32,
    instanceId: fc.option(fc.string({ minLength: 1 })),
    clientId: fc.string(),
    clientHost: fc.string(),
    topics: fc.array(fc.string(), { maxLength: 4 }),
    sessionTimeoutMs: int32,
    rebalanceTimeoutMs: int32,
    maxPollIntervalMs: fc.option(fc.integer({ min: 1, max: 2 ** 31 - 1 })),
    assigned: held,
    revoking: held,
    target: sortedPartitions,
    kafka: fc.option(
      fc.record({
        told: sortedPartitions,
        topicPattern: fc.option(fc.string({ minLength: 1 })),
        classic: fc.option(
          fc.record({ protocols: fc.array(protocols, { maxLength: 3 }), assignment: bytes, readable: fc.boolean() }),
        ),
      }),
    ),
  });
}

const committed: fc.Arbitrary<CommittedOffset> = fc
  .record({
    offset: fc.integer({ min: 0, max: 2 ** 50 }),
    gaps: fc.array(fc.tuple(fc.integer({ min: 1, max: 2 ** 31 }), fc.integer({ min: 1, max: 1000 })), { maxLength: 6 }),
    metadata: fc.string(),
    leaderEpoch: fc.integer({ min: -1, max: 1000 }),
    committedAtMs: fc.integer({ min: 0, max: 2 ** 45 }),
  })
  .map(({ gaps, ...rest }) => {
    let end = rest.offset;
    const finished: OffsetRange[] = gaps.map(([gap, length]) => {
      const from = end + gap;
      end = from + length;
      return [from, end];
    });
    return { ...rest, finished };
  });

const groupIds = fc.string({ minLength: 1 });
const records: fc.Arbitrary<GroupRecord> = fc.oneof(
  fc.record({
    kind: fc.constant('group' as const),
    groupId: groupIds,
    value: fc.option(
      fc.record({
        groupEpoch: int32,
        assignmentEpoch: int32,
        createdAtMs: fc.integer({ min: 0, max: 2 ** 45 }),
        classic: fc.option(
          fc.record({
            protocolType: fc.string(),
            protocolName: fc.option(fc.string({ minLength: 1 })),
            leaderId: fc.option(fc.string({ minLength: 1 })),
          }),
        ),
      }),
    ),
  }),
  fc.string({ minLength: 1 }).chain((memberId) =>
    fc.record({
      kind: fc.constant('member' as const),
      groupId: groupIds,
      memberId: fc.constant(memberId),
      value: fc.option(members(memberId)),
    }),
  ),
  fc.record({
    kind: fc.constant('offset' as const),
    groupId: groupIds,
    partition: partitions,
    value: fc.option(committed),
  }),
);

test('a record is the same after encoding and decoding, and its lists keep their order', () => {
  fc.assert(
    fc.property(records, (record) => {
      const { key, value } = encodeGroupRecord(record);
      const decoded = decodeGroupRecord(key, value);
      expect(decoded).toEqual(record);
      expect(encodeGroupRecord(decoded)).toEqual({ key, value });
    }),
    { seed: SEED, numRuns: 500 },
  );
});

test('bytes that are cut or changed are refused as corrupt, or read as another record, but never fail otherwise', () => {
  fc.assert(
    fc.property(records, fc.nat(), fc.nat(255), fc.boolean(), (record, at, byte, cut) => {
      const encoded = encodeGroupRecord(record);
      const damage = (bytes: Uint8Array): Uint8Array => {
        if (bytes.length === 0) return bytes;
        const index = at % bytes.length;
        return cut ? bytes.slice(0, index) : bytes.with(index, byte);
      };
      for (const [key, value] of [
        [damage(encoded.key), encoded.value],
        [encoded.key, encoded.value === null ? null : damage(encoded.value)],
      ] as const) {
        try {
          decodeGroupRecord(key, value);
        } catch (error) {
          expect(isNaruError(error, 'DATA_CORRUPT')).toBe(true);
        }
      }
    }),
    { seed: SEED, numRuns: 500 },
  );
});

test('a key without a group, without a subject or with a short topic id is corrupt', () => {
  const noGroup = new Uint8Array([0x10, 1]);
  const noSubject = new Uint8Array([0x0a, 1, 0x67]);
  const shortTopicId = new Uint8Array([0x0a, 1, 0x67, 0x22, 4, 0x0a, 2, 1, 2]);
  for (const key of [noGroup, noSubject, shortTopicId, new Uint8Array([0xff])]) {
    expect(() => decodeGroupRecord(key, null)).toThrow(expect.objectContaining({ code: 'DATA_CORRUPT' }));
  }
});
