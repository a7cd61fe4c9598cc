/** What Kafka clients publish and read by, together: metadata, records, offsets. Groups and administration have their own. */
import type { Timers } from '@naru/base';
import type { ShardClient } from '../../../runtime/commands.ts';
import type { TopicService } from '../../../service/topics.ts';
import { fetchHandlers } from './fetch.ts';
import { listOffsetsHandlers } from './list-offsets.ts';
import { metadataHandlers } from './metadata.ts';
import { offsetForLeaderEpochHandlers } from './offset-for-leader-epoch.ts';
import { produceHandlers } from './produce.ts';

export interface LogHandlersOptions {
  readonly topics: TopicService;
  readonly shard: ShardClient;
  readonly timers: Timers;
  readonly clusterId: string;
  /** In force for everything that this broker writes. */
  readonly leaderEpoch: number;
  /** Whether topics that clients ask for are created. */
  readonly autoCreateTopics: boolean;
}

export function logHandlers(options: LogHandlersOptions) {
  return {
    ...metadataHandlers(options),
    ...produceHandlers(options),
    ...fetchHandlers(options),
    ...listOffsetsHandlers(options),
    ...offsetForLeaderEpochHandlers(options),
  };
}
