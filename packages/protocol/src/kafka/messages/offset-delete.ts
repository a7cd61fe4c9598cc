/** OffsetDelete: committed offsets of a group for partitions that it does not subscribe to. */
import { array, int16, int32, string, struct } from '../schema/field.ts';
import { KafkaApi } from '../schema/kafka-api.ts';

export const offsetDeleteApi = new KafkaApi({
  key: 47,
  name: 'OffsetDelete',
  served: [0, 0],
  request: {
    groupId: string,
    topics: array(struct({ name: string, partitions: array(struct({ partitionIndex: int32 })) })),
  },
  response: {
    errorCode: int16,
    throttleTimeMs: int32.or(0),
    topics: array(struct({ name: string, partitions: array(struct({ partitionIndex: int32, errorCode: int16 })) })),
  },
});
