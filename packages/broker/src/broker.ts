/**
 * A broker: one data directory, one port. The only place that constructs implementations and wires them together.
 */
import { existsSync } from 'node:fs';
import { isIPv4 } from 'node:net';
import { join } from 'node:path';
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
  type Random,
  type Timers,
} from '@naru/base';
import { isInternalTopicName, NaruError } from '@naru/protocol';
import { nodeCompressionCodecs } from '@naru/protocol/compression-node';
import { AdminService, PublisherService, SubscriberService } from '@naru/protocol/proto';
import { APPENDS_PER_JOURNAL_FILE, brokerConfig, type BrokerConfig, type BrokerConfigInput } from './config.ts';
import { TOPIC_KEY_PREFIX, topicMetadataKey, type TopicMetadata } from './core/registry/topic-registry.ts';
import { adminDoor } from './doors/grpc/admin-door.ts';
import { PublisherDoor } from './doors/grpc/publisher-door.ts';
import { SubscriberDoor } from './doors/grpc/subscriber-door.ts';
import { httpDoor, PEER_KEY, type HttpDoor } from './doors/http/http-door.ts';
import { MetricsPage } from './doors/http/metrics-page.ts';
import { DEFAULT_LISTENER_LIMITS, Listener } from './doors/listener.ts';
import { lockDataDirectory } from './log/file/data-dir-lock.ts';
import { openFileLogStore } from './log/file/file-log-store.ts';
import { DEFAULT_FILE_LOG_LIMITS } from './log/file/limits.ts';
import { nodeDisk } from './log/file/node-disk.ts';
import type { LogStore } from './log/log-store.ts';
import { MemoryLogStore } from './log/memory/memory-log-store.ts';
import type { MetadataChange, MetadataStore } from './metadata/metadata-store.ts';
import { SqliteMetadataStore } from './metadata/sqlite-metadata-store.ts';
import { MetadataFollower } from './runtime/metadata-follower.ts';
import { GROUP_LOG_PARTITIONS, GROUP_LOG_TOPIC, Shard } from './runtime/shard.ts';
import { GroupService } from './service/groups.ts';
import { ProducerIds } from './service/producer-ids.ts';
import { PublishService } from './service/publish.ts';
import { newTopic, TopicService } from './service/topics.ts';

export const VERSION = '0.1.0';

/** Written first of the log, once: see log/file/data-directory.ts. */
const LOG_VERSION_FILE = 'naru-data.json';

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
  readonly surroundings: BrokerSurroundings;
  readonly unlock: () => void;
}

interface Identity {
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
    const { listener, streams, door, shard, follower, metadata, unlock, surroundings } = this.#parts;
    listener.stop();
    await follower.stop();
    await shard.close();
    for (const stream of streams) stream.close();
    door.close();
    await atMost(CLOSING_GRACE_MS, listener.idle(), surroundings.timers);
    listener.destroy();
    await metadata.close();
    unlock();
  }
}

type Undo = (() => Promise<void> | void)[];

/** What stands behind the doors. */
interface Core {
  readonly identity: Identity;
  readonly store: LogStore;
  readonly metadata: MetadataStore;
  readonly shard: Shard;
  readonly follower: MetadataFollower;
  readonly topics: TopicService;
  /** Topics at the start, the broker's own among them. */
  readonly topicCount: number;
  readonly failed: Promise<NaruError>;
  readonly unlock: () => void;
}

async function start(
  config: BrokerConfig,
  surroundings: BrokerSurroundings,
  undo: Undo,
  make: (parts: Parts, address: BrokerAddress, failed: Promise<NaruError>) => Broker,
): Promise<Broker> {
  const { clock, timers, logger } = surroundings;
  const startedMs = clock.monotonicMs();
  const core = await openCore(config, surroundings, undo);
  const { store, metadata, shard, follower, failed, unlock } = core;
  const { publisher, subscriber, door, metrics } = makeDoors(config, surroundings, core);
  undo.push(() => door.close());
  const { connections: maxConnections, connectionsPerAddress: maxConnectionsPerAddress } = config.limits;
  const listener = new Listener(door, timers, logger, {
    ...DEFAULT_LISTENER_LIMITS,
    maxConnections,
    maxConnectionsPerAddress,
  });
  metrics.page = metricsPage(store, shard, listener, publisher, subscriber);
  const address = await listener.listen(config.host, config.port);
  const streams = [publisher, subscriber];
  const startMs = Math.round(clock.monotonicMs() - startedMs);
  logger.info({ ...address, storage: config.storage, topics: core.topicCount - 1, startMs }, 'the broker serves');
  return make(
    { config, store, metadata, shard, follower, listener, door, streams, surroundings, unlock },
    address,
    failed,
  );
}

/** Lock, metadata, log, shard: recovered and agreeing with each other. */
async function openCore(config: BrokerConfig, surroundings: BrokerSurroundings, undo: Undo): Promise<Core> {
  const { clock, timers, random, logger } = surroundings;
  const unlock = config.storage === 'file' ? openDataDirectory(config.data) : () => {};
  undo.push(unlock);
  const metadata = new SqliteMetadataStore(config.storage === 'file' ? join(config.data, 'metadata.db') : ':memory:');
  undo.push(() => metadata.close());
  const identity = await introduce(metadata, clock, random);
  const store = openStore(config, surroundings);
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
      defaultSessionTimeoutMs: config.groups.sessionTimeoutMs,
      defaultMaxPollIntervalMs: config.groups.maxPollIntervalMs,
    },
    onFailed: fail,
  });
  const { entries, revision } = await metadata.snapshot();
  const known = entries
    .filter(({ key }) => key.startsWith(TOPIC_KEY_PREFIX))
    .map(({ value }) => value as TopicMetadata);
  if (config.storage === 'file') await checkLogIsThere(config.data, known, surroundings.disk);
  undo.push(() => shard.close());
  await shard.start(known);
  const follower = new MetadataFollower(metadata, shard);
  follower.start(known, revision);
  undo.push(() => follower.stop());
  const { defaultPartitions: defaultPartitionCount } = config;
  const topics = new TopicService({ metadata, follower, shard, clock, random, defaultPartitionCount });
  for (const topic of known) if (topic.state === 'deleting') await topics.forget(topic.name);
  return { identity, store, metadata, shard, follower, topics, topicCount: known.length, failed, unlock };
}

function makeDoors(config: BrokerConfig, { clock, timers, logger }: BrokerSurroundings, core: Core) {
  const { metadata, shard, follower, topics, identity, failed } = core;
  const { maxBatchBytes } = config.log;
  const publisher = new PublisherDoor({
    publish: new PublishService({ topics, shard, clock, maxBatchBytes }),
    producerIds: new ProducerIds(metadata),
    shard,
    maxBatchBytes,
    logger,
  });
  const subscriber = new SubscriberDoor({
    shard,
    follower,
    clock,
    timers,
    logger,
    defaultMaxPollIntervalMs: config.groups.maxPollIntervalMs,
    peerOf: (context) => context.values.get(PEER_KEY),
  });
  const cluster = {
    clusterId: identity.clusterId,
    version: VERSION,
    storage: config.storage,
    startedAtMs: clock.nowMs(),
  };
  const admin = adminDoor({ topics, groups: new GroupService(shard, topics), shard, cluster, logger });
  let failure: NaruError | null = null;
  void failed.then((error) => {
    failure = error;
  });
  // Set before the first connection: it counts those of the listener, which is made of these doors.
  const metrics: { page: MetricsPage | null } = { page: null };
  const door = httpDoor({
    routes: (router) => {
      router.service(PublisherService, publisher);
      router.service(SubscriberService, subscriber);
      router.service(AdminService, admin);
    },
    streams: [publisher.streamMethod(), subscriber.streamMethod()],
    pages: {
      notReady: () => failure?.message ?? null,
      metrics: async () => (metrics.page === null ? { contentType: 'text/plain', text: '' } : metrics.page.render()),
    },
    logger,
  });
  return { publisher, subscriber, door, metrics };
}

/** Locks the data directory, so that a second broker is refused; returns how to let it go. */
function openDataDirectory(path: string): () => void {
  const lock = lockDataDirectory(path);
  if (existsSync(join(path, LOG_VERSION_FILE)) && !existsSync(join(path, 'metadata.db'))) {
    lock.release();
    throw new NaruError(
      'DATA_CORRUPT',
      `${path} holds a log, but its metadata.db is missing: nothing was changed. Put the metadata.db that belongs to it back`,
    );
  }
  return () => lock.release();
}

/** A topic is created after the log: metadata that knows one beside no log would begin its offsets anew. */
async function checkLogIsThere(path: string, known: readonly TopicMetadata[], disk: Disk): Promise<void> {
  if (known.every(({ name }) => isInternalTopicName(name)) || (await disk.list(path)).includes(LOG_VERSION_FILE))
    return;
  const message = `the metadata of ${path} knows topics, but their log is missing`;
  throw new NaruError('DATA_CORRUPT', `${message}: nothing was changed. Put the log that belongs to the metadata back`);
}

function openStore(config: BrokerConfig, { disk, clock, timers, random, logger }: BrokerSurroundings): LogStore {
  const { log } = config;
  if (config.storage === 'memory') return new MemoryLogStore({ maxBytes: log.memoryBytes });
  // Small journal files get small writes: a file has to hold several of the largest, or there would never be room for one.
  const appendBytes = Math.min(DEFAULT_FILE_LOG_LIMITS.maxAppendBytes, log.journalFileBytes / APPENDS_PER_JOURNAL_FILE);
  return openFileLogStore({
    disk,
    path: config.data,
    clock,
    timers,
    random,
    logger,
    limits: {
      journalFileBytes: log.journalFileBytes,
      journalBytes: log.journalBytes,
      checkpointBytes: log.checkpointBytes,
      segmentBytes: log.segmentBytes,
      segmentAgeMs: log.segmentAgeMs,
      cacheBytes: log.cacheBytes,
      maxAppendBytes: appendBytes,
      mergedFrameBytes: appendBytes,
    },
  });
}

/** Gives the cluster its id, the broker its next epoch, and groups their log, where they are missing. */
async function introduce(metadata: MetadataStore, clock: Clock, random: Random): Promise<Identity> {
  const { entries } = await metadata.snapshot();
  const found = new Map(entries.map((entry) => [entry.key, entry]));
  const changes: MetadataChange[] = [];
  const clusterId = (found.get('cluster-id')?.value as string | undefined) ?? topicIdFromBytes(randomUuidBytes(random));
  if (!found.has('cluster-id')) changes.push({ key: 'cluster-id', value: clusterId });
  const epoch = ((found.get('broker-epoch')?.value as number | undefined) ?? -1) + 1;
  changes.push({ key: 'broker-epoch', value: epoch });
  const key = topicMetadataKey(GROUP_LOG_TOPIC);
  if (!found.has(key)) {
    const shape = { name: GROUP_LOG_TOPIC, type: 'ordered', partitionCount: GROUP_LOG_PARTITIONS, config: {} } as const;
    changes.push({ key, value: newTopic(shape, topicIdFromBytes(randomUuidBytes(random)), clock.nowMs()) });
  }
  const conditions = [{ key: 'broker-epoch', revision: found.get('broker-epoch')?.revision ?? 0 }];
  const result = await metadata.commit(conditions, changes);
  if (!result.ok)
    throw new NaruError('DATA_DIRECTORY_IN_USE', 'another broker started on the same metadata at the same time');
  return { clusterId, epoch };
}

function metricsPage(
  store: LogStore,
  shard: Shard,
  listener: Listener,
  publisher: PublisherDoor,
  subscriber: SubscriberDoor,
): MetricsPage {
  const counter = (name: string, help: string, read: () => number) => ({ name, help, kind: 'counter', read }) as const;
  const gauge = (name: string, help: string, read: () => number) => ({ name, help, kind: 'gauge', read }) as const;
  return new MetricsPage([
    counter('log_appends_total', 'Appends to the log, each of any number of batches.', () => store.metrics().appends),
    counter('log_appended_bytes_total', 'Bytes of batches appended.', () => store.metrics().appendedBytes),
    counter('log_commit_cycles_total', 'Writes that made appends durable.', () => store.metrics().commitCycles),
    counter('log_commit_seconds_total', 'Time spent in those writes.', () => store.metrics().commitMs / 1_000),
    counter('log_checkpoints_total', 'Checkpoints written.', () => store.metrics().checkpoints),
    gauge(
      'log_unwritten_bytes',
      'Bytes acknowledged and not yet in their segments.',
      () => store.metrics().unwrittenBytes,
    ),
    gauge('log_cache_bytes', 'Bytes of recent batches in memory.', () => store.metrics().cacheBytes),
    counter('log_cache_hits_total', 'Reads answered from memory.', () => store.metrics().cacheHits),
    counter('log_cache_misses_total', 'Reads answered from disk.', () => store.metrics().cacheMisses),
    gauge('shard_queued_commands', 'Commands waiting in the shard.', () => shard.status().queuedCommands),
    gauge(
      'shard_committing_bytes',
      'Bytes of batches on their way to being durable.',
      () => shard.status().committingBytes,
    ),
    gauge('partitions', 'Partitions.', () => shard.status().partitions),
    gauge('groups', 'Consumer groups.', () => shard.status().groups),
    gauge('waiting_fetches', 'Long polls that wait for records.', () => shard.status().waitingFetches),
    gauge(
      'publish_in_flight_bytes',
      'Bytes of batches taken from publish streams and not durable.',
      () => publisher.inFlightBytes,
    ),
    gauge('publish_streams', 'Publish streams that are open.', () => publisher.openStreams),
    gauge('subscribe_streams', 'Subscriptions that are open.', () => subscriber.openStreams),
    gauge(
      'subscribe_held_bytes',
      'Bytes of records read for subscribers and not taken by them.',
      () => subscriber.heldBytes,
    ),
    gauge('connections', 'Open connections.', () => listener.connections),
    counter('connections_accepted_total', 'Connections accepted.', () => listener.accepted),
    counter(
      'connections_refused_total',
      'Connections refused: too many, or no known protocol.',
      () => listener.refused,
    ),
  ]);
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
