/** DeleteRecords: everything before an offset; −1 is the high watermark. */
import { array, int16, int32, int64, int64Clamped, string, struct } from '../schema/field.ts';
import { KafkaApi } from '../schema/kafka-api.ts';

export const deleteRecordsApi = new KafkaApi({
  key: 21,
  name: 'DeleteRecords',
  served: [0, 2],
  flexibleFrom: 2,
  request: {
    topics: array(
      struct({
        name: string,
        // Clamped, so that an offset far too high is out of range and not an unreadable request.
        partitions: array(struct({ partitionIndex: int32, offset: int64Clamped })),
      }),
    ),
    timeoutMs: int32,
  },
  response: {
    throttleTimeMs: int32.or(0),
    topics: array(
      struct({
        name: string,
        partitions: array(struct({ partitionIndex: int32, lowWatermark: int64, errorCode: int16 })),
      }),
    ),
  },
});
