/**
 * A broker: one data directory, one port. The only place that constructs implementations and wires them together.
 */
import { isIPv4, type Socket } from 'node:net';
import { isDeepStrictEqual } from 'node:util';
import type { HandlerContext } from '@connectrpc/connect';
import {
  randomUuidBytes,
  silentLogger,
  systemClock,
  systemRandom,
  systemTimers,
  topicIdFromBytes,
  type Clock,
  type Disk,
  type Logger,
  type PartitionKey,
  type Random,
  type Timers,
} from '@naru/base';
import { NaruError } from '@naru/protocol';
import { nodeCompressionCodecs } from '@naru/protocol/compression-node';
import { metricsPage } from './broker-metrics.ts';
import { AUTO_HOST, brokerConfig, type BrokerConfig, type BrokerConfigInput } from './config.ts';
import type { TopicConfigDefaults } from './core/registry/topic-config.ts';
import { TOPIC_KEY_PREFIX, topicMetadataKey, type TopicMetadata } from './core/registry/topic-registry.ts';
import { adminDoor, type ClusterInfo } from './doors/grpc/admin-door.ts';
import { deadLetterDoor } from './doors/grpc/dead-letter-door.ts';
import { grpcRoutes, SERVICE_NAMES } from './doors/grpc/grpc-routes.ts';
import { HealthDoor } from './doors/grpc/health-door.ts';
import { PublisherDoor } from './doors/grpc/publisher-door.ts';
import { SubscriberDoor } from './doors/grpc/subscriber-door.ts';
import { endTransactionMethod, transactionDoor } from './doors/grpc/transaction-door.ts';
import { traceDoor } from './doors/grpc/trace-door.ts';
import { unaryDoor } from './doors/grpc/unary-door.ts';
import { httpDoor, PEER_KEY, type HttpDoor } from './doors/http/http-door.ts';
import { schemaRegistryDoor } from './doors/http/schema-registry.ts';
import type { MetricsPage } from './doors/http/metrics-page.ts';
import { adminHandlers } from './doors/kafka/handlers/admin-handlers.ts';
import { groupHandlers } from './doors/kafka/handlers/group-handlers.ts';
import { logHandlers } from './doors/kafka/handlers/log-handlers.ts';
import { transactionHandlers } from './doors/kafka/handlers/transaction-handlers.ts';
import { KafkaDoor } from './doors/kafka/kafka-door.ts';
import { DEFAULT_LISTENER_LIMITS, Listener } from './doors/listener.ts';
import { nodeDisk } from './log/file/node-disk.ts';
import type { LogStore } from './log/log-store.ts';
import type { MetadataChange, MetadataStore } from './metadata/metadata-store.ts';
import { INTERNAL_TOPICS, LEDGER_TOPIC, ledgerTopicConfig } from './runtime/internal-topics.ts';
import { MetadataFollower } from './runtime/metadata-follower.ts';
import type { ShardClient } from './runtime/commands.ts';
import { Shard } from './runtime/shard.ts';
import { ByteBudget } from './service/byte-budget.ts';
import { MAX_COPYING_BYTES } from './service/commit-outcomes.ts';
import { ConnectedMembers } from './service/connected-members.ts';
import type { WithheldOf } from './service/group-gates.ts';
import { DeadLetterService } from './service/dead-letters.ts';
import { GroupService } from './service/groups.ts';
import { ProducerIds } from './service/producer-ids.ts';
import { MAX_TOTAL_IN_FLIGHT_BYTES } from './service/producer-session.ts';
import { FreshProducerIds } from './service/fresh-producer-ids.ts';
import { PublishService } from './service/publish.ts';
import { SchemaService } from './service/schemas.ts';
import type { SubscriberSession } from './service/subscriber-session.ts';
import { newTopic, TopicService } from './service/topics.ts';
import { TransactionService } from './service/transactions.ts';
import { TraceService } from './service/trace.ts';
import { UnarySessions } from './service/unary-sessions.ts';
import { WaitService } from './service/wait.ts';
import { openStorage, type Storage } from './storage.ts';

export const VERSION = '0.1.0';

/** How long clients get to read their last answers when a broker closes. */
const CLOSING_GRACE_MS = 500;

/** What a broker stands on; tests put their own here. */
export interface BrokerSurroundings {
  readonly clock: Clock;
  readonly timers: Timers;
  readonly random: Random;
  readonly disk: Disk;
  readonly logger: Logger;
}

export interface BrokerAddress {
  readonly host: string;
  readonly port: number;
}

interface Parts {
  readonly config: BrokerConfig;
  readonly store: LogStore;
  readonly metadata: MetadataStore;
  readonly shard: Shard;
  readonly follower: MetadataFollower;
  readonly listener: Listener;
  readonly door: HttpDoor;
  /** Doors whose calls last. */
  readonly streams: readonly { close(): void }[];
  readonly health: HealthDoor;
  readonly surroundings: BrokerSurroundings;
  readonly storage: Storage;
}

export interface Identity {
  readonly clusterId: string;
  /** Grows with each start. */
  readonly epoch: number;
}

export class Broker {
  readonly config: BrokerConfig;
  readonly address: BrokerAddress;
  /** Resolves, with the cause, if the broker stops serving by itself. */
  readonly failed: Promise<NaruError>;
  readonly #parts: Parts;
  #closing: Promise<void> | null = null;

  private constructor(parts: Parts, address: BrokerAddress, failed: Promise<NaruError>) {
    this.#parts = parts;
    this.config = parts.config;
    this.address = address;
    this.failed = failed;
  }

  /**
   * Starts a broker in this process and resolves when it serves.
   *
   * @param given settings; those left out have their defaults, except that nothing is logged unless a logger is passed
   * @throws NaruError INVALID_CONFIGURATION, PORT_IN_USE, DATA_DIRECTORY_IN_USE, DATA_DIRECTORY_NOT_WRITABLE,
   *   DATA_DIRECTORY_VERSION, DATA_CORRUPT
   */
  static async start(
    given: BrokerConfigInput | BrokerConfig = {},
    surroundings: Partial<BrokerSurroundings> = {},
  ): Promise<Broker> {
    const config = brokerConfig(given);
    checkRemote(config);
    const complete: BrokerSurroundings = {
      clock: systemClock,
      timers: systemTimers,
      random: systemRandom,
      logger: silentLogger,
      ...surroundings,
      disk: surroundings.disk ?? nodeDisk,
    };
    const undo: Undo = [];
    try {
      return await start(config, complete, undo, (parts, address, failed) => new Broker(parts, address, failed));
    } catch (error) {
      for (const step of undo.reverse()) await step();
      throw error;
    }
  }

  /** `host:port`, for clients. */
  get bootstrap(): string {
    const { host, port } = this.address;
    return `${host.includes(':') ? `[${host}]` : host}:${port}`;
  }

  /** Makes everything durable, answers what waits, and lets port and data directory go. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    const { listener, streams, health, door, shard, follower, storage, surroundings } = this.#parts;
    health.stopServing();
    listener.stop();
    await follower.stop();
    await shard.close();
    for (const stream of streams) stream.close();
    door.close();
    await atMost(CLOSING_GRACE_MS, listener.idle(), surroundings.timers);
    listener.destroy();
    await storage.release();
  }
}

export type Undo = (() => Promise<void> | void)[];

/** What stands behind the doors. */
export interface Core {
  readonly identity: Identity;
  readonly store: LogStore;
  readonly metadata: MetadataStore;
  readonly shard: Shard;
  readonly follower: MetadataFollower;
  readonly topics: TopicService;
  readonly producerIds: ProducerIds;
  /** Topics at the start, the broker's own among them. */
  readonly topicCount: number;
  readonly failed: Promise<NaruError>;
  readonly storage: Storage;
}

async function start(
  config: BrokerConfig,
  surroundings: BrokerSurroundings,
  undo: Undo,
  make: (parts: Parts, address: BrokerAddress, failed: Promise<NaruError>) => Broker,
): Promise<Broker> {
  const { clock, timers, logger } = surroundings;
  const startedMs = clock.monotonicMs();
  const core = await openCore(config, surroundings, undo, await openStorage(config, surroundings));
  const { store, metadata, shard, follower, failed, storage } = core;
  const { publisher, subscriber, sessions, health, door, kafka, publishing, metrics } = makeDoors(
    config,
    surroundings,
    core,
  );
  undo.push(() => door.close());
  const { connections: maxConnections, connectionsPerAddress: maxConnectionsPerAddress } = config.limits;
  const doors = { http1: door.http1, http2: door.http2, kafka: (socket: Socket) => kafka.accept(socket) };
  const listener = new Listener(doors, timers, logger, {
    ...DEFAULT_LISTENER_LIMITS,
    maxConnections,
    maxConnectionsPerAddress,
  });
  metrics.page = metricsPage(store, shard, listener, { publisher, subscriber, kafka, publishing });
  const address = await listener.listen(config.host, config.port);
  const streams = [publisher, subscriber, sessions, health, kafka];
  const startMs = Math.round(clock.monotonicMs() - startedMs);
  logger.info({ ...address, storage: config.storage, topics: core.topicCount - 1, startMs }, 'the broker serves');
  return make(
    { config, store, metadata, shard, follower, listener, door, streams, health, surroundings, storage },
    address,
    failed,
  );
}

/** Metadata, log, shard: recovered and agreeing with each other. `undo` takes the storage over. */
export async function openCore(
  config: BrokerConfig,
  surroundings: BrokerSurroundings,
  undo: Undo,
  storage: Storage,
): Promise<Core> {
  const { clock, timers, random, logger } = surroundings;
  const { store, metadata } = storage;
  undo.push(() => storage.release());
  const identity = await introduce(metadata, clock, random, config.logging.ledger.keepMs);
  const producerIds = await ProducerIds.open(metadata);
  const { promise: failed, resolve: fail } = Promise.withResolvers<NaruError>();
  const shard = new Shard({
    store,
    clock,
    timers,
    logger,
    codecs: nodeCompressionCodecs,
    leaderEpoch: identity.epoch,
    limits: { maxBatchBytes: config.log.maxBatchBytes, maxProducers: config.limits.producersPerPartition },
    groupLimits: {
      maxMembers: config.groups.maxMembers,
      idempotencyWindowMs: config.idempotency.windowMs,
      maxDoneIds: config.idempotency.maxIds,
      defaultSessionTimeoutMs: config.groups.sessionTimeoutMs,
      defaultMaxPollIntervalMs: config.groups.maxPollIntervalMs,
    },
    topicDefaults: topicDefaults(config),
    retentionIntervalMs: config.retention.checkIntervalMs,
    compactionIntervalMs: config.compaction.checkIntervalMs,
    compactionMapBytes: config.compaction.mapBytes,
    ledger: config.logging.ledger.use ? config.logging.ledger : null,
    isIssuedProducerId: (producerId) => producerIds.isIssued(producerId),
    onFailed: fail,
  });
  const { entries, revision } = await metadata.snapshot();
  const known = entries
    .filter(({ key }) => key.startsWith(TOPIC_KEY_PREFIX))
    .map(({ value }) => value as TopicMetadata);
  await storage.check(known);
  undo.push(() => shard.close());
  await shard.start(known);
  const follower = new MetadataFollower(metadata, shard);
  follower.start(known, revision);
  undo.push(() => follower.stop());
  const { defaultPartitions: defaultPartitionCount } = config;
  const topics = new TopicService({
    metadata,
    follower,
    shard,
    clock,
    random,
    defaultPartitionCount,
    topicDefaults: topicDefaults(config),
  });
  for (const topic of known) if (topic.state === 'deleting') await topics.forget(topic.name);
  return { identity, store, metadata, shard, follower, topics, producerIds, topicCount: known.length, failed, storage };
}

/** What holds where a topic says nothing. */
function topicDefaults({ retention, log, allowKeyReorder }: BrokerConfig): TopicConfigDefaults {
  const { segmentAgeMs: segmentMs, segmentBytes, maxBatchBytes } = log;
  return {
    retentionMs: retention.timeMs,
    retentionBytes: retention.partitionBytes,
    allowKeyReorder,
    segmentMs,
    segmentBytes,
    maxBatchBytes,
  };
}

export function makeDoors(config: BrokerConfig, { clock, timers, random, logger }: BrokerSurroundings, core: Core) {
  const { shard, follower, topics, producerIds, identity, failed } = core;
  const { maxBatchBytes } = config.log;
  const publishing = new ByteBudget(MAX_TOTAL_IN_FLIGHT_BYTES);
  const freshIds = new FreshProducerIds(producerIds);
  const transactions = new TransactionService({ shard, topics, producerIds: freshIds, clock });
  const publisher = new PublisherDoor({
    transactions,
    publish: new PublishService({ topics, shard, clock, maxBatchBytes }),
    producerIds,
    shard,
    maxBatchBytes,
    inFlight: publishing,
    logger,
  });
  const peerOf = (context: HandlerContext): string => context.values.get(PEER_KEY);
  const { maxPollIntervalMs: defaultMaxPollIntervalMs } = config.groups;
  const members = new ConnectedMembers<SubscriberSession>();
  const codecs = nodeCompressionCodecs;
  const copying = new ByteBudget(MAX_COPYING_BYTES);
  const sessionOptions = {
    shard,
    follower,
    clock,
    timers,
    members,
    copying,
    producerIds: freshIds,
    codecs,
    defaultMaxPollIntervalMs,
  };
  const subscriber = new SubscriberDoor({ ...sessionOptions, logger, peerOf });
  const sessions = new UnarySessions({ ...sessionOptions, random });
  const unary = unaryDoor({ sessions, follower, logger, peerOf });
  const cluster = {
    clusterId: identity.clusterId,
    version: VERSION,
    storage: config.storage,
    startedAtMs: clock.nowMs(),
  };
  const { streams, ...operators } = operatorDoors({ topics, shard, clock, logger, members, cluster, transactions });
  const health = new HealthDoor(SERVICE_NAMES);
  let failure: NaruError | null = null;
  void failed.then((error) => {
    failure = error;
    health.stopServing();
  });
  const services = { publisher, subscriber, unary, ...operators, health };
  // Set before the first connection: it counts those of the listener, which is made of these doors.
  const metrics: { page: MetricsPage | null } = { page: null };
  const door = httpDoor({
    routes: grpcRoutes(services),
    streams: [publisher.streamMethod(), subscriber.streamMethod(), ...streams],
    pages: {
      notReady: () => failure?.message ?? null,
      metrics: async () => (metrics.page === null ? { contentType: 'text/plain', text: '' } : metrics.page.render()),
    },
    schemaRegistry: schemaRegistryDoor(new SchemaService(shard), logger),
    clock,
    timers,
    logger,
  });
  const kafka = makeKafkaDoor(config, { clock, timers, random, logger }, core, publishing, producerIds);
  return { publisher, subscriber, sessions, health, door, kafka, publishing, metrics, services };
}

interface OperatorDoorsOptions {
  readonly topics: TopicService;
  readonly shard: ShardClient;
  readonly clock: Clock;
  readonly transactions: TransactionService;
  readonly logger: Logger;
  readonly members: ConnectedMembers<SubscriberSession>;
  readonly cluster: ClusterInfo;
}

/** Doors of whoever looks after the others. */
function operatorDoors({ topics, shard, clock, logger, members, cluster, transactions }: OperatorDoorsOptions) {
  const codecs = nodeCompressionCodecs;
  const withheldOf: WithheldOf = (groupId, memberId, partition) =>
    members.find(groupId, memberId)?.withheldOf(partition) ?? null;
  const positionOf = (groupId: string, memberId: string, partition: PartitionKey): number | null =>
    members.find(groupId, memberId)?.positionOf(partition) ?? null;
  const traces = new TraceService({ shard, topics, codecs, positionOf });
  return {
    admin: adminDoor({ topics, groups: new GroupService(shard, topics, withheldOf), shard, cluster, logger }),
    deadLetters: deadLetterDoor({
      deadLetters: new DeadLetterService({ shard, topics, clock, codecs }),
      logger,
    }),
    trace: traceDoor({ traces, waits: new WaitService({ shard, topics, traces }), logger }),
    transactions: transactionDoor({ transactions, logger }),
    streams: [endTransactionMethod({ transactions })],
  };
}

function makeKafkaDoor(
  config: BrokerConfig,
  { clock, timers, random, logger }: Omit<BrokerSurroundings, 'disk'>,
  { shard, follower, topics, identity }: Core,
  publishing: ByteBudget,
  producerIds: ProducerIds,
): KafkaDoor {
  const { clusterId, epoch: leaderEpoch } = identity;
  const { autoCreateTopics } = config.kafka;
  const builtIn = brokerConfig();
  const handlers = {
    ...logHandlers({ topics, shard, timers, clusterId, leaderEpoch, autoCreateTopics }),
    ...groupHandlers({ shard, registry: follower.registry, random }),
    ...transactionHandlers({ topics, shard, registry: follower.registry, producerIds, clock }),
    ...adminHandlers({
      topics,
      clusterId,
      autoCreateTopics,
      settings: config,
      builtInSettings: builtIn,
      topicDefaults: topicDefaults(config),
      builtInTopicDefaults: topicDefaults(builtIn),
    }),
  };
  const { host, port } = config.advertised;
  return new KafkaDoor({
    handlers,
    clock,
    timers,
    logger,
    maxRequestBytes: config.limits.kafkaRequestBytes,
    producing: publishing,
    advertisedHost: host === AUTO_HOST ? null : host,
    advertisedPort: port === 0 ? null : port,
  });
}

/** Gives the cluster its id, the broker its next epoch and its own topics, where they are missing. */
async function introduce(
  metadata: MetadataStore,
  clock: Clock,
  random: Random,
  ledgerKeepMs: number,
): Promise<Identity> {
  const { entries } = await metadata.snapshot();
  const found = new Map(entries.map((entry) => [entry.key, entry]));
  const changes: MetadataChange[] = [];
  const clusterId = (found.get('cluster-id')?.value as string | undefined) ?? topicIdFromBytes(randomUuidBytes(random));
  if (!found.has('cluster-id')) changes.push({ key: 'cluster-id', value: clusterId });
  const epoch = ((found.get('broker-epoch')?.value as number | undefined) ?? -1) + 1;
  changes.push({ key: 'broker-epoch', value: epoch });
  for (const [name, topic] of Object.entries(INTERNAL_TOPICS)) {
    const key = topicMetadataKey(name);
    const config = name === LEDGER_TOPIC ? ledgerTopicConfig(ledgerKeepMs) : topic.config;
    const known = found.get(key)?.value as TopicMetadata | undefined;
    if (known !== undefined) {
      // Settings may be others than at the last start.
      if (!isDeepStrictEqual(known.config, config)) changes.push({ key, value: { ...known, config } });
      continue;
    }
    const shape = { name, type: 'ordered', ...topic, config } as const;
    changes.push({ key, value: newTopic(shape, topicIdFromBytes(randomUuidBytes(random)), clock.nowMs()) });
  }
  const conditions = [{ key: 'broker-epoch', revision: found.get('broker-epoch')?.revision ?? 0 }];
  const result = await metadata.commit(conditions, changes);
  if (!result.ok)
    throw new NaruError('DATA_DIRECTORY_IN_USE', 'another broker started on the same metadata at the same time');
  return { clusterId, epoch };
}

function checkRemote(config: BrokerConfig): void {
  const loopback =
    config.host === 'localhost' || config.host === '::1' || (isIPv4(config.host) && config.host.startsWith('127.'));
  if (loopback || config.allowRemote) return;
  throw new NaruError(
    'INVALID_CONFIGURATION',
    `host ${config.host} can be reached from elsewhere, and there is no authentication: set allowRemote (--allow-remote) if the network is trusted`,
  );
}

/** Waits for `done`, which never rejects, but no longer than that. */
function atMost(timeoutMs: number, done: Promise<void>, timers: Timers): Promise<void> {
  return new Promise((resolve) => {
    const timer = timers.after(timeoutMs, resolve);
    void done.then(() => {
      timer.cancel();
      resolve();
    });
  });
}
