/** Reads copies of held events out of their log. */
import type { PartitionKey } from '@naru/base';
import { NaruError } from '@naru/protocol';
import { iterateRecords, readBatchHeader, type CompressionCodecs } from '@naru/protocol/batch';
import { readCopy } from '../core/held/index.ts';
import { isRefusal, type ShardClient } from '../runtime/commands.ts';
import { readNow } from './read-now.ts';

/** Enough for the batch that holds a copy: a fetch gives one batch even when it is larger. */
const ONE_BATCH = 1;

/** The group's partition of the log. */
export async function heldLogOf(shard: ShardClient, groupId: string): Promise<PartitionKey> {
  const log = await shard.submit({ type: 'own-log', log: 'held', groupId });
  if (isRefusal(log)) throw NaruError.from(log);
  return log;
}

/** The batch with the event. @throws NaruError DATA_CORRUPT when it is not there or damaged, and what else a fetch refuses */
export async function readHeldCopy(
  shard: ShardClient,
  codecs: CompressionCodecs,
  groupId: string,
  copyOffset: number,
): Promise<Uint8Array> {
  const found = new Map<number, Uint8Array>();
  await readHeldCopies(shard, codecs, await heldLogOf(shard, groupId), copyOffset, new Set([copyOffset]), found);
  return found.get(copyOffset) ?? readCopy(undefined, copyOffset);
}

/** Adds the copy at an offset, and others that are wanted and stand in its batch. Errors as {@link readHeldCopy}. */
export async function readHeldCopies(
  shard: ShardClient,
  codecs: CompressionCodecs,
  log: PartitionKey,
  copyOffset: number,
  wanted: ReadonlySet<number>,
  found: Map<number, Uint8Array>,
): Promise<void> {
  const fetched = await readNow(shard, log, copyOffset, ONE_BATCH);
  if (isRefusal(fetched)) throw NaruError.from(fetched);
  if (fetched.refusal !== null) throw NaruError.from(fetched.refusal);
  const [batch] = fetched.batches;
  if (batch === undefined || readBatchHeader(batch).baseOffset > copyOffset) readCopy(undefined, copyOffset);
  else {
    for (const record of iterateRecords(batch, codecs)) {
      if (wanted.has(record.offset)) found.set(record.offset, readCopy(record, record.offset));
    }
  }
}
