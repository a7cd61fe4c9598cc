/** ListGroups: of all kinds, or of certain states (from version 4) and types (from 5). */
import { array, int16, int32, string, struct } from '../schema/field.ts';
import { KafkaApi } from '../schema/kafka-api.ts';

export const listGroupsApi = new KafkaApi({
  key: 16,
  name: 'ListGroups',
  served: [0, 5],
  flexibleFrom: 3,
  request: { statesFilter: array(string).since(4), typesFilter: array(string).since(5) },
  response: {
    throttleTimeMs: int32.since(1),
    errorCode: int16,
    groups: array(
      struct({ groupId: string, protocolType: string, groupState: string.since(4), groupType: string.since(5) }),
    ),
  },
});
