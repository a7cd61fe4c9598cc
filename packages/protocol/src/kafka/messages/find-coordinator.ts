/** FindCoordinator: the broker that coordinates a group (key type 0) or a transaction (1); several of them from version 4. */
import { array, int16, int32, int8, string, struct } from '../schema/field.ts';
import { KafkaApi } from '../schema/kafka-api.ts';

export const findCoordinatorApi = new KafkaApi({
  key: 10,
  name: 'FindCoordinator',
  served: [0, 6],
  flexibleFrom: 3,
  request: {
    key: string.until(3),
    keyType: int8.since(1),
    coordinatorKeys: array(string).since(4),
  },
  response: {
    throttleTimeMs: int32.since(1),
    errorCode: int16.until(3),
    errorMessage: string.since(1).until(3).nullable(1).or(null),
    nodeId: int32.until(3),
    host: string.until(3),
    port: int32.until(3),
    coordinators: array(
      struct({
        key: string,
        nodeId: int32,
        host: string,
        port: int32,
        errorCode: int16,
        errorMessage: string.nullable().or(null),
      }),
    ).since(4),
  },
});
