/**
 * One partition that is the member's: what was fetched and not taken up, what is being handled, what is finished.
 *
 * Takes each offset up once and in order: batches and records below its position, and what an earlier owner finished, are
 * passed over. Does not talk to the broker.
 */
import type { PartitionKey, TopicId } from '@naru/base';
import { partitionKey, toSafeInteger, topicIdFromBytes } from '@naru/base';
import { NaruError } from '@naru/protocol';
import type { BatchRecord, CompressionCodecs } from '@naru/protocol/batch';
import { iterateRecords, readBatchHeader, splitBatches } from '@naru/protocol/batch';
import type { AssignedPartition as WireAssignment, PartitionRef } from '@naru/protocol/proto';
import { WatermarkTracker } from './watermark-tracker.ts';

/** As many as the broker keeps with a commit. */
export const MAX_FINISHED_RANGES = 1_000;

/** A batch in memory, until every record in it is finished. */
export interface LoadedBatch {
  readonly bytes: Uint8Array;
  /** Records taken up and not finished. */
  unfinished: number;
  isExhausted: boolean;
}

export interface TakenRecord {
  readonly record: BatchRecord;
  readonly batch: LoadedBatch;
  /** The partition's at that time; a seek replaces it. */
  readonly tracker: WatermarkTracker;
}

export type PartitionState =
  /** Waiting for the user's onAssigned. */
  | 'opening'
  | 'open'
  /** To be given up: nothing new is taken up. */
  | 'revoking'
  /** No longer the member's. */
  | 'gone';

export class AssignedPartition {
  readonly topic: string;
  readonly topicId: TopicId;
  readonly partition: number;
  readonly ref: PartitionRef;
  readonly key: PartitionKey;
  readonly #codecs: CompressionCodecs;
  readonly #abort = new AbortController();
  readonly #fetched: LoadedBatch[] = [];
  #current: { batch: LoadedBatch; records: Iterator<BatchRecord>; end: number } | null = null;
  tracker: WatermarkTracker;
  state: PartitionState = 'opening';
  isPaused = false;
  /** Next offset to get from the broker. */
  fetchPosition: number;
  highWatermark: number;
  /** Bytes of batches that are not finished. */
  bufferedBytes = 0;
  /** Handlers at work. */
  running = 0;
  /** Version of the tracker that was committed last. */
  committedVersion = 0;

  constructor(assignment: WireAssignment, ref: PartitionRef, codecs: CompressionCodecs) {
    this.topic = assignment.topic;
    this.ref = ref;
    this.topicId = topicIdFromBytes(ref.topicId);
    this.partition = ref.partition;
    this.key = partitionKey(this.topicId, ref.partition);
    this.#codecs = codecs;
    this.fetchPosition = toSafeInteger(assignment.position, 'position');
    this.highWatermark = Number(assignment.highWatermark);
    const finished = assignment.finished.map(({ from, to }) => ({ from: Number(from), to: Number(to) }));
    this.tracker = new WatermarkTracker(this.fetchPosition, finished);
  }

  /** Aborts when results no longer count. */
  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  get isTakeable(): boolean {
    return this.state === 'open' && !this.isPaused && this.tracker.ranges.length < MAX_FINISHED_RANGES;
  }

  get hasUncommitted(): boolean {
    return this.tracker.version !== this.committedVersion;
  }

  /** Whole batches from the broker. */
  receive(bytes: Uint8Array, highWatermark: number): void {
    this.highWatermark = highWatermark;
    for (const batch of splitBatches(bytes)) {
      const header = readBatchHeader(batch);
      const end = header.baseOffset + header.lastOffsetDelta + 1;
      if (end <= this.fetchPosition) continue; // sent again after a reconnection
      this.fetchPosition = end;
      this.#fetched.push({ bytes: batch, unfinished: 0, isExhausted: false });
      this.bufferedBytes += batch.length;
    }
  }

  /**
   * The next record to handle, marked as taken up; null when there is none in memory.
   *
   * @throws NaruError CORRUPT_MESSAGE
   */
  take(): TakenRecord | null {
    for (;;) {
      const current = this.#current ?? this.#load();
      if (current === null) return null;
      const next = current.records.next();
      if (next.done === true) {
        this.#current = null;
        if (current.end > this.tracker.position) this.tracker.skipTo(current.end);
        current.batch.isExhausted = true;
        this.#release(current.batch);
        continue;
      }
      const record = next.value;
      if (record.offset < this.tracker.position || this.tracker.isFinished(record.offset)) continue;
      this.tracker.begin(record.offset);
      current.batch.unfinished += 1;
      return { record, batch: current.batch, tracker: this.tracker };
    }
  }

  /** Handling is over. It counts unless a seek came between. */
  finish({ record, batch, tracker }: TakenRecord): void {
    tracker.finish(record.offset);
    this.letGo(batch);
  }

  /** The record's memory is no longer needed. */
  letGo(batch: LoadedBatch): void {
    batch.unfinished -= 1;
    this.#release(batch);
  }

  /** Whether the record was taken up before a seek, or the partition is no longer handled. */
  isStale(taken: TakenRecord): boolean {
    return taken.tracker !== this.tracker || this.state !== 'open';
  }

  /** Goes on from `offset`; what is finished is forgotten. */
  moveTo(offset: number): void {
    this.dropFetched();
    this.fetchPosition = offset;
    this.tracker = new WatermarkTracker(offset);
    this.committedVersion = 0;
  }

  dropFetched(): void {
    for (const batch of this.#fetched) this.bufferedBytes -= batch.bytes.length;
    this.#fetched.length = 0;
    if (this.#current !== null) {
      this.#current.batch.isExhausted = true;
      this.#release(this.#current.batch);
      this.#current = null;
    }
  }

  /** Results no longer count from here on. */
  abandon(reason: string): void {
    this.state = 'gone';
    this.dropFetched();
    this.#abort.abort(new NaruError('ABORTED', reason));
  }

  #load(): { batch: LoadedBatch; records: Iterator<BatchRecord>; end: number } | null {
    for (;;) {
      const batch = this.#fetched.shift();
      if (batch === undefined) return null;
      const header = readBatchHeader(batch.bytes);
      const end = header.baseOffset + header.lastOffsetDelta + 1;
      if (header.isControl) {
        if (end > this.tracker.position) this.tracker.skipTo(end);
        batch.isExhausted = true;
        this.#release(batch);
        continue;
      }
      this.#current = { batch, records: iterateRecords(batch.bytes, this.#codecs)[Symbol.iterator](), end };
      return this.#current;
    }
  }

  #release(batch: LoadedBatch): void {
    if (batch.isExhausted && batch.unfinished === 0) this.bufferedBytes -= batch.bytes.length;
  }
}
