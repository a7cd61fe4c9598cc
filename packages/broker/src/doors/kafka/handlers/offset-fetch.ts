/**
 * OffsetFetch 1–9: what groups have committed.
 *
 * As in Kafka: −1 where nothing is committed, also for topics and groups that do not exist; null topics (from version 2)
 * ask for everything; several groups from version 8 on; a member of the new protocol says who it is from version 9 on, and
 * is refused with UNKNOWN_MEMBER_ID or STALE_MEMBER_EPOCH.
 *
 * Who asks for what is stable (from version 7 on) is told UNSTABLE_OFFSET_COMMIT of partitions for which an open transaction holds
 * offsets (KIP-447).
 *
 * Differs from Kafka: a group is answered once in a request, a second time it is INVALID_REQUEST.
 */
import { partitionKey, type PartitionKey } from '@naru/base';
import { checkGroupId, refuse, type Refusal } from '@naru/protocol';
import { KAFKA_ERRORS, type KafkaRequest, type KafkaResponse } from '@naru/protocol/kafka';
import type { CommittedOffset } from '../../../core/group/index.ts';
import type { TopicRegistry } from '../../../core/registry/topic-registry.ts';
import { isRefusal, type PartitionOffset, type ShardClient } from '../../../runtime/commands.ts';
import type { KafkaCall, KafkaHandlers } from '../kafka-handler.ts';
import { errorCodeOf, type GroupHandlerOptions } from './group-members.ts';
import { byTopic, findPartition, findTopic } from './topic-partitions.ts';

const NOTHING_COMMITTED: Pick<CommittedOffset, 'offset' | 'leaderEpoch' | 'metadata'> = {
  offset: -1,
  leaderEpoch: -1,
  metadata: '',
};

type Question = KafkaRequest<'offsetFetch'>['groups'][number];
type Answer = NonNullable<KafkaResponse<'offsetFetch'>['groups']>[number];
type Committed = ReadonlyMap<PartitionKey, Pick<PartitionOffset, 'committed' | 'isUnstable'>>;

export function offsetFetchHandlers({
  shard,
  registry,
}: Pick<GroupHandlerOptions, 'shard' | 'registry'>): Pick<KafkaHandlers, 'offsetFetch'> {
  return {
    offsetFetch: {
      handle: async (request, call) => {
        const questions = questionsOf(request, call);
        const answers: Answer[] = [];
        const seen = new Set<string>();
        for (const question of questions) {
          const { groupId } = question;
          const twice = seen.has(groupId) ? refuse('INVALID_REQUEST', `group ${groupId} is asked for twice`) : null;
          seen.add(groupId);
          const refusal = twice ?? checkGroupId(groupId);
          const committed = refusal ?? (await committedOf(shard, registry, question));
          answers.push(
            isRefusal(committed)
              ? refused(question, committed, call)
              : answer(question, committed, request.requireStable, registry),
          );
        }
        return respond(answers, call);
      },
      failed: (request, error, call) =>
        respond(
          questionsOf(request, call).map((question) => refused(question, error.toRefusal(), call)),
          call,
        ),
    },
  };
}

/** Versions before 8 ask for one group. */
function questionsOf({ groupId, topics, groups }: KafkaRequest<'offsetFetch'>, { version }: KafkaCall) {
  return version < 8 ? [{ groupId, memberId: null, memberEpoch: -1, topics }] : groups;
}

function respond(answers: readonly Answer[], { version }: KafkaCall): KafkaResponse<'offsetFetch'> {
  if (version >= 8) return { throttleTimeMs: 0, groups: answers };
  const { topics = [], errorCode = 0 } = answers[0] ?? {};
  return { throttleTimeMs: 0, topics, errorCode };
}

async function committedOf(
  shard: ShardClient,
  registry: TopicRegistry,
  { groupId, memberId, memberEpoch, topics }: Question,
): Promise<Committed | Refusal> {
  const partitions =
    topics?.flatMap(({ name, partitionIndexes }) => {
      const topic = findTopic(registry, name);
      return partitionIndexes.flatMap((partition) => findPartition(topic, partition) ?? []);
    }) ?? null;
  const isMember = memberId !== null || memberEpoch >= 0;
  // Asked one right behind the other: nobody commits in between.
  const [refusal, reply] = await Promise.all([
    isMember ? checkMember(shard, groupId, memberId ?? '', memberEpoch) : null,
    shard.submit({ type: 'group-offsets', groupId, partitions }),
  ]);
  if (refusal !== null) return refusal;
  return isRefusal(reply) ? reply : new Map(reply.map((found) => [found.partition, found]));
}

/** Of the new protocol, in a group that is there. */
async function checkMember(
  shard: ShardClient,
  groupId: string,
  memberId: string,
  memberEpoch: number,
): Promise<Refusal | null> {
  const group = await shard.submit({ type: 'describe-group', groupId });
  if (isRefusal(group)) return group.code === 'GROUP_ID_NOT_FOUND' ? null : group;
  if (group.type !== 'consumer') return null;
  const member = group.members.find((one) => one.memberId === memberId);
  if (member === undefined) return refuse('UNKNOWN_MEMBER_ID', `group ${groupId} has no member ${memberId}`);
  if (member.memberEpoch === memberEpoch) return null;
  return refuse('STALE_MEMBER_EPOCH', `member ${memberId} is at epoch ${member.memberEpoch}, not ${memberEpoch}`);
}

function answer(
  { groupId, topics }: Question,
  committed: Committed,
  requireStable: boolean,
  registry: TopicRegistry,
): Answer {
  const entry = (partitionIndex: number, key: PartitionKey | undefined) => {
    const found = key === undefined ? undefined : committed.get(key);
    const isUnstable = requireStable && found?.isUnstable === true;
    const { offset, leaderEpoch, metadata } = (isUnstable ? null : found?.committed) ?? NOTHING_COMMITTED;
    const errorCode = isUnstable ? KAFKA_ERRORS.UNSTABLE_OFFSET_COMMIT.code : 0;
    return { partitionIndex, committedOffset: offset, committedLeaderEpoch: leaderEpoch, metadata, errorCode };
  };
  if (topics === null) {
    // What an open transaction would commit for the first time is nothing yet.
    const shown = [...committed].filter(
      ([, { committed: offset, isUnstable }]) => offset !== null || (isUnstable && requireStable),
    );
    const existing = byTopic(
      registry,
      shown.map(([key]) => key),
    ).map(({ topicId, topicName: name, partitions }) => ({
      name,
      partitions: partitions.map((partition) => entry(partition, partitionKey(topicId, partition))),
    }));
    return { groupId, topics: existing, errorCode: 0 };
  }
  return {
    groupId,
    topics: topics.map(({ name, partitionIndexes }) => {
      const topic = findTopic(registry, name);
      return { name, partitions: partitionIndexes.map((index) => entry(index, findPartition(topic, index))) };
    }),
    errorCode: 0,
  };
}

/** Version 1 has errors of partitions only. */
function refused({ groupId, topics }: Question, refusal: Refusal, { version }: KafkaCall): Answer {
  const errorCode = errorCodeOf(refusal, 'group');
  if (version > 1) return { groupId, topics: [], errorCode };
  const { offset: committedOffset, leaderEpoch: committedLeaderEpoch, metadata } = NOTHING_COMMITTED;
  const failed = (topics ?? []).map(({ name, partitionIndexes }) => ({
    name,
    partitions: partitionIndexes.map((partitionIndex) => ({
      partitionIndex,
      committedOffset,
      committedLeaderEpoch,
      metadata,
      errorCode,
    })),
  }));
  return { groupId, topics: failed, errorCode };
}
