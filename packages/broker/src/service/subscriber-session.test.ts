/** What of a session cannot be seen through the door: two things at the same moment. */
import { partitionKey } from '@naru/base';
import { nodeCompressionCodecs } from '@naru/protocol/compression-node';
import { VirtualClock } from '@naru/testkit';
import { expect, it } from 'vitest';
import { TopicRegistry, type TopicMetadata } from '../core/registry/topic-registry.ts';
import type { Command, ShardClient } from '../runtime/commands.ts';
import type { MetadataFollower } from '../runtime/metadata-follower.ts';
import { ByteBudget } from './byte-budget.ts';
import { MAX_COPYING_BYTES } from './commit-outcomes.ts';
import { countedProducerIds } from './counted-producer-ids.ts';
import { ConnectedMembers } from './connected-members.ts';
import type { JoinRequest, SessionEvent } from './session-events.ts';
import { SubscriberSession } from './subscriber-session.ts';

const TOPIC: TopicMetadata = {
  name: 'orders',
  id: '11111111-1111-4111-8111-111111111111' as TopicMetadata['id'],
  type: 'ordered',
  partitionCount: 1,
  config: {},
  createdAtMs: 0,
  state: 'active',
};

const REQUEST: JoinRequest = {
  groupId: '',
  memberId: 'm',
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

/** A session whose questions to the shard wait until they are answered. */
function create(request: JoinRequest, members = new ConnectedMembers<SubscriberSession>()) {
  const clock = new VirtualClock();
  const asked: { command: Command; answer: (reply: unknown) => void }[] = [];
  const registry = new TopicRegistry();
  const listeners = new Set<() => void>();
  const events: SessionEvent[] = [];
  const shard: ShardClient = {
    submit: (command) => new Promise((resolve) => asked.push({ command, answer: resolve as (reply: unknown) => void })),
  };
  const follower = { registry, onTopicsChanged: (listener: () => void) => (listeners.add(listener), () => {}) };
  const session = new SubscriberSession(request, {
    shard,
    follower: follower as unknown as MetadataFollower,
    clock,
    timers: clock,
    emit: (event) => void events.push(event),
    room: () => null,
    members,
    copying: new ByteBudget(MAX_COPYING_BYTES),
    producerIds: countedProducerIds(),
    codecs: nodeCompressionCodecs,
    defaultMaxPollIntervalMs: 60_000,
  });
  const setPartitions = (partitionCount: number): void => {
    registry.apply({ key: 'topic/orders', topic: { ...TOPIC, partitionCount } });
    for (const listener of listeners) listener();
  };
  setPartitions(1);
  const types = (): string[] => asked.map(({ command }) => command.type);
  return { session, asked, events, setPartitions, types };
}

function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

it('gives a reader each partition once, when its topic grows again while it still looks at the last change', async () => {
  const { session, asked, events, setPartitions } = create(REQUEST);
  const opened = session.open();
  await settled();
  setPartitions(2);
  setPartitions(3);
  // Every question of this reader is about where partitions begin and end.
  for (let round = 0; round < 20; round++) {
    await settled();
    for (const { command, answer } of asked.splice(0)) answer(command.type === 'find-offset' ? { offset: 0 } : []);
  }
  await opened;
  const assigned = events.flatMap((event) => (event.type === 'assigned' ? event.partitions : []));
  expect(assigned.map(({ partition }) => partition)).toEqual([0, 1, 2].map((index) => partitionKey(TOPIC.id, index)));
});

it('gives up a membership that it got after its connection broke', async () => {
  const { session, asked, events, types } = create({ ...REQUEST, groupId: 'payment' });
  const opened = session.open();
  await settled();
  expect(types()).toEqual(['group']);
  session.disconnected();
  const joined = { memberEpoch: 1, assigned: [], revoking: [], sessionTimeoutMs: 45_000, heartbeatIntervalMs: 5_000 };
  asked.shift()?.answer({ ...joined, replacedMemberId: null });
  await opened;
  expect(asked.map(({ command }) => command)).toMatchObject([
    { type: 'group', command: { type: 'disconnected', groupId: 'payment', memberId: 'm' } },
  ]);
  expect(events).toEqual([]);
});
