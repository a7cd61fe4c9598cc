/**
 * ListOffsets 1–9: the ends of partitions, and the first record of a time or later, exactly: its own offset and time.
 *
 * Who reads what is committed only (isolation level 1, from version 2) is told of nothing beyond the last stable offset.
 *
 * Differences from Kafka: there is no tiered storage: the earliest local offset is the earliest, and there is no latest tiered one, as in Kafka without it.
 */
import { kafkaErrorCode, type KafkaRequest, type KafkaResponse } from '@naru/protocol/kafka';
import { isRefusal, type OffsetPosition, type ShardClient } from '../../../runtime/commands.ts';
import type { TopicService } from '../../../service/topics.ts';
import type { KafkaHandlers } from '../kafka-handler.ts';
import { findPartition, leaderEpochError } from './partition-errors.ts';

const READ_COMMITTED = 1;
const LATEST = -1;
const EARLIEST = -2;
const LARGEST_TIMESTAMP = -3;
const EARLIEST_LOCAL = -4;
const LATEST_TIERED = -5;

export interface ListOffsetsOptions {
  readonly topics: TopicService;
  readonly shard: ShardClient;
  /** The leader epoch in force. */
  readonly leaderEpoch: number;
}

type Request = KafkaRequest<'listOffsets'>;
type Wanted = Request['topics'][number]['partitions'][number];
type PartitionAnswer = KafkaResponse<'listOffsets'>['topics'][number]['partitions'][number];

export function listOffsetsHandlers(options: ListOffsetsOptions): Pick<KafkaHandlers, 'listOffsets'> {
  return {
    listOffsets: {
      async handle({ topics, isolationLevel }) {
        const isStable = isolationLevel === READ_COMMITTED;
        const found = topics.map(async ({ name, partitions }) => ({
          name,
          partitions: await Promise.all(partitions.map((wanted) => find(name, wanted, isStable, options))),
        }));
        return { topics: await Promise.all(found) };
      },
      failed(request, error) {
        const errorCode = kafkaErrorCode(error.code, 'fetch');
        return {
          topics: request.topics.map(({ name, partitions }) => ({
            name,
            partitions: partitions.map(({ partitionIndex }) => ({ partitionIndex, errorCode })),
          })),
        };
      },
    },
  };
}

async function find(
  name: string,
  wanted: Wanted,
  isStable: boolean,
  options: ListOffsetsOptions,
): Promise<PartitionAnswer> {
  const { partitionIndex, currentLeaderEpoch, timestamp } = wanted;
  const partition = findPartition(options.topics, name, partitionIndex);
  if (typeof partition === 'number') return { partitionIndex, errorCode: partition };
  const epochError = leaderEpochError(currentLeaderEpoch, options.leaderEpoch);
  if (epochError !== 0) return { partitionIndex, errorCode: epochError };
  if (timestamp === LATEST_TIERED) return { partitionIndex, errorCode: 0 };
  const position = positionOf(timestamp);
  const found = await options.shard.submit({ type: 'find-offset', partition, position, isStable });
  if (isRefusal(found)) return { partitionIndex, errorCode: kafkaErrorCode(found.code, 'fetch') };
  const isByTime = position.at === 'time' || position.at === 'largest-time';
  if (isByTime && found.timestampMs === null) return { partitionIndex, errorCode: 0 };
  return {
    partitionIndex,
    errorCode: 0,
    timestamp: found.timestampMs ?? -1,
    offset: found.offset,
    leaderEpoch: found.leaderEpoch ?? -1,
  };
}

function positionOf(timestamp: number): OffsetPosition {
  if (timestamp === LATEST) return { at: 'end' };
  if (timestamp === EARLIEST || timestamp === EARLIEST_LOCAL) return { at: 'beginning' };
  if (timestamp === LARGEST_TIMESTAMP) return { at: 'largest-time' };
  return { at: 'time', timestampMs: timestamp };
}
