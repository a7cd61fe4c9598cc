import { partitionKey, splitPartitionKey } from '@naru/base';
import type { PartitionKey, TopicId } from '@naru/base';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { assignPartitions } from './assignor.ts';
import type { AssignorMember } from './assignor.ts';

const SEED = 20_261_122;

function topicId(index: number): TopicId {
  return `00000000-0000-4000-8000-${String(index).padStart(12, '0')}` as TopicId;
}

function topics(...counts: number[]): Map<TopicId, number> {
  return new Map(counts.map((count, index) => [topicId(index), count]));
}

function member(memberId: string, subscribed: number[], current: readonly PartitionKey[] = []): AssignorMember {
  return { memberId, topicIds: subscribed.map(topicId), current };
}

function keys(topic: number, ...partitions: number[]): PartitionKey[] {
  return partitions.map((partition) => partitionKey(topicId(topic), partition));
}

function loadsOf(assignment: ReadonlyMap<string, readonly PartitionKey[]>): number[] {
  return [...assignment.values()].map((list) => list.length);
}

function moves(members: readonly AssignorMember[], assignment: ReadonlyMap<string, readonly PartitionKey[]>): number {
  let count = 0;
  for (const { memberId, current } of members) {
    const kept = new Set(assignment.get(memberId));
    count += current.filter((key) => !kept.has(key)).length;
  }
  return count;
}

test('one member gets everything, in order', () => {
  const assignment = assignPartitions([member('A', [1, 0])], topics(2, 11));
  expect(assignment.get('A')).toEqual([...keys(0, 0, 1), ...keys(1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)]);
});

test('topics of one partition do not all go to the first member', () => {
  const assignment = assignPartitions([member('B', [0, 1, 2, 3]), member('A', [0, 1, 2, 3])], topics(1, 1, 1, 1));
  expect(assignment.get('A')).toEqual([...keys(0, 0), ...keys(2, 0)]);
  expect(assignment.get('B')).toEqual([...keys(1, 0), ...keys(3, 0)]);
});

test('each topic is spread, not only their sum', () => {
  const members = ['A', 'B', 'C'].map((id) => member(id, [0, 1]));
  const assignment = assignPartitions(members, topics(3, 6));
  for (const list of assignment.values()) {
    expect(list.filter((key) => splitPartitionKey(key).topicId === topicId(0))).toHaveLength(1);
    expect(list.filter((key) => splitPartitionKey(key).topicId === topicId(1))).toHaveLength(2);
  }
});

test('a new member takes its share of every topic, and nobody else moves', () => {
  const before = assignPartitions([member('A', [0, 1]), member('B', [0, 1])], topics(6, 6));
  const members = [member('A', [0, 1], before.get('A')), member('B', [0, 1], before.get('B')), member('C', [0, 1])];
  const after = assignPartitions(members, topics(6, 6));
  expect(loadsOf(after)).toEqual([4, 4, 4]);
  expect(moves(members, after)).toBe(4);
  expect(
    after
      .get('C')!
      .map((key) => splitPartitionKey(key).topicId)
      .toSorted(),
  ).toEqual([0, 0, 1, 1].map(topicId));
});

test('a chain of members hands partitions on when the overloaded one shares nothing with the idle one', () => {
  // A reads topic 0, B topics 0 and 1, C topic 1: for C to get some, B must give up topic 1 and take topic 0 of A.
  const members = [member('A', [0], keys(0, 0, 1, 2, 3)), member('B', [0, 1], keys(1, 0, 1)), member('C', [1])];
  const assignment = assignPartitions(members, topics(4, 2));
  expect(loadsOf(assignment)).toEqual([2, 2, 2]);
});

test('what a member may not have is passed over: deleted topics, absent partitions, a rival claim', () => {
  const members = [member('A', [0], [...keys(0, 0, 1, 7), ...keys(9, 0)]), member('B', [0], keys(0, 1))];
  const assignment = assignPartitions(members, topics(2));
  expect(assignment).toEqual(
    new Map([
      ['A', keys(0, 0)],
      ['B', keys(0, 1)],
    ]),
  );
});

test('without members or topics nothing is assigned', () => {
  expect(assignPartitions([], topics(3))).toEqual(new Map());
  expect(assignPartitions([member('A', [5])], topics(3))).toEqual(new Map([['A', []]]));
});

/** A few members and topics, and current claims that may be stale, unsubscribed or in conflict. */
const worlds = fc
  .record({
    counts: fc.array(fc.integer({ min: 0, max: 4 }), { minLength: 1, maxLength: 3 }),
    subscriptions: fc.array(fc.uniqueArray(fc.integer({ min: 0, max: 2 }), { minLength: 1 }), {
      minLength: 1,
      maxLength: 4,
    }),
    claims: fc.array(fc.tuple(fc.nat(3), fc.nat(2), fc.nat(4)), { maxLength: 10 }),
  })
  .map(({ counts, subscriptions, claims }) => ({
    counts: topics(...counts),
    members: subscriptions.map((subscribed, index) =>
      member(
        `m${index}`,
        subscribed,
        claims.flatMap(([who, topic, p]) => (who === index ? keys(topic, p) : [])),
      ),
    ),
  }));

function partitionsOf(counts: ReadonlyMap<TopicId, number>): PartitionKey[] {
  return [...counts].flatMap(([id, count]) => Array.from({ length: count }, (_, p) => partitionKey(id, p)));
}

/** Tries every assignment. */
function bestBalance(members: readonly AssignorMember[], counts: ReadonlyMap<TopicId, number>): number {
  const loads = members.map(() => 0);
  const takers = partitionsOf(counts)
    .map((key) => members.flatMap(({ topicIds }, i) => (topicIds.includes(splitPartitionKey(key).topicId) ? [i] : [])))
    .filter((list) => list.length > 0);
  // Partitions with the same takers are interchangeable: counting them is enough, and keeps this fast.
  const states = new Set([loads.join()]);
  let current = states;
  for (const list of takers) {
    const next = new Set<string>();
    for (const state of current) {
      for (const taker of list) {
        next.add(
          state
            .split(',')
            .map((load, i) => Number(load) + (i === taker ? 1 : 0))
            .join(),
        );
      }
    }
    current = next;
  }
  return Math.min(...[...current].map((state) => squares(state.split(',').map(Number))));
}

function squares(loads: readonly number[]): number {
  return loads.reduce((sum, load) => sum + load * load, 0);
}

test('every partition with a subscriber has exactly one owner, who subscribes to it, and balance is the best there is', () => {
  fc.assert(
    fc.property(worlds, ({ counts, members }) => {
      const assignment = assignPartitions(members, counts);
      const given = [...assignment].flatMap(([memberId, list]) => list.map((key) => ({ memberId, key })));
      const subscribed = new Set(members.flatMap(({ topicIds }) => topicIds));
      const expected = partitionsOf(counts).filter((key) => subscribed.has(splitPartitionKey(key).topicId));
      expect(given.map(({ key }) => key).toSorted()).toEqual(expected.toSorted());
      for (const { memberId, key } of given) {
        const owner = members.find((candidate) => candidate.memberId === memberId)!;
        expect(owner.topicIds).toContain(splitPartitionKey(key).topicId);
      }
      expect(squares(loadsOf(assignment))).toBe(bestBalance(members, counts));
    }),
    { seed: SEED, numRuns: 300 },
  );
});

test('an assignment that was computed is kept as it is, whatever the order of the members', () => {
  fc.assert(
    fc.property(worlds, ({ counts, members }) => {
      const first = assignPartitions(members, counts);
      const again = members.map((each) => ({ ...each, current: first.get(each.memberId)! })).toReversed();
      expect(assignPartitions(again, counts)).toEqual(first);
    }),
    { seed: SEED, numRuns: 300 },
  );
});

test('with equal subscriptions no partition moves that need not', () => {
  const homogeneous = fc.record({
    count: fc.integer({ min: 1, max: 40 }),
    size: fc.integer({ min: 1, max: 6 }),
    owners: fc.array(fc.nat(7), { minLength: 40, maxLength: 40 }),
  });
  fc.assert(
    fc.property(homogeneous, ({ count, size, owners }) => {
      const members = Array.from({ length: size }, (_, index) => {
        const mine = owners.slice(0, count).flatMap((owner, p) => (owner === index ? [p] : []));
        return member(`m${index}`, [0], keys(0, ...mine));
      });
      const assignment = assignPartitions(members, topics(count));
      // The largest holders keep the larger shares; everything above a share must go.
      const shares = Array.from({ length: size }, (_, i) => Math.floor(count / size) + (i < count % size ? 1 : 0));
      const held = members.map(({ current }) => current.length).toSorted((a, b) => b - a);
      const fewest = held.reduce((sum, load, i) => sum + Math.max(0, load - shares[i]!), 0);
      expect(moves(members, assignment)).toBe(fewest);
      expect(loadsOf(assignment).toSorted((a, b) => b - a)).toEqual(shares);
    }),
    { seed: SEED, numRuns: 300 },
  );
});
