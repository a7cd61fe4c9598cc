/** InitProducerId: an id and epoch for an idempotent or transactional producer. */
import { int16, int32, int64, string } from '../schema/field.ts';
import { KafkaApi } from '../schema/kafka-api.ts';

export const initProducerIdApi = new KafkaApi({
  key: 22,
  name: 'InitProducerId',
  served: [0, 5],
  flexibleFrom: 2,
  request: {
    transactionalId: string.nullable(),
    transactionTimeoutMs: int32,
    producerId: int64.since(3).or(-1),
    producerEpoch: int16.since(3).or(-1),
  },
  response: {
    throttleTimeMs: int32.or(0),
    errorCode: int16,
    producerId: int64.or(-1),
    producerEpoch: int16,
  },
});
