/**
 * The aborted transactions of a fetch's answer, in the order in which clients come upon them.
 *
 * Kafka's own client and librdkafka sort them. kafkajs takes at most one from the list for each record, as soon as the first one
 * left has begun: of several that began before the place where a fetch goes on, it hands out records of all but the first. In
 * the order of their first batches in the answer each is taken in time; and one without a batch there would take another's turn.
 */
import { isOfTransaction, readBatchHeader } from '@naru/protocol/batch';
import type { FetchedPartition } from '../../../runtime/commands.ts';

type Aborted = NonNullable<FetchedPartition['aborted']>;

/** @param aborted by their first offset */
export function inOrderOfBatches(aborted: Aborted, batches: readonly Uint8Array[]): Aborted {
  if (aborted.length < 2) return aborted;
  const met = new Set<Aborted[number]>();
  const byProducer = Map.groupBy(aborted, ({ producerId }) => producerId);
  for (const batch of batches) {
    if (!isOfTransaction(batch)) continue;
    const { isControl, producerId, baseOffset } = readBatchHeader(batch);
    if (isControl) continue;
    const entries = byProducer.get(producerId) ?? [];
    const entry = entries.find(({ firstOffset, lastOffset }) => firstOffset <= baseOffset && baseOffset <= lastOffset);
    if (entry !== undefined) met.add(entry);
  }
  return [...met];
}
