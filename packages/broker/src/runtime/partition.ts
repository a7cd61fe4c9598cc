/** A partition in memory, as the runtime of its shard has it. */
import type { PartitionKey } from '@naru/base';
import { refuse, type Refusal } from '@naru/protocol';
import type { PartitionLimits, PartitionState } from '../core/partition/partition-state.ts';
import type { TopicConfig } from '../core/registry/topic-config.ts';
import type { WaitingFetch } from './partition-fetches.ts';

export interface Partition {
  readonly state: PartitionState;
  /** Offset after the last record that may be read. */
  highWatermark: number;
  /** The cycle of the newest batch; 0 when it was recovered. */
  lastCycle: number;
  readonly waiting: Set<WaitingFetch>;
  config: TopicConfig;
  limits: PartitionLimits;
}

export function unknownPartition(key: PartitionKey): Refusal {
  return refuse('UNKNOWN_TOPIC_OR_PARTITION', `there is no partition ${key}`);
}
