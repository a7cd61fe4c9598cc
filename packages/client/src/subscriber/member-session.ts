/**
 * One member of a group on one stream after another: joins, beats, reconnects with back-off and goes on as the same
 * member, or joins anew when it was removed. Tells its owner what the broker says.
 *
 * Knows nothing of records and handlers. Commits, settlements and claims that were not answered are sent again after a
 * reconnection: they are idempotent, and stay in order. A commit that ends a transaction is not: it is sent once.
 */
import type { TimerHandle } from '@naru/base';
import { delay } from '@naru/base';
import type { MessageInitShape } from '@bufbuild/protobuf';
import { create } from '@bufbuild/protobuf';
import { NaruError, isNaruError } from '@naru/protocol';
import { SubscribeRequestSchema } from '@naru/protocol/proto';
import type {
  Assigned,
  BlockedKeys,
  Claimed,
  Committed,
  HeldEvents,
  JoinSchema,
  LateRecords,
  OwnedPartitionSchema,
  PartitionCommitSchema,
  PartitionError,
  PartitionRef,
  PartitionSettlementSchema,
  PositionReset,
  Records,
  Revoked,
  SeekSchema,
  SettlementRefusal,
  SubscribeResponse,
  TransactionRefSchema,
} from '@naru/protocol/proto';
import type { BackoffPolicy } from '../backoff.ts';
import { backoffMs } from '../backoff.ts';
import type { Deferred } from '../deferred.ts';
import { deferred } from '../deferred.ts';
import type { Runtime } from '../runtime.ts';
import type { SubscribeStream, Transport } from '../transport/transport.ts';
import { PendingRequests } from './pending-requests.ts';

/** Polls that wait for an answer at a time: one being answered, one behind it. */
export const MAX_OUTSTANDING_POLLS = 2;
/** Failures in a row, without having joined, that are put down to the broker's INTERNAL errors. */
const MAX_INTERNAL_FAILURES = 10;

type SettlementInit = MessageInitShape<typeof PartitionSettlementSchema>;
export type TransactionRefInit = MessageInitShape<typeof TransactionRefSchema>;
type PartitionCommitInit = MessageInitShape<typeof PartitionCommitSchema>;
type RequestInit = Exclude<MessageInitShape<typeof SubscribeRequestSchema>['message'], undefined>;

/** The broker has removed the member: it joins anew. */
const REMOVED = [
  'UNKNOWN_MEMBER_ID',
  'FENCED_MEMBER_EPOCH',
  'STALE_MEMBER_EPOCH',
  'MAX_POLL_INTERVAL_EXCEEDED',
] as const;

export interface MemberEvents {
  /** What the member still holds, for going on after a broken connection. */
  owned(): MessageInitShape<typeof OwnedPartitionSchema>[];
  joined(): void;
  assigned(assigned: Assigned): void;
  revoked(revoked: Revoked): void;
  records(records: Records): void;
  held(held: HeldEvents): void;
  blockedKeys(keys: BlockedKeys): void;
  late(late: LateRecords): void;
  positionReset(reset: PositionReset): void;
  partitionFailed(failed: PartitionError): void;
  /** Polls were answered or can be sent again. */
  pollable(): void;
  /** Everything that was assigned is lost. */
  removed(): void;
  /** It is over: the broker refuses for good. */
  failed(error: NaruError): void;
}

export interface MemberSessionOptions {
  readonly transport: Transport;
  readonly runtime: Runtime;
  readonly memberId: string;
  /** Everything but member id, epoch and what is owned. */
  readonly join: Omit<MessageInitShape<typeof JoinSchema>, '$typeName' | 'memberId' | 'memberEpoch' | 'owned'>;
  readonly reconnect: BackoffPolicy;
  /** Milliseconds until the broker has to answer to a join. */
  readonly joinTimeoutMs: number;
  readonly events: MemberEvents;
}

export class MemberSession {
  readonly #options: MemberSessionOptions;
  readonly #closing = new AbortController();
  #running: Promise<void> | null = null;
  #stream: SubscribeStream | null = null;
  #isJoined = false;
  #memberEpoch = 0;
  #failures = 0;
  #sessionTimeoutMs = 0;
  #expiry: TimerHandle | null = null;
  #heartbeat: TimerHandle | null = null;
  #nextPollId = 1;
  readonly #polls = new Set<number>();
  readonly #commits = new PendingRequests<Committed>();
  readonly #settlements = new PendingRequests<readonly SettlementRefusal[]>();
  readonly #claims = new PendingRequests<Claimed>();
  #left: Deferred<void> | null = null;
  #rejoined: Deferred<void> | null = null;

  constructor(options: MemberSessionOptions) {
    this.#options = options;
  }

  get isJoined(): boolean {
    return this.#isJoined;
  }

  get outstandingPolls(): number {
    return this.#polls.size;
  }

  start(): void {
    this.#running = this.#run();
  }

  /** Only while joined, and at most {@link MAX_OUTSTANDING_POLLS}. */
  poll(maxBytes: number, maxWaitMs: number): void {
    const pollId = this.#nextPollId++ % 2 ** 32;
    this.#polls.add(pollId);
    this.#send({ case: 'poll', value: { pollId, maxBytes, maxWaitMs } });
  }

  /**
   * Resolves, when it is durable, to what was refused. Rejects when the session is over.
   *
   * @param answered called before anything else that the broker says is
   */
  commit(
    partitions: PartitionCommitInit[],
    answered?: (refused: readonly PartitionError[]) => void,
  ): Promise<readonly PartitionError[]> {
    if (this.#closing.signal.aborted) return Promise.reject(this.#closing.signal.reason as Error);
    const send = (commitId: number): void => this.#send({ case: 'commit', value: { commitId, partitions } });
    return this.#commits.add(send, this.#isJoined, ({ errors }) => answered?.(errors)).then(({ errors }) => errors);
  }

  /**
   * Commits as part of a transaction, and commits that. It is sent once: a connection that is lost before the answer rejects with
   * NETWORK, and only the transaction itself knows then what became of it.
   *
   * @param answered called before anything else that the broker says is
   */
  commitTransaction(
    partitions: PartitionCommitInit[],
    transaction: TransactionRefInit,
    answered: (answer: Committed) => void,
  ): Promise<Committed> {
    if (this.#closing.signal.aborted) return Promise.reject(this.#closing.signal.reason as Error);
    if (!this.#isJoined) {
      return Promise.reject(new NaruError('NETWORK', 'the subscriber is not connected: the commit was not sent'));
    }
    const send = (commitId: number): void =>
      this.#send({ case: 'commit', value: { commitId, partitions, transaction } });
    return this.#commits.addOnce(send, answered);
  }

  /** Resolves, when it is durable, to what was refused. Rejects when the session is over. */
  settle(partitions: SettlementInit[]): Promise<readonly SettlementRefusal[]> {
    if (this.#closing.signal.aborted) return Promise.reject(this.#closing.signal.reason as Error);
    const send = (settleId: number): void => this.#send({ case: 'settle', value: { settleId, partitions } });
    return this.#settlements.add(send, this.#isJoined);
  }

  /** Claims event ids for idempotent handling; at most 1,000. Rejects when the session is over. */
  claim(ids: readonly string[], leaseMs: number): Promise<Claimed> {
    if (this.#closing.signal.aborted) return Promise.reject(this.#closing.signal.reason as Error);
    const claim = { ids: [...ids], leaseMs: BigInt(leaseMs) };
    const send = (claimId: number): void => this.#send({ case: 'claim', value: { ...claim, claimId } });
    return this.#claims.add(send, this.#isJoined);
  }

  /** Only while no poll is outstanding, so that no answer from before is taken for one from after. */
  seek(seek: MessageInitShape<typeof SeekSchema>): void {
    this.#send({ case: 'seek', value: seek });
  }

  pause(partitions: PartitionRef[]): void {
    this.#send({ case: 'pause', value: { partitions } });
  }

  released(partitions: PartitionRef[]): void {
    this.#send({ case: 'released', value: { partitions } });
  }

  /**
   * Waits, at most `timeoutMs`, while a member that has lost its connection comes back, so that it can commit and leave;
   * otherwise its partitions would be nobody's until the broker's session time-out.
   */
  async rejoined(timeoutMs: number): Promise<void> {
    const { join, runtime } = this.#options;
    if (this.#isJoined || this.#memberEpoch === 0 || join.groupId === '' || this.#closing.signal.aborted) return;
    const wait = deferred<void>();
    this.#rejoined = wait;
    const timer = runtime.timers.after(timeoutMs, () => wait.resolve());
    await wait.promise;
    timer.cancel();
  }

  /** Leaves the group if it can, and ends. Resolves when the broker has answered or `timeoutMs` has passed. */
  async close(timeoutMs: number): Promise<void> {
    if (this.#isJoined && !this.#closing.signal.aborted) {
      this.#left = deferred();
      this.#send({ case: 'leave', value: {} });
      const timer = this.#options.runtime.timers.after(timeoutMs, () => this.#left?.resolve());
      await this.#left.promise;
      timer.cancel();
    }
    this.#end(new NaruError('CLOSED', 'the subscriber is closed'));
    await this.#running;
  }

  #end(reason: NaruError): void {
    this.#closing.abort(reason);
    this.#rejoined?.resolve();
    this.#expiry?.cancel();
    this.#stream?.abort();
    this.#rejectAll(reason);
  }

  #rejectAll(reason: NaruError): void {
    this.#commits.rejectAll(reason);
    this.#settlements.rejectAll(reason);
    this.#claims.rejectAll(reason);
  }

  #send(message: RequestInit): void {
    this.#stream?.send(create(SubscribeRequestSchema, { message }));
  }

  async #run(): Promise<void> {
    const { runtime, reconnect } = this.#options;
    while (!this.#closing.signal.aborted) {
      let error: NaruError;
      try {
        await this.#session();
        error = new NaruError('NETWORK', 'the broker ended the stream');
      } catch (reason) {
        error = reason instanceof NaruError ? reason : new NaruError('INTERNAL', String(reason), { cause: reason });
      }
      this.#disconnected();
      if (this.#closing.signal.aborted) return;
      this.#failures += 1;
      if (isNaruError(error, ...REMOVED)) this.#removed(error.message);
      else if (this.#isFinal(error)) {
        this.#end(error);
        this.#options.events.failed(error);
        return;
      }
      const waitMs = backoffMs(reconnect, this.#failures, runtime.random);
      runtime.logger.warn({ error: error.message, waitMs }, 'subscriber stream lost; joining again');
      await delay(runtime.timers, waitMs, this.#closing.signal).catch(() => {});
    }
  }

  #isFinal(error: NaruError): boolean {
    if (error.retriable) return false;
    return error.code !== 'INTERNAL' || this.#failures >= MAX_INTERNAL_FAILURES;
  }

  async #session(): Promise<void> {
    const { transport, runtime, memberId, join, joinTimeoutMs, events } = this.#options;
    const stream = transport.openSubscribeStream();
    this.#stream = stream;
    const isReader = join.groupId === '';
    const owned = this.#memberEpoch === 0 && !isReader ? [] : events.owned();
    this.#send({ case: 'join', value: { ...join, memberId, memberEpoch: this.#memberEpoch, owned } });
    const timer = runtime.timers.after(joinTimeoutMs, () => stream.abort());
    try {
      for await (const response of stream) {
        if (response.message.case === 'joined') timer.cancel();
        this.#received(response);
        if (response.message.case === 'left') return;
      }
    } finally {
      timer.cancel();
      stream.abort();
    }
  }

  #received({ message }: SubscribeResponse): void {
    const { events } = this.#options;
    switch (message.case) {
      case 'joined':
        this.#memberEpoch = message.value.memberEpoch;
        this.#joined(message.value.heartbeatIntervalMs, message.value.sessionTimeoutMs);
        return;
      case 'assigned':
        this.#memberEpoch = message.value.memberEpoch;
        events.assigned(message.value);
        return;
      case 'revoked':
        this.#memberEpoch = message.value.memberEpoch;
        events.revoked(message.value);
        return;
      case 'records':
        this.#polls.delete(message.value.pollId);
        events.records(message.value);
        events.pollable();
        return;
      case 'committed':
        this.#commits.answered(message.value.commitId, message.value);
        return;
      case 'settled':
        this.#settlements.answered(message.value.settleId, message.value.refused);
        return;
      case 'claimed':
        this.#claims.answered(message.value.claimId, message.value);
        return;
      case 'held':
        events.held(message.value);
        return;
      case 'blockedKeys':
        events.blockedKeys(message.value);
        return;
      case 'late':
        events.late(message.value);
        return;
      case 'positionReset':
        events.positionReset(message.value);
        return;
      case 'partitionFailed':
        events.partitionFailed(message.value);
        return;
      case 'left':
        this.#left?.resolve();
        return;
      case undefined:
    }
  }

  #joined(heartbeatIntervalMs: number, sessionTimeoutMs: number): void {
    this.#isJoined = true;
    this.#failures = 0;
    this.#sessionTimeoutMs = sessionTimeoutMs;
    this.#expiry?.cancel();
    this.#beat(heartbeatIntervalMs);
    this.#commits.sendAgain();
    this.#settlements.sendAgain();
    this.#claims.sendAgain();
    this.#options.events.joined();
    this.#options.events.pollable();
    this.#rejoined?.resolve();
  }

  #beat(intervalMs: number): void {
    this.#heartbeat?.cancel();
    if (intervalMs <= 0) return;
    this.#heartbeat = this.#options.runtime.timers.after(intervalMs, () => {
      this.#send({ case: 'heartbeat', value: {} });
      this.#beat(intervalMs);
    });
  }

  #disconnected(): void {
    const wasJoined = this.#isJoined;
    this.#isJoined = false;
    this.#stream = null;
    this.#heartbeat?.cancel();
    this.#polls.clear();
    this.#commits.disconnected(
      new NaruError('NETWORK', 'the connection was lost during the commit of a transaction: its outcome is unknown'),
    );
    this.#left?.resolve();
    // A reader without a group has nobody to lose its partitions to.
    const canExpire = this.#options.join.groupId !== '' && this.#sessionTimeoutMs > 0;
    if (!wasJoined || this.#closing.signal.aborted || !canExpire) return;
    // By then the broker has given the partitions to others: their keys must not be handled in two places.
    this.#expiry = this.#options.runtime.timers.after(this.#sessionTimeoutMs, () => {
      if (!this.#isJoined) this.#removed('no connection for the whole session time-out');
    });
  }

  #removed(reason: string): void {
    this.#options.runtime.logger.warn({ reason }, 'the member lost its partitions; joining anew');
    this.#expiry?.cancel();
    this.#memberEpoch = 0;
    this.#rejoined?.resolve();
    const fenced = new NaruError('UNKNOWN_MEMBER_ID', `the member lost its partitions before this commit: ${reason}`);
    this.#rejectAll(fenced);
    this.#options.events.removed();
  }
}
