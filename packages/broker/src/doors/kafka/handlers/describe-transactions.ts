/**
 * DescribeTransactions 0 and ListTransactions 0–2: what transactional ids have open, for operators (KIP-664).
 *
 * Differences from Kafka: nothing is between open and ended, so that no id is ever in PrepareCommit, PrepareAbort or Dead; those
 * are known to the filter and match nothing. The filter for how long a transaction has been open (version 1) takes open ones only,
 * where Kafka lets ids that never began one through. Patterns (version 2) have the grammar of subscriptions; what is not in it is
 * INVALID_REGULAR_EXPRESSION.
 */
import type { Clock, PartitionKey } from '@naru/base';
import type { ErrorCode } from '@naru/protocol';
import { kafkaErrorCode, KAFKA_ERRORS, type KafkaRequest, type KafkaResponse } from '@naru/protocol/kafka';
import { compileTopicPattern } from '../../../core/group/topic-pattern.ts';
import type { TopicRegistry } from '../../../core/registry/topic-registry.ts';
import type { TransactionListing } from '../../../core/transaction/commands.ts';
import type { TransactionStatus } from '../../../core/transaction/transaction-state.ts';
import { isRefusal, type ShardClient } from '../../../runtime/commands.ts';
import type { TransactionDescription } from '../../../runtime/transaction-commands.ts';
import type { KafkaHandlers } from '../kafka-handler.ts';
import { byTopic } from './topic-partitions.ts';

export interface DescribeTransactionsOptions {
  readonly shard: ShardClient;
  readonly registry: TopicRegistry;
  readonly clock: Clock;
}

const STATE_NAMES: Readonly<Record<TransactionStatus, string>> = {
  empty: 'Empty',
  ongoing: 'Ongoing',
  committed: 'CompleteCommit',
  aborted: 'CompleteAbort',
};
/** Kafka's names for what is over at once here. */
const STATES_NEVER_SEEN = ['PrepareCommit', 'PrepareAbort', 'PrepareEpochFence', 'Dead'];
const KNOWN_STATES: ReadonlySet<string> = new Set([...Object.values(STATE_NAMES), ...STATES_NEVER_SEEN]);

type State = KafkaResponse<'describeTransactions'>['transactionStates'][number];
type Filters = KafkaRequest<'listTransactions'>;

export function describeTransactionsHandlers({
  shard,
  registry,
  clock,
}: DescribeTransactionsOptions): Pick<KafkaHandlers, 'describeTransactions' | 'listTransactions'> {
  return {
    describeTransactions: {
      async handle({ transactionalIds }) {
        const transactionStates: State[] = [];
        for (const transactionalId of transactionalIds) {
          const found = await shard.submit({ type: 'describe-transaction', transactionalId });
          const isMissing = isRefusal(found);
          transactionStates.push(isMissing ? notDescribed(transactionalId, found.code) : described(found, registry));
        }
        return { transactionStates };
      },
      failed: ({ transactionalIds }, { code }) => ({
        transactionStates: transactionalIds.map((id) => notDescribed(id, code)),
      }),
    },
    listTransactions: {
      async handle(filters) {
        const { transactionalIdPattern: text } = filters;
        const pattern = text === null || text === '' ? null : compileTopicPattern(text);
        if (typeof pattern === 'string') return noneListed(KAFKA_ERRORS.INVALID_REGULAR_EXPRESSION.code);
        const listed = await shard.submit({ type: 'list-transactions' });
        if (isRefusal(listed)) return noneListed(kafkaErrorCode(listed.code, 'group'));
        const nowMs = clock.nowMs();
        const transactionStates = listed
          .filter((listing) => passes(listing, filters, nowMs))
          .filter(({ transactionalId }) => pattern === null || pattern.matches(transactionalId))
          .map(({ transactionalId, producerId, status }) => {
            return { transactionalId, producerId, transactionState: STATE_NAMES[status] };
          });
        const unknownStateFilters = filters.stateFilters.filter((name) => !KNOWN_STATES.has(name));
        return { errorCode: 0, unknownStateFilters, transactionStates };
      },
      failed: (_request, { code }) => noneListed(kafkaErrorCode(code, 'group')),
    },
  };
}

function described(found: TransactionDescription, registry: TopicRegistry): State {
  const keys: PartitionKey[] = found.partitions.map(({ partition }) => partition);
  return {
    errorCode: 0,
    transactionalId: found.transactionalId,
    transactionState: STATE_NAMES[found.status],
    transactionTimeoutMs: found.timeoutMs,
    transactionStartTimeMs: found.startedAtMs ?? -1,
    producerId: found.producerId,
    producerEpoch: found.producerEpoch,
    topics: byTopic(registry, keys).map(({ topicName: topic, partitions }) => ({ topic, partitions })),
  };
}

function notDescribed(transactionalId: string, code: ErrorCode): State {
  return {
    errorCode: kafkaErrorCode(code, 'group'),
    transactionalId,
    transactionState: '',
    transactionTimeoutMs: 0,
    transactionStartTimeMs: -1,
    producerId: -1,
    producerEpoch: -1,
    topics: [],
  };
}

function passes(listing: TransactionListing, filters: Filters, nowMs: number): boolean {
  const { stateFilters, producerIdFilters, durationFilter } = filters;
  const { status, producerId, startedAtMs } = listing;
  if (stateFilters.length > 0 && !stateFilters.includes(STATE_NAMES[status])) return false;
  if (producerIdFilters.length > 0 && !producerIdFilters.includes(producerId)) return false;
  return durationFilter < 0 || (startedAtMs !== null && nowMs - startedAtMs > durationFilter);
}

function noneListed(errorCode: number) {
  return { errorCode, unknownStateFilters: [], transactionStates: [] };
}
