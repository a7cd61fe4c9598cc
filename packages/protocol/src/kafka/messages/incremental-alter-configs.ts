/** IncrementalAlterConfigs: operations are 0 set, 1 delete, 2 append, 3 subtract. */
import { array, bool, int32, int8, string, struct } from '../schema/field.ts';
import { KafkaApi } from '../schema/kafka-api.ts';
import { configResults } from './config-resources.ts';

export const incrementalAlterConfigsApi = new KafkaApi({
  key: 44,
  name: 'IncrementalAlterConfigs',
  served: [0, 1],
  flexibleFrom: 1,
  request: {
    resources: array(
      struct({
        resourceType: int8,
        resourceName: string,
        configs: array(struct({ name: string, configOperation: int8, value: string.nullable() })),
      }),
    ),
    validateOnly: bool,
  },
  response: { throttleTimeMs: int32.or(0), responses: configResults },
});
