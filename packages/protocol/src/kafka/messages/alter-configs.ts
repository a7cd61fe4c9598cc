/** AlterConfigs: replaces everything that was set for a resource. */
import { array, bool, int32, int8, string, struct } from '../schema/field.ts';
import { KafkaApi } from '../schema/kafka-api.ts';
import { configResults } from './config-resources.ts';

export const alterConfigsApi = new KafkaApi({
  key: 33,
  name: 'AlterConfigs',
  served: [0, 2],
  flexibleFrom: 2,
  request: {
    resources: array(
      struct({
        resourceType: int8,
        resourceName: string,
        configs: array(struct({ name: string, value: string.nullable() })),
      }),
    ),
    validateOnly: bool,
  },
  response: { throttleTimeMs: int32.or(0), responses: configResults },
});
