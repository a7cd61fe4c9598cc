/** Whole events out of their partitions, as the log of held events keeps them: a batch for each, at its original offset. */
import type { PartitionKey } from '@naru/base';
import { isNaruError, keyId, refuse, type Refusal } from '@naru/protocol';
import {
  encodeBatch,
  iterateRecords,
  readBatchHeader,
  rewriteBatch,
  setBatchOffsets,
  type BatchRecord,
  type CompressionCodecs,
} from '@naru/protocol/batch';
import type { EventCopy } from '../core/group/index.ts';
import { isRefusal, type ShardClient } from '../runtime/commands.ts';
import { readNow } from './read-now.ts';

/** Of one partition of a commit. */
export const MAX_COPIED_BYTES = 32 * 1024 * 1024;
/** Of one event, with what belongs to it in its batch: what a store takes in one append, and room for the rest. */
export const MAX_COPY_BYTES = 6 * 1024 * 1024;
const FETCH_BYTES = 1024 * 1024;
/** A larger record stays compressed as it was published, so that its copy is no larger than its batch. */
const MAX_PLAIN_BYTES = 256 * 1024;

/**
 * @param offsets ascending
 * @returns by offset; those that are not stored any more, or not committed, are missing. A refusal when they cannot be read, RECORD_TOO_LARGE when
 *   they are too large
 */
export async function readEventCopies(
  shard: ShardClient,
  codecs: CompressionCodecs,
  partition: PartitionKey,
  offsets: readonly number[],
): Promise<ReadonlyMap<number, EventCopy> | Refusal> {
  const copies = new Map<number, EventCopy>();
  let bytes = 0;
  for (let index = 0; index < offsets.length;) {
    const from = offsets[index] as number;
    const fetched = await readNow(shard, partition, from, FETCH_BYTES, { view: 'committed' });
    if (isRefusal(fetched)) return fetched;
    if (fetched.refusal === null) {
      const nextOffset = Math.max(fetched.nextOffset, from + 1);
      for (const batch of fetched.batches) {
        const made = copiesOf(batch, offsets, index, codecs);
        if ('code' in made) return made;
        for (const [offset, copy] of made.copies) {
          copies.set(offset, copy);
          bytes += copy.batch.length;
        }
        index = made.next;
        if (bytes > MAX_COPIED_BYTES) return tooLarge(`the events of one partition of a commit`, MAX_COPIED_BYTES);
      }
      while (index < offsets.length && (offsets[index] as number) < nextOffset) index += 1;
      continue;
    }
    // Retention took it: there is nothing to keep.
    if (fetched.refusal.code !== 'OFFSET_OUT_OF_RANGE') return fetched.refusal;
    index += 1;
  }
  return copies;
}

interface CopiesOfBatch {
  readonly copies: readonly (readonly [number, EventCopy])[];
  /** The first of the offsets that is beyond the batch. */
  readonly next: number;
}

function copiesOf(
  batch: Uint8Array,
  offsets: readonly number[],
  from: number,
  codecs: CompressionCodecs,
): CopiesOfBatch | Refusal {
  const { baseOffset, lastOffsetDelta, partitionLeaderEpoch, isControl } = readBatchHeader(batch);
  let next = from;
  while (next < offsets.length && (offsets[next] as number) <= baseOffset + lastOffsetDelta) next += 1;
  const copies: [number, EventCopy][] = [];
  if (next === from || isControl) return { copies, next };
  const wanted = new Set(offsets.slice(from, next));
  try {
    for (const record of iterateRecords(batch, codecs)) {
      if (!wanted.has(record.offset)) continue;
      const copy = copyOf(record, batch, partitionLeaderEpoch, codecs);
      if (copy.batch.length > MAX_COPY_BYTES) return tooLarge(`the event at offset ${record.offset}`, MAX_COPY_BYTES);
      copies.push([record.offset, copy]);
    }
  } catch (error) {
    if (isNaruError(error)) return error.toRefusal();
    throw error;
  }
  return { copies, next };
}

function copyOf(record: BatchRecord, batch: Uint8Array, leaderEpoch: number, codecs: CompressionCodecs): EventCopy {
  const id = record.key === null ? '' : keyId(record.key);
  if ((record.value?.length ?? 0) > MAX_PLAIN_BYTES) {
    const { offset } = record;
    const alone = rewriteBatch(batch, { retain: (other) => other.offset === offset }, codecs);
    if (alone !== null) return { keyId: id, batch: alone };
  }
  const plain = encodeBatch([record]);
  setBatchOffsets(plain, record.offset, leaderEpoch);
  return { keyId: id, batch: plain };
}

function tooLarge(what: string, limitBytes: number): Refusal {
  return refuse('RECORD_TOO_LARGE', `${what} has more than ${limitBytes} bytes, of which no copies are kept at once`);
}
