/** `@naru/protocol/kafka`: Kafka's wire protocol, its messages and error codes. Runs anywhere. */
export {
  CONSUMER_PROTOCOL_MAX_VERSION,
  decodeConsumerAssignment,
  decodeConsumerSubscription,
  encodeConsumerAssignment,
  encodeConsumerSubscription,
} from './consumer-protocol.ts';
export type { ConsumerAssignment, ConsumerSubscription } from './consumer-protocol.ts';
export { kafkaApiByKey, kafkaApis } from './kafka-apis.ts';
export type {
  KafkaApiName,
  KafkaRequest,
  KafkaRequestInput,
  KafkaResponse,
  KafkaResponseOutput,
} from './kafka-apis.ts';
export { KAFKA_ERRORS, errorCodeOfKafka, kafkaErrorCode, kafkaErrorName, kafkaErrorNameOf } from './kafka-errors.ts';
export type { KafkaAudience, KafkaError, KafkaErrorName } from './kafka-errors.ts';
export { decodeRequest, decodeRequestHeader, decodeResponse, encodeRequest, encodeResponse } from './kafka-frames.ts';
export type { KafkaRequestHeader } from './kafka-frames.ts';
export { OPERATIONS_NOT_ASKED } from './messages/authorized-operations.ts';
export { NO_TOPIC_ID } from './schema/field.ts';
export type { KafkaApi, VersionRange } from './schema/kafka-api.ts';
export { MAX_REQUEST_ELEMENTS, MAX_RESPONSE_ELEMENTS, MAX_STRING_BYTES } from './schema/wire-reader.ts';
