/**
 * Fetch 4–16: whole record batches from an offset on, uncopied and undecoded; waits up to maxWaitMs for minBytes.
 *
 * The batch that contains the offset comes whole, and a batch comes even when it is larger than what was asked for. Who reads what
 * is committed only (isolation level 1) gets batches below the last stable offset, aborted ones and markers too, and with them
 * the transactions that were aborted, by which clients drop theirs.
 *
 * Differences from Kafka: an answer has at most {@link MAX_ANSWER_BYTES}. Fetch sessions are never created (KIP-227: every
 * answer has session id 0), so that each request names all its partitions. There are no followers: who claims to be one reads
 * like a consumer.
 */
import { partitionKey, type PartitionKey } from '@naru/base';
import { kafkaErrorCode, KAFKA_ERRORS, type KafkaRequest, type KafkaResponse } from '@naru/protocol/kafka';
import { isRefusal, type FetchedPartition, type FetchPartition, type ShardClient } from '../../../runtime/commands.ts';
import { longPoll } from '../../../service/long-poll.ts';
import type { TopicService } from '../../../service/topics.ts';
import type { KafkaHandlers } from '../kafka-handler.ts';
import { inOrderOfBatches } from './aborted-transactions.ts';
import { findPartition, leaderEpochError } from './partition-errors.ts';

/** Of one answer, whatever the client asks for, plus one batch; less when memory for answers is short. */
const MAX_ANSWER_BYTES = 16 * 1024 * 1024;
const READ_COMMITTED = 1;
/** Longer waits are cut: nothing says that the client is still there. */
const MAX_WAIT_MS = 5 * 60_000;

export interface FetchOptions {
  readonly topics: TopicService;
  readonly shard: ShardClient;
  /** The leader epoch in force. */
  readonly leaderEpoch: number;
}

type Request = KafkaRequest<'fetch'>;
type Answer = KafkaResponse<'fetch'>;
type AbortedTransaction = NonNullable<FetchedPartition['aborted']>[number];
type WantedTopic = Request['topics'][number];
type WantedPartition = WantedTopic['partitions'][number];
type PartitionAnswer = Answer['responses'][number]['partitions'][number];

export function fetchHandlers(options: FetchOptions): Pick<KafkaHandlers, 'fetch'> {
  return {
    fetch: {
      async handle(request, { version, signal, maxAnswerBytes = MAX_ANSWER_BYTES }) {
        // Only a request that continues a session has an epoch above 0, and there is none to continue.
        if (request.sessionEpoch > 0) return wholeError(KAFKA_ERRORS.FETCH_SESSION_ID_NOT_FOUND.code);
        const checked = check(request, version, options);
        const mayWait = checked.errors === 0 && request.minBytes > 0;
        const reply = await longPoll(
          options.shard,
          {
            partitions: checked.partitions,
            minBytes: Math.min(request.minBytes, maxAnswerBytes),
            maxBytes: Math.min(Math.max(request.maxBytes, 1), maxAnswerBytes),
            maxWaitMs: mayWait ? Math.min(Math.max(request.maxWaitMs, 0), MAX_WAIT_MS) : 0,
            everyPartition: true,
            view: request.isolationLevel === READ_COMMITTED ? 'stable' : 'all',
          },
          signal,
        );
        if (isRefusal(reply)) {
          const errorCode = kafkaErrorCode(reply.code, 'fetch');
          return answer(request, ({ partition }) => emptyAnswer(partition, errorCode));
        }
        let next = 0;
        return answer(request, (wanted, topic) => {
          const error = checked.errorOf(topic, wanted);
          return error === 0
            ? fetchedAnswer(wanted.partition, reply.partitions[next++] as FetchedPartition)
            : emptyAnswer(wanted.partition, error);
        });
      },
      failed: (request, error) =>
        answer(request, ({ partition }) => emptyAnswer(partition, kafkaErrorCode(error.code, 'fetch'))),
    },
  };
}

interface Checked {
  /** Those that can be read, in order. */
  readonly partitions: FetchPartition[];
  readonly errors: number;
  /** Kafka's code; 0 for those that can be read. */
  readonly errorOf: (topic: WantedTopic, wanted: WantedPartition) => number;
}

function check(request: Request, version: number, options: FetchOptions): Checked {
  const partitions: FetchPartition[] = [];
  const errorCodes = new Map<WantedPartition, number>();
  for (const topic of request.topics) {
    for (const wanted of topic.partitions) {
      const found = find(topic, wanted, version, options);
      if (typeof found === 'number') errorCodes.set(wanted, found);
      else {
        const maxBytes = Math.max(wanted.partitionMaxBytes, 1);
        partitions.push({ partition: found, offset: wanted.fetchOffset, maxBytes });
      }
    }
  }
  return { partitions, errors: errorCodes.size, errorOf: (_topic, wanted) => errorCodes.get(wanted) ?? 0 };
}

function find(
  { topic, topicId }: WantedTopic,
  { partition, currentLeaderEpoch }: WantedPartition,
  version: number,
  { topics, leaderEpoch }: FetchOptions,
): PartitionKey | number {
  let found: PartitionKey | number;
  if (version < 13) found = findPartition(topics, topic, partition);
  else {
    const byId = topics.findById(topicId);
    if (isRefusal(byId)) return KAFKA_ERRORS.UNKNOWN_TOPIC_ID.code;
    if (partition < 0 || partition >= byId.partitionCount) return KAFKA_ERRORS.UNKNOWN_TOPIC_OR_PARTITION.code;
    found = partitionKey(topicId, partition);
  }
  if (typeof found === 'number') return found;
  const epochError = leaderEpochError(currentLeaderEpoch, leaderEpoch);
  return epochError === 0 ? found : epochError;
}

function answer(
  { topics }: Request,
  partition: (wanted: WantedPartition, topic: WantedTopic) => PartitionAnswer,
): Answer {
  return {
    errorCode: 0,
    sessionId: 0,
    responses: topics.map((topic) => ({
      topic: topic.topic,
      topicId: topic.topicId,
      partitions: topic.partitions.map((wanted) => partition(wanted, topic)),
    })),
  };
}

function wholeError(errorCode: number): Answer {
  return { errorCode, sessionId: 0, responses: [] };
}

function fetchedAnswer(partitionIndex: number, fetched: FetchedPartition): PartitionAnswer {
  const { highWatermark, lastStableOffset, logStartOffset, batches, refusal, aborted } = fetched;
  if (refusal !== null) {
    return { ...emptyAnswer(partitionIndex, kafkaErrorCode(refusal.code, 'fetch')), highWatermark, logStartOffset };
  }
  return {
    partitionIndex,
    errorCode: 0,
    highWatermark,
    lastStableOffset,
    logStartOffset,
    // Null for who reads everything, as in Kafka.
    abortedTransactions: aborted === undefined ? null : inOrderOfBatches(aborted, batches).map(abortedAnswer),
    records: batches,
  };
}

function abortedAnswer({ producerId, firstOffset }: AbortedTransaction): { producerId: number; firstOffset: number } {
  return { producerId, firstOffset };
}

/** Without records, which some clients cannot take to be null. */
function emptyAnswer(partitionIndex: number, errorCode: number): PartitionAnswer {
  return { partitionIndex, errorCode, highWatermark: -1, lastStableOffset: -1, logStartOffset: -1, records: [] };
}
