/**
 * Idempotent publishing: what a partition remembers of each producer (KIP-98).
 *
 * Owns the sequence rules. Does not own offsets or expiry times of anything else.
 *
 * Invariants: at most {@link REMEMBERED_BATCHES} batches per producer, all of its current epoch, in sequence order; changed
 * only when a batch is queued for the journal, never by a refused one.
 */
import { refuse, type Refusal } from '@naru/protocol';

/** How many batches a producer may have in flight and still be recognised when it repeats them; Kafka's figure. */
export const REMEMBERED_BATCHES = 5;

const SEQUENCE_MODULUS = 2 ** 31;

export interface ProducedBatch {
  readonly firstSequence: number;
  readonly lastSequence: number;
  readonly baseOffset: number;
}

export interface ProducerState {
  epoch: number;
  /** Oldest first. Empty right after a new epoch began with a control record. */
  batches: ProducedBatch[];
  /** When the producer last wrote here; milliseconds since the Unix epoch. */
  lastTimestampMs: number;
}

/** What a batch says of its producer. */
export interface ProducerClaim {
  readonly producerId: number;
  readonly producerEpoch: number;
  readonly baseSequence: number;
  /** One less than the sequences that it takes; compaction may have left fewer records. */
  readonly lastOffsetDelta: number;
}

export type SequenceDecision =
  | { readonly kind: 'append' }
  /** The batch is stored already, at this offset. */
  | { readonly kind: 'duplicate'; readonly baseOffset: number }
  | ({ readonly kind: 'refused' } & Refusal);

const APPEND: SequenceDecision = { kind: 'append' };

/** The sequence `count` after `sequence`; wraps from 2³¹−1 to 0. */
export function advanceSequence(sequence: number, count: number): number {
  return (sequence + count) % SEQUENCE_MODULUS;
}

export function decideSequence(state: ProducerState | undefined, claim: ProducerClaim): SequenceDecision {
  const { producerEpoch: epoch, baseSequence: first } = claim;
  if (epoch < 0 || first < 0) {
    return refused(
      'INVALID_RECORD',
      `producer ${claim.producerId} sent epoch ${epoch} and sequence ${first}; both must be 0 or more`,
    );
  }
  if (state === undefined || epoch > state.epoch) {
    // A producer that this partition does not know (any more) may begin anywhere only if it begins.
    if (first === 0) return APPEND;
    return state === undefined
      ? refused(
          'UNKNOWN_PRODUCER_ID',
          `producer ${claim.producerId} is not known here, so its sequence must begin at 0, not ${first}`,
        )
      : refused(
          'OUT_OF_ORDER_SEQUENCE_NUMBER',
          `producer ${claim.producerId} began epoch ${epoch} at sequence ${first}, expected 0`,
        );
  }
  if (epoch < state.epoch) {
    return refused(
      'INVALID_PRODUCER_EPOCH',
      `producer ${claim.producerId} has epoch ${epoch}, but epoch ${state.epoch} is in force`,
    );
  }
  const last = advanceSequence(first, claim.lastOffsetDelta);
  for (const batch of state.batches) {
    if (batch.firstSequence === first && batch.lastSequence === last)
      return { kind: 'duplicate', baseOffset: batch.baseOffset };
  }
  const newest = state.batches.at(-1);
  const oldest = state.batches[0];
  const expected = newest === undefined ? 0 : advanceSequence(newest.lastSequence, 1);
  if (first === expected) return APPEND;
  // Producers take this for stored. So it is not said of a batch that is remembered with other bounds, and may hold more.
  if (oldest !== undefined && isBefore(last, oldest.firstSequence)) {
    return refused(
      'DUPLICATE_SEQUENCE_NUMBER',
      `producer ${claim.producerId} repeats sequences ${first} to ${last}, which are stored but too old to tell where`,
    );
  }
  return refused(
    'OUT_OF_ORDER_SEQUENCE_NUMBER',
    `producer ${claim.producerId} sent sequence ${first}, expected ${expected}`,
  );
}

/** Writes an accepted batch into the producer's state. */
export function evolveProducer(
  state: ProducerState | undefined,
  claim: ProducerClaim,
  baseOffset: number,
  timestampMs: number,
): ProducerState {
  const batch: ProducedBatch = {
    firstSequence: claim.baseSequence,
    lastSequence: advanceSequence(claim.baseSequence, claim.lastOffsetDelta),
    baseOffset,
  };
  if (state === undefined || state.epoch !== claim.producerEpoch) {
    return { epoch: claim.producerEpoch, batches: [batch], lastTimestampMs: timestampMs };
  }
  state.batches.push(batch);
  if (state.batches.length > REMEMBERED_BATCHES) state.batches.shift();
  state.lastTimestampMs = Math.max(state.lastTimestampMs, timestampMs);
  return state;
}

/** A marker ended the producer's transaction: what comes later with a lower epoch is refused, and a new one begins its sequence at 0. */
export function evolveMarker(state: ProducerState, epoch: number, timestampMs: number): ProducerState {
  const lastTimestampMs = Math.max(state.lastTimestampMs, timestampMs);
  return epoch > state.epoch ? { epoch, batches: [], lastTimestampMs } : { ...state, lastTimestampMs };
}

/** Whether `sequence` lies in the half of the circle behind `reference`. */
function isBefore(sequence: number, reference: number): boolean {
  const distance = (reference - sequence + SEQUENCE_MODULUS) % SEQUENCE_MODULUS;
  return distance > 0 && distance < SEQUENCE_MODULUS / 2;
}

function refused(code: Refusal['code'], message: string): SequenceDecision {
  return { kind: 'refused', ...refuse(code, message) };
}
