/** Plain records that are part of a transaction: what sequences their batches get, and one call at a time. */
import { refuse } from '@naru/protocol';
import { readBatchHeader } from '@naru/protocol/batch';
import { VirtualClock } from '@naru/testkit';
import { beforeEach, expect, it } from 'vitest';
import type { TopicMetadata } from '../core/registry/topic-registry.ts';
import type { Command, ShardClient } from '../runtime/commands.ts';
import type { PartitionProducer } from '../runtime/transaction-commands.ts';
import { PublishService, type PlainRecord, type PlainResult } from './publish.ts';
import type { TopicService } from './topics.ts';

const TOPIC: TopicMetadata = {
  name: 'orders',
  id: '11111111-1111-4111-8111-111111111111' as TopicMetadata['id'],
  type: 'ordered',
  partitionCount: 2,
  config: {},
  createdAtMs: 0,
  state: 'active',
};
const REF = { transactionalId: 'shop', producerId: 7, producerEpoch: 3 };
const MAX_BATCH_BYTES = 1_000;

/** What the partitions know of the producer. */
let known: Partial<PartitionProducer>;
/** `partition: first sequence + records` of each batch. */
let stored: string[];
let service: PublishService;

beforeEach(() => {
  known = { producerId: 7, producerEpoch: 3, nextSequence: 5 };
  stored = [];
  const submit = (command: Command): Promise<unknown> => Promise.resolve(answerTo(command));
  service = new PublishService({
    topics: { find: () => TOPIC } as unknown as TopicService,
    shard: { submit } as unknown as ShardClient,
    clock: new VirtualClock(),
    maxBatchBytes: MAX_BATCH_BYTES,
  });
});

function answerTo(command: Command): unknown {
  if (command.type === 'describe-transaction') {
    return command.transactionalId === 'shop' ? REF : refuse('TRANSACTIONAL_ID_NOT_FOUND', 'unknown');
  }
  if (command.type === 'describe-producers') {
    // In another order than they were asked for.
    return command.partitions.map((partition) => ({ partition, producers: [{ producerId: 6 }, known] })).reverse();
  }
  if (command.type !== 'append') throw new Error(`${command.type} was not expected`);
  const { producerId, producerEpoch, baseSequence, recordCount, isTransactional } = readBatchHeader(command.batch);
  expect({ producerId, producerEpoch, isTransactional }).toEqual({ ...IDENTITY, isTransactional: true });
  stored.push(`${command.partition.slice(-1)}: ${baseSequence}+${recordCount}`);
  return { baseOffset: 0, duplicate: false, logStartOffset: 0 };
}

const IDENTITY = { producerId: 7, producerEpoch: 3 };

function record(partition: number, bytes = 1): PlainRecord {
  return { key: null, value: new Uint8Array(bytes), headers: [], partition, timestampMs: 0 };
}

function codes(results: readonly PlainResult[]): string[] {
  return results.map((result) => ('code' in result ? result.code : 'stored'));
}

it('goes on with the sequence of each partition, over all batches of the call', async () => {
  const records = [record(1), ...Array.from({ length: 5 }, () => record(0, 400))];
  expect(codes((await service.publish('orders', records, REF)) as PlainResult[])).toEqual(records.map(() => 'stored'));
  expect(stored.sort()).toEqual(['0: 5+2', '0: 7+2', '0: 9+1', '1: 5+1']);
});

it('begins with 0 where the producer wrote nothing in this epoch, and again after the last sequence', async () => {
  known = { ...known, producerEpoch: 2 };
  await service.publish('orders', [record(0)], REF);
  known = { ...known, producerEpoch: 3, nextSequence: 2 ** 31 - 1 };
  await service.publish('orders', [record(0, 600), record(0, 600)], REF);
  expect(stored).toEqual(['0: 0+1', `0: ${2 ** 31 - 1}+1`, '0: 0+1']);
});

it('takes one call of a transaction at a time, and the next one afterwards', async () => {
  const [first, second] = await Promise.all([
    service.publish('orders', [record(0)], REF),
    service.publish('orders', [record(0)], REF),
  ]);
  expect(codes(first as PlainResult[])).toEqual(['stored']);
  expect(second).toMatchObject({ code: 'INVALID_TXN_STATE' });
  expect(stored).toEqual(['0: 5+1']);
  expect(codes((await service.publish('orders', [record(0)], REF)) as PlainResult[])).toEqual(['stored']);
});

it('tells each record why its transaction takes nothing, and of bad ones what is wrong with them', async () => {
  const records = [record(0), record(9), record(1)];
  const results = (await service.publish('orders', records, { ...REF, transactionalId: 'x' })) as PlainResult[];
  const unknown = 'TRANSACTIONAL_ID_NOT_FOUND';
  expect(codes(results)).toEqual([unknown, 'UNKNOWN_TOPIC_OR_PARTITION', unknown]);
  expect(stored).toEqual([]);
});
