/** A session and a shard: a member begins where the transaction says that holds an offset for its partition. */
import type { PartitionKey } from '@naru/base';
import { nodeCompressionCodecs } from '@naru/protocol/compression-node';
import { VirtualClock } from '@naru/testkit';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { TopicRegistry } from '../core/registry/topic-registry.ts';
import type { ProducerIdentity } from '../core/transaction/transaction-state.ts';
import { MemoryLogStore } from '../log/memory/memory-log-store.ts';
import { isRefusal } from '../runtime/commands.ts';
import type { MetadataFollower } from '../runtime/metadata-follower.ts';
import { finished, turns } from '../runtime/settling.ts';
import { GROUP_LOG, keyOf, sampleTopic, ShardScenario, textBatch, TRANSACTION_LOG } from '../runtime/shard-scenario.ts';
import { ByteBudget } from './byte-budget.ts';
import { MAX_COPYING_BYTES } from './commit-outcomes.ts';
import { ConnectedMembers } from './connected-members.ts';
import { countedProducerIds } from './counted-producer-ids.ts';
import type { SessionEvent } from './session-events.ts';
import { SubscriberSession } from './subscriber-session.ts';

const TOPIC = sampleTopic('orders', 2);
const [FIRST, SECOND] = [keyOf(0, TOPIC), keyOf(1, TOPIC)];
const EMPTY = { finished: null, metadata: '', leaderEpoch: -1, endOffset: null };

let clock: VirtualClock;
let shard: ShardScenario;
let events: SessionEvent[];

beforeEach(async () => {
  clock = new VirtualClock();
  events = [];
  const topics = [GROUP_LOG, TRANSACTION_LOG, TOPIC];
  shard = await finished(ShardScenario.start({ store: new MemoryLogStore(), time: clock, topics }), clock);
  for (const partition of [FIRST, SECOND]) {
    await finished(shard.client.submit({ type: 'append', partition, batch: textBatch(['a', 'b', 'c']) }), clock);
  }
});

afterEach(() => finished(shard.shard.close(), clock));

async function hold(partition: PartitionKey, offset: number): Promise<ProducerIdentity> {
  const command = { type: 'init', transactionalId: 'shop', timeoutMs: 30_000, expected: null } as const;
  const init = shard.client.submit({ type: 'transaction', command: { ...command, freshProducerId: 9 } });
  const identity = await finished(init, clock);
  if (isRefusal(identity)) throw new Error(identity.message);
  const held = shard.client.submit({
    type: 'commit-in-transaction',
    transaction: { transactionalId: 'shop', ...identity },
    flow: 2,
    groupId: 'payment',
    memberId: '',
    memberEpoch: -1,
    instanceId: null,
    offsets: [{ partition, offset, ...EMPTY }],
  });
  expect(await finished(held, clock)).toMatchObject({ results: [{ partition, refusal: null }] });
  return identity;
}

async function join(): Promise<SubscriberSession> {
  const registry = new TopicRegistry();
  registry.apply({ key: 'topic/orders', topic: TOPIC });
  const request = {
    groupId: 'payment',
    memberId: 'a',
    memberEpoch: 0,
    instanceId: null,
    topics: ['orders'],
    clientId: '',
    clientHost: '',
    sessionTimeoutMs: 45_000,
    maxPollIntervalMs: 0,
    start: { at: 'beginning' } as const,
    owned: [],
  };
  const session = new SubscriberSession(request, {
    shard: shard.client,
    follower: { registry, onTopicsChanged: () => () => {} } as unknown as MetadataFollower,
    clock,
    timers: clock,
    codecs: nodeCompressionCodecs,
    room: () => null,
    members: new ConnectedMembers(),
    copying: new ByteBudget(MAX_COPYING_BYTES),
    producerIds: countedProducerIds(),
    defaultMaxPollIntervalMs: 60_000,
    emit: (event) => events.push(event),
  });
  await finished(session.open(), clock);
  return session;
}

/** `partition@position` */
function assigned(): string[] {
  return events.flatMap((event) =>
    event.type === 'assigned'
      ? event.partitions.map(({ partition, position }) => `${partition.slice(-1)}@${position}`)
      : [],
  );
}

async function pass(durationMs: number): Promise<void> {
  for (let passedMs = 0; passedMs < durationMs; passedMs += 1_000) {
    clock.advance(1_000);
    await turns(20);
  }
}

it.each([
  ['committed', true, '0@2'],
  ['aborted', false, '0@0'],
])('when it is %s', async (_how, commit, position) => {
  const identity = await hold(FIRST, 2);
  const session = await join();
  await pass(5_000);
  expect(assigned()).toEqual(['1@0']);
  const transaction = { transactionalId: 'shop', ...identity };
  const end = {
    type: 'end-transaction',
    transaction,
    flow: 2,
    commit,
    freshProducerId: 10,
    groupCommit: null,
  } as const;
  await finished(shard.client.submit(end), clock);
  await pass(2_000);
  expect(assigned()).toEqual(['1@0', position]);
  session.disconnected();
});

it('when its time runs out', async () => {
  await hold(FIRST, 2);
  const session = await join();
  for (let second = 0; second < 35; second++) {
    session.heartbeat();
    await pass(1_000);
  }
  expect(assigned()).toEqual(['1@0', '0@0']);
  session.disconnected();
});
