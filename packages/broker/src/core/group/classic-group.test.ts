import { describe, expect, test } from 'vitest';
import { timersAfterRecovery } from './decide-membership.ts';
import { commitOf, GroupScenario, join } from './group-scenario.ts';
import { describeGroup, groupStateName } from './inspect.ts';
import { assignment, bytesOf, classicJoin, classicSync, kafkaHeartbeat } from './kafka-clients.ts';
import type { ClassicJoinCommand } from './kafka-commands.ts';

const JOINED = expect.objectContaining({ outcome: 'joined' });

/** A and B at generation 1, A leading, each with one of two partitions. */
function stable(changes: Partial<ClassicJoinCommand> = {}): GroupScenario {
  const group = new GroupScenario({ orders: 2 });
  const [first, second] = group.keys('orders/0', 'orders/1') as [never, never];
  for (const newMemberId of ['A', 'B']) group.decide(classicJoin('', { newMemberId, ...changes }));
  fire(group, 'barrier/');
  fire(group, 'barrier/');
  group.decide(classicSync('B', 1));
  group.decide(classicSync('A', 1, [assignment('A', [first]), assignment('B', [second])]));
  group.answers.length = 0;
  return group;
}

function fire(group: GroupScenario, key: string): void {
  expect(group.timers.delete(key)).toBe(true);
  group.decide({ type: 'timer', key });
}

function stateOf(group: GroupScenario): string {
  return groupStateName(group.state!, group.round);
}

function heartbeat(memberId: string, generation: number) {
  return { type: 'classic-heartbeat' as const, memberId, instanceId: null, generation };
}

describe('a group whose members assign', () => {
  test('the first generation waits for more members, the leader hears of all, and each gets what the leader gave', () => {
    const group = new GroupScenario({ orders: 2 });
    expect(group.reply(classicJoin('', { newMemberId: 'A' }))).toEqual({ parked: 'join/A' });
    expect(group.timers).toEqual(new Map([['barrier/', 250]]));
    expect(group.reply(classicJoin('', { newMemberId: 'B' }))).toEqual({ parked: 'join/B' });
    expect(stateOf(group)).toBe('preparing-rebalance');
    // Somebody came, so it waits again; nobody came meanwhile, so it begins.
    fire(group, 'barrier/');
    expect(group.answers).toEqual([]);
    fire(group, 'barrier/');
    const metadata = bytesOf({ topics: ['orders'], owned: [] });
    const told = { outcome: 'joined', generation: 1, protocolType: 'consumer', protocolName: 'range', leaderId: 'A' };
    expect(group.answers).toEqual([
      {
        key: 'join/A',
        reply: {
          ...told,
          memberId: 'A',
          skipAssignment: false,
          members: [
            { memberId: 'A', instanceId: null, metadata },
            { memberId: 'B', instanceId: null, metadata },
          ],
        },
      },
      { key: 'join/B', reply: { ...told, memberId: 'B', members: [], skipAssignment: false } },
    ]);
    expect(group.timers).toEqual(
      new Map([
        ['session/A', 10_000],
        ['session/B', 10_000],
        ['sync/', 60_000],
      ]),
    );
    expect(group.reply(classicSync('B', 1))).toEqual({ parked: 'sync/B' });
    expect(stateOf(group)).toBe('completing-rebalance');
    const [first, second] = group.keys('orders/0', 'orders/1') as [never, never];
    const sync = classicSync('A', 1, [assignment('A', [first]), assignment('B', [second])]);
    expect(group.reply(sync)).toMatchObject({ assignment: { by: 'leader', bytes: bytesOf([first]) } });
    expect(group.answers.at(-1)).toMatchObject({
      key: 'sync/B',
      reply: { assignment: { by: 'leader', bytes: bytesOf([second]) } },
    });
    expect(group.timers.has('sync/')).toBe(false);
    expect(group.round).toBeNull();
    expect(describeGroup(group.state!, group.round)).toMatchObject({
      state: 'stable',
      type: 'classic',
      protocolType: 'consumer',
      protocolName: 'range',
      leaderId: 'A',
      members: [
        { memberId: 'A', protocol: 'classic', metadata, assignment: bytesOf([first]) },
        { memberId: 'B', protocol: 'classic', metadata, assignment: bytesOf([second]) },
      ],
    });
  });

  test('a dynamic member joins with the id that it is given, and one that does not come back is not waited for', () => {
    const group = stable();
    const ask = classicJoin('', { newMemberId: 'C', requiresMemberId: true });
    expect(group.reply(ask)).toEqual({ outcome: 'member-id-required', memberId: 'C' });
    expect(group.reply(heartbeat('A', 1))).toEqual({ mustJoin: false });
    group.reply(classicJoin('A'));
    group.reply(classicJoin('B'));
    expect(group.answers).toEqual([]);
    fire(group, 'session/C');
    expect(group.answers).toEqual([
      { key: 'join/A', reply: JOINED },
      { key: 'join/B', reply: JOINED },
    ]);
    expect(group.refusal(classicJoin('C'))).toBe('UNKNOWN_MEMBER_ID');
  });

  test('a new member makes the others join again; who does not in time is out', () => {
    const group = stable();
    group.reply(classicJoin('', { newMemberId: 'C' }));
    expect(group.reply(heartbeat('A', 1))).toEqual({ mustJoin: true });
    group.reply(classicJoin('B'));
    expect(group.answers).toEqual([]);
    fire(group, 'barrier/');
    expect(group.answers).toEqual([
      { key: 'join/C', reply: expect.objectContaining({ generation: 2, leaderId: 'B', members: [] }) },
      {
        key: 'join/B',
        reply: expect.objectContaining({ generation: 2, members: [expect.anything(), expect.anything()] }),
      },
    ]);
    expect(group.refusal(heartbeat('A', 1))).toBe('UNKNOWN_MEMBER_ID');
    expect(group.refusal(heartbeat('B', 1))).toBe('ILLEGAL_GENERATION');
    expect(group.reply(heartbeat('B', 2))).toEqual({ mustJoin: false });
  });

  test('members that wait for a leader that is gone are to join again', () => {
    const group = stable();
    group.reply(classicJoin('B', { subscription: { topics: ['other'], owned: [] } }));
    group.reply(classicJoin('A'));
    group.reply(classicSync('B', 2));
    fire(group, 'sync/');
    expect(group.answers.at(-1)).toMatchObject({ key: 'sync/B', reply: { code: 'REBALANCE_IN_PROGRESS' } });
    expect([...group.state!.members.keys()]).toEqual(['B']);
    group.answers.length = 0;
    expect(group.reply(classicJoin('B'))).toMatchObject({ generation: 3, leaderId: 'B' });
  });

  test('a follower that says the same as before joins without disturbing the others, a leader begins a new generation', () => {
    const group = stable();
    expect(group.lines(classicJoin('B'))).toEqual([]);
    expect(group.reply(classicJoin('B'))).toMatchObject({ outcome: 'joined', generation: 1, leaderId: 'A' });
    expect(group.reply(classicJoin('A'))).toEqual({ parked: 'join/A' });
    expect(group.reply(heartbeat('B', 1))).toEqual({ mustJoin: true });
  });

  test('a request that its member sends again takes the place of the one that waits', () => {
    const group = stable();
    group.reply(classicJoin('A'));
    expect(group.reply(classicJoin('A'))).toEqual({ parked: 'join/A' });
    expect(group.answers).toMatchObject([{ key: 'join/A', reply: { code: 'REBALANCE_IN_PROGRESS' } }]);
  });

  test('protocols are what all have in common, by majority; others are turned away', () => {
    const group = new GroupScenario({ orders: 2 });
    const protocols = (...names: string[]) => names.map((name) => ({ name, metadata: new Uint8Array([1]) }));
    group.reply(classicJoin('', { newMemberId: 'A', protocols: protocols('x', 'y', 'z') }));
    group.reply(classicJoin('', { newMemberId: 'B', protocols: protocols('z', 'y') }));
    expect(group.refusal(classicJoin('', { newMemberId: 'C', protocols: protocols('x') }))).toBe(
      'INCONSISTENT_GROUP_PROTOCOL',
    );
    group.reply(classicJoin('', { newMemberId: 'C', protocols: protocols('z', 'y') }));
    const connect = classicJoin('', { newMemberId: 'D', protocolType: 'connect', protocols: protocols('z') });
    expect(group.refusal(connect)).toBe('INCONSISTENT_GROUP_PROTOCOL');
    fire(group, 'barrier/');
    fire(group, 'barrier/');
    expect(group.state!.classic).toEqual({ protocolType: 'consumer', protocolName: 'z', leaderId: 'A' });
  });

  test('the last to leave empties the group, which anybody may join then', () => {
    const group = stable();
    const members = [
      { memberId: 'A', instanceId: null },
      { memberId: 'nobody', instanceId: null },
      { memberId: 'B', instanceId: null },
    ];
    const { results } = group.reply({ type: 'classic-leave', members });
    expect(results.map(({ refusal }) => refusal?.code ?? null)).toEqual([null, 'UNKNOWN_MEMBER_ID', null]);
    expect(stateOf(group)).toBe('empty');
    expect(group.timers).toEqual(new Map());
    expect(group.reply(join('G'))).toMatchObject({ assigned: group.keys('orders/0', 'orders/1') });
    expect(group.state!.classic).toBeNull();
  });

  test('commits are fenced by generation, wait while partitions change hands, and are not for outsiders', () => {
    const group = stable();
    const commit = (memberId: string, memberEpoch: number) => ({
      type: 'commit' as const,
      memberId,
      memberEpoch,
      offsets: [commitOf(group.key('orders/1'), 5)],
    });
    expect(group.refusal(commit('', -1))).toBe('UNKNOWN_MEMBER_ID');
    expect(group.refusal(commit('A', 0))).toBe('ILLEGAL_GENERATION');
    expect(group.reply(commit('A', 1)).results[0]!.refusal).toBeNull();
    group.reply(classicJoin('A'));
    expect(group.reply(commit('B', 1)).results[0]!.refusal).toBeNull();
    group.reply(classicJoin('B'));
    expect(group.refusal(commit('B', 2))).toBe('REBALANCE_IN_PROGRESS');
    expect(group.refusal({ type: 'reset-offsets', offsets: [] })).toBe('NON_EMPTY_GROUP');
  });

  test('after a restart a stable group goes on, and one in between joins again', () => {
    const group = stable();
    expect(timersAfterRecovery(group.state!).map(({ key }) => key)).toEqual(['session/A', 'session/B']);
    expect(group.reply(heartbeat('A', 1))).toEqual({ mustJoin: false });
    group.reply(classicJoin('A'));
    group.reply(classicJoin('B'));
    group.round = null;
    expect(timersAfterRecovery(group.state!).map(({ key }) => key)).toContain('barrier/');
    expect(group.reply(heartbeat('B', 2))).toEqual({ mustJoin: true });
    expect(group.refusal(classicSync('B', 2))).toBe('REBALANCE_IN_PROGRESS');
  });
});

describe('static members of a classic group', () => {
  const instanceId = 'i1';

  test('a new process takes the place of the old one, with its assignment and without a rebalance', () => {
    const group = stable();
    group.reply(classicJoin('', { newMemberId: 'C', instanceId }));
    group.reply(classicJoin('A'));
    group.reply(classicJoin('B'));
    const given = group.keys('orders/1');
    group.reply({ ...classicSync('C', 2), instanceId });
    group.reply(classicSync('A', 2, [assignment('C', given)]));
    group.reply(classicSync('B', 2));
    const again = classicJoin('', { newMemberId: 'D', instanceId });
    expect(group.reply(again)).toMatchObject({ outcome: 'joined', memberId: 'D', generation: 2 });
    expect(group.reply({ ...classicSync('D', 2), instanceId })).toMatchObject({
      assignment: { bytes: bytesOf(given) },
    });
    expect(group.refusal({ ...heartbeat('C', 2), instanceId })).toBe('FENCED_INSTANCE_ID');
    expect(group.refusal(classicJoin('C', { instanceId }))).toBe('FENCED_INSTANCE_ID');
    expect(group.refusal(classicJoin('E', { instanceId: 'other' }))).toBe('UNKNOWN_MEMBER_ID');
    const { results } = group.reply({ type: 'classic-leave', members: [{ memberId: '', instanceId }] });
    expect(results[0]!.refusal).toBeNull();
    expect(group.reply(heartbeat('A', 2))).toEqual({ mustJoin: true });
  });

  test('a leader that is replaced is told not to assign again, or of its predecessor as leader', () => {
    const group = new GroupScenario({ orders: 1 });
    group.reply(classicJoin('', { newMemberId: 'A', instanceId }));
    fire(group, 'barrier/');
    group.reply({ ...classicSync('A', 1, [assignment('A', group.keys('orders/0'))]), instanceId });
    const able = classicJoin('', { newMemberId: 'B', instanceId, canSkipAssignment: true });
    expect(group.reply(able)).toMatchObject({ leaderId: 'B', skipAssignment: true, members: [{ memberId: 'B' }] });
    const unable = classicJoin('', { newMemberId: 'C', instanceId });
    expect(group.reply(unable)).toMatchObject({ leaderId: 'B', skipAssignment: false, members: [] });
  });

  test('one that is away keeps its place over generations until its session ends', () => {
    const group = stable();
    group.reply(classicJoin('', { newMemberId: 'C', instanceId }));
    group.reply(classicJoin('A'));
    group.reply(classicJoin('B'));
    group.reply(classicSync('A', 2, []));
    group.reply(classicJoin('A'));
    group.reply(classicJoin('B'));
    fire(group, 'barrier/');
    expect(group.state!.groupEpoch).toBe(3);
    expect([...group.state!.members.keys()].sort()).toEqual(['A', 'B', 'C']);
    fire(group, 'session/C');
    expect(group.reply(heartbeat('A', 3))).toEqual({ mustJoin: true });
  });
});

describe('going over to the broker’s assignment', () => {
  test('the first member that is pushed its assignment takes the group over; only who loses something has to act', () => {
    const group = stable();
    expect(group.reply(join('G'))).toMatchObject({ memberEpoch: 2, assigned: [] });
    // Two partitions for three members: B or A keep theirs, and nothing changes for them.
    expect(group.reply(heartbeat('A', 1))).toEqual({ mustJoin: false });
    expect(group.reply(heartbeat('B', 1))).toEqual({ mustJoin: false });
    group.setTopic('orders', 3);
    group.reply({ type: 'topics-changed' });
    expect(group.held('G')).toBe('orders/2');
    expect(group.state!.classic).toBeNull();
    expect(describeGroup(group.state!)).toMatchObject({ type: 'consumer', state: 'stable' });
  });

  test('requests that wait are to be made again, and what a member still works on is not given away', () => {
    const group = stable();
    const [first, second] = group.keys('orders/0', 'orders/1') as [never, never];
    const owns = (partition: never) => ({ subscription: { topics: ['orders'], owned: [partition] } });
    // B joins holding its partition (cooperative); A says that it gave up its own (eager).
    group.reply(classicJoin('B', owns(second)));
    group.reply(classicJoin('A'));
    group.reply(classicSync('B', 2));
    group.answers.length = 0;
    // The leader takes from B what it still works on; before B hears of it the group goes over.
    group.reply(classicSync('A', 2, [assignment('A', [first])]));
    expect(group.held('B')).toBe('− orders/1');
    group.reply(classicJoin('', { newMemberId: 'C' }));
    group.reply(classicJoin('A', owns(first)));
    group.answers.length = 0;
    expect(group.reply(kafkaHeartbeat('K'))).toMatchObject({ memberEpoch: 3, assigned: [] });
    const again = expect.objectContaining({ code: 'REBALANCE_IN_PROGRESS' });
    expect(group.answers).toEqual([
      { key: 'join/C', reply: again },
      { key: 'join/A', reply: again },
    ]);
    // C was never told that it is a member.
    expect([...group.state!.members.keys()]).toEqual(['A', 'B', 'K']);
    expect([...group.timers.keys()].sort()).toEqual(['revoke/B', 'session/A', 'session/B', 'session/K']);
    expect(group.reply(heartbeat('B', 2))).toEqual({ mustJoin: true });
    expect(group.held('K')).toBe('');
    expect(group.reply(classicJoin('B'))).toMatchObject({ memberId: 'B', generation: 3, leaderId: '' });
    const rest = [group.held('B'), group.held('K')].sort();
    expect(rest).toEqual(['', 'orders/1']);
  });

  test('groups of other protocol types, and members that cannot be read, refuse it', () => {
    const connect = stable({ protocolType: 'connect', subscription: null });
    expect(connect.refusal(join('G'))).toBe('INCONSISTENT_GROUP_PROTOCOL');
    expect(connect.refusal(kafkaHeartbeat('K'))).toBe('INCONSISTENT_GROUP_PROTOCOL');
    const unreadable = stable({ subscription: null });
    expect(unreadable.refusal(join('G'))).toBe('INCONSISTENT_GROUP_PROTOCOL');
  });
});
