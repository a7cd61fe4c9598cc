/** The admin APIs on a table, for tests: frames in, frames out, over a shard and metadata in memory. */
import { splitPartitionKey, type Clock, type PartitionKey, type Random, type Timers } from '@naru/base';
import {
  decodeResponse,
  encodeRequest,
  kafkaApis,
  type KafkaRequestInput,
  type KafkaResponseOutput,
} from '@naru/protocol/kafka';
import type { TopicConfigDefaults } from '../../../core/registry/topic-config.ts';
import { MemoryLogStore } from '../../../log/memory/memory-log-store.ts';
import { SqliteMetadataStore } from '../../../metadata/sqlite-metadata-store.ts';
import { isRefusal } from '../../../runtime/commands.ts';
import { MetadataFollower } from '../../../runtime/metadata-follower.ts';
import { GROUP_LOG, keyOf, ShardScenario, textBatch } from '../../../runtime/shard-scenario.ts';
import { TopicService } from '../../../service/topics.ts';
import { RequestAnswerer } from '../request-answerer.ts';
import { adminHandlers, type AdminApiName } from './admin-handlers.ts';
import type { ShownSettings } from './broker-config-view.ts';

export const CLUSTER_ID = 'a-cluster';
const BUILT_IN_TOPIC: TopicConfigDefaults = {
  retentionMs: 604_800_000,
  retentionBytes: Infinity,
  allowKeyReorder: true,
  segmentMs: 604_800_000,
  segmentBytes: 134_217_728,
  maxBatchBytes: 1_049_088,
};
const BUILT_IN: ShownSettings = {
  data: 'naru-data',
  logLevel: 'info',
  defaultPartitions: 6,
  log: { maxBatchBytes: 1_049_088, segmentBytes: 134_217_728, segmentAgeMs: 604_800_000 },
  retention: { timeMs: 604_800_000, partitionBytes: Infinity, checkIntervalMs: 30_000 },
  compaction: { checkIntervalMs: 15_000, mapBytes: 134_217_728 },
  groups: { sessionTimeoutMs: 45_000, maxMembers: 1_000 },
  limits: { connections: 2_000, connectionsPerAddress: 1_000 },
};
/** A broker with two settings of its own. */
const SETTINGS: ShownSettings = {
  ...BUILT_IN,
  defaultPartitions: 3,
  log: { ...BUILT_IN.log, segmentBytes: 1_048_576 },
};

const CALL = {
  clientHost: '127.0.0.1',
  advertised: { host: 'broker.example', port: 9092 },
  signal: new AbortController().signal,
};

export class AdminScenario {
  readonly topics: TopicService;
  readonly #shard: ShardScenario;
  readonly #follower: MetadataFollower;
  readonly #answerer: RequestAnswerer;

  private constructor(shard: ShardScenario, follower: MetadataFollower, topics: TopicService) {
    this.topics = topics;
    this.#shard = shard;
    this.#follower = follower;
    this.#answerer = new RequestAnswerer(
      adminHandlers({
        topics,
        clusterId: CLUSTER_ID,
        settings: SETTINGS,
        builtInSettings: BUILT_IN,
        topicDefaults: { ...BUILT_IN_TOPIC, segmentBytes: 1_048_576 },
        builtInTopicDefaults: BUILT_IN_TOPIC,
        autoCreateTopics: true,
      }),
    );
  }

  static async start(time: Clock & Timers, random: Random): Promise<AdminScenario> {
    const shard = await ShardScenario.start({ store: new MemoryLogStore(), time, topics: [GROUP_LOG] });
    const metadata = new SqliteMetadataStore(':memory:');
    const follower = new MetadataFollower(metadata, shard.client);
    follower.start([GROUP_LOG], (await metadata.snapshot()).revision);
    const topics = new TopicService({
      metadata,
      follower,
      shard: shard.client,
      clock: time,
      random,
      defaultPartitionCount: SETTINGS.defaultPartitions,
      topicDefaults: { ...BUILT_IN_TOPIC, segmentBytes: 1_048_576 },
    });
    return new AdminScenario(shard, follower, topics);
  }

  /** @param version default: the newest */
  async ask<N extends AdminApiName>(
    name: N,
    body: KafkaRequestInput<N>,
    version = kafkaApis[name].served[1],
  ): Promise<KafkaResponseOutput<N>> {
    const api = kafkaApis[name];
    const request = Buffer.concat(encodeRequest(api, version, { correlationId: 7, clientId: 'test' }, body as never));
    const answer = await this.#answerer.answer(RequestAnswerer.read(request.subarray(4)), CALL);
    const response = decodeResponse(api, version, Buffer.concat(answer ?? []).subarray(4));
    return response.body as unknown as KafkaResponseOutput<N>;
  }

  async create(name: string, configs: Readonly<Record<string, string>> = {}, numPartitions = 1) {
    const { topics } = await this.ask('createTopics', { topics: [creatable(name, { numPartitions, configs })] });
    return topics[0];
  }

  /** Names and values of a topic's settings. */
  async configOf(name: string, keys: readonly string[]): Promise<Record<string, string | null>> {
    const { results } = await this.ask('describeConfigs', {
      resources: [{ resourceType: 2, resourceName: name, configurationKeys: keys }],
    });
    return Object.fromEntries((results[0]?.configs ?? []).map((entry) => [entry.name, entry.value]));
  }

  /** Stores one record each. */
  async append(name: string, partition: number, count: number): Promise<void> {
    const topic = this.topics.find(name);
    if (isRefusal(topic)) throw new Error(topic.message);
    const key: PartitionKey = keyOf(partition, topic);
    for (let i = 0; i < count; i++) {
      await this.#shard.ask({
        type: 'append',
        partition: key,
        batch: textBatch([`${splitPartitionKey(key).partition}`]),
      });
    }
  }

  async close(): Promise<void> {
    await this.#follower.stop();
    await this.#shard.shard.close();
  }
}

/** A topic to be created, with Kafka's defaults. */
export function creatable(
  name: string,
  given: {
    numPartitions?: number;
    replicationFactor?: number;
    assignments?: readonly { partitionIndex: number; brokerIds: readonly number[] }[];
    configs?: Readonly<Record<string, string | null>>;
  } = {},
) {
  const { numPartitions = -1, replicationFactor = -1, assignments = [], configs = {} } = given;
  const entries = Object.entries(configs).map(([key, value]) => ({ name: key, value }));
  return { name, numPartitions, replicationFactor, assignments, configs: entries };
}
