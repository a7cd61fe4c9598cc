/** Partitions whose committed offset an open transaction may yet change. */
import { partitionKey, type PartitionKey } from '@naru/base';
import { VirtualClock } from '@naru/testkit';
import { beforeEach, expect, it } from 'vitest';
import { TopicRegistry, type TopicMetadata } from '../core/registry/topic-registry.ts';
import type { Command, ShardClient } from '../runtime/commands.ts';
import type { MetadataFollower } from '../runtime/metadata-follower.ts';
import { turns } from '../runtime/settling.ts';
import type { MemberCommits } from './commit-outcomes.ts';
import type { Poller } from './poller.ts';
import type { SessionEvent } from './session-events.ts';
import { SessionPartitions } from './session-partitions.ts';

const TOPIC: TopicMetadata = {
  name: 'orders',
  id: '11111111-1111-4111-8111-111111111111' as TopicMetadata['id'],
  type: 'ordered',
  partitionCount: 2,
  config: {},
  createdAtMs: 0,
  state: 'active',
};
const [FIRST, SECOND] = [partitionKey(TOPIC.id, 0), partitionKey(TOPIC.id, 1)];

let clock: VirtualClock;
/** With what an open transaction holds an offset for. */
let unstable: Set<PartitionKey>;
/** Partitions whose offsets were asked for, call by call. */
let asked: PartitionKey[][];
let events: SessionEvent[];
let released: PartitionKey[][];
let partitions: SessionPartitions;

beforeEach(() => {
  clock = new VirtualClock();
  unstable = new Set();
  asked = [];
  events = [];
  released = [];
  const registry = new TopicRegistry();
  registry.apply({ key: 'topic/orders', topic: TOPIC });
  const placed = new Set<PartitionKey>();
  partitions = new SessionPartitions({
    shard: { submit: (command: Command) => Promise.resolve(answerTo(command)) } as unknown as ShardClient,
    follower: { registry } as unknown as MetadataFollower,
    request: { groupId: 'payment', start: null },
    timers: clock,
    poller: {
      partitions: () => [...placed],
      has: (key: PartitionKey) => placed.has(key),
      place: (key: PartitionKey) => placed.add(key),
      remove: (key: PartitionKey) => placed.delete(key),
    } as unknown as Poller,
    held: null,
    gates: null,
    commits: { noteBegan: () => {} } as unknown as MemberCommits,
    emit: (event) => events.push(event),
    release: (given) => {
      released.push([...given]);
      return Promise.resolve();
    },
    fail: (error) => {
      throw error;
    },
  });
});

function answerTo(command: Command): unknown {
  if (command.type !== 'group-offsets') return [];
  asked.push([...(command.partitions ?? [])]);
  return (command.partitions ?? []).map((partition) => {
    const committed = { offset: 5, finished: [], metadata: '', leaderEpoch: -1 };
    return { partition, isUnstable: unstable.has(partition), committed };
  });
}

/** Partitions that the subscriber was told of and of which it was told that they are lost, in order. */
function told(): string[] {
  return events.flatMap((event) => {
    if (event.type === 'assigned') return event.partitions.map(({ partition }) => `+${numberOf(partition)}`);
    return event.type === 'revoked' ? event.partitions.map((partition) => `-${numberOf(partition)}`) : [];
  });
}

function numberOf(partition: PartitionKey): number {
  return partition === FIRST ? 0 : 1;
}

async function pass(durationMs: number): Promise<void> {
  clock.advance(durationMs);
  await turns(5);
}

it('tells of a partition once its offset is stable, asking ever more seldom, and of the others at once', async () => {
  unstable.add(FIRST);
  await partitions.apply({ memberEpoch: 1, assigned: [FIRST, SECOND], revoking: [] });
  expect(told()).toEqual(['+1']);
  const waits: number[] = [];
  for (let waitedMs = 1; waits.length < 7; waitedMs++) {
    await pass(1);
    if (asked.length < waits.length + 2) continue;
    waits.push(waitedMs);
    waitedMs = 0;
  }
  expect(waits).toEqual([50, 100, 200, 400, 800, 1_000, 1_000]);
  expect(asked.slice(1)).toEqual(waits.map(() => [FIRST]));
  // A change of the assignment meanwhile does not tell of it either.
  await partitions.apply({ memberEpoch: 2, assigned: [FIRST, SECOND], revoking: [] });
  expect(told()).toEqual(['+1']);
  unstable.clear();
  await pass(1_000);
  expect(told()).toEqual(['+1', '+0']);
  expect(events.at(-1)).toMatchObject({ type: 'assigned', memberEpoch: 2 });
  await pass(60_000);
  expect(asked.length).toBe(waits.length + 2);
});

it('gives back what it never told of, and tells of it anew when it comes again', async () => {
  unstable.add(FIRST);
  await partitions.apply({ memberEpoch: 1, assigned: [FIRST, SECOND], revoking: [] });
  await partitions.apply({ memberEpoch: 1, assigned: [SECOND], revoking: [FIRST] });
  expect([told(), released]).toEqual([['+1'], [[FIRST]]]);
  await pass(60_000);
  expect(asked.length).toBe(1);
  unstable.clear();
  await partitions.apply({ memberEpoch: 2, assigned: [FIRST, SECOND], revoking: [] });
  expect(told()).toEqual(['+1', '+0']);
});

it('says nothing of a partition that was lost while its offsets were asked for', async () => {
  const applied = partitions.apply({ memberEpoch: 1, assigned: [FIRST], revoking: [] });
  await partitions.apply({ memberEpoch: 2, assigned: [], revoking: [] });
  await applied;
  expect([told(), released]).toEqual([[], []]);
  await partitions.apply({ memberEpoch: 3, assigned: [FIRST], revoking: [] });
  expect(told()).toEqual(['+0']);
});

it('asks no more once it is closed', async () => {
  unstable.add(FIRST);
  await partitions.apply({ memberEpoch: 1, assigned: [FIRST], revoking: [] });
  partitions.close();
  await pass(60_000);
  expect([asked.length, told()]).toEqual([1, []]);
});
