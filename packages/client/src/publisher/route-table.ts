/**
 * The topics that are published to, and what is known of their partitions: loaded when first needed, refreshed by age and
 * after errors. Unknown topics are refused at once and not remembered.
 */
import type { TopicId } from '@naru/base';
import { delay } from '@naru/base';
import { NaruError, isNaruError } from '@naru/protocol';
import type { BackoffPolicy } from '../backoff.ts';
import { backoffMs } from '../backoff.ts';
import type { Runtime } from '../runtime.ts';
import type { PartitionQueue } from './partition-queue.ts';
import { TopicRoute } from './topic-route.ts';

/** Topics that one publisher may have in use; beyond it, the ones with nothing to send are forgotten. */
const MAX_TOPICS = 10_000;

export interface TopicLayout {
  readonly topicId: TopicId;
  readonly partitionCount: number;
}

/** Rejects with UNKNOWN_TOPIC_OR_PARTITION. */
export type DescribeTopic = (topic: string, signal: AbortSignal) => Promise<TopicLayout>;

export interface RouteTableOptions {
  readonly runtime: Runtime;
  readonly describeTopic: DescribeTopic;
  readonly retry: BackoffPolicy;
  /** The one queue of a partition. */
  queue(topic: string, topicId: TopicId, partition: number): PartitionQueue;
  /** What waits on the route can go. */
  opened(route: TopicRoute): void;
  /** What waits on the route cannot go. */
  refused(route: TopicRoute, error: NaruError): void;
}

export class RouteTable {
  readonly #options: RouteTableOptions;
  readonly #routes = new Map<string, TopicRoute>();
  readonly #closing = new AbortController();
  /** Routes that wait for their queues to become empty. */
  readonly #growing = new Set<TopicRoute>();

  constructor(options: RouteTableOptions) {
    this.#options = options;
  }

  all(): TopicRoute[] {
    return [...this.#routes.values()];
  }

  get(topic: string): TopicRoute {
    let route = this.#routes.get(topic);
    if (route === undefined) {
      if (this.#routes.size >= MAX_TOPICS) this.#forgetIdle();
      route = new TopicRoute(topic);
      this.#routes.set(topic, route);
      void this.#load(route);
    }
    return route;
  }

  /** What is known of a topic turned out wrong. */
  forget(topic: string): void {
    const route = this.#routes.get(topic);
    if (route !== undefined && !route.isLoading) void this.#load(route);
  }

  /** Looks again at what was loaded before `beforeMs` (monotonic). */
  refresh(beforeMs: number): void {
    for (const route of this.#routes.values()) {
      if (route.isOpen && !route.isLoading && route.loadedMs < beforeMs) void this.#load(route);
    }
  }

  /** A queue has become empty. */
  emptied(): void {
    for (const route of this.#growing) this.#tryGrow(route);
  }

  close(): void {
    this.#closing.abort(new NaruError('CLOSED', 'the publisher was closed'));
  }

  async #load(route: TopicRoute): Promise<void> {
    const { runtime, describeTopic, retry } = this.#options;
    route.isLoading = true;
    for (let failures = 1; !this.#closing.signal.aborted; failures++) {
      try {
        const layout = await describeTopic(route.topic, this.#closing.signal);
        route.isLoading = false;
        route.lastError = null;
        route.loadedMs = runtime.clock.monotonicMs();
        this.#apply(route, layout);
        return;
      } catch (reason) {
        const error =
          reason instanceof NaruError ? reason : new NaruError('INTERNAL', String(reason), { cause: reason });
        route.lastError = error;
        if (this.#closing.signal.aborted) return;
        if (!error.retriable) {
          this.#drop(route, error);
          return;
        }
        runtime.logger.warn({ topic: route.topic, error: error.message }, 'cannot look up the topic; trying again');
        await delay(runtime.timers, backoffMs(retry, failures, runtime.random), this.#closing.signal).catch(() => {});
        if (!route.isOpen && route.waiting.length === 0 && route.nextQueues === null) {
          this.#drop(route, error);
          return;
        }
      }
    }
  }

  #apply(route: TopicRoute, { topicId, partitionCount }: TopicLayout): void {
    const queues = (): readonly PartitionQueue[] =>
      Array.from({ length: partitionCount }, (_, partition) => this.#options.queue(route.topic, topicId, partition));
    if (route.topicId === topicId && partitionCount <= route.queues.length) return;
    const isSameTopic = route.topicId === topicId;
    route.topicId = topicId;
    route.nextQueues = queues;
    route.isOpen = false;
    // A topic that was created anew has its own order: what is on its way to the old one will be refused.
    if (!isSameTopic) route.queues = [];
    this.#growing.add(route);
    this.#tryGrow(route);
  }

  #tryGrow(route: TopicRoute): void {
    if (route.hasUnsettled) return;
    this.#growing.delete(route);
    if (route.nextQueues === null) return;
    route.queues = route.nextQueues();
    route.nextQueues = null;
    route.isOpen = true;
    this.#options.opened(route);
  }

  #drop(route: TopicRoute, error: NaruError): void {
    route.isLoading = false;
    if (isNaruError(error, 'UNKNOWN_TOPIC_OR_PARTITION') || !route.isOpen) {
      route.isOpen = false;
      this.#growing.delete(route);
      if (this.#routes.get(route.topic) === route) this.#routes.delete(route.topic);
      this.#options.refused(route, error);
    }
  }

  #forgetIdle(): void {
    for (const [topic, route] of this.#routes) {
      if (!route.hasUnsettled && route.waiting.length === 0 && !route.isLoading) this.#routes.delete(topic);
    }
  }
}
