/** EndTxn: commit or abort a transaction. From version 5 on every transaction has an epoch of its own, and the answer the next (KIP-890). */
import { bool, int16, int32, int64, string } from '../schema/field.ts';
import { KafkaApi } from '../schema/kafka-api.ts';

export const endTxnApi = new KafkaApi({
  key: 26,
  name: 'EndTxn',
  served: [0, 5],
  flexibleFrom: 3,
  request: { transactionalId: string, producerId: int64, producerEpoch: int16, committed: bool },
  response: {
    throttleTimeMs: int32.or(0),
    errorCode: int16,
    producerId: int64.since(5).or(-1),
    producerEpoch: int16.since(5).or(-1),
  },
});
