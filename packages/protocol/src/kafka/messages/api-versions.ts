/**
 * ApiVersions: what a broker speaks; the first request of nearly every connection.
 *
 * A version that is not served is answered with UNSUPPORTED_VERSION in a body of version 0. The header of the response is
 * that of version 0 always, since the client does not yet know what the broker understands.
 */
import { array, bool, int16, int32, int64, string, struct } from '../schema/field.ts';
import { KafkaApi } from '../schema/kafka-api.ts';

export const apiVersionsApi = new KafkaApi({
  key: 18,
  name: 'ApiVersions',
  served: [0, 4],
  flexibleFrom: 3,
  responseHeader: 0,
  request: {
    clientSoftwareName: string.since(3),
    clientSoftwareVersion: string.since(3),
  },
  response: {
    errorCode: int16,
    apiKeys: array(struct({ apiKey: int16, minVersion: int16, maxVersion: int16 })),
    throttleTimeMs: int32.since(1),
    supportedFeatures: array(struct({ name: string, minVersion: int16, maxVersion: int16 }))
      .since(3)
      .tagged(0),
    finalizedFeaturesEpoch: int64.since(3).tagged(1).or(-1),
    finalizedFeatures: array(struct({ name: string, maxVersionLevel: int16, minVersionLevel: int16 }))
      .since(3)
      .tagged(2),
    zkMigrationReady: bool.since(3).tagged(3),
  },
});
