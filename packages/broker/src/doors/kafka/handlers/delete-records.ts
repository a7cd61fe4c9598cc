/**
 * DeleteRecords 0–2: moves the log start of partitions up; −1 is the high watermark. Each partition stands for itself.
 * Answered when it is durable. `lowWatermark` is the new log start.
 *
 * As in Kafka, records of a topic that is only compacted are not deleted so (POLICY_VIOLATION), nor those of the broker's own
 * topics (INVALID_TOPIC_EXCEPTION). Differs: the time-out has no effect.
 */
import { KAFKA_ERRORS, kafkaErrorCode, type KafkaRequest, type KafkaResponse } from '@naru/protocol/kafka';
import { checkTopicName, isInternalTopicName, type ErrorCode } from '@naru/protocol';
import type { TopicMetadata } from '../../../core/registry/topic-registry.ts';
import { isRefusal } from '../../../runtime/commands.ts';
import type { TopicService } from '../../../service/topics.ts';
import type { KafkaHandlers } from '../kafka-handler.ts';
import { answered, refusedAs } from './admin-answers.ts';

type Topic = KafkaRequest<'deleteRecords'>['topics'][number];
type TopicResult = KafkaResponse<'deleteRecords'>['topics'][number];
type PartitionResult = TopicResult['partitions'][number];

/** Offset that stands for the high watermark. */
const HIGH_WATERMARK = -1;
const NO_OFFSET = -1;

export function deleteRecordsHandlers(topics: TopicService): Required<Pick<KafkaHandlers, 'deleteRecords'>> {
  return {
    deleteRecords: {
      handle: async (request) => {
        const results: TopicResult[] = [];
        for (const topic of request.topics) results.push(await deleteOfTopic(topic, topics));
        return { topics: results };
      },
      failed: (request, error) => ({ topics: request.topics.map((topic) => allRefused(topic, error.code)) }),
    },
  };
}

async function deleteOfTopic(wanted: Topic, topics: TopicService): Promise<TopicResult> {
  const topic = topics.find(wanted.name);
  if (isRefusal(topic)) return allRefused(wanted, checkTopicName(wanted.name)?.code ?? topic.code);
  if (isInternalTopicName(topic.name)) return allRefused(wanted, 'INVALID_TOPIC');
  const onlyCompacted = topics
    .describeConfig(topic)
    .some(({ name, value }) => name === 'cleanup.policy' && value === 'compact');
  const partitions: PartitionResult[] = [];
  for (const { partitionIndex, offset } of wanted.partitions) {
    const { errorCode, lowWatermark } = onlyCompacted
      ? { errorCode: KAFKA_ERRORS.POLICY_VIOLATION.code, lowWatermark: NO_OFFSET }
      : await deleteOfPartition(topic, partitionIndex, offset, topics);
    partitions.push({ partitionIndex, errorCode, lowWatermark });
  }
  return { name: wanted.name, partitions };
}

async function deleteOfPartition(
  topic: TopicMetadata,
  partition: number,
  offset: number,
  topics: TopicService,
): Promise<{ errorCode: number; lowWatermark: number }> {
  if (partition < 0 || partition >= topic.partitionCount) return no('UNKNOWN_TOPIC_OR_PARTITION');
  if (offset < HIGH_WATERMARK) return no('OFFSET_OUT_OF_RANGE');
  const before = offset === HIGH_WATERMARK ? null : offset;
  const answer = await answered(async () => {
    const starts = await topics.deleteRecords(topic.name, [{ partition, before }]);
    return isRefusal(starts) ? refusedAs(starts) : { lowWatermark: starts[0] ?? NO_OFFSET };
  });
  return { errorCode: 0, lowWatermark: NO_OFFSET, ...answer };
}

function no(code: ErrorCode): { errorCode: number; lowWatermark: number } {
  return { errorCode: kafkaErrorCode(code, 'admin'), lowWatermark: NO_OFFSET };
}

function allRefused({ name, partitions }: Topic, code: ErrorCode): TopicResult {
  return { name, partitions: partitions.map(({ partitionIndex }) => ({ partitionIndex, ...no(code) })) };
}
