/**
 * Partitions as Kafka's messages list them, by topic, and as the shard knows them.
 *
 * What is not in the registry is left out both ways: a topic may go while its name is still on its way. Whoever has to
 * answer for it looks first.
 */
import { partitionKey, splitPartitionKey, type PartitionKey, type TopicId } from '@naru/base';
import { isInternalTopicName } from '@naru/protocol';
import type { TopicMetadata, TopicRegistry } from '../../../core/registry/topic-registry.ts';

export interface PartitionsOfTopic {
  readonly topicId: TopicId;
  readonly topicName: string;
  readonly partitions: readonly number[];
}

/** A topic that clients may know of: the broker's own are none of their business. */
export function findTopic(registry: TopicRegistry, name: string): TopicMetadata | undefined {
  return isInternalTopicName(name) ? undefined : registry.byName(name);
}

/** Undefined when there is no such partition. */
export function findPartition(topic: TopicMetadata | undefined, partition: number): PartitionKey | undefined {
  if (topic === undefined || partition < 0 || partition >= topic.partitionCount) return undefined;
  return partitionKey(topic.id, partition);
}

export function partitionsOfNames(
  registry: TopicRegistry,
  topics: readonly { readonly topic: string; readonly partitions: readonly number[] }[],
): PartitionKey[] {
  return topics.flatMap(({ topic, partitions }) => keysOf(findTopic(registry, topic), partitions));
}

export function partitionsOfIds(
  registry: TopicRegistry,
  topics: readonly { readonly topicId: TopicId; readonly partitions: readonly number[] }[],
): PartitionKey[] {
  return topics.flatMap(({ topicId, partitions }) => keysOf(registry.byId(topicId), partitions));
}

function keysOf(topic: TopicMetadata | undefined, partitions: readonly number[]): PartitionKey[] {
  return [...new Set(partitions)].flatMap((partition) => findPartition(topic, partition) ?? []);
}

/** Topics in the order in which they come first. */
export function byTopic(registry: TopicRegistry, keys: readonly PartitionKey[]): PartitionsOfTopic[] {
  const topics = new Map<TopicId, { topicName: string; partitions: number[] }>();
  for (const key of keys) {
    const { topicId, partition } = splitPartitionKey(key);
    let entry = topics.get(topicId);
    if (entry === undefined) {
      const topicName = registry.byId(topicId)?.name;
      if (topicName === undefined) continue;
      topics.set(topicId, (entry = { topicName, partitions: [] }));
    }
    entry.partitions.push(partition);
  }
  return [...topics].map(([topicId, entry]) => ({ topicId, ...entry }));
}
