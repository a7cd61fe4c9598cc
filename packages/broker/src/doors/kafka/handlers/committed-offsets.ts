/** Offsets as OffsetCommit and TxnOffsetCommit bring them, and the answer for each. */
import type { PartitionKey } from '@naru/base';
import { refuse, type Refusal } from '@naru/protocol';
import type { OffsetCommit } from '../../../core/group/index.ts';
import type { TopicRegistry } from '../../../core/registry/topic-registry.ts';
import { findPartition, findTopic } from './topic-partitions.ts';

/** What one command of the shard may bring; a larger request becomes several, one after the other. */
const MAX_OFFSETS_PER_COMMAND = 10_000;

type CommittedTopics = readonly {
  readonly name: string;
  readonly partitions: readonly {
    readonly partitionIndex: number;
    readonly committedOffset: number;
    readonly committedLeaderEpoch: number;
    readonly committedMetadata: string | null;
  }[];
}[];

/** Null for what is committed. */
export type CommitOutcomes = ReadonlyMap<PartitionKey, Refusal | null>;

type CommitReply = Refusal | { readonly results: readonly { partition: PartitionKey; refusal: Refusal | null }[] };

/** Of partitions that exist. Of one that is named twice the last counts. */
export function offsetsOf(registry: TopicRegistry, topics: CommittedTopics): OffsetCommit[] {
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

/** The first command is given before this returns. */
export async function committed(
  offsets: readonly OffsetCommit[],
  commit: (some: readonly OffsetCommit[]) => Promise<CommitReply>,
): Promise<CommitOutcomes> {
  const outcomes = new Map<PartitionKey, Refusal | null>();
  for (let from = 0; from < offsets.length; from += MAX_OFFSETS_PER_COMMAND) {
    const some = offsets.slice(from, from + MAX_OFFSETS_PER_COMMAND);
    const reply = await commit(some);
    if ('results' in reply) for (const { partition, refusal } of reply.results) outcomes.set(partition, refusal);
    else for (const { partition } of some) outcomes.set(partition, reply);
  }
  return outcomes;
}

/** @param errorCode of an outcome; partitions that do not exist are refused as such */
export function commitAnswer(
  topics: CommittedTopics,
  registry: TopicRegistry,
  outcomes: CommitOutcomes,
  errorCode: (outcome: Refusal | null) => number,
) {
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
          return { partitionIndex, errorCode: errorCode(outcome === undefined ? unknown : outcome) };
        }),
      };
    }),
  };
}

/** The same code for every partition. */
export function commitRefused(topics: CommittedTopics, errorCode: number) {
  return {
    throttleTimeMs: 0,
    topics: topics.map(({ name, partitions }) => ({
      name,
      partitions: partitions.map(({ partitionIndex }) => ({ partitionIndex, errorCode })),
    })),
  };
}
