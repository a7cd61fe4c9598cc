/** OffsetFetch: committed offsets of one group, from version 8 on of several. Null topics, from 2 on, ask for all. */
import { array, bool, int16, int32, int64, string, struct } from '../schema/field.ts';
import { KafkaApi } from '../schema/kafka-api.ts';

const requestTopics = array(struct({ name: string, partitionIndexes: array(int32) }));

const committed = {
  partitionIndex: int32,
  committedOffset: int64,
  committedLeaderEpoch: int32.since(5).or(-1),
  metadata: string.nullable(),
  errorCode: int16,
};
const responseTopics = array(struct({ name: string, partitions: array(struct(committed)) }));

export const offsetFetchApi = new KafkaApi({
  key: 9,
  name: 'OffsetFetch',
  served: [1, 9],
  flexibleFrom: 6,
  request: {
    groupId: string.until(7),
    topics: requestTopics.until(7).nullable(2),
    groups: array(
      struct({
        groupId: string,
        memberId: string.since(9).nullable(9).or(null),
        memberEpoch: int32.since(9).or(-1),
        topics: requestTopics.nullable(),
      }),
    ).since(8),
    requireStable: bool.since(7),
  },
  response: {
    throttleTimeMs: int32.since(3),
    topics: responseTopics.until(7),
    errorCode: int16.since(2).until(7),
    groups: array(struct({ groupId: string, topics: responseTopics, errorCode: int16.or(0) })).since(8),
  },
});
