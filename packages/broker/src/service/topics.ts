/** Creating, growing, deleting and describing topics: metadata first, partitions after it. */
import { partitionKey, randomUuidBytes, topicIdFromBytes, type Clock, type Random, type TopicId } from '@naru/base';
import { isInternalTopicName, NaruError, refuse, type Refusal } from '@naru/protocol';
import {
  checkAddPartitions,
  checkCreateTopic,
  topicMetadataKey,
  unknownTopic,
  type CreateTopic,
  type TopicMetadata,
} from '../core/registry/topic-registry.ts';
import { alterTopicConfig, type ConfigOperation } from '../core/registry/alter-topic-config.ts';
import {
  changeTopicConfig,
  describeTopicConfig,
  topicConfig,
  type TopicConfigDefaults,
  type TopicConfigEntry,
  type TopicConfigTexts,
} from '../core/registry/topic-config.ts';
import type { MetadataEntry, MetadataStore } from '../metadata/metadata-store.ts';
import { isRefusal, type PartitionStatus, type ShardClient } from '../runtime/commands.ts';
import type { MetadataFollower } from '../runtime/metadata-follower.ts';
import { checkDeclaredGroups } from './declared-groups.ts';

export interface TopicServiceOptions {
  readonly metadata: MetadataStore;
  readonly follower: MetadataFollower;
  readonly shard: ShardClient;
  readonly clock: Clock;
  readonly random: Random;
  /** Of a topic that is created without saying. */
  readonly defaultPartitionCount: number;
  /** What holds where a topic says nothing. */
  readonly topicDefaults: TopicConfigDefaults;
}

export type CreateTopicRequest = Omit<CreateTopic, 'partitionCount'> & {
  /** 0 for the broker's default. */
  readonly partitionCount: number;
};

/** Records of a partition up to an offset; null: all of them. */
export interface RecordsBefore {
  readonly partition: number;
  readonly before: number | null;
}

export class TopicService {
  readonly #options: TopicServiceOptions;
  #lastChange: Promise<unknown> = Promise.resolve();

  constructor(options: TopicServiceOptions) {
    this.#options = options;
  }

  get #registry(): MetadataFollower['registry'] {
    return this.#options.follower.registry;
  }

  /** @param validateOnly answer what would become of it, and create nothing */
  create(request: CreateTopicRequest, validateOnly = false): Promise<TopicMetadata | Refusal> {
    return this.#inTurn(() => this.#create(request, validateOnly));
  }

  async #create(request: CreateTopicRequest, validateOnly: boolean): Promise<TopicMetadata | Refusal> {
    const { defaultPartitionCount, random, clock } = this.#options;
    const complete = {
      ...request,
      partitionCount: request.partitionCount === 0 ? defaultPartitionCount : request.partitionCount,
    };
    const refusal = checkCreateTopic(this.#registry, complete);
    if (refusal !== null) return refusal;
    const changed = changeTopicConfig({}, request.config);
    if (isRefusal(changed)) return changed;
    const topic = newTopic(
      { ...complete, config: changed.config },
      topicIdFromBytes(randomUuidBytes(random)),
      clock.nowMs(),
    );
    const undeclarable = await checkDeclaredGroups(this.#options.shard, {}, topic);
    if (undeclarable !== null) return undeclarable;
    if (validateOnly) return topic;
    const done = await this.#commit(topic.name, 0, topic);
    return done ? topic : refuse('TOPIC_ALREADY_EXISTS', `topic ${JSON.stringify(topic.name)} was created meanwhile`);
  }

  /** @param validateOnly answer what would become of it, and change nothing */
  addPartitions(
    name: string,
    partitionCount: number,
    allowKeyReorder: boolean,
    validateOnly = false,
  ): Promise<TopicMetadata | Refusal> {
    const grow = (topic: TopicMetadata): TopicMetadata | Refusal => {
      const isAllowed = allowKeyReorder || topicConfig(topic.config, this.#options.topicDefaults).allowKeyReorder;
      return checkAddPartitions(topic, partitionCount, isAllowed) ?? { ...topic, partitionCount };
    };
    return this.#change(name, grow, validateOnly);
  }

  /** Settings that are set or go back to the broker's; in force when it resolves. */
  changeConfig(name: string, set: TopicConfigTexts, unset: readonly string[]): Promise<TopicMetadata | Refusal> {
    return this.#changeConfig(name, (before) => changeTopicConfig(before, set, unset), false);
  }

  /** Operations on single settings; in force when it resolves. */
  alterConfig(
    name: string,
    operations: readonly ConfigOperation[],
    validateOnly: boolean,
  ): Promise<TopicMetadata | Refusal> {
    const { topicDefaults } = this.#options;
    return this.#changeConfig(name, (before) => alterTopicConfig(before, operations, topicDefaults), validateOnly);
  }

  /** What is set takes the place of everything that was set; in force when it resolves. */
  replaceConfig(name: string, set: TopicConfigTexts, validateOnly: boolean): Promise<TopicMetadata | Refusal> {
    return this.#changeConfig(name, () => changeTopicConfig({}, set), validateOnly);
  }

  #changeConfig(
    name: string,
    change: (before: TopicConfigTexts) => { readonly config: TopicConfigTexts } | Refusal,
    validateOnly: boolean,
  ): Promise<TopicMetadata | Refusal> {
    const configure = (topic: TopicMetadata): TopicMetadata | Refusal => {
      const changed = change(topic.config);
      return isRefusal(changed) ? changed : { ...topic, config: changed.config };
    };
    return this.#change(name, configure, validateOnly);
  }

  #change(
    name: string,
    change: (topic: TopicMetadata) => TopicMetadata | Refusal,
    validateOnly: boolean,
  ): Promise<TopicMetadata | Refusal> {
    return this.#inTurn(async () => {
      const topic = this.find(name);
      if (isRefusal(topic)) return topic;
      const after = notInternal(name) ?? change(topic);
      if (isRefusal(after)) return after;
      const undeclarable = await checkDeclaredGroups(this.#options.shard, topic.config, after);
      if (undeclarable !== null) return undeclarable;
      if (validateOnly) return after;
      return (await this.#replace(topic, after)) ? after : changedMeanwhile(name);
    });
  }

  /** Every setting of a topic with the value in force. */
  describeConfig(topic: TopicMetadata): TopicConfigEntry[] {
    return describeTopicConfig(topic.config, this.#options.topicDefaults);
  }

  /**
   * Deletes the records before an offset of each partition named, for good.
   *
   * @returns the partitions' log start offsets, in the order of the request
   */
  async deleteRecords(name: string, partitions: readonly RecordsBefore[]): Promise<readonly number[] | Refusal> {
    const topic = this.find(name);
    if (isRefusal(topic)) return topic;
    if (partitions.length > topic.partitionCount) {
      const message = `${partitions.length} partitions are named, topic ${JSON.stringify(name)} has ${topic.partitionCount}`;
      return refuse('INVALID_REQUEST', message);
    }
    const starts: number[] = [];
    for (const { partition, before } of partitions) {
      const key = partitionKey(topic.id, partition);
      const reply = await this.#options.shard.submit({ type: 'delete-records', partition: key, before });
      if (isRefusal(reply)) return reply;
      starts.push(reply.logStartOffset);
    }
    return starts;
  }

  /** The name is free again when it resolves. */
  delete(name: string): Promise<Refusal | null> {
    return this.#inTurn(() => this.#delete(name));
  }

  async #delete(name: string): Promise<Refusal | null> {
    const topic = this.find(name);
    if (isRefusal(topic)) return topic;
    const refusal = notInternal(name);
    if (refusal !== null) return refusal;
    if (!(await this.#replace(topic, { ...topic, state: 'deleting' }))) return changedMeanwhile(name);
    return (await this.forget(name)) ? null : changedMeanwhile(name);
  }

  /** Drops the metadata of a topic whose data is gone. */
  async forget(name: string): Promise<boolean> {
    const entry = await this.#entry(name);
    if (entry === undefined || (entry.value as TopicMetadata).state !== 'deleting') return false;
    return this.#commit(name, entry.revision, null);
  }

  list(internal: boolean): TopicMetadata[] {
    return this.#registry
      .all()
      .filter((topic) => topic.state === 'active' && (internal || !isInternalTopicName(topic.name)));
  }

  find(name: string): TopicMetadata | Refusal {
    return this.#registry.byName(name) ?? unknownTopic(name);
  }

  findById(id: TopicId): TopicMetadata | Refusal {
    return this.#registry.byId(id) ?? refuse('UNKNOWN_TOPIC_OR_PARTITION', `there is no topic with id ${id}`);
  }

  async describe(topic: TopicMetadata): Promise<readonly PartitionStatus[]> {
    const partitions = Array.from({ length: topic.partitionCount }, (_, index) => partitionKey(topic.id, index));
    const reply = await this.#options.shard.submit({ type: 'describe-partitions', partitions });
    if (isRefusal(reply)) throw NaruError.from(reply);
    return reply;
  }

  /** Changes go one after the other, so that each sees what became of the one before and none is lost. Doors bound how many wait. */
  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#lastChange.then(work);
    this.#lastChange = done.catch(() => undefined);
    return done;
  }

  async #replace(before: TopicMetadata, after: TopicMetadata): Promise<boolean> {
    const entry = await this.#entry(before.name);
    if (entry === undefined || (entry.value as TopicMetadata).id !== before.id) return false;
    return this.#commit(before.name, entry.revision, after);
  }

  #entry(name: string): Promise<MetadataEntry | undefined> {
    return this.#options.metadata.get(topicMetadataKey(name));
  }

  async #commit(name: string, revision: number, value: TopicMetadata | null): Promise<boolean> {
    const key = topicMetadataKey(name);
    const change = value === null ? { key, deleted: true as const } : { key, value };
    const result = await this.#options.metadata.commit([{ key, revision }], [change]);
    if (!result.ok) return false;
    await this.#options.follower.applied(result.revision);
    return true;
  }
}

export function newTopic(request: CreateTopic, id: TopicId, createdAtMs: number): TopicMetadata {
  const { name, type, partitionCount, config } = request;
  return { name, id, type, partitionCount, config, createdAtMs, state: 'active' };
}

function notInternal(name: string): Refusal | null {
  return isInternalTopicName(name)
    ? refuse('INVALID_TOPIC', `topic ${JSON.stringify(name)} is the broker's own`)
    : null;
}

function changedMeanwhile(name: string): Refusal {
  return refuse('INVALID_REQUEST', `topic ${JSON.stringify(name)} was changed by somebody else meanwhile: look again`);
}
