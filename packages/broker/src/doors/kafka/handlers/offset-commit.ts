/**
 * OffsetCommit 2–9.
 *
 * As in Kafka: a commit without a member (generation below 0) is taken by a group without members; metadata and leader
 * epoch are kept and given back; of a partition that is named twice the last counts; each partition has its own error.
 * Offsets that were finished beyond the committed one, by members of other doors, stay finished.
 *
 * An offset may lie beyond the end of its partition, as in Kafka: what is published below it later is then not read by the
 * group. Where retention goes by what groups have committed (`acknowledged`) that would delete what nobody has handled: there it
 * is OFFSET_OUT_OF_RANGE.
 *
 * Differs from Kafka: the retention time of versions 2–4 is ignored, since offsets do not expire here; −2 and −1, with which
 * kafkajs resets groups, are the partition's beginning and end at that time, where Kafka keeps the numbers, and other
 * negative numbers are OFFSET_OUT_OF_RANGE; where the broker assigns, a member commits for what it holds only.
 */
import type { PartitionKey } from '@naru/base';
import { checkGroupId, NaruError, refuse, type Refusal } from '@naru/protocol';
import type { KafkaAudience, KafkaRequest, KafkaResponse } from '@naru/protocol/kafka';
import type { OffsetCommit } from '../../../core/group/index.ts';
import type { TopicRegistry } from '../../../core/registry/topic-registry.ts';
import { isRefusal, type ShardClient } from '../../../runtime/commands.ts';
import type { KafkaHandlers } from '../kafka-handler.ts';
import { errorCodeOf, type GroupHandlerOptions } from './group-members.ts';
import { findPartition, findTopic } from './topic-partitions.ts';

/** What one command of the shard may bring; a larger request becomes several, one after the other. */
const MAX_OFFSETS_PER_COMMAND = 10_000;
/** As in ListOffsets. */
const BEGINNING = -2;
const END = -1;

type Request = KafkaRequest<'offsetCommit'>;
type Outcomes = ReadonlyMap<PartitionKey, Refusal | null>;

export function offsetCommitHandlers({
  shard,
  registry,
}: Pick<GroupHandlerOptions, 'shard' | 'registry'>): Pick<KafkaHandlers, 'offsetCommit'> {
  return {
    offsetCommit: {
      handle: async (request, { version }) => {
        const refusal = checkGroupId(request.groupId) ?? checkMember(request);
        if (refusal !== null) return refused(request, refusal, audienceOf(version));
        const offsets = offsetsOf(registry, request);
        // Entered before this returns, so that what the client sent next, such as that it leaves, comes after it.
        const outcomes = await (offsets.some(isRelative)
          ? placed(shard, offsets).then((absolute) => commit(shard, request, absolute))
          : commit(shard, request, offsets));
        return answer(request, registry, outcomes, audienceOf(version));
      },
      failed: (request, error, { version }) => refused(request, error.toRefusal(), audienceOf(version)),
    },
  };
}

/** Members of the new protocol commit with version 9 or later. */
function audienceOf(version: number): KafkaAudience {
  return version < 9 ? 'classicGroup' : 'group';
}

function checkMember({ memberId, generationIdOrMemberEpoch }: Request): Refusal | null {
  if (memberId !== '' || generationIdOrMemberEpoch < 0) return null;
  return refuse('UNKNOWN_MEMBER_ID', `a commit of generation ${generationIdOrMemberEpoch} says whose it is`);
}

function offsetsOf(registry: TopicRegistry, { topics }: Request): OffsetCommit[] {
  const offsets = new Map<PartitionKey, OffsetCommit>();
  for (const { name, partitions } of topics) {
    const topic = findTopic(registry, name);
    for (const { partitionIndex, committedOffset, committedLeaderEpoch, committedMetadata } of partitions) {
      const partition = findPartition(topic, partitionIndex);
      if (partition === undefined) continue;
      offsets.set(partition, {
        partition,
        offset: committedOffset,
        finished: null,
        metadata: committedMetadata ?? '',
        leaderEpoch: committedLeaderEpoch,
        endOffset: null,
        mayExceedEnd: true,
      });
    }
  }
  return [...offsets.values()];
}

function isRelative({ offset }: OffsetCommit): boolean {
  return offset === BEGINNING || offset === END;
}

/** With offsets in the place of those that stand for a place. */
async function placed(shard: ShardClient, offsets: readonly OffsetCommit[]): Promise<readonly OffsetCommit[]> {
  const partitions = offsets.filter(isRelative).map(({ partition }) => partition);
  const found = await shard.submit({ type: 'describe-partitions', partitions });
  if (isRefusal(found)) throw NaruError.from(found);
  const status = new Map(found.map((entry) => [entry.partition, entry]));
  return offsets.map((commit) => {
    const at = status.get(commit.partition);
    if (at === undefined) return commit;
    return { ...commit, offset: commit.offset === BEGINNING ? at.logStartOffset : at.highWatermark };
  });
}

async function commit(shard: ShardClient, request: Request, offsets: readonly OffsetCommit[]): Promise<Outcomes> {
  const { groupId, generationIdOrMemberEpoch, groupInstanceId: instanceId } = request;
  // Who has no generation is no member, whatever it calls itself.
  const memberId = generationIdOrMemberEpoch < 0 ? '' : request.memberId;
  const outcomes = new Map<PartitionKey, Refusal | null>();
  for (let from = 0; from < offsets.length; from += MAX_OFFSETS_PER_COMMAND) {
    const some = offsets.slice(from, from + MAX_OFFSETS_PER_COMMAND);
    const reply = await shard.submit({
      type: 'group',
      command: {
        type: 'commit',
        groupId,
        memberId,
        memberEpoch: generationIdOrMemberEpoch,
        instanceId,
        offsets: some,
      },
    });
    if (isRefusal(reply)) for (const { partition } of some) outcomes.set(partition, reply);
    else for (const { partition, refusal } of reply.results) outcomes.set(partition, refusal);
  }
  return outcomes;
}

function answer(
  { topics }: Request,
  registry: TopicRegistry,
  outcomes: Outcomes,
  audience: KafkaAudience,
): KafkaResponse<'offsetCommit'> {
  const unknown = refuse('UNKNOWN_TOPIC_OR_PARTITION', 'there is no such partition');
  return {
    throttleTimeMs: 0,
    topics: topics.map(({ name, partitions }) => {
      const topic = findTopic(registry, name);
      return {
        name,
        partitions: partitions.map(({ partitionIndex }) => {
          const key = findPartition(topic, partitionIndex);
          const outcome = key === undefined ? undefined : outcomes.get(key);
          return { partitionIndex, errorCode: errorCodeOf(outcome === undefined ? unknown : outcome, audience) };
        }),
      };
    }),
  };
}

function refused({ topics }: Request, refusal: Refusal, audience: KafkaAudience): KafkaResponse<'offsetCommit'> {
  const errorCode = errorCodeOf(refusal, audience);
  return {
    throttleTimeMs: 0,
    topics: topics.map(({ name, partitions }) => ({
      name,
      partitions: partitions.map(({ partitionIndex }) => ({ partitionIndex, errorCode })),
    })),
  };
}
