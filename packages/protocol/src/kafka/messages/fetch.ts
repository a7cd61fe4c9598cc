/**
 * Fetch: record batches of partitions, from an offset on.
 *
 * Topics go by name up to version 12 and by id from 13 on. Fetch sessions (KIP-227) are in the layout: a broker without
 * them answers with session id 0.
 */
import { array, int16, int32, int64, int64Clamped, int8, records, string, struct, uuid } from '../schema/field.ts';
import { KafkaApi } from '../schema/kafka-api.ts';
import { currentLeader, nodeEndpoints } from './leader-hints.ts';

export const fetchApi = new KafkaApi({
  key: 1,
  name: 'Fetch',
  served: [4, 16],
  flexibleFrom: 12,
  request: {
    clusterId: string.since(12).nullable(12).tagged(0).or(null),
    replicaId: int32.until(14).or(-1),
    replicaState: struct({ replicaId: int32.or(-1), replicaEpoch: int64.or(-1) })
      .since(15)
      .tagged(1),
    maxWaitMs: int32,
    minBytes: int32,
    maxBytes: int32.or(0x7fff_ffff),
    isolationLevel: int8.or(0),
    sessionId: int32.since(7),
    sessionEpoch: int32.since(7).or(-1),
    topics: array(
      struct({
        topic: string.until(12),
        topicId: uuid.since(13),
        partitions: array(
          struct({
            partition: int32,
            currentLeaderEpoch: int32.since(9).or(-1),
            // Clamped, so that an offset far too high is out of range and not an unreadable request.
            fetchOffset: int64Clamped,
            lastFetchedEpoch: int32.since(12).or(-1),
            logStartOffset: int64Clamped.since(5).or(-1),
            partitionMaxBytes: int32,
          }),
        ),
      }),
    ),
    forgottenTopicsData: array(
      struct({ topic: string.until(12), topicId: uuid.since(13), partitions: array(int32) }),
    ).since(7),
    rackId: string.since(11),
  },
  response: {
    throttleTimeMs: int32.or(0),
    errorCode: int16.since(7),
    sessionId: int32.since(7),
    responses: array(
      struct({
        topic: string.until(12),
        topicId: uuid.since(13),
        partitions: array(
          struct({
            partitionIndex: int32,
            errorCode: int16,
            highWatermark: int64,
            lastStableOffset: int64.or(-1),
            logStartOffset: int64.since(5).or(-1),
            divergingEpoch: struct({ epoch: int32.or(-1), endOffset: int64.or(-1) })
              .since(12)
              .tagged(0),
            currentLeader: currentLeader.since(12).tagged(1),
            snapshotId: struct({ endOffset: int64.or(-1), epoch: int32.or(-1) })
              .since(12)
              .tagged(2),
            abortedTransactions: array(struct({ producerId: int64, firstOffset: int64 }))
              .nullable()
              .or(null),
            preferredReadReplica: int32.since(11).or(-1),
            records: records.nullable(),
          }),
        ),
      }),
    ),
    nodeEndpoints: nodeEndpoints.since(16).tagged(0),
  },
});
