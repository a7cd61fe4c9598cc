/** DescribeProducers: who writes to partitions, and since which offset in a transaction (KIP-664). */
import { array, int16, int32, int64, string, struct } from '../schema/field.ts';
import { KafkaApi } from '../schema/kafka-api.ts';

export const describeProducersApi = new KafkaApi({
  key: 61,
  name: 'DescribeProducers',
  served: [0, 0],
  flexibleFrom: 0,
  request: { topics: array(struct({ name: string, partitionIndexes: array(int32) })) },
  response: {
    throttleTimeMs: int32.or(0),
    topics: array(
      struct({
        name: string,
        partitions: array(
          struct({
            partitionIndex: int32,
            errorCode: int16,
            errorMessage: string.nullable().or(null),
            activeProducers: array(
              struct({
                producerId: int64,
                producerEpoch: int32,
                lastSequence: int32.or(-1),
                lastTimestamp: int64.or(-1),
                coordinatorEpoch: int32,
                currentTxnStartOffset: int64.or(-1),
              }),
            ),
          }),
        ),
      }),
    ),
  },
});
