/**
 * Staged groups on a table, for tests: a shard, and members that behave as the SDK does. They take what they are given into a
 * lane for each key, handle it when the test says so, and commit a watermark with ranges beyond it.
 *
 * A member checks what it is told: nothing twice, late events only after it knew that they were passed over, and in a lane each
 * key's offsets ascending.
 */
import { assert, type Clock, type PartitionKey, type Timers } from '@naru/base';
import { keyId } from '@naru/protocol';
import { encodeBatch, iterateRecords, type CompressionType } from '@naru/protocol/batch';
import { nodeCompressionCodecs } from '@naru/protocol/compression-node';
import type { EventOutcome } from '../core/group/index.ts';
import { TopicRegistry, type TopicMetadata } from '../core/registry/topic-registry.ts';
import type { LogStore } from '../log/log-store.ts';
import type { ShardClient } from '../runtime/commands.ts';
import { HELD_LOG_TOPIC, TRANSACTION_LOG_TOPIC } from '../runtime/internal-topics.ts';
import type { MetadataFollower } from '../runtime/metadata-follower.ts';
import { GROUP_LOG, keyOf, sampleTopic, ShardScenario } from '../runtime/shard-scenario.ts';
import { ByteBudget } from './byte-budget.ts';
import { MAX_COPYING_BYTES } from './commit-outcomes.ts';
import { countedProducerIds } from './counted-producer-ids.ts';
import { ConnectedMembers } from './connected-members.ts';
import type { AssignedPartition, JoinRequest, SessionEvent } from './session-events.ts';
import { SubscriberSession, type SubscriberSessionOptions } from './subscriber-session.ts';
import { UnarySession } from './unary-session.ts';

const TEXT = new TextEncoder();
const HELD_LOG = sampleTopic(HELD_LOG_TOPIC, GROUP_LOG.partitionCount);
const TRANSACTION_LOG = sampleTopic(TRANSACTION_LOG_TOPIC, 8);

export interface StagedOptions {
  readonly store: LogStore;
  readonly time: Clock & Timers;
  /** As in the setting `groups`. */
  readonly groups: string;
  readonly partitionCount?: number | undefined;
  readonly leaderEpoch?: number | undefined;
  readonly topics?: readonly TopicMetadata[] | undefined;
  readonly through?: ((shard: ShardClient) => ShardClient) | undefined;
}

export class StagedScenario {
  readonly shard: ShardScenario;
  readonly members = new ConnectedMembers<SubscriberSession>();
  readonly #copying = new ByteBudget(MAX_COPYING_BYTES);
  readonly #producerIds = countedProducerIds();
  readonly #registry = new TopicRegistry();
  readonly #listeners = new Set<() => void>();
  readonly #time: Clock & Timers;
  readonly #open = new Set<StagedMember>();
  #topic: TopicMetadata;

  private constructor(shard: ShardScenario, topic: TopicMetadata, time: Clock & Timers) {
    this.shard = shard;
    this.#topic = topic;
    this.#time = time;
    this.#registry.apply({ key: `topic/${topic.name}`, topic });
  }

  static async start(options: StagedOptions): Promise<StagedScenario> {
    const topic = { ...sampleTopic('orders', options.partitionCount ?? 1), config: { groups: options.groups } };
    const { store, time, leaderEpoch, through } = options;
    const shard = await ShardScenario.start({
      store,
      time,
      leaderEpoch,
      through,
      topics: [GROUP_LOG, HELD_LOG, TRANSACTION_LOG, topic],
    });
    return new StagedScenario(shard, topic, time);
  }

  get topic(): TopicMetadata {
    return this.#topic;
  }

  partition(index = 0): PartitionKey {
    return keyOf(index, this.#topic);
  }

  async configure(groups: string): Promise<void> {
    this.#topic = { ...this.#topic, config: { groups } };
    const change = { key: `topic/${this.#topic.name}`, topic: this.#topic };
    this.#registry.apply(change);
    await this.shard.submit({ type: 'topics', changes: [change] });
    for (const listener of this.#listeners) listener();
  }

  /** One batch with an event for each key. */
  async publish(keys: readonly (string | null)[], partition = 0, compression: CompressionType = 'none'): Promise<void> {
    const records = keys.map((key) => ({
      key: key === null ? null : TEXT.encode(key),
      value: TEXT.encode('x'),
      timestampMs: 1,
    }));
    const batch = encodeBatch(records, { compression }, nodeCompressionCodecs);
    await this.shard.ask({ type: 'append', partition: this.partition(partition), batch });
  }

  /** Joins and begins to poll. */
  async join(groupId: string, memberId: string, request: Partial<JoinRequest> = {}): Promise<StagedMember> {
    const member = new StagedMember(groupId, memberId, request, this.#options());
    this.#open.add(member);
    await member.session.open();
    return member;
  }

  /** Comes back after its connection broke: with its partitions, and what it does not know to be lost. */
  async rejoin(before: StagedMember, memberEpoch: number): Promise<StagedMember> {
    const owned = [...before.owned].map(([partition, { next }]) => ({ partition, nextOffset: next }));
    const request = { memberEpoch, owned };
    const member = new StagedMember(before.groupId, before.memberId, request, this.#options());
    for (const [partition, state] of before.owned) member.owned.set(partition, state);
    for (const [name, lane] of before.lanes) member.lanes.set(name, lane);
    this.#open.add(member);
    await member.session.open();
    return member;
  }

  async redrive(groupId: string, offset: number): Promise<void> {
    const rest = { topicId: null, keyId: null, reason: null, sinceMs: null, beforeMs: null };
    const filter = { ...rest, places: [{ partition: this.partition(), offset }] };
    const query = { filter, limit: 10, cursor: null, untilMs: this.#time.nowMs(), dryRun: false };
    await this.shard.group({ type: 'redrive', groupId, ...query });
  }

  /** Joins as a member that speaks in single calls. */
  joinUnary(groupId: string, memberId: string): Promise<UnarySession> {
    return UnarySession.join(joinRequest(groupId, memberId), { ...this.#options(), onEnded: () => {} });
  }

  #options(): Omit<SubscriberSessionOptions, 'emit'> {
    const follower = {
      registry: this.#registry,
      onTopicsChanged: (listener: () => void) => {
        this.#listeners.add(listener);
        return () => this.#listeners.delete(listener);
      },
    } as unknown as MetadataFollower;
    return {
      shard: this.shard.client,
      follower,
      clock: this.#time,
      timers: this.#time,
      room: () => null,
      members: this.members,
      copying: this.#copying,
      producerIds: this.#producerIds,
      codecs: nodeCompressionCodecs,
      defaultMaxPollIntervalMs: 24 * 3_600_000,
    };
  }

  /** As somebody who is no member. The group has none. */
  async commitFor(
    groupId: string,
    offset: number,
    finished: readonly (readonly [number, number])[] = [],
    outcomes: readonly EventOutcome[] = [],
  ): Promise<void> {
    const position = { partition: this.partition(), offset, finished, outcomes };
    const commit = { ...position, metadata: '', leaderEpoch: -1, endOffset: null };
    const reply = await this.shard.group({ type: 'commit', groupId, memberId: '', memberEpoch: 0, offsets: [commit] });
    assert(reply.results[0]?.refusal === null, `commit of ${groupId}: ${JSON.stringify(reply)}`);
  }

  /** Everybody's connection breaks and the shard stops. */
  async stop(): Promise<void> {
    for (const member of this.#open) member.session.disconnected();
    await this.shard.shard.close();
  }
}

export interface Lane {
  readonly partition: PartitionKey;
  readonly offsets: number[];
}

interface Owned {
  next: number;
  /** Passed over, and not come yet. */
  readonly withheld: Set<number>;
  /** Given or passed over, and not handled. */
  readonly unfinished: Set<number>;
  readonly skipped: AssignedPartition['finished'];
}

export class StagedMember {
  readonly session: SubscriberSession;
  readonly groupId: string;
  readonly memberId: string;
  readonly owned = new Map<PartitionKey, Owned>();
  /** By partition and key. */
  readonly lanes = new Map<string, Lane>();
  /** Every event that came, in its order: `offset`, or `late offset`. */
  readonly came: string[] = [];
  readonly gone: number[] = [];
  ended: unknown = null;
  #pollId = 0;
  #commitId = 0;

  constructor(
    groupId: string,
    memberId: string,
    request: Partial<JoinRequest>,
    options: Omit<SubscriberSessionOptions, 'emit'>,
  ) {
    this.groupId = groupId;
    this.memberId = memberId;
    const join = { ...joinRequest(groupId, memberId), ...request };
    this.session = new SubscriberSession(join, { ...options, emit: (event) => this.#heard(event) });
  }

  /** Handles the first event of a lane; with none, of some lane. Returns what it was. */
  handle(key?: string, partition?: PartitionKey): { partition: PartitionKey; key: string; offset: number } | null {
    for (const [name, lane] of this.lanes) {
      const id = name.slice(lane.partition.length);
      if ((key !== undefined && id !== laneOf(key)) || (partition !== undefined && lane.partition !== partition))
        continue;
      const offset = lane.offsets.shift();
      if (lane.offsets.length === 0) this.lanes.delete(name);
      if (offset === undefined) continue;
      this.owned.get(lane.partition)?.unfinished.delete(offset);
      return { partition: lane.partition, key: id, offset };
    }
    return null;
  }

  /** Handles the first event of this lane. */
  handleLane(lane: Lane): { readonly partition: PartitionKey; readonly offset: number } | null {
    const { partition, offsets } = lane;
    const offset = offsets.shift();
    if (offsets.length === 0) for (const [name, other] of this.lanes) if (other === lane) this.lanes.delete(name);
    if (offset === undefined) return null;
    this.owned.get(partition)?.unfinished.delete(offset);
    return { partition, offset };
  }

  /** Commits what it has handled. */
  async commit(): Promise<void> {
    const commits = [...this.owned].map(([partition, { next, unfinished, skipped }]) => {
      const open = [...unfinished].sort((a, b) => a - b);
      const offset = open[0] ?? next;
      const finished: [number, number][] = [];
      for (const [index, at] of open.entries()) {
        const to = open[index + 1] ?? next;
        if (at + 1 < to) finished.push([at + 1, to]);
      }
      for (const [from, to] of skipped) if (to > next) finished.push([Math.max(from, next), to]);
      return { partition, offset, finished, metadata: '' };
    });
    if (commits.length > 0) await this.session.commit(this.#commitId++, commits);
  }

  #heard(event: SessionEvent): void {
    switch (event.type) {
      case 'joined':
        this.#poll();
        return;
      case 'assigned':
        for (const { partition, position, finished } of event.partitions) {
          const fresh = {
            next: position,
            withheld: new Set<number>(),
            unfinished: new Set<number>(),
            skipped: finished,
          };
          assert(!this.owned.has(partition), `${partition} was assigned twice`);
          this.owned.set(partition, fresh);
        }
        return;
      case 'revoked':
        for (const partition of event.partitions) this.#lose(partition);
        if (!event.lost) void this.session.released(event.partitions);
        return;
      case 'records':
        for (const polled of event.partitions) this.#read(polled.partition, polled.batches, polled.withheld ?? []);
        this.#poll();
        return;
      case 'late':
        this.#late(event.partition, event.batches, event.gone);
        return;
      case 'ended':
        this.ended = event.error;
        return;
      default:
        return;
    }
  }

  #poll(): void {
    this.session.poll(this.#pollId++, 0, 60_000);
  }

  #lose(partition: PartitionKey): void {
    this.owned.delete(partition);
    for (const [name, lane] of this.lanes) if (lane.partition === partition) this.lanes.delete(name);
  }

  #read(partition: PartitionKey, batches: readonly Uint8Array[], withheld: readonly number[]): void {
    const owned = this.owned.get(partition);
    assert(owned !== undefined, `records of ${partition}, which is not assigned`);
    const from = owned.next;
    for (const offset of withheld) {
      assert(offset >= from, `${offset} was passed over behind the position ${from}`);
      owned.withheld.add(offset);
      owned.unfinished.add(offset);
      owned.next = Math.max(owned.next, offset + 1);
    }
    for (const batch of batches) {
      for (const { offset, key } of iterateRecords(batch, nodeCompressionCodecs)) {
        if (offset < from) continue;
        assert(!withheld.includes(offset), `${offset} was given and passed over`);
        owned.next = Math.max(owned.next, offset + 1);
        if (owned.skipped.some(([start, end]) => offset >= start && offset < end)) continue;
        this.came.push(`${offset}`);
        owned.unfinished.add(offset);
        this.#queue(partition, offset, key);
      }
    }
  }

  #late(partition: PartitionKey, batches: readonly Uint8Array[], gone: readonly number[]): void {
    const owned = this.owned.get(partition);
    assert(owned !== undefined, `late records of ${partition}, which is not assigned`);
    for (const offset of gone) {
      assert(owned.withheld.delete(offset), `${offset} is gone, and was never passed over`);
      owned.unfinished.delete(offset);
      this.gone.push(offset);
    }
    for (const batch of batches) {
      for (const { offset, key } of iterateRecords(batch, nodeCompressionCodecs)) {
        assert(owned.withheld.delete(offset), `${offset} comes late, and was never passed over`);
        this.came.push(`late ${offset}`);
        this.#queue(partition, offset, key);
      }
    }
  }

  #queue(partition: PartitionKey, offset: number, key: Uint8Array | null): void {
    const name = `${partition}${key === null ? `#${offset}` : keyId(key)}`;
    const lane = this.lanes.get(name) ?? { partition, offsets: [] };
    const last = lane.offsets.at(-1) ?? -1;
    assert(offset > last, `${offset} came after ${last} of its key`);
    lane.offsets.push(offset);
    this.lanes.set(name, lane);
  }
}

/** The lane of a key, without its partition. */
export function laneOf(key: string): string {
  return keyId(TEXT.encode(key));
}

function joinRequest(groupId: string, memberId: string): JoinRequest {
  return {
    groupId,
    memberId,
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
}

/** That a handler failed for good, or for now, on an event with this key. */
export function failedOutcome(offset: number, key: string, kind: 'dead-lettered' | 'held'): EventOutcome {
  const failure = {
    attempts: 5,
    durationMs: 1,
    note: '',
    reason: 'attempts-exhausted',
    error: 'no',
    idempotencyId: '',
  };
  const times = { firstFailureMs: 1, lastFailureMs: 2, nextAttemptMs: 0 };
  const bytes = TEXT.encode(key);
  const batch = encodeBatch([{ key: bytes, value: bytes, timestampMs: 1 }], { baseOffset: offset });
  const copy = { keyId: keyId(bytes), batch };
  return { offset, kind, ...failure, ...times, copy };
}
