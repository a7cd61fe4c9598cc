/**
 * The topics of a shard: which there are, what settings they have, and that their partitions exist or are gone.
 *
 * Owns the shard's registry of topics. Partitions themselves belong to the partition runtime.
 */
import { partitionKey, type PartitionKey, type TopicId } from '@naru/base';
import { isInternalTopicName, NaruError, refuse, type Refusal } from '@naru/protocol';
import { topicConfig, type TopicConfig, type TopicConfigDefaults } from '../core/registry/topic-config.ts';
import { TopicRegistry, type TopicMetadata } from '../core/registry/topic-registry.ts';
import { lastStableOffset, type PartitionState } from '../core/partition/partition-state.ts';
import type { TopicsCommand } from './commands.ts';
import type { CompactionTarget } from './compactor.ts';
import { DeclaredGroups } from './declared-groups.ts';
import { GROUP_LOG_TOPIC } from './internal-topics.ts';
import type { Partition, PartitionRuntime } from './partition-runtime.ts';

export class ShardTopics {
  readonly registry = new TopicRegistry();
  readonly declared = new DeclaredGroups(() => this.registry.all());
  readonly #partitions: PartitionRuntime;
  readonly #defaults: TopicConfigDefaults;
  /** A topic that changes has new metadata. */
  readonly #configs = new WeakMap<TopicMetadata, TopicConfig>();

  constructor(partitions: PartitionRuntime, defaults: TopicConfigDefaults) {
    this.#partitions = partitions;
    this.#defaults = defaults;
  }

  load(topics: readonly TopicMetadata[]): void {
    for (const topic of topics) this.registry.apply({ key: `topic/${topic.name}`, topic });
    this.declared.forget();
  }

  /**
   * Takes over what was recovered, and makes it agree with the metadata.
   *
   * @throws NaruError DATA_CORRUPT when there are partitions that the metadata does not know: nothing is deleted
   */
  async adopt(topics: readonly TopicMetadata[], recovered: ReadonlyMap<PartitionKey, PartitionState>): Promise<void> {
    const known = new Map(topics.map((topic) => [topic.id, topic]));
    for (const key of recovered.keys()) {
      if (known.has(topicIdOf(key))) continue;
      throw new NaruError(
        'DATA_CORRUPT',
        `the log holds partition ${key}, whose topic the metadata does not know: the metadata is older than the log or was ` +
          'replaced; nothing was changed. Put the metadata that belongs to this log back',
      );
    }
    for (const [key, state] of recovered) {
      this.#partitions.adopt(state, this.#configOf(known.get(topicIdOf(key)) as TopicMetadata));
    }
    for (const topic of topics) {
      if (topic.state === 'deleting') await this.#deletePartitions(topic);
      else await this.#createPartitions(topic);
    }
  }

  /** Resolves to the topics that are gone, once partitions are what the changes say. */
  async apply({ changes }: TopicsCommand): Promise<TopicId[]> {
    const deleted: TopicId[] = [];
    const work: Promise<void>[] = [];
    this.declared.forget();
    for (const change of changes) {
      this.registry.apply(change);
      if (change.topic === undefined) continue;
      if (change.topic.state === 'deleting') {
        deleted.push(change.topic.id);
        work.push(this.#deletePartitions(change.topic));
      } else {
        work.push(this.#createPartitions(change.topic));
      }
    }
    await Promise.all(work);
    return deleted;
  }

  /** Why nobody but the broker may change this partition's records: what its own topics hold is replayed as state. */
  ownedRefusal(partition: PartitionKey): Refusal | null {
    const name = this.#nameOf(partition);
    if (name === undefined || !isInternalTopicName(name)) return null;
    return refuse('INVALID_TOPIC', `topic ${JSON.stringify(name)} is the broker's own: nobody else writes to it`);
  }

  /** Names that a subscription by pattern may match. */
  names(): string[] {
    return this.registry
      .all()
      .flatMap(({ name, state }) => (state !== 'active' || isInternalTopicName(name) ? [] : [name]));
  }

  /** Undefined when there is no such topic. */
  configOf(topicId: TopicId): TopicConfig | undefined {
    const topic = this.registry.byId(topicId);
    return topic === undefined ? undefined : this.#configOf(topic);
  }

  /** Those that their topics' settings clean up; the group log looks after itself. */
  *keptByPolicy(): Generator<Partition> {
    for (const partition of this.#partitions.all()) {
      const name = this.#nameOf(partition.state.partition);
      if (name !== undefined && name !== GROUP_LOG_TOPIC) yield partition;
    }
  }

  /** Those whose topics are compacted. */
  *compacted(): Generator<CompactionTarget> {
    for (const { state, config, highWatermark } of this.keptByPolicy()) {
      if (!config.cleanup.compact) continue;
      const abortedIn = state.transactions.lookup();
      yield { partition: state.partition, config, lastStableOffset: lastStableOffset(state, highWatermark), abortedIn };
    }
  }

  #nameOf(partition: PartitionKey): string | undefined {
    return this.registry.byId(topicIdOf(partition))?.name;
  }

  async #createPartitions(topic: TopicMetadata): Promise<void> {
    const config = this.#configOf(topic);
    const missing: PartitionKey[] = [];
    for (const key of partitionKeys(topic)) {
      if (this.#partitions.get(key) === undefined) missing.push(key);
      else this.#partitions.configure(key, config);
    }
    await Promise.all(missing.map((key) => this.#partitions.create(key, config)));
  }

  async #deletePartitions(topic: TopicMetadata): Promise<void> {
    await Promise.all(partitionKeys(topic).map((key) => this.#partitions.delete(key)));
  }

  #configOf(topic: TopicMetadata): TopicConfig {
    let config = this.#configs.get(topic);
    if (config === undefined) this.#configs.set(topic, (config = topicConfig(topic.config, this.#defaults)));
    return config;
  }
}

function topicIdOf(partition: PartitionKey): TopicId {
  return partition.slice(0, 36) as TopicId;
}

function partitionKeys(topic: TopicMetadata): PartitionKey[] {
  return Array.from({ length: topic.partitionCount }, (_, index) => partitionKey(topic.id, index));
}
