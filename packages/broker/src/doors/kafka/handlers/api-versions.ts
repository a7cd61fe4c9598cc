/**
 * ApiVersions 0–4: which APIs are spoken here, in which versions; those that have a handler.
 *
 * Differences from Kafka: no features, finalized or not, so that clients stay with the first transaction protocol. Versions
 * that are not served are answered before they get here.
 */
import { kafkaApis, KAFKA_ERRORS, kafkaErrorCode, type KafkaApiName } from '@naru/protocol/kafka';
import type { KafkaHandlers } from '../kafka-handler.ts';

export interface AdvertisedApi {
  readonly apiKey: number;
  readonly minVersion: number;
  readonly maxVersion: number;
}

/** Kafka's rule for the name and version of a client's software. */
const SOFTWARE = /^[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?$/;

export function advertisedApis(handlers: KafkaHandlers): AdvertisedApi[] {
  return (Object.keys(kafkaApis) as KafkaApiName[])
    .filter((name) => handlers[name] !== undefined)
    .map((name) => {
      const { key, advertised } = kafkaApis[name];
      return { apiKey: key, minVersion: advertised[0], maxVersion: advertised[1] };
    })
    .sort((a, b) => a.apiKey - b.apiKey);
}

export function apiVersionsHandlers(apis: () => readonly AdvertisedApi[]): Pick<KafkaHandlers, 'apiVersions'> {
  return {
    apiVersions: {
      handle: ({ clientSoftwareName, clientSoftwareVersion }, { version }) => {
        const isKnown = version < 3 || (SOFTWARE.test(clientSoftwareName) && SOFTWARE.test(clientSoftwareVersion));
        if (!isKnown) return { errorCode: KAFKA_ERRORS.INVALID_REQUEST.code, apiKeys: [] };
        return { errorCode: 0, apiKeys: apis() };
      },
      failed: (_request, error) => ({ errorCode: kafkaErrorCode(error.code, 'admin'), apiKeys: [] }),
    },
  };
}
