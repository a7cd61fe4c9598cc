/**
 * A subscriber that speaks in single calls instead of a stream: the same session (subscriber-session.ts), with what it
 * says kept until the member asks.
 *
 * Owns what the member was given and whether that arrived. Does not own group rules, nor how records look on the wire.
 *
 * Invariants: one poll waits at a time. A record counts as given only when it is in an answer; what was read for a poll
 * that is gone is read again. An answer that the member did not get (it says so by the id of the last one that it got) is
 * given again, with whatever has changed since. No records are kept between calls, only positions.
 */
import type { PartitionKey, TimerHandle } from '@naru/base';
import { isNaruError, NaruError, type Refusal } from '@naru/protocol';
import type { CompressionCodecs } from '@naru/protocol/batch';
import type { PartitionSettlement, SettlementRefusal } from '../core/queue/queue-commands.ts';
import type { TransactionRef } from '../core/transaction/commands.ts';
import type { AcquiredPartition } from '../runtime/queue-commands.ts';
import { AcquiredRecords } from './acquired-records.ts';
import type { LateEvents } from './gated-reading.ts';
import { HeldPartitions } from './held-partitions.ts';
import { answerBytes, answerRecords, AnswerSpace, type GivenRecord } from './poll-answer.ts';
import type { PolledPartition } from './poller.ts';
import { PollNews } from './poll-news.ts';
import type { CommitAnswer, PollAnswer, PollRequest } from './unary-calls.ts';
import type { AssignedPartition, JoinRequest, PartitionCommit, SessionEvent } from './session-events.ts';
import { UnaryCommits } from './unary-commits.ts';
import { UnaryHeld } from './unary-held.ts';
import { SubscriberSession, type SubscriberSessionOptions } from './subscriber-session.ts';

export interface UnarySessionOptions extends Omit<SubscriberSessionOptions, 'emit' | 'room'> {
  readonly codecs: CompressionCodecs;
  /** The session is over, and why; null after a leave. */
  readonly onEnded: (error: NaruError | null) => void;
}

interface Waiter {
  readonly request: PollRequest;
  readonly deadlineMs: number;
  readonly stop: () => void;
  readonly resolve: (answer: PollAnswer) => void;
  readonly reject: (error: unknown) => void;
}

export class UnarySession {
  readonly #options: UnarySessionOptions;
  readonly #request: JoinRequest;
  readonly #session: SubscriberSession;
  readonly #held: HeldPartitions;
  /** Held events and blocked keys. */
  readonly #keys: UnaryHeld;
  #isHolding = false;
  readonly #acquired: AcquiredRecords;
  /** Held, and damaged at their position. */
  readonly #unreadable = new Set<PartitionKey>();
  #news = new PollNews();
  /** What the last answer told. */
  #told = new PollNews();
  #lastId = 0;
  /** The last answer that surely arrived. */
  #confirmedId = 0;
  #waiter: Waiter | null = null;
  /** Whether records were asked for and have not come. */
  #isReading = false;
  readonly #commits: UnaryCommits;
  readonly #settlements = new Map<number, (refused: readonly SettlementRefusal[]) => void>();
  #nextSettleId = 1;
  #sessionTimeoutMs = 0;
  /** Of a reader without a group, for which no coordinator looks. */
  #idle: TimerHandle | null = null;
  #ended: { readonly error: NaruError | null } | null = null;

  private constructor(request: JoinRequest, options: UnarySessionOptions) {
    this.#options = options;
    this.#request = request;
    this.#keys = new UnaryHeld(options.codecs);
    this.#held = new HeldPartitions(options.codecs, this.#keys);
    this.#acquired = new AcquiredRecords(options.codecs);
    this.#session = new SubscriberSession(request, {
      ...options,
      emit: (event) => this.#heard(event),
      room: () => null,
    });
    this.#commits = new UnaryCommits({
      session: this.#session,
      held: this.#held,
      keys: this.#keys,
      overError: () => this.#overError(),
    });
  }

  /** @throws NaruError why the member could not join */
  static async join(request: JoinRequest, options: UnarySessionOptions): Promise<UnarySession> {
    const session = new UnarySession(request, options);
    await session.#session.open();
    if (session.#ended !== null) session.#leaveAfterFailure(session.#ended.error);
    session.#sign();
    return session;
  }

  /** A member whose caller was told that it could not join holds nothing up: it does not get a time to come back in. */
  #leaveAfterFailure(error: NaruError | null): void {
    const { groupId, memberId, instanceId } = this.#request;
    const wasMember = this.#sessionTimeoutMs > 0 && groupId !== '';
    // Who joined again with the same id is the member now.
    if (!wasMember || isNaruError(error, 'FENCED_MEMBER_EPOCH')) return;
    const memberEpoch = instanceId === null ? -1 : -2;
    this.#options.shard
      .submit({ type: 'group', command: { type: 'leave', groupId, memberId, memberEpoch } })
      // Its session time-out does the same, later.
      .catch(() => {});
  }

  get memberId(): string {
    return this.#request.memberId;
  }

  get memberEpoch(): number {
    return this.#session.memberEpoch;
  }

  get sessionTimeoutMs(): number {
    return this.#sessionTimeoutMs;
  }

  /** What was assigned and not told yet. */
  takeAssigned(): AssignedPartition[] {
    const assigned = [...this.#news.assigned.values()];
    this.#news.assigned.clear();
    return assigned;
  }

  /** @throws NaruError why the session is over; INVALID_REQUEST for an answer that never was */
  poll(request: PollRequest): Promise<PollAnswer> {
    this.#sign();
    this.#settle(request.received);
    this.#dismiss();
    const { clock, timers } = this.#options;
    const waitMs = Math.min(Math.max(0, request.maxWaitMs), this.#longestWaitMs());
    return new Promise((resolve, reject) => {
      const onAbort = (): void => this.#giveUp(waiter);
      const timer = timers.after(waitMs, () => {
        if (this.#waiter === waiter && waitMs > 0) this.#answer([]);
      });
      const stop = (): void => {
        timer.cancel();
        request.signal.removeEventListener('abort', onAbort);
      };
      const deadlineMs = clock.monotonicMs() + waitMs;
      const waiter: Waiter = { request, deadlineMs, stop, resolve, reject };
      this.#waiter = waiter;
      request.signal.addEventListener('abort', onAbort, { once: true });
      if (request.signal.aborted) return onAbort();
      this.#advance();
    });
  }

  /**
   * Commits everything that was given up to an answer.
   *
   * @param transaction is committed with it, all or nothing; null: the commit is part of none
   * @throws NaruError why the session is over, or why nothing at all was committed; INVALID_REQUEST for an answer that is
   *   neither the last one nor the one before
   */
  async commitGiven(pollId: number, transaction: TransactionRef | null = null): Promise<CommitAnswer> {
    this.#sign();
    if (pollId !== this.#lastId && pollId !== this.#confirmedId) throw unknownAnswer(pollId, this.#lastId);
    const which = pollId === this.#lastId ? 'last' : 'confirmed';
    return this.#commit(this.#keys.complete(this.#held.commits(which), which), transaction);
  }

  /** @throws NaruError why the session is over, or why nothing at all was committed */
  async commit(commits: readonly PartitionCommit[], transaction: TransactionRef | null = null): Promise<CommitAnswer> {
    return this.#commit(this.#keys.complete(commits, null), transaction);
  }

  #commit(commits: readonly PartitionCommit[], transaction: TransactionRef | null): Promise<CommitAnswer> {
    this.#sign();
    return this.#commits.commit(commits, transaction);
  }

  /**
   * Says what became of records of parallel topics.
   *
   * @returns what was refused
   * @throws NaruError why the session is over
   */
  async settle(partitions: readonly PartitionSettlement[]): Promise<readonly SettlementRefusal[]> {
    this.#sign();
    const settleId = this.#nextSettleId++;
    let refused: readonly SettlementRefusal[] | null = null;
    this.#settlements.set(settleId, (answer) => {
      refused = answer;
    });
    try {
      await this.#session.settle(settleId, partitions);
    } finally {
      this.#settlements.delete(settleId);
    }
    if (refused === null) throw this.#overError();
    return refused;
  }

  /** @throws NaruError why the session is over, or why the member cannot leave */
  async leave(): Promise<void> {
    this.#sign();
    await this.#session.leave();
  }

  /** Ends the session because the broker goes; the membership lasts. */
  shutDown(): void {
    this.#session.shutDown();
  }

  /** The member called. */
  #sign(): void {
    if (this.#ended !== null) throw this.#overError();
    if (this.#request.groupId !== '') {
      this.#session.heartbeat();
      return;
    }
    this.#idle?.cancel();
    this.#idle = this.#options.timers.after(this.#sessionTimeoutMs, () => {
      const message = `nothing was heard of the reader for its session time-out (${this.#sessionTimeoutMs} ms): join again`;
      this.#end(new NaruError('UNKNOWN_MEMBER_ID', message));
    });
  }

  /** Waiting is no sign of life, so it ends well before the member's time does. */
  #longestWaitMs(): number {
    const { groupId, maxPollIntervalMs } = this.#request;
    const intervalMs = groupId === '' ? Infinity : maxPollIntervalMs || this.#options.defaultMaxPollIntervalMs;
    return Math.floor(Math.min(this.#sessionTimeoutMs, intervalMs) / 2);
  }

  #overError(): NaruError {
    return this.#ended?.error ?? new NaruError('UNKNOWN_MEMBER_ID', 'the member has left: join again');
  }

  #heard(event: SessionEvent): void {
    switch (event.type) {
      case 'joined':
        this.#sessionTimeoutMs = event.sessionTimeoutMs;
        return;
      case 'assigned':
        for (const assigned of event.partitions) this.#assigned(assigned);
        return;
      case 'revoked':
        for (const partition of event.partitions) this.#revoked(partition, event.lost);
        break;
      case 'records':
        this.#isReading = false;
        this.#read(event.partitions, event.acquired ?? []);
        return;
      case 'held':
      case 'blocked-keys':
        this.#keys.heard(event);
        break;
      case 'late':
        this.#late(event);
        return;
      case 'position-reset': {
        const { partition, from, to } = event;
        this.#held.reset(partition, to);
        this.#news.resets.set(partition, { topic: this.#held.topicOf(partition), from, to });
        break;
      }
      case 'partition-failed':
        this.#failed(event.partition, event.refusal);
        break;
      case 'committed':
        this.#commits.heard(event);
        return;
      case 'settled':
        this.#settlements.get(event.settleId)?.(event.refused);
        return;
      // Claims are the stream's.
      case 'claimed':
      case 'left':
        return;
      case 'ended':
        this.#over(event.error);
        return;
    }
    this.#advance();
  }

  #assigned(assigned: AssignedPartition): void {
    this.#news.assign(assigned);
    if (assigned.parallel === true) return this.#acquired.add(assigned);
    this.#held.add(assigned);
    this.#readOn(assigned.partition);
  }

  #revoked(partition: PartitionKey, lost: boolean): void {
    const topic = this.#topicOf(partition);
    this.#acquired.delete(partition);
    this.#keys.leave(partition);
    if (lost) this.#held.delete(partition);
    this.#unreadable.delete(partition);
    this.#news.revoke(partition, { topic, lost });
  }

  #failed(partition: PartitionKey, refusal: Refusal): void {
    this.#news.failed.set(partition, { topic: this.#topicOf(partition), refusal });
  }

  #topicOf(partition: PartitionKey): string {
    return this.#acquired.topicOf(partition) ?? this.#held.topicOf(partition);
  }

  /** What the last answer gave arrived, or is to be given again. */
  #settle(received: number | null): void {
    if (received === null || received === this.#lastId) {
      this.#held.confirm();
      this.#acquired.confirm();
      this.#confirmedId = this.#lastId;
      this.#release([...this.#told.revoked].flatMap(([partition, { lost }]) => (lost ? [] : [partition])));
    } else if (received === this.#confirmedId) {
      this.#news.precede(this.#told);
      this.#session.undelivered(this.#acquired.takeBack());
      const back = this.#held.takeBack();
      for (const partition of new Set([...back.keys(), ...this.#told.failed.keys()])) {
        this.#news.failed.delete(partition);
        this.#readOn(partition);
        this.#moveBack(partition);
        this.#session.putBack(partition, back.get(partition) ?? []);
      }
    } else {
      throw unknownAnswer(received, this.#lastId);
    }
    this.#told = new PollNews();
  }

  #release(partitions: readonly PartitionKey[]): void {
    if (partitions.length === 0) return;
    for (const partition of partitions) this.#held.delete(partition);
    this.#session.released(partitions).catch((error: unknown) => this.#end(error));
  }

  /** Answers the poll that waits, or reads on for it. */
  #advance(): void {
    if (this.#waiter === null) return;
    if (this.#news.isPressing) return this.#answer([]);
    const { request, deadlineMs } = this.#waiter;
    if (this.#keys.hasWaiting) {
      const answer = new AnswerSpace(request);
      this.#keys.giveInto(answer);
      return this.#answer(answer.records);
    }
    const restMs = Math.max(0, deadlineMs - this.#options.clock.monotonicMs());
    if (!this.#isReading) {
      this.#isReading = true;
      this.#session.poll(0, answerBytes(request), restMs, answerRecords(request));
    } else if (restMs === 0) {
      // Somebody who gave up still waits, so that there is nothing.
      this.#answer([]);
    }
  }

  #read(partitions: readonly PolledPartition[], acquired: readonly AcquiredPartition[]): void {
    const waiter = this.#waiter;
    if (waiter === null) {
      this.#session.undelivered(acquired);
      for (const { partition } of partitions) this.#moveBack(partition);
      return;
    }
    const records = this.#take(partitions, acquired, waiter.request);
    const isLate = this.#options.clock.monotonicMs() >= waiter.deadlineMs;
    if (records.length > 0 || isLate || this.#news.isPressing) this.#answer(records);
    else this.#advance();
  }

  /** They come while a poll waits, unless its caller has just given up. */
  #late(event: LateEvents): void {
    this.#held.gone(event.partition, event.gone);
    const waiter = this.#waiter;
    if (waiter === null) return this.#session.putBack(event.partition, event.events);
    const answer = new AnswerSpace(waiter.request);
    const left = this.#held.takeLate(event, answer);
    this.#holdPassed();
    if (left.length > 0) this.#session.putBack(event.partition, left);
    if (answer.records.length > 0) this.#answer(answer.records);
  }

  #take(
    partitions: readonly PolledPartition[],
    acquired: readonly AcquiredPartition[],
    request: PollRequest,
  ): readonly GivenRecord[] {
    const answer = new AnswerSpace(request);
    const taken = this.#acquired.take(acquired, answer);
    this.#session.undelivered(taken.left);
    for (const { partition, refusal } of taken.damaged) this.#failed(partition, refusal);
    this.#keys.giveInto(answer);
    const { unread, damaged } = this.#held.take(partitions, answer);
    this.#holdPassed();
    for (const { partition, refusal } of damaged) {
      this.#unreadable.add(partition);
      this.#failed(partition, refusal);
    }
    if (damaged.length > 0) this.#session.pause([...this.#unreadable]);
    for (const partition of unread) this.#moveBack(partition);
    return answer.records;
  }

  /** Has what was passed over held; what is refused is tried again after the next read. */
  #holdPassed(): void {
    const commits = this.#isHolding ? [] : this.#keys.holding();
    if (commits.length === 0) return;
    this.#isHolding = true;
    this.#commit(commits, null)
      .then(() => commits.forEach(({ partition }) => this.#readOn(partition)))
      // Why the session is over, or that nothing more is held.
      .catch(() => {})
      .finally(() => (this.#isHolding = false));
  }

  /** A partition that was left out is not any more. */
  #readOn(partition: PartitionKey): void {
    if (this.#unreadable.delete(partition)) this.#session.pause([...this.#unreadable]);
  }

  #moveBack(partition: PartitionKey): void {
    const position = this.#held.positionOf(partition);
    if (position !== undefined) this.#session.moveTo(partition, position);
  }

  #answer(records: readonly GivenRecord[]): void {
    const waiter = this.#waiter;
    if (waiter === null) return;
    this.#waiter = null;
    waiter.stop();
    const news = this.#news;
    if (records.length > 0 || !news.isEmpty) {
      this.#lastId += 1;
      this.#told = news;
      this.#news = new PollNews();
    }
    waiter.resolve({ pollId: this.#lastId, memberEpoch: this.#session.memberEpoch, records, news });
  }

  /** A poll that still waits when the next one comes is one whose caller gave up: what it gets may be lost. */
  #dismiss(): void {
    const waiter = this.#waiter;
    if (waiter === null) return;
    this.#waiter = null;
    waiter.stop();
    const { memberEpoch } = this.#session;
    waiter.resolve({ pollId: this.#lastId, memberEpoch, records: [], news: new PollNews() });
  }

  #giveUp(waiter: Waiter): void {
    if (this.#waiter !== waiter) return;
    this.#waiter = null;
    waiter.stop();
    waiter.reject(new NaruError('ABORTED', 'the call was given up'));
  }

  #end(error: unknown): void {
    this.#over(
      isNaruError(error) ? error : new NaruError('INTERNAL', 'the broker failed; see its log', { cause: error }),
    );
    this.#session.disconnected();
  }

  #over(error: NaruError | null): void {
    if (this.#ended !== null) return;
    this.#ended = { error };
    this.#idle?.cancel();
    const waiter = this.#waiter;
    this.#waiter = null;
    waiter?.stop();
    waiter?.reject(this.#overError());
    this.#options.onEnded(error);
  }
}

function unknownAnswer(pollId: number, lastId: number): NaruError {
  return new NaruError('INVALID_REQUEST', `poll ${pollId} is neither the last answer (${lastId}) nor the one before`);
}
