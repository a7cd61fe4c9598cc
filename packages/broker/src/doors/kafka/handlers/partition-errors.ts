/** Why a partition that a Kafka client named is not served: the checks that Produce, Fetch and ListOffsets share. */
import { partitionKey, type PartitionKey } from '@naru/base';
import { KAFKA_ERRORS } from '@naru/protocol/kafka';
import { isRefusal } from '../../../runtime/commands.ts';
import type { TopicService } from '../../../service/topics.ts';

/** A partition by the name of its topic, or Kafka's error code. */
export function findPartition(topics: TopicService, name: string, partition: number): PartitionKey | number {
  const topic = topics.find(name);
  if (isRefusal(topic) || partition < 0 || partition >= topic.partitionCount) {
    return KAFKA_ERRORS.UNKNOWN_TOPIC_OR_PARTITION.code;
  }
  return partitionKey(topic.id, partition);
}

/**
 * Kafka's error code for a client that knows of another leader epoch than the one in force, 0 when it may go on (KIP-320).
 *
 * @param known −1 when the client does not say
 */
export function leaderEpochError(known: number, inForce: number): number {
  if (known === -1 || known === inForce) return 0;
  return known < inForce ? KAFKA_ERRORS.FENCED_LEADER_EPOCH.code : KAFKA_ERRORS.UNKNOWN_LEADER_EPOCH.code;
}
