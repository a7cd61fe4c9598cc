/** SaslHandshake: the mechanism that SaslAuthenticate will speak. After version 0 bare SASL packets follow instead. */
import { array, int16, string } from '../schema/field.ts';
import { KafkaApi } from '../schema/kafka-api.ts';

export const saslHandshakeApi = new KafkaApi({
  key: 17,
  name: 'SaslHandshake',
  served: [0, 1],
  request: { mechanism: string },
  response: { errorCode: int16, mechanisms: array(string) },
});
