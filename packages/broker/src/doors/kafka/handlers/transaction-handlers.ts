/** Everything that Kafka clients ask a transaction coordinator, and what operators ask about transactions. */
import type { Clock } from '@naru/base';
import type { TopicRegistry } from '../../../core/registry/topic-registry.ts';
import type { ShardClient } from '../../../runtime/commands.ts';
import type { ProducerIds } from '../../../service/producer-ids.ts';
import type { TopicService } from '../../../service/topics.ts';
import { addToTxnHandlers } from './add-to-txn.ts';
import { describeProducersHandlers } from './describe-producers.ts';
import { describeTransactionsHandlers } from './describe-transactions.ts';
import { endTxnHandlers } from './end-txn.ts';
import { initProducerIdHandlers } from './init-producer-id.ts';
import { txnOffsetCommitHandlers } from './txn-offset-commit.ts';

export interface TransactionHandlerOptions {
  readonly shard: ShardClient;
  readonly topics: TopicService;
  /** Follows the metadata: `MetadataFollower.registry`. */
  readonly registry: TopicRegistry;
  readonly producerIds: ProducerIds;
  readonly clock: Clock;
}

export function transactionHandlers(options: TransactionHandlerOptions) {
  return {
    ...initProducerIdHandlers(options),
    ...addToTxnHandlers(options),
    ...endTxnHandlers(options),
    ...txnOffsetCommitHandlers(options),
    ...describeProducersHandlers(options),
    ...describeTransactionsHandlers(options),
  };
}
