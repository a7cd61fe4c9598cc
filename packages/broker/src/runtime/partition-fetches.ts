/**
 * Reading the partitions of a shard: fetches, and those that wait for more.
 *
 * Owns who waits, and what of transactions a reader sees. Does not own partitions (partition-runtime.ts) nor bytes (log store).
 *
 * Invariants: readers see offsets below the high watermark only, readers of what is stable or committed those below the last stable
 * offset only; a fetch that waits is looked at whenever one of the two moves.
 */
import type { PartitionKey, TimerHandle, Timers } from '@naru/base';
import { NaruError, refuse, type Refusal } from '@naru/protocol';
import { isOfTransaction, readBatchHeader } from '@naru/protocol/batch';
import { lastStableOffset } from '../core/partition/partition-state.ts';
import { AbortedRecords, type AbortedLookup, type TransactionOutcome } from '../core/partition/transaction-index.ts';
import type { LogStore, StoredBatch } from '../log/log-store.ts';
import type { FetchCommand, FetchedPartition, FetchPartition, FetchReply, FetchView } from './commands.ts';
import { unknownPartition, type Partition } from './partition.ts';

export interface WaitingFetch {
  readonly command: FetchCommand;
  readonly reply: (reply: FetchReply) => void;
  readonly fail: (error: unknown) => void;
  readonly timer: TimerHandle;
}

export interface PartitionFetchesOptions {
  readonly store: LogStore;
  readonly timers: Timers;
  readonly partition: (key: PartitionKey) => Partition | undefined;
}

export class PartitionFetches {
  readonly #options: PartitionFetchesOptions;
  readonly #waiting = new Map<number, WaitingFetch>();

  constructor(options: PartitionFetchesOptions) {
    this.#options = options;
  }

  get waiting(): number {
    return this.#waiting.size;
  }

  fetch(command: FetchCommand, reply: (reply: FetchReply) => void, fail: (error: unknown) => void): void {
    const ready = this.#read(command, command.maxWaitMs > 0);
    if (ready !== null) {
      settle(ready, reply, fail);
      return;
    }
    const timer = this.#options.timers.after(command.maxWaitMs, () => this.cancel(command.fetchId));
    const waiting: WaitingFetch = { command, reply, fail, timer };
    this.#waiting.set(command.fetchId, waiting);
    for (const { partition } of command.partitions) this.#options.partition(partition)?.waiting.add(waiting);
  }

  /** Answers a fetch that waits with what there is. */
  cancel(fetchId: number): void {
    const waiting = this.#waiting.get(fetchId);
    if (waiting === undefined) return;
    this.#forget(waiting);
    settle(this.#read(waiting.command, false) ?? { partitions: [] }, waiting.reply, waiting.fail);
  }

  cancelAll(): void {
    for (const fetchId of this.#waiting.keys()) this.cancel(fetchId);
  }

  /** Something of these partitions may be read, or not be read any more, that was different before. */
  wake(partitions: readonly Partition[]): void {
    const woken = new Set<WaitingFetch>();
    for (const partition of partitions) for (const waiting of partition.waiting) woken.add(waiting);
    for (const waiting of woken) this.#wake(waiting);
  }

  #wake(waiting: WaitingFetch): void {
    if (!this.#waiting.has(waiting.command.fetchId)) return;
    const ready = this.#read(waiting.command, true);
    if (ready === null) return;
    this.#forget(waiting);
    settle(ready, waiting.reply, waiting.fail);
  }

  #forget(waiting: WaitingFetch): void {
    waiting.timer.cancel();
    this.#waiting.delete(waiting.command.fetchId);
    for (const { partition } of waiting.command.partitions) this.#options.partition(partition)?.waiting.delete(waiting);
  }

  /** Null when the caller may wait and there is not enough yet. */
  #read(command: FetchCommand, mayWait: boolean): FetchReply | Promise<FetchReply> | null {
    const found: (FetchedPartition | Promise<FetchedPartition>)[] = [];
    let restBytes = command.maxBytes;
    let foundBytes = 0;
    let urgent = false;
    for (const wanted of command.partitions) {
      if (restBytes <= 0) break;
      const maxBytes = found.length === 0 ? restBytes : Math.min(restBytes, wanted.maxBytes);
      const fetched = this.#readPartition(wanted, command, maxBytes);
      if (fetched === null) continue;
      found.push(fetched);
      if (fetched instanceof Promise) {
        // From disk: how much is not known yet, but it is old, and its reader is behind.
        urgent = true;
        restBytes -= wanted.maxBytes;
      } else {
        // One that is only moved on asks again from there.
        urgent ||= fetched.refusal !== null || (fetched.batches.length === 0 && fetched.nextOffset > wanted.offset);
        const bytes = totalBytes(fetched.batches);
        foundBytes += bytes;
        restBytes -= bytes;
      }
    }
    if (mayWait && !urgent && foundBytes < Math.max(1, command.minBytes)) return null;
    const answer = (partitions: FetchedPartition[]): FetchReply => ({
      partitions:
        command.everyPartition === true ? this.#completed(command, partitions) : withContent(command, partitions),
    });
    if (!found.some((entry) => entry instanceof Promise)) return answer(found as FetchedPartition[]);
    return Promise.all(found.map((entry) => Promise.resolve(entry))).then(answer);
  }

  /** One for each partition that was asked for, in order. */
  #completed(command: FetchCommand, found: readonly FetchedPartition[]): FetchedPartition[] {
    let next = 0;
    return command.partitions.map((wanted) => {
      if (found[next]?.partition === wanted.partition) return found[next++] as FetchedPartition;
      const partition = this.#options.partition(wanted.partition);
      if (partition === undefined) return refusedFetch(wanted, unknownPartition(wanted.partition));
      return fetchedOf(wanted, partition, command.view);
    });
  }

  /** Null when there is nothing new. */
  #readPartition(
    wanted: FetchPartition,
    { view, tellsOutcomes }: FetchCommand,
    maxBytes: number,
  ): FetchedPartition | Promise<FetchedPartition> | null {
    const { partition: key, offset } = wanted;
    const partition = this.#options.partition(key);
    if (partition === undefined) return refusedFetch(wanted, unknownPartition(key));
    const { state, highWatermark } = partition;
    if (offset < state.logStartOffset || offset > highWatermark) {
      const range = `the log holds ${state.logStartOffset} to ${highWatermark}`;
      return refusedFetch(wanted, refuse('OFFSET_OUT_OF_RANGE', `offset ${offset} of ${key}: ${range}`), partition);
    }
    const empty = fetchedOf(wanted, partition, view);
    const limit = view === undefined || view === 'all' ? highWatermark : empty.lastStableOffset;
    if (offset >= limit) return null;
    // What is forgotten while this is read from disk was not deleted yet when reading began.
    const abortedIn = state.transactions.lookup();
    const fetched = (read: StoredBatch[]): FetchedPartition => {
      const [first] = read;
      const last = read.at(-1);
      // Compaction has left nothing before the first open transaction.
      if (first === undefined || last === undefined)
        return view === 'committed' ? { ...empty, nextOffset: limit } : empty;
      const nextOffset = last.lastOffset + 1;
      const found = { ...empty, nextOffset };
      if (view === 'committed')
        return { ...found, batches: committedOnly(read, abortedIn(first.baseOffset, nextOffset)) };
      const batches = read.map(({ records }) => records);
      if (view === 'stable') return { ...found, batches, aborted: abortedIn(first.baseOffset, nextOffset) };
      return tellsOutcomes === true
        ? { ...found, batches, outcomes: read.map(outcomeIn(partition, abortedIn)) }
        : { ...found, batches };
    };
    const batches = this.#options.store.read(key, offset, Math.max(1, Math.min(maxBytes, wanted.maxBytes)), limit);
    if (!(batches instanceof Promise)) return fetched(batches);
    return batches.then(fetched, (error: unknown) => {
      if (!(error instanceof NaruError)) throw error;
      return refusedFetch(wanted, refuse(error.code, `offset ${offset} of ${key}: ${error.message}`), partition);
    });
  }
}

/** Without markers and what was aborted. Everything is below the last stable offset. */
function committedOnly(
  batches: readonly StoredBatch[],
  aborted: ConstructorParameters<typeof AbortedRecords>[0],
): Uint8Array[] {
  const dropped = new AbortedRecords(aborted);
  const committed: Uint8Array[] = [];
  for (const { records, baseOffset } of batches) {
    if (isOfTransaction(records)) {
      const { isControl, producerId } = readBatchHeader(records);
      if (isControl || dropped.has(producerId, baseOffset)) continue;
    }
    committed.push(records);
  }
  return committed;
}

function outcomeIn(
  { state, highWatermark }: Partition,
  abortedIn: AbortedLookup,
): (batch: StoredBatch) => TransactionOutcome | null {
  return ({ records, baseOffset }) => {
    const { isControl, isTransactional, producerId } = readBatchHeader(records);
    if (isControl || !isTransactional) return null;
    return state.transactions.outcomeOf(producerId, baseOffset, highWatermark, abortedIn);
  };
}

/** With nothing in it. */
function fetchedOf({ partition, offset }: FetchPartition, of: Partition, view?: FetchView): FetchedPartition {
  const { state, highWatermark } = of;
  return {
    partition,
    batches: [],
    nextOffset: offset,
    highWatermark,
    lastStableOffset: lastStableOffset(state, highWatermark),
    logStartOffset: state.logStartOffset,
    refusal: null,
    ...(view === 'stable' ? { aborted: [] } : {}),
  };
}

function refusedFetch(wanted: FetchPartition, refusal: Refusal, partition?: Partition): FetchedPartition {
  if (partition !== undefined) return { ...fetchedOf(wanted, partition), refusal };
  const { partition: key, offset: nextOffset } = wanted;
  return { partition: key, batches: [], nextOffset, highWatermark: 0, lastStableOffset: 0, logStartOffset: 0, refusal };
}

function withContent({ partitions }: FetchCommand, found: readonly FetchedPartition[]): FetchedPartition[] {
  let next = 0;
  return found.filter(({ partition, batches, refusal, nextOffset }) => {
    // Both are in the same order, and all that were found were asked for.
    while (partitions[next]?.partition !== partition) next += 1;
    return batches.length > 0 || refusal !== null || nextOffset > (partitions[next++] as FetchPartition).offset;
  });
}

function totalBytes(batches: readonly Uint8Array[]): number {
  let bytes = 0;
  for (const batch of batches) bytes += batch.length;
  return bytes;
}

function settle<T>(value: T | Promise<T>, reply: (value: T) => void, fail: (error: unknown) => void): void {
  if (value instanceof Promise) value.then(reply, fail);
  else reply(value);
}
