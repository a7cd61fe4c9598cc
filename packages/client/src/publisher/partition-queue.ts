/**
 * The unacknowledged batches of one partition, in order, and their idempotent identity (producer id, epoch, sequence).
 *
 * A state machine without any I/O: the publisher asks what to send next and tells what came of it.
 *
 * ```
 * gathering → sent → acknowledged
 *              ├→ unknown   the stream broke, or a failure that leaves it open: sent again with the same sequence
 *              └→ unstored  refused for its sequence: sent again, after a new epoch where the epoch is the reason
 * ```
 *
 * Invariants
 * - Batches are sent in order, and repeated in order. Sequences of one epoch have no gaps.
 * - After any error answer nothing is sent until every batch on the stream is answered (`draining`), and then not before
 *   the back-off is over.
 * - A new epoch is begun only when nothing of the old one is sent or unknown. So nothing can be stored twice or overtaken:
 *   a batch that still arrives late under the old epoch is fenced.
 * - In transactions the identity is the transaction's: its epochs are not the queue's to begin. After a batch that is refused
 *   for good, or given up, nothing is sent until the next transaction; whatever is left is the owner's to give up.
 */
import type { TopicId } from '@naru/base';
import { assert, topicIdToBytes } from '@naru/base';
import type { NaruError } from '@naru/protocol';
import type { CompressionCodecs, CompressionType } from '@naru/protocol/batch';
import type { OutgoingBatch } from './outgoing-batch.ts';

/** Sequences are 31 bits and wrap to 0 (KIP-98). */
const SEQUENCES = 2 ** 31;
/** Epochs are 15 bits. */
const MAX_EPOCH = 2 ** 15 - 1;

/** Under what batches of transactions are sent. Another one may be put in when no queue has anything unsettled. */
export interface TransactionIdentity {
  producerId: number;
  /** Of one transaction alone. */
  producerEpoch: number;
}

export interface PartitionQueueOptions {
  readonly topic: string;
  readonly topicId: TopicId;
  readonly partition: number;
  readonly maxInFlight: number;
  readonly lingerMs: number;
  readonly compression: CompressionType;
  readonly codecs: CompressionCodecs;
  /** Of a producer that writes in transactions only. */
  readonly transaction?: TransactionIdentity | undefined;
}

/** What an answer means to the publishes in the batch. */
export type Outcome =
  /** The batch is stored, or refused for good: settle it. */
  | 'settle'
  /** It will be sent again. */
  | 'again';

export class PartitionQueue {
  readonly options: PartitionQueueOptions;
  readonly topicIdBytes: Uint8Array;
  #open: OutgoingBatch | null = null;
  readonly #closed: OutgoingBatch[] = [];
  /** Built, in order, not settled. */
  readonly #inFlight: OutgoingBatch[] = [];
  #mode: 'sending' | 'draining' | 'backing-off' = 'sending';
  #newEpochDue = false;
  #producerId = -1;
  #epoch = 0;
  #nextSequence = 0;
  #nextOrdinal = 0;
  /** Size of the batch that was closed last, before compression. */
  lastBatchBytes = 0;
  /** Error answers in a row. */
  failures = 0;
  /** The last of them; null when the last answer was none. */
  lastError: NaruError | null = null;

  constructor(options: PartitionQueueOptions) {
    this.options = options;
    this.topicIdBytes = topicIdToBytes(options.topicId);
  }

  /** The batch that takes records now. */
  get open(): OutgoingBatch | null {
    return this.#open;
  }

  get isEmpty(): boolean {
    return this.#open === null && this.#closed.length === 0 && this.#inFlight.length === 0;
  }

  get epoch(): number {
    return this.#epoch;
  }

  /** Whether everything that was taken is on the stream and not refused: a commit may go behind it. */
  get isAllSent(): boolean {
    if (this.#open !== null || this.#closed.length > 0 || this.#mode !== 'sending' || this.#newEpochDue) return false;
    return this.#inFlight.every(({ state }) => state === 'sent');
  }

  /** Whether the transaction is the one that was last written in here. */
  isOf(transaction: { readonly producerId: bigint; readonly producerEpoch: number }): boolean {
    return this.#producerId === Number(transaction.producerId) && this.#epoch === transaction.producerEpoch;
  }

  /** After the last record that was built in the epoch. */
  get nextSequence(): number {
    return this.#nextSequence;
  }

  /** Every unsettled batch, in order. */
  batches(): OutgoingBatch[] {
    const all = [...this.#inFlight, ...this.#closed];
    if (this.#open !== null) all.push(this.#open);
    return all;
  }

  /** Closes the open batch, if any, and begins `batch`. */
  begin(batch: OutgoingBatch): void {
    if (this.#open !== null) {
      this.lastBatchBytes = this.#open.sizeBytes;
      this.#closed.push(this.#open);
    }
    this.#open = batch;
  }

  /** Milliseconds until the open batch has waited long enough; Infinity when there is nothing to wait for. */
  lingerLeftMs(nowMs: number): number {
    const batch = this.#open;
    return batch === null ? Number.POSITIVE_INFINITY : batch.createdMs + this.options.lingerMs - nowMs;
  }

  /**
   * The next batch to put on the stream, built, or null for none now. The caller sends it and calls {@link sent}.
   * One that could not be built has a `buildError`, is no longer in the queue, and is the caller's to settle.
   */
  next(producerId: number, nowMs: number): OutgoingBatch | null {
    const { transaction } = this.options;
    if (transaction !== undefined) this.#beginTransaction(transaction);
    if (this.#mode !== 'sending') return null;
    if (transaction === undefined) this.#adopt(producerId);
    for (const batch of this.#inFlight) {
      if (batch.state === 'unknown') return batch;
      if (batch.state === 'unstored' && !this.#newEpochDue) return batch;
    }
    if (this.#newEpochDue || this.#isWindowFull()) return null;
    const batch = this.#takeUnbuilt(nowMs);
    if (batch === null) return null;
    const { compression, codecs } = this.options;
    const identity = {
      producerId: this.#producerId,
      producerEpoch: this.#epoch,
      baseSequence: this.#nextSequence,
      isTransactional: transaction !== undefined,
    };
    if (!batch.build({ ...identity, compression }, codecs)) return batch;
    this.#nextSequence = (this.#nextSequence + batch.count) % SEQUENCES;
    batch.ordinal = this.#nextOrdinal++;
    this.#inFlight.push(batch);
    return batch;
  }

  sent(batch: OutgoingBatch, nowMs: number): void {
    batch.sentAsHead = this.#inFlight[0] === batch;
    batch.state = 'sent';
    batch.sentMs = nowMs;
  }

  /** The broker's answer to a batch that is `sent`; null when it is stored. */
  answered(batch: OutgoingBatch, error: NaruError | null): Outcome {
    assert(batch.state === 'sent', 'only a batch on the stream is answered');
    const outcome = this.#judge(batch, error);
    if (outcome === 'settle') this.#remove(batch);
    this.#advance();
    return outcome;
  }

  /** The stream broke: whatever was on it has to be sent again. */
  streamLost(): void {
    for (const batch of this.#inFlight) if (batch.state === 'sent') batch.state = 'unknown';
    this.#advance();
  }

  /** Gives `batch` up. The caller settles it. */
  abandon(batch: OutgoingBatch): void {
    if (this.#open === batch) {
      this.#open = null;
      return;
    }
    const closed = this.#closed.indexOf(batch);
    if (closed >= 0) {
      this.#closed.splice(closed, 1);
      return;
    }
    this.#remove(batch);
    // Its sequences are gone, or worse, will be stored after all.
    this.#newEpochDue = true;
    this.#advance();
  }

  /** Whether the owner should now wait before going on; it then calls {@link resume}. */
  get wantsBackoff(): boolean {
    return this.#mode === 'backing-off';
  }

  resume(): void {
    if (this.#mode === 'backing-off') this.#mode = 'sending';
  }

  /** Sequences begin at 0 with every transaction, whatever became of the last one. */
  #beginTransaction({ producerId, producerEpoch }: TransactionIdentity): void {
    if (this.#producerId === producerId && this.#epoch === producerEpoch) return;
    assert(this.#inFlight.length === 0, 'nothing of a transaction is on its way when the next one begins');
    this.#producerId = producerId;
    this.#epoch = producerEpoch;
    this.#nextSequence = 0;
    this.#newEpochDue = false;
    this.#mode = 'sending';
    this.failures = 0;
    this.lastError = null;
  }

  /** Nothing was stored under the sequences of another producer id, as far as the broker knows: begin again. */
  #adopt(producerId: number): void {
    if (this.#producerId === producerId) return;
    const isFirst = this.#producerId === -1;
    this.#producerId = producerId;
    if (isFirst) return;
    this.#newEpochDue = false;
    this.#renumber(0);
  }

  #judge(batch: OutgoingBatch, error: NaruError | null): Outcome {
    if (error === null) {
      this.failures = 0;
      this.lastError = null;
      return 'settle';
    }
    // A batch that is stored, but so long ago that the broker no longer knows where: its successors are in order.
    if (error.code === 'DUPLICATE_SEQUENCE_NUMBER') return 'settle';
    this.failures += 1;
    this.lastError = error;
    this.#mode = 'draining';
    if (error.code === 'OUT_OF_ORDER_SEQUENCE_NUMBER') {
      if (batch.sentAsHead && this.options.transaction !== undefined) return this.#refused();
      batch.state = 'unstored';
      // With everything before it answered, the sequence itself is wrong: the broker's last one is not ours.
      if (batch.sentAsHead) this.#newEpochDue = true;
      return 'again';
    }
    const isOfEpoch = error.code === 'UNKNOWN_PRODUCER_ID' || error.code === 'INVALID_PRODUCER_EPOCH';
    if (isOfEpoch && this.options.transaction === undefined) {
      batch.state = 'unstored';
      this.#newEpochDue = true;
      return this.#epoch < MAX_EPOCH ? 'again' : 'settle';
    }
    if (error.retriable) {
      // A write that failed may turn out to be stored after the broker's recovery.
      batch.state = 'unknown';
      return 'again';
    }
    return this.#refused();
  }

  #refused(): Outcome {
    this.#newEpochDue = true;
    return 'settle';
  }

  #advance(): void {
    const isOnStream = this.#inFlight.some((batch) => batch.state === 'sent');
    if (isOnStream) return;
    if (this.#mode === 'draining') this.#mode = 'backing-off';
    if (this.options.transaction !== undefined) return;
    if (this.#newEpochDue && this.#inFlight.every((batch) => batch.state === 'unstored')) {
      this.#newEpochDue = false;
      assert(this.#epoch < MAX_EPOCH, 'a partition needed more producer epochs than there are');
      this.#renumber(this.#epoch + 1);
    }
  }

  #renumber(epoch: number): void {
    this.#epoch = epoch;
    this.#nextSequence = 0;
    for (const batch of this.#inFlight) {
      batch.renumber({ producerId: this.#producerId, producerEpoch: epoch, baseSequence: this.#nextSequence });
      batch.state = 'unstored';
      this.#nextSequence = (this.#nextSequence + batch.count) % SEQUENCES;
    }
  }

  /**
   * Counted from the oldest unanswered batch, also where later ones have been answered: should it have to be sent again,
   * the broker must still remember it.
   */
  #isWindowFull(): boolean {
    const oldest = this.#inFlight[0];
    return oldest !== undefined && this.#nextOrdinal - oldest.ordinal >= this.options.maxInFlight;
  }

  #takeUnbuilt(nowMs: number): OutgoingBatch | null {
    const closed = this.#closed.shift();
    if (closed !== undefined) return closed;
    const open = this.#open;
    if (open === null) return null;
    // While a batch is being stored the next one gathers; alone, a record goes as soon as it has lingered.
    const isDue = open.urgent || (this.#inFlight.length === 0 && this.lingerLeftMs(nowMs) <= 0);
    if (!isDue) return null;
    this.lastBatchBytes = open.sizeBytes;
    this.#open = null;
    return open;
  }

  #remove(batch: OutgoingBatch): void {
    const index = this.#inFlight.indexOf(batch);
    assert(index >= 0, 'a batch is in flight until it is settled');
    this.#inFlight.splice(index, 1);
  }
}
