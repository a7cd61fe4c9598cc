/**
 * What a shard is made of, wired together: construction only. The parts reach each other through what is given to them here;
 * nothing is called before all of them are there.
 */
import type { PartitionKey, TopicId } from '@naru/base';
import type { NaruError } from '@naru/protocol';
import { DEFAULT_GROUP_LIMITS, type GroupContext } from '../core/group/index.ts';
import type { TopicConfig } from '../core/registry/topic-config.ts';
import type { AppendEntry } from '../log/log-store.ts';
import { CommitQueue } from './commit-queue.ts';
import type { Command } from './commands.ts';
import { Compactor } from './compactor.ts';
import { needsWithholding } from './declared-groups.ts';
import { EventWatch } from './event-watch.ts';
import { GateWatches } from './gate-watches.ts';
import { GroupCoordinator } from './group-coordinator.ts';
import { GroupLog } from './group-log.ts';
import { HeldReads } from './held-reads.ts';
import { PartitionRuntime } from './partition-runtime.ts';
import { QueueRuntime } from './queue-runtime.ts';
import { Retention } from './retention.ts';
import { SchemaRegistry } from './schema-registry.ts';
import {
  DEFAULT_COMPACTION_INTERVAL_MS,
  DEFAULT_LEDGER,
  DEFAULT_RETENTION_INTERVAL_MS,
  DEFAULT_TOPIC_CONFIG,
  type ShardLimits,
  type ShardOptions,
} from './shard-options.ts';
import { ShardTopics } from './shard-topics.ts';
import { TransactionCoordinator } from './transaction-coordinator.ts';

/** What the parts tell the shard. */
export interface ShardEvents {
  /** A cycle is durable, and what follows from it is done. */
  readonly onDurable: () => void;
  /** An append failed. */
  readonly onFailed: (error: NaruError) => void;
  /** An invariant broke. */
  readonly onBug: (error: unknown) => void;
  /** A timer gave a command. */
  readonly enqueue: (command: Command) => void;
}

export class ShardParts {
  readonly commits: CommitQueue;
  readonly partitions: PartitionRuntime;
  readonly groupLog: GroupLog;
  readonly groups: GroupCoordinator;
  readonly transactions: TransactionCoordinator;
  readonly schemas: SchemaRegistry;
  readonly events: EventWatch;
  readonly gates: GateWatches;
  readonly held: HeldReads;
  readonly queues: QueueRuntime;
  readonly topics: ShardTopics;
  readonly retention: Retention;
  readonly compactor: Compactor;

  constructor(options: ShardOptions, limits: ShardLimits, events: ShardEvents) {
    const { store, clock, timers, codecs } = options;
    const onDurable = (entries: readonly AppendEntry[]): void => {
      this.partitions.advance(entries);
      events.onDurable();
    };
    this.commits = new CommitQueue(store, onDurable, events.onFailed);
    const { commits } = this;
    this.partitions = this.#makePartitions(options, limits);
    const { partitions } = this;
    this.schemas = new SchemaRegistry({ partitions, commits, store, clock, codecs });
    this.topics = new ShardTopics(partitions, options.topicDefaults ?? DEFAULT_TOPIC_CONFIG);
    this.groupLog = new GroupLog({ partitions, commits, store, clock });
    this.groups = this.#makeGroups(options, events);
    const { groups } = this;
    this.transactions = new TransactionCoordinator({
      partitions,
      groups,
      commits,
      store,
      clock,
      timers,
      codecs,
      limits: options.transactionLimits,
      partitionExists: (key) => partitions.get(key) !== undefined && this.topics.ownedRefusal(key) === null,
      enqueue: events.enqueue,
    });
    const topicConfig = (topicId: TopicId): TopicConfig | undefined => this.topics.configOf(topicId);
    this.queues = new QueueRuntime({ ...options, partitions, groups, commits, topicConfig, onBug: events.onBug });
    this.held = new HeldReads({ groups, topicConfig, clock, timers });
    this.events = new EventWatch({ groups, timers, topicConfig });
    this.gates = new GateWatches({
      timers,
      groups,
      gateOf: (groupId, topicId) => this.topics.declared.gateOf(groupId, topicId),
      bounds: (key) => {
        const partition = partitions.get(key);
        return partition && { start: partition.state.logStartOffset, end: partition.highWatermark };
      },
    });
    this.retention = this.#makeRetention(options);
    this.compactor = this.#makeCompactor(options);
  }

  #makePartitions(options: ShardOptions, limits: ShardLimits): PartitionRuntime {
    const { store, clock, timers, codecs, leaderEpoch, isIssuedProducerId } = options;
    return new PartitionRuntime({
      store,
      commits: this.commits,
      clock,
      timers,
      codecs,
      leaderEpoch,
      limits,
      isIssuedProducerId,
      transactions: {
        admit: (partition, header, flow) => this.transactions.admit(partition, header, flow),
        owns: (producerId) => this.transactions.owns(producerId),
      },
      onAdvanced: (partition: PartitionKey) => this.queues.advanced(partition),
    });
  }

  #makeGroups(options: ShardOptions, events: ShardEvents): GroupCoordinator {
    const { clock, timers, codecs, ledger = DEFAULT_LEDGER } = options;
    return new GroupCoordinator({
      log: this.groupLog,
      partitions: this.partitions,
      commits: this.commits,
      clock,
      timers,
      codecs,
      context: this.#groupContext(options),
      enqueue: (command) => events.enqueue({ type: 'group', command }),
      ledger,
      onChanged: (groupId, records) => {
        this.events.changed(groupId, records);
        this.gates.changed(records);
        this.held.changed(groupId, records);
        this.queues.changed(groupId, records);
      },
    });
  }

  #groupContext({ groupLimits }: ShardOptions): GroupContext {
    return {
      topics: (name) => {
        const topic = this.topics.registry.byName(name);
        if (topic === undefined) return undefined;
        const { id: topicId, partitionCount, type } = topic;
        return { topicId, partitionCount, isParallel: type === 'parallel' };
      },
      topicName: (topicId) => this.topics.registry.byId(topicId)?.name,
      topicNames: () => this.topics.names(),
      ownLogEnd: (log, groupId) => this.groupLog.ownEnd(log, groupId),
      topicConfig: (topicId) => this.topics.configOf(topicId),
      ledger: () => this.groups.ledger,
      refusesKafkaMembers: (groupId) => needsWithholding(groupId, this.topics.declared, this.groups.state(groupId)),
      limits: { ...DEFAULT_GROUP_LIMITS, ...groupLimits },
    };
  }

  #makeRetention(options: ShardOptions): Retention {
    const { store, clock, timers, logger, retentionIntervalMs, yieldTurn = setImmediate } = options;
    return new Retention({
      store,
      clock,
      timers,
      logger,
      intervalMs: retentionIntervalMs ?? DEFAULT_RETENTION_INTERVAL_MS,
      partitions: () => this.topics.keptByPolicy(),
      finishedBefore: (groupId, partition) => this.queues.finishedBefore(groupId, partition),
      deleteBefore: (partition, offset) => this.partitions.deleteBefore(partition, offset),
      flush: () => this.commits.flush(),
      yieldTurn,
    });
  }

  #makeCompactor(options: ShardOptions): Compactor {
    const { store, clock, timers, codecs, logger, compactionIntervalMs, compactionMapBytes, yieldTurn } = options;
    return new Compactor({
      store,
      clock,
      timers,
      codecs,
      logger,
      intervalMs: compactionIntervalMs ?? DEFAULT_COMPACTION_INTERVAL_MS,
      partitions: () => this.topics.compacted(),
      onCompacted: (partition, endOffset) => this.partitions.compacted(partition, endOffset),
      yieldTurn,
      maxMapBytes: compactionMapBytes,
    });
  }
}
