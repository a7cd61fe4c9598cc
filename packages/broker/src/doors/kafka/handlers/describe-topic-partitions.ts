/**
 * DescribeTopicPartitions 0: topics by name in order, page by page; no names asks for all.
 *
 * A page has at most `responsePartitionLimit` partitions, 1 to 2000; `nextCursor` says where the next begins. A cursor whose
 * topic is gone goes on behind it; one that is not among the names asked for, or whose partition is negative, is INVALID_REQUEST
 * for every topic, since the answer has no error of its own. Topics that do not exist are listed with an error when they
 * were asked for by name. The broker's own topics are marked internal.
 */
import { checkTopicName, isInternalTopicName, refuse, type Refusal } from '@naru/protocol';
import { kafkaErrorCode, NO_TOPIC_ID, type KafkaRequest, type KafkaResponse } from '@naru/protocol/kafka';
import type { TopicMetadata } from '../../../core/registry/topic-registry.ts';
import { isRefusal } from '../../../runtime/commands.ts';
import type { TopicService } from '../../../service/topics.ts';
import { KAFKA_NODE_ID, type KafkaHandlers } from '../kafka-handler.ts';
import { TOPIC_OPERATIONS } from '../authorized-operations.ts';

const MAX_PAGE_PARTITIONS = 2_000;

type Request = KafkaRequest<'describeTopicPartitions'>;
type Response = KafkaResponse<'describeTopicPartitions'>;
type Topic = Response['topics'][number];

export function describeTopicPartitionsHandlers(
  topics: TopicService,
): Required<Pick<KafkaHandlers, 'describeTopicPartitions'>> {
  return {
    describeTopicPartitions: {
      handle: async (request) => {
        const wrong = checkCursor(request);
        return wrong === null ? page(request, topics) : refusedPage(request, wrong);
      },
      failed: (request, error) => refusedPage(request, error),
    },
  };
}

function checkCursor({ topics, cursor }: Request): Refusal | null {
  if (cursor === null) return null;
  if (cursor.partitionIndex < 0) return refuse('INVALID_REQUEST', `the cursor's partition is ${cursor.partitionIndex}`);
  const named = topics.length === 0 || topics.some(({ name }) => name === cursor.topicName);
  return named ? null : refuse('INVALID_REQUEST', `the cursor's topic is not among those that are asked for`);
}

function refusedPage({ topics }: Request, { code }: Refusal): Response {
  return { topics: topics.map(({ name }) => without(name, code)) };
}

async function page(request: Request, topics: TopicService): Promise<Response> {
  const { cursor } = request;
  const all = request.topics.length === 0;
  const names = all ? topics.list(true).map(({ name }) => name) : request.topics.map(({ name }) => name);
  const sorted = [...new Set(names)].filter((name) => cursor === null || name >= cursor.topicName).sort();
  let room = Math.max(Math.min(request.responsePartitionLimit, MAX_PAGE_PARTITIONS), 1);
  const found: Topic[] = [];
  for (const name of sorted) {
    if (room === 0) return { topics: found, nextCursor: { topicName: name, partitionIndex: 0 } };
    const topic = topics.find(name);
    if (isRefusal(topic)) {
      if (!all) found.push(without(name, checkTopicName(name)?.code ?? topic.code));
      continue;
    }
    const from = name === cursor?.topicName ? cursor.partitionIndex : 0;
    const to = Math.min(from + room, topic.partitionCount);
    found.push(await describeTopic(topic, from, to, topics));
    if (to < topic.partitionCount) return { topics: found, nextCursor: { topicName: name, partitionIndex: to } };
    room -= Math.max(to - from, 0);
  }
  return { topics: found, nextCursor: null };
}

async function describeTopic(topic: TopicMetadata, from: number, to: number, topics: TopicService): Promise<Topic> {
  const status = from < to ? await topics.describe(topic) : [];
  return {
    errorCode: 0,
    name: topic.name,
    topicId: topic.id,
    isInternal: isInternalTopicName(topic.name),
    partitions: status.slice(from, to).map(({ leaderEpoch }, index) => ({
      errorCode: 0,
      partitionIndex: from + index,
      leaderId: KAFKA_NODE_ID,
      leaderEpoch,
      replicaNodes: [KAFKA_NODE_ID],
      isrNodes: [KAFKA_NODE_ID],
      eligibleLeaderReplicas: [],
      lastKnownElr: [],
      offlineReplicas: [],
    })),
    topicAuthorizedOperations: TOPIC_OPERATIONS,
  };
}

function without(name: string, code: Refusal['code']): Topic {
  return {
    errorCode: kafkaErrorCode(code, 'admin'),
    name,
    topicId: NO_TOPIC_ID,
    isInternal: isInternalTopicName(name),
    partitions: [],
  };
}
