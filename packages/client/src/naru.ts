/**
 * The SDK's front door: one connection to a broker, to publish and subscribe with.
 */
import { delay, topicIdFromBytes, toError } from '@naru/base';
import { NaruError, checkGroupId } from '@naru/protocol';
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
import { CloudEvents } from './publisher/cloud-events.ts';
import { EventEncoder } from './publisher/event-encoder.ts';
import { EventIntake } from './publisher/event-intake.ts';
import type { EnqueueOptions, PublishOptions } from './publish-options.ts';
import type { DeliveryListener, PublishResult } from './publisher/publish-result.ts';
import { Publisher } from './publisher/publisher.ts';
import type { DescribeTopic, TopicLayout } from './publisher/route-table.ts';
import type { Runtime } from './runtime.ts';
import { systemRuntime } from './runtime.ts';
import { SchemaRegistryClient } from './serde/registry/schema-registry-client.ts';
import type { SchemaRegistryOptions } from './serde/registry/schema-registry-client.ts';
import type { Awaitable } from './serde/serde.ts';
import { loadSettings } from './settings-file.ts';
import type { Settings, SettingsInput } from './settings.ts';
import { EventPoller } from './subscriber/event-poller.ts';
import type { PollOptions } from './subscriber/event-poller.ts';
import type { HandlerPublishing } from './subscriber/call-outputs.ts';
import type { TopicPartition } from './subscriber/event.ts';
import { KnownTopics } from './subscriber/known-topics.ts';
import type { StartPosition } from './subscriber/start-position.ts';
import { Subscriber } from './subscriber/subscriber.ts';
import type { SubscriberOptions } from './subscriber/subscriber.ts';
import type { Transaction } from './transaction/transaction.ts';
import type { TransactionOptions } from './transaction/transactions.ts';
import { Transactions } from './transaction/transactions.ts';
import { ConnectTransport } from './transport/connect-transport.ts';
import type { Transport } from './transport/transport.ts';

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
  readonly #encoder: EventEncoder;
  readonly #intake: EventIntake;
  readonly #transactions: Transactions;
  /** Of handlers. */
  readonly #publishing: HandlerPublishing;
  readonly #binding: CatalogBinding | null;
  readonly #subscribers = new Set<{ close(): Promise<void> }>();
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
    const describeTopic: DescribeTopic = (topic, signal) => this.#describeTopic(topic, signal);
    this.#publisher = new Publisher({ transport, runtime, settings, codecs, describeTopic });
    const source = `/${settings.clientId}`;
    const cloudEvents = settings.publisher.cloudEvents
      ? new CloudEvents({ source, random: runtime.random, traceparent })
      : null;
    const encoder = new EventEncoder({ clock: runtime.clock, binding: this.#binding, cloudEvents });
    this.#encoder = encoder;
    const { deliveryTimeoutMs } = settings.publisher;
    this.#intake = new EventIntake(this.#publisher, runtime.timers, deliveryTimeoutMs, (event, error) =>
      this.#publisher.refused(event, error),
    );
    this.#transactions = new Transactions({ transport, runtime, settings, codecs, describeTopic, encoder });
    const { retry } = settings.publisher;
    const topics = new KnownTopics({ runtime, describeTopic, retry, timeoutMs: deliveryTimeoutMs });
    this.#publishing = {
      encode: (name, value, options) => encoder.encode(name, value, options),
      checkTopic: (topic) => topics.check(topic),
      forgetTopic: (topic) => topics.forget(topic),
      maxEventBytes: () => Math.min(this.#publisher.maxBatchBytes, this.#transactions.producers.maxBatchBytes),
      publish: (name, value, options) => this.publish(name, value, options),
    };
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
    const sent = Promise.withResolvers<PublishResult>();
    try {
      this.#intake.submit(this.#encoder.encode(name, value, options), sent);
    } catch (error) {
      sent.reject(toError(error));
    }
    return sent.promise;
  }

  /**
   * Hands over one event and returns at once: true when it was taken, false when the buffer is full ({@link ready} then
   * says when there is room). What becomes of it, {@link onDelivery} listeners are told.
   *
   * @throws NaruError for an event that cannot be published at all: SERIALIZATION, RECORD_TOO_LARGE, INVALID_TOPIC, CLOSED. Where
   *   its serde answers with a promise, listeners are told instead
   */
  enqueue<Name extends EventName>(name: Name, value: EventValue<Name>, options: EnqueueOptions = {}): boolean {
    if (this.#intake.isFull) return false;
    const event = this.#encoder.encode(name, value, options);
    if (!this.#intake.isFree(event)) {
      this.#intake.lineUp(event, null);
      return true;
    }
    const { topic, key, value: bytes, headers, timestampMs, partition } = event;
    return this.#publisher.enqueue(topic, key, bytes, headers, timestampMs, partition);
  }

  /** Resolves when the buffer has room again. */
  ready(options?: CallOptions): Promise<void> {
    return withDeadline(this.#runtime.timers, options, undefined, 'ready', async () => {
      await this.#intake.whenRoom();
      await this.#publisher.whenReady();
    });
  }

  /** Sends what was published so far without lingering; resolves when all of it is stored or has failed. */
  flush(options?: CallOptions): Promise<void> {
    return withDeadline(this.#runtime.timers, options, undefined, 'flush', async () => {
      await this.#intake.whenEntered();
      await this.#publisher.flush();
    });
  }

  /** Tells what became of enqueued events. @returns a function that ends it */
  onDelivery(listener: DeliveryListener): () => void {
    return this.#publisher.onDelivery(listener);
  }

  /**
   * Runs `work`; what it publishes and commits through `tx` is there for readers all together, or not at all. Resolves with what
   * `work` returned once that is committed, rejects with what it threw once everything is aborted. `work` is run again when the
   * transaction was aborted for a reason that may pass, so what it does apart from `tx` should do no harm when repeated.
   *
   * At most `publisher.transaction.maxConcurrent` transactions are open, further ones wait: do not wait for one inside of another.
   *
   * @throws TransactionFencedError when another process uses this transactional id; NaruError DELIVERY_TIMEOUT when it is not known
   *   whether it was committed, which the message says; BUFFER_FULL when too many wait; what `tx.abort` was told. When the options'
   *   signal or time ends it while it is being committed, it may be committed all the same
   */
  transaction<T>(work: (tx: Transaction) => Awaitable<T>, options: TransactionOptions = {}): Promise<T> {
    if (this.#closing !== null) return Promise.reject(new NaruError('CLOSED', 'the connection is closed'));
    return this.#transactions.run(work, options);
  }

  /** A member of the consumer group `group`: register handlers, then `run()`. */
  subscriber(group: string, options: SubscriberOptions = {}): Subscriber {
    this.#checkOpen();
    const subscriber = new Subscriber(
      {
        ...this.#subscriberContext(),
        catalog: this.#binding ?? undefined,
        resolvePosition: (partition, position) => this.#resolvePosition(partition, position),
        publishing: this.#publishing,
        producers: this.#transactions.producers,
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
    await this.#transactions.close(timeoutMs);
    // What is still open then is reported to whoever published it.
    await this.flush({ timeoutMs }).catch(() => {});
    this.#intake.close(() => new NaruError('CLOSED', 'the connection is closed; the event was not sent'));
    await this.#publisher.close();
    await this.#transport.close();
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
        const event = this.#encoder.encode(topic, value, options);
        const takeBack = this.#intake.submit(event, { resolve, reject });
        signal.addEventListener('abort', () => takeBack?.(), { once: true });
      });
    });
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
      encoder: this.#encoder,
      producers: this.#transactions.producers,
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
