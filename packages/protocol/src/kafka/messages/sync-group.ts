/**
 * SyncGroup of the classic group protocol. `assignment` is an Assignment (`consumer-protocol.ts`) where the protocol type
 * is `consumer`.
 */
import { array, bytes, int16, int32, string, struct } from '../schema/field.ts';
import { KafkaApi } from '../schema/kafka-api.ts';

export const syncGroupApi = new KafkaApi({
  key: 14,
  name: 'SyncGroup',
  served: [0, 5],
  flexibleFrom: 4,
  request: {
    groupId: string,
    generationId: int32,
    memberId: string,
    groupInstanceId: string.since(3).nullable(3).or(null),
    protocolType: string.since(5).nullable(5).or(null),
    protocolName: string.since(5).nullable(5).or(null),
    assignments: array(struct({ memberId: string, assignment: bytes })),
  },
  response: {
    throttleTimeMs: int32.since(1),
    errorCode: int16,
    protocolType: string.since(5).nullable(5).or(null),
    protocolName: string.since(5).nullable(5).or(null),
    assignment: bytes,
  },
});
