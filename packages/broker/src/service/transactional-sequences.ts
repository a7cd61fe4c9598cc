/** Sequences for whoever publishes plain records in a transaction: the broker knows what comes next, thin clients need not. */
import { partitionKey, type TopicId } from '@naru/base';
import { refuse, type Refusal } from '@naru/protocol';
import type { BuildOptions } from '@naru/protocol/batch';
import type { TransactionRef } from '../core/transaction/commands.ts';
import { isRefusal, type ShardClient } from '../runtime/commands.ts';

/** Who writes the next batch of a partition, of so many records. */
export type Producing = (partition: number, recordCount: number) => BuildOptions;

/** Beyond it sequences begin at 0 again. */
const MAX_SEQUENCE = 2 ** 31 - 1;

/** @returns a refusal when the transaction is not the one that its producer may write to */
export async function transactionalSequences(
  shard: ShardClient,
  transaction: TransactionRef,
  topicId: TopicId,
  partitions: readonly number[],
): Promise<Producing | Refusal> {
  const { transactionalId, producerId, producerEpoch } = transaction;
  const known = await shard.submit({ type: 'describe-transaction', transactionalId });
  if (isRefusal(known)) return known;
  const refusal = otherProducer(transaction, known);
  if (refusal !== null) return refusal;
  const keys = partitions.map((partition) => partitionKey(topicId, partition));
  const described = await shard.submit({ type: 'describe-producers', partitions: keys });
  if (isRefusal(described)) return described;
  const next = new Map<number, number>();
  described.forEach(({ partition: key, producers }) => {
    const producer = producers.find((found) => found.producerId === producerId);
    // Every epoch begins with 0.
    const isOfEpoch = producer?.producerEpoch === producerEpoch;
    next.set(partitions[keys.indexOf(key)] as number, isOfEpoch ? producer.nextSequence : 0);
  });
  return (partition, recordCount) => {
    const baseSequence = next.get(partition) ?? 0;
    const after = baseSequence + recordCount;
    next.set(partition, after > MAX_SEQUENCE ? after - MAX_SEQUENCE - 1 : after);
    return { producerId, producerEpoch, baseSequence, isTransactional: true };
  };
}

function otherProducer(
  { transactionalId, producerId, producerEpoch }: TransactionRef,
  known: { readonly producerId: number; readonly producerEpoch: number },
): Refusal | null {
  const id = JSON.stringify(transactionalId);
  if (known.producerId !== producerId) {
    const message = `transactional id ${id} has producer id ${known.producerId}, not ${producerId}`;
    return refuse('INVALID_PRODUCER_ID_MAPPING', message);
  }
  if (known.producerEpoch > producerEpoch) {
    const message = `the transaction of producer epoch ${producerEpoch} is over: it was ended, its time ran out, or somebody else uses transactional id ${id}`;
    return refuse('PRODUCER_FENCED', message);
  }
  if (known.producerEpoch < producerEpoch) {
    const message = `producer epoch ${producerEpoch} was never given to transactional id ${id}: it is ${known.producerEpoch}`;
    return refuse('INVALID_PRODUCER_EPOCH', message);
  }
  return null;
}
