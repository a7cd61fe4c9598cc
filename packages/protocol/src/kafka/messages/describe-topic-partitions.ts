/** DescribeTopicPartitions: metadata of topics page by page; no topics asks for all. */
import { array, bool, int16, int32, string, struct, uuid } from '../schema/field.ts';
import { KafkaApi } from '../schema/kafka-api.ts';
import { authorizedOperations } from './authorized-operations.ts';

const cursor = struct({ topicName: string, partitionIndex: int32 }).nullable().or(null);

export const describeTopicPartitionsApi = new KafkaApi({
  key: 75,
  name: 'DescribeTopicPartitions',
  served: [0, 0],
  flexibleFrom: 0,
  request: {
    topics: array(struct({ name: string })),
    responsePartitionLimit: int32.or(2000),
    cursor,
  },
  response: {
    throttleTimeMs: int32.or(0),
    topics: array(
      struct({
        errorCode: int16,
        name: string.nullable(),
        topicId: uuid,
        isInternal: bool.or(false),
        partitions: array(
          struct({
            errorCode: int16,
            partitionIndex: int32,
            leaderId: int32,
            leaderEpoch: int32.or(-1),
            replicaNodes: array(int32),
            isrNodes: array(int32),
            eligibleLeaderReplicas: array(int32).nullable().or(null),
            lastKnownElr: array(int32).nullable().or(null),
            offlineReplicas: array(int32),
          }),
        ),
        topicAuthorizedOperations: authorizedOperations,
      }),
    ),
    nextCursor: cursor,
  },
});
