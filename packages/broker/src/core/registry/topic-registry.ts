/**
 * What topics there are. Owns the shape of a topic's metadata and the rules for creating and changing one; the metadata
 * store owns its durability. Every reader keeps a registry of its own and feeds it the store's changes.
 */
import type { TopicId } from '@naru/base';
import { ALLOW_KEY_REORDER, type TopicConfigTexts } from './topic-config.ts';
import { checkTopicName, isInternalTopicName, refuse, type Refusal } from '@naru/protocol';

export type TopicType = 'ordered' | 'parallel';

/** A topic as the metadata store keeps it, under {@link topicMetadataKey}. */
export interface TopicMetadata {
  readonly name: string;
  readonly id: TopicId;
  readonly type: TopicType;
  readonly partitionCount: number;
  /** Settings that differ from the broker's, canonical: see topic-config.ts. */
  readonly config: TopicConfigTexts;
  readonly createdAtMs: number;
  /** A topic that is being deleted is invisible, and stays known until its data is gone. */
  readonly state: 'active' | 'deleting';
}

export const TOPIC_KEY_PREFIX = 'topic/';
export const MAX_PARTITIONS_PER_TOPIC = 10_000;

export function topicMetadataKey(name: string): string {
  return TOPIC_KEY_PREFIX + name;
}

export interface TopicChange {
  readonly key: string;
  /** Undefined when the key was deleted. */
  readonly topic: TopicMetadata | undefined;
}

export class TopicRegistry {
  readonly #byName = new Map<string, TopicMetadata>();
  readonly #byId = new Map<TopicId, TopicMetadata>();

  apply(change: TopicChange): void {
    const name = change.key.slice(TOPIC_KEY_PREFIX.length);
    const before = this.#byName.get(name);
    if (before !== undefined) this.#byId.delete(before.id);
    if (change.topic === undefined) {
      this.#byName.delete(name);
      return;
    }
    this.#byName.set(name, change.topic);
    this.#byId.set(change.topic.id, change.topic);
  }

  /** An active topic. */
  byName(name: string): TopicMetadata | undefined {
    return active(this.#byName.get(name));
  }

  /** An active topic. */
  byId(id: TopicId): TopicMetadata | undefined {
    return active(this.#byId.get(id));
  }

  /** Every topic, also those that are being deleted, by name. */
  all(): TopicMetadata[] {
    return [...this.#byName.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  }
}

function active(topic: TopicMetadata | undefined): TopicMetadata | undefined {
  return topic?.state === 'active' ? topic : undefined;
}

export interface CreateTopic {
  readonly name: string;
  readonly type: TopicType;
  readonly partitionCount: number;
  /** Canonical. */
  readonly config: TopicConfigTexts;
}

/** Null when the topic may be created. */
export function checkCreateTopic(registry: TopicRegistry, request: CreateTopic): Refusal | null {
  const nameRefusal = checkTopicName(request.name);
  if (nameRefusal !== null) return nameRefusal;
  if (isInternalTopicName(request.name)) {
    return refuse(
      'INVALID_TOPIC',
      `topic name ${JSON.stringify(request.name)} begins with "__", which is kept for the broker's own topics`,
    );
  }
  const countRefusal = checkPartitionCount(request.partitionCount);
  if (countRefusal !== null) return countRefusal;
  if (registry.all().some((topic) => topic.name === request.name)) {
    return refuse('TOPIC_ALREADY_EXISTS', `topic ${JSON.stringify(request.name)} exists already`);
  }
  return null;
}

/** Null when the topic may grow to `partitionCount`. */
export function checkAddPartitions(
  topic: TopicMetadata,
  partitionCount: number,
  allowKeyReorder: boolean,
): Refusal | null {
  const countRefusal = checkPartitionCount(partitionCount);
  if (countRefusal !== null) return countRefusal;
  if (partitionCount <= topic.partitionCount) {
    return refuse(
      'INVALID_PARTITIONS',
      `topic ${JSON.stringify(topic.name)} has ${topic.partitionCount} partitions; it can only grow beyond that`,
    );
  }
  if (topic.type === 'ordered' && !allowKeyReorder) {
    return refuse(
      'KEY_REORDER_NOT_ALLOWED',
      `topic ${JSON.stringify(topic.name)} is ordered: with more partitions keys move, and what is stored of a key is no longer ` +
        'handled before what comes; if that does not matter, allow it by name (naru topic add-partitions … --allow-key-reorder) ' +
        `or for good (the topic's setting ${ALLOW_KEY_REORDER}=true, or the broker's allowKeyReorder)`,
    );
  }
  return null;
}

function checkPartitionCount(count: number): Refusal | null {
  if (Number.isInteger(count) && count >= 1 && count <= MAX_PARTITIONS_PER_TOPIC) return null;
  return refuse('INVALID_PARTITIONS', `a topic has 1 to ${MAX_PARTITIONS_PER_TOPIC} partitions, not ${count}`);
}

/** The refusal for a topic name that names nothing. */
export function unknownTopic(name: string): Refusal {
  return refuse('UNKNOWN_TOPIC_OR_PARTITION', `there is no topic ${JSON.stringify(name)}`);
}
