import { describe, expect, test } from 'vitest';
import { commitOf, GroupScenario, join } from './group-scenario.ts';
import { describeGroup } from './inspect.ts';
import { bytesOf, classicJoin, classicSync, kafkaHeartbeat } from './kafka-clients.ts';
import type { PartitionKey } from '@naru/base';

/** A group to which the broker assigns, with a member that was pushed all four partitions. */
function brokerSide(): GroupScenario {
  const group = new GroupScenario({ orders: 4 });
  group.reply(join('G'));
  return group;
}

function releaseAll(group: GroupScenario): void {
  const owned = [...group.state!.members.get('G')!.assigned.keys()];
  group.reply({ type: 'heartbeat', memberId: 'G', memberEpoch: group.epoch('G'), owned });
}

function heartbeat(memberId: string, generation: number) {
  return { type: 'classic-heartbeat' as const, memberId, instanceId: null, generation };
}

function told(group: GroupScenario, memberId: string, generation: number): string[] {
  const reply = group.reply(classicSync(memberId, generation));
  if ('parked' in reply || reply.assignment.by !== 'broker') throw new Error('not by the broker');
  return group.names(reply.assignment.partitions);
}

function owning(owned: readonly PartitionKey[], topics = ['orders']) {
  return { subscription: { topics, owned } };
}

describe('a classic member of a group to which the broker assigns', () => {
  test('joins at once, is told at the sync, and joins again when there is more for it', () => {
    const group = brokerSide();
    const required = group.reply(classicJoin('', { newMemberId: 'C', requiresMemberId: true }));
    expect(required).toEqual({ outcome: 'member-id-required', memberId: 'C' });
    expect(group.reply(classicJoin('C'))).toEqual({
      outcome: 'joined',
      memberId: 'C',
      generation: 2,
      protocolType: 'consumer',
      protocolName: 'range',
      leaderId: '',
      members: [],
      skipAssignment: false,
    });
    expect(told(group, 'C', 2)).toEqual([]);
    expect(group.reply(heartbeat('C', 2))).toEqual({ mustJoin: false });
    releaseAll(group);
    expect(group.timers.get('revoke/C')).toBe(60_000);
    expect(group.reply(heartbeat('C', 2))).toEqual({ mustJoin: true });
    group.reply(classicJoin('C'));
    expect(told(group, 'C', 2)).toEqual(['orders/2', 'orders/3']);
    expect(group.timers.has('revoke/C')).toBe(false);
    expect(group.reply(heartbeat('C', 2))).toEqual({ mustJoin: false });
    expect(group.reply(classicSync('C', 2))).toMatchObject({
      assignment: { metadata: bytesOf({ topics: ['orders'], owned: [] }) },
    });
    expect(describeGroup(group.state!).members).toMatchObject([
      { memberId: 'C', protocol: 'classic', assignment: null },
      { memberId: 'G', protocol: 'push', metadata: null },
    ]);
  });

  test('one that gives up everything before it joins frees what it loses, and gets back what it keeps', () => {
    const group = brokerSide();
    group.reply(classicJoin('C'));
    releaseAll(group);
    group.reply(classicJoin('C'));
    told(group, 'C', 2);
    group.reply(join('H'));
    expect(group.held('C')).toBe('orders/2 − orders/3');
    expect(group.reply(heartbeat('C', 2))).toEqual({ mustJoin: true });
    expect(group.reply(classicJoin('C'))).toMatchObject({ generation: 3 });
    expect(group.held('H')).toBe('orders/3');
    expect(told(group, 'C', 3)).toEqual(['orders/2']);
  });

  test('one that keeps what it has until it is told (cooperative) releases with its second join', () => {
    const group = brokerSide();
    group.reply(classicJoin('C'));
    releaseAll(group);
    group.reply(classicJoin('C'));
    told(group, 'C', 2);
    group.reply(join('H'));
    const all = group.keys('orders/2', 'orders/3');
    expect(group.reply(classicJoin('C', owning(all)))).toMatchObject({ generation: 2 });
    expect(told(group, 'C', 2)).toEqual(['orders/2']);
    expect(group.held('H')).toBe('');
    expect(group.reply(classicJoin('C', owning(all.slice(0, 1))))).toMatchObject({ generation: 3 });
    expect(group.held('H')).toBe('orders/3');
    expect(group.reply(heartbeat('C', 3))).toEqual({ mustJoin: false });
  });

  test('what was granted and never told is free at once when it is taken away', () => {
    const group = brokerSide();
    group.reply(classicJoin('C'));
    releaseAll(group);
    expect(group.held('C')).toBe('orders/2 orders/3');
    group.reply(join('H'));
    expect(group.held('C')).toBe('orders/2');
    expect(group.held('H')).toBe('orders/3');
  });

  test('one that does not join again in time is removed', () => {
    const group = brokerSide();
    group.reply(classicJoin('C'));
    releaseAll(group);
    const { removed } = group.reply({ type: 'timer', key: 'revoke/C' });
    expect(removed).toMatchObject({ memberId: 'C', reason: 'rebalance-timeout' });
    expect(group.held('G')).toBe('orders/0 orders/1 orders/2 orders/3');
    expect(group.refusal(heartbeat('C', 2))).toBe('UNKNOWN_MEMBER_ID');
  });

  test('changes elsewhere do not make it join again, and its commits go on', () => {
    const group = brokerSide();
    group.reply(classicJoin('C'));
    releaseAll(group);
    group.reply(classicJoin('C'));
    told(group, 'C', 2);
    group.setTopic('other', 1);
    group.reply(join('X', { topics: ['other'] }));
    expect(group.reply(heartbeat('C', 2))).toEqual({ mustJoin: false });
    const commit = (memberEpoch: number, ...names: string[]) => ({
      type: 'commit' as const,
      memberId: 'C',
      memberEpoch,
      offsets: group.keys(...names).map((key) => commitOf(key, 5)),
    });
    const { results } = group.reply(commit(2, 'orders/2', 'orders/0'));
    expect(results.map(({ refusal }) => refusal?.code ?? null)).toEqual([null, 'REBALANCE_IN_PROGRESS']);
    expect(group.refusal(commit(1, 'orders/2'))).toBe('ILLEGAL_GENERATION');
    expect(group.refusal({ ...commit(2, 'orders/2'), instanceId: 'i' })).toBe('UNKNOWN_MEMBER_ID');
  });

  test('a sync with a generation that could not commit for what it tells is to be joined again', () => {
    const group = brokerSide();
    group.reply(classicJoin('C'));
    group.reply(classicJoin('D'));
    releaseAll(group);
    expect(group.refusal(classicSync('C', 2))).toBe('REBALANCE_IN_PROGRESS');
    expect(group.reply(classicJoin('C'))).toMatchObject({ generation: 3 });
    expect(told(group, 'C', 3)).toHaveLength(1);
    expect(group.refusal(classicSync('C', 4))).toBe('ILLEGAL_GENERATION');
    expect(group.refusal({ ...classicSync('C', 3), protocolName: 'other' })).toBe('INCONSISTENT_GROUP_PROTOCOL');
  });

  test('static members replace each other at once, whatever they speak, except two of KIP-848', () => {
    const group = brokerSide();
    const instanceId = 'i1';
    group.reply(kafkaHeartbeat('K', { instanceId }));
    expect(group.refusal(kafkaHeartbeat('L', { instanceId }))).toBe('UNRELEASED_INSTANCE_ID');
    group.reply(classicJoin('', { newMemberId: 'C', instanceId }));
    expect(group.refusal(kafkaHeartbeat('K', { instanceId, memberEpoch: 2 }))).toBe('FENCED_INSTANCE_ID');
    group.reply(classicJoin('', { newMemberId: 'D', instanceId }));
    expect(group.refusal({ ...heartbeat('C', 2), instanceId })).toBe('FENCED_INSTANCE_ID');
    group.reply(kafkaHeartbeat('M', { instanceId }));
    expect([...group.state!.members.keys()]).toEqual(['G', 'M']);
  });

  test('what the broker cannot compute is turned away, and groups that need events withheld take no Kafka members', () => {
    const group = brokerSide();
    expect(group.refusal(classicJoin('C', { protocolType: 'connect' }))).toBe('INCONSISTENT_GROUP_PROTOCOL');
    expect(group.refusal(classicJoin('C', { subscription: null }))).toBe('INCONSISTENT_GROUP_PROTOCOL');
    expect(group.refusal(classicJoin('C', { sessionTimeoutMs: 10 }))).toBe('INVALID_SESSION_TIMEOUT');
    group.refusesKafkaMembers = true;
    expect(group.refusal(classicJoin('C'))).toBe('INCONSISTENT_GROUP_PROTOCOL');
    expect(group.refusal(kafkaHeartbeat('K'))).toBe('INCONSISTENT_GROUP_PROTOCOL');
  });

  test('leaves by id or instance; others cannot be made to leave like this', () => {
    const group = brokerSide();
    group.reply(classicJoin('C'));
    group.reply(classicJoin('', { newMemberId: 'D', instanceId: 'i1' }));
    const { results } = group.reply({
      type: 'classic-leave',
      members: [
        { memberId: 'C', instanceId: null },
        { memberId: '', instanceId: 'i1' },
        { memberId: 'G', instanceId: null },
      ],
    });
    expect(results.map(({ refusal }) => refusal?.code ?? null)).toEqual([null, null, 'UNKNOWN_MEMBER_ID']);
    expect([...group.state!.members.keys()]).toEqual(['G']);
  });
});

describe('ConsumerGroupHeartbeat', () => {
  test('joins with an id of the broker’s or its own, is told once, and releases by naming what it holds', () => {
    const group = new GroupScenario({ orders: 2 });
    const all = group.keys('orders/0', 'orders/1');
    expect(group.reply(kafkaHeartbeat('', { newMemberId: 'K' }))).toEqual({
      memberId: 'K',
      memberEpoch: 1,
      heartbeatIntervalMs: 5_000,
      assigned: all,
    });
    const go = (memberEpoch: number, owned: readonly PartitionKey[] | null) =>
      group.reply(kafkaHeartbeat('K', { memberEpoch, owned }));
    expect(go(1, null)).toMatchObject({ memberEpoch: 1, assigned: null });
    expect(group.lines(kafkaHeartbeat('K', { memberEpoch: 1, owned: all }))).toEqual([]);
    group.reply(join('G'));
    expect(go(1, null)).toMatchObject({ memberEpoch: 1, assigned: all.slice(0, 1) });
    expect(go(1, all)).toMatchObject({ assigned: null });
    expect(group.held('G')).toBe('');
    expect(go(1, all.slice(0, 1))).toMatchObject({ memberEpoch: 2, assigned: null });
    expect(group.held('G')).toBe('orders/1');
    expect(group.reply(kafkaHeartbeat('K', { memberEpoch: -1 }))).toMatchObject({ memberEpoch: -1, assigned: null });
    expect(group.held('G')).toBe('orders/0 orders/1');
  });

  test('who says everything about itself is told everything', () => {
    const group = new GroupScenario({ orders: 1 });
    group.reply(kafkaHeartbeat('K'));
    const full = kafkaHeartbeat('K', { memberEpoch: 1, owned: [], topics: ['orders'], rebalanceTimeoutMs: 60_000 });
    expect(group.reply(full)).toMatchObject({ memberEpoch: 1, assigned: group.keys('orders/0') });
  });

  test('a static member that left for a while finds its partitions again', () => {
    const group = new GroupScenario({ orders: 2 });
    const instanceId = 'i1';
    group.reply(kafkaHeartbeat('K', { instanceId }));
    expect(group.reply(kafkaHeartbeat('K', { instanceId, memberEpoch: -2 }))).toMatchObject({ memberEpoch: -2 });
    const again = group.reply(kafkaHeartbeat('L', { instanceId }));
    expect(again).toMatchObject({ memberEpoch: 1, assigned: group.keys('orders/0', 'orders/1') });
    expect(group.refusal(kafkaHeartbeat('K', { instanceId, memberEpoch: 1 }))).toBe('FENCED_INSTANCE_ID');
  });

  test('a pattern follows the topics that come and go', () => {
    const group = new GroupScenario({ orders: 1, 'orders-eu': 1, returns: 1 });
    group.reply(kafkaHeartbeat('K', { topics: null, topicPattern: 'orders.*' }));
    expect(group.held('K')).toBe('orders/0 orders-eu/0');
    group.setTopic('orders-us', 1);
    expect(group.reply({ type: 'topics-changed' })).toEqual({ changed: true });
    expect(group.held('K')).toBe('orders/0 orders-eu/0 orders-us/0');
    group.reply(kafkaHeartbeat('K', { memberEpoch: 2, topicPattern: '', topics: ['returns'], owned: [] }));
    group.reply(kafkaHeartbeat('K', { memberEpoch: 2, owned: [] }));
    expect(group.held('K')).toBe('returns/0');
  });

  test.each([
    [{ serverAssignor: 'mine' }, 'UNSUPPORTED_ASSIGNOR'],
    [{ topicPattern: '(a)\\1' }, 'INVALID_REGULAR_EXPRESSION'],
    [{ topics: null }, 'INVALID_REQUEST'],
    [{ rebalanceTimeoutMs: null }, 'INVALID_REQUEST'],
    [{ memberEpoch: -3 }, 'INVALID_REQUEST'],
    [{ memberEpoch: -2 }, 'INVALID_REQUEST'],
    [{ memberEpoch: 1 }, 'UNKNOWN_MEMBER_ID'],
    [{ instanceId: '' }, 'INVALID_REQUEST'],
  ] as const)('a join with %o is refused with %s', (changes, code) => {
    expect(new GroupScenario({ orders: 1 }).refusal(kafkaHeartbeat('K', changes))).toBe(code);
  });

  test('an epoch that the group is not at, and a member of another protocol, are fenced', () => {
    const group = new GroupScenario({ orders: 1 });
    group.reply(kafkaHeartbeat('K'));
    expect(group.refusal(kafkaHeartbeat('K', { memberEpoch: 9 }))).toBe('FENCED_MEMBER_EPOCH');
    const offsets = [commitOf(group.key('orders/0'), 5)];
    expect(group.refusal({ type: 'commit', memberId: 'K', memberEpoch: 9, offsets })).toBe('STALE_MEMBER_EPOCH');
    group.reply(join('G'));
    expect(group.refusal(kafkaHeartbeat('G', { memberEpoch: 2 }))).toBe('UNKNOWN_MEMBER_ID');
    expect(group.refusal({ type: 'heartbeat', memberId: 'K', memberEpoch: 1, owned: null })).toBe('UNKNOWN_MEMBER_ID');
    expect(group.refusal({ type: 'heartbeat', memberId: 'nobody', memberEpoch: 1, owned: null })).toBe(
      'UNKNOWN_MEMBER_ID',
    );
  });
});
