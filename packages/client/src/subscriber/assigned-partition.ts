/**
 * One partition that is the member's: what was fetched and not taken up, what is being handled, what is finished.
 *
 * Takes each offset up once and in order: batches and records below its position, and what an earlier owner finished, are
 * passed over. Offsets that the broker withholds for groups of a lower order are taken up when they come late: until then they
 * are begun and not finished. Events that the broker kept for the group come beside, and are in no offset. Does not talk to the
 * broker.
 */
import type { PartitionKey, TopicId } from '@naru/base';
import { partitionKey, toSafeInteger, topicIdFromBytes } from '@naru/base';
import { NaruError } from '@naru/protocol';
import type { StreamedRecord, CompressionCodecs, RecordReader } from '@naru/protocol/batch';
import { iterateRecords, openBatch, readBatchHeader, splitBatches } from '@naru/protocol/batch';
import type { HeldEvent, PartitionRef, AssignedPartition as WireAssignment } from '@naru/protocol/proto';
import { OutcomeBook } from './outcome-book.ts';
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
  readonly record: StreamedRecord;
  readonly batch: LoadedBatch;
  /** The partition's at that time; a seek replaces it. */
  readonly tracker: WatermarkTracker;
}

/** An event that the broker kept for the group. */
export interface ReturnedRecord {
  readonly record: StreamedRecord;
  /** Calls of handlers so far. */
  readonly attempts: number;
  /** Milliseconds since the Unix epoch; 0 when it has not failed. */
  readonly firstFailureMs: number;
  readonly isRedriven: boolean;
}

interface Reading {
  readonly batch: LoadedBatch;
  readonly records: RecordReader;
  readonly end: number;
  pushedBack?: StreamedRecord | undefined;
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
  /** What the names of its keys' lanes begin with: the same whenever this process is assigned the partition, and short. */
  readonly laneSpace: string;
  readonly #codecs: CompressionCodecs;
  readonly #abort = new AbortController();
  readonly #fetched: LoadedBatch[] = [];
  #current: Reading | null = null;
  /** The record that comes next, when it had to be looked at before its turn. */
  #next: StreamedRecord | null = null;
  /** Offsets that the broker has left out and not given yet. */
  readonly #withheld = new Set<number>();
  readonly #late: Reading[] = [];
  readonly #returned: ReturnedRecord[] = [];
  readonly outcomes: OutcomeBook;
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
  /** Offsets of kept events that the broker has given and whose outcome is not concluded. */
  readonly inHand = new Set<number>();
  /** Version of the tracker that was committed last. */
  committedVersion = 0;

  constructor(assignment: WireAssignment, ref: PartitionRef, codecs: CompressionCodecs) {
    this.topic = assignment.topic;
    this.ref = ref;
    this.topicId = topicIdFromBytes(ref.topicId);
    this.partition = ref.partition;
    this.key = partitionKey(this.topicId, ref.partition);
    this.laneSpace = laneSpaceOf(this.topicId, ref.partition);
    this.#codecs = codecs;
    this.fetchPosition = toSafeInteger(assignment.position, 'position');
    this.highWatermark = Number(assignment.highWatermark);
    const finished = assignment.finished.map(({ from, to }) => ({ from: Number(from), to: Number(to) }));
    this.tracker = new WatermarkTracker(this.fetchPosition, finished);
    this.outcomes = new OutcomeBook(assignment.blockedKeys);
  }

  /** Aborts when results no longer count. */
  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  get isTakeable(): boolean {
    if (this.state !== 'open' || this.isPaused) return false;
    return !this.#isScattered;
  }

  /** More would be finished than a commit can say before what is withheld comes. */
  get waitsForLate(): boolean {
    return this.#withheld.size > 0 && this.#isScattered;
  }

  get #isScattered(): boolean {
    // Late records fill the gaps between ranges.
    return this.tracker.ranges.length >= MAX_FINISHED_RANGES && this.#late.length === 0;
  }

  get hasUncommitted(): boolean {
    return this.tracker.version !== this.committedVersion || !this.outcomes.isEmpty;
  }

  /** Where to go on after a broken connection: at what was withheld, since the broker has forgotten that. */
  get resumePosition(): number {
    let position = this.fetchPosition;
    for (const offset of this.#withheld) position = Math.min(position, offset);
    return position;
  }

  /** Reads again from {@link resumePosition}; what was taken up is not taken up again. */
  resume(): void {
    const position = this.resumePosition;
    if (position === this.fetchPosition) return;
    this.dropFetched();
    this.fetchPosition = Math.min(position, this.tracker.position);
  }

  /**
   * Whole batches from the broker.
   *
   * @param withheld offsets that are not in them although later ones are
   */
  receive(bytes: Uint8Array, highWatermark: number, withheld: readonly bigint[] = []): void {
    this.highWatermark = highWatermark;
    for (const wide of withheld) {
      const offset = Number(wide);
      const isOver = offset < this.tracker.position ? this.tracker.isFinished(offset) : false;
      if (!isOver && (offset >= this.fetchPosition || this.#withheld.has(offset))) this.#withheld.add(offset);
    }
    for (const batch of splitBatches(bytes)) {
      const header = readBatchHeader(batch);
      const end = header.baseOffset + header.lastOffsetDelta + 1;
      if (end <= this.fetchPosition) continue; // sent again after a reconnection
      this.fetchPosition = end;
      this.#fetched.push({ bytes: batch, unfinished: 0, isExhausted: false });
      this.bufferedBytes += batch.length;
    }
  }

  /** Batches with records that were withheld. @param gone offsets that were, and hold nothing any more */
  receiveLate(bytes: Uint8Array, gone: readonly bigint[] = []): void {
    for (const wide of gone) {
      const offset = Number(wide);
      // One that was not passed over yet will be, like any that does not exist.
      if (this.#withheld.delete(offset) && offset < this.tracker.position) this.tracker.finish(offset);
    }
    for (const bytesOfBatch of splitBatches(bytes)) {
      const batch: LoadedBatch = { bytes: bytesOfBatch, unfinished: 0, isExhausted: false };
      this.bufferedBytes += bytesOfBatch.length;
      this.#late.push({ batch, records: openBatch(bytesOfBatch, this.#codecs), end: 0 });
    }
  }

  /** Events that the broker kept. One that is given again, because the broker has not heard of its outcome yet, is passed over. */
  receiveReturned(events: readonly HeldEvent[], keyIdOf: (record: StreamedRecord) => string): void {
    for (const { batch, attempts, firstFailureMs, redriven: isRedriven } of events) {
      for (const record of iterateRecords(batch, this.#codecs)) {
        const isKnown = this.inHand.has(record.offset) || this.outcomes.isConcluded(record.offset);
        if (isKnown) continue;
        this.inHand.add(record.offset);
        this.outcomes.keys.received(keyIdOf(record));
        this.#returned.push({ record, attempts, firstFailureMs: Number(firstFailureMs), isRedriven });
      }
    }
  }

  /** The next event that the broker kept; null when there is none. */
  takeReturned(): ReturnedRecord | null {
    return this.#returned.shift() ?? null;
  }

  /**
   * The next record to handle, marked as taken up; null when there is none in memory.
   *
   * @throws NaruError CORRUPT_MESSAGE
   */
  take(): TakenRecord | null {
    for (;;) {
      const record = this.#peek();
      const late = this.#late.length === 0 ? null : this.#takeLate(record?.offset ?? Number.POSITIVE_INFINITY);
      if (late !== null) return late;
      if (record === null) return null;
      const { batch } = this.#current as Reading;
      this.#next = null;
      const wasWithheld = this.#withheld.size > 0 && this.#withheld.delete(record.offset);
      if (record.offset < this.tracker.position) {
        // Read again after a reconnection: it was left out then.
        if (!wasWithheld || this.tracker.isFinished(record.offset)) continue;
      } else {
        if (this.tracker.isFinished(record.offset)) continue;
        this.#passOver(record.offset);
        this.tracker.begin(record.offset);
      }
      batch.unfinished += 1;
      return { record, batch, tracker: this.tracker };
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
    this.#dropLate();
    for (const { taken } of this.outcomes.dropRead()) if (taken !== null) this.letGo(taken.batch);
    this.fetchPosition = offset;
    this.tracker = new WatermarkTracker(offset);
    this.committedVersion = 0;
  }

  dropFetched(): void {
    this.#next = null;
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
    this.#dropLate();
    this.#returned.length = 0;
    this.#abort.abort(new NaruError('ABORTED', reason));
  }

  /** The record that comes next in order; null when there is none in memory. */
  #peek(): StreamedRecord | null {
    while (this.#next === null) {
      const current = this.#current ?? this.#load();
      if (current === null) return null;
      this.#next = current.records.next();
      if (this.#next !== null) break;
      this.#current = null;
      if (current.end > this.tracker.position) this.#passOver(current.end);
      current.batch.isExhausted = true;
      this.#release(current.batch);
    }
    return this.#next;
  }

  /** The next late record before `limit`, which is the next in order: those of a key come in its order. */
  #takeLate(limit: number): TakenRecord | null {
    for (let reading = this.#late[0]; reading !== undefined; reading = this.#late[0]) {
      const record = reading.pushedBack ?? reading.records.next();
      reading.pushedBack = undefined;
      if (record === null) {
        this.#late.shift();
        reading.batch.isExhausted = true;
        this.#release(reading.batch);
        continue;
      }
      if (record.offset > limit) {
        reading.pushedBack = record;
        return null;
      }
      if (!this.#withheld.delete(record.offset)) continue; // given twice, or from before a seek
      if (record.offset >= this.tracker.position) {
        this.#passOver(record.offset);
        this.tracker.begin(record.offset);
      }
      reading.batch.unfinished += 1;
      return { record, batch: reading.batch, tracker: this.tracker };
    }
    return null;
  }

  /** There is nothing in order before `offset`; what is withheld there is begun. */
  #passOver(offset: number): void {
    if (this.#withheld.size > 0) {
      const before = [...this.#withheld].filter((one) => one >= this.tracker.position && one < offset);
      for (const one of before.sort((a, b) => a - b)) if (!this.tracker.isFinished(one)) this.tracker.begin(one);
    }
    if (offset > this.tracker.position) this.tracker.skipTo(offset);
  }

  #dropLate(): void {
    for (const { batch } of this.#late) {
      batch.isExhausted = true;
      this.#release(batch);
    }
    this.#late.length = 0;
    this.#withheld.clear();
  }

  #load(): Reading | null {
    for (;;) {
      const batch = this.#fetched.shift();
      if (batch === undefined) return null;
      const header = readBatchHeader(batch.bytes);
      const end = header.baseOffset + header.lastOffsetDelta + 1;
      if (header.isControl) {
        if (end > this.tracker.position) this.#passOver(end);
        batch.isExhausted = true;
        this.#release(batch);
        continue;
      }
      this.#current = { batch, records: openBatch(batch.bytes, this.#codecs), end };
      return this.#current;
    }
  }

  #release(batch: LoadedBatch): void {
    if (batch.isExhausted && batch.unfinished === 0) this.bufferedBytes -= batch.bytes.length;
  }
}

/** A number for each topic that this process has had partitions of. */
const topicNumbers = new Map<TopicId, number>();

function laneSpaceOf(topicId: TopicId, partition: number): string {
  const number = topicNumbers.get(topicId) ?? topicNumbers.size;
  topicNumbers.set(topicId, number);
  return `${number}:${partition}`;
}
