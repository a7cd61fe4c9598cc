/** `@naru/client`: publish and subscribe. */
export { NaruError, isNaruError } from '@naru/protocol';
export type { ErrorCode } from '@naru/protocol';
export type { CompressionType, RecordHeader } from '@naru/protocol/batch';
export { Admin } from './admin.ts';
export type {
  AddPartitionsOptions,
  ChangeTopicConfigOptions,
  ClusterDescription,
  CreateTopicOptions,
  GroupDescription,
  GroupGate,
  GroupQueue,
  GroupListing,
  GroupMember,
  GroupOffset,
  OffsetReset,
  PartitionDescription,
  PartitionOffset,
  RecordsBefore,
  ResetOffsetsOptions,
  Topic,
  TopicConfigEntry,
  TopicDescription,
  TopicType,
  WithheldEvent,
} from './admin.ts';
export type {
  TransactionDescription,
  TransactionFilter,
  TransactionPartition,
  TransactionState,
  TransactionSummary,
} from './transactions-admin.ts';
export type { BackoffPolicy } from './backoff.ts';
export type { CallOptions } from './call-options.ts';
export { Catalog, DEFAULT_CATALOG_FILE } from './catalog/catalog.ts';
export type { CatalogOptions } from './catalog/catalog.ts';
export type { CatalogEvent, SchemaFiles } from './catalog/catalog-event.ts';
export { catalogFileSchema } from './catalog/catalog-schema.ts';
export type { CatalogTopic, CatalogTopicGroup } from './catalog/catalog-topics.ts';
export * from './catalog/event-catalog.ts';
export { DeadLetters } from './delivery/dead-letters.ts';
export type {
  ChangeDeadLettersOptions,
  DeadLetter,
  DeadLetterDetails,
  DeadLetterFilter,
  DeadLetterRefusal,
  ListDeadLettersOptions,
  RedriveResult,
} from './delivery/dead-letters.ts';
export { DeadLetteredError, RequestTimedOutError } from './delivery/event-trace.ts';
export type {
  EventTrace,
  GroupTrace,
  TraceOptions,
  TraceState,
  TraceStep,
  TracedEvent,
  WaitOptions,
} from './delivery/event-trace.ts';
export { brokerIdempotency } from './idempotency/broker-idempotency.ts';
export type { ClaimResult, IdempotencyStore } from './idempotency/idempotency-store.ts';
export { memoryIdempotency } from './idempotency/memory-idempotency.ts';
export type { MemoryIdempotencyOptions } from './idempotency/memory-idempotency.ts';
export {
  DEFAULT_IDEMPOTENCY_TABLE,
  idempotencyTable,
  once,
  postgresIdempotency,
} from './idempotency/postgres-idempotency.ts';
export type { OnceOptions, PostgresIdempotencyOptions, SqlClient } from './idempotency/postgres-idempotency.ts';
export { Naru, connect } from './naru.ts';
export type { CloseOptions, NaruParts } from './naru.ts';
export type { EnqueueOptions, HeadersInput, PublishOptions } from './publish-options.ts';
export { PublishResult } from './publisher/publish-result.ts';
export type { Delivery, DeliveryListener, PublishResultJson } from './publisher/publish-result.ts';
export type { Runtime } from './runtime.ts';
export * as serdes from './serde/serdes.ts';
export { SerializationError } from './serde/serialization-error.ts';
export type { Serde, SerdeContext } from './serde/serde.ts';
export { DEFAULT_SETTINGS_FILE, loadSettings, parseSettings } from './settings-file.ts';
export { settingsSchema } from './settings.ts';
export type { PublisherSettings, Settings, SettingsInput, SubscriberSettings } from './settings.ts';
export type { Isolation } from './subscriber/isolation.ts';
export { EventBatch } from './subscriber/event-batch.ts';
export { EventPoller } from './subscriber/event-poller.ts';
export type { PollOptions } from './subscriber/event-poller.ts';
export type { PartitionFailure, PositionJump } from './subscriber/consumer.ts';
export { EventHeaders, NaruEvent } from './subscriber/event.ts';
export type { BatchHandler, Handler, HandlerContext, TopicPartition } from './subscriber/event.ts';
export { HandlerFailedError, NonRetriableError } from './subscriber/handler-error.ts';
export type { StartPosition } from './subscriber/start-position.ts';
export { Subscriber } from './subscriber/subscriber.ts';
export type { DeadLetterReason } from './subscriber/handler-call.ts';
export type { HandleOptions, PartitionStall, RunOptions, SubscriberOptions } from './subscriber/subscriber.ts';
export type { SubscriberOverrides } from './subscriber/subscriber-settings.ts';
export type { Committable, CommitTarget, ProducerIdentity, TransactionRefFields } from './transaction/commit-target.ts';
export { TransactionFencedError } from './transaction/transaction-fenced-error.ts';
export type { Transaction, TransactionPublishOptions } from './transaction/transaction.ts';
export type { TransactionOptions } from './transaction/transactions.ts';
export { ConnectTransport } from './transport/connect-transport.ts';
export type { MessageStream, PublishStream, SubscribeStream, Transport } from './transport/transport.ts';
