import { expect, test } from 'vitest';
import { commitOf, GROUP_ID, GroupScenario, join } from './group-scenario.ts';
import { comparePartitions, evolveGroup, evolveGroups, groupRecords } from './group-state.ts';
import type { GroupState } from './group-state.ts';

function replay(records: Parameters<typeof evolveGroup>[1][]): GroupState | undefined {
  let state: GroupState | undefined;
  for (const record of records) state = evolveGroup(state, record);
  return state;
}

function busyGroup(): GroupScenario {
  const group = new GroupScenario({ orders: 4 });
  group.reply(join('A'));
  group.reply({
    type: 'commit',
    memberId: 'A',
    memberEpoch: 1,
    offsets: [commitOf(group.key('orders/1'), 7, [[9, 12]])],
  });
  group.reply(join('B'));
  return group;
}

test('replaying the log, or only a snapshot, gives the same group', () => {
  const group = busyGroup();
  expect(replay(group.records)).toEqual(group.state);
  expect(replay(groupRecords(group.state!))).toEqual(group.state);
});

test('a compacted log, where the group itself comes last, gives the same group', () => {
  const group = busyGroup();
  expect(replay(groupRecords(group.state!).toReversed())).toEqual(group.state);
});

test('a group is gone with its last record, and tombstones of what is gone change nothing', () => {
  const group = busyGroup();
  group.reply({ type: 'leave', memberId: 'A', memberEpoch: -1 });
  group.reply({ type: 'leave', memberId: 'B', memberEpoch: -1 });
  const groups = new Map([[GROUP_ID, group.state!]]);
  const { records } = group.decide({ type: 'delete-group' });
  expect(group.state).toBeUndefined();
  for (const record of records) evolveGroups(groups, record);
  expect(groups.size).toBe(0);
  for (const record of records) evolveGroups(groups, record);
  expect(groups.size).toBe(0);
});

test('partitions are ordered by topic, then by number and not by digits', () => {
  const group = new GroupScenario({ orders: 20, carts: 2 });
  const shuffled = group.keys('carts/0', 'orders/10', 'orders/9', 'orders/0', 'carts/1');
  expect(group.names(shuffled.toSorted(comparePartitions))).toEqual([
    'orders/0',
    'orders/9',
    'orders/10',
    'carts/0',
    'carts/1',
  ]);
});
