/**
 * TxnOffsetCommit 0–5: offsets of a group that become committed with a transaction; until it ends they are kept beside what is
 * committed. From version 5 on they make the group a part of the transaction (KIP-890); before, AddOffsetsToTxn does.
 *
 * As in Kafka: from version 3 on a consumer's member id, generation and instance id fence it (KIP-447), with the codes of the
 * classic protocol for members of either; who names no member is not fenced, also while the group has members; each partition
 * has its own error; offsets may lie beyond the end.
 */
import { checkGroupId, refuse, type Refusal } from '@naru/protocol';
import type { KafkaRequest } from '@naru/protocol/kafka';
import type { TopicRegistry } from '../../../core/registry/topic-registry.ts';
import type { ShardClient } from '../../../runtime/commands.ts';
import type { KafkaHandlers } from '../kafka-handler.ts';
import { commitAnswer, commitRefused, committed, offsetsOf } from './committed-offsets.ts';
import { transactionErrorCode } from './transaction-errors.ts';

export interface TxnOffsetCommitOptions {
  readonly shard: ShardClient;
  /** Follows the metadata: `MetadataFollower.registry`. */
  readonly registry: TopicRegistry;
}

const SECOND_FLOW_SINCE = 5;

type Request = KafkaRequest<'txnOffsetCommit'>;

export function txnOffsetCommitHandlers({
  shard,
  registry,
}: TxnOffsetCommitOptions): Pick<KafkaHandlers, 'txnOffsetCommit'> {
  return {
    txnOffsetCommit: {
      async handle(request, { version }) {
        const errorCodeOf = (refusal: Refusal | null): number =>
          refusal === null ? 0 : transactionErrorCode(refusal.code, 'txnOffsetCommit', version);
        const { transactionalId, producerId, producerEpoch, groupId, topics } = request;
        const refusal = checkGroupId(groupId) ?? checkMember(request);
        if (refusal !== null) return commitRefused(topics, errorCodeOf(refusal));
        const outcomes = await committed(offsetsOf(registry, topics), (offsets) =>
          shard.submit({
            type: 'commit-in-transaction',
            transaction: { transactionalId, producerId, producerEpoch },
            flow: version >= SECOND_FLOW_SINCE ? 2 : 1,
            groupId,
            memberId: request.memberId,
            memberEpoch: request.generationId,
            instanceId: request.groupInstanceId,
            offsets,
          }),
        );
        return commitAnswer(topics, registry, outcomes, errorCodeOf);
      },
      failed: ({ topics }, { code }, { version }) =>
        commitRefused(topics, transactionErrorCode(code, 'txnOffsetCommit', version)),
    },
  };
}

function checkMember({ memberId, generationId }: Request): Refusal | null {
  if (memberId !== '' || generationId < 0) return null;
  return refuse('UNKNOWN_MEMBER_ID', `a commit of generation ${generationId} says whose it is`);
}
