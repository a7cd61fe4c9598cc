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
import { checkGroupId, NaruError, refuse, type Refusal } from '@naru/protocol';
import type { KafkaAudience, KafkaRequest } from '@naru/protocol/kafka';
import type { OffsetCommit } from '../../../core/group/index.ts';
import { isRefusal, type ShardClient } from '../../../runtime/commands.ts';
import type { KafkaHandlers } from '../kafka-handler.ts';
import { commitAnswer, commitRefused, committed, offsetsOf, type CommitOutcomes } from './committed-offsets.ts';
import { errorCodeOf, type GroupHandlerOptions } from './group-members.ts';

/** As in ListOffsets. */
const BEGINNING = -2;
const END = -1;

type Request = KafkaRequest<'offsetCommit'>;

export function offsetCommitHandlers({
  shard,
  registry,
}: Pick<GroupHandlerOptions, 'shard' | 'registry'>): Pick<KafkaHandlers, 'offsetCommit'> {
  return {
    offsetCommit: {
      handle: async (request, { version }) => {
        const audience = audienceOf(version);
        const { topics } = request;
        const refusal = checkGroupId(request.groupId) ?? checkMember(request);
        if (refusal !== null) return commitRefused(topics, errorCodeOf(refusal, audience));
        const offsets = offsetsOf(registry, topics);
        // Entered before this returns, so that what the client sent next, such as that it leaves, comes after it.
        const outcomes = await (offsets.some(isRelative)
          ? placed(shard, offsets).then((absolute) => commit(shard, request, absolute))
          : commit(shard, request, offsets));
        return commitAnswer(topics, registry, outcomes, (outcome) => errorCodeOf(outcome, audience));
      },
      failed: ({ topics }, error, { version }) =>
        commitRefused(topics, errorCodeOf(error.toRefusal(), audienceOf(version))),
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

function commit(shard: ShardClient, request: Request, offsets: readonly OffsetCommit[]): Promise<CommitOutcomes> {
  const { groupId, generationIdOrMemberEpoch: memberEpoch, groupInstanceId: instanceId } = request;
  // Who has no generation is no member, whatever it calls itself.
  const memberId = memberEpoch < 0 ? '' : request.memberId;
  return committed(offsets, (some) =>
    shard.submit({
      type: 'group',
      command: { type: 'commit', groupId, memberId, memberEpoch, instanceId, offsets: some },
    }),
  );
}
