/**
 * The SDK's front door: one connection to a broker, to publish and subscribe with.
 */
import { delay, topicIdFromBytes, toError } from '@naru/base';
import { NaruError, checkGroupId, checkTopicName } from '@naru/protocol';
import type { RecordHeader } from '@naru/protocol/batch';

import { AdminService } from '@naru/protocol/proto';
import { Admin } from './admin.ts';
import { backoffMs } from './backoff.ts';
import type { CallOptions } from './call-options.ts';
import { abortedError, withDeadline } from './call-options.ts';
import { codecs } from './codecs.ts';
import type { DeliveryListener, PublishResult } from './publisher/publish-result.ts';
import { Publisher } from './publisher/publisher.ts';
import type { TopicLayout } from './publisher/route-table.ts';
import type { Runtime } from './runtime.ts';
import { systemRuntime } from './runtime.ts';
import type { Serde } from './serde/serde.ts';
import { json, serializeValue } from './serde/serde.ts';
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
}

export interface PublishOptions extends EnqueueOptions, CallOptions {}

export interface CloseOptions {
  /** How long to wait for what is in flight, milliseconds. Default: the delivery time-out. */
  readonly timeoutMs?: number | undefined;
}

/** What tests and other transports put in the place of the usual. */
export interface NaruParts {
  readonly transport?: Transport;
  readonly runtime?: Partial<Runtime>;
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
  const transport = parts.transport ?? new ConnectTransport({ brokers: settings.brokers });
  if (settings.connectTimeoutMs > 0) {
    try {
      await reach(transport, settings, runtime);
    } catch (error) {
      await transport.close();
      throw error;
    }
  }
  return new Naru(settings, transport, runtime);
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
  readonly admin: Admin;
  readonly #transport: Transport;
  readonly #runtime: Runtime;
  readonly #publisher: Publisher;
  readonly #subscribers = new Set<{ close(): Promise<void> }>();
  readonly #checkedTopics = new Set<string>();
  #closing: Promise<void> | null = null;

  constructor(settings: Settings, transport: Transport, runtime: Runtime = systemRuntime) {
    this.settings = settings;
    this.#transport = transport;
    this.#runtime = runtime;
    this.admin = new Admin(transport, runtime, settings.requestTimeoutMs);
    this.#publisher = new Publisher({
      transport,
      runtime,
      settings,
      codecs,
      describeTopic: (topic, signal) => this.#describeTopic(topic, signal),
    });
  }

  /**
   * Publishes one event; resolves when it is durable. Publishes that are not awaited one by one share batches. Waits when
   * the buffer is full.
   *
   * Rejects with DELIVERY_TIMEOUT when it was not acknowledged in time: the event may have been stored then. So, too, after
   * an abort or `timeoutMs`, unless the event still waited for memory.
   */
  publish(topic: string, value: unknown, options: PublishOptions = {}): Promise<PublishResult> {
    if (options.signal !== undefined || options.timeoutMs !== undefined)
      return this.#publishWithin(topic, value, options);
    return new Promise<PublishResult>((resolve, reject) => {
      try {
        this.#submit(topic, value, options, { resolve, reject });
      } catch (error) {
        reject(toError(error));
      }
    });
  }

  /**
   * Hands over one event and returns at once: true when it was taken, false when the buffer is full ({@link ready} then
   * says when there is room). What becomes of it, {@link onDelivery} listeners are told.
   *
   * @throws NaruError for an event that cannot be published at all: SERIALIZATION, RECORD_TOO_LARGE, INVALID_TOPIC, CLOSED
   */
  enqueue(topic: string, value: unknown, options: EnqueueOptions = {}): boolean {
    this.#checkTopic(topic);
    const { key, headers, partition, timestamp } = options;
    return this.#publisher.enqueue(
      topic,
      keyBytes(key),
      valueBytes(options.serde, value, topic),
      headers === undefined ? undefined : recordHeaders(headers),
      timestamp === undefined ? this.#runtime.clock.nowMs() : timestampMs(timestamp),
      partition,
    );
  }

  /** Resolves when the buffer has room again. */
  ready(options?: CallOptions): Promise<void> {
    return withDeadline(this.#runtime.timers, options, undefined, 'ready', () => this.#publisher.whenReady());
  }

  /** Sends what was published so far without lingering; resolves when all of it is stored or has failed. */
  flush(options?: CallOptions): Promise<void> {
    return withDeadline(this.#runtime.timers, options, undefined, 'flush', () => this.#publisher.flush());
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
    await this.#publisher.close();
    await this.#transport.close();
  }

  #submit(topic: string, value: unknown, options: PublishOptions, settler: PublishSettler): (() => boolean) | null {
    this.#checkTopic(topic);
    const { key, headers, partition, timestamp } = options;
    return this.#publisher.publish(
      topic,
      keyBytes(key),
      valueBytes(options.serde, value, topic),
      headers === undefined ? undefined : recordHeaders(headers),
      timestamp === undefined ? this.#runtime.clock.nowMs() : timestampMs(timestamp),
      partition,
      settler,
    );
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

function valueBytes(serde: Serde<unknown> | undefined, value: unknown, topic: string): Uint8Array | null {
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
