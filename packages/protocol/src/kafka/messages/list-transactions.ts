/**
 * ListTransactions: transactional ids; those of certain states or producers, from version 1 on those that have been open for
 * longer than so many milliseconds (KIP-994), from 2 on those that match a pattern (KIP-1152).
 */
import { array, int16, int32, int64, int64Clamped, string, struct } from '../schema/field.ts';
import { KafkaApi } from '../schema/kafka-api.ts';

export const listTransactionsApi = new KafkaApi({
  key: 66,
  name: 'ListTransactions',
  served: [0, 2],
  flexibleFrom: 0,
  request: {
    stateFilters: array(string),
    // Clamped: nobody has such an id, or has been open for so long, and that is the answer.
    producerIdFilters: array(int64Clamped),
    durationFilter: int64Clamped.since(1).or(-1),
    transactionalIdPattern: string.since(2).nullable(2).or(null),
  },
  response: {
    throttleTimeMs: int32.or(0),
    errorCode: int16,
    unknownStateFilters: array(string),
    transactionStates: array(struct({ transactionalId: string, producerId: int64, transactionState: string })),
  },
});
