/** Admin clients that people use, against a broker in this process. */
import {
  Admin as PlatformaticAdmin,
  IncrementalAlterConfigOperationTypes as Operation,
  type IncrementalAlterConfigOperationTypeValue,
} from '@platformatic/kafka';
import { ConfigResourceTypes, Kafka, logLevel, type Admin } from 'kafkajs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Broker } from '../../../broker.ts';

let broker: Broker;

beforeAll(async () => {
  broker = await Broker.start({ storage: 'memory', port: 0, allowKeyReorder: true });
});

afterAll(() => broker.close());

const TOPIC = ConfigResourceTypes.TOPIC;

describe('the admin of kafkajs', () => {
  let admin: Admin;

  beforeAll(async () => {
    // It repeats what Kafka calls retriable, an unknown topic too.
    const options = { brokers: [broker.bootstrap], logLevel: logLevel.NOTHING, retry: { retries: 0 } };
    admin = new Kafka(options).admin();
    await admin.connect();
  });

  afterAll(() => admin.disconnect());

  it('creates, grows and deletes topics', async () => {
    const topic = 'kafkajs-orders';
    const wanted = {
      topic,
      numPartitions: 2,
      replicationFactor: 1,
      configEntries: [{ name: 'retention.ms', value: '9000' }],
    };
    expect(await admin.createTopics({ topics: [wanted], waitForLeaders: true })).toBe(true);
    expect(await admin.createTopics({ topics: [wanted] })).toBe(false);
    await admin.createPartitions({ topicPartitions: [{ topic, count: 5 }] });
    const { topics } = await admin.fetchTopicMetadata({ topics: [topic] });
    expect(topics[0]?.partitions).toHaveLength(5);
    await admin.deleteTopics({ topics: [topic] });
    expect(await admin.listTopics()).not.toContain(topic);
    const again = admin.deleteTopics({ topics: [topic] });
    await expect(again).rejects.toMatchObject({ cause: { type: 'UNKNOWN_TOPIC_OR_PARTITION' } });
  });

  it('reads and writes settings', async () => {
    const topic = 'kafkajs-settings';
    await admin.createTopics({ topics: [{ topic }] });
    const resource = { type: ConfigResourceTypes.TOPIC, name: topic };
    await admin.alterConfigs({
      validateOnly: false,
      resources: [{ ...resource, configEntries: [{ name: 'cleanup.policy', value: 'compact' }] }],
    });
    const { resources } = await admin.describeConfigs({
      includeSynonyms: true,
      resources: [{ ...resource, configNames: ['cleanup.policy', 'compression.type'] }],
    });
    expect(resources[0]?.configEntries.map(({ configName, configValue }) => [configName, configValue])).toEqual([
      ['cleanup.policy', 'compact'],
      ['compression.type', 'producer'],
    ]);
    const all = await admin.describeConfigs({
      includeSynonyms: false,
      resources: [{ type: ConfigResourceTypes.BROKER, name: '1' }],
    });
    expect(all.resources[0]?.configEntries.length).toBeGreaterThan(10);
  });

  it('deletes records, and sees the cluster', async () => {
    const topic = 'kafkajs-records';
    await admin.createTopics({ topics: [{ topic, numPartitions: 1 }] });
    // It looks for the partition's leader before it has asked for the topic.
    await admin.fetchTopicOffsets(topic);
    await admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: '-1' }] });
    const cluster = await admin.describeCluster();
    const { host, port } = broker.address;
    expect(cluster).toMatchObject({ controller: 1, brokers: [{ nodeId: 1, host, port }] });
  });
});

describe('the admin of @platformatic/kafka', () => {
  let admin: PlatformaticAdmin;

  beforeAll(() => {
    admin = new PlatformaticAdmin({ clientId: 'test', bootstrapBrokers: [broker.bootstrap], retries: 0 });
  });

  afterAll(() => admin.close());

  it('creates, grows and deletes topics', async () => {
    const topic = 'platformatic-orders';
    const configs = [{ name: 'cleanup.policy', value: 'compact' }];
    const created = await admin.createTopics({ topics: [topic], partitions: 2, replicas: 1, configs });
    expect(created[0]).toMatchObject({ name: topic, partitions: 2, replicas: 1 });
    expect(created[0]?.configuration['cleanup.policy']).toBe('compact');
    const grown = [{ name: topic, count: 4, assignments: [{ brokerIds: [1] }, { brokerIds: [1] }] }];
    await admin.createPartitions({ topics: grown, validateOnly: false });
    expect((await admin.metadata({ topics: [topic] })).topics.get(topic)?.partitionsCount).toBe(4);
    await admin.deleteTopics({ topics: [topic] });
    expect(await admin.listTopics()).not.toContain(topic);
  });

  it('changes settings one by one', async () => {
    const topic = 'platformatic-settings';
    await admin.createTopics({ topics: [topic] });
    const change = (configOperation: IncrementalAlterConfigOperationTypeValue, value: string) => ({
      resources: [
        { resourceType: TOPIC, resourceName: topic, configs: [{ name: 'cleanup.policy', configOperation, value }] },
      ],
      validateOnly: false,
    });
    await admin.incrementalAlterConfigs(change(Operation.SET, 'compact'));
    await admin.incrementalAlterConfigs(change(Operation.APPEND, 'delete'));
    const found = await admin.describeConfigs({
      resources: [{ resourceType: TOPIC, resourceName: topic, configurationKeys: ['cleanup.policy'] }],
      includeSynonyms: true,
      includeDocumentation: true,
    });
    expect(found[0]?.configs[0]).toMatchObject({ name: 'cleanup.policy', value: 'compact,delete', configSource: 1 });
  });
});
