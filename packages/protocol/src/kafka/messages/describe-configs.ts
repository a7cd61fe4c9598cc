/** DescribeConfigs. Null keys ask for all of a resource. */
import { array, bool, int16, int32, int8, string, struct } from '../schema/field.ts';
import { KafkaApi } from '../schema/kafka-api.ts';

export const describeConfigsApi = new KafkaApi({
  key: 32,
  name: 'DescribeConfigs',
  served: [1, 4],
  flexibleFrom: 4,
  request: {
    resources: array(struct({ resourceType: int8, resourceName: string, configurationKeys: array(string).nullable() })),
    includeSynonyms: bool.or(false),
    includeDocumentation: bool.since(3),
  },
  response: {
    throttleTimeMs: int32.or(0),
    results: array(
      struct({
        errorCode: int16,
        errorMessage: string.nullable(),
        resourceType: int8,
        resourceName: string,
        configs: array(
          struct({
            name: string,
            value: string.nullable(),
            readOnly: bool,
            configSource: int8.or(-1),
            isSensitive: bool,
            synonyms: array(struct({ name: string, value: string.nullable(), source: int8 })),
            configType: int8.since(3),
            documentation: string.since(3).nullable().or(null),
          }),
        ),
      }),
    ),
  },
});
