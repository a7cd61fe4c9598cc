/** What a group holds, for operators. */
import type { PartitionKey } from '@naru/base';
import type { GroupContext } from './commands.ts';
import { comparePartitions, type GroupState } from './group-state.ts';
import { isParking } from './held-changes.ts';

export interface HeldDescription {
  /** Those with held events. */
  readonly partitions: readonly {
    readonly partition: PartitionKey;
    /** To be given again. */
    readonly waiting: number;
    readonly dead: number;
    readonly blockedKeys: number;
  }[];
  readonly events: number;
  /** Of copies. */
  readonly sizeBytes: number;
  readonly maxEvents: number;
  readonly maxBytes: number;
  /** No more are held: members keep failing events in hand, and their partitions stand still. */
  readonly isFull: boolean;
}

export function describeHeld(
  { groupId, held }: Pick<GroupState, 'groupId' | 'held'>,
  context: Pick<GroupContext, 'topicConfig' | 'limits'>,
): HeldDescription {
  const partitions = [...held.keys()].sort(comparePartitions).flatMap((partition) => {
    const events = held.get(partition);
    if (events === undefined) return [];
    const blockedKeys = events.blockedCount(isParking(groupId, partition, context));
    return { partition, waiting: events.waitingCount, dead: events.deadCount, blockedKeys };
  });
  let [events, sizeBytes] = [0, 0];
  for (const one of held.values()) {
    events += one.size;
    sizeBytes += one.sizeBytes;
  }
  const { maxHeldEvents: maxEvents, maxHeldBytes: maxBytes } = context.limits;
  const isFull = events >= maxEvents || sizeBytes >= maxBytes;
  return { partitions, events, sizeBytes, maxEvents, maxBytes, isFull };
}
