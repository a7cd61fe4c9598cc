import { describe, expect, test } from 'vitest';
import { timersAfterRecovery } from './decide-membership.ts';
import { GroupScenario, join } from './group-scenario.ts';
import { changedMembers, describeGroup, groupStateName, memberView } from './inspect.ts';

/** A holds orders/0–1 and is to give up orders/2–3, which B waits for. */
function handingOver(): GroupScenario {
  const group = new GroupScenario({ orders: 4 });
  group.reply(join('A'));
  group.reply(join('B'));
  return group;
}

/** A holds orders/0–1, B orders/2–3, both at epoch 2. */
function handedOver(): GroupScenario {
  const group = handingOver();
  group.reply({ type: 'heartbeat', memberId: 'A', memberEpoch: 1, owned: [], released: [] });
  return group;
}

describe('a heartbeat', () => {
  test('that says nothing new only sets the session timer and tells the member what it may hold', () => {
    const group = handingOver();
    const { records, reply, timers } = group.decide({ type: 'heartbeat', memberId: 'A', memberEpoch: 1, owned: null });
    expect(records).toEqual([]);
    expect(reply).toEqual({
      memberEpoch: 1,
      assigned: group.keys('orders/0', 'orders/1'),
      revoking: group.keys('orders/2', 'orders/3'),
    });
    expect(timers).toEqual([{ key: 'session/A', delayMs: 45_000 }]);
  });

  test('that still owns what is to be released releases nothing', () => {
    const group = handingOver();
    const owned = group.keys('orders/0', 'orders/1', 'orders/2', 'orders/3');
    expect(group.lines({ type: 'heartbeat', memberId: 'A', memberEpoch: 1, owned })).toEqual([]);
  });

  test('that no longer owns it moves both members on, and ends the time for it', () => {
    const group = handingOver();
    const owned = group.keys('orders/0', 'orders/1');
    const { records, timers } = group.decide({ type: 'heartbeat', memberId: 'A', memberEpoch: 1, owned });
    expect(changedMembers(records)).toEqual(['A', 'B']);
    expect(group.held('A')).toBe('orders/0 orders/1');
    expect(group.held('B')).toBe('orders/2 orders/3');
    expect(timers).toContainEqual({ key: 'revoke/A', delayMs: null });
  });

  test('that releases a part gives that part on, keeps the epoch and begins the time anew', () => {
    const group = handingOver();
    const released = group.keys('orders/2', 'orders/0');
    const { records, timers } = group.decide({
      type: 'heartbeat',
      memberId: 'A',
      memberEpoch: 1,
      owned: null,
      released,
    });
    expect(records.map((record) => group.line(record))).toEqual([
      'A epoch 1 since 1, holds orders/0@1 orders/1@1, gives up orders/3@1, target orders/0 orders/1',
      'B epoch 2 since 2, holds orders/2@2, target orders/2 orders/3',
    ]);
    expect(timers).toContainEqual({ key: 'revoke/A', delayMs: 300_000 });
  });

  test('with another subscription is a new group epoch', () => {
    const group = handedOver();
    group.setTopic('carts', 1);
    const topics = ['orders', 'carts', 'orders'];
    expect(group.lines({ type: 'heartbeat', memberId: 'B', memberEpoch: 2, owned: null, topics })[0]).toBe(
      'group epoch 3',
    );
    expect(group.state!.members.get('B')!.topics).toEqual(['carts', 'orders']);
    const again = {
      type: 'heartbeat' as const,
      memberId: 'B',
      memberEpoch: 2,
      owned: null,
      topics: ['carts', 'orders'],
    };
    expect(group.lines(again)).toEqual([]);
    expect(group.refusal({ ...again, topics: [] })).toBe('INVALID_REQUEST');
  });

  test('is fenced outside the epochs of the life of its member, and unknown without one', () => {
    const group = handedOver();
    const beat = { type: 'heartbeat' as const, memberId: 'A', owned: null };
    expect(group.reply({ ...beat, memberEpoch: 1 })).toMatchObject({ memberEpoch: 2 });
    expect(group.refusal({ ...beat, memberEpoch: 3 })).toBe('FENCED_MEMBER_EPOCH');
    expect(group.refusal({ ...beat, memberEpoch: 0 })).toBe('FENCED_MEMBER_EPOCH');
    expect(group.refusal({ ...beat, memberId: 'Z', memberEpoch: 1 })).toBe('UNKNOWN_MEMBER_ID');
    expect(new GroupScenario().refusal({ ...beat, memberEpoch: 1 })).toBe('UNKNOWN_MEMBER_ID');
  });

  test('cannot keep a partition that was taken back and given again without a release between', () => {
    const group = handingOver();
    // B leaves before A has released: the target wants everything at A again, but A was told to give up two.
    group.reply({ type: 'leave', memberId: 'B', memberEpoch: -1 });
    expect(group.held('A')).toBe('orders/0 orders/1 − orders/2 orders/3');
    const owned = group.keys('orders/0', 'orders/1');
    expect(group.lines({ type: 'heartbeat', memberId: 'A', memberEpoch: 1, owned })).toEqual([
      'A epoch 3 since 1, holds orders/0@1 orders/1@1 orders/2@3 orders/3@3, target orders/0 orders/1 orders/2 orders/3',
    ]);
  });
});

describe('signs of life', () => {
  test('being alive sets the session timer, progress the poll timer too', () => {
    const group = handedOver();
    const touch = { type: 'touch' as const, memberId: 'A', memberEpoch: 2 };
    const session = { key: 'session/A', delayMs: 45_000 };
    expect(group.decide({ ...touch, kind: 'alive' })).toMatchObject({ records: [], timers: [session] });
    const progress = group.decide({ ...touch, kind: 'progress' });
    expect(progress.timers).toEqual([session, { key: 'poll/A', delayMs: 300_000 }]);
    expect(group.refusal({ ...touch, memberEpoch: 9, kind: 'alive' })).toBe('FENCED_MEMBER_EPOCH');
    expect(group.refusal({ ...touch, memberId: 'Z', kind: 'alive' })).toBe('UNKNOWN_MEMBER_ID');
  });

  test('a broken connection ends the session after the grace time, or when it would end anyway', () => {
    const group = handedOver();
    group.reply({ type: 'disconnected', memberId: 'A', graceMs: 3_000 });
    expect(group.timers.get('session/A')).toBe(3_000);
    group.reply({ type: 'disconnected', memberId: 'A', graceMs: 90_000 });
    expect(group.timers.get('session/A')).toBe(45_000);
    expect(group.refusal({ type: 'disconnected', memberId: 'Z', graceMs: 1 })).toBe('UNKNOWN_MEMBER_ID');
  });

  test('a static member that left for a while keeps its session when its connection closes', () => {
    const group = new GroupScenario({ orders: 1 });
    group.reply(join('A', { instanceId: 'i' }));
    group.reply({ type: 'leave', memberId: 'A', memberEpoch: -2 });
    group.reply({ type: 'disconnected', memberId: 'A', graceMs: 3_000 });
    expect(group.timers.get('session/A')).toBe(45_000);
  });
});

describe('going', () => {
  test('what a leaving member held and was to release is granted in the same step', () => {
    const group = handingOver();
    const { records, timers } = group.decide({ type: 'leave', memberId: 'A', memberEpoch: -1 });
    expect(records.map((record) => group.line(record))).toEqual([
      'group epoch 3',
      'A removed',
      'B epoch 3 since 2, holds orders/0@3 orders/1@3 orders/2@3 orders/3@3, target orders/0 orders/1 orders/2 orders/3',
    ]);
    expect(timers).toEqual([
      { key: 'session/A', delayMs: null },
      { key: 'revoke/A', delayMs: null },
      { key: 'poll/A', delayMs: null },
    ]);
  });

  test('only a static member leaves for a while, and only a member leaves', () => {
    const group = handedOver();
    expect(group.refusal({ type: 'leave', memberId: 'A', memberEpoch: -2 })).toBe('INVALID_REQUEST');
    expect(group.refusal({ type: 'leave', memberId: 'Z', memberEpoch: -1 })).toBe('UNKNOWN_MEMBER_ID');
    expect(new GroupScenario().refusal({ type: 'leave', memberId: 'A', memberEpoch: -1 })).toBe('UNKNOWN_MEMBER_ID');
  });

  test.each([
    ['session/A', 'session-timeout', 'UNKNOWN_MEMBER_ID'],
    ['revoke/A', 'rebalance-timeout', 'FENCED_MEMBER_EPOCH'],
    ['poll/A', 'max-poll-interval', 'MAX_POLL_INTERVAL_EXCEEDED'],
  ])('the timer %s removes the member because of %s', (key, reason, code) => {
    const group = handingOver();
    const reply = group.reply({ type: 'timer', key });
    expect(reply.removed).toMatchObject({ memberId: 'A', reason, refusal: { code } });
    expect(group.held('A')).toBe('gone');
    expect(group.held('B')).toBe('orders/0 orders/1 orders/2 orders/3');
    expect([...group.timers.keys()].filter((timer) => timer.endsWith('/A'))).toEqual([]);
  });

  test('a timer that no longer matters does nothing', () => {
    const group = handedOver();
    for (const key of ['session/Z', 'revoke/A', 'other/A', 'A']) {
      expect(group.decide({ type: 'timer', key })).toEqual({ records: [], reply: { removed: null }, timers: [] });
    }
    group.reply(join('C', { maxPollIntervalMs: null }));
    expect(group.reply({ type: 'timer', key: 'poll/C' }).removed).toBeNull();
  });

  test('the last member leaves an empty group behind, with its offsets and its epoch', () => {
    const group = new GroupScenario({ orders: 1 });
    group.reply(join('A'));
    group.reply({ type: 'leave', memberId: 'A', memberEpoch: -1 });
    expect(groupStateName(group.state!)).toBe('empty');
    expect(group.reply(join('A')).memberEpoch).toBe(3);
  });
});

describe('a change of topics', () => {
  test('concerns a group only when its members subscribe to what changed', () => {
    const group = handedOver();
    group.setTopic('carts', 3);
    expect(group.reply({ type: 'topics-changed' })).toEqual({ changed: false });
    group.setTopic('orders', 5);
    expect(group.reply({ type: 'topics-changed' })).toEqual({ changed: true });
    expect(group.held('A')).toBe('orders/0 orders/1 orders/4');
    expect(group.reply({ type: 'topics-changed' })).toEqual({ changed: false });
    expect(new GroupScenario().reply({ type: 'topics-changed' })).toEqual({ changed: false });
  });

  test('a topic that is made after its subscribers joined is assigned', () => {
    const group = new GroupScenario();
    group.reply(join('A', { topics: ['later'] }));
    expect(group.held('A')).toBe('');
    group.setTopic('later', 2);
    group.reply({ type: 'topics-changed' });
    expect(group.held('A')).toBe('later/0 later/1');
  });

  test('a topic that is deleted and made again is another topic: the old is to be released, then the new is granted', () => {
    const group = new GroupScenario({ orders: 2 });
    group.reply(join('A'));
    const old = group.keys('orders/0', 'orders/1');
    group.setTopic('orders', 0);
    group.setTopic('orders', 2);
    group.reply({ type: 'topics-changed' });
    expect(group.held('A')).toBe('− deleted/0 deleted/1');
    expect(memberView(group.state, 'A')!.revoking).toEqual(old);
    group.reply({ type: 'heartbeat', memberId: 'A', memberEpoch: 1, owned: [] });
    expect(group.held('A')).toBe('orders/0 orders/1');
  });
});

describe('looking at a group', () => {
  test('its state is reconciling until everybody holds what it should, then stable', () => {
    const group = handingOver();
    expect(groupStateName(group.state!)).toBe('reconciling');
    group.reply({ type: 'heartbeat', memberId: 'A', memberEpoch: 1, owned: [], released: group.keys('orders/2') });
    expect(groupStateName(group.state!)).toBe('stable');
  });

  test('members come by id, and offsets with who holds the partition', () => {
    const group = handedOver();
    for (const memberId of ['B', 'A']) {
      const partition = group.key(memberId === 'A' ? 'orders/0' : 'orders/3');
      const offset = { partition, offset: 5, finished: null, metadata: '', leaderEpoch: -1, endOffset: 9 };
      group.reply({ type: 'commit', memberId, memberEpoch: 2, offsets: [offset] });
    }
    group.reply({ type: 'leave', memberId: 'B', memberEpoch: -1 });
    group.reply(join('B'));
    const described = describeGroup(group.state!);
    expect(described.members.map(({ memberId }) => memberId)).toEqual(['A', 'B']);
    expect(described.offsets.map(({ partition, memberId }) => [...group.names([partition]), memberId])).toEqual([
      ['orders/0', 'A'],
      ['orders/3', 'A'],
    ]);
  });

  test('an unknown member has no view', () => {
    expect(memberView(handedOver().state, 'Z')).toBeUndefined();
    expect(memberView(undefined, 'A')).toBeUndefined();
  });

  test('after recovery every member has its timers, as if it had just been heard', () => {
    const group = handingOver();
    group.reply(join('C', { instanceId: 'i' }));
    group.reply({ type: 'leave', memberId: 'C', memberEpoch: -2 });
    const recovered = new Map(timersAfterRecovery(group.state!).map(({ key, delayMs }) => [key, delayMs]));
    expect(recovered).toEqual(group.timers);
  });
});
