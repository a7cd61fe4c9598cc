/**
 * DescribeProducers 0: who writes to partitions, and since which offset in a transaction, for whoever looks for transactions
 * that hold up readers (KIP-664).
 *
 * Differs from Kafka: coordinators have no epochs here; it is −1 always.
 */
import type { PartitionKey } from '@naru/base';
import type { Refusal } from '@naru/protocol';
import { kafkaErrorCode, type KafkaRequest, type KafkaResponse } from '@naru/protocol/kafka';
import { isRefusal, type ShardClient } from '../../../runtime/commands.ts';
import type { PartitionProducer } from '../../../runtime/transaction-commands.ts';
import type { TopicService } from '../../../service/topics.ts';
import type { KafkaHandlers } from '../kafka-handler.ts';
import { messageOf } from './group-members.ts';
import { findPartition } from './partition-errors.ts';

export interface DescribeProducersOptions {
  readonly shard: ShardClient;
  readonly topics: TopicService;
}

type Request = KafkaRequest<'describeProducers'>;
type PartitionAnswer = KafkaResponse<'describeProducers'>['topics'][number]['partitions'][number];
type Producers = readonly PartitionProducer[];

export function describeProducersHandlers({
  shard,
  topics,
}: DescribeProducersOptions): Pick<KafkaHandlers, 'describeProducers'> {
  return {
    describeProducers: {
      async handle(request) {
        const keys = new Set<PartitionKey>();
        const keyOf = (name: string, index: number): PartitionKey | null => {
          const key = findPartition(topics, name, index);
          return typeof key === 'number' ? null : key;
        };
        for (const { name, partitionIndexes } of request.topics) {
          for (const index of partitionIndexes) {
            const key = keyOf(name, index);
            if (key !== null) keys.add(key);
          }
        }
        const reply = await shard.submit({ type: 'describe-producers', partitions: [...keys] });
        if (isRefusal(reply)) return answer(request, (_name, index) => refused(index, reply));
        const found = new Map(reply.map(({ partition, producers }) => [partition, producers]));
        return answer(request, (name, index) => {
          const key = keyOf(name, index);
          return described(index, key === null ? undefined : found.get(key), name);
        });
      },
      failed: (request, error) => answer(request, (_name, index) => refused(index, error.toRefusal())),
    },
  };
}

function answer({ topics }: Request, partition: (name: string, index: number) => PartitionAnswer) {
  return {
    topics: topics.map(({ name, partitionIndexes }) => ({
      name,
      partitions: partitionIndexes.map((index) => partition(name, index)),
    })),
  };
}

function refused(partitionIndex: number, refusal: Refusal): PartitionAnswer {
  const errorCode = kafkaErrorCode(refusal.code, 'fetch');
  return { partitionIndex, errorCode, errorMessage: messageOf(refusal), activeProducers: [] };
}

function described(partitionIndex: number, producers: Producers | undefined, topic: string): PartitionAnswer {
  if (producers === undefined) {
    const message = `there is no partition ${partitionIndex} of topic ${topic}`;
    return refused(partitionIndex, { code: 'UNKNOWN_TOPIC_OR_PARTITION', message });
  }
  const activeProducers = producers.map((producer) => ({
    producerId: producer.producerId,
    producerEpoch: producer.producerEpoch,
    lastSequence: producer.lastSequence,
    lastTimestamp: producer.lastTimestampMs,
    coordinatorEpoch: -1,
    currentTxnStartOffset: producer.transactionStartOffset ?? -1,
  }));
  return { partitionIndex, errorCode: 0, activeProducers };
}
