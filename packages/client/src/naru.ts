/**
 * The SDK's front door: one connection to a broker, to publish and subscribe with.
 */
import { delay, topicIdFromBytes, toError } from '@naru/base';
import { NaruError, checkGroupId, checkTopicName } from '@naru/protocol';
import type { RecordHeader, RecordHeaders } from '@naru/protocol/batch';

import { AdminService } from '@naru/protocol/proto';
import { Admin } from './admin.ts';
import { backoffMs } from './backoff.ts';
import type { CallOptions } from './call-options.ts';
import { abortedError, withDeadline } from './call-options.ts';
import { CatalogBinding } from './catalog/catalog-binding.ts';
import { Catalog } from './catalog/catalog.ts';
import type { EventName, EventValue } from './catalog/event-catalog.ts';
import { codecs } from './codecs.ts';
import { DeadLetters } from './delivery/dead-letters.ts';
import { EventTracing } from './delivery/event-trace.ts';
import type { EventTrace, GroupTrace, TraceOptions, TracedEvent, WaitOptions } from './delivery/event-trace.ts';
import { CloudEvents, ownHeaders } from './publisher/cloud-events.ts';
import { PendingValues } from './publisher/pending-values.ts';
import type { DeliveryListener, PublishResult } from './publisher/publish-result.ts';
import { Publisher } from './publisher/publisher.ts';
import type { TopicLayout } from './publisher/route-table.ts';
import type { Runtime } from './runtime.ts';
import { systemRuntime } from './runtime.ts';
import { SchemaRegistryClient } from './serde/registry/schema-registry-client.ts';
import type { SchemaRegistryOptions } from './serde/registry/schema-registry-client.ts';
import type { Awaitable, Serde } from './serde/serde.ts';
import { isPromise, json, serializeValue } from './serde/serde.ts';
import { loadSettings } from './settings-file.ts';
import type { Settings, SettingsInput } from './settings.ts';
import { EventPoller } from './subscriber/event-poller.ts';
import type { PollOptions } from './subscriber/event-poller.ts';
import type { TopicPartition } from './subscriber/event.ts';
import type { StartPosition } from './subscriber/start-position.ts';
import { Subscriber } from './subscriber/subscriber.ts';
import type { SubscriberOptions } from './subscriber/subscriber.ts';
import { ConnectTransport } from './transport/connect-transport.ts';
import type { Transport } from './transport/transport.ts';

/** Topic names that were found right, so that each is checked once. */
const MAX_CHECKED_TOPICS = 10_000;

export type HeadersInput = readonly RecordHeader[] | Readonly<Record<string, string | Uint8Array | null>>;

export interface EnqueueOptions {
  /** What is kept in order: events with equal keys go to one partition. Text is encoded as UTF-8. Default: none. */
  readonly key?: string | Uint8Array | null | undefined;
  readonly headers?: HeadersInput | undefined;
  /** Overrides what the key decides. */
  readonly partition?: number | undefined;
  /** Default: now. */
  readonly timestamp?: number | Date | undefined;
  /** How the value is written. Default JSON. */
  readonly serde?: Serde<unknown> | undefined;
  /**
   * CloudEvents attributes, unless the setting `publisher.cloudEvents` is off: what it is called by whoever handles it by type (default:
   * the topic), who says it (default: `/` and the client id), and its own id (default: a new UUIDv7).
   */
  readonly type?: string | undefined;
  readonly source?: string | undefined;
  readonly id?: string | undefined;
  /** W3C trace context, as the header of the same name. */
  readonly traceparent?: string | undefined;
}

export interface PublishOptions extends EnqueueOptions, CallOptions {
  /**
   * What the promise waits for: that the event is stored (the default), or that every group that is declared for the topic has
   * processed it, as by {@link Naru.wait}.
   */
  readonly until?: 'stored' | 'processed' | undefined;
}

export interface CloseOptions {
  /** How long to wait for what is in flight, milliseconds. Default: the delivery time-out. */
  readonly timeoutMs?: number | undefined;
}

/** What tests and other transports put in the place of the usual. */
export interface NaruParts {
  readonly transport?: Transport;
  readonly runtime?: Partial<Runtime>;
  /** In place of the one that the settings name. */
  readonly catalog?: Catalog | undefined;
  /** The W3C trace context of the caller, asked for with each event that is published without one. */
  readonly traceparent?: () => string | undefined;
}

/**
 * Connects to a broker.
 *
 * @param source settings, or the path of a settings file; default: `naru.yaml` in the working directory when there is
 *   one, else `localhost:9092`
 * @throws NaruError INVALID_CONFIGURATION (with line and column); NETWORK when no broker answers within `connectTimeoutMs`
 */
export async function connect(source?: SettingsInput | string, parts: NaruParts = {}): Promise<Naru> {
  const settings = await loadSettings(source);
  const runtime = { ...systemRuntime, ...parts.runtime };
  const { catalog: file, environment } = settings;
  const catalog = parts.catalog ?? (file === null ? undefined : await Catalog.load(file, { environment }));
  const transport = parts.transport ?? new ConnectTransport({ brokers: settings.brokers });
  if (settings.connectTimeoutMs > 0) {
    try {
      await reach(transport, settings, runtime);
    } catch (error) {
      await transport.close();
      throw error;
    }
  }
  return new Naru(settings, transport, runtime, parts.traceparent, catalog);
}

/** Waits until a broker answers. */
async function reach(transport: Transport, settings: Settings, runtime: Runtime): Promise<void> {
  const { connectTimeoutMs, brokers, reconnect } = settings;
  let last: unknown;
  const attempt = async (signal: AbortSignal): Promise<void> => {
    for (let failures = 1; ; failures++) {
      try {
        await transport.call(AdminService.method.describeCluster, {}, signal);
        return;
      } catch (error) {
        if (signal.aborted || !(error instanceof NaruError && error.retriable)) throw error;
        last = error;
        await delay(runtime.timers, backoffMs(reconnect, failures, runtime.random), signal);
      }
    }
  };
  try {
    await withDeadline(runtime.timers, undefined, connectTimeoutMs, 'connecting', attempt);
  } catch (error) {
    if (!(error instanceof NaruError) || error.code !== 'REQUEST_TIMED_OUT') throw error;
    const why = last instanceof Error ? `: ${last.message}` : '';
    const message = `no broker answered at ${brokers.join(', ')} within ${connectTimeoutMs} ms${why}`;
    throw new NaruError('NETWORK', message, { cause: last ?? error });
  }
}

export class Naru implements AsyncDisposable {
  readonly settings: Settings;
  /** Null where there is none: then names are topics. */
  readonly catalog: Catalog | null;
  readonly admin: Admin;
  /** Events that groups could not handle. */
  readonly deadLetters: DeadLetters;
  readonly #tracing: EventTracing;
  readonly #transport: Transport;
  readonly #runtime: Runtime;
  readonly #publisher: Publisher;
  readonly #pendingValues: PendingValues;
  /** Null when events carry no headers of CloudEvents. */
  readonly #cloudEvents: CloudEvents | null;
  readonly #binding: CatalogBinding | null;
  readonly #subscribers = new Set<{ close(): Promise<void> }>();
  readonly #checkedTopics = new Set<string>();
  #closing: Promise<void> | null = null;

  constructor(
    settings: Settings,
    transport: Transport,
    runtime: Runtime = systemRuntime,
    traceparent?: () => string | undefined,
    catalog?: Catalog,
  ) {
    this.settings = settings;
    this.catalog = catalog ?? null;
    this.#binding = catalog === undefined ? null : new CatalogBinding(catalog, () => this.schemaRegistry());
    this.#transport = transport;
    this.#runtime = runtime;
    this.admin = new Admin(transport, runtime, settings.requestTimeoutMs);
    this.deadLetters = new DeadLetters(transport, runtime, settings.requestTimeoutMs);
    this.#tracing = new EventTracing(transport, runtime, settings.requestTimeoutMs);
    this.#publisher = new Publisher({
      transport,
      runtime,
      settings,
      codecs,
      describeTopic: (topic, signal) => this.#describeTopic(topic, signal),
    });
    const source = `/${settings.clientId}`;
    this.#cloudEvents = settings.publisher.cloudEvents
      ? new CloudEvents({ source, random: runtime.random, traceparent })
      : null;
    this.#pendingValues = new PendingValues(runtime.timers, settings.publisher.deliveryTimeoutMs);
  }

  /**
   * Publishes one event to a topic, or, with a catalog, by its event name; resolves when it is durable. Publishes that are not awaited one by one share batches. Waits when
   * the buffer is full.
   *
   * Rejects with DELIVERY_TIMEOUT when it was not acknowledged in time: the event may have been stored then. So, too, after
   * an abort or `timeoutMs`, unless the event still waited for memory.
   *
   * With a catalog it rejects with INVALID_REQUEST for an event that the catalog does not have, and with SERIALIZATION, and the path
   * in the value, for one that has no key or does not fit the schema.
   */
  publish<Name extends EventName>(
    name: Name,
    value: EventValue<Name>,
    options: PublishOptions = {},
  ): Promise<PublishResult> {
    if (options.until === 'processed') return this.#publishUntilProcessed(name, value, options);
    if (options.signal !== undefined || options.timeoutMs !== undefined)
      return this.#publishWithin(name, value, options);
    return new Promise<PublishResult>((resolve, reject) => {
      try {
        this.#submit(name, value, options, { resolve, reject });
      } catch (error) {
        reject(toError(error));
      }
    });
  }

  /**
   * Hands over one event and returns at once: true when it was taken, false when the buffer is full ({@link ready} then
   * says when there is room). What becomes of it, {@link onDelivery} listeners are told.
   *
   * @throws NaruError for an event that cannot be published at all: SERIALIZATION, RECORD_TOO_LARGE, INVALID_TOPIC, CLOSED. Where
   *   its serde answers with a promise, listeners are told instead
   */
  enqueue<Name extends EventName>(name: Name, value: EventValue<Name>, asked: EnqueueOptions = {}): boolean {
    const event = this.catalog?.event(name);
    const topic = event === undefined ? name : event.topic;
    const options = event === undefined ? asked : this.#bound.publishing(event, value, asked);
    this.#checkTopic(topic);
    const { key: textKey, headers: input, partition, timestamp } = options;
    const key = keyBytes(textKey);
    const atMs = timestamp === undefined ? this.#runtime.clock.nowMs() : timestampMs(timestamp);
    const plain = input === undefined ? undefined : recordHeaders(input);
    const headers = this.#cloudEvents?.headers(topic, value, options, plain, atMs) ?? plain;
    if (this.#pendingValues.isFull) return false;
    const bytes = valueBytes(options.serde, value, topic);
    if (!isPromise(bytes) && !this.#pendingValues.hasLine(topic))
      return this.#publisher.enqueue(topic, key, bytes, headers, atMs, partition);
    this.#lineUp(topic, key, bytes, headers, atMs, partition, null);
    return true;
  }

  /** Resolves when the buffer has room again. */
  ready(options?: CallOptions): Promise<void> {
    return withDeadline(this.#runtime.timers, options, undefined, 'ready', async () => {
      await this.#pendingValues.whenRoom();
      await this.#publisher.whenReady();
    });
  }

  /** Sends what was published so far without lingering; resolves when all of it is stored or has failed. */
  flush(options?: CallOptions): Promise<void> {
    return withDeadline(this.#runtime.timers, options, undefined, 'flush', async () => {
      await this.#pendingValues.whenEntered();
      await this.#publisher.flush();
    });
  }

  /** Tells what became of enqueued events. @returns a function that ends it */
  onDelivery(listener: DeliveryListener): () => void {
    return this.#publisher.onDelivery(listener);
  }

  /** A member of the consumer group `group`: register handlers, then `run()`. */
  subscriber(group: string, options: SubscriberOptions = {}): Subscriber {
    this.#checkOpen();
    const subscriber = new Subscriber(
      {
        ...this.#subscriberContext(),
        catalog: this.#binding ?? undefined,
        resolvePosition: (partition, position) => this.#resolvePosition(partition, position),
        closed: () => this.#subscribers.delete(subscriber),
      },
      group,
      options,
    );
    this.#subscribers.add(subscriber);
    return subscriber;
  }

  /** Events in pull form. Leaving the loop leaves the group. */
  poll<T = unknown>(options: PollOptions): EventPoller<T> {
    this.#checkOpen();
    if (options.group !== undefined) {
      const refusal = checkGroupId(options.group);
      if (refusal !== null) throw NaruError.from(refusal);
    }
    const poller = new EventPoller<T>(this.#subscriberContext(), options, () => this.#subscribers.delete(poller));
    this.#subscribers.add(poller);
    return poller;
  }

  /** A client of the schema registry, for `serdes.withRegistry`: the broker's own, unless the options name another. */
  schemaRegistry(options: Partial<SchemaRegistryOptions> = {}): SchemaRegistryClient {
    return new SchemaRegistryClient({ url: this.settings.brokers, runtime: this.#runtime, ...options });
  }

  /**
   * What became of an event, in each group.
   *
   * @param event its request id, its place, or its CloudEvents id
   */
  trace(event: TracedEvent, options?: TraceOptions): Promise<EventTrace> {
    return this.#tracing.trace(event, options);
  }

  /**
   * Resolves when the group, or every declared group, has processed the event. Time-out: the settings' `requestTimeoutMs`.
   *
   * @throws DeadLetteredError as soon as one of them cannot; RequestTimedOutError with where it is
   */
  wait(requestId: string, options?: WaitOptions): Promise<readonly GroupTrace[]> {
    return this.#tracing.wait(requestId, options);
  }

  /** Ends subscribers, delivers what is in flight, and closes the connection. Further calls get the same promise. */
  close(options: CloseOptions = {}): Promise<void> {
    this.#closing ??= this.#close(options);
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close({ timeoutMs = this.settings.publisher.deliveryTimeoutMs }: CloseOptions): Promise<void> {
    await Promise.all([...this.#subscribers].map((subscriber) => subscriber.close()));
    // What is still open then is reported to whoever published it.
    await this.flush({ timeoutMs }).catch(() => {});
    this.#pendingValues.close(() => new NaruError('CLOSED', 'the connection is closed; the event was not sent'));
    await this.#publisher.close();
    await this.#transport.close();
  }

  #submit(name: string, value: unknown, asked: PublishOptions, settler: PublishSettler): (() => boolean) | null {
    const event = this.catalog?.event(name);
    const topic = event === undefined ? name : event.topic;
    const options = event === undefined ? asked : this.#bound.publishing(event, value, asked);
    this.#checkTopic(topic);
    const { key: textKey, headers: input, partition, timestamp } = options;
    const key = keyBytes(textKey);
    const atMs = timestamp === undefined ? this.#runtime.clock.nowMs() : timestampMs(timestamp);
    const plain = input === undefined ? undefined : recordHeaders(input);
    const headers = this.#cloudEvents?.headers(topic, value, options, plain, atMs) ?? plain;
    const bytes = valueBytes(options.serde, value, topic);
    if (!isPromise(bytes) && !this.#pendingValues.hasLine(topic))
      return this.#publisher.publish(topic, key, bytes, headers, atMs, partition, settler);
    return this.#lineUp(topic, key, bytes, headers, atMs, partition, settler);
  }

  /** Publishes once the value is ready and everything before it in its topic has been published. */
  #lineUp(
    topic: string,
    key: Uint8Array | null,
    value: Awaitable<Uint8Array | null>,
    encoded: RecordHeaders | undefined,
    atMs: number,
    partition: number | undefined,
    settler: PublishSettler | null,
  ): () => boolean {
    const headers = ownHeaders(encoded);
    return this.#pendingValues.add(topic, value, {
      enter: (ready) => this.#publisher.publish(topic, key, ready, headers, atMs, partition, settler),
      failed: (error) => {
        if (settler === null) this.#publisher.refused({ topic, key, headers, partition }, error);
        else settler.reject(error);
      },
    });
  }

  /** Only where there is a catalog. */
  get #bound(): CatalogBinding {
    return this.#binding as CatalogBinding;
  }

  async #publishUntilProcessed(name: string, value: unknown, options: PublishOptions): Promise<PublishResult> {
    const { clock } = this.#runtime;
    const { signal, timeoutMs = this.settings.requestTimeoutMs } = options;
    const startMs = clock.monotonicMs();
    const sent = await this.#publishWithin(name, value, { ...options, timeoutMs, until: 'stored' });
    const leftMs = Math.max(0, timeoutMs - (clock.monotonicMs() - startMs));
    await this.wait(sent.requestId, { signal, timeoutMs: leftMs });
    return sent;
  }

  #publishWithin(topic: string, value: unknown, options: PublishOptions): Promise<PublishResult> {
    const what = `publish to ${topic}`;
    return withDeadline(this.#runtime.timers, options, undefined, what, (signal) => {
      if (signal.aborted) return Promise.reject(abortedError(signal, what));
      return new Promise<PublishResult>((resolve, reject) => {
        const takeBack = this.#submit(topic, value, options, { resolve, reject });
        signal.addEventListener('abort', () => takeBack?.(), { once: true });
      });
    });
  }

  #checkTopic(topic: string): void {
    if (this.#checkedTopics.has(topic)) return;
    const refusal = checkTopicName(topic);
    if (refusal !== null) throw NaruError.from(refusal);
    if (this.#checkedTopics.size >= MAX_CHECKED_TOPICS) this.#checkedTopics.clear();
    this.#checkedTopics.add(topic);
  }

  #checkOpen(): void {
    if (this.#closing !== null) throw new NaruError('CLOSED', 'the connection is closed');
  }

  #subscriberContext() {
    return {
      transport: this.#transport,
      runtime: this.#runtime,
      settings: this.settings,
      codecs,
    };
  }

  async #describeTopic(name: string, signal: AbortSignal): Promise<TopicLayout> {
    const timeoutMs = this.settings.requestTimeoutMs;
    const { topic } = await withDeadline(
      this.#runtime.timers,
      { signal, timeoutMs },
      undefined,
      'topic look-up',
      (inner) =>
        this.#transport.call(AdminService.method.describeTopic, { topic: { case: 'name', value: name } }, inner),
    );
    if (topic === undefined) throw new NaruError('INTERNAL', 'the broker answered without the topic');
    return { topicId: topicIdFromBytes(topic.topicId), partitionCount: topic.partitionCount };
  }

  async #resolvePosition({ topic, partition }: TopicPartition, position: StartPosition): Promise<number> {
    if (typeof position === 'bigint') return Number(position);
    if (position === 'none') throw new NaruError('INVALID_REQUEST', 'expected a position, got none');
    const [found] = await this.admin.listOffsets(topic, position, { partitions: [partition] });
    if (found === undefined) throw new NaruError('UNKNOWN_TOPIC_OR_PARTITION', `no partition ${topic}/${partition}`);
    return Number(found.offset);
  }
}

interface PublishSettler {
  resolve(result: PublishResult): void;
  reject(error: NaruError): void;
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

function timestampMs(timestamp: number | Date): number {
  const ms = typeof timestamp === 'number' ? timestamp : timestamp.getTime();
  if (Number.isSafeInteger(ms)) return ms;
  throw new NaruError('INVALID_REQUEST', `timestamp is not a time: ${String(timestamp)}`);
}
