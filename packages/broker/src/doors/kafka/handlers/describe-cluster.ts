/**
 * DescribeCluster 0–1: this broker as the cluster's only node and its controller.
 *
 * As a Kafka broker does, it answers for brokers only: who asks for the endpoints of controllers (version 1) is told
 * MISMATCHED_ENDPOINT_TYPE, and asks for brokers.
 */
import { KAFKA_ERRORS, OPERATIONS_NOT_ASKED } from '@naru/protocol/kafka';
import { KAFKA_NODE_ID, type KafkaHandlers } from '../kafka-handler.ts';
import { DONE, refused, refusedAs, type AdminAnswer } from './admin-answers.ts';
import { CLUSTER_OPERATIONS } from '../authorized-operations.ts';

const BROKERS = 1;
const CONTROLLERS = 2;

export function describeClusterHandlers(clusterId: string): Required<Pick<KafkaHandlers, 'describeCluster'>> {
  return {
    describeCluster: {
      handle: ({ endpointType, includeClusterAuthorizedOperations }, { advertised }) => {
        const answer = checkEndpointType(endpointType);
        const known = answer.errorCode === KAFKA_ERRORS.NONE.code;
        return {
          ...answer,
          endpointType,
          clusterId,
          controllerId: known ? KAFKA_NODE_ID : -1,
          brokers: known ? [{ brokerId: KAFKA_NODE_ID, ...advertised, rack: null }] : [],
          clusterAuthorizedOperations: includeClusterAuthorizedOperations ? CLUSTER_OPERATIONS : OPERATIONS_NOT_ASKED,
        };
      },
      failed: ({ endpointType }, error) => ({ ...refusedAs(error), endpointType, clusterId, brokers: [] }),
    },
  };
}

function checkEndpointType(endpointType: number): AdminAnswer {
  if (endpointType === BROKERS) return DONE;
  return endpointType === CONTROLLERS
    ? refused('MISMATCHED_ENDPOINT_TYPE', 'this is a broker: ask for endpoints of brokers (type 1)')
    : refused('UNSUPPORTED_ENDPOINT_TYPE', `there is no endpoint type ${endpointType}`);
}
