/** Topics, records and the cluster as Kafka's admin clients ask for them, frame by frame. */
import { SeededRandom, VirtualClock } from '@naru/testkit';
import { kafkaApis, kafkaErrorNameOf, NO_TOPIC_ID as NO_ID } from '@naru/protocol/kafka';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { isRefusal } from '../../../runtime/commands.ts';
import { AdminScenario, CLUSTER_ID, creatable } from './admin-scenario.ts';
import { MAX_NEW_PARTITIONS } from './create-topics.ts';

let admin: AdminScenario;

beforeEach(async () => {
  admin = await AdminScenario.start(new VirtualClock(), new SeededRandom(1));
});

afterEach(() => admin.close());

const nameOf = ({ errorCode }: { readonly errorCode: number }) => kafkaErrorNameOf(errorCode);
const versionsOf = (name: 'createTopics' | 'deleteTopics' | 'createPartitions' | 'deleteRecords'): number[] => {
  const [first, last] = kafkaApis[name].served;
  return Array.from({ length: last - first + 1 }, (_, index) => first + index);
};

function partitionCountOf(name: string): number | null {
  const topic = admin.topics.find(name);
  return isRefusal(topic) ? null : topic.partitionCount;
}

describe('CreateTopics', () => {
  it.each(versionsOf('createTopics'))(
    'creates a topic, and says what it is like since version 5 (v%i)',
    async (version) => {
      const configs = { 'retention.ms': '86400000', 'min.insync.replicas': '1' };
      const wanted = creatable('orders', { numPartitions: 4, replicationFactor: 1, configs });
      const { topics } = await admin.ask('createTopics', { topics: [wanted] }, version);
      expect(topics).toHaveLength(1);
      expect(topics[0]).toMatchObject({ name: 'orders', errorCode: 0, errorMessage: null });
      expect(partitionCountOf('orders')).toBe(4);
      if (version < 5) return;
      expect(topics[0]).toMatchObject({ numPartitions: 4, replicationFactor: 1, topicConfigErrorCode: 0 });
      const shown = topics[0]?.configs?.find(({ name }) => name === 'retention.ms');
      expect(shown).toMatchObject({ value: '86400000', configSource: 1, readOnly: false, isSensitive: false });
    },
  );

  it('uses the broker’s number of partitions, or that of the assignment', async () => {
    const assignments = [1, 0].map((partitionIndex) => ({ partitionIndex, brokerIds: [1] }));
    const { topics } = await admin.ask('createTopics', {
      topics: [creatable('by-default'), creatable('assigned', { assignments })],
    });
    expect(topics.map(({ errorCode, numPartitions }) => [errorCode, numPartitions])).toEqual([
      [0, 3],
      [0, 2],
    ]);
    expect([partitionCountOf('by-default'), partitionCountOf('assigned')]).toEqual([3, 2]);
  });

  it.each([
    ['INVALID_REPLICATION_FACTOR', creatable('x', { replicationFactor: 3 })],
    ['INVALID_REPLICATION_FACTOR', creatable('x', { replicationFactor: 0 })],
    ['INVALID_PARTITIONS', creatable('x', { numPartitions: 0 })],
    ['INVALID_TOPIC_EXCEPTION', creatable('no spaces')],
    ['INVALID_TOPIC_EXCEPTION', creatable('__mine')],
    ['INVALID_CONFIG', creatable('x', { configs: { 'retention.ms': 'soon' } })],
    ['INVALID_CONFIG', creatable('x', { configs: { 'no.such.setting': '1' } })],
    ['INVALID_CONFIG', creatable('x', { configs: { 'retention.ms': null } })],
    ['INVALID_CONFIG', creatable('x', { configs: { 'min.insync.replicas': '2' } })],
    ['INVALID_REQUEST', creatable('x', { numPartitions: 1, assignments: [{ partitionIndex: 0, brokerIds: [1] }] })],
    ['INVALID_REPLICA_ASSIGNMENT', creatable('x', { assignments: [{ partitionIndex: 1, brokerIds: [1] }] })],
    ['INVALID_REPLICA_ASSIGNMENT', creatable('x', { assignments: [{ partitionIndex: 0, brokerIds: [1, 2] }] })],
    ['INVALID_REPLICA_ASSIGNMENT', creatable('x', { assignments: [{ partitionIndex: 0, brokerIds: [] }] })],
    ['POLICY_VIOLATION', creatable('x', { numPartitions: MAX_NEW_PARTITIONS + 1 })],
  ])('refuses with %s, and creates nothing: %j', async (code, topic) => {
    const { topics } = await admin.ask('createTopics', { topics: [topic] });
    expect(topics.map(nameOf)).toEqual([code]);
    expect(topics[0]?.errorMessage).not.toBeNull();
    expect(admin.topics.list(false)).toEqual([]);
  });

  it('creates nothing when it only validates, and tells then as well what exists', async () => {
    const validated = await admin.ask('createTopics', { topics: [creatable('orders')], validateOnly: true });
    expect(validated.topics[0]).toMatchObject({ errorCode: 0, numPartitions: 3 });
    expect(partitionCountOf('orders')).toBeNull();
    await admin.create('orders');
    for (const validateOnly of [true, false]) {
      const { topics } = await admin.ask('createTopics', { topics: [creatable('orders')], validateOnly });
      expect(topics.map(nameOf)).toEqual(['TOPIC_ALREADY_EXISTS']);
    }
  });

  it('creates each topic for itself, and none that the request names twice', async () => {
    const topics = [creatable('good'), creatable('twice'), creatable('bad name'), creatable('twice')];
    const answer = await admin.ask('createTopics', { topics });
    expect(new Map(answer.topics.map((topic) => [topic.name, nameOf(topic)]))).toEqual(
      new Map([
        ['good', 'NONE'],
        ['twice', 'INVALID_REQUEST'],
        ['bad name', 'INVALID_TOPIC_EXCEPTION'],
      ]),
    );
    expect(admin.topics.list(false).map(({ name }) => name)).toEqual(['good']);
  });

  it('makes a topic once when several ask at the same time', async () => {
    const answers = await Promise.all(
      Array.from({ length: 5 }, () => admin.ask('createTopics', { topics: [creatable('orders')] })),
    );
    const names = answers.flatMap(({ topics }) => topics.map(nameOf));
    // In the order in which they asked.
    expect(names).toEqual(['NONE', ...Array.from({ length: 4 }, () => 'TOPIC_ALREADY_EXISTS')]);
  });
});

describe('DeleteTopics', () => {
  it.each(versionsOf('deleteTopics'))('deletes by name (v%i)', async (version) => {
    await admin.create('orders');
    const names = ['orders', 'missing'];
    // Each version has one of the two lists, and leaves the other out.
    const topics = names.map((name) => ({ name, topicId: NO_ID }));
    const { responses } = await admin.ask('deleteTopics', { topics, topicNames: names, timeoutMs: 1 }, version);
    expect(responses.map(({ name, errorCode }) => [name, kafkaErrorNameOf(errorCode)])).toEqual([
      ['orders', 'NONE'],
      ['missing', 'UNKNOWN_TOPIC_OR_PARTITION'],
    ]);
    expect(partitionCountOf('orders')).toBeNull();
  });

  it('deletes by id, each topic once, and needs one of name and id', async () => {
    const topicId = (await admin.create('by-id'))?.topicId ?? NO_ID;
    await admin.create('kept');
    const { responses } = await admin.ask('deleteTopics', {
      topics: [
        { name: null, topicId },
        { name: null, topicId: '00000000-0000-4000-8000-000000000001' as typeof NO_ID },
        { name: 'kept', topicId },
        { name: null, topicId: NO_ID },
        { name: 'kept', topicId: NO_ID },
        { name: 'kept', topicId: NO_ID },
        { name: '__groups', topicId: NO_ID },
      ],
      timeoutMs: 1,
    });
    expect(responses.map(({ name, errorCode }) => [name, kafkaErrorNameOf(errorCode)])).toEqual([
      ['by-id', 'NONE'],
      [null, 'UNKNOWN_TOPIC_ID'],
      ['kept', 'INVALID_REQUEST'],
      [null, 'INVALID_REQUEST'],
      // Named twice, so answered once.
      ['kept', 'INVALID_REQUEST'],
      ['__groups', 'INVALID_TOPIC_EXCEPTION'],
    ]);
    expect(admin.topics.list(false).map(({ name }) => name)).toEqual(['kept']);
  });
});

describe('CreatePartitions', () => {
  const grow = async (name: string, count: number, more: { brokerIds?: number[][]; validateOnly?: boolean } = {}) => {
    const { brokerIds, validateOnly = false } = more;
    const assignments = brokerIds?.map((ids) => ({ brokerIds: ids })) ?? null;
    const { results } = await admin.ask('createPartitions', {
      topics: [{ name, count, assignments }],
      timeoutMs: 1,
      validateOnly,
    });
    return results[0] ?? { name, errorCode: 999, errorMessage: '' };
  };

  it.each(versionsOf('createPartitions'))(
    'adds partitions to a topic that a Kafka client made (v%i)',
    async (version) => {
      await admin.create('orders');
      const topics = [{ name: 'orders', count: 3, assignments: null }];
      const { results } = await admin.ask('createPartitions', { topics, timeoutMs: 1, validateOnly: false }, version);
      expect(results).toEqual([{ name: 'orders', errorCode: 0, errorMessage: null }]);
      expect(partitionCountOf('orders')).toBe(3);
      // They can be written.
      await admin.append('orders', 2, 1);
    },
  );

  it('keeps the order of a topic whose owner has not allowed to break it, and names what would', async () => {
    await admin.topics.create({
      name: 'strict',
      type: 'ordered',
      partitionCount: 1,
      config: { 'allow.key.reorder': 'false' },
    });
    const refusal = await grow('strict', 2);
    expect(nameOf(refusal)).toBe('POLICY_VIOLATION');
    expect(refusal.errorMessage).toContain('--allow-key-reorder');
    expect(refusal.errorMessage).toContain('allow.key.reorder=true');
    await admin.topics.changeConfig('strict', { 'allow.key.reorder': 'true' }, []);
    expect(nameOf(await grow('strict', 2))).toBe('NONE');
    expect(partitionCountOf('strict')).toBe(2);
  });

  it('refuses what Kafka refuses, and changes nothing when it only validates', async () => {
    await admin.create('orders', {}, 2);
    expect(nameOf(await grow('orders', 2))).toBe('INVALID_PARTITIONS');
    expect(nameOf(await grow('orders', 1))).toBe('INVALID_PARTITIONS');
    expect(nameOf(await grow('orders', 3, { brokerIds: [[2]] }))).toBe('INVALID_REPLICA_ASSIGNMENT');
    expect(nameOf(await grow('orders', 3, { brokerIds: [[1], [1]] }))).toBe('INVALID_REPLICA_ASSIGNMENT');
    expect(nameOf(await grow('missing', 3))).toBe('UNKNOWN_TOPIC_OR_PARTITION');
    expect(nameOf(await grow('__groups', 60))).toBe('INVALID_TOPIC_EXCEPTION');
    expect(nameOf(await grow('orders', MAX_NEW_PARTITIONS + 3))).toBe('POLICY_VIOLATION');
    expect(nameOf(await grow('orders', 3, { validateOnly: true }))).toBe('NONE');
    expect(partitionCountOf('orders')).toBe(2);
    expect(nameOf(await grow('orders', 4, { brokerIds: [[1], [1]] }))).toBe('NONE');
    expect(partitionCountOf('orders')).toBe(4);
  });
});

describe('DeleteRecords', () => {
  it.each(versionsOf('deleteRecords'))('moves log starts up, each partition for itself (v%i)', async (version) => {
    await admin.create('orders', {}, 2);
    await admin.append('orders', 0, 5);
    await admin.append('orders', 1, 2);
    const partitions = [
      { partitionIndex: 0, offset: 3 },
      { partitionIndex: 1, offset: -1 },
      { partitionIndex: 2, offset: 0 },
      { partitionIndex: 0, offset: 6 },
      { partitionIndex: 0, offset: -2 },
      { partitionIndex: 0, offset: 1 },
    ];
    const topics = [
      { name: 'orders', partitions },
      { name: 'missing', partitions: [{ partitionIndex: 0, offset: 0 }] },
      { name: '__groups', partitions: [{ partitionIndex: 0, offset: 0 }] },
    ];
    const answer = await admin.ask('deleteRecords', { topics, timeoutMs: 1 }, version);
    const shown = answer.topics.map(({ partitions: found }) =>
      found.map(({ errorCode, lowWatermark }) => [kafkaErrorNameOf(errorCode), lowWatermark]),
    );
    expect(shown).toEqual([
      [
        ['NONE', 3],
        ['NONE', 2],
        ['UNKNOWN_TOPIC_OR_PARTITION', -1],
        ['OFFSET_OUT_OF_RANGE', -1],
        ['OFFSET_OUT_OF_RANGE', -1],
        ['NONE', 3],
      ],
      [['UNKNOWN_TOPIC_OR_PARTITION', -1]],
      [['INVALID_TOPIC_EXCEPTION', -1]],
    ]);
  });

  it('leaves a topic alone that is only compacted', async () => {
    await admin.create('state', { 'cleanup.policy': 'compact' });
    await admin.create('both', { 'cleanup.policy': 'compact,delete' });
    const topics = ['state', 'both'].map((name) => ({ name, partitions: [{ partitionIndex: 0, offset: -1 }] }));
    const answer = await admin.ask('deleteRecords', { topics, timeoutMs: 1 });
    expect(answer.topics.flatMap(({ partitions }) => partitions.map(nameOf))).toEqual(['POLICY_VIOLATION', 'NONE']);
  });
});

describe('DescribeCluster', () => {
  it.each([0, 1])('shows one node, which is the controller (v%i)', async (version) => {
    const answer = await admin.ask('describeCluster', { includeClusterAuthorizedOperations: false }, version);
    expect(answer).toMatchObject({
      errorCode: 0,
      clusterId: CLUSTER_ID,
      controllerId: 1,
      brokers: [{ brokerId: 1, host: 'broker.example', port: 9092, rack: null }],
      clusterAuthorizedOperations: -2_147_483_648,
    });
  });

  it('answers for brokers only, and says what may be done when asked', async () => {
    const asked = { includeClusterAuthorizedOperations: true };
    expect((await admin.ask('describeCluster', asked)).clusterAuthorizedOperations).toBe(8_096);
    const controllers = await admin.ask('describeCluster', { ...asked, endpointType: 2 });
    expect([nameOf(controllers), controllers.brokers]).toEqual(['MISMATCHED_ENDPOINT_TYPE', []]);
    expect(nameOf(await admin.ask('describeCluster', { ...asked, endpointType: 9 }))).toBe('UNSUPPORTED_ENDPOINT_TYPE');
  });
});

describe('DescribeTopicPartitions', () => {
  type Cursor = { readonly topicName: string; readonly partitionIndex: number } | null;
  const page = (topics: readonly string[], responsePartitionLimit: number, cursor: Cursor = null) =>
    admin.ask('describeTopicPartitions', { topics: topics.map((name) => ({ name })), responsePartitionLimit, cursor });

  it.each([1, 2, 3, 5, 100])('gives every partition once, in order, in pages of %i', async (limit) => {
    for (const [name, partitions] of [
      ['b', 3],
      ['a', 2],
      ['c', 4],
    ] as const)
      await admin.create(name, {}, partitions);
    const found: string[] = [];
    let cursor: Cursor = null;
    let pages = 0;
    do {
      const { topics, nextCursor } = await page(['c', 'a', 'missing', 'b'], limit, cursor);
      const partitions = topics.flatMap((topic) =>
        topic.partitions.map(({ partitionIndex }) => `${topic.name}${partitionIndex}`),
      );
      expect(partitions.length).toBeLessThanOrEqual(limit);
      found.push(...partitions, ...topics.filter(({ errorCode }) => errorCode === 3).map(({ name }) => `no ${name}`));
      cursor = nextCursor;
      pages += 1;
    } while (cursor !== null && pages < 20);
    expect(found).toEqual(['a0', 'a1', 'b0', 'b1', 'b2', 'c0', 'c1', 'c2', 'c3', 'no missing']);
  });

  it('lists all topics without names, and goes on where a topic has gone meanwhile', async () => {
    await admin.create('orders', {}, 2);
    const all = await page([], 2_000);
    expect(all.topics.map(({ name, isInternal }) => [name, isInternal])).toEqual([
      ['__groups', true],
      ['orders', false],
    ]);
    expect(all.topics[1]).toMatchObject({ topicAuthorizedOperations: 3_576, errorCode: 0 });
    expect(all.topics[1]?.partitions[1]).toMatchObject({
      partitionIndex: 1,
      leaderId: 1,
      leaderEpoch: 0,
      isrNodes: [1],
    });
    const later = await page([], 2_000, { topicName: 'gone', partitionIndex: 5 });
    expect(later.topics.map(({ name, partitions }) => [name, partitions.length])).toEqual([['orders', 2]]);
  });

  it('refuses a cursor that makes no sense', async () => {
    for (const cursor of [
      { topicName: 'other', partitionIndex: 0 },
      { topicName: 'orders', partitionIndex: -1 },
    ]) {
      expect((await page(['orders'], 10, cursor)).topics.map(nameOf)).toEqual(['INVALID_REQUEST']);
    }
  });
});
