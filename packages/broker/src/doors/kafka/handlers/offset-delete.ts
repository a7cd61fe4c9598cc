/**
 * OffsetDelete 0: takes committed offsets out of a group.
 *
 * As in Kafka: GROUP_ID_NOT_FOUND for the whole, and NON_EMPTY_GROUP when the members do not say what they subscribe to;
 * UNKNOWN_TOPIC_OR_PARTITION, and GROUP_SUBSCRIBED_TO_TOPIC while a member subscribes to the topic, for partitions; deleting
 * what is not there succeeds.
 */
import type { PartitionKey } from '@naru/base';
import { checkGroupId, type Refusal } from '@naru/protocol';
import { KAFKA_ERRORS, type KafkaRequest, type KafkaResponse } from '@naru/protocol/kafka';
import type { TopicRegistry } from '../../../core/registry/topic-registry.ts';
import { isRefusal, type ShardClient } from '../../../runtime/commands.ts';
import type { KafkaHandlers } from '../kafka-handler.ts';
import { errorCodeOf, type GroupHandlerOptions } from './group-members.ts';
import { findPartition, findTopic } from './topic-partitions.ts';

/** What one command of the shard may bring; a larger request becomes several, one after the other. */
const MAX_OFFSETS_PER_COMMAND = 10_000;

type Request = KafkaRequest<'offsetDelete'>;

export function offsetDeleteHandlers({
  shard,
  registry,
}: Pick<GroupHandlerOptions, 'shard' | 'registry'>): Pick<KafkaHandlers, 'offsetDelete'> {
  return {
    offsetDelete: {
      handle: async (request) => {
        const { groupId } = request;
        const refusal = checkGroupId(groupId);
        if (refusal !== null) return refused(refusal);
        const subscribed = await deleteOffsets(shard, groupId, partitionsOf(request, registry));
        return isRefusal(subscribed)
          ? refused(subscribed)
          : answer(request, (name, index) => codeOf(registry, subscribed, name, index));
      },
      failed: (_request, error) => refused(error.toRefusal()),
    },
  };
}

function partitionsOf({ topics }: Request, registry: TopicRegistry): PartitionKey[] {
  const keys = topics.flatMap(({ name, partitions }) => {
    const topic = findTopic(registry, name);
    return partitions.flatMap(({ partitionIndex }) => findPartition(topic, partitionIndex) ?? []);
  });
  return [...new Set(keys)];
}

/** @returns those that stay, since somebody subscribes to them */
async function deleteOffsets(
  shard: ShardClient,
  groupId: string,
  keys: readonly PartitionKey[],
): Promise<ReadonlySet<PartitionKey> | Refusal> {
  const subscribed = new Set<PartitionKey>();
  // Also when there is nothing to delete: whether there is such a group is asked for too.
  for (let from = 0; from === 0 || from < keys.length; from += MAX_OFFSETS_PER_COMMAND) {
    const partitions = keys.slice(from, from + MAX_OFFSETS_PER_COMMAND);
    const reply = await shard.submit({ type: 'group', command: { type: 'delete-offsets', groupId, partitions } });
    if (isRefusal(reply)) return reply;
    for (const partition of reply.subscribed) subscribed.add(partition);
  }
  return subscribed;
}

function codeOf(
  registry: TopicRegistry,
  subscribed: ReadonlySet<PartitionKey>,
  name: string,
  partition: number,
): number {
  const key = findPartition(findTopic(registry, name), partition);
  if (key === undefined) return KAFKA_ERRORS.UNKNOWN_TOPIC_OR_PARTITION.code;
  return subscribed.has(key) ? KAFKA_ERRORS.GROUP_SUBSCRIBED_TO_TOPIC.code : 0;
}

function answer(
  { topics }: Request,
  codeOf: (topic: string, partition: number) => number,
): KafkaResponse<'offsetDelete'> {
  return {
    errorCode: 0,
    throttleTimeMs: 0,
    topics: topics.map(({ name, partitions }) => ({
      name,
      partitions: partitions.map(({ partitionIndex }) => ({
        partitionIndex,
        errorCode: codeOf(name, partitionIndex),
      })),
    })),
  };
}

function refused(refusal: Refusal): KafkaResponse<'offsetDelete'> {
  return { errorCode: errorCodeOf(refusal, 'group'), throttleTimeMs: 0, topics: [] };
}
