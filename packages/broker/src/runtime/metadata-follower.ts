/**
 * Carries the metadata store's commits to those who act on them: the services' registry, and the shard, which creates
 * and deletes partitions. A service that commits waits here until its revision has taken effect.
 */
import { toError } from '@naru/base';
import { NaruError } from '@naru/protocol';
import {
  TOPIC_KEY_PREFIX,
  TopicRegistry,
  type TopicChange,
  type TopicMetadata,
} from '../core/registry/topic-registry.ts';
import type { MetadataChange, MetadataStore, Revision } from '../metadata/metadata-store.ts';
import type { ShardClient } from './commands.ts';

interface Waiter {
  readonly revision: Revision;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

export class MetadataFollower {
  readonly registry = new TopicRegistry();
  readonly #metadata: MetadataStore;
  readonly #shard: ShardClient;
  readonly #waiters = new Set<Waiter>();
  readonly #listeners = new Set<() => void>();
  readonly #abort = new AbortController();
  #applied: Revision = 0;
  #failure: Error | null = null;
  #running: Promise<void> = Promise.resolve();

  constructor(metadata: MetadataStore, shard: ShardClient) {
    this.#metadata = metadata;
    this.#shard = shard;
  }

  /** @param topics the topics of the snapshot that the shard was started with, which was taken at `revision` */
  start(topics: readonly TopicMetadata[], revision: Revision): void {
    for (const topic of topics) this.registry.apply({ key: TOPIC_KEY_PREFIX + topic.name, topic });
    this.#applied = revision;
    this.#running = this.#follow().catch((error: unknown) => this.#fail(error));
  }

  /** Settles when the commit of that revision has taken effect. */
  applied(revision: Revision): Promise<void> {
    if (revision <= this.#applied) return Promise.resolve();
    if (this.#failure !== null) return Promise.reject(this.#failure);
    return new Promise((resolve, reject) => this.#waiters.add({ revision, resolve, reject }));
  }

  /** Calls `listener` after every change of topics; returns how to stop that. */
  onTopicsChanged(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async stop(): Promise<void> {
    this.#abort.abort();
    await this.#running;
    this.#fail(new NaruError('SHUTTING_DOWN', 'the broker is shutting down'));
  }

  async #follow(): Promise<void> {
    for await (const { revision, changes } of this.#metadata.watch(this.#applied, this.#abort.signal)) {
      const topics = changes.flatMap(topicChange);
      if (topics.length > 0) {
        for (const change of topics) this.registry.apply(change);
        await this.#shard.submit({ type: 'topics', changes: topics });
        for (const listener of this.#listeners) listener();
      }
      this.#applied = revision;
      for (const waiter of this.#waiters) {
        if (waiter.revision > revision) continue;
        this.#waiters.delete(waiter);
        waiter.resolve();
      }
    }
  }

  #fail(error: unknown): void {
    this.#failure = toError(error);
    for (const waiter of this.#waiters) waiter.reject(this.#failure);
    this.#waiters.clear();
  }
}

function topicChange(change: MetadataChange): TopicChange[] {
  if (!change.key.startsWith(TOPIC_KEY_PREFIX)) return [];
  return [{ key: change.key, topic: 'deleted' in change ? undefined : (change.value as TopicMetadata) }];
}
