/** Settling records of parallel topics: one use for streams, single calls and what could not be delivered. */
import { refuse, type Refusal } from '@naru/protocol';
import type { PartitionSettlement, RecordSettlement, SettlementRefusal } from '../core/queue/queue-commands.ts';
import { isRefusal, type ShardClient } from '../runtime/commands.ts';
import type { AcquiredPartition } from '../runtime/queue-commands.ts';

export interface Settlements {
  readonly groupId: string;
  readonly memberId: string;
  readonly partitions: readonly PartitionSettlement[];
}

/** What was refused; everything else is durable. Rejects when the broker failed. */
export async function settleRecords(
  shard: ShardClient,
  { groupId, memberId, partitions }: Settlements,
): Promise<readonly SettlementRefusal[]> {
  if (groupId === '') {
    return refusedWhole(partitions, refuse('INVALID_REQUEST', 'a reader without a group has nothing to settle'));
  }
  const reply = await shard.submit({ type: 'settle-records', groupId, memberId, partitions });
  return isRefusal(reply) ? refusedWhole(partitions, reply) : reply.refused;
}

/** Gives back, uncounted, what a member was to get and did not. */
export function returned(acquired: readonly AcquiredPartition[]): PartitionSettlement[] {
  return acquired.map(({ partition, ranges }) => ({
    partition,
    records: ranges.map(({ from, to }) => settlement(from, to, 'return')),
  }));
}

/** Without anything to say about it. */
export function settlement(from: number, to: number, kind: RecordSettlement['kind']): RecordSettlement {
  return { from, to, kind, delayMs: 0, reason: '', error: '', note: '', durationMs: 0, idempotencyId: '' };
}

function refusedWhole(partitions: readonly PartitionSettlement[], refusal: Refusal): SettlementRefusal[] {
  return partitions.flatMap(({ partition, records }) =>
    records.map(({ from, to }) => ({ partition, from, to, refusal })),
  );
}
