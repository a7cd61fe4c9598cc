/** DescribeGroups: groups of the classic protocol. From version 6 on a group that is missing is GROUP_ID_NOT_FOUND. */
import { array, bool, bytes, int16, int32, string, struct } from '../schema/field.ts';
import { KafkaApi } from '../schema/kafka-api.ts';
import { authorizedOperations } from './authorized-operations.ts';

export const describeGroupsApi = new KafkaApi({
  key: 15,
  name: 'DescribeGroups',
  served: [0, 6],
  flexibleFrom: 5,
  request: { groups: array(string), includeAuthorizedOperations: bool.since(3) },
  response: {
    throttleTimeMs: int32.since(1),
    groups: array(
      struct({
        errorCode: int16,
        errorMessage: string.since(6).nullable(6).or(null),
        groupId: string,
        groupState: string,
        protocolType: string,
        protocolData: string,
        members: array(
          struct({
            memberId: string,
            groupInstanceId: string.since(4).nullable(4).or(null),
            clientId: string,
            clientHost: string,
            memberMetadata: bytes,
            memberAssignment: bytes,
          }),
        ),
        authorizedOperations: authorizedOperations.since(3),
      }),
    ),
  },
});
