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
} from './admin.ts';
export type { BackoffPolicy } from './backoff.ts';
export type { CallOptions } from './call-options.ts';
export { Naru, connect } from './naru.ts';
export type { CloseOptions, EnqueueOptions, HeadersInput, NaruParts, PublishOptions } from './naru.ts';
export { PublishResult } from './publisher/publish-result.ts';
export type { Delivery, DeliveryListener, PublishResultJson } from './publisher/publish-result.ts';
export type { Runtime } from './runtime.ts';
export * as serdes from './serde/serdes.ts';
export type { Serde } from './serde/serde.ts';
export { DEFAULT_SETTINGS_FILE, loadSettings, parseSettings } from './settings-file.ts';
export { settingsSchema } from './settings.ts';
export type { PublisherSettings, Settings, SettingsInput, SubscriberSettings } from './settings.ts';
export { EventBatch, EventPoller } from './subscriber/event-poller.ts';
export type { PollOptions } from './subscriber/event-poller.ts';
export type { PartitionFailure, PositionJump } from './subscriber/consumption.ts';
export { EventHeaders, NaruEvent } from './subscriber/event.ts';
export type { BatchHandler, Handler, HandlerContext, TopicPartition } from './subscriber/event.ts';
export { HandlerFailedError, NonRetriableError } from './subscriber/handler-error.ts';
export type { StartPosition } from './subscriber/start-position.ts';
export { Subscriber } from './subscriber/subscriber.ts';
export type { HandleOptions, RunOptions, SubscriberOptions } from './subscriber/subscriber.ts';
export { ConnectTransport } from './transport/connect-transport.ts';
export type { MessageStream, PublishStream, SubscribeStream, Transport } from './transport/transport.ts';
