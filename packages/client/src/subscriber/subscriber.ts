/**
 * A consumer group's member in push form: handlers by topic, and `run`.
 */
import { NaruError, checkGroupId } from '@naru/protocol';
import type { CompressionCodecs } from '@naru/protocol/batch';
import type { CallOptions } from '../call-options.ts';
import type { Runtime } from '../runtime.ts';
import type { Serde } from '../serde/serde.ts';
import { json } from '../serde/serde.ts';
import type { Settings, SubscriberSettings } from '../settings.ts';
import type { Transport } from '../transport/transport.ts';
import type { AssignedPartition } from './assigned-partition.ts';
import { Consumption } from './consumption.ts';
import type { PartitionFailure, PositionJump, RebalanceListeners } from './consumption.ts';
import type { BatchHandler, Handler, TopicPartition } from './event.ts';
import { HandlerRunner } from './handler-runner.ts';
import type { Registration } from './handler-runner.ts';
import type { StartPosition } from './start-position.ts';

/** Everything in the settings' `subscriber` section can be given here too, and wins. */
export interface SubscriberOptions extends Partial<SubscriberSettings> {
  /** Where a group that has committed nothing begins. Default `beginning`. */
  readonly from?: StartPosition | undefined;
  /** A static member: it keeps its partitions over a restart within the session time-out (KIP-345). */
  readonly instanceId?: string | undefined;
  /** How values are read. Default JSON. */
  readonly serde?: Serde<unknown> | undefined;
}

export interface HandleOptions {
  readonly serde?: Serde<unknown> | undefined;
}

export interface RunOptions {
  /** Events handled at a time; those of one key are always handled one after the other. Default: the settings'. */
  readonly concurrency?: number | undefined;
  /** Aborting it ends the run: what is being handled is finished and committed. */
  readonly signal?: AbortSignal | undefined;
}

/** What it takes to make a subscriber; given by Naru. */
export interface SubscriberContext {
  readonly transport: Transport;
  readonly runtime: Runtime;
  readonly settings: Settings;
  readonly codecs: CompressionCodecs;
  /** The offset that a position means now. */
  resolvePosition(partition: TopicPartition, position: StartPosition): Promise<number>;
  /** Called when the subscriber is over. */
  closed(subscriber: Subscriber): void;
}

export class Subscriber implements AsyncDisposable {
  readonly group: string;
  readonly #context: SubscriberContext;
  readonly #options: SubscriberOptions;
  readonly #settings: SubscriberSettings;
  readonly #registrations = new Map<string, Registration>();
  readonly #listeners: RebalanceListeners = { assigned: [], revoked: [] };
  readonly #jumpListeners: ((jump: PositionJump) => unknown)[] = [];
  readonly #failureListeners: ((failure: PartitionFailure) => unknown)[] = [];
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
    this.#settings = subscriberSettings(context.settings.subscriber, options);
  }

  /** Registers the one handler of `topic`'s events. It is called again for an event until it returns. */
  handle<T = unknown>(topic: string, handler: Handler<T>, options: HandleOptions = {}): this {
    const serde = options.serde ?? this.#options.serde ?? json;
    return this.#register(topic, { kind: 'event', handler: handler as Handler<unknown>, serde });
  }

  /** Registers the one handler of `topic`'s events, several at a time: those of one partition, in order. */
  handleBatch<T = unknown>(topic: string, handler: BatchHandler<T>, options: HandleOptions = {}): this {
    const serde = options.serde ?? this.#options.serde ?? json;
    return this.#register(topic, { kind: 'batch', handler: handler as BatchHandler<unknown>, serde });
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
   * Joins the group and handles events until `signal` aborts or {@link close} is called; then finishes what is being
   * handled, commits, leaves and resolves.
   *
   * @throws HandlerFailedError when a handler has used up its attempts; NaruError when the broker refuses for good
   */
  run(options: RunOptions = {}): Promise<void> {
    if (this.#isClosed) return Promise.reject(new NaruError('CLOSED', 'the subscriber is closed'));
    if (this.#running !== null) return Promise.reject(new NaruError('INVALID_REQUEST', 'the subscriber runs already'));
    if (this.#registrations.size === 0) {
      return Promise.reject(
        new NaruError('INVALID_REQUEST', 'the subscriber has no handlers; call handle() before run()'),
      );
    }
    const running = this.#run(options);
    this.#running = running;
    return running;
  }

  /** Commits what is finished now. Only needed with `autoCommit: false`. */
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

  #register(topic: string, registration: Registration): this {
    if (this.#running !== null) throw new NaruError('INVALID_REQUEST', 'handlers are registered before run()');
    if (this.#registrations.has(topic)) throw new NaruError('INVALID_REQUEST', `${topic} has a handler already`);
    this.#registrations.set(topic, registration);
    return this;
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
      failed: (error) => this.#stop?.(error),
    });
    const consumption = new Consumption({
      ...this.#context,
      subscriber: this.#settings,
      group: this.group,
      topics: [...this.#registrations.keys()],
      from: this.#options.from ?? 'beginning',
      instanceId: this.#options.instanceId,
      memberId: crypto.randomUUID(),
      listeners: this.#listeners,
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

/** The settings with whatever the options name. */
export function subscriberSettings(
  settings: SubscriberSettings,
  options: Partial<SubscriberSettings>,
): SubscriberSettings {
  const given = Object.entries(options).filter(([key, value]) => value !== undefined && key in settings);
  return { ...settings, ...(Object.fromEntries(given) as Partial<SubscriberSettings>) };
}
