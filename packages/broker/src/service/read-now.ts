/** Reads what is stored at one place of a partition, without waiting for more. */
import type { PartitionKey } from '@naru/base';
import { refuse, type Refusal } from '@naru/protocol';
import { isRefusal, type FetchCommand, type FetchedPartition, type ShardClient } from '../runtime/commands.ts';
import { newFetchId } from './long-poll.ts';

/**
 * @param maxBytes one batch is given even when it is larger, so that 1 asks for one
 * @returns the partition's part of the answer, whose own refusal may say why nothing is in it; or the fetch's refusal
 */
export async function readNow(
  shard: ShardClient,
  partition: PartitionKey,
  offset: number,
  maxBytes: number,
  options: Pick<FetchCommand, 'view' | 'tellsOutcomes'> = {},
): Promise<FetchedPartition | Refusal> {
  const reply = await shard.submit({
    type: 'fetch',
    fetchId: newFetchId(),
    partitions: [{ partition, offset, maxBytes }],
    minBytes: 0,
    maxBytes,
    maxWaitMs: 0,
    everyPartition: true,
    ...options,
  });
  if (isRefusal(reply)) return reply;
  return reply.partitions[0] ?? refuse('UNKNOWN_TOPIC_OR_PARTITION', `there is no partition ${partition}`);
}
