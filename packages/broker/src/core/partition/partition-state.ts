/**
 * One partition's rules: which batch is taken, at which offset.
 *
 * Owns the end offset, the leader epochs, the producers and their transactions. Does not own the bytes (log store) or what is
 * durable (the runtime's high watermark), nor what a transaction is beyond the partition (core/transaction).
 *
 * Invariants: offsets are given in order and never twice; `evolve*` functions are the only writers, in recovery too.
 */
import { assert, type PartitionKey } from '@naru/base';
import { refuse, type Refusal } from '@naru/protocol';
import { decodeControlMarker, type BatchHeader, type ControlMarker } from '@naru/protocol/batch';
import { AgeMarks } from './age-marks.ts';
import { decideSequence, evolveMarker, evolveProducer, type ProducerState } from './producer-state.ts';
import { TransactionIndex } from './transaction-index.ts';

/** A producer that wrote nothing for this long is forgotten when there are too many; Kafka's producer.id.expiration.ms. */
export const PRODUCER_EXPIRY_MS = 24 * 3_600_000;
/** Transactions of a partition that were aborted, or may yet be, where limits say nothing else. */
export const DEFAULT_MAX_ABORTED = 100_000;

/** Offsets stay this far below the largest safe integer. */
const MAX_OFFSET = Number.MAX_SAFE_INTEGER - 2 ** 32;

/** The first offset written in a leader epoch (KIP-101). */
export interface EpochStart {
  readonly epoch: number;
  readonly startOffset: number;
}

export interface PartitionState {
  readonly partition: PartitionKey;
  /** First offset that can be read. */
  logStartOffset: number;
  /** The offset that the next record gets. */
  endOffset: number;
  /** After the last record that is not a transaction's marker; never below the log start. */
  dataEndOffset: number;
  /** Oldest first; the last is the epoch in force. */
  epochs: EpochStart[];
  readonly producers: Map<number, ProducerState>;
  /** When what was stored; advisory, as of durable records. */
  readonly ages: AgeMarks;
  readonly transactions: TransactionIndex;
}

export interface PartitionLimits {
  /** Bytes of a whole batch. */
  readonly maxBatchBytes: number;
  /** Producers remembered at once. */
  readonly maxProducers: number;
  /** Transactions that are open or remembered as aborted. Default {@link DEFAULT_MAX_ABORTED}. */
  readonly maxAborted?: number | undefined;
}

export type AppendDecision =
  | { readonly kind: 'append'; readonly baseOffset: number }
  | { readonly kind: 'duplicate'; readonly baseOffset: number }
  | ({ readonly kind: 'refused' } & Refusal);

export function newPartitionState(partition: PartitionKey, startOffset = 0): PartitionState {
  return {
    partition,
    logStartOffset: startOffset,
    endOffset: startOffset,
    dataEndOffset: startOffset,
    epochs: [],
    producers: new Map(),
    ages: new AgeMarks(),
    transactions: new TransactionIndex(),
  };
}

/** The leader epoch in force; 0 before the first. */
export function leaderEpoch(state: PartitionState): number {
  return state.epochs.at(-1)?.epoch ?? 0;
}

/** Everything below is decided, as far as readers may know: before the first open transaction. Never below the log start. */
export function lastStableOffset(state: PartitionState, highWatermark: number): number {
  return Math.max(state.logStartOffset, state.transactions.lastStableOffset(highWatermark));
}

/** The marker in a batch that is stored; null for every other batch. */
export function markerIn(batch: Uint8Array, { isControl }: Pick<BatchHeader, 'isControl'>): ControlMarker | null {
  return isControl ? decodeControlMarker(batch) : null;
}

/** Under which the record at `offset` was written; undefined when the log does not reach there. */
export function epochAt(state: PartitionState, offset: number): number | undefined {
  if (offset >= state.endOffset) return undefined;
  return state.epochs.findLast((entry) => entry.startOffset <= offset)?.epoch;
}

/**
 * Where an epoch ended: the largest epoch that is not above `asked`, and the offset after its last record. Null beyond the one
 * in force.
 *
 * @param inForce of what is written now, even if nothing has been
 */
export function epochEnd(
  state: PartitionState,
  asked: number,
  inForce: number,
): { readonly epoch: number; readonly endOffset: number } | null {
  if (asked > inForce) return null;
  if (asked === inForce) return { epoch: asked, endOffset: state.endOffset };
  const above = state.epochs.find((entry) => entry.epoch > asked);
  const endOffset = above === undefined ? state.endOffset : above.startOffset;
  const known = state.epochs.findLast((entry) => entry.epoch <= asked);
  return { epoch: known?.epoch ?? asked, endOffset: Math.max(endOffset, state.logStartOffset) };
}

/**
 * Whether and where a batch of a publisher is stored.
 *
 * Refuses with RECORD_TOO_LARGE, INVALID_RECORD (control batches are the broker's own), TOO_MANY_PRODUCERS,
 * TOO_MANY_TRANSACTIONS, INVALID_TXN_STATE (not in the transaction that the producer has open) and the sequence errors of
 * {@link decideSequence}. Whether the producer may write in a transaction is not asked here.
 */
export function decideAppend(
  state: PartitionState,
  batch: BatchHeader,
  nowMs: number,
  limits: PartitionLimits,
): AppendDecision {
  if (batch.sizeBytes > limits.maxBatchBytes) {
    return refused('RECORD_TOO_LARGE', `the batch has ${batch.sizeBytes} bytes, the limit is ${limits.maxBatchBytes}`);
  }
  if (batch.isControl) return refused('INVALID_RECORD', 'control batches are written by the broker only');
  if (batch.recordCount < 1 || batch.lastOffsetDelta !== batch.recordCount - 1) {
    return refused(
      'INVALID_RECORD',
      `a batch of ${batch.recordCount} records must have the last offset delta ${batch.recordCount - 1}, not ${batch.lastOffsetDelta}`,
    );
  }
  if (batch.isTransactional && batch.producerId < 0)
    return refused('INVALID_RECORD', 'a transactional batch must have a producer id');
  if (batch.producerId >= 0) {
    const decision = decideProducer(state, batch, nowMs);
    if (decision.kind !== 'append') return decision;
    const unfit = transactionRefusal(state, batch, limits);
    if (unfit !== null) return unfit;
    if (!state.producers.has(batch.producerId) && state.producers.size >= limits.maxProducers) {
      expireProducers(state, nowMs);
      if (state.producers.size >= limits.maxProducers) {
        return refused(
          'TOO_MANY_PRODUCERS',
          `${limits.maxProducers} producers wrote to this partition within a day, which is its limit`,
        );
      }
    }
  }
  assert(state.endOffset + batch.recordCount < MAX_OFFSET, 'offsets are exhausted');
  return { kind: 'append', baseOffset: state.endOffset };
}

function transactionRefusal(
  { transactions }: PartitionState,
  { producerId, isTransactional }: BatchHeader,
  { maxAborted = DEFAULT_MAX_ABORTED }: PartitionLimits,
): AppendDecision | null {
  const isOpen = transactions.openSince(producerId) !== undefined;
  if (!isTransactional) {
    if (!isOpen) return null;
    return refused(
      'INVALID_TXN_STATE',
      `producer ${producerId} has a transaction open here, of which the batch is no part`,
    );
  }
  if (isOpen || transactions.size < maxAborted) return null;
  return refused(
    'TOO_MANY_TRANSACTIONS',
    `${maxAborted} transactions of this partition are open, or aborted and not yet deleted, which is its limit`,
  );
}

/**
 * Applies a stored batch, new or replayed.
 *
 * @param batch with the leader epoch filled in
 * @param marker what {@link markerIn} finds in the batch
 * @param baseOffset the batch's own in the log
 * @param seenAtMs the broker's clock, from which the producer's expiry counts; the batch's timestamps are the client's to choose
 */
export function evolveAppend(
  state: PartitionState,
  batch: BatchHeader,
  marker: ControlMarker | null,
  baseOffset: number,
  seenAtMs: number,
): void {
  assert(
    baseOffset >= state.endOffset,
    `batch at ${baseOffset} below end offset ${state.endOffset} of ${state.partition}`,
  );
  if (state.epochs.length === 0 || leaderEpoch(state) < batch.partitionLeaderEpoch) {
    state.epochs.push({ epoch: batch.partitionLeaderEpoch, startOffset: baseOffset });
  }
  if (batch.producerId >= 0 && !batch.isControl) {
    const known = state.producers.get(batch.producerId);
    const next = evolveProducer(known, batch, baseOffset, seenAtMs);
    if (next !== known) state.producers.set(batch.producerId, next);
    if (batch.isTransactional) state.transactions.written(batch.producerId, baseOffset);
  }
  state.endOffset = baseOffset + batch.lastOffsetDelta + 1;
  if (!batch.isControl) state.dataEndOffset = state.endOffset;
  if (marker !== null) endTransaction(state, marker, baseOffset, seenAtMs);
}

/** Who has written nothing here needs no fence: nothing of it is known that could be repeated. */
function endTransaction(state: PartitionState, marker: ControlMarker, baseOffset: number, seenAtMs: number): void {
  const { producerId, producerEpoch, type } = marker;
  state.transactions.ended(producerId, type === 'commit', baseOffset);
  const known = state.producers.get(producerId);
  if (known !== undefined) state.producers.set(producerId, evolveMarker(known, producerEpoch, seenAtMs));
}

export function evolveTruncated(state: PartitionState, endOffset: number): void {
  state.endOffset = Math.min(state.endOffset, endOffset);
  state.dataEndOffset = Math.min(state.dataEndOffset, endOffset);
  state.epochs = state.epochs.filter((entry) => entry.startOffset < endOffset);
  for (const [producerId, producer] of state.producers) {
    producer.batches = producer.batches.filter((batch) => batch.baseOffset < endOffset);
    if (producer.batches.length === 0) state.producers.delete(producerId);
  }
  state.ages.truncated(endOffset);
  state.transactions.truncated(endOffset);
}

export function evolveDeletedBefore(state: PartitionState, offset: number): void {
  state.logStartOffset = Math.max(state.logStartOffset, offset);
  state.endOffset = Math.max(state.endOffset, state.logStartOffset);
  state.dataEndOffset = Math.max(state.dataEndOffset, state.logStartOffset);
  while (state.epochs.length > 1 && (state.epochs[1] as EpochStart).startOffset <= state.logStartOffset)
    state.epochs.shift();
  state.ages.deletedBefore(state.logStartOffset);
  state.transactions.deletedBefore(state.logStartOffset);
}

/**
 * A producer whose time is over and that is still remembered goes on where it was, as with Kafka; what does not follow is
 * judged as if it were not known. One that really was forgotten must begin anew: Kafka takes its batch at any sequence, also
 * when an earlier one was refused just before and is about to be repeated, which would then come after it.
 */
function decideProducer(state: PartitionState, batch: BatchHeader, nowMs: number): ReturnType<typeof decideSequence> {
  const decision = decideSequence(state.producers.get(batch.producerId), batch);
  const isJudged = decision.kind !== 'refused' || liveProducer(state, batch.producerId, nowMs) !== undefined;
  return isJudged ? decision : decideSequence(undefined, batch);
}

/** Forgets producers that have been silent for {@link PRODUCER_EXPIRY_MS}, but none with an open transaction. */
export function expireProducers(state: PartitionState, nowMs: number): void {
  for (const producerId of state.producers.keys()) {
    if (liveProducer(state, producerId, nowMs) === undefined) state.producers.delete(producerId);
  }
}

function liveProducer(state: PartitionState, producerId: number, nowMs: number): ProducerState | undefined {
  const producer = state.producers.get(producerId);
  if (producer === undefined || nowMs - producer.lastTimestampMs <= PRODUCER_EXPIRY_MS) return producer;
  return state.transactions.openSince(producerId) === undefined ? undefined : producer;
}

function refused(code: Refusal['code'], message: string): AppendDecision {
  return { kind: 'refused', ...refuse(code, message) };
}
