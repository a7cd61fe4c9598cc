/** What transactional requests ask of a shard, and what its answers are called in each version; the shard is the test's. */
import { partitionKey } from '@naru/base';
import { refuse, type ErrorCode } from '@naru/protocol';
import { encodeBatch } from '@naru/protocol/batch';
import {
  decodeResponse,
  encodeRequest,
  kafkaApis,
  kafkaErrorNameOf,
  type KafkaApiName,
  type KafkaRequestInput,
  type KafkaResponseOutput,
} from '@naru/protocol/kafka';
import { VirtualClock } from '@naru/testkit';
import { beforeEach, describe, expect, it } from 'vitest';
import { topicMetadataKey, TopicRegistry } from '../../../core/registry/topic-registry.ts';
import type { Command, ShardClient } from '../../../runtime/commands.ts';
import { ORDERS, sampleTopic } from '../../../runtime/shard-scenario.ts';
import type { ProducerIds } from '../../../service/producer-ids.ts';
import type { TopicService } from '../../../service/topics.ts';
import { RequestAnswerer } from '../request-answerer.ts';
import { produceHandlers } from './produce.ts';
import { transactionHandlers } from './transaction-handlers.ts';

const FRESH_ID = 7_000;
const SIZE_BYTES = 4;
const PAYMENTS = sampleTopic('payments', 2);
const topics = [ORDERS, PAYMENTS];
const transaction = { transactionalId: 'tx', producerId: 12, producerEpoch: 3 };

let clock: VirtualClock;
/** What the shard was asked. */
let asked: Command[];
/** What it answers. */
let reply: unknown;

beforeEach(() => {
  clock = new VirtualClock();
  asked = [];
  reply = null;
});

const shard: ShardClient = {
  submit(command) {
    asked.push(command);
    return Promise.resolve(reply as never);
  },
};

/** The answer, by way of frames. */
async function ask<N extends KafkaApiName>(
  name: N,
  version: number,
  body: KafkaRequestInput<N>,
): Promise<KafkaResponseOutput<N>> {
  const registry = new TopicRegistry();
  for (const topic of topics) registry.apply({ key: topicMetadataKey(topic.name), topic });
  const find = (topic: string) =>
    topics.find((one) => one.name === topic) ?? refuse('UNKNOWN_TOPIC_OR_PARTITION', 'there is no such topic');
  const services = {
    shard,
    topics: { find } as unknown as TopicService,
    registry,
    producerIds: { next: () => Promise.resolve(FRESH_ID) } as unknown as ProducerIds,
    clock,
    timers: clock,
  };
  const answerer = new RequestAnswerer({ ...transactionHandlers(services), ...produceHandlers(services) });
  const api = kafkaApis[name];
  const frame = Buffer.concat(encodeRequest(api, version, { correlationId: 5, clientId: '' }, body as never));
  const call = {
    clientHost: '192.0.2.1',
    advertised: { host: 'broker.test', port: 9092 },
    signal: new AbortController().signal,
  };
  const answer = await answerer.answer(RequestAnswerer.read(frame.subarray(SIZE_BYTES)), call);
  const bytes = Buffer.concat(answer ?? []).subarray(SIZE_BYTES);
  return decodeResponse(api, version, bytes).body as unknown as KafkaResponseOutput<N>;
}

const refusing = (code: ErrorCode): void => void (reply = refuse(code, 'because the test says so'));

describe('InitProducerId', () => {
  const init = { transactionalId: 'tx', transactionTimeoutMs: 60_000 };

  it('gives a transactional id its identity, and asks for the one that the producer has', async () => {
    reply = { producerId: 12, producerEpoch: 4 };
    expect(await ask('initProducerId', 5, init)).toMatchObject({ errorCode: 0, producerId: 12, producerEpoch: 4 });
    await ask('initProducerId', 3, { ...init, producerId: 12, producerEpoch: 3 });
    const command = { type: 'init', transactionalId: 'tx', timeoutMs: 60_000, freshProducerId: FRESH_ID };
    expect(asked).toEqual([
      { type: 'transaction', command: { ...command, expected: null } },
      { type: 'transaction', command: { ...command, expected: { producerId: 12, producerEpoch: 3 } } },
    ]);
  });

  it('refuses what is half said, an empty id, and no time at all, and leaves too much time to the shard', async () => {
    const error = async (changes: Partial<KafkaRequestInput<'initProducerId'>>) =>
      kafkaErrorNameOf((await ask('initProducerId', 4, { ...init, ...changes })).errorCode);
    expect(await error({ producerId: 12 })).toBe('INVALID_REQUEST');
    expect(await error({ producerEpoch: 3 })).toBe('INVALID_REQUEST');
    expect(await error({ transactionalId: '' })).toBe('INVALID_REQUEST');
    expect(await error({ transactionTimeoutMs: 0 })).toBe('INVALID_TRANSACTION_TIMEOUT');
    expect(await error({ transactionTimeoutMs: -1 })).toBe('INVALID_TRANSACTION_TIMEOUT');
    expect(asked).toEqual([]);
    refusing('INVALID_TRANSACTION_TIMEOUT');
    expect(await error({ transactionTimeoutMs: 2_000_000 })).toBe('INVALID_TRANSACTION_TIMEOUT');
  });

  it('asks the shard nothing for a producer without transactions', async () => {
    const answer = await ask('initProducerId', 5, { ...init, transactionalId: null });
    expect(answer).toMatchObject({ errorCode: 0, producerId: FRESH_ID, producerEpoch: 0 });
    expect(asked).toEqual([]);
  });
});

describe('AddPartitionsToTxn', () => {
  const request = (...named: [string, number[]][]): KafkaRequestInput<'addPartitionsToTxn'> => ({
    v3AndBelowTransactionalId: 'tx',
    v3AndBelowProducerId: 12,
    v3AndBelowProducerEpoch: 3,
    v3AndBelowTopics: named.map(([name, partitions]) => ({ name, partitions })),
  });
  const results = async (version: number, body: KafkaRequestInput<'addPartitionsToTxn'>) =>
    (await ask('addPartitionsToTxn', version, body)).resultsByTopicV3AndBelow.flatMap(({ name, resultsByPartition }) =>
      resultsByPartition.map(({ partitionIndex, partitionErrorCode }) => {
        return `${name}/${partitionIndex} ${kafkaErrorNameOf(partitionErrorCode)}`;
      }),
    );

  it('adds all partitions at once, each once', async () => {
    const named = request(['orders', [0, 1, 0]], ['payments', [1]]);
    expect(await results(3, named)).toEqual(['orders/0 NONE', 'orders/1 NONE', 'orders/0 NONE', 'payments/1 NONE']);
    const partitions = [partitionKey(ORDERS.id, 0), partitionKey(ORDERS.id, 1), partitionKey(PAYMENTS.id, 1)];
    expect(asked).toEqual([{ type: 'transaction', command: { type: 'add-partitions', ...transaction, partitions } }]);
  });

  it('adds none when one does not exist, and says of which that is so', async () => {
    expect(await results(1, request(['orders', [0, 99]], ['nowhere', [0]], ['payments', [0]]))).toEqual([
      'orders/0 OPERATION_NOT_ATTEMPTED',
      'orders/99 UNKNOWN_TOPIC_OR_PARTITION',
      'nowhere/0 UNKNOWN_TOPIC_OR_PARTITION',
      'payments/0 OPERATION_NOT_ATTEMPTED',
    ]);
    expect(asked).toEqual([]);
  });

  it('says the same of all that the shard refuses', async () => {
    refusing('INVALID_PRODUCER_ID_MAPPING');
    const named = request(['orders', [0]], ['payments', [1]]);
    expect(await results(0, named)).toEqual([
      'orders/0 INVALID_PRODUCER_ID_MAPPING',
      'payments/1 INVALID_PRODUCER_ID_MAPPING',
    ]);
  });
});

describe('AddOffsetsToTxn', () => {
  it('adds the group, if it may be called so', async () => {
    expect(await ask('addOffsetsToTxn', 4, { ...transaction, groupId: 'billing' })).toMatchObject({ errorCode: 0 });
    expect(asked).toEqual([
      { type: 'transaction', command: { type: 'add-group', ...transaction, groupId: 'billing' } },
    ]);
    const { errorCode } = await ask('addOffsetsToTxn', 0, { ...transaction, groupId: '' });
    expect(kafkaErrorNameOf(errorCode)).toBe('INVALID_GROUP_ID');
  });
});

describe('EndTxn', () => {
  it.each([
    { version: 0, flow: 1 },
    { version: 4, flow: 1 },
    { version: 5, flow: 2 },
  ])('of version $version ends a transaction of flow $flow', async ({ version, flow }) => {
    reply = { next: { producerId: 12, producerEpoch: 4 }, results: [] };
    const answer = await ask('endTxn', version, { ...transaction, committed: false });
    const next = flow === 2 ? { producerId: 12, producerEpoch: 4 } : { producerId: -1, producerEpoch: -1 };
    expect(answer).toMatchObject({ errorCode: 0, ...next });
    const rest = { flow, commit: false, freshProducerId: FRESH_ID, groupCommit: null };
    expect(asked).toEqual([{ type: 'end-transaction', transaction, ...rest }]);
  });
});

describe('TxnOffsetCommit', () => {
  const offset = (partitionIndex: number, committedOffset: number, committedMetadata: string | null = null) => {
    return { partitionIndex, committedOffset, committedMetadata };
  };
  const request = {
    ...transaction,
    groupId: 'billing',
    topics: [
      { name: 'orders', partitions: [offset(0, 5, 'note'), offset(99, 1), offset(0, 6), offset(1, 7)] },
      { name: 'nowhere', partitions: [offset(0, 1)] },
    ],
  };
  const codes = async (version: number, changes: Partial<KafkaRequestInput<'txnOffsetCommit'>> = {}) => {
    const { topics: answered } = await ask('txnOffsetCommit', version, { ...request, ...changes });
    return answered.flatMap(({ partitions }) => partitions.map(({ errorCode }) => kafkaErrorNameOf(errorCode)));
  };

  it.each([
    { version: 4, flow: 1 },
    { version: 5, flow: 2 },
  ])('of version $version keeps offsets for the end of a transaction of flow $flow', async ({ version, flow }) => {
    const [first, second] = [partitionKey(ORDERS.id, 0), partitionKey(ORDERS.id, 1)];
    const refused = refuse('OFFSET_METADATA_TOO_LARGE', 'too large');
    reply = {
      results: [
        { partition: first, refusal: null },
        { partition: second, refusal: refused },
      ],
    };
    const member = { memberId: 'm-1', generationId: 4, groupInstanceId: 'host-1' };
    const unknown = 'UNKNOWN_TOPIC_OR_PARTITION';
    expect(await codes(version, member)).toEqual(['NONE', unknown, 'NONE', 'OFFSET_METADATA_TOO_LARGE', unknown]);
    expect(asked).toMatchObject([
      {
        type: 'commit-in-transaction',
        transaction,
        flow,
        groupId: 'billing',
        memberId: 'm-1',
        memberEpoch: 4,
        instanceId: 'host-1',
        offsets: [
          { partition: first, offset: 6, metadata: '', mayExceedEnd: true },
          { partition: second, offset: 7 },
        ],
      },
    ]);
  });

  it('names no member in versions that cannot, and has generations for members of either protocol', async () => {
    refusing('STALE_MEMBER_EPOCH');
    expect(await codes(2, { topics: [{ name: 'orders', partitions: [offset(0, 1)] }] })).toEqual([
      'ILLEGAL_GENERATION',
    ]);
    expect(asked).toMatchObject([{ memberId: '', memberEpoch: -1, instanceId: null, flow: 1 }]);
    asked = [];
    const topic = { topics: [{ name: 'orders', partitions: [offset(0, 1)] }] };
    expect(await codes(3, { ...topic, generationId: 4, memberId: '' })).toEqual(['UNKNOWN_MEMBER_ID']);
    expect(await codes(3, { ...topic, groupId: '' })).toEqual(['INVALID_GROUP_ID']);
    expect(asked).toEqual([]);
  });
});

describe('a producer that is fenced or has to abort', () => {
  const topic = { name: 'orders', partitions: [{ partitionIndex: 0, committedOffset: 1, committedMetadata: null }] };
  const calls: Partial<Record<KafkaApiName, (version: number) => Promise<number | undefined>>> = {
    initProducerId: async (version) =>
      (await ask('initProducerId', version, { transactionalId: 'tx', transactionTimeoutMs: 1 })).errorCode,
    addPartitionsToTxn: async (version) => {
      const answer = await ask('addPartitionsToTxn', version, {
        v3AndBelowTransactionalId: 'tx',
        v3AndBelowProducerId: 12,
        v3AndBelowProducerEpoch: 3,
        v3AndBelowTopics: [{ name: 'orders', partitions: [0] }],
      });
      return answer.resultsByTopicV3AndBelow[0]?.resultsByPartition[0]?.partitionErrorCode;
    },
    addOffsetsToTxn: async (version) =>
      (await ask('addOffsetsToTxn', version, { ...transaction, groupId: 'g' })).errorCode,
    endTxn: async (version) => (await ask('endTxn', version, { ...transaction, committed: true })).errorCode,
    txnOffsetCommit: async (version) => {
      const answer = await ask('txnOffsetCommit', version, { ...transaction, groupId: 'g', topics: [topic] });
      return answer.topics[0]?.partitions[0]?.errorCode;
    },
    produce: async (version) => {
      const answer = await ask('produce', version, produceRequest('tx', true));
      return answer.responses[0]?.partitionResponses[0]?.errorCode;
    },
  };

  it.each([
    ['PRODUCER_FENCED', 'initProducerId', 3, 'INVALID_PRODUCER_EPOCH'],
    ['PRODUCER_FENCED', 'initProducerId', 4, 'PRODUCER_FENCED'],
    ['PRODUCER_FENCED', 'addPartitionsToTxn', 1, 'INVALID_PRODUCER_EPOCH'],
    ['PRODUCER_FENCED', 'addPartitionsToTxn', 2, 'PRODUCER_FENCED'],
    ['PRODUCER_FENCED', 'addOffsetsToTxn', 1, 'INVALID_PRODUCER_EPOCH'],
    ['PRODUCER_FENCED', 'addOffsetsToTxn', 2, 'PRODUCER_FENCED'],
    ['PRODUCER_FENCED', 'endTxn', 1, 'INVALID_PRODUCER_EPOCH'],
    ['PRODUCER_FENCED', 'endTxn', 2, 'PRODUCER_FENCED'],
    ['PRODUCER_FENCED', 'txnOffsetCommit', 5, 'INVALID_PRODUCER_EPOCH'],
    ['PRODUCER_FENCED', 'produce', 12, 'INVALID_PRODUCER_EPOCH'],
    ['TRANSACTION_ABORTABLE', 'endTxn', 3, 'INVALID_TXN_STATE'],
    ['TRANSACTION_ABORTABLE', 'endTxn', 4, 'TRANSACTION_ABORTABLE'],
    ['TRANSACTION_TOO_LARGE', 'endTxn', 5, 'TRANSACTION_ABORTABLE'],
    ['TRANSACTION_TOO_LARGE', 'addPartitionsToTxn', 3, 'INVALID_TXN_STATE'],
    ['TRANSACTION_ABORTABLE', 'addOffsetsToTxn', 4, 'TRANSACTION_ABORTABLE'],
    ['TRANSACTION_ABORTABLE', 'txnOffsetCommit', 3, 'INVALID_TXN_STATE'],
    ['TRANSACTION_ABORTABLE', 'txnOffsetCommit', 4, 'TRANSACTION_ABORTABLE'],
    ['INVALID_TXN_STATE', 'produce', 10, 'INVALID_TXN_STATE'],
    ['INVALID_TXN_STATE', 'produce', 11, 'TRANSACTION_ABORTABLE'],
    ['INVALID_TXN_STATE', 'endTxn', 5, 'INVALID_TXN_STATE'],
    ['OVERLOADED', 'endTxn', 5, 'NOT_COORDINATOR'],
    ['TOO_MANY_TRANSACTIONS', 'produce', 12, 'NOT_ENOUGH_REPLICAS'],
  ] as const)('%s is, to %s v%i, %s', async (code, name, version, expected) => {
    refusing(code);
    expect(kafkaErrorNameOf((await calls[name]?.(version)) ?? 0)).toBe(expected);
  });
});

describe('Produce', () => {
  it.each([
    { version: 11, flow: 1 },
    { version: 12, flow: 2 },
  ])('of version $version writes in flow $flow', async ({ version, flow }) => {
    reply = { baseOffset: 40, duplicate: false, logStartOffset: 0 };
    const { responses } = await ask('produce', version, produceRequest('tx', true));
    expect(responses[0]?.partitionResponses).toMatchObject([{ errorCode: 0, baseOffset: 40 }]);
    expect(asked).toMatchObject([{ type: 'append', partition: partitionKey(ORDERS.id, 0), flow }]);
  });

  it('takes no transactional batch of a request that does not say whose it is', async () => {
    const { responses } = await ask('produce', 12, produceRequest(null, true));
    expect(kafkaErrorNameOf(responses[0]?.partitionResponses[0]?.errorCode ?? 0)).toBe('INVALID_REQUEST');
    expect(asked).toEqual([]);
    reply = { baseOffset: 40, duplicate: false, logStartOffset: 0 };
    await ask('produce', 12, produceRequest(null, false));
    expect(asked.length).toBe(1);
  });
});

function produceRequest(transactionalId: string | null, isTransactional: boolean): KafkaRequestInput<'produce'> {
  const records = encodeBatch([{ key: null, value: Buffer.from('v'), timestampMs: 1_000 }], {
    producerId: 12,
    producerEpoch: 3,
    baseSequence: 0,
    isTransactional,
  });
  const topicData = [{ name: 'orders', partitionData: [{ index: 0, records }] }];
  return { transactionalId, acks: -1, timeoutMs: 1_000, topicData };
}

describe('what operators ask', () => {
  it('DescribeProducers says who writes, and of partitions that are missing that they are', async () => {
    const partition = partitionKey(ORDERS.id, 1);
    const producer = { producerId: 12, producerEpoch: 3, lastSequence: 9, lastTimestampMs: 1_000, nextSequence: 10 };
    const quiet = { ...producer, producerId: 13, lastSequence: -1, nextSequence: 0, transactionStartOffset: null };
    reply = [{ partition, producers: [{ ...producer, transactionStartOffset: 40 }, quiet] }];
    const asks = { topics: [{ name: 'orders', partitionIndexes: [1, 99] }] };
    const answer = await ask('describeProducers', 0, asks);
    expect(asked).toEqual([{ type: 'describe-producers', partitions: [partition] }]);
    const shown = {
      producerId: 12,
      producerEpoch: 3,
      lastSequence: 9,
      lastTimestamp: 1_000,
      currentTxnStartOffset: 40,
    };
    expect(answer.topics).toMatchObject([
      {
        name: 'orders',
        partitions: [
          {
            partitionIndex: 1,
            errorCode: 0,
            activeProducers: [shown, { producerId: 13, lastSequence: -1, currentTxnStartOffset: -1 }],
          },
          { partitionIndex: 99, errorCode: 3, activeProducers: [] },
        ],
      },
    ]);
  });

  it('DescribeTransactions says what an id has open, and which ids there are not', async () => {
    reply = {
      ...transaction,
      status: 'ongoing',
      timeoutMs: 60_000,
      startedAtMs: 5_000,
      updatedAtMs: 6_000,
      partitionCount: 2,
      partitions: [
        { partition: partitionKey(ORDERS.id, 1), firstOffset: 40 },
        { partition: partitionKey(ORDERS.id, 0), firstOffset: null },
      ],
      groups: [],
    };
    const { transactionStates } = await ask('describeTransactions', 0, { transactionalIds: ['tx'] });
    expect(transactionStates).toEqual([
      {
        errorCode: 0,
        ...transaction,
        transactionState: 'Ongoing',
        transactionTimeoutMs: 60_000,
        transactionStartTimeMs: 5_000,
        topics: [{ topic: 'orders', partitions: [1, 0] }],
      },
    ]);
    refusing('TRANSACTIONAL_ID_NOT_FOUND');
    const missing = await ask('describeTransactions', 0, { transactionalIds: ['ty'] });
    expect(missing.transactionStates).toMatchObject([{ errorCode: 105, transactionalId: 'ty', topics: [] }]);
  });

  it('ListTransactions filters by state, producer, time and pattern, and names states that nobody knows', async () => {
    const listing = { ...transaction, timeoutMs: 60_000, updatedAtMs: 0, partitionCount: 1 };
    reply = [
      { ...listing, transactionalId: 'a-1', producerId: 1, status: 'ongoing', startedAtMs: clock.nowMs() - 5_000 },
      { ...listing, transactionalId: 'a-2', producerId: 2, status: 'ongoing', startedAtMs: clock.nowMs() - 1_000 },
      { ...listing, transactionalId: 'b-1', producerId: 3, status: 'committed', startedAtMs: null },
      { ...listing, transactionalId: 'b-2', producerId: 4, status: 'aborted', startedAtMs: null },
      { ...listing, transactionalId: 'c', producerId: 5, status: 'empty', startedAtMs: null },
    ];
    const all = { stateFilters: [], producerIdFilters: [] };
    const listed = async (filters: Partial<KafkaRequestInput<'listTransactions'>>) =>
      (await ask('listTransactions', 2, { ...all, ...filters })).transactionStates.map(
        ({ transactionalId, transactionState }) => `${transactionalId} ${transactionState}`,
      );
    const everything = ['a-1 Ongoing', 'a-2 Ongoing', 'b-1 CompleteCommit', 'b-2 CompleteAbort', 'c Empty'];
    expect(await listed({})).toEqual(everything);
    expect(await listed({ stateFilters: ['Ongoing', 'Empty'] })).toEqual(['a-1 Ongoing', 'a-2 Ongoing', 'c Empty']);
    expect(await listed({ producerIdFilters: [4, 1] })).toEqual(['a-1 Ongoing', 'b-2 CompleteAbort']);
    expect(await listed({ durationFilter: 1_000 })).toEqual(['a-1 Ongoing']);
    expect(await listed({ transactionalIdPattern: '.*-1' })).toEqual(['a-1 Ongoing', 'b-1 CompleteCommit']);
    expect(await listed({ transactionalIdPattern: '' })).toEqual(everything);
    const unknown = await ask('listTransactions', 0, { ...all, stateFilters: ['Dead', 'Undead'] });
    expect(unknown).toMatchObject({ errorCode: 0, unknownStateFilters: ['Undead'], transactionStates: [] });
    const wrong = await ask('listTransactions', 2, { ...all, transactionalIdPattern: '(a' });
    expect(kafkaErrorNameOf(wrong.errorCode)).toBe('INVALID_REGULAR_EXPRESSION');
  });
});
