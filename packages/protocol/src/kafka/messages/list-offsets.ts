/**
 * ListOffsets: the first offset at or after a time, or one of the ends of a partition.
 *
 * Times that are negative are questions: −1 latest, −2 earliest, −3 the largest timestamp (from 7), −4 earliest local
 * (from 8), −5 latest tiered (from 9).
 */
import { array, int16, int32, int64, int64Clamped, int8, string, struct } from '../schema/field.ts';
import { KafkaApi } from '../schema/kafka-api.ts';

export const listOffsetsApi = new KafkaApi({
  key: 2,
  name: 'ListOffsets',
  served: [1, 9],
  flexibleFrom: 6,
  request: {
    replicaId: int32.or(-1),
    isolationLevel: int8.since(2),
    topics: array(
      struct({
        name: string,
        partitions: array(
          struct({
            partitionIndex: int32,
            currentLeaderEpoch: int32.since(4).or(-1),
            // Clamped: there are clients that mean "after everything" by the largest int64.
            timestamp: int64Clamped,
          }),
        ),
      }),
    ),
  },
  response: {
    throttleTimeMs: int32.since(2),
    topics: array(
      struct({
        name: string,
        partitions: array(
          struct({
            partitionIndex: int32,
            errorCode: int16,
            timestamp: int64.or(-1),
            offset: int64.or(-1),
            leaderEpoch: int32.since(4).or(-1),
          }),
        ),
      }),
    ),
  },
});
