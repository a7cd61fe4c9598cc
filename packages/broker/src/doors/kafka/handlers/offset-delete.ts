/**
 * OffsetDelete 0: takes committed offsets out of a group.
 *
 * As in Kafka: GROUP_ID_NOT_FOUND for the whole, UNKNOWN_TOPIC_OR_PARTITION and GROUP_SUBSCRIBED_TO_TOPIC for partitions;
 * deleting what is not there succeeds.
 *
 * Differs from Kafka: while the group has members, topics that they do not subscribe to are refused too, with
 * NON_EMPTY_GROUP: between looking and deleting one of them could begin to.
 */
import type { PartitionKey } from '@naru/base';
import { checkGroupId, type Refusal } from '@naru/protocol';
import { KAFKA_ERRORS, kafkaErrorCode, type KafkaRequest, type KafkaResponse } from '@naru/protocol/kafka';
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
        const group = await shard.submit({ type: 'describe-group', groupId });
        if (isRefusal(group)) return refused(group);
        if (group.members.length > 0) {
          const subscribed = new Set(group.members.flatMap((member) => member.topics));
          return inUse(request, registry, subscribed);
        }
        const keys = partitionsOf(request, registry);
        const failure = await deleteOffsets(shard, groupId, keys);
        return failure === null
          ? answer(request, (name, index) => unknownCode(registry, name, index))
          : refused(failure);
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

async function deleteOffsets(
  shard: ShardClient,
  groupId: string,
  keys: readonly PartitionKey[],
): Promise<Refusal | null> {
  for (let from = 0; from < keys.length; from += MAX_OFFSETS_PER_COMMAND) {
    const offsets = keys.slice(from, from + MAX_OFFSETS_PER_COMMAND).map((partition) => ({ partition, offset: null }));
    const reply = await shard.submit({ type: 'group', command: { type: 'reset-offsets', groupId, offsets } });
    if (isRefusal(reply)) return reply;
  }
  return null;
}

function unknownCode(registry: TopicRegistry, name: string, partition: number): number {
  const key = findPartition(findTopic(registry, name), partition);
  return key === undefined ? KAFKA_ERRORS.UNKNOWN_TOPIC_OR_PARTITION.code : 0;
}

function inUse(request: Request, registry: TopicRegistry, subscribed: ReadonlySet<string>) {
  return answer(request, (name, partition) => {
    const unknown = unknownCode(registry, name, partition);
    if (unknown !== 0) return unknown;
    return subscribed.has(name)
      ? KAFKA_ERRORS.GROUP_SUBSCRIBED_TO_TOPIC.code
      : kafkaErrorCode('NON_EMPTY_GROUP', 'group');
  });
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
