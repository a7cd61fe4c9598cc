/**
 * One partition of a parallel topic: the records that this member has acquired and not settled. It is not the member's alone, and
 * has no position. Does not talk to the broker.
 */
import type { PartitionKey, TopicId } from '@naru/base';
import { partitionKey, topicIdFromBytes } from '@naru/base';
import { NaruError } from '@naru/protocol';
import type { StreamedRecord, CompressionCodecs } from '@naru/protocol/batch';
import { iterateRecords, splitBatches } from '@naru/protocol/batch';
import type { Acquired, PartitionRef } from '@naru/protocol/proto';
import type { LoadedBatch } from './assigned-partition.ts';

export class AcquiredRecord {
  readonly partition: QueuePartition;
  readonly record: StreamedRecord;
  readonly batch: LoadedBatch;
  /** 1 for the first time. */
  readonly deliveryCount: number;
  readonly lockMs: number;
  /** Monotonic milliseconds. */
  lockedUntilMs: number;
  /** Until when its lock is renewed while it is handled; monotonic milliseconds, 0 before. */
  handledUntilMs = 0;
  /** What came of the last word on it, where somebody waits for that. */
  settled: Promise<Error | null> | null = null;
  #abort: AbortController | null = null;
  #lost: NaruError | null = null;

  constructor(
    partition: QueuePartition,
    record: StreamedRecord,
    batch: LoadedBatch,
    deliveryCount: number,
    lockMs: number,
    nowMs: number,
  ) {
    this.partition = partition;
    this.record = record;
    this.batch = batch;
    this.deliveryCount = deliveryCount;
    this.lockMs = lockMs;
    this.lockedUntilMs = nowMs + lockMs;
  }

  /** Aborts when the lock is lost. */
  get signal(): AbortSignal {
    this.#abort ??= new AbortController();
    if (this.#lost !== null) this.#abort.abort(this.#lost);
    return this.#abort.signal;
  }

  lost(error: NaruError): void {
    this.#lost = error;
    this.#abort?.abort(error);
  }
}

export class QueuePartition {
  readonly topic: string;
  readonly topicId: TopicId;
  readonly partition: number;
  readonly ref: PartitionRef;
  readonly key: PartitionKey;
  isPaused = false;
  isGone = false;
  /** Handlers at work. */
  running = 0;
  /** Of batches with records that are in hand. */
  bufferedBytes = 0;
  readonly #waiting: AcquiredRecord[] = [];
  /** Every record that is in hand, by offset. */
  readonly #inHand = new Map<number, AcquiredRecord>();

  constructor(topic: string, ref: PartitionRef) {
    this.topic = topic;
    this.ref = ref;
    this.topicId = topicIdFromBytes(ref.topicId);
    this.partition = ref.partition;
    this.key = partitionKey(this.topicId, ref.partition);
  }

  /** Records that nobody has begun with. */
  get waiting(): number {
    return this.#waiting.length;
  }

  inHand(): Iterable<AcquiredRecord> {
    return this.#inHand.values();
  }

  get inHandCount(): number {
    return this.#inHand.size;
  }

  /** @throws NaruError CORRUPT_MESSAGE */
  receive({ batches, ranges, lockMs: wide }: Acquired, nowMs: number, codecs: CompressionCodecs): void {
    const lockMs = Number(wide);
    let index = 0;
    for (const bytes of splitBatches(batches)) {
      const batch: LoadedBatch = { bytes, unfinished: 0, isExhausted: true };
      for (const record of iterateRecords(bytes, codecs)) {
        while (Number(ranges[index]?.offsets?.to ?? Infinity) <= record.offset) index += 1;
        const range = ranges[index];
        if (range?.offsets === undefined || record.offset < Number(range.offsets.from)) continue;
        // Its lock ended before this member noticed, and the broker gives it again.
        const before = this.#inHand.get(record.offset);
        if (before !== undefined) this.lose(before, 'its lock ended, and it was given again');
        batch.unfinished += 1;
        const acquired = new AcquiredRecord(this, record, batch, range.deliveryCount, lockMs, nowMs);
        this.#waiting.push(acquired);
        this.#inHand.set(record.offset, acquired);
      }
      if (batch.unfinished > 0) this.bufferedBytes += bytes.length;
    }
  }

  /** The next record to handle; null when there is none. */
  take(): AcquiredRecord | null {
    for (let next = this.#waiting.shift(); next !== undefined; next = this.#waiting.shift()) {
      if (this.isInHand(next)) return next;
    }
    return null;
  }

  /** Whether it is still this member's, and not settled. */
  isInHand(acquired: AcquiredRecord): boolean {
    return this.#inHand.get(acquired.record.offset) === acquired;
  }

  /** It is settled, or somebody else's. */
  letGo(acquired: AcquiredRecord): void {
    if (!this.isInHand(acquired)) return;
    this.#inHand.delete(acquired.record.offset);
    acquired.batch.unfinished -= 1;
    if (acquired.batch.unfinished === 0) this.bufferedBytes -= acquired.batch.bytes.length;
  }

  /** It is not this member's any more: what comes of it does not count. */
  lose(acquired: AcquiredRecord, reason: string): void {
    if (!this.isInHand(acquired)) return;
    this.letGo(acquired);
    acquired.lost(new NaruError('RECORD_LOCK_LOST', reason));
  }

  loseAll(reason: string): void {
    for (const acquired of this.#inHand.values()) this.lose(acquired, reason);
    this.#waiting.length = 0;
    this.isGone = true;
  }
}
