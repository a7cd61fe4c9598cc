/**
 * kafkajs' own encoders and decoders against ours, for every API and version that both have: its requests are ours byte for
 * byte, and it reads our responses. They are reached inside its package, which does not export them.
 */
import fs from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { encodeBatch } from '../batch/batch-builder.ts';
import {
  decodeConsumerAssignment,
  decodeConsumerSubscription,
  encodeConsumerAssignment,
  encodeConsumerSubscription,
} from './consumer-protocol.ts';
import { kafkaApis } from './kafka-apis.ts';
import type { KafkaApiName, KafkaRequestInput } from './kafka-apis.ts';
import { decodeRequest, decodeRequestHeader, encodeRequest, encodeResponse } from './kafka-frames.ts';
import type { KafkaApi } from './schema/kafka-api.ts';
import { distinctValues, leavesOf } from './testing/distinct-values.ts';
import { sampleMessage } from './testing/sample-message.ts';

const require = createRequire(import.meta.url);
const requests = path.join(path.dirname(require.resolve('kafkajs/package.json')), 'src/protocol/requests');

interface KafkajsRequest {
  readonly apiKey: number;
  readonly apiVersion: number;
}
const frameOf = require('kafkajs/src/protocol/request') as (input: {
  correlationId: number;
  clientId: string;
  request: KafkajsRequest;
}) => Promise<{ buffer: Buffer }>;
const Encoder = require('kafkajs/src/protocol/encoder') as new () => { writeBytes(bytes: Buffer): { buffer: Buffer } };
const long = require('kafkajs/src/utils/long') as { fromValue(value: number): unknown };

const topics = ['orders', 'bestellungen-ü'];
const records = Buffer.from('not really record batches, but nobody looks');

interface Case {
  /** What kafkajs takes, and what ours takes, for all versions; each version takes of it what it has. */
  readonly theirs: unknown;
  readonly ours: Record<string, unknown>;
}

/** Keeps the compiler's eye on our side. */
const same = <A extends KafkaApiName>(_: A, ours: KafkaRequestInput<A>, theirs: unknown): Case => ({ theirs, ours });

const perTopic = <T>(partition: (index: number) => T): { topic: string; partitions: T[] }[] =>
  topics.map((topic) => ({ topic, partitions: [0, 7].map(partition) }));
const named = <T>(partition: (index: number) => T): { name: string; partitions: T[] }[] =>
  topics.map((name) => ({ name, partitions: [0, 7].map(partition) }));
const txn = { transactionalId: 'tx', producerId: 12_345_678_901, producerEpoch: 3 };
const commit = (offset: number) => (p: number) => ({
  partitionIndex: p,
  committedOffset: offset,
  committedMetadata: 'note',
});
const txnTopics = topics.map((name) => ({ name, partitions: [0, 7] }));

const cases: Partial<Record<KafkaApiName, Case>> = {
  apiVersions: same('apiVersions', {}, undefined),
  metadata: same(
    'metadata',
    { topics: topics.map((name) => ({ name })), allowAutoTopicCreation: false },
    { topics, allowAutoTopicCreation: false },
  ),
  fetch: same(
    'fetch',
    {
      maxWaitMs: 500,
      minBytes: 1,
      maxBytes: 10_000_000,
      isolationLevel: 1,
      topics: perTopic((p) => ({ partition: p, fetchOffset: 5_000_000_000, partitionMaxBytes: 1_048_576 })),
      rackId: 'rack',
    },
    {
      replicaId: -1,
      maxWaitTime: 500,
      minBytes: 1,
      maxBytes: 10_000_000,
      isolationLevel: 1,
      topics: perTopic((p) => ({ partition: p, fetchOffset: 5_000_000_000, maxBytes: 1_048_576 })),
      rackId: 'rack',
    },
  ),
  listOffsets: same(
    'listOffsets',
    { isolationLevel: 1, topics: named((p) => ({ partitionIndex: p, timestamp: -1 })) },
    { replicaId: -1, isolationLevel: 1, topics: perTopic((p) => ({ partition: p, timestamp: -1 })) },
  ),
  findCoordinator: same(
    'findCoordinator',
    { key: 'billing', keyType: 1 },
    { groupId: 'billing', coordinatorKey: 'billing', coordinatorType: 1 },
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
      protocols: [{ name: 'RoundRobinAssigner', metadata: records }],
    },
    {
      groupId: 'billing',
      sessionTimeout: 45_000,
      rebalanceTimeout: 60_000,
      memberId: 'm-1',
      groupInstanceId: 'host-1',
      protocolType: 'consumer',
      groupProtocols: [{ name: 'RoundRobinAssigner', metadata: records }],
    },
  ),
  syncGroup: same(
    'syncGroup',
    {
      groupId: 'billing',
      generationId: 4,
      memberId: 'm-1',
      groupInstanceId: 'host-1',
      assignments: [{ memberId: 'm-1', assignment: records }],
    },
    {
      groupId: 'billing',
      generationId: 4,
      memberId: 'm-1',
      groupInstanceId: 'host-1',
      groupAssignment: [{ memberId: 'm-1', memberAssignment: records }],
    },
  ),
  heartbeat: same(
    'heartbeat',
    { groupId: 'billing', generationId: 4, memberId: 'm-1', groupInstanceId: 'host-1' },
    { groupId: 'billing', groupGenerationId: 4, memberId: 'm-1', groupInstanceId: 'host-1' },
  ),
  leaveGroup: same(
    'leaveGroup',
    { groupId: 'billing', memberId: 'm-1', members: [{ memberId: 'm-1', groupInstanceId: 'host-1' }] },
    { groupId: 'billing', memberId: 'm-1', members: [{ memberId: 'm-1', groupInstanceId: 'host-1' }] },
  ),
  offsetCommit: same(
    'offsetCommit',
    {
      groupId: 'billing',
      generationIdOrMemberEpoch: 4,
      memberId: 'm-1',
      retentionTimeMs: 86_400_000,
      topics: named(commit(77)),
    },
    {
      groupId: 'billing',
      groupGenerationId: 4,
      memberId: 'm-1',
      retentionTime: 86_400_000,
      topics: perTopic((p) => ({ partition: p, offset: 77, metadata: 'note' })),
    },
  ),
  offsetFetch: same(
    'offsetFetch',
    { groupId: 'billing', topics: topics.map((name) => ({ name, partitionIndexes: [0, 7] })) },
    { groupId: 'billing', topics: perTopic((partition) => ({ partition })) },
  ),
  initProducerId: same(
    'initProducerId',
    { transactionalId: 'tx', transactionTimeoutMs: 60_000 },
    { transactionalId: 'tx', transactionTimeout: 60_000 },
  ),
  addPartitionsToTxn: same(
    'addPartitionsToTxn',
    {
      v3AndBelowTransactionalId: txn.transactionalId,
      v3AndBelowProducerId: txn.producerId,
      v3AndBelowProducerEpoch: txn.producerEpoch,
      v3AndBelowTopics: txnTopics,
    },
    { ...txn, topics: txnTopics.map(({ name, partitions }) => ({ topic: name, partitions })) },
  ),
  addOffsetsToTxn: same('addOffsetsToTxn', { ...txn, groupId: 'billing' }, { ...txn, groupId: 'billing' }),
  endTxn: same('endTxn', { ...txn, committed: true }, { ...txn, transactionResult: true }),
  txnOffsetCommit: same(
    'txnOffsetCommit',
    { ...txn, groupId: 'billing', topics: named(commit(78)) },
    {
      ...txn,
      groupId: 'billing',
      topics: perTopic((p) => ({ partition: p, offset: 78, metadata: 'note' })),
    },
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
          configs: [{ name: 'retention.ms', value: '-1' }],
        },
      ],
      timeoutMs: 5000,
      validateOnly: true,
    },
    {
      topics: [
        {
          topic: 'orders',
          numPartitions: 12,
          replicationFactor: 1,
          replicaAssignment: [{ partition: 0, replicas: [1] }],
          configEntries: [{ name: 'retention.ms', value: '-1' }],
        },
      ],
      timeout: 5000,
      validateOnly: true,
    },
  ),
  deleteTopics: same('deleteTopics', { topicNames: topics, timeoutMs: 5000 }, { topics, timeout: 5000 }),
  deleteRecords: same(
    'deleteRecords',
    { topics: named((p) => ({ partitionIndex: p, offset: 99 })), timeoutMs: 5000 },
    { topics: perTopic((p) => ({ partition: p, offset: '99' })), timeout: 5000 },
  ),
  createPartitions: same(
    'createPartitions',
    { topics: [{ name: 'orders', count: 9, assignments: [{ brokerIds: [1] }] }], timeoutMs: 5000, validateOnly: false },
    { topicPartitions: [{ topic: 'orders', count: 9, assignments: [[1]] }], timeout: 5000, validateOnly: false },
  ),
  describeConfigs: same(
    'describeConfigs',
    {
      resources: [{ resourceType: 2, resourceName: 'orders', configurationKeys: ['retention.ms'] }],
      includeSynonyms: true,
    },
    { resources: [{ type: 2, name: 'orders', configNames: ['retention.ms'] }], includeSynonyms: true },
  ),
  alterConfigs: same(
    'alterConfigs',
    {
      resources: [{ resourceType: 2, resourceName: 'orders', configs: [{ name: 'retention.ms', value: '5' }] }],
      validateOnly: true,
    },
    {
      resources: [{ type: 2, name: 'orders', configEntries: [{ name: 'retention.ms', value: '5' }] }],
      validateOnly: true,
    },
  ),
  describeGroups: same('describeGroups', { groups: ['billing'] }, { groupIds: ['billing'] }),
  listGroups: same('listGroups', {}, undefined),
  deleteGroups: same('deleteGroups', { groupsNames: ['billing'] }, ['billing']),
  saslHandshake: same('saslHandshake', { mechanism: 'PLAIN' }, { mechanism: 'PLAIN' }),
  saslAuthenticate: same(
    'saslAuthenticate',
    { authBytes: records },
    { authBytes: new Encoder().writeBytes(records).buffer },
  ),
};

const shared = Object.entries(cases).flatMap(([name, { theirs, ours }]) => {
  const api = kafkaApis[name as KafkaApiName] as KafkaApi;
  const versions = Array.from({ length: api.served[1] + 1 }, (_, v) => v).filter(
    (v) => api.serves(v) && fs.existsSync(path.join(requests, name, `v${v}`)),
  );
  return versions.map((version) => ({ name, api, version, theirs, ours }));
});

test('most of the APIs are here', () => {
  expect(Object.keys(cases)).toHaveLength(27);
  expect(shared.length).toBeGreaterThan(70);
});

describe('its requests are ours, byte for byte', () => {
  test.each(shared)('$name v$version', async ({ name, api, version, theirs, ours }) => {
    const create = require(path.join(requests, name, `v${version}`, 'request.js')) as (
      input: unknown,
    ) => KafkajsRequest;
    const header = { correlationId: 5, clientId: 'tests' };
    const { buffer } = await frameOf({ ...header, request: create(theirs) });
    expect(Buffer.concat(encodeRequest(api, version, header, ours)).toString('hex')).toBe(buffer.toString('hex'));
    const frame = buffer.subarray(4);
    const read = decodeRequestHeader(frame);
    expect(read).toMatchObject({ ...header, api, apiVersion: version });
    const again = encodeRequest(api, version, header, decodeRequest(api, version, frame, read.bodyAt));
    expect(Buffer.concat(again).equals(buffer)).toBe(true);
  });

  test.each([3, 4, 5, 6, 7])('Produce v%i, whose batches it makes itself', async (version) => {
    const create = require(path.join(requests, 'produce', `v${version}`, 'request.js')) as (
      input: unknown,
    ) => KafkajsRequest;
    const message = { key: 'k', value: 'v', timestamp: 1.7e12, headers: {} };
    const request = create({
      acks: -1,
      timeout: 30_000,
      transactionalId: null,
      producerId: long.fromValue(7),
      producerEpoch: 0,
      compression: 0,
      topicData: [{ topic: 'orders', partitions: [{ partition: 3, firstSequence: 0, messages: [message] }] }],
    });
    const header = { correlationId: 5, clientId: 'tests' };
    const { buffer } = await frameOf({ ...header, request });
    const frame = buffer.subarray(4);
    const api = kafkaApis.produce;
    const body = decodeRequest(api, version, frame, decodeRequestHeader(frame).bodyAt);
    const [partition] = body.topicData[0]?.partitionData ?? [];
    expect(partition?.index).toBe(3);
    // The batch is all that is left, and of format 2.
    expect(partition?.records?.byteOffset).toBe(buffer.byteOffset + buffer.length - (partition?.records?.length ?? 0));
    expect(partition?.records?.[16]).toBe(2);
    expect(Buffer.concat(encodeRequest(api, version, header, body)).equals(buffer)).toBe(true);
  });
});

const produced = [3, 4, 5, 6, 7].map((version) => ({ name: 'produce', api: kafkaApis.produce as KafkaApi, version }));

describe('it reads our responses', () => {
  test.each([...shared, ...produced])('$name v$version', async ({ name, api, version }) => {
    const source = distinctValues();
    const { input } = sampleMessage(api.response, version, source);
    const frame = Buffer.concat(encodeResponse(api, version, 5, input));
    expect(frame.readInt32BE(4)).toBe(5);
    type Decoder = { readonly decode: (body: Buffer) => Promise<unknown> };
    const response = require(path.join(requests, name, `v${version}`, 'response.js')) as
      | Decoder
      | ((request: { topics: unknown }) => Decoder);
    const { decode } = typeof response === 'function' ? response({ topics: [] }) : response;
    const read = leavesOf(await decode(frame.subarray(8)));
    // For its older mechanisms it puts the length in front of these again.
    if (read.delete('\0\0\0\u0007bytes-1')) read.add('bytes-1');
    expect([...source.written].filter(([text]) => !read.has(text))).toEqual([]);
    expect([...read].filter((text) => !source.written.has(text))).toEqual([]);
  });
});

test.each([4, 5, 6, 7, 8, 9, 10, 11])('it reads record batches from Fetch v%i', async (version) => {
  const batch = encodeBatch([{ key: null, value: records, timestampMs: 1.7e12 }], { baseOffset: 40 });
  const partition = { partitionIndex: 0, errorCode: 0, highWatermark: 42, records: [batch] };
  const frame = Buffer.concat(
    encodeResponse(kafkaApis.fetch, version, 5, { responses: [{ topic: 'orders', partitions: [partition] }] }),
  );
  const { decode } = require(path.join(requests, 'fetch', `v${version}`, 'response.js')) as {
    readonly decode: (body: Buffer) => Promise<unknown>;
  };
  expect(await decode(frame.subarray(8))).toMatchObject({
    responses: [{ topicName: 'orders', partitions: [{ messages: [{ offset: '40', value: records }] }] }],
  });
});

describe('what its consumers tell each other', () => {
  const { MemberMetadata, MemberAssignment } = require('kafkajs/src/consumer/assignerProtocol') as {
    MemberMetadata: { encode(fields: unknown): Buffer; decode(bytes: Buffer): unknown };
    MemberAssignment: { encode(fields: unknown): Buffer; decode(bytes: Buffer): unknown };
  };

  test('is the subscription that we read and write', () => {
    const theirs = MemberMetadata.encode({ version: 0, topics, userData: records });
    const { version, subscription } = decodeConsumerSubscription(theirs);
    expect(version).toBe(0);
    expect(subscription).toEqual({ topics, userData: records, ownedPartitions: [], generationId: -1, rackId: null });
    expect(Buffer.from(encodeConsumerSubscription(0, subscription)).equals(theirs)).toBe(true);
    // An assigner that calls itself version 1 gets no fields of version 1 from it.
    const renamed = MemberMetadata.encode({ version: 1, topics, userData: records });
    expect(decodeConsumerSubscription(renamed)).toEqual({ version: 1, subscription });
  });

  test('is the assignment that we read and write', () => {
    const theirs = MemberAssignment.encode({ version: 1, assignment: { orders: [0, 7] }, userData: records });
    const { version, assignment } = decodeConsumerAssignment(theirs);
    expect(version).toBe(1);
    expect(assignment).toEqual({ assignedPartitions: [{ topic: 'orders', partitions: [0, 7] }], userData: records });
    const ours = Buffer.from(encodeConsumerAssignment(1, assignment));
    expect(ours.equals(theirs)).toBe(true);
    expect(MemberAssignment.decode(ours)).toMatchObject({ assignment: { orders: [0, 7] } });
  });
});
