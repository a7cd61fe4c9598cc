/**
 * JoinGroup of the classic group protocol. `metadata` is a Subscription (`consumer-protocol.ts`) where `protocolType` is
 * `consumer`.
 */
import { array, bool, bytes, int16, int32, string, struct } from '../schema/field.ts';
import { KafkaApi } from '../schema/kafka-api.ts';

export const joinGroupApi = new KafkaApi({
  key: 11,
  name: 'JoinGroup',
  served: [0, 9],
  flexibleFrom: 6,
  request: {
    groupId: string,
    sessionTimeoutMs: int32,
    /** Version 0 lacks it: the session time-out counts. */
    rebalanceTimeoutMs: int32.since(1).or(-1),
    memberId: string,
    groupInstanceId: string.since(5).nullable(5).or(null),
    protocolType: string,
    protocols: array(struct({ name: string, metadata: bytes })),
    reason: string.since(8).nullable(8).or(null),
  },
  response: {
    throttleTimeMs: int32.since(2),
    errorCode: int16,
    generationId: int32.or(-1),
    protocolType: string.since(7).nullable(7).or(null),
    /** Null from version 7 on, '' before, when there is none. */
    protocolName: string.nullable(7),
    leader: string,
    skipAssignment: bool.since(9),
    memberId: string,
    members: array(
      struct({ memberId: string, groupInstanceId: string.since(5).nullable(5).or(null), metadata: bytes }),
    ),
  },
});
