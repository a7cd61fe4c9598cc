/** What Kafka's admin clients ask about groups, in every version. */
import {
  decodeConsumerAssignment,
  decodeConsumerSubscription,
  KAFKA_ERRORS,
  OPERATIONS_NOT_ASKED,
} from '@naru/protocol/kafka';
import { SeededRandom, VirtualClock } from '@naru/testkit';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { MemoryLogStore } from '../../../log/memory/memory-log-store.ts';
import { turns } from '../../../runtime/settling.ts';
import { GroupScenario, subscription } from './group-scenario.ts';

const E = KAFKA_ERRORS;

let scenario: GroupScenario;

beforeEach(async () => {
  const time = new VirtualClock();
  scenario = await GroupScenario.start({ time, store: new MemoryLogStore(), random: new SeededRandom(1) });
});

afterEach(() => scenario.close());

describe('DescribeGroups', () => {
  it.for([0, 1, 2, 3, 4, 5, 6])('tells what members of a stable group said and got (version %i)', async (version) => {
    const memberId = await scenario.joined();
    const request = { groups: ['payment', 'missing'], includeAuthorizedOperations: version === 4 };
    const { groups } = await scenario.ask('describeGroups', version, request);
    expect(groups).toHaveLength(2);
    const [payment, missing] = groups;
    const stable = { errorCode: 0, groupState: 'Stable', protocolType: 'consumer', protocolData: 'range' };
    expect(payment).toMatchObject({ groupId: 'payment', ...stable });
    expect(payment!.members).toMatchObject([{ memberId, clientId: 'test', clientHost: '192.0.2.1' }]);
    expect(Buffer.from(payment!.members[0]!.memberMetadata)).toEqual(Buffer.from(subscription(['orders'])));
    const errorCode = version < 6 ? 0 : E.GROUP_ID_NOT_FOUND.code;
    expect(missing).toMatchObject({ groupId: 'missing', groupState: 'Dead', members: [], errorCode });
    if (version === 4) expect(payment!.authorizedOperations).toBeGreaterThan(0);
    else expect(payment!.authorizedOperations).toBe(OPERATIONS_NOT_ASKED);
  });

  it('tells nothing of members that are still joining', async () => {
    const waiting = scenario.join('', 3);
    await turns();
    const { groups } = await scenario.ask('describeGroups', 5, { groups: ['payment'] });
    expect(groups).toMatchObject([{ groupState: 'PreparingRebalance', protocolData: '' }]);
    expect(groups[0]!.members[0]!.memberMetadata).toHaveLength(0);
    await scenario.close();
    expect(await waiting).toMatchObject({ errorCode: E.NOT_COORDINATOR.code });
  });

  it('shows older clients groups to which the broker assigns, too', async () => {
    await scenario.shard.join('sdk');
    const { groups } = await scenario.ask('describeGroups', 5, { groups: ['payment'] });
    expect(groups).toMatchObject([{ groupState: 'Stable', protocolType: 'consumer', members: [{ memberId: 'sdk' }] }]);
    const { memberMetadata, memberAssignment } = groups[0]!.members[0]!;
    expect(decodeConsumerSubscription(memberMetadata).subscription.topics).toEqual(['orders']);
    const { assignedPartitions } = decodeConsumerAssignment(memberAssignment).assignment;
    expect(assignedPartitions).toEqual([{ topic: 'orders', partitions: [0, 1, 2] }]);
  });
});

describe('ListGroups', () => {
  it.for([0, 1, 2, 3, 4, 5])('lists groups of every kind (version %i)', async (version) => {
    await scenario.joined();
    await scenario.shard.join('sdk', { groupId: 'audit' });
    const { groups, errorCode } = await scenario.ask('listGroups', version, {});
    expect(errorCode).toBe(0);
    const kinds = { audit: 'consumer', payment: 'classic' };
    expect(groups).toEqual(
      Object.entries(kinds).map(([groupId, kind]) => ({
        groupId,
        protocolType: 'consumer',
        groupState: version < 4 ? '' : 'Stable',
        groupType: version < 5 ? '' : kind,
      })),
    );
  });

  it('goes by state and type, however they are written', async () => {
    await scenario.joined();
    await scenario.shard.join('sdk', { groupId: 'audit' });
    const listed = async (statesFilter: string[], typesFilter: string[]) =>
      (await scenario.ask('listGroups', 5, { statesFilter, typesFilter })).groups.map(({ groupId }) => groupId);
    expect(await listed(['STABLE'], [])).toEqual(['audit', 'payment']);
    expect(await listed(['Empty', 'dead'], [])).toEqual([]);
    expect(await listed([], ['Classic'])).toEqual(['payment']);
    expect(await listed(['stable'], ['CONSUMER'])).toEqual(['audit']);
    expect(await listed([], ['share'])).toEqual([]);
  });
});

describe('DeleteGroups', () => {
  it.for([0, 1, 2])('deletes groups without members (version %i)', async (version) => {
    const memberId = await scenario.joined();
    const deleted = async (...groupsNames: string[]) =>
      (await scenario.ask('deleteGroups', version, { groupsNames })).results.map(({ errorCode }) => errorCode);
    const inUse = [E.NON_EMPTY_GROUP.code, E.GROUP_ID_NOT_FOUND.code, E.INVALID_GROUP_ID.code];
    expect(await deleted('payment', 'missing', '')).toEqual(inUse);
    await scenario.ask('leaveGroup', 3, { groupId: 'payment', members: [{ memberId }] });
    expect(await deleted('payment')).toEqual([0]);
    expect((await scenario.ask('listGroups', 0, {})).groups).toEqual([]);
  });
});

describe('admin requests', () => {
  it('make clients look for the coordinator again when the broker is going', async () => {
    await scenario.close();
    const errorCode = E.NOT_COORDINATOR.code;
    const groups = [{ groupId: 'payment', errorCode }];
    expect(await scenario.ask('listGroups', 5, {})).toMatchObject({ errorCode, groups: [] });
    expect(await scenario.ask('describeGroups', 5, { groups: ['payment'] })).toMatchObject({ groups });
    const both = { groupIds: ['payment'], includeAuthorizedOperations: false };
    expect(await scenario.ask('consumerGroupDescribe', 0, both)).toMatchObject({ groups });
    expect(await scenario.ask('deleteGroups', 2, { groupsNames: ['payment'] })).toMatchObject({ results: groups });
    const topics = [{ name: 'orders', partitions: [{ partitionIndex: 0 }] }];
    expect(await scenario.ask('offsetDelete', 0, { groupId: 'payment', topics })).toMatchObject({ errorCode });
  });
});
