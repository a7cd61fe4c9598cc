/** AdminService: wire messages to the services of topics, groups and offsets, and back. */
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import type { ServiceImpl } from '@connectrpc/connect';
import {
  partitionKey,
  splitPartitionKey,
  topicIdFromBytes,
  topicIdToBytes,
  type Logger,
  type PartitionKey,
} from '@naru/base';
import { NaruError, refuse, type Refusal } from '@naru/protocol';
import {
  AddPartitionsResponseSchema,
  ChangeTopicConfigResponseSchema,
  CreateTopicResponseSchema,
  DeleteGroupResponseSchema,
  DeleteRecordsResponseSchema,
  DeleteTopicResponseSchema,
  DescribeClusterResponseSchema,
  DescribeGroupResponseSchema,
  DescribeTopicConfigResponseSchema,
  DescribeTopicResponseSchema,
  GroupGateSchema,
  GroupMemberSchema,
  type GroupHeldSchema,
  GroupOffsetSchema,
  ListGroupsResponseSchema,
  ListOffsetsResponseSchema,
  ListTopicsResponseSchema,
  ResetOffsetsResponseSchema,
  TopicPartitionsSchema,
  TopicSchema,
  TopicType,
  WithheldReason,
  type AdminService,
  type DescribeTopicRequest,
  type GroupGate,
  type ListOffsetsRequest,
  type RecordsBefore as WireRecordsBefore,
  type Topic,
  type TopicPartitions,
} from '@naru/protocol/proto';
import type { HeldDescription } from '../../core/group/index.ts';
import type { TopicMetadata } from '../../core/registry/topic-registry.ts';
import { isRefusal, type ShardClient } from '../../runtime/commands.ts';
import type { GateReport } from '../../service/group-gates.ts';
import type { GroupService, QueueReport } from '../../service/groups.ts';
import type { RecordsBefore, TopicService } from '../../service/topics.ts';
import { toOffsetPosition } from './positions.ts';
import { logged, toConnectError } from './wire-errors.ts';

export interface ClusterInfo {
  readonly clusterId: string;
  readonly version: string;
  readonly storage: string;
  readonly startedAtMs: number;
}

export interface AdminDoorOptions {
  readonly topics: TopicService;
  readonly groups: GroupService;
  readonly shard: ShardClient;
  readonly cluster: ClusterInfo;
  readonly logger: Logger;
}

type Admin = ServiceImpl<typeof AdminService>;
type GroupCalls = 'listGroups' | 'describeGroup' | 'resetOffsets' | 'deleteGroup';

export function adminDoor(options: AdminDoorOptions): Admin {
  const answer = answering(options.logger);
  return { ...topicCalls(options, answer), ...groupCalls(options, answer) };
}

/** Runs a call; refusals and errors become Connect's. */
type Answer = <T>(work: () => Promise<T | Refusal> | T | Refusal) => Promise<Exclude<T, Refusal>>;

function answering(logger: Logger): Answer {
  return async <T>(work: () => Promise<T | Refusal> | T | Refusal) => {
    try {
      const result = await work();
      if (isRefusal(result)) throw NaruError.from(result);
      return result as Exclude<T, Refusal>;
    } catch (error) {
      throw logged(toConnectError(error), logger);
    }
  };
}

function topicCalls({ topics, shard, cluster }: AdminDoorOptions, answer: Answer): Omit<Admin, GroupCalls> {
  const findTopic = (request: DescribeTopicRequest): TopicMetadata | Refusal => {
    const { topic } = request;
    if (topic.case === 'name') return topics.find(topic.value);
    if (topic.case === 'topicId' && topic.value.length === 16) return topics.findById(topicIdFromBytes(topic.value));
    return refuse('INVALID_REQUEST', 'name a topic by its name or its id of 16 bytes');
  };
  return {
    describeCluster: () =>
      create(DescribeClusterResponseSchema, { ...cluster, startedAtMs: BigInt(Math.trunc(cluster.startedAtMs)) }),
    createTopic: async ({ name, partitionCount, type, config }) => {
      const topicType = type === TopicType.PARALLEL ? 'parallel' : 'ordered';
      const topic = await answer(() => topics.create({ name, partitionCount, type: topicType, config }));
      return create(CreateTopicResponseSchema, { topic: toWireTopic(topic) });
    },
    listTopics: ({ internal }) => create(ListTopicsResponseSchema, { topics: topics.list(internal).map(toWireTopic) }),
    describeTopic: async (request) => {
      const topic = await answer(() => findTopic(request));
      const status = await answer(() => topics.describe(topic));
      return create(DescribeTopicResponseSchema, {
        topic: toWireTopic(topic),
        partitions: status.map((entry) => ({
          partition: splitPartitionKey(entry.partition).partition,
          logStartOffset: BigInt(entry.logStartOffset),
          highWatermark: BigInt(entry.highWatermark),
          sizeBytes: BigInt(entry.sizeBytes),
          leaderEpoch: entry.leaderEpoch,
          lastStableOffset: BigInt(entry.lastStableOffset),
          dataEndOffset: BigInt(entry.dataEndOffset),
        })),
      });
    },
    deleteTopic: async ({ name }) => {
      await answer(async () => (await topics.delete(name)) ?? true);
      return create(DeleteTopicResponseSchema);
    },
    addPartitions: async ({ name, partitionCount, allowKeyReorder }) => {
      const topic = await answer(() => topics.addPartitions(name, partitionCount, allowKeyReorder));
      return create(AddPartitionsResponseSchema, { topic: toWireTopic(topic) });
    },
    describeTopicConfig: async ({ name }) => {
      const topic = await answer(() => topics.find(name));
      return create(DescribeTopicConfigResponseSchema, { entries: topics.describeConfig(topic) });
    },
    changeTopicConfig: async ({ name, set, unset }) => {
      const topic = await answer(() => topics.changeConfig(name, set, unset));
      return create(ChangeTopicConfigResponseSchema, { topic: toWireTopic(topic) });
    },
    deleteRecords: async ({ topic, partitions }) => {
      const starts = await answer(() => topics.deleteRecords(topic, partitions.map(toRecordsBefore)));
      const logStarts = starts.map((offset, index) => ({
        partition: partitions[index]?.partition ?? 0,
        offset: BigInt(offset),
      }));
      return create(DeleteRecordsResponseSchema, { logStarts });
    },
    listOffsets: (request) => answer(() => listOffsets(request, topics, shard)),
  };
}

function groupCalls({ topics, groups }: AdminDoorOptions, answer: Answer): Pick<Admin, GroupCalls> {
  return {
    listGroups: async () => {
      const list = await answer(() => groups.list());
      return create(ListGroupsResponseSchema, {
        groups: list.map((entry) => ({ ...entry, topics: [...entry.topics] })),
      });
    },
    describeGroup: ({ groupId }) => answer(() => describeGroup(groupId, groups, topics)),
    resetOffsets: async ({ groupId, topics: names, to, execute }) => {
      const changes = await answer(async () => {
        const position = toOffsetPosition(to);
        if (position === null) return refuse('INVALID_REQUEST', 'say where to reset the offsets to');
        return groups.resetOffsets(groupId, names, position, execute);
      });
      return create(ResetOffsetsResponseSchema, {
        executed: execute,
        changes: changes.map(({ topic, partition, from, to: offset }) => ({
          topic,
          partition,
          ...(from === null ? {} : { from: BigInt(from) }),
          to: BigInt(offset),
        })),
      });
    },
    deleteGroup: async ({ groupId }) => {
      await answer(async () => (await groups.delete(groupId)) ?? true);
      return create(DeleteGroupResponseSchema);
    },
  };
}

function toRecordsBefore({ partition, beforeOffset }: WireRecordsBefore): RecordsBefore {
  if (beforeOffset === undefined) return { partition, before: null };
  if (beforeOffset >= 0n && beforeOffset <= BigInt(Number.MAX_SAFE_INTEGER)) {
    return { partition, before: Number(beforeOffset) };
  }
  throw new NaruError('INVALID_REQUEST', `offset ${beforeOffset} of partition ${partition} is no offset`);
}

async function listOffsets(request: ListOffsetsRequest, topics: TopicService, shard: ShardClient) {
  const topic = topics.find(request.topic);
  if (isRefusal(topic)) return topic;
  const position = toOffsetPosition(request.position);
  if (position === null) return refuse('INVALID_REQUEST', 'say which offsets to list: beginning, end, or of a time');
  if (request.partitions.length > topic.partitionCount) {
    return refuse(
      'INVALID_REQUEST',
      `${request.partitions.length} partitions are asked for, the topic has ${topic.partitionCount}`,
    );
  }
  const all = Array.from({ length: topic.partitionCount }, (_, partition) => partition);
  const wanted = request.partitions.length === 0 ? all : request.partitions;
  const offsets = [];
  for (const partition of wanted) {
    const found = await shard.submit({ type: 'find-offset', partition: partitionKey(topic.id, partition), position });
    if (isRefusal(found)) return found;
    offsets.push({ partition, offset: BigInt(found.offset) });
  }
  return create(ListOffsetsResponseSchema, { offsets });
}

async function describeGroup(groupId: string, groups: GroupService, topics: TopicService) {
  const group = await groups.describe(groupId);
  if (isRefusal(group)) return group;
  return create(DescribeGroupResponseSchema, {
    groupId,
    state: group.state,
    groupEpoch: group.groupEpoch,
    members: group.members.map((member) =>
      create(GroupMemberSchema, {
        memberId: member.memberId,
        ...(member.instanceId === null ? {} : { instanceId: member.instanceId }),
        clientId: member.clientId,
        clientHost: member.clientHost,
        memberEpoch: member.memberEpoch,
        topics: [...member.topics],
        assigned: byTopic(member.assigned, topics),
        revoking: byTopic(member.revoking, topics),
      }),
    ),
    offsets: group.lags.map((offset) =>
      create(GroupOffsetSchema, {
        topic: offset.topic,
        partition: offset.partition,
        ...(offset.committedOffset === null ? {} : { committedOffset: BigInt(offset.committedOffset) }),
        highWatermark: BigInt(offset.highWatermark),
        logStartOffset: BigInt(offset.logStartOffset),
        lag: BigInt(offset.lag),
        metadata: offset.metadata,
        memberId: offset.memberId ?? '',
        finished: offset.finished.map(([from, to]) => ({ from: BigInt(from), to: BigInt(to) })),
        ...(offset.gate === null ? {} : { gate: toWireGate(offset.gate) }),
        ...(offset.queue === null ? {} : { queue: toWireQueue(offset.queue) }),
      }),
    ),
    held: toWireHeld(group.held, topics),
  });
}

function toWireHeld(
  { partitions, ...all }: HeldDescription,
  topics: TopicService,
): MessageInitShape<typeof GroupHeldSchema> {
  return {
    partitions: partitions.map(({ partition: key, waiting, dead, blockedKeys }) => {
      const { topicId, partition } = splitPartitionKey(key);
      const topic = topics.findById(topicId);
      const counts = { waiting: BigInt(waiting), dead: BigInt(dead), blockedKeys: BigInt(blockedKeys) };
      return { topic: isRefusal(topic) ? '' : topic.name, partition, ...counts };
    }),
    events: BigInt(all.events),
    sizeBytes: BigInt(all.sizeBytes),
    maxEvents: BigInt(all.maxEvents),
    maxBytes: BigInt(all.maxBytes),
    full: all.isFull,
  };
}

function toWireQueue({ available, acquired, finished, dying, oldest, holders }: QueueReport) {
  return {
    available: BigInt(available),
    acquired: BigInt(acquired),
    finished: BigInt(finished),
    dying: BigInt(dying),
    ...(oldest === null ? {} : { oldest: BigInt(oldest) }),
    holders,
  };
}

const WITHHELD_REASONS = {
  lag: WithheldReason.LAG,
  retry: WithheldReason.RETRY,
  'dead-letter': WithheldReason.DEAD_LETTER,
  'behind-key': WithheldReason.BEHIND_KEY,
} as const;

function toWireGate({ waitsFor, gateOffset, withheld, oldest, ...counts }: GateReport): GroupGate {
  return create(GroupGateSchema, {
    ...counts,
    waitsFor: [...waitsFor],
    gateOffset: BigInt(gateOffset),
    withheld: BigInt(withheld),
    oldest: oldest.map(({ offset, reason, groupId, deadLetterId }) => ({
      offset: BigInt(offset),
      reason: WITHHELD_REASONS[reason],
      groupId: groupId ?? '',
      deadLetterId: deadLetterId ?? '',
    })),
  });
}

function byTopic(partitions: readonly PartitionKey[], topics: TopicService): TopicPartitions[] {
  const found = new Map<string, number[]>();
  for (const key of partitions) {
    const { topicId, partition } = splitPartitionKey(key);
    const topic = topics.findById(topicId);
    if (isRefusal(topic)) continue;
    found.set(topic.name, [...(found.get(topic.name) ?? []), partition]);
  }
  return [...found].map(([topic, numbers]) =>
    create(TopicPartitionsSchema, { topic, partitions: numbers.sort((a, b) => a - b) }),
  );
}

function toWireTopic(topic: TopicMetadata): Topic {
  return create(TopicSchema, {
    name: topic.name,
    topicId: topicIdToBytes(topic.id),
    type: topic.type === 'parallel' ? TopicType.PARALLEL : TopicType.ORDERED,
    partitionCount: topic.partitionCount,
    config: { ...topic.config },
    createdAtMs: BigInt(Math.trunc(topic.createdAtMs)),
  });
}
