/**
 * One subscriber: a member of a consumer group, or a reader of its own that commits nothing.
 *
 * Owns the conversation: joining, being told of partitions, giving them back, committing. Does not own group rules (core),
 * nor reading (poller.ts). Knows no transport: what it has to say goes to `emit`.
 *
 * Invariants: a partition is read only between `assigned` and `revoked` or `released`; after `ended` nothing is said.
 */
import { partitionKey, splitPartitionKey, type Clock, type PartitionKey, type Timers } from '@naru/base';
import { checkGroupId, isNaruError, NaruError, refuse } from '@naru/protocol';
import type { CompressionCodecs } from '@naru/protocol/batch';
import type { GroupCommand, GroupReplies, MemberView } from '../core/group/index.ts';
import type { PartitionSettlement } from '../core/queue/queue-commands.ts';
import type { TransactionRef } from '../core/transaction/commands.ts';
import { isRefusal, type GroupCommandEnvelope, type OffsetPosition, type ShardClient } from '../runtime/commands.ts';
import type { AcquiredPartition } from '../runtime/queue-commands.ts';
import type { MetadataFollower } from '../runtime/metadata-follower.ts';
import { claimIds } from './claims.ts';
import { MemberCommits, type MemberCommitsOptions } from './commit-outcomes.ts';
import type { ConnectedMembers } from './connected-members.ts';
import type { GatedReading, LateEvents, WithheldStatus } from './gated-reading.ts';
import { HeldFeed } from './held-feed.ts';
import { MAX_POLL_WAIT_MS, Poller, type PollerEvent } from './poller.ts';
import { settleRecords } from './queue-settlements.ts';
import { SessionQueues } from './session-queues.ts';
import type { CommitOutcome, JoinRequest, PartitionCommit, SessionEvent } from './session-events.ts';
import { isGated, sessionGates } from './session-gates.ts';
import { SessionPartitions } from './session-partitions.ts';

/** Of one subscription. */
const MAX_TOPICS = 1_000;
/** How long one watch for a new assignment waits before it is asked again. */
const WATCH_MS = 60_000;
/** How long a member whose connection broke keeps its partitions, unless its session time-out is shorter. */
export const DISCONNECT_GRACE_MS = 5_000;

export interface SubscriberSessionOptions {
  readonly shard: ShardClient;
  readonly follower: MetadataFollower;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly codecs: CompressionCodecs;
  readonly emit: (event: SessionEvent) => void;
  /** Null when the subscriber takes more records now; else resolves when to look again. */
  readonly room: () => Promise<void> | null;
  /** Shared by all sessions. */
  readonly members: ConnectedMembers<SubscriberSession>;
  /** Shared by all sessions of the broker. */
  readonly copying: MemberCommitsOptions['copying'];
  /** Shared by all sessions of the broker. */
  readonly producerIds: MemberCommitsOptions['producerIds'];
  /** Of members that do not say; what the group machine takes too. */
  readonly defaultMaxPollIntervalMs: number;
}

const NOTHING: MemberView = { memberEpoch: 0, assigned: [], revoking: [] };

let nextWatchId = 1;

export class SubscriberSession {
  readonly #options: SubscriberSessionOptions;
  readonly #request: JoinRequest;
  readonly #poller: Poller;
  /** Null for a reader. */
  readonly #gates: GatedReading | null;
  /** Null for a reader. */
  readonly #held: HeldFeed | null;
  readonly #commits: MemberCommits;
  /** Null for a reader. */
  readonly #queues: SessionQueues | null;
  readonly #partitions: SessionPartitions;
  /** What the subscriber was last told. */
  #view: MemberView = NOTHING;
  #watchId: number | null = null;
  #stopListening: (() => void) | null = null;
  /** A reader's changes of topics, one after the other. */
  #following: Promise<void> = Promise.resolve();
  /** Between joining and leaving. */
  #isMember = false;
  #ended = false;

  /** Joins at once: see {@link open}. */
  constructor(request: JoinRequest, options: SubscriberSessionOptions) {
    this.#request = request;
    this.#options = options;
    const fail = (error: unknown): void => this.#end(error);
    this.#gates = sessionGates({
      ...options,
      groupId: request.groupId,
      poller: () => this.#poller,
      emit: (event) => this.#emit(event),
      fail,
    });
    const { groupId, memberId } = request;
    const emit = (event: SessionEvent): void => this.#emit(event);
    this.#held = groupId === '' ? null : new HeldFeed({ ...options, groupId, emit, fail });
    this.#commits = new MemberCommits({
      ...options,
      groupId,
      memberId,
      isGiven: (partition, offset) => this.#held?.isGiven(partition, offset) === true,
      onCommitted: (commit, blocked) => this.#held?.committed(commit, blocked),
    });
    this.#queues =
      groupId === ''
        ? null
        : new SessionQueues({
            ...options,
            ...request,
            memberEpoch: () => this.memberEpoch,
            emit,
            answered: () => this.#poller.acquired(),
            fail,
          });
    this.#poller = new Poller({
      ...options,
      start: request.start,
      uncommitted: request.uncommitted,
      gate: this.#gates ?? undefined,
      queues: this.#queues ?? undefined,
      emit: (event) => this.#polled(event),
      fail,
    });
    this.#partitions = new SessionPartitions({
      ...options,
      request,
      poller: this.#poller,
      held: this.#held,
      gates: this.#gates,
      commits: this.#commits,
      emit,
      release: (partitions) => this.released(partitions),
      fail,
    });
  }

  /** Joins, says so, and follows the assignment from then on. Failures end the session. */
  async open(): Promise<void> {
    try {
      this.#check();
      if (this.#request.groupId === '') await this.#openReader();
      else await this.#openMember();
    } catch (error) {
      this.#end(error);
    }
  }

  /** @param maxRecords of parallel topics; 0 for the default */
  poll(pollId: number, maxBytes: number, maxWaitMs: number, maxRecords = 0): void {
    // Whoever waits here is not stuck, so that its poll interval may not end meanwhile: it is told to ask again before.
    const intervalMs = this.#request.maxPollIntervalMs || this.#options.defaultMaxPollIntervalMs;
    const longestMs = this.#request.groupId === '' ? MAX_POLL_WAIT_MS : Math.floor(intervalMs / 2);
    const refusal = this.#poller.poll(pollId, maxBytes, Math.min(maxWaitMs, longestMs), maxRecords);
    if (refusal !== null) this.#end(NaruError.from(refusal));
    this.#touch('progress');
  }

  heartbeat(): void {
    this.#touch('alive');
  }

  get memberEpoch(): number {
    return this.#view.memberEpoch;
  }

  /** The offset that is read next; null when the partition is not the subscriber's to read. */
  positionOf(partition: PartitionKey): number | null {
    return this.#poller.positionOf(partition);
  }

  /** Reads a partition from `offset` on, in its turn after the others. Without effect once it was taken away. */
  moveTo(partition: PartitionKey, offset: number): void {
    this.#poller.moveBack(partition, offset);
  }

  /** Events that were given late did not arrive. Those at or above where the partition is read again come by themselves. */
  putBack(partition: PartitionKey, events: LateEvents['events']): void {
    this.#gates?.putBack(partition, events);
  }

  /** What is held back from the subscriber; null for a partition without a gate. */
  withheldOf(partition: PartitionKey): WithheldStatus | null {
    return this.#gates?.status(partition) ?? null;
  }

  pause(partitions: readonly PartitionKey[]): void {
    const paused = new Set(partitions);
    this.#poller.pause(paused);
    this.#queues?.pause(paused);
    this.#gates?.resumed();
  }

  async seek(partition: PartitionKey, position: OffsetPosition): Promise<void> {
    const isStable = this.#request.uncommitted !== true;
    const found = await this.#options.shard.submit({ type: 'find-offset', partition, position, isStable });
    if (isRefusal(found)) throw NaruError.from(found);
    // It may have been taken away meanwhile, of which the subscriber was told.
    if (this.#poller.has(partition)) this.#poller.place(partition, found.offset);
  }

  /** @param transaction is committed with it, all or nothing; null: the commit is part of none */
  async commit(
    commitId: number,
    commits: readonly PartitionCommit[],
    transaction: TransactionRef | null = null,
  ): Promise<void> {
    const { groupId } = this.#request;
    if (groupId === '') {
      const refusal = refuse('INVALID_REQUEST', 'a reader without a group cannot commit');
      const errors = commits.map(({ partition }) => ({ partition, refusal }));
      const whole = transaction === null ? {} : { transaction: { refusal, next: null } };
      this.#emit({ type: 'committed', commitId, errors, ...whole });
      return;
    }
    if (this.#ended) return;
    this.#touch('progress');
    const { memberEpoch } = this.#view;
    if (transaction === null) {
      const errors = await this.#commits.commit(memberEpoch, commits);
      this.#emit({ type: 'committed', commitId, errors });
      return;
    }
    const settled = settledTopics(commits, this.#options.follower);
    const { errors, ...whole } =
      settled.length > 0
        ? { errors: settled, refusal: null, next: null }
        : await this.#commits.commitWith(memberEpoch, commits, transaction);
    this.#emit({ type: 'committed', commitId, errors, transaction: whole });
  }

  /** What became of records of parallel topics that the subscriber was given. */
  async settle(settleId: number, partitions: readonly PartitionSettlement[]): Promise<void> {
    const { groupId, memberId } = this.#request;
    if (this.#ended) return;
    this.#touch('progress');
    const refused = await settleRecords(this.#options.shard, { groupId, memberId, partitions });
    this.#emit({ type: 'settled', settleId, refused });
  }

  /** Records of parallel topics that were to be given and could not be told. */
  undelivered(acquired: readonly AcquiredPartition[]): void {
    this.#queues?.giveBack(acquired);
  }

  /** Claims events by their own ids: who may handle them. */
  async claim(claimId: number, ids: readonly string[], leaseMs: number): Promise<void> {
    const { groupId, memberId } = this.#request;
    if (this.#ended) return;
    const { memberEpoch } = this.#view;
    const reply = await claimIds(this.#options.shard, { groupId, memberId, memberEpoch, ids, leaseMs });
    const told = isRefusal(reply) ? { results: [], forgotten: 0, refusal: reply } : { ...reply, refusal: null };
    this.#emit({ type: 'claimed', claimId, ...told });
  }

  /** The subscriber gave up partitions that it was asked for. */
  async released(partitions: readonly PartitionKey[]): Promise<void> {
    // What it committed before is still fenced by what it holds.
    const { memberEpoch } = this.#view;
    await this.#commits.settled()?.catch(() => {});
    this.#partitions.released(partitions);
    const { groupId, memberId } = this.#request;
    await this.#group({ type: 'heartbeat', groupId, memberId, memberEpoch, owned: null, released: partitions });
  }

  async leave(): Promise<void> {
    const { groupId, memberId, instanceId } = this.#request;
    if (groupId !== '') {
      this.#stopWatching();
      await this.#commits.settled()?.catch(() => {});
      const reply = await this.#options.shard.submit({
        type: 'group',
        command: { type: 'leave', groupId, memberId, memberEpoch: instanceId === null ? -1 : -2 },
      });
      if (isRefusal(reply) && reply.code !== 'UNKNOWN_MEMBER_ID') throw NaruError.from(reply);
      this.#isMember = false;
      this.#options.members.release(groupId, memberId, this);
    }
    this.#emit({ type: 'left' });
    this.#end(null);
  }

  /** The connection broke: the membership lasts a while longer, so that the member may come back. */
  disconnected(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#close();
  }

  /** Ends the session because the broker goes; the membership lasts. */
  shutDown(): void {
    this.#end(new NaruError('SHUTTING_DOWN', 'the broker is shutting down'));
  }

  #check(): void {
    const { groupId, topics, uncommitted } = this.#request;
    const groupRefusal = groupId === '' ? null : checkGroupId(groupId);
    if (groupRefusal !== null) throw NaruError.from(groupRefusal);
    if (uncommitted === true && groupId !== '')
      throw new NaruError('INVALID_REQUEST', 'only a reader without a group may read uncommitted events');
    if (topics.length === 0 || topics.length > MAX_TOPICS) {
      throw new NaruError('INVALID_REQUEST', `a subscription has 1 to ${MAX_TOPICS} topics, not ${topics.length}`);
    }
    for (const topic of topics) {
      if (this.#options.follower.registry.byName(topic) === undefined) {
        throw new NaruError('UNKNOWN_TOPIC_OR_PARTITION', `there is no topic ${JSON.stringify(topic)} to subscribe to`);
      }
    }
  }

  async #openReader(): Promise<void> {
    const { memberId } = this.#request;
    this.#emit({ type: 'joined', memberId, memberEpoch: 0, heartbeatIntervalMs: 30_000, sessionTimeoutMs: 90_000 });
    const follow = async (): Promise<void> => {
      const partitions = this.#request.topics.flatMap((name) => {
        const topic = this.#options.follower.registry.byName(name);
        return Array.from({ length: topic?.partitionCount ?? 0 }, (_, index) =>
          partitionKey(topic?.id as never, index),
        );
      });
      await this.#apply({ memberEpoch: 0, assigned: partitions, revoking: [] });
    };
    this.#following = follow();
    this.#stopListening = this.#options.follower.onTopicsChanged(() => {
      this.#following = this.#following.then(follow).catch((error: unknown) => this.#end(error));
    });
    await this.#following;
  }

  async #openMember(): Promise<void> {
    const { start: _start, uncommitted: _uncommitted, owned, ...member } = this.#request;
    const reply = await this.#group({
      type: 'join',
      ...member,
      rebalanceTimeoutMs: 0,
      owned: owned.length === 0 ? null : owned.map(({ partition }) => partition),
    });
    const { memberEpoch, heartbeatIntervalMs, sessionTimeoutMs, assigned, revoking } = reply;
    this.#isMember = true;
    const before = this.#options.members.take(member.groupId, member.memberId, this);
    if (before !== undefined) before.#superseded();
    // The connection broke before the answer.
    if (this.#ended) return this.#letGo();
    this.#emit({ type: 'joined', memberId: member.memberId, memberEpoch, heartbeatIntervalMs, sessionTimeoutMs });
    if (member.memberEpoch > 0) this.#goOn(owned, memberEpoch, new Set(assigned));
    this.#stopListening = this.#options.follower.onTopicsChanged(() => {
      this.#followGates();
      this.#queues?.follow().catch((error: unknown) => this.#end(error));
    });
    await this.#apply({ memberEpoch, assigned, revoking });
    await this.#queues?.follow();
    this.#watch().catch((error: unknown) => this.#end(error));
  }

  /** Reads on where the member was; but what was held back there is not known any more, so that is begun anew from the commit. */
  #goOn(owned: JoinRequest['owned'], memberEpoch: number, assigned: ReadonlySet<PartitionKey>): void {
    const { groupId } = this.#request;
    const anew: PartitionKey[] = [];
    for (const { partition, nextOffset } of owned) {
      if (assigned.has(partition) && isGated(partition, groupId, this.#options.follower)) anew.push(partition);
      else {
        this.#poller.place(partition, nextOffset);
        this.#held?.add(partition);
      }
    }
    if (anew.length > 0) this.#emit({ type: 'revoked', memberEpoch, partitions: anew, lost: true });
  }

  /** Partitions may have a gate now that had none before. */
  #followGates(): void {
    for (const partition of this.#poller.partitions()) {
      if (isGated(partition, this.#request.groupId, this.#options.follower)) this.#gates?.add(partition);
    }
  }

  #polled(event: PollerEvent): void {
    this.#emit(event);
    if (event.type !== 'records') return;
    for (const { partition, withheld } of event.partitions) {
      if (withheld !== undefined) this.#gates?.told(partition, withheld);
    }
    // A subscriber that waited for records got on: the time for handling them begins now.
    this.#touch('progress');
  }

  async #watch(): Promise<void> {
    const { groupId, memberId } = this.#request;
    while (!this.#ended) {
      const watchId = nextWatchId++;
      this.#watchId = watchId;
      const reply = await this.#options.shard.submit({
        type: 'watch-member',
        watchId,
        groupId,
        memberId,
        known: this.#view,
        maxWaitMs: WATCH_MS,
      });
      if (this.#watchId !== watchId) return;
      if (isRefusal(reply)) throw NaruError.from(reply);
      await this.#apply(reply);
    }
  }

  async #apply(view: MemberView): Promise<void> {
    this.#view = view;
    await this.#partitions.apply(view);
  }

  async #group<C extends GroupCommand>(command: C): Promise<GroupReplies[C['type']]> {
    const reply = await this.#options.shard.submit({ type: 'group', command } satisfies GroupCommandEnvelope<C>);
    if (isRefusal(reply)) throw NaruError.from(reply);
    return reply;
  }

  #touch(kind: 'alive' | 'progress'): void {
    const { groupId, memberId } = this.#request;
    if (groupId === '' || this.#ended || this.#view === NOTHING) return;
    this.#options.shard
      .submit({
        type: 'group',
        command: { type: 'touch', groupId, memberId, memberEpoch: this.#view.memberEpoch, kind },
      })
      .catch((error: unknown) => this.#end(error));
  }

  #emit(event: SessionEvent): void {
    if (!this.#ended) this.#options.emit(event);
  }

  #end(error: unknown): void {
    if (this.#ended) return;
    const known =
      error === null || isNaruError(error)
        ? error
        : new NaruError('INTERNAL', 'the broker failed; see its log', { cause: error });
    this.#emit({ type: 'ended', error: known });
    this.#ended = true;
    this.#close();
  }

  #close(): void {
    this.#stopWatching();
    this.#stopListening?.();
    this.#partitions.close();
    this.#poller.close();
    this.#commits.close();
    this.#queues?.close();
    this.#held?.close();
    this.#gates?.close();
    this.#letGo();
  }

  #superseded(): void {
    this.#end(
      new NaruError('FENCED_MEMBER_EPOCH', `member ${this.#request.memberId} joined again on another connection`),
    );
  }

  /** Nobody speaks for the member any more: it has the grace time to come back in. */
  #letGo(): void {
    const { groupId, memberId } = this.#request;
    if (!this.#isMember || !this.#options.members.release(groupId, memberId, this)) return;
    this.#options.shard
      .submit({ type: 'group', command: { type: 'disconnected', groupId, memberId, graceMs: DISCONNECT_GRACE_MS } })
      // A broker that stops gives every member its whole time again when it starts.
      .catch(() => {});
  }

  #stopWatching(): void {
    if (this.#watchId === null) return;
    const watchId = this.#watchId;
    this.#watchId = null;
    this.#options.shard.submit({ type: 'cancel-watch', watchId }).catch(() => {});
  }
}

/** Partitions of parallel topics, which are not committed: their records are settled one by one, in no transaction. */
function settledTopics(commits: readonly PartitionCommit[], { registry }: MetadataFollower): CommitOutcome[] {
  return commits.flatMap(({ partition }) => {
    const topic = registry.byId(splitPartitionKey(partition).topicId);
    if (topic?.type !== 'parallel') return [];
    const message = `topic ${JSON.stringify(topic.name)} is parallel: its records are settled one by one, which cannot be part of a transaction`;
    return [{ partition, refusal: refuse('INVALID_REQUEST', message) }];
  });
}
