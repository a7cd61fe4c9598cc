/**
 * A consumer group's member in push form: handlers by topic, and `run`.
 */
import { NaruError, checkGroupId } from '@naru/protocol';
import type { CompressionCodecs } from '@naru/protocol/batch';
import type { CallOptions } from '../call-options.ts';
import { checkBatchHandling } from '../catalog/catalog-binding.ts';
import type { CatalogBinding, EventHandling } from '../catalog/catalog-binding.ts';
import type { CataloguedName, EventCatalog, UncataloguedName } from '../catalog/event-catalog.ts';
import { BrokerClaims, brokerIdempotency, isBrokerIdempotency } from '../idempotency/broker-idempotency.ts';
import type { IdempotencyStore, MemberClaims } from '../idempotency/idempotency-store.ts';
import { claimsOf } from '../idempotency/idempotency-store.ts';
import type { Runtime } from '../runtime.ts';
import type { Serde } from '../serde/serde.ts';
import { json } from '../serde/serde.ts';
import type { Settings, SubscriberSettings } from '../settings.ts';
import type { Transport } from '../transport/transport.ts';
import type { AssignedPartition } from './assigned-partition.ts';
import type { HandlerPublishing } from './call-outputs.ts';
import { Consumption } from './consumption.ts';
import type { PartitionFailure, PositionJump, RebalanceListeners } from './consumer.ts';
import type { BatchHandler, Handler, TopicPartition } from './event.ts';
import { HandlerRunner } from './handler-runner.ts';
import type { OutputProducers } from './output-transactions.ts';
import { Registrations } from './registrations.ts';
import type { Registration } from './registrations.ts';
import type { StartPosition } from './start-position.ts';
import { defined, subscriberSettings } from './subscriber-settings.ts';
import type { SubscriberOverrides } from './subscriber-settings.ts';

/** Everything in the settings' `subscriber` section can be given here too, and wins. */
export interface SubscriberOptions extends SubscriberOverrides {
  /** Where a group that has committed nothing begins. Default `beginning`. */
  readonly from?: StartPosition | undefined;
  /** A static member: it keeps its partitions over a restart within the session time-out (KIP-345). */
  readonly instanceId?: string | undefined;
  /** How values are read. Default JSON. */
  readonly serde?: Serde<unknown> | undefined;
  /**
   * Handles each event once by its id: a store, or parts of the settings of the same name. Default: the settings', by which the broker
   * is the store when there is to be one.
   */
  readonly idempotency?: IdempotencyStore | Partial<SubscriberSettings['idempotency']> | undefined;
}

export interface HandleOptions {
  /**
   * Only events of this CloudEvents type. A topic may have a handler for each type, and one without for all others; what nobody
   * wants is treated as the setting `unhandled` says.
   */
  readonly type?: string | undefined;
  readonly serde?: Serde<unknown> | undefined;
}

/** Events handled at a time; as in the settings. */
const MAX_CONCURRENCY = 10_000;

export interface RunOptions {
  /** Events handled at a time; those of one key are always handled one after the other. Default: the settings'. */
  readonly concurrency?: number | undefined;
  /** Aborting it ends the run: what is being handled is finished and committed. */
  readonly signal?: AbortSignal | undefined;
}

/** The broker keeps no more failed events of a partition for now. */
export interface PartitionStall extends TopicPartition {
  /** Null: it does again. */
  readonly error: NaruError | null;
}

/** What it takes to make a subscriber; given by Naru. */
export interface SubscriberContext {
  readonly transport: Transport;
  readonly runtime: Runtime;
  readonly settings: Settings;
  readonly codecs: CompressionCodecs;
  /** Undefined where there is none: then names are topics. */
  readonly catalog?: CatalogBinding | undefined;
  /** What handlers publish with. */
  readonly publishing: HandlerPublishing;
  /** And in transactions. */
  readonly producers: OutputProducers;
  /** The offset that a position means now. */
  resolvePosition(partition: TopicPartition, position: StartPosition): Promise<number>;
  /** Called when the subscriber is over. */
  closed(subscriber: Subscriber): void;
}

export class Subscriber implements AsyncDisposable {
  readonly group: string;
  readonly #context: SubscriberContext;
  readonly #options: SubscriberOptions;
  #settings: SubscriberSettings;
  readonly #isOnceByCatalog: boolean;
  readonly #registrations = new Registrations();
  readonly #store: IdempotencyStore | undefined;
  readonly #listeners: RebalanceListeners = { assigned: [], revoked: [] };
  readonly #jumpListeners: ((jump: PositionJump) => unknown)[] = [];
  readonly #failureListeners: ((failure: PartitionFailure) => unknown)[] = [];
  readonly #stallListeners: ((stall: PartitionStall) => unknown)[] = [];
  #consumption: Consumption | null = null;
  #running: Promise<void> | null = null;
  #stop: ((error: Error | null) => void) | null = null;
  #isClosed = false;

  constructor(context: SubscriberContext, group: string, options: SubscriberOptions = {}) {
    const refusal = checkGroupId(group);
    if (refusal !== null) throw NaruError.from(refusal);
    this.group = group;
    this.#context = context;
    this.#options = options;
    const { idempotency } = options;
    const isStore = idempotency !== undefined && 'claim' in idempotency;
    this.#store = isStore ? idempotency : undefined;
    const said = context.catalog?.groupSettings(group);
    const below = said === undefined ? context.settings.subscriber : { ...context.settings.subscriber, ...said };
    this.#settings = subscriberSettings(below, { ...options, idempotency: isStore ? { use: true } : idempotency });
    this.#isOnceByCatalog = said?.guarantee === 'exactly-once' && idempotency === undefined;
  }

  /**
   * Registers the handler of `topic`'s events, or of those of one type; with a catalog, of an event by its name. It is called again for an event until it returns, or its
   * attempts are used up; then the event becomes a dead letter of the group.
   */
  handle<T = unknown>(topic: UncataloguedName, handler: Handler<T>, options?: HandleOptions): this;
  handle<T = unknown>(topic: UncataloguedName, options: HandleOptions, handler: Handler<T>): this;
  handle<N extends CataloguedName>(event: N, options: HandleOptions, handler: Handler<EventCatalog[N]>): this;
  handle<N extends CataloguedName>(event: N, handler: Handler<EventCatalog[N]>, options?: HandleOptions): this;
  handle(name: string, first: Handler<unknown> | HandleOptions, second: Handler<unknown> | HandleOptions = {}): this {
    const [handler, options] = typeof first === 'function' ? [first, second as HandleOptions] : [second, first];
    if (typeof handler !== 'function') throw new NaruError('INVALID_REQUEST', `expected a handler for ${name}`);
    const event = this.#event(name);
    const serde = options.serde ?? this.#options.serde ?? event?.serde ?? json;
    const type = options.type ?? event?.type;
    return this.#register(event?.topic ?? name, { kind: 'event', handler, serde, retry: event?.retry }, type);
  }

  /**
   * Registers the one handler of `topic`'s events, several at a time: those of one partition, in order. When it fails it gets the
   * same ones again; when the attempts are used up it gets them one by one, and those that fail then become dead letters.
   */
  handleBatch<T = unknown>(
    topic: UncataloguedName,
    handler: BatchHandler<T>,
    options?: Omit<HandleOptions, 'type'>,
  ): this;
  handleBatch<N extends CataloguedName>(
    event: N,
    handler: BatchHandler<EventCatalog[N]>,
    options?: Omit<HandleOptions, 'type'>,
  ): this;
  handleBatch(name: string, handler: BatchHandler<unknown>, options: Omit<HandleOptions, 'type'> = {}): this {
    const event = this.#event(name);
    if (event !== undefined) checkBatchHandling(name, event);
    const serde = options.serde ?? this.#options.serde ?? event?.serde ?? json;
    return this.#register(event?.topic ?? name, { kind: 'batch', handler, serde, retry: event?.retry });
  }

  /** Called, and awaited, when partitions became this member's, before their first event. */
  onAssigned(listener: (partitions: TopicPartition[]) => unknown): this {
    this.#listeners.assigned.push(listener);
    return this;
  }

  /**
   * Called, and awaited, when partitions are given up: after their last event and before the last commit; with `lost`, when
   * they are another member's already.
   */
  onRevoked(listener: (partitions: TopicPartition[], details: { lost: boolean }) => unknown): this {
    this.#listeners.revoked.push(listener);
    return this;
  }

  /**
   * Called when events were gone before this subscriber came to them: deleted by retention, or by an operator. It goes on
   * where the option `from` says (with `none`, {@link run} rejects with OFFSET_OUT_OF_RANGE instead).
   */
  onPositionJump(listener: (jump: PositionJump) => unknown): this {
    this.#jumpListeners.push(listener);
    return this;
  }

  /**
   * Called when the broker cannot read on in a partition, because what it stored there is damaged, say. The others go on; so
   * does this one after a {@link seek} beyond the damage. Without a listener {@link run} rejects with the error.
   */
  onPartitionFailed(listener: (failure: PartitionFailure) => unknown): this {
    this.#failureListeners.push(listener);
    return this;
  }

  /**
   * Called when the broker has no room to keep more events that failed (HELD_LIMIT_REACHED): the keys of these stand still until it
   * has, and so does the partition once too much of it waits. With `error: null` when it goes on.
   */
  onStalled(listener: (stall: PartitionStall) => unknown): this {
    this.#stallListeners.push(listener);
    return this;
  }

  /**
   * Joins the group and handles events until `signal` aborts or {@link close} is called; then finishes what is being
   * handled, commits, leaves and resolves.
   *
   * @throws NaruError when the broker refuses for good; HandlerFailedError, with `deadLetter: { use: false }`, when an event cannot
   *   be handled
   */
  run(options: RunOptions = {}): Promise<void> {
    const error = this.#cannotRun(options);
    if (error !== null) return Promise.reject(error);
    const { catalog } = this.#context;
    const running = catalog === undefined ? this.#run(options) : this.#runLoaded(catalog, options);
    this.#running = running;
    return running;
  }

  /**
   * Commits what is finished now. Only needed with `autoCommit: false`; then it is also what makes dead letters and held events the
   * broker's, and their keys stand still until it is called.
   */
  async commit(options?: CallOptions): Promise<void> {
    await this.#started().commitWithin(options);
  }

  /** Stops taking events of these partitions, or of all. What was taken up is still handled. */
  pause(partitions?: readonly TopicPartition[]): void {
    const consumption = this.#started();
    consumption.setPaused(this.#select(consumption, partitions), true);
  }

  resume(partitions?: readonly TopicPartition[]): void {
    const consumption = this.#started();
    consumption.setPaused(this.#select(consumption, partitions), false);
  }

  /**
   * Goes on from another position. It takes up to `pollWaitMs` to take effect. What was handled from the old position on
   * and not committed counts no longer.
   *
   * @throws NaruError NOT_ASSIGNED for a partition that is not this member's
   */
  async seek(partition: TopicPartition, position: StartPosition): Promise<void> {
    const consumption = this.#started();
    const [assigned] = this.#select(consumption, [partition]);
    const offset = await this.#context.resolvePosition(partition, position);
    if (assigned !== undefined && assigned.state !== 'gone') consumption.seek(assigned, offset);
  }

  /** The partitions that are this member's. */
  assigned(): TopicPartition[] {
    const partitions = [...(this.#consumption?.partitions() ?? [])];
    return partitions.map(({ topic, partition }) => ({ topic, partition }));
  }

  /** Ends {@link run}: finishes what is being handled, commits, leaves. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#stop?.(null);
    await this.#running?.catch(() => {}); // whoever called run() gets the error
    this.#context.closed(this);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** What the catalog says of an event, under the options; undefined without a catalog. */
  #event(name: string): EventHandling | undefined {
    const { catalog, settings } = this.#context;
    const event = catalog?.handling(this.group, name, settings.subscriber.retry);
    return event === undefined ? undefined : { ...event, retry: { ...event.retry, ...defined(this.#options.retry) } };
  }

  /** A schema that cannot be read ends the run before it has joined. */
  async #runLoaded(catalog: CatalogBinding, options: RunOptions): Promise<void> {
    try {
      await catalog.load(this.#registrations.serdes());
    } catch (error) {
      this.#running = null;
      throw error;
    }
    if (!this.#isClosed) await this.#run(options);
  }

  #register(topic: string, registration: Registration, type?: string): this {
    if (this.#running !== null) throw new NaruError('INVALID_REQUEST', 'handlers are registered before run()');
    this.#registrations.add(topic, type, registration);
    const isParallel = this.#context.catalog?.catalog.topics.get(topic)?.type === 'parallel';
    // Exactly once by the catalog needs no more words than that.
    if (isParallel && this.#isOnceByCatalog && this.#settings.guarantee === 'exactly-once') {
      this.#settings = { ...this.#settings, idempotency: { ...this.#settings.idempotency, use: true } };
    }
    return this;
  }

  /** Undefined when events are not claimed. */
  #claims(consumption: () => Consumption | null): MemberClaims | undefined {
    const { use, leaseMs } = this.#settings.idempotency;
    if (!use) return undefined;
    const store = this.#store ?? brokerIdempotency();
    if (!isBrokerIdempotency(store)) return claimsOf(store, this.group, leaseMs);
    const closed = new NaruError('CLOSED', 'the subscriber is closed');
    return new BrokerClaims(
      (ids, ms) => consumption()?.claim(ids, ms) ?? Promise.reject(closed),
      leaseMs,
      this.#context.runtime,
    );
  }

  #stalled({ topic, partition }: TopicPartition, error: NaruError | null): void {
    if (error !== null) {
      const fields = { topic, partition, error: error.message };
      this.#context.runtime.logger.error(fields, 'the broker keeps no more failed events; their keys stand still');
    }
    for (const listener of this.#stallListeners) {
      void Promise.resolve({ topic, partition, error })
        .then(listener)
        .catch((thrown: unknown) => this.#stop?.(thrown as Error));
    }
  }

  #cannotRun({ concurrency = this.#settings.concurrency }: RunOptions): NaruError | null {
    if (this.#isClosed) return new NaruError('CLOSED', 'the subscriber is closed');
    if (this.#running !== null) return new NaruError('INVALID_REQUEST', 'the subscriber runs already');
    if (!Number.isInteger(concurrency) || concurrency < 1 || concurrency > MAX_CONCURRENCY) {
      const message = `concurrency: expected a whole number from 1 to ${MAX_CONCURRENCY}, got ${concurrency}`;
      return new NaruError('INVALID_REQUEST', message);
    }
    if (this.#registrations.topics.length > 0) return null;
    return new NaruError('INVALID_REQUEST', 'the subscriber has no handlers; call handle() before run()');
  }

  async #run({ concurrency, signal }: RunOptions): Promise<void> {
    const { runtime } = this.#context;
    const stopped = new Promise<Error | null>((resolve) => {
      this.#stop = resolve;
    });
    const onAbort = (): void => this.#stop?.(null);
    if (signal?.aborted) onAbort();
    signal?.addEventListener('abort', onAbort, { once: true });
    const runner = new HandlerRunner({
      runtime,
      settings: this.#settings,
      concurrency: concurrency ?? this.#settings.concurrency,
      group: this.group,
      registrations: this.#registrations,
      claims: this.#claims(() => this.#consumption),
      publishing: this.#context.publishing,
      stalled: (partition, error) => this.#stalled(partition, error),
      failed: (error) => this.#stop?.(error),
    });
    const consumption = new Consumption({
      ...this.#context,
      subscriber: this.#settings,
      group: this.group,
      topics: this.#registrations.topics,
      from: this.#options.from ?? 'beginning',
      instanceId: this.#options.instanceId,
      memberId: crypto.randomUUID(),
      listeners: this.#listeners,
      producers: this.#settings.guarantee === 'exactly-once' ? this.#context.producers : undefined,
      jumped: async (jump) => {
        for (const listener of this.#jumpListeners) await listener(jump);
      },
      partitionFailed:
        this.#failureListeners.length === 0
          ? undefined
          : async (failure) => {
              for (const listener of this.#failureListeners) await listener(failure);
            },
      consumer: runner,
    });
    this.#consumption = consumption;
    runner.attach(consumption);
    if (signal?.aborted !== true) consumption.start();
    const error = await stopped;
    runner.stop();
    signal?.removeEventListener('abort', onAbort);
    await consumption.close();
    this.#consumption = null;
    this.#running = null;
    if (error !== null) throw error;
  }

  #started(): Consumption {
    if (this.#consumption === null) throw new NaruError('INVALID_REQUEST', 'the subscriber does not run');
    return this.#consumption;
  }

  #select(consumption: Consumption, partitions: readonly TopicPartition[] | undefined): AssignedPartition[] {
    if (partitions === undefined) return [...consumption.partitions()];
    return partitions.map((wanted) => {
      const found = consumption.find(wanted);
      if (found !== undefined) return found;
      throw new NaruError('NOT_ASSIGNED', `${wanted.topic}/${wanted.partition} is not this member's`);
    });
  }
}
