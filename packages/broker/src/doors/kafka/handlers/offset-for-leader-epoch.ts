/**
 * OffsetForLeaderEpoch 2–4: where an epoch ended, by which a consumer notices that the log was cut behind it (KIP-320).
 *
 * Differences from Kafka: none but that epochs are the broker's starts.
 */
import { kafkaErrorCode, type KafkaRequest, type KafkaResponse } from '@naru/protocol/kafka';
import { isRefusal, type ShardClient } from '../../../runtime/commands.ts';
import type { TopicService } from '../../../service/topics.ts';
import type { KafkaHandlers } from '../kafka-handler.ts';
import { findPartition, leaderEpochError } from './partition-errors.ts';

export interface OffsetForLeaderEpochOptions {
  readonly topics: TopicService;
  readonly shard: ShardClient;
  /** The leader epoch in force. */
  readonly leaderEpoch: number;
}

type Wanted = KafkaRequest<'offsetForLeaderEpoch'>['topics'][number]['partitions'][number];
type PartitionAnswer = KafkaResponse<'offsetForLeaderEpoch'>['topics'][number]['partitions'][number];

export function offsetForLeaderEpochHandlers(
  options: OffsetForLeaderEpochOptions,
): Pick<KafkaHandlers, 'offsetForLeaderEpoch'> {
  return {
    offsetForLeaderEpoch: {
      async handle({ topics }) {
        const found = topics.map(async ({ topic, partitions }) => ({
          topic,
          partitions: await Promise.all(partitions.map((wanted) => find(topic, wanted, options))),
        }));
        return { topics: await Promise.all(found) };
      },
      failed(request, error) {
        const errorCode = kafkaErrorCode(error.code, 'fetch');
        return {
          topics: request.topics.map(({ topic, partitions }) => ({
            topic,
            partitions: partitions.map(({ partition }) => ({ partition, errorCode })),
          })),
        };
      },
    },
  };
}

async function find(topic: string, wanted: Wanted, options: OffsetForLeaderEpochOptions): Promise<PartitionAnswer> {
  const { partition, currentLeaderEpoch, leaderEpoch } = wanted;
  const key = findPartition(options.topics, topic, partition);
  if (typeof key === 'number') return { partition, errorCode: key };
  const epochError = leaderEpochError(currentLeaderEpoch, options.leaderEpoch);
  if (epochError !== 0) return { partition, errorCode: epochError };
  const found = await options.shard.submit({ type: 'epoch-end', partition: key, leaderEpoch });
  if (isRefusal(found)) return { partition, errorCode: kafkaErrorCode(found.code, 'fetch') };
  return { partition, errorCode: 0, leaderEpoch: found.leaderEpoch ?? -1, endOffset: found.endOffset ?? -1 };
}
