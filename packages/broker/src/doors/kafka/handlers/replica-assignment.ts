/** Replicas as clients may ask for them where there is one broker: one each, on that broker. */
import { KAFKA_NODE_ID } from '../kafka-handler.ts';
import { refused, type AdminAnswer } from './admin-answers.ts';

/** Null when the brokers named for a partition are what it gets. */
export function checkReplicas(brokerIds: readonly number[]): AdminAnswer | null {
  if (brokerIds.length === 0) {
    return refused('INVALID_REPLICA_ASSIGNMENT', 'the assignment of a partition names no broker');
  }
  const foreign = brokerIds.find((id) => id !== KAFKA_NODE_ID);
  if (foreign !== undefined) {
    const message = `the assignment names broker ${foreign}; there is only broker ${KAFKA_NODE_ID}`;
    return refused('INVALID_REPLICA_ASSIGNMENT', message);
  }
  if (brokerIds.length > 1) return refused('INVALID_REPLICA_ASSIGNMENT', 'the assignment names a broker twice');
  return null;
}
