/** Keys and values of the broker's group log, generated from `proto/naru/internal/v1` by `npm run proto`. */
export * from './generated/naru/internal/v1/group_pb.js';
