/**
 * DescribeGroups 0–6 and ConsumerGroupDescribe 0–1.
 *
 * As in Kafka: metadata and assignments of a classic group are told while it is stable; a group that is missing is `Dead`,
 * from version 6 on GROUP_ID_NOT_FOUND; ConsumerGroupDescribe knows groups to which the broker assigns only, so that
 * clients ask DescribeGroups for the others.
 *
 * Differs from Kafka: DescribeGroups describes groups of both kinds, those to which the broker assigns as if their members
 * were classic, so that older clients see them too; racks are not kept.
 */
import { checkGroupId, type Refusal } from '@naru/protocol';
import {
  encodeConsumerAssignment,
  encodeConsumerSubscription,
  kafkaErrorCode,
  OPERATIONS_NOT_ASKED,
  type KafkaResponse,
} from '@naru/protocol/kafka';
import type { GroupDescription, MemberDescription } from '../../../core/group/index.ts';
import type { TopicRegistry } from '../../../core/registry/topic-registry.ts';
import { isRefusal, type ShardClient } from '../../../runtime/commands.ts';
import type { KafkaHandlers } from '../kafka-handler.ts';
import { GROUP_OPERATIONS } from '../authorized-operations.ts';
import { errorCodeOf, type GroupHandlerOptions } from './group-members.ts';
import { CLASSIC_STATE_NAMES, DEAD, KAFKA_STATE_NAMES } from './group-states.ts';
import { byTopic } from './topic-partitions.ts';

const NO_BYTES = new Uint8Array();
/** Of the consumer protocol, for members that never spoke it. */
const PLAIN_VERSION = 0;
const MEMBER_TYPES = { classic: 0, consumer: 1, push: 1 } as const;

type ClassicAnswer = KafkaResponse<'describeGroups'>['groups'][number];
type ConsumerAnswer = KafkaResponse<'consumerGroupDescribe'>['groups'][number];

export function describeGroupsHandlers({
  shard,
  registry,
}: Pick<GroupHandlerOptions, 'shard' | 'registry'>): Pick<KafkaHandlers, 'describeGroups' | 'consumerGroupDescribe'> {
  return {
    describeGroups: {
      handle: async ({ groups: groupIds, includeAuthorizedOperations }, { version }) => {
        const authorizedOperations = includeAuthorizedOperations ? GROUP_OPERATIONS : OPERATIONS_NOT_ASKED;
        const groups: ClassicAnswer[] = [];
        // Each once: answers are far larger than questions.
        for (const groupId of new Set(groupIds)) {
          const group = await describe(shard, groupId);
          const answer = isRefusal(group) ? notDescribed(groupId, group, version) : classicAnswer(group, registry);
          groups.push({ ...answer, authorizedOperations });
        }
        return { throttleTimeMs: 0, groups };
      },
      failed: ({ groups }, error, { version }) => ({
        throttleTimeMs: 0,
        groups: groups.map((groupId) => notDescribed(groupId, error.toRefusal(), version)),
      }),
    },
    consumerGroupDescribe: {
      handle: async ({ groupIds, includeAuthorizedOperations }) => {
        const authorizedOperations = includeAuthorizedOperations ? GROUP_OPERATIONS : OPERATIONS_NOT_ASKED;
        const groups: ConsumerAnswer[] = [];
        for (const groupId of new Set(groupIds)) {
          const group = await describe(shard, groupId);
          const answer = isRefusal(group) ? noConsumerGroup(groupId, group) : consumerAnswer(group, registry);
          groups.push({ ...answer, authorizedOperations });
        }
        return { throttleTimeMs: 0, groups };
      },
      failed: ({ groupIds }, error) => ({
        throttleTimeMs: 0,
        groups: groupIds.map((groupId) => noConsumerGroup(groupId, error.toRefusal())),
      }),
    },
  };
}

async function describe(shard: ShardClient, groupId: string): Promise<GroupDescription | Refusal> {
  return checkGroupId(groupId) ?? shard.submit({ type: 'describe-group', groupId });
}

function classicAnswer(group: GroupDescription, registry: TopicRegistry): ClassicAnswer {
  const { groupId, state, protocolType, protocolName } = group;
  const isSettled = state === 'stable' || group.type === 'consumer';
  return {
    errorCode: 0,
    errorMessage: null,
    groupId,
    groupState: CLASSIC_STATE_NAMES[state],
    protocolType,
    protocolData: isSettled ? protocolName : '',
    members: group.members.map((member) => ({
      memberId: member.memberId,
      groupInstanceId: member.instanceId,
      clientId: member.clientId,
      clientHost: member.clientHost,
      memberMetadata: isSettled ? metadataOf(member) : NO_BYTES,
      memberAssignment: isSettled ? assignmentOf(member, registry) : NO_BYTES,
    })),
  };
}

function metadataOf({ metadata, topics }: MemberDescription): Uint8Array {
  return metadata ?? encodeConsumerSubscription(PLAIN_VERSION, { topics });
}

/** As the leader gave it, or what the member may be working on. */
function assignmentOf({ assignment, assigned, revoking }: MemberDescription, registry: TopicRegistry): Uint8Array {
  if (assignment !== null) return assignment;
  const assignedPartitions = byTopic(registry, [...assigned, ...revoking]).map(({ topicName: topic, partitions }) => ({
    topic,
    partitions,
  }));
  return encodeConsumerAssignment(PLAIN_VERSION, { assignedPartitions });
}

function notDescribed(groupId: string, { code, message }: Refusal, version: number): ClassicAnswer {
  const isMissing = code === 'GROUP_ID_NOT_FOUND';
  const errorCode = isMissing && version < 6 ? 0 : kafkaErrorCode(code, 'group');
  const groupState = isMissing ? DEAD : '';
  return { errorCode, errorMessage: message, groupId, groupState, protocolType: '', protocolData: '', members: [] };
}

function consumerAnswer(group: GroupDescription, registry: TopicRegistry): ConsumerAnswer {
  const { groupId, type, state, groupEpoch, assignmentEpoch } = group;
  if (type !== 'consumer') {
    const message = `the members of group ${groupId} use the classic protocol`;
    return noConsumerGroup(groupId, { code: 'GROUP_ID_NOT_FOUND', message });
  }
  return {
    errorCode: 0,
    errorMessage: null,
    groupId,
    groupState: KAFKA_STATE_NAMES[state],
    groupEpoch,
    assignmentEpoch,
    assignorName: group.protocolName,
    members: group.members.map((member) => ({
      memberId: member.memberId,
      instanceId: member.instanceId,
      rackId: null,
      memberEpoch: member.memberEpoch,
      clientId: member.clientId,
      clientHost: member.clientHost,
      subscribedTopicNames: member.topics,
      subscribedTopicRegex: member.topicPattern,
      assignment: { topicPartitions: byTopic(registry, member.assigned) },
      targetAssignment: { topicPartitions: byTopic(registry, member.target) },
      memberType: MEMBER_TYPES[member.protocol],
    })),
  };
}

function noConsumerGroup(groupId: string, refusal: Refusal): ConsumerAnswer {
  const nothing = { groupState: '', groupEpoch: 0, assignmentEpoch: 0, assignorName: '', members: [] };
  return { errorCode: errorCodeOf(refusal, 'group'), errorMessage: refusal.message, groupId, ...nothing };
}
