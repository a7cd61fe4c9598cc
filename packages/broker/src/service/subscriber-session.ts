/**
 * One subscriber: a member of a consumer group, or a reader of its own that commits nothing.
 *
 * Owns the conversation: joining, being told of partitions, giving them back, committing. Does not own group rules (core),
 * nor reading (poller.ts). Knows no transport: what it has to say goes to `emit`.
 *
 * Invariants: a partition is read only between `assigned` and `revoked` or `released`; after `ended` nothing is said.
 */
import { partitionKey, splitPartitionKey, type Clock, type PartitionKey, type Timers } from '@naru/base';
import { checkGroupId, isNaruError, NaruError, refuse, type Refusal } from '@naru/protocol';
import type { GroupCommand, GroupReplies, MemberView, OffsetRange } from '../core/group/index.ts';
import {
  isRefusal,
  type GroupCommandEnvelope,
  type OffsetPosition,
  type PartitionOffset,
  type ShardClient,
} from '../runtime/commands.ts';
import type { MetadataFollower } from '../runtime/metadata-follower.ts';
import type { ConnectedMembers } from './connected-members.ts';
import { MAX_POLL_WAIT_MS, Poller, type PollerEvent } from './poller.ts';

/** Of one subscription. */
const MAX_TOPICS = 1_000;
/** How long one watch for a new assignment waits before it is asked again. */
const WATCH_MS = 60_000;
/** How long a member whose connection broke keeps its partitions, unless its session time-out is shorter. */
export const DISCONNECT_GRACE_MS = 5_000;

export interface JoinRequest {
  /** Empty: a reader without a group. */
  readonly groupId: string;
  readonly memberId: string;
  readonly memberEpoch: number;
  readonly instanceId: string | null;
  readonly topics: readonly string[];
  readonly clientId: string;
  readonly clientHost: string;
  readonly sessionTimeoutMs: number;
  readonly maxPollIntervalMs: number;
  /** Where to begin without a committed offset; null refuses with NO_OFFSET. */
  readonly start: OffsetPosition | null;
  /** What a member that goes on holds, with the offset that it reads next. */
  readonly owned: readonly { readonly partition: PartitionKey; readonly nextOffset: number }[];
}

export interface AssignedPartition {
  readonly topic: string;
  readonly partition: PartitionKey;
  readonly position: number;
  readonly committedOffset: number | null;
  readonly finished: readonly OffsetRange[];
  readonly metadata: string;
  readonly highWatermark: number;
}

export interface PartitionCommit {
  readonly partition: PartitionKey;
  readonly offset: number;
  /** Null keeps what the group knows. */
  readonly finished: readonly OffsetRange[] | null;
  readonly metadata: string;
}

export interface CommitOutcome {
  readonly partition: PartitionKey;
  readonly refusal: Refusal;
}

export type SessionEvent =
  | PollerEvent
  | {
      readonly type: 'joined';
      readonly memberId: string;
      readonly memberEpoch: number;
      readonly heartbeatIntervalMs: number;
      readonly sessionTimeoutMs: number;
    }
  | { readonly type: 'assigned'; readonly memberEpoch: number; readonly partitions: readonly AssignedPartition[] }
  | {
      readonly type: 'revoked';
      readonly memberEpoch: number;
      readonly partitions: readonly PartitionKey[];
      readonly lost: boolean;
    }
  | { readonly type: 'committed'; readonly commitId: number; readonly errors: readonly CommitOutcome[] }
  | { readonly type: 'left' }
  /** The conversation is over; null after a leave. */
  | { readonly type: 'ended'; readonly error: NaruError | null };

export interface SubscriberSessionOptions {
  readonly shard: ShardClient;
  readonly follower: MetadataFollower;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly emit: (event: SessionEvent) => void;
  /** Null when the subscriber takes more records now; else resolves when to look again. */
  readonly room: () => Promise<void> | null;
  /** Shared by all sessions. */
  readonly members: ConnectedMembers<SubscriberSession>;
  /** Of members that do not say; what the group machine takes too. */
  readonly defaultMaxPollIntervalMs: number;
}

const NOTHING: MemberView = { memberEpoch: 0, assigned: [], revoking: [] };

let nextWatchId = 1;

export class SubscriberSession {
  readonly #options: SubscriberSessionOptions;
  readonly #request: JoinRequest;
  readonly #poller: Poller;
  /** What the subscriber was last told. */
  #view: MemberView = NOTHING;
  /** Partitions that it was asked to give up. */
  readonly #revoking = new Set<PartitionKey>();
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
    this.#poller = new Poller({
      ...options,
      start: request.start,
      emit: (event) => {
        this.#emit(event);
        // A subscriber that waited for records got on: the time for handling them begins now.
        if (event.type === 'records') this.#touch('progress');
      },
      fail: (error) => this.#end(error),
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

  poll(pollId: number, maxBytes: number, maxWaitMs: number): void {
    // Whoever waits here is not stuck, so that its poll interval may not end meanwhile: it is told to ask again before.
    const intervalMs = this.#request.maxPollIntervalMs || this.#options.defaultMaxPollIntervalMs;
    const longestMs = this.#request.groupId === '' ? MAX_POLL_WAIT_MS : Math.floor(intervalMs / 2);
    const refusal = this.#poller.poll(pollId, maxBytes, Math.min(maxWaitMs, longestMs));
    if (refusal !== null) this.#end(NaruError.from(refusal));
    this.#touch('progress');
  }

  heartbeat(): void {
    this.#touch('alive');
  }

  get memberEpoch(): number {
    return this.#view.memberEpoch;
  }

  /** Reads a partition from `offset` on, in its turn after the others. Without effect once it was taken away. */
  moveTo(partition: PartitionKey, offset: number): void {
    if (!this.#poller.has(partition)) return;
    this.#poller.remove(partition);
    this.#poller.place(partition, offset);
  }

  pause(partitions: readonly PartitionKey[]): void {
    this.#poller.pause(new Set(partitions));
  }

  async seek(partition: PartitionKey, position: OffsetPosition): Promise<void> {
    const found = await this.#options.shard.submit({ type: 'find-offset', partition, position });
    if (isRefusal(found)) throw NaruError.from(found);
    // It may have been taken away meanwhile, of which the subscriber was told.
    if (this.#poller.has(partition)) this.#poller.place(partition, found.offset);
  }

  async commit(commitId: number, commits: readonly PartitionCommit[]): Promise<void> {
    const { groupId, memberId } = this.#request;
    if (groupId === '') {
      const refusal = refuse('INVALID_REQUEST', 'a reader without a group cannot commit');
      this.#emit({ type: 'committed', commitId, errors: commits.map(({ partition }) => ({ partition, refusal })) });
      return;
    }
    if (this.#ended) return;
    this.#touch('progress');
    const reply = await this.#options.shard.submit({
      type: 'group',
      command: {
        type: 'commit',
        groupId,
        memberId,
        memberEpoch: this.#view.memberEpoch,
        offsets: commits.map((commit) => ({ ...commit, leaderEpoch: -1, endOffset: null })),
      },
    });
    const errors = isRefusal(reply)
      ? commits.map(({ partition }) => ({ partition, refusal: reply }))
      : reply.results.flatMap(({ partition, refusal }) => (refusal === null ? [] : [{ partition, refusal }]));
    this.#emit({ type: 'committed', commitId, errors });
  }

  /** The subscriber gave up partitions that it was asked for. */
  async released(partitions: readonly PartitionKey[]): Promise<void> {
    for (const partition of partitions) {
      if (!this.#revoking.delete(partition)) continue;
      this.#poller.remove(partition);
    }
    const { groupId, memberId } = this.#request;
    const { memberEpoch } = this.#view;
    await this.#group({ type: 'heartbeat', groupId, memberId, memberEpoch, owned: null, released: partitions });
  }

  async leave(): Promise<void> {
    const { groupId, memberId, instanceId } = this.#request;
    if (groupId !== '') {
      this.#stopWatching();
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
    const { groupId, topics } = this.#request;
    const groupRefusal = groupId === '' ? null : checkGroupId(groupId);
    if (groupRefusal !== null) throw NaruError.from(groupRefusal);
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
    const { start: _start, owned, ...member } = this.#request;
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
    if (member.memberEpoch > 0)
      for (const { partition, nextOffset } of owned) this.#poller.place(partition, nextOffset);
    await this.#apply({ memberEpoch, assigned, revoking });
    this.#watch().catch((error: unknown) => this.#end(error));
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

  /** Tells the subscriber the difference between what it knows and `view`. */
  async #apply(view: MemberView): Promise<void> {
    this.#view = view;
    const { memberEpoch } = view;
    const assigned = new Set(view.assigned);
    const revoking = new Set(view.revoking);
    const lost: PartitionKey[] = [];
    const revoked: PartitionKey[] = [];
    for (const partition of this.#poller.partitions()) {
      if (assigned.has(partition)) continue;
      this.#poller.remove(partition);
      if (revoking.has(partition)) revoked.push(partition);
      else lost.push(partition);
    }
    for (const partition of this.#revoking) {
      if (revoking.has(partition)) continue;
      this.#revoking.delete(partition);
      if (!assigned.has(partition)) lost.push(partition);
    }
    for (const partition of revoked) this.#revoking.add(partition);
    if (lost.length > 0) this.#emit({ type: 'revoked', memberEpoch, partitions: lost, lost: true });
    if (revoked.length > 0) this.#emit({ type: 'revoked', memberEpoch, partitions: revoked, lost: false });
    const added = view.assigned.filter((partition) => !this.#poller.has(partition));
    if (added.length > 0) await this.#assign(memberEpoch, added);
  }

  async #assign(memberEpoch: number, added: readonly PartitionKey[]): Promise<void> {
    const { groupId } = this.#request;
    const { shard } = this.#options;
    let committed: readonly PartitionOffset[] = added.map((partition) => ({ partition, committed: null }));
    if (groupId !== '') {
      const reply = await shard.submit({ type: 'group-offsets', groupId, partitions: added });
      if (isRefusal(reply)) throw NaruError.from(reply);
      committed = reply;
    }
    const status = await shard.submit({ type: 'describe-partitions', partitions: added });
    if (isRefusal(status)) throw NaruError.from(status);
    const statusOf = new Map(status.map((entry) => [entry.partition, entry]));
    const partitions: AssignedPartition[] = [];
    for (const offset of committed) {
      const topic = this.#options.follower.registry.byId(splitPartitionKey(offset.partition).topicId);
      const position = await this.#startOf(offset);
      if (topic === undefined || position === null) continue;
      partitions.push({
        topic: topic.name,
        partition: offset.partition,
        position,
        committedOffset: offset.committed?.offset ?? null,
        finished: offset.committed?.finished ?? [],
        metadata: offset.committed?.metadata ?? '',
        highWatermark: statusOf.get(offset.partition)?.highWatermark ?? position,
      });
    }
    if (this.#ended) return;
    // Told first, so that no record comes before its assignment.
    this.#emit({ type: 'assigned', memberEpoch, partitions });
    for (const { partition, position } of partitions) this.#poller.place(partition, position);
  }

  /** Null when the partition is gone. */
  async #startOf({ partition, committed }: PartitionOffset): Promise<number | null> {
    if (committed !== null) return committed.offset;
    const { start, groupId } = this.#request;
    if (start === null) {
      throw new NaruError(
        'NO_OFFSET',
        `group ${JSON.stringify(groupId)} has no committed offset for ${partition}, and no start position was given`,
      );
    }
    const found = await this.#options.shard.submit({ type: 'find-offset', partition, position: start });
    if (!isRefusal(found)) return found.offset;
    if (found.code === 'UNKNOWN_TOPIC_OR_PARTITION') return null;
    throw NaruError.from(found);
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
    this.#poller.close();
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
