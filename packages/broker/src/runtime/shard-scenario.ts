/**
 * A shard on a table, for tests: topics with fixed ids, batches whose values are text, and what the shard knows as plain
 * data that two shards can be compared by. The test brings store, clock and timers.
 */
import { partitionKey, silentLogger, type Clock, type PartitionKey, type Timers, type TopicId } from '@naru/base';
import { NaruError } from '@naru/protocol';
import { decodeRecords, encodeBatch } from '@naru/protocol/batch';
import { nodeCompressionCodecs } from '@naru/protocol/compression-node';
import type { GroupCommand, GroupLimits, GroupReplies, JoinCommand } from '../core/group/index.ts';
import type { TopicMetadata } from '../core/registry/topic-registry.ts';
import type { LogStore, Snapshot } from '../log/log-store.ts';
import {
  isRefusal,
  type AppendReply,
  type Command,
  type FetchCommand,
  type FetchReply,
  type GroupCommandEnvelope,
  type ReplyOf,
  type ShardClient,
} from './commands.ts';
import { decodeCoreSnapshot } from './core-snapshot.ts';
import { GROUP_LOG_TOPIC, TRANSACTION_LOG_TOPIC } from './internal-topics.ts';
import type { ShardLimits, ShardOptions } from './shard-options.ts';
import { Shard } from './shard.ts';

const TEXT = new TextEncoder();
const FROM_TEXT = new TextDecoder();

export interface ShardScenarioOptions {
  readonly store: LogStore;
  readonly time: Clock & Timers;
  readonly topics?: readonly TopicMetadata[] | undefined;
  readonly leaderEpoch?: number | undefined;
  readonly limits?: Partial<ShardLimits> | undefined;
  readonly groupLimits?: Partial<GroupLimits> | undefined;
  readonly transactionLimits?: ShardOptions['transactionLimits'];
  readonly isIssuedProducerId?: ShardOptions['isIssuedProducerId'];
  readonly retentionIntervalMs?: number | undefined;
  /** What the shard is spoken to through. Default: directly. */
  readonly through?: ((shard: ShardClient) => ShardClient) | undefined;
}

export interface ProducerClaim {
  readonly producerId: number;
  readonly producerEpoch?: number | undefined;
  readonly baseSequence: number;
  readonly isTransactional?: boolean | undefined;
}

/** Metadata of a topic; its id derives from its name. */
export function sampleTopic(name: string, partitionCount = 1, state: TopicMetadata['state'] = 'active'): TopicMetadata {
  let hash = 7;
  for (const byte of TEXT.encode(name)) hash = (hash * 31 + byte) % 0xffffffff;
  const id = `${hash.toString(16).padStart(8, '0')}-0000-4000-8000-000000000000` as TopicId;
  return { name, id, type: 'ordered', partitionCount, config: {}, createdAtMs: 0, state };
}

export const ORDERS = sampleTopic('orders', 3);
export const GROUP_LOG = sampleTopic(GROUP_LOG_TOPIC, 2);
export const TRANSACTION_LOG = sampleTopic(TRANSACTION_LOG_TOPIC, 2);

export function keyOf(partition: number, topic: TopicMetadata = ORDERS): PartitionKey {
  return partitionKey(topic.id, partition);
}

/** A batch with a record for each value. */
export function textBatch(values: readonly string[], producer?: ProducerClaim, timestampMs = 1_000): Uint8Array {
  const options =
    producer === undefined
      ? {}
      : { ...producer, producerEpoch: producer.producerEpoch ?? 0, isTransactional: producer.isTransactional ?? false };
  return encodeBatch(
    values.map((value) => ({ key: null, value: TEXT.encode(value), timestampMs })),
    options,
  );
}

/** `offset:value` of every record. */
export function textsOf(batches: readonly Uint8Array[]): string[] {
  return batches.flatMap((batch) =>
    decodeRecords(batch, nodeCompressionCodecs).map(
      ({ offset, value }) => `${offset}:${FROM_TEXT.decode(value as Uint8Array)}`,
    ),
  );
}

export class ShardScenario {
  readonly shard: Shard;
  readonly client: ShardClient;
  /** Why the shard stopped by itself. */
  failed: NaruError | null = null;
  #nextFetchId = 1;

  private constructor(options: ShardScenarioOptions) {
    const { store, time, leaderEpoch = 0, limits, groupLimits, retentionIntervalMs, through } = options;
    const { transactionLimits, isIssuedProducerId } = options;
    this.shard = new Shard({
      store,
      limits,
      groupLimits,
      transactionLimits,
      isIssuedProducerId,
      retentionIntervalMs,
      leaderEpoch,
      clock: time,
      timers: time,
      logger: silentLogger,
      codecs: nodeCompressionCodecs,
      onFailed: (error) => {
        this.failed = error;
      },
    });
    this.client = through?.(this.shard) ?? this.shard;
  }

  static async start(options: ShardScenarioOptions): Promise<ShardScenario> {
    const scenario = new ShardScenario(options);
    try {
      await scenario.shard.start(options.topics ?? [GROUP_LOG, ORDERS]);
    } catch (error) {
      await scenario.shard.close();
      throw error;
    }
    return scenario;
  }

  submit<C extends Command>(command: C): ReturnType<typeof this.client.submit<C>> {
    return this.client.submit(command);
  }

  /** The reply; a refusal is thrown. */
  async ask<C extends Command>(command: C): Promise<ReplyOf<C>> {
    const reply = await this.client.submit(command);
    if (isRefusal(reply)) throw NaruError.from(reply);
    return reply;
  }

  append(partition: number, values: readonly string[], producer?: ProducerClaim): Promise<AppendReply> {
    return this.ask({ type: 'append', partition: keyOf(partition), batch: textBatch(values, producer) });
  }

  fetch(offsets: Readonly<Record<number, number>>, options: Partial<FetchCommand> = {}): Promise<FetchReply> {
    const partitions = Object.entries(offsets).map(([partition, offset]) => ({
      partition: keyOf(Number(partition)),
      offset,
      maxBytes: 1_000_000,
    }));
    const fetchId = this.#nextFetchId++;
    return this.ask({ type: 'fetch', fetchId, partitions, minBytes: 1, maxBytes: 1_000_000, maxWaitMs: 0, ...options });
  }

  /** Everything of a partition that can be read, as `offset:value`. */
  async contents(partition: number, topic: TopicMetadata = ORDERS): Promise<string[]> {
    const found: string[] = [];
    for (let offset = 0; ;) {
      const wanted = { partition: keyOf(partition, topic), offset, maxBytes: 1_000_000 };
      const { partitions } = await this.fetch({}, { partitions: [wanted] });
      const read = partitions[0];
      if (read === undefined) return found;
      if (read.refusal !== null) throw NaruError.from(read.refusal);
      found.push(...textsOf(read.batches));
      offset = read.nextOffset;
    }
  }

  async group<C extends GroupCommand>(command: C): Promise<GroupReplies[C['type']]> {
    const envelope: GroupCommandEnvelope<C> = { type: 'group', command };
    const reply: unknown = await this.ask(envelope);
    return reply as GroupReplies[C['type']];
  }

  join(memberId: string, options: Partial<JoinCommand> = {}): Promise<GroupReplies['join']> {
    return this.group({
      type: 'join',
      groupId: 'payment',
      memberId,
      memberEpoch: 0,
      instanceId: null,
      topics: [ORDERS.name],
      clientId: 'test',
      clientHost: 'here',
      sessionTimeoutMs: 0,
      rebalanceTimeoutMs: 0,
      maxPollIntervalMs: 0,
      owned: null,
      ...options,
    });
  }

  /** @param finished ranges beyond the offset */
  commit(
    memberId: string,
    memberEpoch: number,
    partition: number,
    offset: number,
    finished: readonly (readonly [number, number])[] = [],
  ) {
    const commit = { partition: keyOf(partition), offset, finished, metadata: '', leaderEpoch: -1, endOffset: null };
    return this.group({ type: 'commit', groupId: 'payment', memberId, memberEpoch, offsets: [commit] });
  }
}

/** A snapshot as plain data, without when producers were last seen, which a restart does not keep. */
export function describeSnapshot(snapshot: Snapshot): unknown {
  const { partitions, groupRecords } = decodeCoreSnapshot(snapshot);
  return {
    partitions: partitions
      .map(({ partition, endOffset, epochs, producers }) => ({
        partition,
        endOffset,
        epochs,
        producers: [...producers]
          .map(([id, { epoch, batches }]) => ({ id, epoch, batches }))
          .sort((a, b) => a.id - b.id),
      }))
      .sort((a, b) => (a.partition < b.partition ? -1 : 1)),
    groupRecords: groupRecords
      .map(({ key, value }) => Buffer.concat([key, value ?? new Uint8Array()]).toString('hex'))
      .sort(),
  };
}
