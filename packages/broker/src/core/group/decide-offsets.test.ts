import { describe, expect, test } from 'vitest';
import { isRefusal } from './decide.ts';
import { commitOf, GROUP_ID, GroupScenario, join } from './group-scenario.ts';
import type { OffsetCommit } from './commands.ts';
import type { OffsetRange } from './group-state.ts';
import { fetchOffsets } from './inspect.ts';

function alone(): GroupScenario {
  const group = new GroupScenario({ orders: 4 });
  group.reply(join('A'));
  return group;
}

function codes(group: GroupScenario, memberId: string, memberEpoch: number, ...offsets: OffsetCommit[]): string[] {
  const { results } = group.reply({ type: 'commit', memberId, memberEpoch, offsets });
  return results.map(({ refusal }) => refusal?.code ?? 'ok');
}

function stored(group: GroupScenario, name = 'orders/0'): [number, ...OffsetRange[]] | undefined {
  const committed = group.state?.offsets.get(group.key(name));
  return committed === undefined ? undefined : [committed.offset, ...committed.finished];
}

function commit(group: GroupScenario, offset: number, finished: readonly OffsetRange[] | null = []): void {
  expect(codes(group, 'A', group.epoch('A'), commitOf(group.key('orders/0'), offset, finished))).toEqual(['ok']);
}

describe('a commit', () => {
  test('is one record a partition, and progress of the member', () => {
    const group = alone();
    group.nowMs = 2_000;
    const [first, second] = group.keys('orders/0', 'orders/1') as [never, never];
    const { records, reply, timers } = group.decide({
      type: 'commit',
      memberId: 'A',
      memberEpoch: 1,
      offsets: [{ ...commitOf(first, 5, [[7, 9]]), metadata: 'mine', leaderEpoch: 3 }, commitOf(second, 100)],
    });
    const plain = { finished: [], metadata: '', leaderEpoch: -1, committedAtMs: 2_000 };
    const full = { offset: 5, finished: [[7, 9]], metadata: 'mine', leaderEpoch: 3, committedAtMs: 2_000 };
    expect(records).toEqual([
      { kind: 'offset', groupId: GROUP_ID, partition: first, value: full },
      { kind: 'offset', groupId: GROUP_ID, partition: second, value: { ...plain, offset: 100 } },
    ]);
    expect(reply).toEqual({
      results: [
        { partition: first, refusal: null },
        { partition: second, refusal: null },
      ],
    });
    expect(timers).toEqual([
      { key: 'session/A', delayMs: 45_000 },
      { key: 'poll/A', delayMs: 300_000 },
    ]);
    const found = fetchOffsets(group.state, group.keys('orders/1', 'orders/2'));
    expect([...found.values()].map((offset) => offset?.offset)).toEqual([100, undefined]);
    expect(group.names(fetchOffsets(group.state, null).keys())).toEqual(['orders/0', 'orders/1']);
    expect(fetchOffsets(undefined, null).size).toBe(0);
  });

  test('merges finished ranges that touch, and those that touch the offset into it', () => {
    const group = alone();
    commit(group, 5, [
      [5, 6],
      [6, 8],
      [9, 10],
      [10, 12],
      [20, 30],
    ]);
    expect(stored(group)).toEqual([8, [9, 12], [20, 30]]);
  });

  test('without finished ranges keeps what is stored beyond it', () => {
    const group = alone();
    commit(group, 5, [
      [7, 9],
      [12, 15],
      [20, 30],
    ]);
    commit(group, 8, null);
    expect(stored(group)).toEqual([9, [12, 15], [20, 30]]);
    commit(group, 13, []);
    expect(stored(group)).toEqual([13]);
  });

  test('that goes back clears what was finished, unless it says what is', () => {
    const group = alone();
    commit(group, 50, [[60, 70]]);
    commit(group, 10, null);
    expect(stored(group)).toEqual([10]);
    commit(group, 50, [[60, 70]]);
    commit(group, 10, [[60, 70]]);
    expect(stored(group)).toEqual([10, [60, 70]]);
  });

  test.each<[string, Partial<OffsetCommit>, string]>([
    ['beyond the end of the log', { offset: 101 }, 'OFFSET_OUT_OF_RANGE'],
    ['below zero', { offset: -1 }, 'OFFSET_OUT_OF_RANGE'],
    ['that is no integer', { offset: 1.5 }, 'OFFSET_OUT_OF_RANGE'],
    ['of a partition that does not exist', { endOffset: null }, 'UNKNOWN_TOPIC_OR_PARTITION'],
    ['with an empty range', { finished: [[7, 7]] }, 'INVALID_REQUEST'],
    [
      'with overlapping ranges',
      {
        finished: [
          [7, 9],
          [8, 10],
        ],
      },
      'INVALID_REQUEST',
    ],
    [
      'with descending ranges',
      {
        finished: [
          [9, 10],
          [7, 8],
        ],
      },
      'INVALID_REQUEST',
    ],
    ['with a range below the offset', { finished: [[4, 8]] }, 'INVALID_REQUEST'],
    ['with a range beyond the end', { finished: [[99, 101]] }, 'OFFSET_OUT_OF_RANGE'],
    ['with a range that is no number', { finished: [[Number.NaN, 8]] }, 'INVALID_REQUEST'],
    ['with metadata that is too large', { metadata: 'é'.repeat(2_049) }, 'OFFSET_METADATA_TOO_LARGE'],
  ])('%s is refused, and the rest of it is not', (_, wrong, code) => {
    const group = alone();
    const bad = { ...commitOf(group.key('orders/0'), 5), ...wrong };
    expect(codes(group, 'A', 1, bad, commitOf(group.key('orders/1'), 6))).toEqual([code, 'ok']);
    expect(stored(group)).toBeUndefined();
    expect(stored(group, 'orders/1')).toEqual([6]);
  });

  test('has limits on ranges, on metadata, on its size, and names a partition once', () => {
    const group = new GroupScenario({ orders: 4 }, { maxFinishedRanges: 2, maxOffsetsPerCommand: 2 });
    group.reply(join('A'));
    const [zero, one, two] = group.keys('orders/0', 'orders/1', 'orders/2') as [never, never, never];
    const three: OffsetRange[] = [
      [10, 11],
      [12, 13],
      [14, 15],
    ];
    expect(codes(group, 'A', 1, commitOf(zero, 5, three))).toEqual(['INVALID_REQUEST']);
    expect(codes(group, 'A', 1, commitOf(zero, 5, three.slice(1)))).toEqual(['ok']);
    expect(codes(group, 'A', 1, { ...commitOf(one, 5), metadata: 'é'.repeat(2_048) })).toEqual(['ok']);
    expect(codes(group, 'A', 1, commitOf(one, 5), commitOf(one, 6))).toEqual(['ok', 'INVALID_REQUEST']);
    const offsets = [zero, one, two].map((partition) => commitOf(partition, 1));
    expect(group.refusal({ type: 'commit', memberId: 'A', memberEpoch: 1, offsets })).toBe('INVALID_REQUEST');
  });
});

describe('fencing of commits', () => {
  test('a member commits what it holds and what it is to release, not what it has released', () => {
    const group = alone();
    group.reply(join('B'));
    const [kept, leaving] = group.keys('orders/0', 'orders/3') as [never, never];
    expect(codes(group, 'A', 1, commitOf(kept, 1), commitOf(leaving, 1))).toEqual(['ok', 'ok']);
    group.reply({ type: 'heartbeat', memberId: 'A', memberEpoch: 1, owned: null, released: [leaving] });
    expect(codes(group, 'A', 1, commitOf(kept, 2), commitOf(leaving, 2))).toEqual(['ok', 'STALE_MEMBER_EPOCH']);
    expect(codes(group, 'B', 2, commitOf(leaving, 3), commitOf(kept, 3))).toEqual(['ok', 'STALE_MEMBER_EPOCH']);
    expect(stored(group)).toEqual([2]);
    expect(stored(group, 'orders/3')).toEqual([3]);
  });

  test('a commit that was sent before the partition went away and came back is refused', () => {
    const group = new GroupScenario({ orders: 2 });
    group.reply(join('A'));
    group.reply(join('B'));
    group.reply({ type: 'heartbeat', memberId: 'A', memberEpoch: 1, owned: [] });
    group.reply({ type: 'leave', memberId: 'B', memberEpoch: -1 });
    expect(group.held('A')).toBe('orders/0 orders/1');
    const [kept, returned] = group.keys('orders/0', 'orders/1') as [never, never];
    const late = [commitOf(kept, 1), commitOf(returned, 1)] as const;
    expect(codes(group, 'A', 1, ...late)).toEqual(['ok', 'STALE_MEMBER_EPOCH']);
    expect(codes(group, 'A', 2, ...late)).toEqual(['ok', 'STALE_MEMBER_EPOCH']);
    expect(codes(group, 'A', 3, ...late)).toEqual(['ok', 'ok']);
  });

  test('a removed member, an epoch to come and a member that left for a while commit nothing', () => {
    const group = alone();
    const offsets = [commitOf(group.key('orders/0'), 1)];
    expect(group.refusal({ type: 'commit', memberId: 'A', memberEpoch: 2, offsets })).toBe('FENCED_MEMBER_EPOCH');
    expect(group.refusal({ type: 'commit', memberId: 'Z', memberEpoch: 1, offsets })).toBe('UNKNOWN_MEMBER_ID');
    group.reply({ type: 'timer', key: 'session/A' });
    expect(group.refusal({ type: 'commit', memberId: 'A', memberEpoch: 1, offsets })).toBe('UNKNOWN_MEMBER_ID');
    group.reply(join('S', { instanceId: 'i' }));
    group.reply({ type: 'leave', memberId: 'S', memberEpoch: -2 });
    expect(group.refusal({ type: 'commit', memberId: 'S', memberEpoch: 3, offsets })).toBe('FENCED_MEMBER_EPOCH');
  });

  test('somebody outside commits to a group without members only, and makes it', () => {
    const group = new GroupScenario({ orders: 1 });
    const outside = {
      type: 'commit' as const,
      memberId: '',
      memberEpoch: -1,
      offsets: [commitOf(group.key('orders/0'), 4)],
    };
    expect(group.lines({ ...outside, offsets: [{ ...outside.offsets[0]!, offset: 101 }] })).toEqual([]);
    expect(group.lines(outside)).toEqual(['group epoch 0', 'offset orders/0 = 4']);
    expect(group.lines(outside)).toEqual(['offset orders/0 = 4']);
    group.reply(join('A'));
    expect(group.refusal(outside)).toBe('UNKNOWN_MEMBER_ID');
  });
});

describe('resetting and deleting', () => {
  test('a reset replaces the offset, clears what was finished, and can remove the offset', () => {
    const group = alone();
    commit(group, 50, [[60, 70]]);
    const [zero, one] = group.keys('orders/0', 'orders/1') as [never, never];
    const reset = {
      type: 'reset-offsets' as const,
      offsets: [
        { partition: zero, offset: 60 },
        { partition: one, offset: null },
      ],
    };
    expect(group.refusal(reset)).toBe('NON_EMPTY_GROUP');
    group.reply({ type: 'leave', memberId: 'A', memberEpoch: -1 });
    expect(group.lines(reset)).toEqual(['offset orders/0 = 60']);
    expect(group.lines({ ...reset, offsets: [{ partition: zero, offset: null }] })).toEqual([
      'offset orders/0 deleted',
    ]);
    expect(group.refusal({ ...reset, offsets: [{ partition: zero, offset: -1 }] })).toBe('OFFSET_OUT_OF_RANGE');
  });

  test('a reset of a group that does not exist yet makes it', () => {
    const group = new GroupScenario({ orders: 1 });
    const offsets = [{ partition: group.key('orders/0'), offset: 3 }];
    expect(group.lines({ type: 'reset-offsets', offsets })).toEqual(['group epoch 0', 'offset orders/0 = 3']);
  });

  test('a static member that left for a while still counts as one', () => {
    const group = new GroupScenario({ orders: 1 });
    group.reply(join('A', { instanceId: 'i' }));
    group.reply({ type: 'leave', memberId: 'A', memberEpoch: -2 });
    expect(group.refusal({ type: 'reset-offsets', offsets: [] })).toBe('NON_EMPTY_GROUP');
  });

  test('a group is deleted with its offsets, when it has no members', () => {
    const group = alone();
    commit(group, 5);
    expect(group.refusal({ type: 'delete-group' })).toBe('NON_EMPTY_GROUP');
    group.reply({ type: 'leave', memberId: 'A', memberEpoch: -1 });
    expect(group.lines({ type: 'delete-group' })).toEqual(['offset orders/0 deleted', 'group deleted']);
    const { reply } = group.decide({ type: 'delete-group' });
    expect(isRefusal(reply) && reply.code).toBe('GROUP_ID_NOT_FOUND');
  });

  test('offsets of a deleted topic go, those of others stay', () => {
    const group = new GroupScenario({ orders: 1, carts: 1 });
    const offsets = [commitOf(group.key('orders/0'), 1), commitOf(group.key('carts/0'), 2)];
    group.reply({ type: 'commit', memberId: '', memberEpoch: -1, offsets });
    const { topicId } = group.context.topics('orders')!;
    expect(group.lines({ type: 'delete-offsets-of-topic', topicId })).toEqual(['offset orders/0 deleted']);
    expect(group.lines({ type: 'delete-offsets-of-topic', topicId })).toEqual([]);
    expect(stored(group, 'carts/0')).toEqual([2]);
  });
});
