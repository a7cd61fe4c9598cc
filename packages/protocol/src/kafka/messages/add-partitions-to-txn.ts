/** AddPartitionsToTxn, as clients send it: version 4 and later are between brokers. */
import { array, int16, int32, int64, string, struct } from '../schema/field.ts';
import { KafkaApi } from '../schema/kafka-api.ts';

export const addPartitionsToTxnApi = new KafkaApi({
  key: 24,
  name: 'AddPartitionsToTxn',
  served: [0, 3],
  flexibleFrom: 3,
  request: {
    v3AndBelowTransactionalId: string,
    v3AndBelowProducerId: int64,
    v3AndBelowProducerEpoch: int16,
    v3AndBelowTopics: array(struct({ name: string, partitions: array(int32) })),
  },
  response: {
    throttleTimeMs: int32.or(0),
    resultsByTopicV3AndBelow: array(
      struct({
        name: string,
        resultsByPartition: array(struct({ partitionIndex: int32, partitionErrorCode: int16 })),
      }),
    ),
  },
});
