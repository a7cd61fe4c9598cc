/** AddOffsetsToTxn: a group whose offsets a transaction will commit. */
import { int16, int32, int64, string } from '../schema/field.ts';
import { KafkaApi } from '../schema/kafka-api.ts';

export const addOffsetsToTxnApi = new KafkaApi({
  key: 25,
  name: 'AddOffsetsToTxn',
  served: [0, 4],
  flexibleFrom: 3,
  request: { transactionalId: string, producerId: int64, producerEpoch: int16, groupId: string },
  response: { throttleTimeMs: int32.or(0), errorCode: int16 },
});
