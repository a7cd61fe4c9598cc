/** Heartbeat of the classic group protocol. */
import { int16, int32, string } from '../schema/field.ts';
import { KafkaApi } from '../schema/kafka-api.ts';

export const heartbeatApi = new KafkaApi({
  key: 12,
  name: 'Heartbeat',
  served: [0, 4],
  flexibleFrom: 4,
  request: {
    groupId: string,
    generationId: int32,
    memberId: string,
    groupInstanceId: string.since(3).nullable(3).or(null),
  },
  response: { throttleTimeMs: int32.since(1), errorCode: int16 },
});
