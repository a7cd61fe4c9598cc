/** Messages and services of the gRPC door, generated from `proto/naru/v1` by `npm run proto`. */
export * from './generated/naru/v1/common_pb.js';
export * from './generated/naru/v1/publisher_pb.js';
export * from './generated/naru/v1/subscriber_pb.js';
export * from './generated/naru/v1/admin_pb.js';
