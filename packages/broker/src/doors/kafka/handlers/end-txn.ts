/**
 * EndTxn 0–5: commits or aborts what a transactional id has open. It is over everywhere when it is answered.
 *
 * From version 5 on (KIP-890) every transaction has an epoch of its own, and the answer has the next one: repeating a request
 * answers as the first time, and one that comes late ends nothing else. Before, the epoch stays: an EndTxn that is delayed
 * until the producer has begun another transaction ends that one, as in Kafka.
 *
 * Differences from Kafka: there is nothing between open and ended, so that CONCURRENT_TRANSACTIONS is never said. From version 5
 * on a transaction that wrote nothing may be committed too.
 */
import { isRefusal, type ShardClient } from '../../../runtime/commands.ts';
import type { ProducerIds } from '../../../service/producer-ids.ts';
import type { KafkaHandlers } from '../kafka-handler.ts';
import { transactionErrorCode } from './transaction-errors.ts';

export interface EndTxnOptions {
  readonly shard: ShardClient;
  readonly producerIds: ProducerIds;
}

const SECOND_FLOW_SINCE = 5;

export function endTxnHandlers({ shard, producerIds }: EndTxnOptions): Pick<KafkaHandlers, 'endTxn'> {
  return {
    endTxn: {
      async handle({ transactionalId, producerId, producerEpoch, committed: commit }, { version }) {
        const reply = await shard.submit({
          type: 'end-transaction',
          transaction: { transactionalId, producerId, producerEpoch },
          flow: version >= SECOND_FLOW_SINCE ? 2 : 1,
          commit,
          freshProducerId: await producerIds.next(),
          groupCommit: null,
        });
        if (isRefusal(reply)) return { errorCode: transactionErrorCode(reply.code, 'endTxn', version) };
        return { errorCode: 0, ...reply.next };
      },
      failed: (_request, { code }, { version }) => ({ errorCode: transactionErrorCode(code, 'endTxn', version) }),
    },
  };
}
