/** Transactional ids and their transactions (KIP-98, KIP-890): pure. See decide.ts for commands, transaction-state.ts for state. */
export * from './commands.ts';
export { decideTransaction } from './decide.ts';
export { decodeTransactionRecord, encodeTransactionRecord } from './transaction-record-codec.ts';
export type { EncodedTransactionRecord } from './transaction-record-codec.ts';
export { evolveTransactions, MAX_PRODUCER_EPOCH, sameIdentity } from './transaction-state.ts';
export type { ProducerIdentity, TransactionRecord, TransactionState, TransactionStatus } from './transaction-state.ts';
