/** CreatePartitions: a topic's number of partitions raised to `count`. */
import { array, bool, int16, int32, string, struct } from '../schema/field.ts';
import { KafkaApi } from '../schema/kafka-api.ts';

export const createPartitionsApi = new KafkaApi({
  key: 37,
  name: 'CreatePartitions',
  served: [0, 3],
  flexibleFrom: 2,
  request: {
    topics: array(
      struct({
        name: string,
        count: int32,
        assignments: array(struct({ brokerIds: array(int32) })).nullable(),
      }),
    ),
    timeoutMs: int32,
    validateOnly: bool,
  },
  response: {
    throttleTimeMs: int32.or(0),
    results: array(struct({ name: string, errorCode: int16, errorMessage: string.nullable().or(null) })),
  },
});
