/** Where a published event is, and how to follow it. */
import { encodeRequestId } from '@naru/protocol';
import type { NaruError } from '@naru/protocol';
import type { RecordHeader } from '@naru/protocol/batch';
import type { TopicId } from '@naru/base';

export interface PublishResultJson {
  readonly topic: string;
  readonly partition: number;
  /** Text, since JSON numbers lose what is beyond 2⁵³. */
  readonly offset: string;
  readonly requestId: string;
  readonly timestampMs: number;
}

/** A stored event. */
export class PublishResult {
  readonly #topicId: TopicId;
  readonly topic: string;
  readonly partition: number;
  readonly offset: bigint;
  /** The event's timestamp, milliseconds since the Unix epoch. */
  readonly timestampMs: number;

  constructor(topic: string, topicId: TopicId, partition: number, offset: number, timestampMs: number) {
    this.#topicId = topicId;
    this.topic = topic;
    this.partition = partition;
    this.offset = BigInt(offset);
    this.timestampMs = timestampMs;
  }

  /** Follows the event through every group. Computed when asked for. */
  get requestId(): string {
    return encodeRequestId(this.#topicId, this.partition, Number(this.offset));
  }

  /** For JSON.stringify and logs. */
  toJSON(): PublishResultJson {
    return {
      topic: this.topic,
      partition: this.partition,
      offset: this.offset.toString(),
      requestId: this.requestId,
      timestampMs: this.timestampMs,
    };
  }
}

/** What became of an event that was enqueued. */
export type Delivery =
  | { readonly ok: true; readonly result: PublishResult }
  | {
      readonly ok: false;
      readonly error: NaruError;
      readonly topic: string;
      /** Undefined when it failed before it had one. */
      readonly partition: number | undefined;
      readonly key: Uint8Array | null;
      readonly value: Uint8Array | null;
      readonly headers: readonly RecordHeader[];
    };

export type DeliveryListener = (delivery: Delivery) => void;
