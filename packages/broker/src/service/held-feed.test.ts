/** Held events from commit to redelivery: a shard, and sessions that the test speaks through. */
// The member checks what it is told, outside of a test's own function.
// oxlint-disable vitest/no-standalone-expect
import { VirtualClock } from '@naru/testkit';
import { partitionKey, type PartitionKey } from '@naru/base';
import { keyId } from '@naru/protocol';
import { decodeRecords, encodeBatch } from '@naru/protocol/batch';
import { nodeCompressionCodecs } from '@naru/protocol/compression-node';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { EventOutcome, OffsetRange } from '../core/group/index.ts';
import { TopicRegistry } from '../core/registry/topic-registry.ts';
import { MemoryLogStore } from '../log/memory/memory-log-store.ts';
import { HELD_LOG_TOPIC, LEDGER_TOPIC } from '../runtime/internal-topics.ts';
import type { MetadataFollower } from '../runtime/metadata-follower.ts';
import { finished, turns } from '../runtime/settling.ts';
import { GROUP_LOG, sampleTopic, ShardScenario } from '../runtime/shard-scenario.ts';
import { ByteBudget } from './byte-budget.ts';
import { MAX_COPYING_BYTES, MemberCommits } from './commit-outcomes.ts';
import { countedProducerIds } from './counted-producer-ids.ts';
import { ConnectedMembers } from './connected-members.ts';
import type { ShardClient } from '../runtime/commands.ts';
import { HeldFeed, MAX_GIVEN_BYTES, MAX_GIVEN_EVENTS } from './held-feed.ts';
import type { SessionEvent } from './session-events.ts';
import { SubscriberSession } from './subscriber-session.ts';

const TEXT = new TextEncoder();
const TOPIC = sampleTopic('orders', 1);
const PARTITION: PartitionKey = partitionKey(TOPIC.id, 0);
const TOPICS = [GROUP_LOG, sampleTopic(HELD_LOG_TOPIC, 2), sampleTopic(LEDGER_TOPIC, 2), TOPIC];

let clock: VirtualClock;
let shard: ShardScenario;
let members: ConnectedMembers<SubscriberSession>;

beforeEach(async () => {
  clock = new VirtualClock();
  members = new ConnectedMembers();
  shard = await finished(ShardScenario.start({ store: new MemoryLogStore(), time: clock, topics: TOPICS }), clock);
});

afterEach(() => finished(shard.shard.close(), clock));

/** A member that keeps what it is told. */
class Member {
  readonly events: SessionEvent[] = [];
  readonly session: SubscriberSession;
  readonly given = new Map<number, string>();
  readonly blocked = new Set<string>();
  mostGiven = 0;
  #nextCommitId = 1;

  constructor(memberId: string) {
    const registry = new TopicRegistry();
    registry.apply({ key: 'topic/orders', topic: TOPIC });
    const follower = { registry, onTopicsChanged: () => () => {} } as unknown as MetadataFollower;
    const request = {
      groupId: 'payment',
      memberId,
      memberEpoch: 0,
      instanceId: null,
      topics: ['orders'],
      clientId: '',
      clientHost: '',
      sessionTimeoutMs: 0,
      maxPollIntervalMs: 0,
      start: { at: 'beginning' } as const,
      owned: [],
    };
    this.session = new SubscriberSession(request, {
      shard: shard.client,
      follower,
      clock,
      timers: clock,
      codecs: nodeCompressionCodecs,
      room: () => null,
      members,
      copying: new ByteBudget(MAX_COPYING_BYTES),
      producerIds: countedProducerIds(),
      defaultMaxPollIntervalMs: 60_000,
      emit: (event) => this.#heard(event),
    });
  }

  #heard(event: SessionEvent): void {
    this.events.push(event);
    if (event.type === 'assigned') {
      for (const { blockedKeys = [] } of event.partitions) for (const id of blockedKeys) this.blocked.add(id);
    }
    if (event.type === 'blocked-keys') {
      for (const id of event.blocked) this.blocked.add(id);
      for (const id of event.unblocked) this.blocked.delete(id);
    }
    if (event.type !== 'held') return;
    for (const { offset, batch } of event.events) {
      const [record] = decodeRecords(batch);
      expect(record?.offset).toBe(offset);
      expect(this.given.has(offset)).toBe(false);
      this.given.set(offset, keyId(record?.key as Uint8Array));
    }
    this.mostGiven = Math.max(this.mostGiven, this.given.size);
    expect(new Set(this.given.values()).size).toBe(this.given.size);
  }

  /** Codes of what was refused. */
  async commit(offset: number, outcomes: EventOutcome[], ranges: readonly OffsetRange[] = []): Promise<string[]> {
    const commitId = this.#nextCommitId++;
    const commit = { partition: PARTITION, offset, finished: ranges, metadata: '', outcomes };
    await finished(this.session.commit(commitId, [commit]), clock);
    const answer = this.events.find((event) => event.type === 'committed' && event.commitId === commitId);
    return answer?.type === 'committed' ? answer.errors.map(({ refusal }) => refusal.code) : ['no answer'];
  }
}

async function join(memberId: string): Promise<Member> {
  const member = new Member(memberId);
  await finished(member.session.open(), clock);
  return member;
}

function told(offset: number, kind: EventOutcome['kind'], changes: Partial<EventOutcome> = {}): EventOutcome {
  return {
    offset,
    kind,
    attempts: 1,
    durationMs: 0,
    note: '',
    reason: '',
    error: '',
    firstFailureMs: 0,
    lastFailureMs: 0,
    nextAttemptMs: 0,
    idempotencyId: '',
    ...changes,
  };
}

/** One batch of events whose keys the function gives. */
async function publish(count: number, keyOf: (index: number) => string, value = 'x'): Promise<void> {
  const records = Array.from({ length: count }, (_, index) => {
    return { key: TEXT.encode(keyOf(index)), value: TEXT.encode(value), timestampMs: 1_000 };
  });
  await finished(shard.ask({ type: 'append', partition: PARTITION, batch: encodeBatch(records) }), clock);
}

it('ten thousand keys that fail at once are held, given in small portions, and all handled', async () => {
  const count = 10_000;
  await publish(count, (index) => `key ${index}`);
  const member = await join('a');
  const nextAttemptMs = clock.nowMs() + 20_000;
  for (let from = 0; from < count; from += 1_000) {
    const outcomes = Array.from({ length: 1_000 }, (_, index) => told(from + index, 'held', { nextAttemptMs }));
    expect(await member.commit(from + 1_000, outcomes)).toEqual([]);
  }
  expect(member.blocked.size).toBe(count);
  expect(member.given.size).toBe(0);
  clock.advance(20_000);
  let handled = 0;
  while (handled < count) {
    await turns(5);
    const offsets = [...member.given.keys()];
    member.given.clear();
    handled += offsets.length;
    expect(
      await member.commit(
        count,
        offsets.map((offset) => told(offset, 'processed')),
      ),
    ).toEqual([]);
  }
  await turns(20);
  expect(member.mostGiven).toBe(MAX_GIVEN_EVENTS);
  expect([member.blocked.size, member.given.size]).toEqual([0, 0]);
  const page = await shard.ask({ type: 'describe-group', groupId: 'payment' });
  expect(page.offsets.map(({ committed }) => committed.offset)).toEqual([count]);
}, 60_000);

it('gives no more bytes at a time than it may', async () => {
  const size = Math.floor(MAX_GIVEN_BYTES / 3);
  for (let index = 0; index < 8; index++) await publish(1, () => `k${index}`, 'x'.repeat(size));
  const member = await join('a');
  await member.commit(
    8,
    Array.from({ length: 8 }, (_, index) => told(index, 'held')),
  );
  await turns(20);
  expect(member.given.size).toBe(2);
  member.given.clear();
  await member.commit(8, [told(0, 'processed'), told(1, 'processed')]);
  await turns(20);
  expect(member.given.size).toBe(2);
});

it('what a member had goes to the next one, which is told of the blocked keys; late results of the first are refused', async () => {
  await publish(3, () => 'a');
  const first = await join('a');
  await first.commit(3, [told(0, 'held'), told(1, 'held', { attempts: 0 }), told(2, 'held', { attempts: 0 })]);
  await turns(20);
  expect([...first.given.keys()]).toEqual([0]);
  await finished(first.session.leave(), clock);
  const second = await join('b');
  await turns(20);
  expect([...second.blocked]).toEqual([keyId(TEXT.encode('a'))]);
  expect([...second.given.keys()]).toEqual([0]);
  const commit = { partition: PARTITION, offset: 3, finished: [], metadata: '', leaderEpoch: -1, endOffset: null };
  const late = { ...commit, outcomes: [told(0, 'processed')] };
  const command = { type: 'commit', groupId: 'payment', memberId: 'a', memberEpoch: 1, offsets: [late] } as const;
  expect(await shard.submit({ type: 'group', command })).toMatchObject({ code: 'UNKNOWN_MEMBER_ID' });
});

it('a key that is blocked again right after it was free is told both times', async () => {
  await publish(2, () => 'a');
  const member = await join('a');
  await member.commit(1, [told(0, 'held')]);
  await turns(20);
  await member.commit(1, [told(0, 'processed')]);
  await member.commit(2, [told(1, 'held')]);
  await turns(20);
  const keys = member.events.flatMap((event) => (event.type === 'blocked-keys' ? [event] : []));
  expect(keys.map(({ blocked, unblocked }) => `+${blocked.length} -${unblocked.length}`)).toEqual([
    '+1 -0',
    '+0 -1',
    '+1 -0',
  ]);
});

it('commits keep their order although one of them reads events first, and a release waits for them', async () => {
  await publish(4, (index) => `k${index}`);
  const member = await join('a');
  const one = { partition: PARTITION, finished: [], metadata: '' };
  const all = [
    member.session.commit(1, [{ ...one, offset: 2, outcomes: [told(1, 'dead-lettered')] }]),
    member.session.commit(2, [{ ...one, offset: 3 }]),
    member.session.leave(),
  ];
  await finished(Promise.all(all), clock);
  const answers = member.events.flatMap((event) =>
    event.type === 'committed' ? [[event.commitId, event.errors.length]] : [],
  );
  expect(answers).toEqual([
    [1, 0],
    [2, 0],
  ]);
  const { offsets } = await shard.ask({ type: 'describe-group', groupId: 'payment' });
  expect(offsets.map(({ committed }) => committed.offset)).toEqual([3]);
});

it('what a session had not committed yet when its connection broke is not committed after what the member says next', async () => {
  await publish(2, () => 'a');
  const before = await join('a');
  const one = { partition: PARTITION, finished: [], metadata: '' };
  const held = [told(0, 'held'), told(1, 'held', { attempts: 0 })];
  // Both have to read events first.
  const late = [
    before.session.commit(1, [{ ...one, offset: 2, outcomes: held }]),
    before.session.commit(2, [{ ...one, offset: 2, outcomes: held }]),
  ];
  before.session.disconnected();
  await finished(Promise.all(late), clock);
  const { offsets } = await shard.ask({ type: 'describe-group', groupId: 'payment' });
  expect(offsets).toEqual([]);
});

it('a partition that comes in the moment in which the last one went is looked at', async () => {
  for (let delay = 0; delay < 8; delay++) {
    const watches: (() => void)[] = [];
    const submit = ({ type }: { type: string }): Promise<unknown> =>
      type === 'watch-held' ? new Promise((resolve) => watches.push(() => resolve([]))) : Promise.resolve(null);
    const feed = new HeldFeed({
      shard: { submit } as unknown as ShardClient,
      codecs: nodeCompressionCodecs,
      groupId: 'payment',
      emit: () => {},
      room: () => null,
      fail: () => {},
    });
    feed.add(PARTITION);
    feed.remove(PARTITION);
    watches[0]?.();
    for (let turn = 0; turn < delay; turn++) await Promise.resolve();
    feed.add(PARTITION);
    await turns(5);
    expect([delay, watches.length]).toEqual([delay, 2]);
    feed.close();
  }
});

it('more outcomes than a commit may have are refused before an event is read for them', async () => {
  let asked = 0;
  const submit = (): Promise<unknown> => {
    asked += 1;
    return Promise.resolve({ code: 'OFFSET_OUT_OF_RANGE', message: '' });
  };
  const commits = new MemberCommits({
    shard: { submit } as unknown as ShardClient,
    codecs: nodeCompressionCodecs,
    copying: new ByteBudget(MAX_COPYING_BYTES),
    producerIds: countedProducerIds(),
    groupId: 'payment',
    memberId: 'a',
    isGiven: () => false,
    onCommitted: () => {},
  });
  const outcomes = Array.from({ length: 1_001 }, (_, index) => told(index, 'held'));
  const refused = await commits.commit(1, [{ partition: PARTITION, offset: 2, finished: [], metadata: '', outcomes }]);
  expect([refused[0]?.refusal.code, asked]).toEqual(['INVALID_REQUEST', 0]);
});

it('what one broker copies takes no room from another one of the same process', async () => {
  const commit = { partition: PARTITION, offset: 1, finished: [], metadata: '', outcomes: [told(0, 'held')] };
  /** How many of a broker's members get so far that their events are read, of which no reading ends. */
  const begun = async (members: number): Promise<number> => {
    let asked = 0;
    const submit = (): Promise<never> => {
      asked += 1;
      return new Promise(() => {});
    };
    const copying = new ByteBudget(MAX_COPYING_BYTES);
    for (let member = 0; member < members; member++) {
      const commits = new MemberCommits({
        shard: { submit },
        codecs: nodeCompressionCodecs,
        copying,
        producerIds: countedProducerIds(),
        groupId: 'payment',
        memberId: String(member),
        isGiven: () => false,
        onCommitted: () => {},
      });
      void commits.commit(1, [commit]);
    }
    await turns(5);
    return asked;
  };
  // The first one crashed, or its disk hangs.
  expect([await begun(100), await begun(1)]).toEqual([16, 1]);
});
