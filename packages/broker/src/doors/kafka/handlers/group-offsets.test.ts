/** Committing, fetching and deleting offsets as Kafka's clients do, in every version. */
import { KAFKA_ERRORS, type KafkaRequestInput } from '@naru/protocol/kafka';
import { SeededRandom, VirtualClock } from '@naru/testkit';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { MemoryLogStore } from '../../../log/memory/memory-log-store.ts';
import { finished } from '../../../runtime/settling.ts';
import { keyOf } from '../../../runtime/shard-scenario.ts';
import { GroupScenario } from './group-scenario.ts';

const E = KAFKA_ERRORS;
const OUTSIDE = { groupId: 'payment', generationIdOrMemberEpoch: -1, memberId: '' };

let scenario: GroupScenario;
let time: VirtualClock;

beforeEach(async () => {
  time = new VirtualClock();
  scenario = await GroupScenario.start({ time, store: new MemoryLogStore(), random: new SeededRandom(1) });
  for (const partition of [0, 1]) await finished(scenario.shard.append(partition, ['a', 'b', 'c', 'd', 'e']), time);
});

afterEach(() => scenario.close());

function offset(partitionIndex: number, committedOffset: number, committedMetadata: string | null = null) {
  return { partitionIndex, committedOffset, committedLeaderEpoch: 0, committedMetadata };
}

/** Error codes by partition. */
async function commit(version: number, body: KafkaRequestInput<'offsetCommit'>): Promise<Record<string, number>> {
  const { topics } = await scenario.ask('offsetCommit', version, body);
  const codes = topics.flatMap(({ name, partitions }) =>
    partitions.map(({ partitionIndex, errorCode }) => [`${name}/${partitionIndex}`, errorCode] as const),
  );
  return Object.fromEntries(codes);
}

function orders(...partitions: ReturnType<typeof offset>[]) {
  return [{ name: 'orders', partitions }];
}

/** Answer for the group, whatever the version. */
async function fetched(version: number, topics: KafkaRequestInput<'offsetFetch'>['topics']) {
  const groupId = 'payment';
  const request = version < 8 ? { groupId, topics: topics ?? null } : { groups: [{ groupId, topics: topics ?? null }] };
  const answer = await scenario.ask('offsetFetch', version, request);
  return version < 8 ? answer : answer.groups[0]!;
}

describe('OffsetCommit and OffsetFetch', () => {
  it('takes a commit before what the same client sends right behind it: its next commit, and that it leaves', async () => {
    const memberId = await scenario.joined();
    const member = { groupId: 'payment', generationIdOrMemberEpoch: 1, memberId };
    const answers = Promise.all([
      scenario.send('offsetCommit', 7, { ...member, topics: orders(offset(0, 2)) }),
      scenario.send('offsetCommit', 7, { ...member, topics: orders(offset(0, 4)) }),
      scenario.send('leaveGroup', 3, { groupId: 'payment', members: [{ memberId }] }),
    ]);
    const [first, second, left] = await finished(answers, time);
    expect([first, second].map((answer) => answer?.topics[0]?.partitions[0]?.errorCode)).toEqual([0, 0]);
    expect(left?.members[0]?.errorCode).toBe(0);
    const { topics } = await fetched(5, [{ name: 'orders', partitionIndexes: [0] }]);
    expect(topics[0]?.partitions[0]).toMatchObject({ committedOffset: 4 });
  });

  it.for([2, 3, 4, 5, 6, 7, 8, 9])('keep offset, metadata and leader epoch (version %i)', async (version) => {
    const topics = orders(offset(0, 3, 'μ, or what a client keeps here'), offset(1, 5));
    expect(await commit(version, { ...OUTSIDE, topics })).toEqual({ 'orders/0': 0, 'orders/1': 0 });
    const asked = [
      { name: 'orders', partitionIndexes: [1, 0, 2, 99] },
      { name: 'nowhere', partitionIndexes: [0] },
    ];
    for (const fetch of version === 2 ? [1, 2] : [version]) {
      const { topics: answered, errorCode } = await fetched(fetch, asked);
      expect(errorCode).toBe(0);
      const epoch = version >= 6 ? 0 : -1;
      const none = { committedOffset: -1, committedLeaderEpoch: -1, metadata: '', errorCode: 0 };
      expect(answered).toEqual([
        {
          name: 'orders',
          partitions: [
            { partitionIndex: 1, committedOffset: 5, committedLeaderEpoch: epoch, metadata: '', errorCode: 0 },
            {
              partitionIndex: 0,
              committedOffset: 3,
              committedLeaderEpoch: epoch,
              metadata: 'μ, or what a client keeps here',
              errorCode: 0,
            },
            { partitionIndex: 2, ...none },
            { partitionIndex: 99, ...none },
          ],
        },
        { name: 'nowhere', partitions: [{ partitionIndex: 0, ...none }] },
      ]);
    }
    const all = await fetched(version, undefined);
    expect(all.topics).toMatchObject([
      { name: 'orders', partitions: [{ committedOffset: 3 }, { committedOffset: 5 }] },
    ]);
  });

  it('have an error for each partition', async () => {
    const topics = [
      ...orders(offset(0, 3), offset(7, 0), offset(1, 1, 'x'.repeat(5_000))),
      { name: 'nowhere', partitions: [offset(0, 0)] },
      { name: '__groups', partitions: [offset(0, 0)] },
    ];
    expect(await commit(8, { ...OUTSIDE, topics })).toEqual({
      'orders/0': 0,
      'orders/7': E.UNKNOWN_TOPIC_OR_PARTITION.code,
      'orders/1': E.OFFSET_METADATA_TOO_LARGE.code,
      'nowhere/0': E.UNKNOWN_TOPIC_OR_PARTITION.code,
      '__groups/0': E.UNKNOWN_TOPIC_OR_PARTITION.code,
    });
  });

  it('count the last of a partition that is named twice', async () => {
    const topics = [...orders(offset(0, 1)), ...orders(offset(0, 2))];
    expect(await commit(8, { ...OUTSIDE, topics })).toEqual({ 'orders/0': 0 });
    expect((await fetched(8, undefined)).topics).toMatchObject([{ partitions: [{ committedOffset: 2 }] }]);
  });

  it('know the beginning and the end by the numbers with which kafkajs resets groups', async () => {
    const before = { type: 'delete-records', partition: keyOf(0), before: 2 } as const;
    await finished(scenario.shard.ask(before), time);
    const topics = orders(offset(0, -2), offset(1, -1), offset(2, 0));
    const done = { 'orders/0': 0, 'orders/1': 0, 'orders/2': 0 };
    expect(await commit(3, { ...OUTSIDE, topics })).toEqual(done);
    const [answered] = (await fetched(3, undefined)).topics;
    expect(answered!.partitions.map(({ committedOffset }) => committedOffset)).toEqual([2, 5, 0]);
    const code = E.OFFSET_OUT_OF_RANGE.code;
    expect(await commit(3, { ...OUTSIDE, topics: orders(offset(0, -3)) })).toEqual({ 'orders/0': code });
  });

  it('may lie beyond the end, as with Kafka, but not where retention goes by what is committed', async () => {
    const topics = [...orders(offset(1, 6), offset(2, 1e12)), { name: 'acked', partitions: [offset(0, 0)] }];
    expect(await commit(8, { ...OUTSIDE, topics })).toEqual({ 'orders/1': 0, 'orders/2': 0, 'acked/0': 0 });
    expect((await fetched(8, undefined)).topics).toMatchObject([
      { name: 'acked', partitions: [{ committedOffset: 0 }] },
      { name: 'orders', partitions: [{ committedOffset: 6 }, { committedOffset: 1e12 }] },
    ]);
    const beyond = [{ name: 'acked', partitions: [offset(0, 1)] }];
    expect(await commit(8, { ...OUTSIDE, topics: beyond })).toEqual({ 'acked/0': E.OFFSET_OUT_OF_RANGE.code });
  });

  it('leave what was finished beyond the offset finished', async () => {
    const { memberEpoch } = await scenario.shard.join('sdk');
    await scenario.shard.commit('sdk', memberEpoch, 0, 1, [[3, 5]]);
    await scenario.shard.group({ type: 'leave', groupId: 'payment', memberId: 'sdk', memberEpoch: -1 });
    await commit(8, { ...OUTSIDE, topics: orders(offset(0, 2)) });
    const [found] = await scenario.shard.ask({ type: 'group-offsets', groupId: 'payment', partitions: [keyOf(0)] });
    expect(found!.committed).toMatchObject({ offset: 2, finished: [[3, 5]] });
  });

  it('take nothing from outside while the group has members, and nothing old from members', async () => {
    const memberId = await scenario.joined();
    const topics = orders(offset(0, 1));
    const code = async (generationIdOrMemberEpoch: number, id: string, rest = {}) => {
      const body = { groupId: 'payment', generationIdOrMemberEpoch, memberId: id, topics, ...rest };
      return (await commit(7, body))['orders/0'];
    };
    expect(await code(1, memberId)).toBe(0);
    expect(await code(-1, '')).toBe(E.UNKNOWN_MEMBER_ID.code);
    expect(await code(-1, 'somebody')).toBe(E.UNKNOWN_MEMBER_ID.code);
    expect(await code(1, '')).toBe(E.UNKNOWN_MEMBER_ID.code);
    expect(await code(1, 'somebody')).toBe(E.UNKNOWN_MEMBER_ID.code);
    expect(await code(7, memberId)).toBe(E.ILLEGAL_GENERATION.code);
    expect(await code(1, memberId, { groupId: '' })).toBe(E.INVALID_GROUP_ID.code);
    const leaving = { groupId: 'payment', members: [{ memberId }] };
    await scenario.ask('leaveGroup', 3, leaving);
    expect(await code(-1, 'whatever a client without a generation calls itself')).toBe(0);
  });

  it('know a member of the new protocol by its epoch', async () => {
    const join = { groupId: 'payment', memberId: 'A', memberEpoch: 0, rebalanceTimeoutMs: 30_000 };
    const subscribed = { ...join, subscribedTopicNames: ['orders'], topicPartitions: [] };
    const { memberEpoch } = await scenario.ask('consumerGroupHeartbeat', 1, subscribed);
    const identity = { groupId: 'payment', memberId: 'A' };
    const topics = orders(offset(0, 4));
    const committed = (epoch: number) => commit(9, { ...identity, generationIdOrMemberEpoch: epoch, topics });
    expect(await committed(memberEpoch)).toEqual({ 'orders/0': 0 });
    expect(await committed(memberEpoch + 1)).toEqual({ 'orders/0': E.STALE_MEMBER_EPOCH.code });
    const asked = [{ name: 'orders', partitionIndexes: [0] }];
    const answer = async (memberId: string | null, epoch: number) => {
      const group = { groupId: 'payment', memberId, memberEpoch: epoch, topics: asked };
      return (await scenario.ask('offsetFetch', 9, { groups: [group] })).groups[0]!;
    };
    expect((await answer('A', memberEpoch)).topics).toMatchObject([{ partitions: [{ committedOffset: 4 }] }]);
    expect((await answer(null, -1)).topics).toMatchObject([{ partitions: [{ committedOffset: 4 }] }]);
    expect(await answer('A', memberEpoch + 1)).toMatchObject({ errorCode: E.STALE_MEMBER_EPOCH.code, topics: [] });
    expect(await answer('B', memberEpoch)).toMatchObject({ errorCode: E.UNKNOWN_MEMBER_ID.code, topics: [] });
  });

  it('answer for several groups, each once', async () => {
    await commit(8, { ...OUTSIDE, topics: orders(offset(0, 4)) });
    const topics = [{ name: 'orders', partitionIndexes: [0] }];
    const groups = ['payment', 'audit', '', 'payment'].map((groupId) => ({ groupId, topics }));
    const answer = await scenario.ask('offsetFetch', 8, { groups });
    expect(answer.groups).toMatchObject([
      { groupId: 'payment', errorCode: 0, topics: [{ partitions: [{ committedOffset: 4 }] }] },
      { groupId: 'audit', errorCode: 0, topics: [{ partitions: [{ committedOffset: -1 }] }] },
      { groupId: '', errorCode: E.INVALID_GROUP_ID.code, topics: [] },
      { groupId: 'payment', errorCode: E.INVALID_REQUEST.code, topics: [] },
    ]);
  });

  it('make clients look for the coordinator again when the broker is going', async () => {
    await scenario.close();
    const code = E.NOT_COORDINATOR.code;
    expect(await commit(8, { ...OUTSIDE, topics: orders(offset(0, 4)) })).toEqual({ 'orders/0': code });
    const asked = [{ name: 'orders', partitionIndexes: [0] }];
    expect((await fetched(1, asked)).topics).toMatchObject([
      { partitions: [{ errorCode: code, committedOffset: -1 }] },
    ]);
    for (const version of [2, 7, 8]) expect(await fetched(version, asked)).toMatchObject({ errorCode: code });
  });
});

describe('OffsetDelete', () => {
  const partitions = (...indexes: number[]) => indexes.map((partitionIndex) => ({ partitionIndex }));

  it('takes offsets out of a group without members', async () => {
    await commit(8, { ...OUTSIDE, topics: orders(offset(0, 4), offset(1, 2)) });
    const topics = [
      { name: 'orders', partitions: partitions(0, 2, 9) },
      { name: 'nowhere', partitions: partitions(0) },
    ];
    const deleted = await scenario.ask('offsetDelete', 0, { groupId: 'payment', topics });
    const unknown = E.UNKNOWN_TOPIC_OR_PARTITION.code;
    expect(deleted).toMatchObject({
      errorCode: 0,
      topics: [
        { partitions: [{ errorCode: 0 }, { errorCode: 0 }, { partitionIndex: 9, errorCode: unknown }] },
        { partitions: [{ errorCode: unknown }] },
      ],
    });
    const left = await fetched(8, undefined);
    expect(left.topics).toMatchObject([{ name: 'orders', partitions: [{ partitionIndex: 1, committedOffset: 2 }] }]);
  });

  it('spares topics that a member subscribes to, by name or by pattern, and no others', async () => {
    const committed = [...orders(offset(0, 4)), { name: 'payments', partitions: [offset(0, 0), offset(1, 0)] }];
    await commit(8, { ...OUTSIDE, topics: committed });
    await scenario.joined();
    const topics = ['orders', 'payments'].map((name) => ({ name, partitions: partitions(0) }));
    const codes = async () => {
      const deleted = await scenario.ask('offsetDelete', 0, { groupId: 'payment', topics });
      return [deleted.errorCode, ...deleted.topics.map((topic) => topic.partitions[0]?.errorCode)];
    };
    const subscribed = E.GROUP_SUBSCRIBED_TO_TOPIC.code;
    expect(await codes()).toEqual([0, subscribed, 0]);
    expect((await fetched(8, undefined)).topics).toMatchObject([
      { name: 'orders', partitions: [{ partitionIndex: 0, committedOffset: 4 }] },
      { name: 'payments', partitions: [{ partitionIndex: 1, committedOffset: 0 }] },
    ]);
    const join = { groupId: 'payment', memberId: 'A', memberEpoch: 0, rebalanceTimeoutMs: 30_000, topicPartitions: [] };
    await scenario.ask('consumerGroupHeartbeat', 1, { ...join, subscribedTopicRegex: 'pay.*' });
    expect(await codes()).toEqual([0, subscribed, subscribed]);
  });

  it('refuses groups that are missing, and those that have members and are not of consumers', async () => {
    const topics = [{ name: 'orders', partitions: partitions(0) }];
    const code = async (groupId: string) => (await scenario.ask('offsetDelete', 0, { groupId, topics })).errorCode;
    expect(await code('missing')).toBe(E.GROUP_ID_NOT_FOUND.code);
    const join = scenario.join('', 3, { groupId: 'workers', protocolType: 'connect' });
    await finished(join, time);
    expect(await code('workers')).toBe(E.NON_EMPTY_GROUP.code);
  });
});
