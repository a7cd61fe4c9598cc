/** Ties a session of a staged group to its gates: which of its partitions have one, and what the subscriber is told. */
import { splitPartitionKey, type PartitionKey, type Timers } from '@naru/base';
import type { CompressionCodecs } from '@naru/protocol/batch';
import { gateOf } from '../core/group/index.ts';
import { declaredGroups } from '../core/registry/topic-groups.ts';
import type { ShardClient } from '../runtime/commands.ts';
import type { MetadataFollower } from '../runtime/metadata-follower.ts';
import { GatedReading, type GatedEvent } from './gated-reading.ts';
import type { Poller } from './poller.ts';

export interface SessionGatesOptions {
  readonly groupId: string;
  readonly shard: ShardClient;
  readonly follower: MetadataFollower;
  readonly timers: Timers;
  readonly codecs: CompressionCodecs;
  readonly poller: () => Poller;
  readonly emit: (event: GatedEvent) => void;
  /** Null when the subscriber takes more records now; else resolves when to look again. */
  readonly room: () => Promise<void> | null;
  readonly fail: (error: unknown) => void;
}

/** Null for a reader without a group, who waits for nobody. */
export function sessionGates(options: SessionGatesOptions): GatedReading | null {
  const { poller, emit, room, groupId } = options;
  if (groupId === '') return null;
  return new GatedReading({
    ...options,
    emit: (event) => {
      emit(event);
      // One late batch for each poll, so that a subscriber gets no more than it asks for.
      if (event.type === 'late') poller().interrupt();
    },
    room: () => room() ?? poller().asked(),
    positionOf: (partition) => poller().positionOf(partition),
    isPaused: (partition) => poller().isPaused(partition),
    opened: () => poller().gateOpened(),
  });
}

/** Whether the group waits for others in this partition, by what its topic declares now. */
export function isGated(partition: PartitionKey, groupId: string, { registry }: MetadataFollower): boolean {
  const topic = registry.byId(splitPartitionKey(partition).topicId);
  return topic !== undefined && groupId !== '' && gateOf(declaredGroups(topic.config), groupId) !== null;
}
