/** What a subscriber is told of partitions that become its own: where the group is, and where reading begins. */
import { splitPartitionKey, type PartitionKey } from '@naru/base';
import { NaruError } from '@naru/protocol';
import { isRefusal, type PartitionOffset, type ShardClient } from '../runtime/commands.ts';
import type { MetadataFollower } from '../runtime/metadata-follower.ts';
import type { AssignedPartition, JoinRequest } from './session-events.ts';

export interface AssignedOptions {
  readonly shard: ShardClient;
  readonly follower: MetadataFollower;
  readonly request: Pick<JoinRequest, 'groupId' | 'start' | 'uncommitted'>;
}

export interface AssignedPartitions {
  readonly stable: AssignedPartition[];
  /** An open transaction may yet change what is committed there: to be asked for again. */
  readonly unstable: PartitionKey[];
}

/**
 * @returns without those that are gone meanwhile
 * @throws NaruError NO_OFFSET without a committed offset or a start position, and what else the shard refuses
 */
export async function assignedPartitions(
  { shard, follower, request }: AssignedOptions,
  added: readonly PartitionKey[],
): Promise<AssignedPartitions> {
  const { groupId } = request;
  let committed: readonly PartitionOffset[] = added.map((partition) => {
    return { partition, committed: null, isUnstable: false };
  });
  if (groupId !== '') {
    const reply = await shard.submit({ type: 'group-offsets', groupId, partitions: added });
    if (isRefusal(reply)) throw NaruError.from(reply);
    committed = reply;
  }
  const status = await shard.submit({ type: 'describe-partitions', partitions: added });
  if (isRefusal(status)) throw NaruError.from(status);
  const statusOf = new Map(status.map((entry) => [entry.partition, entry]));
  const stable: AssignedPartition[] = [];
  const unstable: PartitionKey[] = [];
  for (const offset of committed) {
    if (offset.isUnstable) {
      unstable.push(offset.partition);
      continue;
    }
    const topic = follower.registry.byId(splitPartitionKey(offset.partition).topicId);
    const position = await startOf(offset, shard, request);
    if (topic === undefined || position === null) continue;
    stable.push({
      topic: topic.name,
      partition: offset.partition,
      position,
      committedOffset: offset.committed?.offset ?? null,
      finished: offset.committed?.finished ?? [],
      metadata: offset.committed?.metadata ?? '',
      highWatermark: statusOf.get(offset.partition)?.highWatermark ?? position,
    });
  }
  return { stable, unstable };
}

/** Null when the partition is gone. */
async function startOf(
  { partition, committed }: PartitionOffset,
  shard: ShardClient,
  { start, groupId, uncommitted = false }: AssignedOptions['request'],
): Promise<number | null> {
  if (committed !== null) return committed.offset;
  if (start === null) {
    throw new NaruError(
      'NO_OFFSET',
      `group ${JSON.stringify(groupId)} has no committed offset for ${partition}, and no start position was given`,
    );
  }
  const found = await shard.submit({ type: 'find-offset', partition, position: start, isStable: !uncommitted });
  if (!isRefusal(found)) return found.offset;
  if (found.code === 'UNKNOWN_TOPIC_OR_PARTITION') return null;
  throw NaruError.from(found);
}
