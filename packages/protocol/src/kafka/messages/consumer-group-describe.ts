/** ConsumerGroupDescribe: groups of the new group protocol, with what each member has and is to have. */
import { array, bool, int16, int32, int8, string, struct, uuid } from '../schema/field.ts';
import { KafkaApi } from '../schema/kafka-api.ts';
import { authorizedOperations } from './authorized-operations.ts';

const assignment = struct({
  topicPartitions: array(struct({ topicId: uuid, topicName: string, partitions: array(int32) })),
});

export const consumerGroupDescribeApi = new KafkaApi({
  key: 69,
  name: 'ConsumerGroupDescribe',
  served: [0, 1],
  flexibleFrom: 0,
  request: { groupIds: array(string), includeAuthorizedOperations: bool },
  response: {
    throttleTimeMs: int32.or(0),
    groups: array(
      struct({
        errorCode: int16,
        errorMessage: string.nullable().or(null),
        groupId: string,
        groupState: string,
        groupEpoch: int32,
        assignmentEpoch: int32,
        assignorName: string,
        members: array(
          struct({
            memberId: string,
            instanceId: string.nullable().or(null),
            rackId: string.nullable().or(null),
            memberEpoch: int32,
            clientId: string,
            clientHost: string,
            subscribedTopicNames: array(string),
            subscribedTopicRegex: string.nullable().or(null),
            assignment,
            targetAssignment: assignment,
            /** −1 unknown, 0 classic, 1 consumer. */
            memberType: int8.since(1).or(-1),
          }),
        ),
        authorizedOperations,
      }),
    ),
  },
});
