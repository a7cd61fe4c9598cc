/**
 * The encoders and decoders of @platformatic/kafka against ours, for every API and version that both have: its requests are
 * ours byte for byte, and it reads our responses. They are reached inside its package, which does not export them.
 *
 * It speaks the flexible versions, which kafkajs does not.
 */
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { TopicId } from '@naru/base';
import { describe, expect, test } from 'vitest';
import { encodeBatch } from '../batch/batch-builder.ts';
import { decodeRecords } from '../batch/record-reader.ts';
import { kafkaApis } from './kafka-apis.ts';
import type { KafkaApiName, KafkaRequestInput } from './kafka-apis.ts';
import { decodeRequest, decodeRequestHeader, encodeRequest, encodeResponse } from './kafka-frames.ts';
import { OPERATIONS_NOT_ASKED } from './messages/authorized-operations.ts';
import { NO_TOPIC_ID } from './schema/field.ts';
import type { KafkaApi } from './schema/kafka-api.ts';
import { distinctValues, leavesOf } from './testing/distinct-values.ts';
import { sampleMessage } from './testing/sample-message.ts';

const root = path.dirname(fileURLToPath(import.meta.resolve('@platformatic/kafka')));
const { Reader } = (await import(path.join(root, 'protocol/reader.js'))) as {
  Reader: { from(bytes: Buffer): { readonly remaining: number } };
};

interface ApiModule {
  readonly createRequest: (...args: unknown[]) => { readonly buffer: Buffer };
  readonly parseResponse: (correlationId: number, apiKey: number, apiVersion: number, reader: unknown) => unknown;
}

const folders = ['metadata', 'producer', 'consumer', 'admin', 'security'];
const fileOf = (name: string, version: number): string | undefined =>
  folders
    .map((folder) =>
      path.join(root, 'apis', folder, `${name.replaceAll(/[A-Z]/g, (c) => `-${c.toLowerCase()}`)}-v${version}.js`),
    )
    .find((file) => fs.existsSync(file));

const topicId = '01234567-89ab-cdef-0123-456789abcdef' as TopicId;
const metadata = Buffer.from('some metadata');

interface Case {
  /** Arguments of its function for a version. */
  readonly theirs: (version: number) => unknown[];
  /** What ours takes, for all versions; each version takes of it what it has. */
  readonly ours: Record<string, unknown>;
}

/** Keeps the compiler's eye on our side. */
const same = <A extends KafkaApiName>(
  _: A,
  ours: KafkaRequestInput<A>,
  theirs: (version: number) => unknown[],
): Case => ({ theirs, ours });
const since = (first: number, version: number, ...values: unknown[]): unknown[] => (version >= first ? values : []);

const named = <T>(partition: (index: number) => T): { name: string; partitions: T[] }[] =>
  ['orders', 'bestellungen-ü'].map((name) => ({ name, partitions: [0, 7].map(partition) }));
const big = (value: number): bigint => BigInt(value);

const fetchTopics = [
  {
    topic: 'orders',
    topicId,
    partitions: [
      {
        partition: 3,
        currentLeaderEpoch: 2,
        fetchOffset: 5_000_000_000,
        lastFetchedEpoch: 1,
        partitionMaxBytes: 1_048_576,
      },
    ],
  },
];
const commits = named((partitionIndex) => ({
  partitionIndex,
  committedOffset: 77,
  committedLeaderEpoch: 2,
  committedMetadata: 'note',
}));
const bigCommits = commits.map(({ name, partitions }) => ({
  name,
  partitions: partitions.map((partition) => ({ ...partition, committedOffset: big(partition.committedOffset) })),
}));
const configs = [{ name: 'retention.ms', value: '5' }];
const fetched = [{ name: 'orders', partitionIndexes: [0, 7] }];

const cases: Partial<Record<KafkaApiName, Case>> = {
  apiVersions: same('apiVersions', { clientSoftwareName: 'naru-tests', clientSoftwareVersion: '1.0' }, () => [
    'naru-tests',
    '1.0',
  ]),
  metadata: same(
    'metadata',
    {
      topics: [{ name: 'orders', topicId: NO_TOPIC_ID }],
      allowAutoTopicCreation: true,
      includeTopicAuthorizedOperations: true,
    },
    () => [['orders'], true, true, false],
  ),
  fetch: same(
    'fetch',
    {
      maxWaitMs: 500,
      minBytes: 1,
      maxBytes: 10_000_000,
      isolationLevel: 1,
      sessionId: 9,
      sessionEpoch: 4,
      topics: fetchTopics,
      forgottenTopicsData: [{ topic: 'old', topicId, partitions: [1] }],
      rackId: 'rack',
    },
    (v) => [
      500,
      1,
      10_000_000,
      1,
      9,
      4,
      fetchTopics.map(({ partitions, topic, topicId }) => ({
        // Before version 13 it has the name there.
        topicId: v < 13 ? topic : topicId,
        partitions: partitions.map((p) => ({ ...p, fetchOffset: big(p.fetchOffset) })),
      })),
      [{ topic: v < 13 ? 'old' : topicId, partitions: [1] }],
      'rack',
    ],
  ),
  listOffsets: same(
    'listOffsets',
    {
      isolationLevel: 1,
      topics: named((p) => ({ partitionIndex: p, currentLeaderEpoch: 2, timestamp: 1_700_000_000_000 })),
    },
    () => [-1, 1, named((p) => ({ partitionIndex: p, currentLeaderEpoch: 2, timestamp: 1_700_000_000_000n }))],
  ),
  offsetForLeaderEpoch: same(
    'offsetForLeaderEpoch',
    {
      replicaId: -1,
      topics: named((p) => ({ partition: p, currentLeaderEpoch: 2, leaderEpoch: 1 })).map((t) => ({
        topic: t.name,
        partitions: t.partitions,
      })),
    },
    () => [-1, named((p) => ({ partitionIndex: p, currentLeaderEpoch: 2, leaderEpoch: 1 }))],
  ),
  findCoordinator: same(
    'findCoordinator',
    { key: 'billing', keyType: 1, coordinatorKeys: ['billing', 'shipping'] },
    () => [1, ['billing', 'shipping']],
  ),
  joinGroup: same(
    'joinGroup',
    {
      groupId: 'billing',
      sessionTimeoutMs: 45_000,
      rebalanceTimeoutMs: 60_000,
      memberId: 'm-1',
      groupInstanceId: 'host-1',
      protocolType: 'consumer',
      protocols: [{ name: 'roundrobin', metadata }],
      reason: 'because',
    },
    () => ['billing', 45_000, 60_000, 'm-1', 'host-1', 'consumer', [{ name: 'roundrobin', metadata }], 'because'],
  ),
  syncGroup: same(
    'syncGroup',
    {
      groupId: 'billing',
      generationId: 4,
      memberId: 'm-1',
      groupInstanceId: 'host-1',
      protocolType: 'consumer',
      protocolName: 'roundrobin',
      assignments: [{ memberId: 'm-1', assignment: metadata }],
    },
    () => ['billing', 4, 'm-1', 'host-1', 'consumer', 'roundrobin', [{ memberId: 'm-1', assignment: metadata }]],
  ),
  heartbeat: same(
    'heartbeat',
    { groupId: 'billing', generationId: 4, memberId: 'm-1', groupInstanceId: 'host-1' },
    () => ['billing', 4, 'm-1', 'host-1'],
  ),
  leaveGroup: same(
    'leaveGroup',
    {
      groupId: 'billing',
      memberId: 'm-1',
      members: [{ memberId: 'm-1', groupInstanceId: 'host-1', reason: 'done' }],
    },
    () => ['billing', [{ memberId: 'm-1', groupInstanceId: 'host-1', reason: 'done' }]],
  ),
  offsetCommit: same(
    'offsetCommit',
    { groupId: 'billing', generationIdOrMemberEpoch: 4, memberId: 'm-1', groupInstanceId: 'host-1', topics: commits },
    () => ['billing', 4, 'm-1', 'host-1', bigCommits],
  ),
  offsetFetch: same(
    'offsetFetch',
    {
      groupId: 'billing',
      topics: fetched,
      groups: [{ groupId: 'billing', memberId: 'm-1', memberEpoch: 4, topics: fetched }],
      requireStable: true,
    },
    () => [[{ groupId: 'billing', memberId: 'm-1', memberEpoch: 4, topics: fetched }], true],
  ),
  consumerGroupHeartbeat: same(
    'consumerGroupHeartbeat',
    {
      groupId: 'billing',
      memberId: 'm-1',
      memberEpoch: 3,
      instanceId: 'host-1',
      rackId: null,
      rebalanceTimeoutMs: 60_000,
      subscribedTopicNames: ['orders'],
      subscribedTopicRegex: 'ord.*',
      serverAssignor: 'uniform',
      topicPartitions: [{ topicId, partitions: [0, 7] }],
    },
    () => [
      'billing',
      'm-1',
      3,
      'host-1',
      null,
      60_000,
      ['orders'],
      'ord.*',
      'uniform',
      [{ topicId, partitions: [0, 7] }],
    ],
  ),
  consumerGroupDescribe: same(
    'consumerGroupDescribe',
    { groupIds: ['billing', 'shipping'], includeAuthorizedOperations: true },
    () => [['billing', 'shipping'], true],
  ),
  initProducerId: same(
    'initProducerId',
    { transactionalId: 'tx', transactionTimeoutMs: 60_000, producerId: 12_345_678_901, producerEpoch: 3 },
    (v) => ['tx', 60_000, ...since(3, v, 12_345_678_901n, 3)],
  ),
  addPartitionsToTxn: same(
    'addPartitionsToTxn',
    {
      v3AndBelowTransactionalId: 'tx',
      v3AndBelowProducerId: 12_345_678_901,
      v3AndBelowProducerEpoch: 3,
      v3AndBelowTopics: [{ name: 'orders', partitions: [0, 7] }],
    },
    () => [
      [
        {
          transactionalId: 'tx',
          producerId: 12_345_678_901n,
          producerEpoch: 3,
          topics: [{ name: 'orders', partitions: [0, 7] }],
        },
      ],
    ],
  ),
  addOffsetsToTxn: same(
    'addOffsetsToTxn',
    { transactionalId: 'tx', producerId: 12_345_678_901, producerEpoch: 3, groupId: 'billing' },
    () => ['tx', 12_345_678_901n, 3, 'billing'],
  ),
  endTxn: same(
    'endTxn',
    { transactionalId: 'tx', producerId: 12_345_678_901, producerEpoch: 3, committed: true },
    () => ['tx', 12_345_678_901n, 3, true],
  ),
  txnOffsetCommit: same(
    'txnOffsetCommit',
    {
      transactionalId: 'tx',
      groupId: 'billing',
      producerId: 12_345_678_901,
      producerEpoch: 3,
      generationId: 4,
      memberId: 'm-1',
      groupInstanceId: 'host-1',
      topics: commits,
    },
    () => ['tx', 'billing', 12_345_678_901n, 3, 4, 'm-1', 'host-1', bigCommits],
  ),
  createTopics: same(
    'createTopics',
    {
      topics: [
        {
          name: 'orders',
          numPartitions: 12,
          replicationFactor: 1,
          assignments: [{ partitionIndex: 0, brokerIds: [1] }],
          configs,
        },
      ],
      timeoutMs: 5000,
      validateOnly: true,
    },
    () => [
      [
        {
          name: 'orders',
          numPartitions: 12,
          replicationFactor: 1,
          assignments: [{ partitionIndex: 0, brokerIds: [1] }],
          configs,
        },
      ],
      5000,
      true,
    ],
  ),
  deleteTopics: same(
    'deleteTopics',
    { topics: [{ name: 'orders', topicId }], topicNames: ['orders'], timeoutMs: 5000 },
    (v) => [v < 6 ? [{ name: 'orders' }] : [{ name: 'orders', topicId }], 5000],
  ),
  deleteRecords: same(
    'deleteRecords',
    { topics: named((p) => ({ partitionIndex: p, offset: 99 })), timeoutMs: 5000 },
    () => [named((p) => ({ partitionIndex: p, offset: 99n })), 5000],
  ),
  createPartitions: same(
    'createPartitions',
    { topics: [{ name: 'orders', count: 9, assignments: [{ brokerIds: [1] }] }], timeoutMs: 5000, validateOnly: false },
    () => [[{ name: 'orders', count: 9, assignments: [{ brokerIds: [1] }] }], 5000, false],
  ),
  describeConfigs: same(
    'describeConfigs',
    {
      resources: [{ resourceType: 2, resourceName: 'orders', configurationKeys: ['retention.ms'] }],
      includeSynonyms: true,
      includeDocumentation: true,
    },
    () => [[{ resourceType: 2, resourceName: 'orders', configurationKeys: ['retention.ms'] }], true, true],
  ),
  alterConfigs: same(
    'alterConfigs',
    { resources: [{ resourceType: 2, resourceName: 'orders', configs }], validateOnly: true },
    () => [[{ resourceType: 2, resourceName: 'orders', configs }], true],
  ),
  incrementalAlterConfigs: same(
    'incrementalAlterConfigs',
    {
      resources: [
        {
          resourceType: 2,
          resourceName: 'orders',
          configs: [{ name: 'retention.ms', configOperation: 1, value: null }],
        },
      ],
      validateOnly: true,
    },
    () => [
      [
        {
          resourceType: 2,
          resourceName: 'orders',
          configs: [{ name: 'retention.ms', configOperation: 1, value: null }],
        },
      ],
      true,
    ],
  ),
  describeGroups: same('describeGroups', { groups: ['billing'], includeAuthorizedOperations: true }, () => [
    ['billing'],
    true,
  ]),
  listGroups: same('listGroups', { statesFilter: ['Stable'], typesFilter: ['classic'] }, (v) => [
    ['STABLE'],
    ...since(5, v, ['classic']),
  ]),
  deleteGroups: same('deleteGroups', { groupsNames: ['billing'] }, () => [['billing']]),
  offsetDelete: same('offsetDelete', { groupId: 'billing', topics: named((p) => ({ partitionIndex: p })) }, () => [
    'billing',
    named((p) => ({ partitionIndex: p })),
  ]),
  describeCluster: same('describeCluster', { includeClusterAuthorizedOperations: true, endpointType: 1 }, (v) => [
    true,
    ...since(1, v, 1),
  ]),
  describeProducers: same('describeProducers', { topics: [{ name: 'orders', partitionIndexes: [0, 7] }] }, () => [
    [{ name: 'orders', partitionIndexes: [0, 7] }],
  ]),
  describeTransactions: same('describeTransactions', { transactionalIds: ['tx', 'ty'] }, () => [['tx', 'ty']]),
  listTransactions: same(
    'listTransactions',
    {
      stateFilters: ['Ongoing', 'CompleteAbort'],
      producerIdFilters: [12_345_678_901],
      durationFilter: 60_000,
      transactionalIdPattern: 'tx-.*',
    },
    (v) => [['Ongoing', 'CompleteAbort'], [12_345_678_901n], ...since(1, v, 60_000n), ...since(2, v, 'tx-.*')],
  ),
  describeTopicPartitions: same(
    'describeTopicPartitions',
    { topics: [{ name: 'orders' }], responsePartitionLimit: 100, cursor: { topicName: 'orders', partitionIndex: 5 } },
    () => [[{ name: 'orders' }], 100, { topicName: 'orders', partitionIndex: 5 }],
  ),
  saslHandshake: same('saslHandshake', { mechanism: 'PLAIN' }, () => ['PLAIN']),
  saslAuthenticate: same('saslAuthenticate', { authBytes: metadata }, () => [metadata]),
};

const shared = Object.entries(cases).flatMap(([name, { theirs, ours }]) => {
  const api = kafkaApis[name as KafkaApiName] as KafkaApi;
  return Array.from({ length: api.served[1] + 1 }, (_, version) => ({ version, file: fileOf(name, version) }))
    .filter(({ version, file }) => api.serves(version) && file !== undefined)
    .map(({ version, file }) => ({ name, api, version, file: file as string, theirs, ours }));
});

const header = { correlationId: 5, clientId: 'tests' };

describe('its requests are ours, byte for byte', () => {
  test.each(shared)('$name v$version', async ({ api, version, file, theirs, ours }) => {
    const { createRequest } = (await import(file)) as ApiModule;
    const body = Buffer.from(createRequest(...theirs(version)).buffer);
    const frame = Buffer.concat(encodeRequest(api, version, header, ours)).subarray(4);
    const { bodyAt } = decodeRequestHeader(frame);
    expect(frame.subarray(bodyAt).toString('hex')).toBe(body.toString('hex'));
    const again = encodeRequest(api, version, header, decodeRequest(api, version, frame, bodyAt));
    expect(Buffer.concat(again).subarray(4).equals(frame)).toBe(true);
  });
});

/** What it fills in where a version lacks a field. */
const itsDefaults = new Set(['-1', '1', NO_TOPIC_ID, String(OPERATIONS_NOT_ASKED)]);

const produced = [3, 4, 5, 6, 7, 8, 9, 10, 11].map((version) => ({
  name: 'produce',
  api: kafkaApis.produce as KafkaApi,
  version,
  file: fileOf('produce', version) as string,
}));

describe('it reads our responses', () => {
  test.each([...shared, ...produced])('$name v$version', async ({ api, version, file }) => {
    const { parseResponse } = (await import(file)) as ApiModule;
    const source = distinctValues();
    const { input } = sampleMessage(api.response, version, source);
    const bodyAt = 8 + api.responseHeaderVersion(version);
    const frame = Buffer.concat(encodeResponse(api, version, 5, input));
    const reader = Reader.from(frame.subarray(bodyAt));
    const read = leavesOf(parseResponse(5, api.key, version, reader));
    expect(reader.remaining).toBe(0);
    expect([...source.written].filter(([text]) => !read.has(text))).toEqual([]);
    expect([...read].filter((text) => !source.written.has(text) && !itsDefaults.has(text))).toEqual([]);
  });
});

describe('record batches', () => {
  const batch = encodeBatch([{ key: null, value: Buffer.from('hello'), timestampMs: 1.7e12 }], { baseOffset: 40 });

  test.each(produced)('that it makes for Produce v$version are found', async ({ version, file }) => {
    const { createRequest } = (await import(file)) as ApiModule;
    const message = { topic: 'orders', partition: 3, value: Buffer.from('hello'), timestamp: 1_700_000_000_000n };
    const body = Buffer.from(createRequest(-1, 1000, [message], { compression: 'none' }).buffer);
    const read = decodeRequest(kafkaApis.produce, version, body, 0);
    expect(read).toMatchObject({ transactionalId: null, acks: -1, timeoutMs: 1000 });
    const [topic] = read.topicData;
    const records = topic?.partitionData[0]?.records as Uint8Array;
    expect([topic?.name, topic?.partitionData[0]?.index]).toEqual(['orders', 3]);
    expect(decodeRecords(records).map(({ value }) => String(value))).toEqual([String(Buffer.from('hello'))]);
    const ours = Buffer.concat(encodeRequest(kafkaApis.produce, version, header, read));
    expect(ours.subarray(ours.length - body.length).equals(body)).toBe(true);
  });

  test.each([4, 7, 11, 12, 13, 16])('that Fetch v%i gives it are read', async (version) => {
    const { parseResponse } = (await import(fileOf('fetch', version) as string)) as ApiModule;
    const partition = { partitionIndex: 0, errorCode: 0, highWatermark: 42, records: [batch, batch] };
    const frame = Buffer.concat(
      encodeResponse(kafkaApis.fetch, version, 5, {
        responses: [{ topic: 'orders', topicId, partitions: [partition] }],
      }),
    );
    const bodyAt = 8 + kafkaApis.fetch.responseHeaderVersion(version);
    const read = parseResponse(5, 1, version, Reader.from(frame.subarray(bodyAt)));
    const stored = { firstOffset: 40n, records: [{ value: Buffer.from('hello') }] };
    expect(read).toMatchObject({ responses: [{ partitions: [{ records: [stored, stored] }] }] });
  });
});
