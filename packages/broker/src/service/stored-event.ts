/** Reads one event from its partition. */
import type { PartitionKey } from '@naru/base';
import { isNaruError, refuse, type Refusal } from '@naru/protocol';
import { decodeRecords, readBatchHeader, type BatchRecord, type CompressionCodecs } from '@naru/protocol/batch';
import type { TransactionOutcome } from '../core/partition/transaction-index.ts';
import { isRefusal, type ShardClient } from '../runtime/commands.ts';
import { readNow } from './read-now.ts';

/** Enough for the batch that holds the event: a fetch gives one batch even when it is larger. */
const ONE_BATCH = 1;

export interface StoredEvent {
  readonly record: BatchRecord;
  /** What became of the transaction that it is part of; null when it is part of none. */
  readonly transaction: TransactionOutcome | null;
}

/**
 * @returns null when it is stored no more; EVENT_NOT_FOUND when nothing was stored there yet, or a transaction's marker,
 *   DATA_CORRUPT and what else a fetch refuses
 */
export async function readEvent(
  shard: ShardClient,
  codecs: CompressionCodecs,
  partition: PartitionKey,
  offset: number,
): Promise<StoredEvent | null | Refusal> {
  const fetched = await readNow(shard, partition, offset, ONE_BATCH, { tellsOutcomes: true });
  if (isRefusal(fetched)) return fetched;
  if (offset >= fetched.highWatermark && fetched.refusal?.code !== 'UNKNOWN_TOPIC_OR_PARTITION') {
    return refuse(
      'EVENT_NOT_FOUND',
      `nothing is stored at offset ${offset} yet: the partition ends at ${fetched.highWatermark}`,
    );
  }
  if (fetched.refusal?.code === 'OFFSET_OUT_OF_RANGE') return null;
  if (fetched.refusal !== null) return fetched.refusal;
  const [batch] = fetched.batches;
  // Compaction leaves gaps, which the next batch stands behind.
  const header = batch === undefined ? null : readBatchHeader(batch);
  if (batch === undefined || header === null || header.baseOffset > offset) return null;
  if (header.isControl) {
    return refuse('EVENT_NOT_FOUND', `there is no event at offset ${offset}, but the end of a transaction`);
  }
  try {
    const record = decodeRecords(batch, codecs).find((found) => found.offset === offset);
    return record === undefined ? null : { record, transaction: fetched.outcomes?.[0] ?? null };
  } catch (error) {
    if (isNaruError(error)) return refuse('DATA_CORRUPT', `the event cannot be read: ${error.message}`);
    throw error;
  }
}
