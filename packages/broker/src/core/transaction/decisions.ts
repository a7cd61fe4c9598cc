/** What the deciders of transactions share: who may speak for an id, the next identity, and what an end is. */
import { refuse, type Refusal } from '@naru/protocol';
import type { TransactionDecision, TransactionEnd, TransactionRef } from './commands.ts';
import { MAX_PRODUCER_EPOCH, type ProducerIdentity, type TransactionState } from './transaction-state.ts';

export function refused<Reply>(refusal: Refusal): TransactionDecision<Reply> {
  return { records: [], reply: refusal };
}

/** Why whoever says this is not the producer of the id: another producer id, or another epoch. */
export function checkProducer(state: TransactionState | undefined, asked: TransactionRef): Refusal | null {
  if (state === undefined || state.producerId !== asked.producerId) return wrongProducer(asked);
  if (state.producerEpoch === asked.producerEpoch && asked.producerEpoch <= MAX_PRODUCER_EPOCH) return null;
  return fenced(state, asked);
}

export function wrongProducer({ transactionalId, producerId }: TransactionRef): Refusal {
  return refuse(
    'INVALID_PRODUCER_ID_MAPPING',
    `producer ${producerId} does not have ${showId(transactionalId)} (any more): initialise it again`,
  );
}

export function fenced({ transactionalId, producerEpoch }: TransactionState, asked: ProducerIdentity): Refusal {
  return refuse(
    'PRODUCER_FENCED',
    `producer ${asked.producerId} has epoch ${asked.producerEpoch}, but ${showId(transactionalId)} is at ${producerEpoch}: it was ` +
      'initialised elsewhere, or its transaction took too long and was aborted',
  );
}

/** What the producer has next: another producer id when the epochs of this one are used up. */
export function bumped({ producerId, producerEpoch }: ProducerIdentity, freshProducerId: number): ProducerIdentity {
  if (producerEpoch + 1 > MAX_PRODUCER_EPOCH) return { producerId: freshProducerId, producerEpoch: 0 };
  return { producerId, producerEpoch: producerEpoch + 1 };
}

export function endOf(
  { producerId, partitions, groups }: TransactionState,
  commit: boolean,
  markerEpoch: number,
): TransactionEnd {
  return { commit, producerId, markerEpoch, partitions: [...partitions], groups: [...groups] };
}

/** The state once nothing is open any more. */
export function ended(state: TransactionState, changes: Partial<TransactionState>, nowMs: number): TransactionState {
  const closed = { partitions: new Set<never>(), groups: new Set<never>(), startedAtMs: null, updatedAtMs: nowMs };
  return { ...state, ...closed, ...changes };
}

export function showId(transactionalId: string): string {
  return `transactional id ${JSON.stringify(transactionalId)}`;
}
