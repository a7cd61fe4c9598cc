/**
 * ApiVersions 0–4: which APIs are spoken here, in which versions; those that have a handler.
 *
 * The one feature is `transaction.version`: its second level lets clients take the second transaction flow (KIP-890). As in Kafka,
 * versions before 4 do not say that it is supported from level 0 on, which their clients cannot read (KAFKA-17492).
 *
 * Versions that are not served are answered before they get here.
 */
import { kafkaApis, KAFKA_ERRORS, kafkaErrorCode, type KafkaApiName } from '@naru/protocol/kafka';
import type { KafkaHandlers } from '../kafka-handler.ts';

export interface AdvertisedApi {
  readonly apiKey: number;
  readonly minVersion: number;
  readonly maxVersion: number;
}

/** Level 0 and 1 are the first flow. */
const TRANSACTION_VERSION = { name: 'transaction.version', minVersion: 0, maxVersion: 2 };
const SUPPORTED_FROM_0_SINCE = 4;
const FEATURES = {
  // Features never change while the broker lives, and there is no other broker.
  finalizedFeaturesEpoch: 1,
  finalizedFeatures: [{ name: TRANSACTION_VERSION.name, minVersionLevel: 2, maxVersionLevel: 2 }],
};

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
        const supportedFeatures = version < SUPPORTED_FROM_0_SINCE ? [] : [TRANSACTION_VERSION];
        return { errorCode: 0, apiKeys: apis(), supportedFeatures, ...FEATURES };
      },
      failed: (_request, error) => ({ errorCode: kafkaErrorCode(error.code, 'admin'), apiKeys: [] }),
    },
  };
}
