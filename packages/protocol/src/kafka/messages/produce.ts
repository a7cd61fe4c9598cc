/**
 * Produce: record batches for partitions.
 *
 * From version 12 on a transactional batch makes its partition a part of the transaction (KIP-890).
 *
 * Advertised from 0, although Kafka 4 dropped what is before 3: librdkafka sends uncompressed batches to a broker that does
 * not list the old versions. Nobody who can do 3 sends them.
 */
import { array, int16, int32, int64, records, string, struct } from '../schema/field.ts';
import { KafkaApi } from '../schema/kafka-api.ts';
import { currentLeader, nodeEndpoints } from './leader-hints.ts';

export const produceApi = new KafkaApi({
  key: 0,
  name: 'Produce',
  served: [3, 12],
  advertised: [0, 12],
  flexibleFrom: 9,
  request: {
    transactionalId: string.nullable().or(null),
    acks: int16,
    timeoutMs: int32,
    topicData: array(
      struct({ name: string, partitionData: array(struct({ index: int32, records: records.nullable() })) }),
    ),
  },
  response: {
    responses: array(
      struct({
        name: string,
        partitionResponses: array(
          struct({
            index: int32,
            errorCode: int16,
            baseOffset: int64,
            logAppendTimeMs: int64.or(-1),
            logStartOffset: int64.since(5).or(-1),
            recordErrors: array(
              struct({ batchIndex: int32, batchIndexErrorMessage: string.nullable().or(null) }),
            ).since(8),
            errorMessage: string.since(8).nullable(8).or(null),
            currentLeader: currentLeader.since(10).tagged(0),
          }),
        ),
      }),
    ),
    throttleTimeMs: int32.or(0),
    nodeEndpoints: nodeEndpoints.since(10).tagged(0),
  },
});
