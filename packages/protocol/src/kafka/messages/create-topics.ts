/** CreateTopics. −1 partitions or replicas, from version 4 on, mean the broker's default. */
import { array, bool, int16, int32, int8, string, struct, uuid } from '../schema/field.ts';
import { KafkaApi } from '../schema/kafka-api.ts';

export const createTopicsApi = new KafkaApi({
  key: 19,
  name: 'CreateTopics',
  served: [2, 7],
  flexibleFrom: 5,
  request: {
    topics: array(
      struct({
        name: string,
        numPartitions: int32,
        replicationFactor: int16,
        assignments: array(struct({ partitionIndex: int32, brokerIds: array(int32) })),
        configs: array(struct({ name: string, value: string.nullable() })),
      }),
    ),
    timeoutMs: int32.or(60_000),
    validateOnly: bool.or(false),
  },
  response: {
    throttleTimeMs: int32.or(0),
    topics: array(
      struct({
        name: string,
        topicId: uuid.since(7),
        errorCode: int16,
        errorMessage: string.nullable().or(null),
        topicConfigErrorCode: int16.since(5).tagged(0),
        numPartitions: int32.since(5).or(-1),
        replicationFactor: int16.since(5).or(-1),
        configs: array(
          struct({
            name: string,
            value: string.nullable(),
            readOnly: bool,
            configSource: int8.or(-1),
            isSensitive: bool,
          }),
        )
          .since(5)
          .nullable(5),
      }),
    ),
  },
});
