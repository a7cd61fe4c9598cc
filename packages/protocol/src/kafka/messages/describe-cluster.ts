/** DescribeCluster. Endpoint type 1 means brokers, 2 controllers. */
import { array, bool, int16, int32, int8, string, struct } from '../schema/field.ts';
import { KafkaApi } from '../schema/kafka-api.ts';
import { authorizedOperations } from './authorized-operations.ts';

export const describeClusterApi = new KafkaApi({
  key: 60,
  name: 'DescribeCluster',
  served: [0, 1],
  flexibleFrom: 0,
  request: { includeClusterAuthorizedOperations: bool, endpointType: int8.since(1).or(1) },
  response: {
    throttleTimeMs: int32.or(0),
    errorCode: int16,
    errorMessage: string.nullable().or(null),
    endpointType: int8.since(1).or(1),
    clusterId: string,
    controllerId: int32.or(-1),
    brokers: array(struct({ brokerId: int32, host: string, port: int32, rack: string.nullable().or(null) })),
    clusterAuthorizedOperations: authorizedOperations,
  },
});
