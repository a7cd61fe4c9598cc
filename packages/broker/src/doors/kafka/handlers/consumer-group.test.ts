/** The new group protocol as its clients see it. */
import { KAFKA_ERRORS, type KafkaRequestInput } from '@naru/protocol/kafka';
import { SeededRandom, VirtualClock } from '@naru/testkit';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { MemoryLogStore } from '../../../log/memory/memory-log-store.ts';
import { ORDERS } from '../../../runtime/shard-scenario.ts';
import { GroupScenario } from './group-scenario.ts';

const E = KAFKA_ERRORS;
const ALL = [{ topicId: ORDERS.id, partitions: [0, 1, 2] }];

let scenario: GroupScenario;

beforeEach(async () => {
  const time = new VirtualClock();
  scenario = await GroupScenario.start({ time, store: new MemoryLogStore(), random: new SeededRandom(1) });
});

afterEach(() => scenario.close());

function beat(
  memberId: string,
  memberEpoch: number,
  changes: Partial<KafkaRequestInput<'consumerGroupHeartbeat'>> = {},
) {
  return scenario.ask('consumerGroupHeartbeat', 1, { groupId: 'payment', memberId, memberEpoch, ...changes });
}

function joining(changes: Partial<KafkaRequestInput<'consumerGroupHeartbeat'>> = {}) {
  return { rebalanceTimeoutMs: 30_000, subscribedTopicNames: ['orders'], topicPartitions: [], ...changes };
}

describe('a member of the new protocol', () => {
  it('joins, is told its partitions once, and leaves', async () => {
    const joined = await beat('A', 0, joining());
    expect(joined).toMatchObject({ errorCode: 0, errorMessage: null, memberId: 'A', heartbeatIntervalMs: 5_000 });
    expect(joined.memberEpoch).toBeGreaterThan(0);
    expect(joined.assignment).toEqual({ topicPartitions: ALL });
    const next = await beat('A', joined.memberEpoch, { topicPartitions: ALL });
    expect(next).toMatchObject({ errorCode: 0, memberEpoch: joined.memberEpoch, assignment: null });
    const gone = [{ topicId: '11111111-2222-4333-8444-555555555555' as typeof ORDERS.id, partitions: [0] }];
    expect(await beat('A', joined.memberEpoch, { topicPartitions: [...ALL, ...gone] })).toMatchObject({ errorCode: 0 });
    expect(await beat('A', -1)).toMatchObject({ errorCode: 0, memberEpoch: -1, assignment: null });
    expect(await beat('A', joined.memberEpoch)).toMatchObject({ errorCode: E.UNKNOWN_MEMBER_ID.code });
  });

  it('gets its id from the broker in version 0, and brings it in version 1', async () => {
    const body = { groupId: 'payment', memberId: '', memberEpoch: 0, ...joining() };
    const joined = await scenario.ask('consumerGroupHeartbeat', 0, body);
    expect(joined).toMatchObject({ errorCode: 0 });
    expect(joined.memberId).toMatch(/^test-/);
    expect(await beat('', 0, joining())).toMatchObject({ errorCode: E.INVALID_REQUEST.code });
    expect(await beat('a\nb', 0, joining())).toMatchObject({ errorCode: E.INVALID_REQUEST.code });
  });

  it('is handed a partition after another has let go of it', async () => {
    const first = await beat('A', 0, joining());
    const second = await beat('B', 0, joining());
    expect(second.assignment).toEqual({ topicPartitions: [] });
    const asked = await beat('A', first.memberEpoch, { topicPartitions: ALL });
    const kept = asked.assignment!.topicPartitions[0]!.partitions;
    expect(kept.length).toBeLessThan(3);
    expect((await beat('B', second.memberEpoch)).assignment).toBe(null);
    await beat('A', asked.memberEpoch, { topicPartitions: [{ topicId: ORDERS.id, partitions: kept }] });
    const given = await beat('B', second.memberEpoch);
    expect([...kept, ...given.assignment!.topicPartitions[0]!.partitions].sort((a, b) => a - b)).toEqual([0, 1, 2]);
  });

  it('is refused in Kafka’s words', async () => {
    const { memberEpoch } = await beat('A', 0, joining({ instanceId: 'till-1' }));
    const refused = async (...call: Parameters<typeof beat>) => (await beat(...call)).errorCode;
    expect(await refused('A', memberEpoch + 5)).toBe(E.FENCED_MEMBER_EPOCH.code);
    expect(await refused('B', 3)).toBe(E.UNKNOWN_MEMBER_ID.code);
    expect(await refused('B', 0, joining({ instanceId: 'till-1' }))).toBe(E.UNRELEASED_INSTANCE_ID.code);
    expect(await refused('B', 0, joining({ serverAssignor: 'mine' }))).toBe(E.UNSUPPORTED_ASSIGNOR.code);
    expect(await refused('B', 0, joining({ subscribedTopicRegex: '(' }))).toBe(E.INVALID_REGULAR_EXPRESSION.code);
    expect(await refused('B', 0)).toBe(E.INVALID_REQUEST.code);
    expect(await refused('B', 0, joining({ groupId: '' }))).toBe(E.INVALID_GROUP_ID.code);
    const long = await beat('x'.repeat(30_000), 3);
    expect(long.errorMessage!.length).toBeLessThan(2_000);
    await scenario.close();
    expect(await refused('A', memberEpoch)).toBe(E.NOT_COORDINATOR.code);
  });
});

describe('ConsumerGroupDescribe', () => {
  it('tells what every kind of member has and is to have', async () => {
    const classic = await scenario.joined();
    const { memberEpoch } = await beat('A', 0, joining());
    const { groups } = await scenario.ask('consumerGroupDescribe', 1, {
      groupIds: ['payment', 'missing', 'payment'],
      includeAuthorizedOperations: true,
    });
    expect(groups).toHaveLength(2);
    const [payment, missing] = groups;
    expect(payment).toMatchObject({ errorCode: 0, groupState: 'Stable', assignorName: 'uniform' });
    expect(payment!.authorizedOperations & (1 << 8)).not.toBe(0);
    const members = new Map(payment!.members.map((member) => [member.memberId, member]));
    expect(members.get('A')).toMatchObject({ memberEpoch, memberType: 1, clientHost: '192.0.2.1', clientId: 'test' });
    expect(members.get(classic)).toMatchObject({ memberType: 0, subscribedTopicNames: ['orders'] });
    const targets = [...members.values()].flatMap((member) => member.targetAssignment.topicPartitions);
    expect(targets.flatMap(({ partitions }) => partitions).sort((a, b) => a - b)).toEqual([0, 1, 2]);
    expect(targets.every(({ topicId, topicName }) => topicId === ORDERS.id && topicName === 'orders')).toBe(true);
    expect(missing).toMatchObject({ errorCode: E.GROUP_ID_NOT_FOUND.code, groupId: 'missing', members: [] });
  });

  it('tells the pattern that a member subscribes to', async () => {
    await beat('A', 0, joining({ subscribedTopicNames: [], subscribedTopicRegex: 'ord.*' }));
    const { groups } = await scenario.ask('consumerGroupDescribe', 1, {
      groupIds: ['payment'],
      includeAuthorizedOperations: false,
    });
    const assignment = { topicPartitions: [{ topicName: 'orders', partitions: [0, 1, 2] }] };
    expect(groups[0]?.members).toMatchObject([
      { subscribedTopicNames: [], subscribedTopicRegex: 'ord.*', targetAssignment: assignment },
    ]);
  });

  it('leaves groups whose members assign to DescribeGroups', async () => {
    await scenario.joined();
    const { groups } = await scenario.ask('consumerGroupDescribe', 0, {
      groupIds: ['payment'],
      includeAuthorizedOperations: false,
    });
    expect(groups).toMatchObject([{ errorCode: E.GROUP_ID_NOT_FOUND.code }]);
  });
});
