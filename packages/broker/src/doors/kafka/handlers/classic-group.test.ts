/** The classic group protocol as its clients see it, in every version. */
import { decodeConsumerAssignment, encodeConsumerAssignment, KAFKA_ERRORS } from '@naru/protocol/kafka';
import { SeededRandom, VirtualClock } from '@naru/testkit';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { MemoryLogStore } from '../../../log/memory/memory-log-store.ts';
import { finished, turns, watched } from '../../../runtime/settling.ts';
import { GroupScenario, subscription } from './group-scenario.ts';

const E = KAFKA_ERRORS;
const MEMBER_ID = /^test-[0-9a-f-]{36}$/;

let time: VirtualClock;
let scenario: GroupScenario;

beforeEach(async () => {
  time = new VirtualClock();
  scenario = await GroupScenario.start({ time, store: new MemoryLogStore(), random: new SeededRandom(1) });
});

afterEach(() => scenario.close());

function assignmentOf(bytes: Uint8Array): Record<string, readonly number[]> {
  const { assignedPartitions } = decodeConsumerAssignment(bytes).assignment;
  return Object.fromEntries(assignedPartitions.map(({ topic, partitions }) => [topic, partitions]));
}

function encoded(partitions: readonly number[]): Uint8Array {
  return encodeConsumerAssignment(1, { assignedPartitions: [{ topic: 'orders', partitions }] });
}

/** Two members of generation 1, of which the first leads. */
async function two(): Promise<[leader: string, follower: string]> {
  const [first, second] = await Promise.all(
    [scenario.join('', 3), scenario.join('', 3)].map((join) => finished(join, time)),
  );
  const ids: [string, string] = [first!.memberId, second!.memberId];
  const assignments = ids.map((memberId, index) => ({ memberId, assignment: encoded(index === 0 ? [0, 1] : [2]) }));
  const sync = (memberId: string, all: typeof assignments) =>
    scenario.ask('syncGroup', 3, { groupId: 'payment', generationId: 1, memberId, assignments: all });
  await Promise.all([sync(ids[1], []), sync(ids[0], assignments)]);
  return ids;
}

describe('a classic consumer', () => {
  it.for([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])('joins, syncs, lives and leaves (JoinGroup version %i)', async (version) => {
    const first = await finished(scenario.join('', version), time);
    let memberId = first!.memberId;
    expect(memberId).toMatch(MEMBER_ID);
    let joined = first!;
    if (version >= 4) {
      expect(first).toMatchObject({ errorCode: E.MEMBER_ID_REQUIRED.code, generationId: -1, members: [] });
      joined = (await finished(scenario.join(memberId, version), time))!;
    }
    expect(joined).toMatchObject({ errorCode: 0, generationId: 1, protocolName: 'range', leader: memberId, memberId });
    expect(joined.protocolType).toBe(version < 7 ? null : 'consumer');
    expect(joined.members.map((member) => member.memberId)).toEqual([memberId]);
    expect(Buffer.from(joined.members[0]!.metadata)).toEqual(Buffer.from(subscription(['orders'])));
    const generation = { groupId: 'payment', generationId: 1, memberId };
    const synced = await scenario.ask('syncGroup', Math.min(version, 5), {
      ...generation,
      assignments: [{ memberId, assignment: encoded([0, 1, 2]) }],
    });
    expect(synced.errorCode).toBe(0);
    expect(assignmentOf(synced.assignment)).toEqual({ orders: [0, 1, 2] });
    const alive = await scenario.ask('heartbeat', Math.min(version, 4), generation);
    expect(alive.errorCode).toBe(0);
    const leaving = version < 3 ? { groupId: 'payment', memberId } : { groupId: 'payment', members: [{ memberId }] };
    const left = await scenario.ask('leaveGroup', Math.min(version, 5), leaving);
    expect(left.errorCode).toBe(0);
    expect(left.members).toEqual(version < 3 ? [] : [{ memberId, groupInstanceId: null, errorCode: 0 }]);
    memberId = (await scenario.ask('heartbeat', 4, generation)).errorCode === E.UNKNOWN_MEMBER_ID.code ? '' : memberId;
    expect(memberId).toBe('');
  });

  it('is told that another came, and of both when it leads', async () => {
    const [leader, follower] = await two();
    const alive = { groupId: 'payment', generationId: 1, memberId: leader };
    expect(await scenario.ask('heartbeat', 3, alive)).toMatchObject({ errorCode: 0 });
    const third = scenario.join('', 3);
    await turns();
    expect(await scenario.ask('heartbeat', 3, alive)).toMatchObject({ errorCode: E.REBALANCE_IN_PROGRESS.code });
    const again = [scenario.join(leader, 3), scenario.join(follower, 3), third];
    const [ofLeader, ofFollower] = await Promise.all(again.map((join) => finished(join, time)));
    expect(ofLeader).toMatchObject({ generationId: 2, leader });
    expect(ofLeader!.members).toHaveLength(3);
    expect(ofFollower).toMatchObject({ generationId: 2, leader, members: [] });
    const stale = await scenario.ask('syncGroup', 3, { ...alive, assignments: [] });
    expect(stale.errorCode).toBe(E.ILLEGAL_GENERATION.code);
  });

  it('is removed when its session ends, not when its connection does', async () => {
    const [leader, follower] = await two();
    const connection = new AbortController();
    const body = { groupId: 'payment', sessionTimeoutMs: 10_000, protocolType: 'consumer', memberId: '' };
    const protocols = [{ name: 'range', metadata: subscription(['orders']) }];
    const waiting = watched(scenario.send('joinGroup', 3, { ...body, protocols }, { signal: connection.signal }));
    await turns();
    expect(waiting).toEqual({});
    connection.abort();
    await turns();
    expect(waiting).toEqual({ value: undefined });
    expect((await scenario.ask('describeGroups', 5, { groups: ['payment'] })).groups[0]!.members).toHaveLength(3);
    const joins = [scenario.join(leader, 3), scenario.join(follower, 3)];
    const [joined] = await Promise.all(joins.map((join) => finished(join, time)));
    expect(joined!.members).toHaveLength(3);
    const beat = { groupId: 'payment', generationId: 2 };
    await scenario.ask('syncGroup', 3, { ...beat, memberId: leader, assignments: [] });
    for (let elapsedMs = 0; elapsedMs < 12_000; elapsedMs += 3_000) {
      time.advance(3_000);
      await scenario.ask('heartbeat', 3, { ...beat, memberId: leader });
      await scenario.ask('heartbeat', 3, { ...beat, memberId: follower });
    }
    const after = await scenario.ask('describeGroups', 5, { groups: ['payment'] });
    const ids = after.groups[0]!.members.map((member) => member.memberId);
    expect(ids.sort()).toEqual([leader, follower].sort());
  });

  it('with an instance id keeps its place, and fences the process before it', async () => {
    const instance = { groupInstanceId: 'till-1' };
    const first = await finished(scenario.join('', 5, instance), time);
    expect(first).toMatchObject({ errorCode: 0, generationId: 1 });
    expect(first!.memberId).toMatch(/^till-1-/);
    const assignments = [{ memberId: first!.memberId, assignment: encoded([0, 1, 2]) }];
    const generation = { groupId: 'payment', generationId: 1, ...instance };
    await scenario.ask('syncGroup', 5, { ...generation, memberId: first!.memberId, assignments });
    const second = await finished(scenario.join('', 9, instance), time);
    expect(second).toMatchObject({ errorCode: 0, generationId: 1, skipAssignment: true });
    expect(second!.memberId).not.toBe(first!.memberId);
    const synced = await scenario.ask('syncGroup', 5, { ...generation, memberId: second!.memberId, assignments: [] });
    expect(assignmentOf(synced.assignment)).toEqual({ orders: [0, 1, 2] });
    const fenced = await scenario.ask('heartbeat', 4, { ...generation, memberId: first!.memberId });
    expect(fenced.errorCode).toBe(E.FENCED_INSTANCE_ID.code);
    const left = await scenario.ask('leaveGroup', 4, { groupId: 'payment', members: [{ memberId: '', ...instance }] });
    expect(left.members).toMatchObject([{ errorCode: 0, groupInstanceId: 'till-1' }]);
  });

  it('that says what nobody can read takes part as long as only classic members do', async () => {
    const protocols = [{ name: 'own', metadata: new Uint8Array([255, 255, 1]) }];
    const joined = await finished(scenario.join('', 3, { protocols }), time);
    expect(joined).toMatchObject({ errorCode: 0, generationId: 1 });
    const { memberId } = joined!;
    const assignment = new Uint8Array([7]);
    const sync = { groupId: 'payment', generationId: 1, memberId, assignments: [{ memberId, assignment }] };
    expect(Buffer.from((await scenario.ask('syncGroup', 3, sync)).assignment)).toEqual(Buffer.from([7]));
    await expect(scenario.shard.join('sdk')).rejects.toMatchObject({ code: 'INCONSISTENT_GROUP_PROTOCOL' });
  });

  it('shares a group with a member of another door, its assignment written in its own version', async () => {
    const memberId = await scenario.joined();
    await scenario.shard.join('sdk');
    const beat = { groupId: 'payment', generationId: 1, memberId };
    expect(await scenario.ask('heartbeat', 3, beat)).toMatchObject({ errorCode: E.REBALANCE_IN_PROGRESS.code });
    const joined = await finished(scenario.join(memberId, 3), time);
    expect(joined).toMatchObject({ errorCode: 0, leader: '', members: [] });
    const { generationId } = joined!;
    const { assignment } = await scenario.ask('syncGroup', 3, { ...beat, generationId, assignments: [] });
    expect(decodeConsumerAssignment(assignment).version).toBe(3);
    const { orders = [] } = assignmentOf(assignment);
    const sdk = await scenario.shard.ask({ type: 'describe-group', groupId: 'payment' });
    const theirs = sdk.members.find((member) => member.memberId === 'sdk')!.assigned;
    expect(orders.length + theirs.length).toBe(3);
    expect(orders.length).toBeGreaterThan(0);
    const offsets = [
      { name: 'orders', partitions: [{ partitionIndex: orders[0]!, committedOffset: 0, committedMetadata: null }] },
    ];
    const identity = { groupId: 'payment', generationIdOrMemberEpoch: generationId, memberId };
    const committed = await scenario.ask('offsetCommit', 7, { ...identity, topics: offsets });
    expect(committed.topics[0]!.partitions[0]!.errorCode).toBe(0);
  });
});

describe('a request to a group', () => {
  it('is refused for a name that no group has, and ids that nobody gave out', async () => {
    for (const groupId of ['', 'a\nb']) {
      const nobody = { groupId, generationId: 1, memberId: 'x' };
      const code = E.INVALID_GROUP_ID.code;
      expect(await scenario.join('', 3, { groupId })).toMatchObject({ errorCode: code, protocolName: '' });
      expect(await scenario.join('', 7, { groupId })).toMatchObject({ errorCode: code, protocolName: null });
      expect(await scenario.ask('syncGroup', 5, { ...nobody, assignments: [] })).toMatchObject({ errorCode: code });
      expect(await scenario.ask('heartbeat', 4, nobody)).toMatchObject({ errorCode: code });
      expect(await scenario.ask('leaveGroup', 4, { groupId, members: [] })).toMatchObject({ errorCode: code });
    }
    expect(await scenario.join('a\nb', 3)).toMatchObject({ errorCode: E.UNKNOWN_MEMBER_ID.code });
    const unknown = await scenario.ask('leaveGroup', 3, { groupId: 'payment', members: [{ memberId: 'x' }] });
    expect(unknown).toMatchObject({ errorCode: 0, members: [{ errorCode: E.UNKNOWN_MEMBER_ID.code }] });
    const alone = await scenario.ask('leaveGroup', 0, { groupId: 'payment', memberId: 'x' });
    expect(alone).toMatchObject({ errorCode: E.UNKNOWN_MEMBER_ID.code });
  });

  it('makes clients look for the coordinator again when the broker is going', async () => {
    await scenario.close();
    const code = E.NOT_COORDINATOR.code;
    const nobody = { groupId: 'payment', generationId: 1, memberId: 'x' };
    expect(await scenario.join('', 3)).toMatchObject({ errorCode: code });
    expect(await scenario.ask('syncGroup', 3, { ...nobody, assignments: [] })).toMatchObject({ errorCode: code });
    expect(await scenario.ask('heartbeat', 3, nobody)).toMatchObject({ errorCode: code });
    expect(await scenario.ask('leaveGroup', 3, { groupId: 'payment', members: [] })).toMatchObject({ errorCode: code });
  });

  it('gets ids that can be printed, however its client calls itself', async () => {
    const { memberId } = await scenario.ask(
      'joinGroup',
      5,
      {
        groupId: 'g',
        sessionTimeoutMs: 10_000,
        memberId: '',
        protocolType: 'x',
        protocols: [{ name: 'p', metadata: new Uint8Array() }],
      },
      `evil\n${'long'.repeat(100)}`,
    );
    expect(memberId).toMatch(/^evil_(long)+l?o?n?-[0-9a-f-]{36}$/);
    expect(memberId.length).toBeLessThan(249);
  });
});

describe('a coordinator', () => {
  it.for([0, 1, 2, 3, 4, 5, 6])('is this broker, for groups and transactions (version %i)', async (version) => {
    const node = { nodeId: 1, host: 'broker.test', port: 9092, errorCode: 0 };
    for (const keyType of version === 0 ? [0] : [0, 1]) {
      const request = version < 4 ? { key: 'payment', keyType } : { keyType, coordinatorKeys: ['payment', 'audit'] };
      const found = await scenario.ask('findCoordinator', version, request);
      if (version < 4) expect(found).toMatchObject(node);
      else
        expect(found.coordinators).toMatchObject([
          { key: 'payment', ...node },
          { key: 'audit', ...node },
        ]);
    }
  });

  it('is not there for keys of other types', async () => {
    const code = E.INVALID_REQUEST.code;
    expect(await scenario.ask('findCoordinator', 3, { key: 'x', keyType: 2 })).toMatchObject({
      errorCode: code,
      nodeId: -1,
    });
    const found = await scenario.ask('findCoordinator', 6, { keyType: 2, coordinatorKeys: ['x'] });
    expect(found.coordinators).toMatchObject([{ key: 'x', errorCode: code, nodeId: -1 }]);
  });
});
