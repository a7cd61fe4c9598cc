/** The checkpoint's core snapshot, generated from `proto/naru/internal/v1` by `npm run proto`. */
export * from './generated/naru/internal/v1/snapshot_pb.js';
