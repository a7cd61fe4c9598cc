/**
 * Metadata 0–12: this broker, and topics by name or id.
 *
 * Topics that do not exist are created where the client allows it and the broker's setting does, with the broker's default
 * number of partitions, and are there when the answer goes: LEADER_NOT_AVAILABLE is never the answer.
 *
 * Differences from Kafka: one node leads everything; its epoch is the broker's count of starts, for every partition, also of
 * those that nothing was written to since. Names that begin with `__` are the broker's and are not created.
 */
import type { TopicId } from '@naru/base';
import { isInternalTopicName, NaruError, refuse, type Refusal } from '@naru/protocol';
import {
  kafkaErrorCode,
  KAFKA_ERRORS,
  NO_TOPIC_ID,
  OPERATIONS_NOT_ASKED,
  type KafkaRequest,
  type KafkaResponse,
} from '@naru/protocol/kafka';
import { isRefusal } from '../../../runtime/commands.ts';
import type { TopicService } from '../../../service/topics.ts';
import { CLUSTER_OPERATIONS, TOPIC_OPERATIONS } from '../authorized-operations.ts';
import { KAFKA_NODE_ID, type KafkaCall, type KafkaHandlers } from '../kafka-handler.ts';

export interface MetadataOptions {
  readonly topics: TopicService;
  readonly clusterId: string;
  /** The leader epoch in force. */
  readonly leaderEpoch: number;
  /** Whether topics that clients ask for are created. */
  readonly autoCreateTopics: boolean;
}

type Topic = Exclude<ReturnType<TopicService['find']>, Refusal>;
type Request = KafkaRequest<'metadata'>;
type Answer = KafkaResponse<'metadata'>;
type TopicAnswer = Answer['topics'][number];

const NODES = [KAFKA_NODE_ID];

export function metadataHandlers(options: MetadataOptions): Pick<KafkaHandlers, 'metadata'> {
  const answer = (request: Request, call: KafkaCall, topics: readonly TopicAnswer[]): Answer => ({
    brokers: [{ nodeId: KAFKA_NODE_ID, ...call.advertised }],
    clusterId: options.clusterId,
    controllerId: KAFKA_NODE_ID,
    topics: request.includeTopicAuthorizedOperations
      ? topics.map((topic) => ({ ...topic, topicAuthorizedOperations: TOPIC_OPERATIONS }))
      : topics,
    clusterAuthorizedOperations: request.includeClusterAuthorizedOperations ? CLUSTER_OPERATIONS : OPERATIONS_NOT_ASKED,
  });
  return {
    metadata: {
      async handle(request, call) {
        const { topics } = request;
        if (topics === null || (call.version === 0 && topics.length === 0)) {
          const all = options.topics.list(true);
          return answer(
            request,
            call,
            all.map((topic) => describe(topic, options)),
          );
        }
        // One after the other: a name that is there twice is created once.
        const found: TopicAnswer[] = [];
        for (const wanted of topics) found.push(await find(wanted, request, call, options));
        return answer(request, call, found);
      },
      failed(request, error, call) {
        const errorCode = kafkaErrorCode(error.code, 'admin');
        const topics = (request.topics ?? []).map(({ name, topicId }) => missing(errorCode, name ?? '', topicId));
        return answer(request, call, topics);
      },
    },
  };
}

async function find(
  { name, topicId }: { readonly name: string | null; readonly topicId: TopicId },
  request: Request,
  call: KafkaCall,
  options: MetadataOptions,
): Promise<TopicAnswer> {
  if (call.version < 12 && (name === null || topicId !== NO_TOPIC_ID)) {
    throw new NaruError('INVALID_REQUEST', `topics are asked for by id from version 12 on, not in ${call.version}`);
  }
  if (name === null || topicId !== NO_TOPIC_ID) {
    const topic = options.topics.findById(topicId);
    return isRefusal(topic) ? missing(KAFKA_ERRORS.UNKNOWN_TOPIC_ID.code, null, topicId) : describe(topic, options);
  }
  let topic = options.topics.find(name);
  if (isRefusal(topic) && request.allowAutoTopicCreation && options.autoCreateTopics) {
    topic = await create(name, options.topics);
  }
  return isRefusal(topic) ? missing(kafkaErrorCode(topic.code, 'admin'), name, NO_TOPIC_ID) : describe(topic, options);
}

async function create(name: string, topics: TopicService): Promise<Topic | Refusal> {
  if (isInternalTopicName(name)) return refuse('UNKNOWN_TOPIC_OR_PARTITION', `${name} would be the broker's own`);
  const created = await topics.create({ name, type: 'ordered', partitionCount: 0, config: {} });
  return isRefusal(created) && created.code === 'TOPIC_ALREADY_EXISTS' ? topics.find(name) : created;
}

function describe({ name, id, partitionCount }: Topic, { leaderEpoch }: MetadataOptions): TopicAnswer {
  return {
    errorCode: 0,
    name,
    topicId: id,
    isInternal: isInternalTopicName(name),
    partitions: Array.from({ length: partitionCount }, (_, partitionIndex) => ({
      errorCode: 0,
      partitionIndex,
      leaderId: KAFKA_NODE_ID,
      leaderEpoch,
      replicaNodes: NODES,
      isrNodes: NODES,
    })),
  };
}

function missing(errorCode: number, name: string | null, topicId: TopicId): TopicAnswer {
  return { errorCode, name, topicId, isInternal: name !== null && isInternalTopicName(name), partitions: [] };
}
