/** OffsetForLeaderEpoch: where an epoch ended, by which a consumer notices that a log was cut. */
import { array, int16, int32, int64, string, struct } from '../schema/field.ts';
import { KafkaApi } from '../schema/kafka-api.ts';

export const offsetForLeaderEpochApi = new KafkaApi({
  key: 23,
  name: 'OffsetForLeaderEpoch',
  served: [2, 4],
  flexibleFrom: 4,
  request: {
    replicaId: int32.since(3).or(-2),
    topics: array(
      struct({
        topic: string,
        partitions: array(struct({ partition: int32, currentLeaderEpoch: int32.or(-1), leaderEpoch: int32 })),
      }),
    ),
  },
  response: {
    throttleTimeMs: int32.or(0),
    topics: array(
      struct({
        topic: string,
        partitions: array(
          struct({ errorCode: int16, partition: int32, leaderEpoch: int32.or(-1), endOffset: int64.or(-1) }),
        ),
      }),
    ),
  },
});
