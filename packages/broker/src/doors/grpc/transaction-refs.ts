/** How the wire names a transaction. */
import { create } from '@bufbuild/protobuf';
import { checkTransactionalId, NaruError } from '@naru/protocol';
import { TransactionRefSchema, type TransactionRef as WireRef } from '@naru/protocol/proto';
import type { TransactionRef } from '../../core/transaction/commands.ts';
import { wireInteger } from './positions.ts';

/** Of batches, where it has 16 bits. */
const MAX_PRODUCER_EPOCH = 32_767;

/** Null when there is none. @throws NaruError INVALID_TRANSACTIONAL_ID, INVALID_REQUEST */
export function toTransactionRef(ref: WireRef | undefined): TransactionRef | null {
  if (ref === undefined) return null;
  const { transactionalId, producerId, producerEpoch } = ref;
  const refusal = checkTransactionalId(transactionalId);
  if (refusal !== null) throw NaruError.from(refusal);
  if (producerEpoch < 0 || producerEpoch > MAX_PRODUCER_EPOCH) {
    const message = `a producer epoch is 0 to ${MAX_PRODUCER_EPOCH}, not ${producerEpoch}`;
    throw new NaruError('INVALID_REQUEST', message);
  }
  return { transactionalId, producerId: wireInteger(producerId, 'a producer id'), producerEpoch };
}

export function toWireTransactionRef({ transactionalId, producerId, producerEpoch }: TransactionRef): WireRef {
  return create(TransactionRefSchema, { transactionalId, producerId: BigInt(producerId), producerEpoch });
}
