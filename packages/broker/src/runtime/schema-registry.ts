/**
 * The schema registry of a shard: runs the pure registry machine, and writes its records to the schema log, an internal topic
 * of one partition that the broker's compactor keeps short.
 *
 * Tombstones of the log stay for good (its settings say so): what is replayed after a checkpoint must still say that
 * something was deleted. An answer waits until everything that it shows is durable.
 */
import { assert, partitionKey, type Clock, type PartitionKey } from '@naru/base';
import { refuse, type Refusal } from '@naru/protocol';
import { decodeRecords, encodeBatch, type CompressionCodecs } from '@naru/protocol/batch';
import type { TopicMetadata } from '../core/registry/topic-registry.ts';
import {
  decideSchemas,
  decodeSchemaRecord,
  encodeSchemaRecord,
  evolveRegistry,
  newRegistryState,
  registryRecords,
  type EncodedSchemaRecord,
  type SchemaCommandOf,
  type SchemaCommandType,
  type SchemaRefusal,
  type SchemaReplies,
} from '../core/schema-registry/index.ts';
import type { LogStore } from '../log/log-store.ts';
import type { CommitQueue } from './commit-queue.ts';
import { SCHEMA_LOG_TOPIC } from './internal-topics.ts';
import type { PartitionRuntime } from './partition-runtime.ts';
import { storageRefusal } from './storage-refusals.ts';

/** A question to the schema registry, or a change of it. */
export interface SchemasCommand<T extends SchemaCommandType = SchemaCommandType> {
  readonly type: 'schemas';
  readonly command: SchemaCommandOf<T>;
}

export type SchemasReply<T extends SchemaCommandType> = SchemaReplies[T] | SchemaRefusal;

export interface SchemaRegistryOptions {
  readonly partitions: PartitionRuntime;
  readonly commits: CommitQueue;
  readonly store: LogStore;
  readonly clock: Clock;
  readonly codecs: CompressionCodecs;
}

export class SchemaRegistry {
  readonly #options: SchemaRegistryOptions;
  readonly #state = newRegistryState();
  #log: PartitionKey | null = null;
  /** Of the newest change. */
  #lastCycle = 0;

  constructor(options: SchemaRegistryOptions) {
    this.#options = options;
  }

  /** Finds the log among the topics. Without it the registry answers NOT_READY. */
  useLog(topics: readonly TopicMetadata[]): void {
    const topic = topics.find(({ name }) => name === SCHEMA_LOG_TOPIC);
    this.#log = topic === undefined ? null : partitionKey(topic.id, 0);
  }

  /** Whether the partition is the log. */
  owns(partition: PartitionKey): boolean {
    return partition === this.#log;
  }

  /** Applies a batch of the log, in recovery. */
  replay(batch: Uint8Array): void {
    for (const { key, value } of decodeRecords(batch, this.#options.codecs)) this.restore(key as Uint8Array, value);
  }

  /** Applies one record of the log or of a snapshot, in recovery. */
  restore(key: Uint8Array, value: Uint8Array | null): void {
    evolveRegistry(this.#state, decodeSchemaRecord(key, value));
  }

  /** Every record that builds the present state, for a checkpoint. */
  *snapshot(): Generator<EncodedSchemaRecord> {
    for (const record of registryRecords(this.#state)) yield encodeSchemaRecord(record);
  }

  /** A change is refused when the store takes nothing now. */
  execute<T extends SchemaCommandType>(
    { command }: SchemasCommand<T>,
    reply: (reply: SchemasReply<T> | Refusal, cycle: number) => void,
  ): void {
    if (this.#log === null) return reply(refuse('NOT_READY', 'the schema registry is not there yet'), 0);
    const decision = decideSchemas(this.#state, command);
    if (decision.records.length > 0) {
      const { partitions, commits, store, clock } = this.#options;
      const refusal = storageRefusal(commits.failure, store.capacity());
      if (refusal !== null) return reply(refusal, 0);
      const timestampMs = clock.nowMs();
      const records = decision.records.map((record) => ({ ...encodeSchemaRecord(record), timestampMs }));
      assert(partitions.get(this.#log) !== undefined, 'the schema log has its partition');
      // One batch is one atomic append: a schema is never there without its version.
      this.#lastCycle = partitions.appendOwn(this.#log, encodeBatch(records));
      for (const record of decision.records) evolveRegistry(this.#state, record);
    }
    reply(decision.reply, this.#lastCycle);
  }
}
