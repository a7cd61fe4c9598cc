/**
 * What a refusal of something transactional is called, in the versions of its API.
 *
 * A code that a client does not expect is fatal to its producer, which has to be made anew; hence names of old versions where
 * new ones came later, and TRANSACTION_ABORTABLE, after which a producer aborts and goes on (KIP-890), where it is known.
 */
import type { ErrorCode } from '@naru/protocol';
import { kafkaErrorName, KAFKA_ERRORS, type KafkaErrorName } from '@naru/protocol/kafka';

type TransactionApi = keyof typeof FENCED_SINCE;

/** PRODUCER_FENCED; INVALID_PRODUCER_EPOCH before. */
const FENCED_SINCE = {
  initProducerId: 4,
  addPartitionsToTxn: 2,
  addOffsetsToTxn: 2,
  endTxn: 2,
  // Never: their errors were those of the partition that is written to.
  txnOffsetCommit: Infinity,
  produce: Infinity,
} as const;

/** TRANSACTION_ABORTABLE; INVALID_TXN_STATE before. */
const ABORTABLE_SINCE = {
  initProducerId: 5,
  addPartitionsToTxn: Infinity,
  addOffsetsToTxn: 4,
  endTxn: 4,
  txnOffsetCommit: 4,
  produce: 11,
} as const satisfies Record<TransactionApi, number>;

/** Over when the transaction is. */
const ABORTABLE: ReadonlySet<ErrorCode> = new Set(['TRANSACTION_ABORTABLE', 'TRANSACTION_TOO_LARGE']);

export function transactionErrorName(code: ErrorCode, api: TransactionApi, version: number): KafkaErrorName {
  // Of a batch: there is no transaction to which it could belong. What the producer has open can be aborted.
  if (ABORTABLE.has(code) || (api === 'produce' && code === 'INVALID_TXN_STATE')) {
    return version >= ABORTABLE_SINCE[api] ? 'TRANSACTION_ABORTABLE' : 'INVALID_TXN_STATE';
  }
  if (code === 'PRODUCER_FENCED' && version < FENCED_SINCE[api]) return 'INVALID_PRODUCER_EPOCH';
  // Members of either group protocol commit in transactions with generations (KIP-848).
  if (api === 'txnOffsetCommit') return kafkaErrorName(code, 'classicGroup');
  return kafkaErrorName(code, api === 'produce' ? 'produce' : 'group');
}

/** The number that stands in the answer. */
export function transactionErrorCode(code: ErrorCode, api: TransactionApi, version: number): number {
  return KAFKA_ERRORS[transactionErrorName(code, api, version)].code;
}
