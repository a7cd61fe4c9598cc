/**
 * ConsumerGroupHeartbeat 0–1, the one request of the new group protocol (KIP-848): join, go on, leave.
 *
 * As in Kafka: members that join with version 1 bring their id (KIP-1082), those of version 0 get one; the assignment is
 * sent when it changed since the member was last told, and with every answer to a heartbeat that says everything.
 *
 * Differs from Kafka: both assignors, `uniform` and `range`, are the broker's own, which keeps what it can where it is;
 * racks are ignored; patterns are those of `core/group/topic-pattern.ts`.
 */
import { checkGroupId, refuse, type Refusal } from '@naru/protocol';
import type { KafkaRequest, KafkaResponse } from '@naru/protocol/kafka';
import type { KafkaHeartbeatReply } from '../../../core/group/index.ts';
import type { TopicRegistry } from '../../../core/registry/topic-registry.ts';
import { isRefusal } from '../../../runtime/commands.ts';
import type { KafkaHandlers } from '../kafka-handler.ts';
import {
  clientOf,
  errorCodeOf,
  isPrintable,
  messageOf,
  newMemberId,
  type GroupHandlerOptions,
} from './group-members.ts';
import { byTopic, partitionsOfIds } from './topic-partitions.ts';

/** What a request says that leaves the time-out as it was. */
const UNCHANGED_TIMEOUT = -1;

export function consumerGroupHandlers({
  shard,
  registry,
  random,
}: GroupHandlerOptions): Pick<KafkaHandlers, 'consumerGroupHeartbeat'> {
  return {
    consumerGroupHeartbeat: {
      handle: async (request, call) => {
        const refusal = checkGroupId(request.groupId) ?? checkMemberId(request, call.version);
        if (refusal !== null) return refused(request, refusal);
        const { groupId, memberId, memberEpoch, instanceId, rebalanceTimeoutMs, topicPartitions } = request;
        const command = {
          type: 'kafka-heartbeat' as const,
          groupId,
          memberId,
          newMemberId: newMemberId(random, instanceId, call),
          memberEpoch,
          instanceId,
          rebalanceTimeoutMs: rebalanceTimeoutMs === UNCHANGED_TIMEOUT ? null : rebalanceTimeoutMs,
          topics: request.subscribedTopicNames,
          topicPattern: request.subscribedTopicRegex,
          serverAssignor: request.serverAssignor,
          owned: topicPartitions === null ? null : partitionsOfIds(registry, topicPartitions),
          ...clientOf(call),
        };
        const reply = await shard.submit({ type: 'group', command });
        return isRefusal(reply) ? refused(request, reply) : answered(reply, registry);
      },
      failed: (request, error) => refused(request, error.toRefusal()),
    },
  };
}

function checkMemberId({ memberId }: KafkaRequest<'consumerGroupHeartbeat'>, version: number): Refusal | null {
  if (memberId === '' && version > 0) {
    return refuse('INVALID_REQUEST', 'a member chooses its id itself from version 1 on (KIP-1082)');
  }
  return isPrintable(memberId) ? null : refuse('INVALID_REQUEST', 'a member id has printable characters only');
}

function answered(
  { memberId, memberEpoch, heartbeatIntervalMs, assigned }: KafkaHeartbeatReply,
  registry: TopicRegistry,
): KafkaResponse<'consumerGroupHeartbeat'> {
  const assignment =
    assigned === null
      ? null
      : { topicPartitions: byTopic(registry, assigned).map(({ topicId, partitions }) => ({ topicId, partitions })) };
  return {
    throttleTimeMs: 0,
    errorCode: 0,
    errorMessage: null,
    memberId,
    memberEpoch,
    heartbeatIntervalMs,
    assignment,
  };
}

function refused(
  { memberId }: KafkaRequest<'consumerGroupHeartbeat'>,
  refusal: Refusal,
): KafkaResponse<'consumerGroupHeartbeat'> {
  const nothing = { memberEpoch: 0, heartbeatIntervalMs: 0, assignment: null };
  const error = { errorCode: errorCodeOf(refusal, 'group'), errorMessage: messageOf(refusal) };
  return { throttleTimeMs: 0, ...error, memberId, ...nothing };
}
