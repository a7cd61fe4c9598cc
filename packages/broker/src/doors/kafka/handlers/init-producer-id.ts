/**
 * InitProducerId 0–5: a producer id and an epoch. For idempotent producers a new id, also when they have one, as in Kafka; a
 * transactional id has its own, and gets a new epoch: what it has open is aborted, and whoever used it before is fenced.
 *
 * From version 3 on a producer may say which identity it has, to go on after an error (KIP-360): it is fenced unless that is
 * the last one that was given.
 *
 * Differences from Kafka: what is open is aborted before the answer, so that CONCURRENT_TRANSACTIONS is never said.
 */
import type { NaruError } from '@naru/protocol';
import { KAFKA_ERRORS, type KafkaRequest } from '@naru/protocol/kafka';
import type { ProducerIdentity } from '../../../core/transaction/transaction-state.ts';
import { isRefusal, type ShardClient } from '../../../runtime/commands.ts';
import type { ProducerIds } from '../../../service/producer-ids.ts';
import type { KafkaCall, KafkaHandlers } from '../kafka-handler.ts';
import { transactionErrorCode } from './transaction-errors.ts';

export interface InitProducerIdOptions {
  readonly shard: ShardClient;
  readonly producerIds: ProducerIds;
}

const NONE = -1;

type Request = KafkaRequest<'initProducerId'>;

export function initProducerIdHandlers({
  shard,
  producerIds,
}: InitProducerIdOptions): Pick<KafkaHandlers, 'initProducerId'> {
  return {
    initProducerId: {
      async handle(request, { version }) {
        const { transactionalId, transactionTimeoutMs: timeoutMs } = request;
        const expected = expectedOf(request);
        if (transactionalId === '' || expected === undefined) return refused(KAFKA_ERRORS.INVALID_REQUEST.code);
        if (transactionalId === null) return { errorCode: 0, producerId: await producerIds.next(), producerEpoch: 0 };
        // The default that 0 stands for elsewhere is not for these clients: each has its own.
        if (timeoutMs <= 0) return refused(KAFKA_ERRORS.INVALID_TRANSACTION_TIMEOUT.code);
        const freshProducerId = await producerIds.next();
        const reply = await shard.submit({
          type: 'transaction',
          command: { type: 'init', transactionalId, timeoutMs, expected, freshProducerId },
        });
        if (isRefusal(reply)) return refused(transactionErrorCode(reply.code, 'initProducerId', version));
        return { errorCode: 0, ...reply };
      },
      failed: (_request, { code }: NaruError, { version }: KafkaCall) =>
        refused(transactionErrorCode(code, 'initProducerId', version)),
    },
  };
}

/** Null when the producer does not say; undefined when it says half of it. */
function expectedOf({ producerId, producerEpoch }: Request): ProducerIdentity | null | undefined {
  if (producerId === NONE && producerEpoch === NONE) return null;
  return producerId === NONE || producerEpoch === NONE ? undefined : { producerId, producerEpoch };
}

function refused(errorCode: number) {
  return { errorCode, producerId: NONE, producerEpoch: NONE };
}
