/** The check of batches that come from a database: nobody serves or copies what is damaged. */
import type { PartitionKey } from '@naru/base';
import { toError } from '@naru/base';
import { NaruError } from '@naru/protocol';
import { verifyBatch } from '@naru/protocol/batch';
import type { StoredBatch } from '../log-store.ts';

/** What is wrong with the batch; null when nothing is. */
export function batchDamage(partition: PartitionKey, batch: StoredBatch): NaruError | null {
  try {
    const { baseOffset } = verifyBatch(batch.records, 'stored');
    if (baseOffset === batch.baseOffset) return null;
    return damaged(partition, batch, `it says offset ${baseOffset}`, undefined);
  } catch (error) {
    return damaged(partition, batch, toError(error).message, error);
  }
}

function damaged(
  partition: PartitionKey,
  { baseOffset, lastOffset }: StoredBatch,
  what: string,
  cause: unknown,
): NaruError {
  const message = `offsets ${baseOffset} to ${lastOffset} of partition ${partition} are damaged in the database: ${what}`;
  return new NaruError('DATA_CORRUPT', message, { cause });
}
