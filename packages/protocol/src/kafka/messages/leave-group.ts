/** LeaveGroup of the classic group protocol; several members at once from version 3. */
import { array, int16, int32, string, struct } from '../schema/field.ts';
import { KafkaApi } from '../schema/kafka-api.ts';

export const leaveGroupApi = new KafkaApi({
  key: 13,
  name: 'LeaveGroup',
  served: [0, 5],
  flexibleFrom: 4,
  request: {
    groupId: string,
    memberId: string.until(2),
    members: array(
      struct({
        memberId: string,
        groupInstanceId: string.nullable().or(null),
        reason: string.since(5).nullable(5).or(null),
      }),
    ).since(3),
  },
  response: {
    throttleTimeMs: int32.since(1),
    errorCode: int16,
    members: array(struct({ memberId: string, groupInstanceId: string.nullable().or(null), errorCode: int16 })).since(
      3,
    ),
  },
});
