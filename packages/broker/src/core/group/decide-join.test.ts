import { describe, expect, test } from 'vitest';
import { isRefusal } from './decide.ts';
import { commitOf, GROUP_ID, GroupScenario, join } from './group-scenario.ts';

describe('joining anew', () => {
  test('the first member makes the group and gets every partition', () => {
    const group = new GroupScenario({ orders: 2 });
    const { records, reply, timers } = group.decide(
      join('A', { topics: ['orders', 'not-yet', 'orders'], clientId: 'shop' }),
    );
    const [first, second] = group.keys('orders/0', 'orders/1') as [never, never];
    expect(records).toEqual([
      {
        kind: 'group',
        groupId: GROUP_ID,
        value: { groupEpoch: 1, assignmentEpoch: 1, createdAtMs: 1_000, classic: null },
      },
      {
        kind: 'member',
        groupId: GROUP_ID,
        memberId: 'A',
        value: {
          memberId: 'A',
          memberEpoch: 1,
          joinEpoch: 1,
          instanceId: null,
          clientId: 'shop',
          clientHost: '127.0.0.1',
          topics: ['not-yet', 'orders'],
          sessionTimeoutMs: 45_000,
          rebalanceTimeoutMs: 300_000,
          maxPollIntervalMs: 300_000,
          assigned: new Map([
            [first, 1],
            [second, 1],
          ]),
          revoking: new Map(),
          target: [first, second],
          kafka: null,
        },
      },
    ]);
    expect(reply).toEqual({
      memberEpoch: 1,
      assigned: [first, second],
      revoking: [],
      sessionTimeoutMs: 45_000,
      heartbeatIntervalMs: 5_000,
      replacedMemberId: null,
    });
    expect(timers).toEqual([
      { key: 'session/A', delayMs: 45_000 },
      { key: 'poll/A', delayMs: 300_000 },
    ]);
  });

  test('a second member waits until the first releases, which has the rebalance time-out for it', () => {
    const group = new GroupScenario({ orders: 2 });
    group.reply(join('A', { rebalanceTimeoutMs: 9_000 }));
    const { reply, timers } = group.decide(join('B', { sessionTimeoutMs: 6_000, maxPollIntervalMs: null }));
    expect(reply).toMatchObject({ memberEpoch: 2, assigned: [], revoking: [], heartbeatIntervalMs: 2_000 });
    expect(timers).toEqual([
      { key: 'revoke/A', delayMs: 9_000 },
      { key: 'session/B', delayMs: 6_000 },
    ]);
    expect(group.held('A')).toBe('orders/0 − orders/1');
  });

  test('a member that joins again with epoch 0 begins a new life, and the old one is fenced', () => {
    const group = new GroupScenario({ orders: 2 });
    group.reply(join('A'));
    group.reply(join('B'));
    expect(group.timers.has('revoke/A')).toBe(true);
    expect(group.lines(join('A'))).toEqual([
      'group epoch 3',
      'A epoch 3 since 3, holds orders/0@3, target orders/0',
      'B epoch 3 since 2, holds orders/1@3, target orders/1',
    ]);
    expect(group.timers.has('revoke/A')).toBe(false);
    expect(group.refusal({ type: 'heartbeat', memberId: 'A', memberEpoch: 1, owned: null })).toBe(
      'FENCED_MEMBER_EPOCH',
    );
    const late = commitOf(group.key('orders/0'), 5);
    expect(group.refusal({ type: 'commit', memberId: 'A', memberEpoch: 1, offsets: [late] })).toBe(
      'FENCED_MEMBER_EPOCH',
    );
  });

  test('a group takes as many members as the limit says, and those it has may join again', () => {
    const group = new GroupScenario({ orders: 2 }, { maxMembers: 2 });
    group.reply(join('A'));
    group.reply(join('B'));
    expect(group.refusal(join('C'))).toBe('GROUP_MAX_SIZE_REACHED');
    group.reply(join('B'));
    group.reply({ type: 'leave', memberId: 'A', memberEpoch: -1 });
    group.reply(join('C'));
  });

  test.each([
    ['no member id', { memberId: '' }],
    ['a member id that is too long', { memberId: 'x'.repeat(250) }],
    ['an empty instance id', { instanceId: '' }],
    ['no topic', { topics: [] }],
    ['too many topics', { topics: Array.from({ length: 1_001 }, (_, i) => `t${i}`) }],
    ['a negative epoch', { memberEpoch: -1 }],
    ['a session time-out below the least', { sessionTimeoutMs: 999 }],
    ['a session time-out above the most', { sessionTimeoutMs: 1_800_001 }],
    ['a fractional rebalance time-out', { rebalanceTimeoutMs: 1.5 }],
    ['a negative poll interval', { maxPollIntervalMs: -1 }],
  ])('%s is an invalid request', (_, changes) => {
    expect(new GroupScenario({ orders: 1 }).refusal(join('A', changes))).toBe('INVALID_REQUEST');
  });
});

describe('going on', () => {
  test('a member goes on with any epoch of its present life and what it held', () => {
    const group = new GroupScenario({ orders: 4 });
    group.reply(join('A', { maxPollIntervalMs: null }));
    group.reply(join('B'));
    const owned = group.keys('orders/0', 'orders/1');
    expect(group.lines(join('A', { memberEpoch: 1, owned, maxPollIntervalMs: null }))).toEqual([
      'A epoch 2 since 1, holds orders/0@1 orders/1@1, target orders/0 orders/1',
      'B epoch 2 since 2, holds orders/2@2 orders/3@2, target orders/2 orders/3',
    ]);
    const again = group.decide(join('A', { memberEpoch: 1, owned, maxPollIntervalMs: null }));
    expect(again.records).toEqual([]);
    expect(again.reply).toMatchObject({ memberEpoch: 2, assigned: owned });
    expect(again.timers).toEqual([{ key: 'session/A', delayMs: 45_000 }]);
  });

  test('what it was to release and still holds stays its own', () => {
    const group = new GroupScenario({ orders: 2 });
    group.reply(join('A'));
    group.reply(join('B'));
    group.reply(join('A', { memberEpoch: 1, owned: group.keys('orders/0', 'orders/1') }));
    expect(group.held('A')).toBe('orders/0 − orders/1');
    group.reply(join('A', { memberEpoch: 1, owned: null }));
    expect(group.held('A')).toBe('orders/0 − orders/1');
  });

  test('a new subscription when going on is a new group epoch', () => {
    const group = new GroupScenario({ orders: 1, carts: 1 });
    group.reply(join('A'));
    expect(group.lines(join('A', { memberEpoch: 1, topics: ['carts'] }))).toEqual([
      'group epoch 2',
      'A epoch 1 since 1, holds nothing, gives up orders/0@1, target carts/0',
    ]);
  });

  test('another client id or time-out is recorded, at the same group epoch', () => {
    const group = new GroupScenario({ orders: 1 });
    group.reply(join('A'));
    expect(group.lines(join('A', { memberEpoch: 1, clientId: 'other' }))).toEqual([
      'A epoch 1 since 1, holds orders/0@1, target orders/0',
    ]);
    expect(group.state!.members.get('A')!.clientId).toBe('other');
  });

  test('an unknown member, an epoch to come, and one of another instance cannot go on', () => {
    const group = new GroupScenario({ orders: 1 });
    expect(group.refusal(join('A', { memberEpoch: 1 }))).toBe('UNKNOWN_MEMBER_ID');
    group.reply(join('A'));
    expect(group.refusal(join('A', { memberEpoch: 2 }))).toBe('FENCED_MEMBER_EPOCH');
    expect(group.refusal(join('A', { memberEpoch: 1, instanceId: 'i' }))).toBe('INVALID_REQUEST');
  });
});

describe('static members', () => {
  const rack = { instanceId: 'rack-1' };

  function leftForAWhile(): GroupScenario {
    const group = new GroupScenario({ orders: 4 });
    group.reply(join('A1', rack));
    group.reply(join('B'));
    group.reply({ type: 'heartbeat', memberId: 'A1', memberEpoch: 1, owned: group.keys('orders/0', 'orders/1') });
    group.reply({ type: 'leave', memberId: 'A1', memberEpoch: -2 });
    return group;
  }

  test('its place is kept while it is away, without a poll timer', () => {
    const group = leftForAWhile();
    expect(group.held('A1')).toBe('orders/0 orders/1');
    expect(group.epoch('A1')).toBe(-2);
    expect([...group.timers.keys()].toSorted()).toEqual(['poll/B', 'session/A1', 'session/B']);
    expect(group.refusal({ type: 'heartbeat', memberId: 'A1', memberEpoch: 2, owned: null })).toBe(
      'FENCED_MEMBER_EPOCH',
    );
    expect(group.refusal(join('A1', { ...rack, memberEpoch: 2 }))).toBe('FENCED_MEMBER_EPOCH');
  });

  test('its next incarnation takes the place, and nobody else notices', () => {
    const group = leftForAWhile();
    const { records, reply } = group.decide(join('A2', rack));
    expect(records.map((record) => group.line(record))).toEqual([
      'A1 removed',
      'A2 epoch 2 since 2, holds orders/0@1 orders/1@1, target orders/0 orders/1',
    ]);
    expect(reply).toMatchObject({ replacedMemberId: 'A1' });
    expect([...group.timers.keys()].toSorted()).toEqual(['poll/A2', 'poll/B', 'session/A2', 'session/B']);
    const refusal = group.refusal({ type: 'heartbeat', memberId: 'A1', memberEpoch: 2, owned: null });
    expect(refusal).toBe('UNKNOWN_MEMBER_ID');
  });

  test('it may come back under its own member id, at a new group epoch that fences its life before', () => {
    const group = leftForAWhile();
    expect(group.lines(join('A1', rack))).toEqual([
      'group epoch 3',
      'A1 epoch 3 since 3, holds orders/0@1 orders/1@1, target orders/0 orders/1',
      'B epoch 3 since 2, holds orders/2@2 orders/3@2, target orders/2 orders/3',
    ]);
    const offsets = [commitOf(group.key('orders/0'), 1)];
    expect(group.refusal({ type: 'commit', memberId: 'A1', memberEpoch: 2, offsets })).toBe('FENCED_MEMBER_EPOCH');
  });

  test('another subscription of the next incarnation is a new group epoch, and what it no longer wants is free', () => {
    const group = leftForAWhile();
    group.setTopic('carts', 1);
    expect(group.lines(join('A2', { ...rack, topics: ['carts'] }))).toEqual([
      'group epoch 3',
      'A1 removed',
      'A2 epoch 3 since 3, holds carts/0@3, target carts/0',
      'B epoch 3 since 2, holds orders/0@3 orders/1@3 orders/2@2 orders/3@2, target orders/0 orders/1 orders/2 orders/3',
    ]);
  });

  test('what its place no longer has while it is away goes on at once', () => {
    const group = leftForAWhile();
    expect(group.lines(join('C'))).toEqual([
      'group epoch 3',
      'A1 epoch -2 since 1, holds orders/0@1, target orders/0',
      'B epoch 3 since 2, holds orders/2@2 orders/3@2, target orders/2 orders/3',
      'C epoch 3 since 3, holds orders/1@3, target orders/1',
    ]);
  });

  test('two live members cannot have one instance id', () => {
    const group = new GroupScenario({ orders: 4 });
    group.reply(join('A1', rack));
    const { reply } = group.decide(join('A2', rack));
    expect(isRefusal(reply) && reply.code).toBe('UNRELEASED_INSTANCE_ID');
    group.reply({ type: 'timer', key: 'session/A1' });
    expect(group.reply(join('A2', rack))).toMatchObject({ replacedMemberId: null });
  });

  test('a full group has room for a member that comes back', () => {
    const group = new GroupScenario({ orders: 4 }, { maxMembers: 1 });
    group.reply(join('A1', rack));
    group.reply({ type: 'leave', memberId: 'A1', memberEpoch: -2 });
    group.reply(join('A2', rack));
    expect(group.held('A2')).toBe('orders/0 orders/1 orders/2 orders/3');
  });
});
