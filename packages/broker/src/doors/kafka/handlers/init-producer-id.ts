/**
 * InitProducerId 0–4: a new producer id, with epoch 0, for idempotent producers. A producer that gives the id it has gets a
 * new one all the same, as in Kafka.
 *
 * Differences from Kafka: transactional ids are refused with UNSUPPORTED_VERSION, which is fatal to their producers.
 */
import { kafkaErrorCode, KAFKA_ERRORS } from '@naru/protocol/kafka';
import type { ProducerIds } from '../../../service/producer-ids.ts';
import type { KafkaHandlers } from '../kafka-handler.ts';

export function initProducerIdHandlers(producerIds: ProducerIds): Pick<KafkaHandlers, 'initProducerId'> {
  const refused = (errorCode: number) => ({ errorCode, producerId: -1, producerEpoch: -1 });
  return {
    initProducerId: {
      async handle({ transactionalId }) {
        if (transactionalId === '') return refused(KAFKA_ERRORS.INVALID_REQUEST.code);
        if (transactionalId !== null) return refused(KAFKA_ERRORS.UNSUPPORTED_VERSION.code);
        return { errorCode: 0, producerId: await producerIds.next(), producerEpoch: 0 };
      },
      failed: (_request, error) => refused(kafkaErrorCode(error.code, 'group')),
    },
  };
}
