/** DeleteGroups. */
import { array, int16, int32, string, struct } from '../schema/field.ts';
import { KafkaApi } from '../schema/kafka-api.ts';

export const deleteGroupsApi = new KafkaApi({
  key: 42,
  name: 'DeleteGroups',
  served: [0, 2],
  flexibleFrom: 2,
  request: { groupsNames: array(string) },
  response: { throttleTimeMs: int32.or(0), results: array(struct({ groupId: string, errorCode: int16 })) },
});
