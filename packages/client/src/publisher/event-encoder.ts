/**
 * From what a program publishes to a record: what its name means, key, headers, timestamp and value. Keeps nothing of events.
 */
import type { Clock } from '@naru/base';
import { NaruError, checkTopicName } from '@naru/protocol';
import type { RecordHeader, RecordHeaders } from '@naru/protocol/batch';
import type { CatalogBinding } from '../catalog/catalog-binding.ts';
import type { Awaitable, Serde } from '../serde/serde.ts';
import { json, serializeValue } from '../serde/serde.ts';
import type { CloudEvents } from './cloud-events.ts';
import type { EnqueueOptions, HeadersInput } from '../publish-options.ts';

/** Topic names that were found right, so that each is checked once. */
const MAX_CHECKED_TOPICS = 10_000;

/** A record, but for its value, which may take a while. */
export interface EncodedEvent {
  readonly topic: string;
  readonly key: Uint8Array | null;
  readonly value: Awaitable<Uint8Array | null>;
  /** Valid until the next event is encoded: whoever keeps them takes `ownHeaders` of cloud-events.ts. */
  readonly headers: RecordHeaders | undefined;
  readonly timestampMs: number;
  /** As asked for; undefined for what the key decides. */
  readonly partition: number | undefined;
}

export interface EventEncoderOptions {
  readonly clock: Clock;
  /** Null where there is no catalog: then names are topics. */
  readonly binding: CatalogBinding | null;
  /** Null when events carry no headers of CloudEvents. */
  readonly cloudEvents: CloudEvents | null;
}

export class EventEncoder {
  readonly #clock: Clock;
  readonly #binding: CatalogBinding | null;
  readonly #cloudEvents: CloudEvents | null;
  readonly #checkedTopics = new Set<string>();

  constructor({ clock, binding, cloudEvents }: EventEncoderOptions) {
    this.#clock = clock;
    this.#binding = binding;
    this.#cloudEvents = cloudEvents;
  }

  /**
   * @param name a topic, or with a catalog an event's name
   * @throws NaruError INVALID_REQUEST for an event that the catalog does not have, INVALID_TOPIC, SERIALIZATION
   */
  encode(name: string, value: unknown, asked: EnqueueOptions): EncodedEvent {
    const binding = this.#binding;
    const event = binding?.catalog.event(name);
    const topic = event === undefined ? name : event.topic;
    const options = binding === null || event === undefined ? asked : binding.publishing(event, value, asked);
    this.#checkTopic(topic);
    const { key: textKey, headers: input, partition, timestamp } = options;
    const key = keyBytes(textKey);
    const atMs = timestamp === undefined ? this.#clock.nowMs() : milliseconds(timestamp);
    const plain = input === undefined ? undefined : recordHeaders(input);
    const headers = this.#cloudEvents?.headers(topic, value, options, plain, atMs) ?? plain;
    const bytes = valueBytes(options.serde, value, topic);
    return { topic, key, value: bytes, headers, timestampMs: atMs, partition };
  }

  #checkTopic(topic: string): void {
    if (this.#checkedTopics.has(topic)) return;
    const refusal = checkTopicName(topic);
    if (refusal !== null) throw NaruError.from(refusal);
    if (this.#checkedTopics.size >= MAX_CHECKED_TOPICS) this.#checkedTopics.clear();
    this.#checkedTopics.add(topic);
  }
}

function keyBytes(key: string | Uint8Array | null | undefined): Uint8Array | null {
  if (typeof key === 'string') return Buffer.from(key, 'utf8');
  return key ?? null;
}

function valueBytes(serde: Serde<unknown> | undefined, value: unknown, topic: string): Awaitable<Uint8Array | null> {
  return serializeValue(serde ?? json, value, topic);
}

function recordHeaders(headers: HeadersInput): readonly RecordHeader[] {
  if (Array.isArray(headers)) return headers as readonly RecordHeader[];
  return Object.entries(headers as Readonly<Record<string, string | Uint8Array | null>>).map(([key, value]) => ({
    key,
    value: typeof value === 'string' ? Buffer.from(value, 'utf8') : value,
  }));
}

function milliseconds(timestamp: number | Date): number {
  const ms = typeof timestamp === 'number' ? timestamp : timestamp.getTime();
  if (Number.isSafeInteger(ms)) return ms;
  throw new NaruError('INVALID_REQUEST', `timestamp is not a time: ${String(timestamp)}`);
}
