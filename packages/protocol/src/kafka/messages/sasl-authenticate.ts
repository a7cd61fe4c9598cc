/** SaslAuthenticate: one step of a mechanism. */
import { bytes, int16, int64, string } from '../schema/field.ts';
import { KafkaApi } from '../schema/kafka-api.ts';

export const saslAuthenticateApi = new KafkaApi({
  key: 36,
  name: 'SaslAuthenticate',
  served: [0, 2],
  flexibleFrom: 2,
  request: { authBytes: bytes },
  response: {
    errorCode: int16,
    errorMessage: string.nullable(),
    authBytes: bytes,
    sessionLifetimeMs: int64.since(1),
  },
});
