/** Partitions without a shard around them, for tests: a log store held by hand, transactional batches, markers, restarts. */
import { partitionKey, type PartitionKey, type TopicId } from '@naru/base';
import type { Refusal } from '@naru/protocol';
import { encodeBatch, readBatchHeader } from '@naru/protocol/batch';
import { nodeCompressionCodecs } from '@naru/protocol/compression-node';
import { topicConfig } from '../core/registry/topic-config.ts';
import type { LogStore } from '../log/log-store.ts';
import { CommitQueue } from './commit-queue.ts';
import type { AppendReply, FetchCommand, FetchedPartition, FetchReply, FetchView } from './commands.ts';
import { encodeCoreSnapshot } from './core-snapshot.ts';
import { PartitionRuntime, type PartitionRuntimeOptions } from './partition-runtime.ts';
import { Replay } from './replay.ts';
import { textsOf } from './shard-scenario.ts';
import { DEFAULT_TOPIC_CONFIG } from './shard-options.ts';

const TOPIC = '00000000-0000-4000-8000-00000000000b' as TopicId;
export const P0: PartitionKey = partitionKey(TOPIC, 0);
const CONFIG = topicConfig({}, DEFAULT_TOPIC_CONFIG);
const TEXT = new TextEncoder();

export interface ScenarioTime {
  readonly clock: PartitionRuntimeOptions['clock'];
  readonly timers: PartitionRuntimeOptions['timers'];
}

type Options = Partial<PartitionRuntimeOptions> & { readonly maxAborted?: number | undefined };

export class PartitionScenario {
  readonly runtime: PartitionRuntime;
  readonly commits: CommitQueue;
  readonly store: LogStore;
  #nextFetchId = 1;
  readonly #sequences = new Map<string, number>();

  private constructor(store: LogStore, time: ScenarioTime, options: Options) {
    this.store = store;
    this.commits = new CommitQueue(
      store,
      (entries) => this.runtime.advance(entries),
      () => {},
    );
    const limits = { maxBatchBytes: 1_000_000, maxProducers: 100, maxAborted: options.maxAborted };
    const rest = { ...time, codecs: nodeCompressionCodecs, limits, leaderEpoch: 1, ...options };
    this.runtime = new PartitionRuntime({ store, commits: this.commits, ...rest });
  }

  /** Recovers what is in the store; the partition is created if it is not there. */
  static async start(store: LogStore, time: ScenarioTime, options: Options = {}): Promise<PartitionScenario> {
    const nothing = { isGroupLog: () => false, restoreGroupRecord: () => {}, replayGroupBatch: () => {} };
    const schemas = { owns: () => false, replay: () => {}, restore: () => {} };
    const transactions = { ownsLog: () => false, replay: () => {}, restore: () => {} };
    const replay = new Replay({ ...nothing, schemas, transactions }, time.clock.nowMs());
    await store.recover(replay);
    const scenario = new PartitionScenario(store, time, options);
    for (const state of replay.partitions.values()) scenario.runtime.adopt(state, CONFIG);
    if (scenario.runtime.count === 0) await scenario.runtime.create(P0, CONFIG);
    return scenario;
  }

  /** Stages a batch; not durable before {@link flush}. `producerId` 0: of nobody; `epoch` null: not transactional. */
  write(values: readonly string[], producerId = 0, epoch: number | null = 0): AppendReply | Refusal {
    const sequence = `${producerId} ${epoch}`;
    const baseSequence = this.#sequences.get(sequence) ?? 0;
    const batch = encodeBatch(
      values.map((value) => ({ key: TEXT.encode(value), value: TEXT.encode(value), timestampMs: 1_000 })),
      producerId === 0 ? {} : { producerId, producerEpoch: epoch ?? 0, baseSequence, isTransactional: epoch !== null },
    );
    let answer: AppendReply | Refusal | null = null;
    this.runtime.append({ type: 'append', partition: P0, batch }, (reply) => (answer = reply));
    const reply = answer as unknown as AppendReply | Refusal;
    if (!('code' in reply)) this.#sequences.set(sequence, baseSequence + values.length);
    return reply;
  }

  /** Stages the end of a transaction. */
  end(producerId: number, commit: boolean, producerEpoch = 1): number | null {
    return this.runtime.appendMarkers([P0], { commit, producerId, producerEpoch });
  }

  /** Sends what was staged to the store; durable when it resolves, unless the store is held. */
  async flush(): Promise<void> {
    const cycle = this.commits.newest;
    this.commits.flush();
    await new Promise<void>((resolve, reject) =>
      this.commits.after(cycle, (error) => (error === null ? resolve() : reject(error))),
    );
  }

  fetch(offset: number, view: FetchView, options: Partial<FetchCommand> = {}): Promise<FetchReply> {
    const partitions = [{ partition: P0, offset, maxBytes: 1_000_000 }];
    const fetchId = this.#nextFetchId++;
    return new Promise((resolve, reject) =>
      this.runtime.fetch(
        { type: 'fetch', fetchId, partitions, minBytes: 1, maxBytes: 1_000_000, maxWaitMs: 0, view, ...options },
        resolve,
        reject,
      ),
    );
  }

  /** What a reader gets now; null for nothing. */
  async fetched(
    offset: number,
    view: FetchView,
    options: Partial<FetchCommand> = {},
  ): Promise<FetchedPartition | null> {
    return (await this.fetch(offset, view, options)).partitions[0] ?? null;
  }

  /** Everything that a reader from the beginning gets, as `offset:value`. */
  async texts(view: FetchView): Promise<string[]> {
    const found: string[] = [];
    for (let offset = this.runtime.get(P0)?.state.logStartOffset ?? 0; ;) {
      const fetched = await this.fetched(offset, view);
      if (fetched === null) return found;
      found.push(...textsOf(fetched.batches.filter((batch) => !readBatchHeader(batch).isControl)));
      offset = fetched.nextOffset;
    }
  }

  get lastStableOffset(): number | undefined {
    return this.runtime.lastStableOffset(P0);
  }

  checkpoint(): Promise<void> {
    const states = [...this.runtime.all()].map(({ state }) => state);
    return this.store.checkpoint(encodeCoreSnapshot(states, []));
  }
}
