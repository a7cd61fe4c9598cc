/** Messages and services of the gRPC door, generated from `proto/naru/v1` and `proto/grpc` by `npm run proto`. */
export * from './generated/naru/v1/common_pb.js';
export * from './generated/naru/v1/publisher_pb.js';
export * from './generated/naru/v1/subscriber_pb.js';
export * from './generated/naru/v1/admin_pb.js';
export * from './generated/naru/v1/dead_letter_pb.js';
export * from './generated/naru/v1/trace_pb.js';
export * from './generated/naru/v1/transaction_pb.js';
export * as health from './generated/grpc/health/v1/health_pb.js';
export * as reflectionV1 from './generated/grpc/reflection/v1/reflection_pb.js';
export * as reflectionV1Alpha from './generated/grpc/reflection/v1alpha/reflection_pb.js';
