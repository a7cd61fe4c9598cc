/**
 * The classic group protocol: JoinGroup 0–9, SyncGroup 0–5, Heartbeat 0–4, LeaveGroup 0–5.
 *
 * As in Kafka: a dynamic member is told its id first and joins with it (KIP-394, from version 4); static members (KIP-345);
 * a join waits for the others, a sync for the leader. A group that also has members of another kind is assigned by the
 * broker, to which a client is a follower without a leader. The end of a connection is not the end of a member: its session
 * time-out is.
 *
 * Differs from Kafka: the first generation waits 250 ms for more members instead of 3 s; group ids are printable and begin
 * and end with no white space; a member is asked to join again only if its own partitions change, where the broker assigns.
 */
import type { PartitionKey } from '@naru/base';
import { checkGroupId, isNaruError, refuse, type Refusal } from '@naru/protocol';
import {
  CONSUMER_PROTOCOL_MAX_VERSION,
  decodeConsumerAssignment,
  decodeConsumerSubscription,
  encodeConsumerAssignment,
  KAFKA_ERRORS,
  kafkaErrorCode,
  type KafkaRequest,
  type KafkaResponse,
} from '@naru/protocol/kafka';
import type {
  ClassicJoinReply,
  ClassicLeaveReply,
  ClassicSubscription,
  ClassicSyncReply,
} from '../../../core/group/index.ts';
import type { TopicRegistry } from '../../../core/registry/topic-registry.ts';
import { isRefusal } from '../../../runtime/commands.ts';
import type { KafkaApiHandler, KafkaCall, KafkaHandlers } from '../kafka-handler.ts';
import {
  clientOf,
  errorCodeOf,
  isPrintable,
  newMemberId,
  unlessGone,
  type GroupHandlerOptions,
} from './group-members.ts';
import { byTopic, partitionsOfNames } from './topic-partitions.ts';

const CONSUMER = 'consumer';
const NO_BYTES = new Uint8Array();

export function classicGroupHandlers(
  options: GroupHandlerOptions,
): Pick<KafkaHandlers, 'joinGroup' | 'syncGroup' | 'heartbeat' | 'leaveGroup'> {
  return {
    joinGroup: joinGroup(options),
    syncGroup: syncGroup(options),
    heartbeat: heartbeat(options),
    leaveGroup: leaveGroup(options),
  };
}

function joinGroup({ shard, registry, random }: GroupHandlerOptions): KafkaApiHandler<'joinGroup'> {
  return {
    handle: async (request, call) => {
      const { groupId, memberId, groupInstanceId: instanceId, protocolType, protocols } = request;
      const refusal = checkGroupId(groupId) ?? checkMemberId(memberId);
      if (refusal !== null) return notJoined(request, call, refusal);
      const { sessionTimeoutMs, rebalanceTimeoutMs } = request;
      const command = {
        type: 'classic-join' as const,
        groupId,
        memberId,
        newMemberId: newMemberId(random, instanceId, call),
        requiresMemberId: call.version >= 4,
        canSkipAssignment: call.version >= 9,
        instanceId,
        protocolType,
        protocols,
        subscription: subscriptionOf(registry, protocolType, protocols[0]?.metadata),
        sessionTimeoutMs,
        rebalanceTimeoutMs: rebalanceTimeoutMs === -1 ? sessionTimeoutMs : rebalanceTimeoutMs,
        ...clientOf(call),
      };
      const reply = await unlessGone(shard.submit({ type: 'group', command }), call.signal);
      if (reply === null) return null;
      return isRefusal(reply) ? notJoined(request, call, reply) : joined(reply, call);
    },
    failed: (request, error, call) => notJoined(request, call, error.toRefusal()),
  };
}

function joined(reply: ClassicJoinReply, call: KafkaCall): KafkaResponse<'joinGroup'> {
  if (reply.outcome === 'member-id-required') {
    const { code: errorCode } = KAFKA_ERRORS.MEMBER_ID_REQUIRED;
    return { ...outsideGeneration(call), errorCode, memberId: reply.memberId };
  }
  const { memberId, generation, protocolType, protocolName, leaderId, skipAssignment } = reply;
  return {
    throttleTimeMs: 0,
    errorCode: 0,
    generationId: generation,
    protocolType,
    protocolName,
    leader: leaderId,
    skipAssignment,
    memberId,
    members: reply.members.map((member) => ({
      memberId: member.memberId,
      groupInstanceId: member.instanceId,
      metadata: member.metadata,
    })),
  };
}

function notJoined(
  { memberId }: KafkaRequest<'joinGroup'>,
  call: KafkaCall,
  { code }: Refusal,
): KafkaResponse<'joinGroup'> {
  return { ...outsideGeneration(call), errorCode: kafkaErrorCode(code, 'classicGroup'), memberId };
}

function outsideGeneration({ version }: KafkaCall) {
  const names = { protocolType: null, protocolName: version < 7 ? '' : null, leader: '' };
  return { throttleTimeMs: 0, generationId: -1, ...names, skipAssignment: false, members: [] };
}

/** Ids are the broker's here: it gave none like this. */
function checkMemberId(memberId: string): Refusal | null {
  return isPrintable(memberId) ? null : refuse('UNKNOWN_MEMBER_ID', 'a member id has printable characters only');
}

/** Null for what is no consumer's: nothing is known then of what the member wants and holds. */
function subscriptionOf(
  registry: TopicRegistry,
  protocolType: string,
  metadata: Uint8Array | undefined,
): ClassicSubscription | null {
  if (protocolType !== CONSUMER || metadata === undefined) return null;
  return ifReadable(() => {
    const { topics, ownedPartitions } = decodeConsumerSubscription(metadata).subscription;
    return { topics, owned: partitionsOfNames(registry, ownedPartitions) };
  });
}

function ifReadable<T>(decode: () => T): T | null {
  try {
    return decode();
  } catch (error) {
    if (isNaruError(error, 'INVALID_REQUEST')) return null;
    throw error;
  }
}

function syncGroup({ shard, registry }: GroupHandlerOptions): KafkaApiHandler<'syncGroup'> {
  return {
    handle: async (request, call) => {
      const { groupId, memberId, generationId: generation, groupInstanceId: instanceId } = request;
      const { protocolType, protocolName } = request;
      const refusal = checkGroupId(groupId);
      if (refusal !== null) return notSynced(refusal);
      const assignments = request.assignments.map(({ memberId: id, assignment }) => ({
        memberId: id,
        assignment,
        partitions: assignedBy(registry, protocolType, assignment),
      }));
      const names = { protocolType, protocolName };
      const command = {
        type: 'classic-sync' as const,
        groupId,
        memberId,
        instanceId,
        generation,
        ...names,
        assignments,
      };
      const reply = await unlessGone(shard.submit({ type: 'group', command }), call.signal);
      if (reply === null) return null;
      return isRefusal(reply) ? notSynced(reply) : synced(reply, registry);
    },
    failed: (_request, error) => notSynced(error.toRefusal()),
  };
}

/** @param protocolType null for versions that do not say: then the bytes do */
function assignedBy(
  registry: TopicRegistry,
  protocolType: string | null,
  assignment: Uint8Array,
): readonly PartitionKey[] | null {
  if (protocolType !== null && protocolType !== CONSUMER) return null;
  if (assignment.length === 0) return [];
  return ifReadable(() =>
    partitionsOfNames(registry, decodeConsumerAssignment(assignment).assignment.assignedPartitions),
  );
}

function synced({ protocolType, protocolName, assignment }: ClassicSyncReply, registry: TopicRegistry) {
  const bytes = assignment.by === 'leader' ? assignment.bytes : brokersAssignment(assignment, registry);
  return { throttleTimeMs: 0, errorCode: 0, protocolType, protocolName, assignment: bytes };
}

/** In the version that the member itself speaks. */
function brokersAssignment(
  { partitions, metadata }: Extract<ClassicSyncReply['assignment'], { readonly by: 'broker' }>,
  registry: TopicRegistry,
): Uint8Array {
  const spoken = ifReadable(() => decodeConsumerSubscription(metadata).version) ?? 0;
  return encodeConsumerAssignment(Math.min(spoken, CONSUMER_PROTOCOL_MAX_VERSION), {
    assignedPartitions: byTopic(registry, partitions).map(({ topicName: topic, partitions: numbers }) => ({
      topic,
      partitions: numbers,
    })),
    userData: null,
  });
}

function notSynced({ code }: Refusal): KafkaResponse<'syncGroup'> {
  const errorCode = kafkaErrorCode(code, 'classicGroup');
  return { throttleTimeMs: 0, errorCode, protocolType: null, protocolName: null, assignment: NO_BYTES };
}

function heartbeat({ shard }: GroupHandlerOptions): KafkaApiHandler<'heartbeat'> {
  return {
    handle: async ({ groupId, memberId, generationId: generation, groupInstanceId: instanceId }) => {
      const answered = (refusal: Refusal | null) => ({
        throttleTimeMs: 0,
        errorCode: errorCodeOf(refusal, 'classicGroup'),
      });
      const refusal = checkGroupId(groupId);
      if (refusal !== null) return answered(refusal);
      const command = { type: 'classic-heartbeat' as const, groupId, memberId, instanceId, generation };
      const reply = await shard.submit({ type: 'group', command });
      if (isRefusal(reply)) return answered(reply);
      return answered(reply.mustJoin ? refuse('REBALANCE_IN_PROGRESS', 'join again') : null);
    },
    failed: (_request, { code }) => ({ throttleTimeMs: 0, errorCode: kafkaErrorCode(code, 'classicGroup') }),
  };
}

function leaveGroup({ shard }: GroupHandlerOptions): KafkaApiHandler<'leaveGroup'> {
  return {
    handle: async ({ groupId, memberId, members }, { version }) => {
      const refusal = checkGroupId(groupId);
      if (refusal !== null) return notLeft(refusal);
      const leaving =
        version < 3
          ? [{ memberId, instanceId: null }]
          : members.map((member) => ({ memberId: member.memberId, instanceId: member.groupInstanceId }));
      const command = { type: 'classic-leave' as const, groupId, members: leaving };
      const reply = await shard.submit({ type: 'group', command });
      return isRefusal(reply) ? notLeft(reply) : left(reply, version);
    },
    failed: (_request, error) => notLeft(error.toRefusal()),
  };
}

/** One error a member from version 3 on, before that one for all, who are one. */
function left({ results }: ClassicLeaveReply, version: number): KafkaResponse<'leaveGroup'> {
  const members = results.map(({ memberId, instanceId, refusal }) => ({
    memberId,
    groupInstanceId: instanceId,
    errorCode: errorCodeOf(refusal, 'classicGroup'),
  }));
  return { throttleTimeMs: 0, errorCode: version < 3 ? (members[0]?.errorCode ?? 0) : 0, members };
}

function notLeft({ code }: Refusal): KafkaResponse<'leaveGroup'> {
  return { throttleTimeMs: 0, errorCode: kafkaErrorCode(code, 'classicGroup'), members: [] };
}
