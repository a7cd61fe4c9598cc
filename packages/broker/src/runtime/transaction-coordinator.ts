/**
 * All transactional ids of a shard: runs the pure transaction machine, writes its records to the log of transactions, keeps the
 * times of open transactions, and ends them.
 *
 * An end is one append: its markers in all partitions, the offsets of groups, and the id's own record are staged into one cycle,
 * so that after a crash all of it is there, or nothing and the transaction is still open. There is no state between. What would
 * be larger than an append may be is refused before anything is staged; an abort always fits, since what may take part is
 * limited by it.
 *
 * Invariants: that a transaction has begun, and that a group takes part, is in the journal before what they hold of it; a further
 * partition takes part by its first batch; an answer waits until everything that it shows is durable.
 */
import { assert, type Clock, type PartitionKey, type TimerHandle, type Timers } from '@naru/base';
import { refuse, type Refusal } from '@naru/protocol';
import { decodeRecords, type BatchHeader, type CompressionCodecs } from '@naru/protocol/batch';
import type { CommitCommand, EndTransactionGroupCommand, PartitionResult } from '../core/group/index.ts';
import { advanceSequence } from '../core/partition/producer-state.ts';
import type { TopicMetadata } from '../core/registry/topic-registry.ts';
import {
  decideTransaction,
  decodeTransactionRecord,
  DEFAULT_TRANSACTION_LIMITS,
  encodeTransactionRecord,
  evolveTransactions,
  type EncodedTransactionRecord,
  type TransactionCommand,
  type TransactionContext,
  type TransactionDecision,
  type TransactionEnd,
  type TransactionFlow,
  type TransactionLimits,
  type TransactionListing,
  type TransactionReplies,
  type TransactionState,
} from '../core/transaction/index.ts';
import type { LogStore } from '../log/log-store.ts';
import type { CommitQueue } from './commit-queue.ts';
import { isRefusal } from './commands.ts';
import type { DecidedGroup, GroupCoordinator } from './group-coordinator.ts';
import { KeyedTimers } from './keyed-timers.ts';
import { MARKER_BYTES, type PartitionRuntime, type TransactionAdmission } from './partition-runtime.ts';
import { exhaustedRefusal, roomRefusal } from './storage-refusals.ts';
import type {
  CommitInTransactionCommand,
  EndTransactionReply,
  EndTransactionShardCommand,
  TransactionDescription,
  TransactionEnvelope,
  TransactionShardCommand,
} from './transaction-commands.ts';
import { TransactionLog } from './transaction-log.ts';

/** How often is looked which ids nobody uses any more, and how many are forgotten at a time. */
const EXPIRY_CHECK_MS = 10 * 60_000;
const EXPIRED_AT_A_TIME = 1_000;
/** What of an append the members of a transaction may take when it is aborted: a part of it, as groups write tombstones. */
const ABORT_PART = 2;
/** For a partition in the end of a transaction: its marker. For a group: a batch with a tombstone. */
const GROUP_END_BYTES = 512;

type Reply = (reply: unknown, cycle: number) => void;

export interface TransactionMetrics {
  /** Now. */
  readonly ids: number;
  /** Now. */
  readonly open: number;
  /** Since the start, as the next two. */
  readonly committed: number;
  /** For whatever reason. */
  readonly aborted: number;
  /** Of these, because their time was over. */
  readonly timedOut: number;
}

export interface TransactionCoordinatorOptions {
  readonly partitions: PartitionRuntime;
  readonly groups: GroupCoordinator;
  readonly commits: CommitQueue;
  readonly store: LogStore;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly codecs: CompressionCodecs;
  readonly limits?: Partial<TransactionLimits> | undefined;
  /** Whether clients may write to the partition. */
  readonly partitionExists: (partition: PartitionKey) => boolean;
  /** Puts a command that a timer gave into the shard's queue. */
  readonly enqueue: (command: TransactionEnvelope) => void;
}

export class TransactionCoordinator implements TransactionAdmission {
  readonly #options: TransactionCoordinatorOptions;
  readonly #limits: TransactionLimits;
  readonly #log: TransactionLog;
  readonly #states = new Map<string, TransactionState>();
  /** The same, by the producer id in force. */
  readonly #byProducer = new Map<number, TransactionState>();
  readonly #timers: KeyedTimers;
  /** Timers that fired and whose command still waits: a transaction that is begun meanwhile must not be ended by it. */
  readonly #due = new Set<string>();
  #expiry: TimerHandle | null = null;
  #stopped = false;
  #committed = 0;
  #aborted = 0;
  #timedOut = 0;
  /** Of the newest change. */
  #lastCycle = 0;

  constructor(options: TransactionCoordinatorOptions) {
    this.#options = options;
    const { clock, timers, partitions, store } = options;
    const limits = { ...DEFAULT_TRANSACTION_LIMITS, ...options.limits };
    const abortBytes = Math.floor(store.maxAppendBytes / ABORT_PART / 2);
    this.#limits = {
      ...limits,
      maxPartitions: Math.min(limits.maxPartitions, Math.floor(abortBytes / MARKER_BYTES)),
      maxGroups: Math.min(limits.maxGroups, Math.floor(abortBytes / GROUP_END_BYTES)),
    };
    this.#log = new TransactionLog(partitions, clock);
    this.#timers = new KeyedTimers(clock, timers, (transactionalId) => {
      this.#due.add(transactionalId);
      options.enqueue({ type: 'transaction', command: { type: 'abort', transactionalId, reason: 'timed-out' } });
    });
  }

  metrics(): TransactionMetrics {
    return {
      ids: this.#states.size,
      // With those whose time is over and that are about to be aborted.
      open: this.#timers.size + this.#due.size,
      committed: this.#committed,
      aborted: this.#aborted,
      timedOut: this.#timedOut,
    };
  }

  /** Finds the log among the topics. Without it there are no transactions: NOT_READY. */
  useLog(topics: readonly TopicMetadata[]): void {
    this.#log.use(topics);
  }

  /** Whether the partition belongs to the log. */
  ownsLog(partition: PartitionKey): boolean {
    return this.#log.owns(partition);
  }

  /** Applies a batch of the log, in recovery. */
  replay(batch: Uint8Array): void {
    for (const { key, value } of decodeRecords(batch, this.#options.codecs)) this.restore(key as Uint8Array, value);
  }

  /** Applies one record of the log or of a snapshot, in recovery. */
  restore(key: Uint8Array, value: Uint8Array | null): void {
    this.#evolve(decodeTransactionRecord(key, value));
  }

  /** After recovery, with the partitions there: every open transaction gets its whole time again. */
  start(): void {
    this.#findImplied();
    for (const { transactionalId, status, timeoutMs } of this.#states.values()) {
      if (status === 'ongoing') this.#timers.set(transactionalId, timeoutMs);
    }
    this.#watchExpiry();
  }

  /** What partitions tell of open transactions and the log does not: see `isImplied` of a decision. */
  #findImplied(): void {
    for (const { state: partition } of this.#options.partitions.all()) {
      for (const { producerId } of partition.transactions.open) {
        const state = this.#byProducer.get(producerId);
        if (state?.status !== 'ongoing' || state.partitions.has(partition.partition)) continue;
        const partitions = new Set([...state.partitions, partition.partition]);
        this.#evolve({ transactionalId: state.transactionalId, value: { ...state, partitions } });
      }
    }
  }

  stop(): void {
    this.#stopped = true;
    this.#expiry?.cancel();
    this.#timers.cancelAll();
  }

  /** Every record that builds the present state, for a checkpoint. */
  *snapshot(): Generator<EncodedTransactionRecord> {
    for (const value of this.#states.values()) {
      yield encodeTransactionRecord({ transactionalId: value.transactionalId, value });
    }
  }

  owns(producerId: number): boolean {
    return this.#byProducer.has(producerId);
  }

  admit(partition: PartitionKey, { producerId, producerEpoch }: BatchHeader, flow: TransactionFlow): Refusal | null {
    const state = this.#byProducer.get(producerId);
    const isMember = state?.status === 'ongoing' && state.producerEpoch === producerEpoch;
    if (isMember && state.partitions.has(partition)) return null;
    const transactionalId = state?.transactionalId;
    if (transactionalId === undefined) {
      const message = `producer ${producerId} has no transactional id (any more): initialise it (again)`;
      return refuse('INVALID_PRODUCER_ID_MAPPING', message);
    }
    const decision = this.#decide({ type: 'admit', transactionalId, producerId, producerEpoch, partition, flow });
    if (isRefusal(decision.reply)) return decision.reply;
    this.#apply(transactionalId, decision);
    return null;
  }

  execute(command: TransactionShardCommand, reply: Reply): void {
    if (!this.#log.isThere) return reply(refuse('NOT_READY', 'the log of transactions is not there yet'), 0);
    switch (command.type) {
      case 'transaction':
        return this.#execute(command.command, reply);
      case 'commit-in-transaction':
        return this.#keepOffsets(command, reply);
      case 'end-transaction':
        return this.#endTogether(command, reply);
      case 'list-transactions':
        return reply(this.#list(), this.#options.commits.newest);
      case 'describe-transaction':
        return reply(this.#describe(command.transactionalId), this.#options.commits.newest);
      case 'describe-producers':
        return reply(this.#options.partitions.producersOf(command.partitions), this.#options.commits.newest);
    }
  }

  #execute(command: TransactionEnvelope['command'], reply: Reply): void {
    const { transactionalId } = command;
    const isOwn = command.type === 'expire' || (command.type === 'abort' && command.reason === 'timed-out');
    if (isOwn && command.type === 'abort' && !this.#due.delete(transactionalId)) return reply({ aborted: false }, 0);
    const full = isOwn ? null : roomRefusal(this.#options.store.capacity());
    if (full !== null) return reply(full, 0);
    const decision = this.#decide(command);
    if (decision.end === undefined) {
      this.#apply(transactionalId, decision);
      return reply(decision.reply, this.#lastCycle);
    }
    const decided = this.#decideGroups(decision.end, null);
    const refusal = this.#stageEnd(transactionalId, decision, decision.end, decided);
    reply(refusal ?? decision.reply, this.#lastCycle);
    if (refusal !== null) return;
    if (isOwn) this.#timedOut += 1;
    this.#options.groups.afterTogether(decided);
  }

  /** Offsets wait for the end. The group says first what may wait, then the transaction whether, and its record goes first. */
  #keepOffsets(command: CommitInTransactionCommand, reply: Reply): void {
    const { transaction, flow, groupId, memberId, memberEpoch, instanceId, offsets } = command;
    const { groups, store, commits } = this.#options;
    const full = roomRefusal(store.capacity());
    if (full !== null) return reply(full, 0);
    const { producerId, producerEpoch } = transaction;
    const admission = this.#decide({ ...transaction, type: 'admit-group', groupId, flow });
    if (isRefusal(admission.reply)) return reply(admission.reply, this.#lastCycle);
    const who = { groupId, memberId, memberEpoch, instanceId };
    const kept = { ...who, type: 'commit-in-transaction', producerId, producerEpoch, offsets } as const;
    const [decided] = groups.decideTogether([kept]);
    assert(decided !== undefined, 'one decision for one command');
    if (decided.decision.records.length > 0) {
      this.#apply(transaction.transactionalId, admission);
      groups.apply(decided);
      groups.afterTogether([decided]);
    }
    // What is not kept may be refused for the sake of what others have just done.
    reply(decided.decision.reply, isRefusal(decided.decision.reply) ? groups.cycleOf(groupId) : commits.newest);
  }

  #endTogether(command: EndTransactionShardCommand, reply: Reply): void {
    const { transaction, flow, commit, freshProducerId, groupCommit } = command;
    const { groups, store } = this.#options;
    const capacity = store.capacity();
    const full = groupCommit === null ? roomRefusal(capacity) : exhaustedRefusal(groupCommit, capacity);
    const wrong = full ?? this.#wrongCommit(command);
    if (wrong !== null) return reply(wrong, 0);
    const decision = this.#decide({ ...transaction, type: 'end', commit, flow, freshProducerId });
    const next = decision.reply;
    if (isRefusal(next)) return reply(next, this.#lastCycle);
    const lacking = decision.records.length === 0 ? null : this.#lacking(command);
    if (lacking !== null) return reply(lacking, this.#lastCycle);
    // One that is repeated has changed nothing, and its commit was made at the first time.
    const results = groupCommit?.offsets.map(({ partition }): PartitionResult => ({ partition, refusal: null })) ?? [];
    const isRepeated = decision.records.length === 0;
    const first = isRepeated || groupCommit === null ? null : groupCommit;
    const end = decision.end ?? { ...NOTHING, commit, producerId: transaction.producerId };
    const decided = isRepeated ? [] : this.#decideGroups(end, first);
    const made = first === null ? undefined : (decided[0] as DecidedGroup<CommitCommand>).decision.reply;
    if (made !== undefined && isRefusal(made)) return reply(made, groups.cycleOf(first?.groupId ?? ''));
    if (made !== undefined && made.results.some(({ refusal }) => refusal !== null)) {
      const answer: EndTransactionReply = { next: null, results: made.results };
      return reply(answer, groups.cycleOf(first?.groupId ?? ''));
    }
    const refusal = isRepeated ? null : this.#stageEnd(transaction.transactionalId, decision, end, decided);
    const whole = { next, results: made?.results ?? results };
    const answer: EndTransactionReply = isRepeated ? { ...whole, isRepeated } : whole;
    reply(refusal ?? answer, this.#lastCycle);
    if (refusal === null) groups.afterTogether(decided);
  }

  /** What is not stored of that which the producer says it has sent. */
  #lacking({ expected = [], transaction }: EndTransactionShardCommand): Refusal | null {
    const { producerId, producerEpoch } = transaction;
    for (const { partition, nextSequence } of expected) {
      const producer = this.#options.partitions.get(partition)?.state.producers.get(producerId);
      const last = producer?.epoch === producerEpoch ? producer.batches.at(-1) : undefined;
      const stored = last === undefined ? 0 : advanceSequence(last.lastSequence, 1);
      if (stored === nextSequence) continue;
      const message = `the transaction is stored up to sequence ${stored} in ${partition}, not up to ${nextSequence}: it is not committed`;
      return refuse('OUT_OF_ORDER_SEQUENCE_NUMBER', message);
    }
    return null;
  }

  /** What of a commit the transaction cannot take. */
  #wrongCommit({ commit, groupCommit, transaction }: EndTransactionShardCommand): Refusal | null {
    if (groupCommit === null) return null;
    if (!commit) return refuse('INVALID_REQUEST', 'a transaction that is aborted commits no offsets');
    if (!this.#states.get(transaction.transactionalId)?.groups.has(groupCommit.groupId)) return null;
    const message = `the transaction keeps offsets of group ${JSON.stringify(groupCommit.groupId)} already: end it without a commit`;
    return refuse('INVALID_REQUEST', message);
  }

  /** What the end does to groups, decided: first the member's commit, if there is one. */
  #decideGroups({ commit, producerId, groups }: TransactionEnd, first: CommitCommand | null): DecidedGroup[] {
    const ends = groups.map((groupId): EndTransactionGroupCommand => {
      return { type: 'end-transaction', groupId, producerId, commit };
    });
    return this.#options.groups.decideTogether<CommitCommand | EndTransactionGroupCommand>(
      first === null ? ends : [first, ...ends],
    );
  }

  /** Everything that the end is, as one append. Refused before anything of it is staged. */
  #stageEnd(
    transactionalId: string,
    decision: TransactionDecision<unknown>,
    { partitions: ended, ...end }: TransactionEnd,
    decided: readonly DecidedGroup[],
  ): Refusal | null {
    const { partitions, groups, commits, store } = this.#options;
    const writes = this.#log.prepare(decision.records);
    const groupBytes = decided.reduce((sum, { writes: { bytes } }) => sum + bytes, 0);
    const bytes = writes.bytes + groupBytes + ended.length * MARKER_BYTES;
    if (bytes > store.maxAppendBytes) {
      const message = `the end of the transaction would be ${bytes} bytes, and an append has at most ${store.maxAppendBytes}`;
      return refuse('TRANSACTION_TOO_LARGE', `${message}: commit offsets and outcomes of fewer events at a time`);
    }
    const { commit, producerId, markerEpoch: producerEpoch } = end;
    this.#lastCycle = commits.atomically(bytes, () => {
      partitions.appendMarkers(ended, { commit, producerId, producerEpoch });
      for (const one of decided) groups.apply(one);
      return this.#log.write(writes);
    });
    this.#applied(transactionalId, decision);
    if (decision.timeoutMs !== undefined) this.#count(commit);
    return null;
  }

  #count(isCommitted: boolean): void {
    if (isCommitted) this.#committed += 1;
    else this.#aborted += 1;
  }

  #decide<C extends TransactionCommand>(command: C): TransactionDecision<TransactionReplies[C['type']]> {
    const { clock, partitionExists } = this.#options;
    const context: TransactionContext = { partitionExists, idCount: this.#states.size, limits: this.#limits };
    return decideTransaction(this.#states.get(command.transactionalId), command, context, clock.nowMs());
  }

  /** Of a decision that ends nothing. */
  #apply(transactionalId: string, decision: TransactionDecision<unknown>): void {
    const { records, isImplied = false } = decision;
    if (records.length > 0 && !isImplied) this.#lastCycle = this.#log.write(this.#log.prepare(records));
    this.#applied(transactionalId, decision);
  }

  #applied(transactionalId: string, { records, timeoutMs }: TransactionDecision<unknown>): void {
    for (const record of records) this.#evolve(record);
    if (timeoutMs === undefined) return;
    this.#due.delete(transactionalId);
    if (timeoutMs === null) this.#timers.cancel(transactionalId);
    else this.#timers.set(transactionalId, timeoutMs);
  }

  #evolve(record: TransactionDecision<unknown>['records'][number]): void {
    const before = this.#states.get(record.transactionalId);
    if (before !== undefined) this.#byProducer.delete(before.producerId);
    evolveTransactions(this.#states, record);
    if (record.value !== null) this.#byProducer.set(record.value.producerId, record.value);
  }

  #watchExpiry(): void {
    if (this.#stopped) return;
    this.#expiry = this.#options.timers.after(EXPIRY_CHECK_MS, () => {
      const before = this.#options.clock.nowMs() - this.#limits.idExpiryMs;
      let count = 0;
      for (const { transactionalId, status, updatedAtMs } of this.#states.values()) {
        if (status === 'ongoing' || updatedAtMs > before || count >= EXPIRED_AT_A_TIME) continue;
        count += 1;
        this.#options.enqueue({ type: 'transaction', command: { type: 'expire', transactionalId } });
      }
      this.#watchExpiry();
    });
  }

  #list(): TransactionListing[] {
    return [...this.#states.values()].map(listingOf).sort((a, b) => (a.transactionalId < b.transactionalId ? -1 : 1));
  }

  #describe(transactionalId: string): TransactionDescription | Refusal {
    const state = this.#states.get(transactionalId);
    if (state === undefined) {
      return refuse('TRANSACTIONAL_ID_NOT_FOUND', `there is no transactional id ${JSON.stringify(transactionalId)}`);
    }
    const partitions = [...state.partitions].map((partition) => {
      const transactions = this.#options.partitions.get(partition)?.state.transactions;
      return { partition, firstOffset: transactions?.openSince(state.producerId) ?? null };
    });
    return { ...listingOf(state), partitions, groups: [...state.groups] };
  }
}

/** The end of a transaction in which nothing was begun. */
const NOTHING = { markerEpoch: 0, partitions: [], groups: [] } as const;

function listingOf(state: TransactionState): TransactionListing {
  const { transactionalId, producerId, producerEpoch, status, timeoutMs, startedAtMs, updatedAtMs, partitions } = state;
  const partitionCount = partitions.size;
  return { transactionalId, producerId, producerEpoch, status, timeoutMs, startedAtMs, updatedAtMs, partitionCount };
}
