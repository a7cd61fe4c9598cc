/**
 * AddPartitionsToTxn 0–3 and AddOffsetsToTxn 0–4: what a transaction of the first flow will write to, before it does.
 *
 * As in Kafka: partitions are added all or not at all; when one does not exist the others are OPERATION_NOT_ATTEMPTED.
 * Versions of AddPartitionsToTxn from 4 on are for brokers among themselves.
 */
import type { PartitionKey } from '@naru/base';
import { checkGroupId } from '@naru/protocol';
import { KAFKA_ERRORS, type KafkaRequest } from '@naru/protocol/kafka';
import { isRefusal, type ShardClient } from '../../../runtime/commands.ts';
import type { TopicService } from '../../../service/topics.ts';
import type { KafkaHandlers } from '../kafka-handler.ts';
import { findPartition } from './partition-errors.ts';
import { transactionErrorCode } from './transaction-errors.ts';

export interface AddToTxnOptions {
  readonly shard: ShardClient;
  readonly topics: TopicService;
}

type Partitions = KafkaRequest<'addPartitionsToTxn'>['v3AndBelowTopics'];

export function addToTxnHandlers({
  shard,
  topics,
}: AddToTxnOptions): Pick<KafkaHandlers, 'addPartitionsToTxn' | 'addOffsetsToTxn'> {
  return {
    addPartitionsToTxn: {
      async handle(request, { version }) {
        const named = request.v3AndBelowTopics;
        const { found, missing } = find(topics, named);
        if (missing.size > 0) {
          const { UNKNOWN_TOPIC_OR_PARTITION: unknown, OPERATION_NOT_ATTEMPTED: notAttempted } = KAFKA_ERRORS;
          return answer(named, (key) => (missing.has(key) ? unknown.code : notAttempted.code));
        }
        if (found.size === 0) return answer(named, () => 0);
        const reply = await shard.submit({
          type: 'transaction',
          command: {
            type: 'add-partitions',
            transactionalId: request.v3AndBelowTransactionalId,
            producerId: request.v3AndBelowProducerId,
            producerEpoch: request.v3AndBelowProducerEpoch,
            partitions: [...found],
          },
        });
        const errorCode = isRefusal(reply) ? transactionErrorCode(reply.code, 'addPartitionsToTxn', version) : 0;
        return answer(named, () => errorCode);
      },
      failed: ({ v3AndBelowTopics }, { code }, { version }) =>
        answer(v3AndBelowTopics, () => transactionErrorCode(code, 'addPartitionsToTxn', version)),
    },
    addOffsetsToTxn: {
      async handle({ transactionalId, producerId, producerEpoch, groupId }, { version }) {
        const reply =
          checkGroupId(groupId) ??
          (await shard.submit({
            type: 'transaction',
            command: { type: 'add-group', transactionalId, producerId, producerEpoch, groupId },
          }));
        return { errorCode: isRefusal(reply) ? transactionErrorCode(reply.code, 'addOffsetsToTxn', version) : 0 };
      },
      failed: (_request, { code }, { version }) => ({
        errorCode: transactionErrorCode(code, 'addOffsetsToTxn', version),
      }),
    },
  };
}

/** Partitions that exist; those that do not, as {@link answer} names them. */
function find(topics: TopicService, named: Partitions): { found: Set<PartitionKey>; missing: Set<string> } {
  const found = new Set<PartitionKey>();
  const missing = new Set<string>();
  for (const { name, partitions } of named) {
    for (const partition of partitions) {
      const key = findPartition(topics, name, partition);
      if (typeof key === 'number') missing.add(`${name}/${partition}`);
      else found.add(key);
    }
  }
  return { found, missing };
}

/** @param errorCode of a partition, named `topic/partition` */
function answer(named: Partitions, errorCode: (partition: string) => number) {
  return {
    resultsByTopicV3AndBelow: named.map(({ name, partitions }) => ({
      name,
      resultsByPartition: partitions.map((partitionIndex) => ({
        partitionIndex,
        partitionErrorCode: errorCode(`${name}/${partitionIndex}`),
      })),
    })),
  };
}
