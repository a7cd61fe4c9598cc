/** How many sessions of calls there are, and what is remembered of those that are over. */
import { isNaruError } from '@naru/protocol';
import { SeededRandom, VirtualClock } from '@naru/testkit';
import { beforeEach, expect, it } from 'vitest';
import { TopicRegistry, type TopicMetadata } from '../core/registry/topic-registry.ts';
import type { ShardClient } from '../runtime/commands.ts';
import type { MetadataFollower } from '../runtime/metadata-follower.ts';
import { ByteBudget } from './byte-budget.ts';
import { MAX_COPYING_BYTES } from './commit-outcomes.ts';
import { countedProducerIds } from './counted-producer-ids.ts';
import { ConnectedMembers } from './connected-members.ts';
import type { JoinRequest } from './session-events.ts';
import type { SubscriberSession } from './subscriber-session.ts';
import { MAX_UNARY_SESSIONS, UnarySessions } from './unary-sessions.ts';

/** Without partitions there is nothing to ask a shard for. */
const TOPIC: TopicMetadata = {
  name: 'orders',
  id: '11111111-1111-4111-8111-111111111111' as TopicMetadata['id'],
  type: 'ordered',
  partitionCount: 0,
  config: {},
  createdAtMs: 0,
  state: 'active',
};

const READER: JoinRequest = {
  groupId: '',
  memberId: '',
  memberEpoch: 0,
  instanceId: null,
  topics: ['orders'],
  clientId: '',
  clientHost: '',
  sessionTimeoutMs: 0,
  maxPollIntervalMs: 0,
  start: { at: 'beginning' },
  owned: [],
};

let clock: VirtualClock;
let sessions: UnarySessions;

beforeEach(() => {
  clock = new VirtualClock();
  const registry = new TopicRegistry();
  registry.apply({ key: 'topic/orders', topic: TOPIC });
  const follower = { registry, onTopicsChanged: () => () => {} } as unknown as MetadataFollower;
  const shard: ShardClient = { submit: (command) => Promise.reject(new Error(`${command.type} was not expected`)) };
  sessions = new UnarySessions({
    shard,
    follower,
    clock,
    timers: clock,
    members: new ConnectedMembers<SubscriberSession>(),
    copying: new ByteBudget(MAX_COPYING_BYTES),
    producerIds: countedProducerIds(),
    defaultMaxPollIntervalMs: 60_000,
    random: new SeededRandom(1),
    codecs: { compress: (_type, data) => data, decompress: (_type, data) => data },
  });
});

async function codeOf(work: () => unknown): Promise<string | null> {
  try {
    await work();
    return null;
  } catch (error) {
    return isNaruError(error) ? error.code : 'no NaruError';
  }
}

it('refuses more sessions than its limit, also when they all join at once, until one of them is over', async () => {
  const joins = Array.from({ length: MAX_UNARY_SESSIONS + 1 }, () => codeOf(() => sessions.join(READER)));
  const refused = (await Promise.all(joins)).filter((code) => code !== null);
  expect(refused).toEqual(['OVERLOADED']);
  expect(sessions.size).toBe(MAX_UNARY_SESSIONS);
  clock.advance(24 * 3_600_000);
  expect(sessions.size).toBe(0);
  expect(await codeOf(() => sessions.join(READER))).toBeNull();
});

it('does not count sessions that could not join', async () => {
  expect(await codeOf(() => sessions.join({ ...READER, topics: [] }))).toBe('INVALID_REQUEST');
  expect(sessions.size).toBe(0);
});

it('says once why a session is over, and forgets a session that left', async () => {
  const { id, session } = await sessions.join(READER);
  expect(sessions.find(id)).toBe(session);
  session.shutDown();
  expect(await codeOf(() => sessions.find(id))).toBe('SHUTTING_DOWN');
  expect(await codeOf(() => sessions.find(id))).toBe('UNKNOWN_MEMBER_ID');
  const other = await sessions.join(READER);
  await other.session.leave();
  expect(await codeOf(() => sessions.find(other.id))).toBe('UNKNOWN_MEMBER_ID');
  expect(sessions.size).toBe(0);
  expect(clock.pendingTimers).toBe(0);
});

it('ends every session when the broker closes, and takes no more', async () => {
  const { id } = await sessions.join(READER);
  sessions.close();
  expect(await codeOf(() => sessions.find(id))).toBe('SHUTTING_DOWN');
  expect(await codeOf(() => sessions.join(READER))).toBe('SHUTTING_DOWN');
});
