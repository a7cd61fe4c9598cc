/**
 * Metadata: brokers, topics, partitions and who leads them.
 *
 * In version 0 an empty list of topics asks for all of them, from 1 on null does. From 10 on a topic may be asked for by
 * id, with a null name; from 12 on the answer to that may have a null name too.
 */
import { array, bool, int16, int32, string, struct, uuid } from '../schema/field.ts';
import { KafkaApi } from '../schema/kafka-api.ts';
import { authorizedOperations } from './authorized-operations.ts';

export const metadataApi = new KafkaApi({
  key: 3,
  name: 'Metadata',
  served: [0, 12],
  flexibleFrom: 9,
  request: {
    topics: array(struct({ topicId: uuid.since(10), name: string.nullable(10) })).nullable(1),
    allowAutoTopicCreation: bool.since(4).or(true),
    includeClusterAuthorizedOperations: bool.since(8).until(10),
    includeTopicAuthorizedOperations: bool.since(8),
  },
  response: {
    throttleTimeMs: int32.since(3),
    brokers: array(struct({ nodeId: int32, host: string, port: int32, rack: string.since(1).nullable(1).or(null) })),
    clusterId: string.since(2).nullable(2).or(null),
    controllerId: int32.since(1).or(-1),
    topics: array(
      struct({
        errorCode: int16,
        name: string.nullable(12),
        topicId: uuid.since(10),
        isInternal: bool.since(1),
        partitions: array(
          struct({
            errorCode: int16,
            partitionIndex: int32,
            leaderId: int32,
            leaderEpoch: int32.since(7).or(-1),
            replicaNodes: array(int32),
            isrNodes: array(int32),
            offlineReplicas: array(int32).since(5),
          }),
        ),
        topicAuthorizedOperations: authorizedOperations.since(8),
      }),
    ),
    clusterAuthorizedOperations: authorizedOperations.since(8).until(10),
  },
});
