/**
 * ConsumerGroupHeartbeat of the new group protocol (KIP-848): join, leave, what a member owns and what it is given.
 *
 * A null field means that nothing changed since the last heartbeat. Member epoch 0 joins, −1 leaves, −2 leaves for a while.
 */
import { array, int16, int32, string, struct, uuid } from '../schema/field.ts';
import { KafkaApi } from '../schema/kafka-api.ts';

const topicPartitions = array(struct({ topicId: uuid, partitions: array(int32) }));

export const consumerGroupHeartbeatApi = new KafkaApi({
  key: 68,
  name: 'ConsumerGroupHeartbeat',
  served: [0, 1],
  flexibleFrom: 0,
  request: {
    groupId: string,
    memberId: string,
    memberEpoch: int32,
    instanceId: string.nullable().or(null),
    rackId: string.nullable().or(null),
    rebalanceTimeoutMs: int32.or(-1),
    subscribedTopicNames: array(string).nullable().or(null),
    subscribedTopicRegex: string.since(1).nullable(1).or(null),
    serverAssignor: string.nullable().or(null),
    topicPartitions: topicPartitions.nullable().or(null),
  },
  response: {
    throttleTimeMs: int32.or(0),
    errorCode: int16,
    errorMessage: string.nullable().or(null),
    memberId: string.nullable().or(null),
    memberEpoch: int32,
    heartbeatIntervalMs: int32,
    assignment: struct({ topicPartitions }).nullable().or(null),
  },
});
