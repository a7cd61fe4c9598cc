/** DeleteTopics: by name, from version 6 on by name or id. */
import { array, int16, int32, string, struct, uuid } from '../schema/field.ts';
import { KafkaApi } from '../schema/kafka-api.ts';

export const deleteTopicsApi = new KafkaApi({
  key: 20,
  name: 'DeleteTopics',
  served: [1, 6],
  flexibleFrom: 4,
  request: {
    topics: array(struct({ name: string.nullable().or(null), topicId: uuid })).since(6),
    topicNames: array(string).until(5),
    timeoutMs: int32,
  },
  response: {
    throttleTimeMs: int32.or(0),
    responses: array(
      struct({
        name: string.nullable(6),
        topicId: uuid.since(6),
        errorCode: int16,
        errorMessage: string.since(5).nullable(5).or(null),
      }),
    ),
  },
});
