/** OffsetCommit. From version 9 on the new group protocol's members commit with it, with their epoch as the generation. */
import { array, int16, int32, int64, int64Clamped, string, struct } from '../schema/field.ts';
import { KafkaApi } from '../schema/kafka-api.ts';

export const offsetCommitApi = new KafkaApi({
  key: 8,
  name: 'OffsetCommit',
  served: [2, 9],
  flexibleFrom: 8,
  request: {
    groupId: string,
    generationIdOrMemberEpoch: int32.or(-1),
    memberId: string.or(''),
    groupInstanceId: string.since(7).nullable(7).or(null),
    retentionTimeMs: int64Clamped.until(4).or(-1),
    topics: array(
      struct({
        name: string,
        partitions: array(
          struct({
            partitionIndex: int32,
            committedOffset: int64,
            committedLeaderEpoch: int32.since(6).or(-1),
            committedMetadata: string.nullable(),
          }),
        ),
      }),
    ),
  },
  response: {
    throttleTimeMs: int32.since(3),
    topics: array(struct({ name: string, partitions: array(struct({ partitionIndex: int32, errorCode: int16 })) })),
  },
});
