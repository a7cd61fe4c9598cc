/** Values of the broker's log of transactions, generated from `proto/naru/internal/v1` by `npm run proto`. */
export * from './generated/naru/internal/v1/transaction_pb.js';
