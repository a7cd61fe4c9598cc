/** A compacted partition with transactions on a disk: compacted, crashed and read again and again, by readers from anywhere. */
// The run makes the checks of the one test below.
// oxlint-disable vitest/no-standalone-expect
import { decodeRecords, encodeBatch, readBatchHeader } from '@naru/protocol/batch';
import { nodeCompressionCodecs } from '@naru/protocol/compression-node';
import { SeededRandom, SimDisk, VirtualClock } from '@naru/testkit';
import { expect, it } from 'vitest';
import { AbortedRecords } from '../core/partition/transaction-index.ts';
import type { ProducerIdentity } from '../core/transaction/transaction-state.ts';
import { openFileLogStore } from '../log/file/file-log-store.ts';
import type { FetchView } from './commands.ts';
import { finished, turns } from './settling.ts';
import { GROUP_LOG, keyOf, sampleTopic, ShardScenario, TRANSACTION_LOG } from './shard-scenario.ts';

const SEEDS = process.env['NARU_TEST_LONG'] === undefined ? 6 : 500;
const STEPS = 160;
const PRODUCERS = 4;
const KEYS = 6;
const CONFIG = {
  'cleanup.policy': 'compact',
  'min.cleanable.dirty.ratio': '0.01',
  'segment.ms': '20000',
  'delete.retention.ms': '0',
};
const TABLE = { ...sampleTopic('table'), config: CONFIG };
const P = keyOf(0, TABLE);
/** So small that nearly everything is read from files. */
const LIMITS = {
  journalFileBytes: 48 * 1024,
  journalBytes: 4 * 48 * 1024,
  maxAppendBytes: 10 * 1024,
  mergedFrameBytes: 6 * 1024,
  checkpointBytes: 30 * 1024,
  unwrittenBytes: 4 * 1024,
  cacheBytes: 2 * 1024,
  segmentBytes: 2 * 1024,
  segmentAgeMs: 2_000,
};
const TEXT = new TextEncoder();
const FROM_TEXT = new TextDecoder();

interface Published {
  readonly offset: number;
  readonly key: string;
  readonly value: string;
  /** None: it is not part of a transaction. */
  readonly producer: number | null;
  outcome: 'open' | 'committed' | 'aborted';
}

class Run {
  readonly #random: SeededRandom;
  readonly #clock = new VirtualClock();
  readonly #published: Published[] = [];
  readonly #identities = new Map<number, ProducerIdentity>();
  readonly #sequences = new Map<number, number>();
  #disk: SimDisk;
  #shard: ShardScenario | null = null;
  #fresh = 100;
  passes = 0;
  /** Committed events that readers were not given, since others of their keys came later. */
  superseded = 0;

  constructor(seed: number) {
    this.#random = new SeededRandom(seed);
    this.#disk = new SimDisk(this.#random.fork());
  }

  get shard(): ShardScenario {
    return this.#shard as ShardScenario;
  }

  settled<T>(promise: Promise<T>): Promise<T> {
    return finished(promise, this.#clock);
  }

  async start(leaderEpoch: number): Promise<void> {
    const [disk, clock, random] = [this.#disk, this.#clock, this.#random.fork()];
    const store = openFileLogStore({ disk, path: '/data', clock, timers: clock, random, limits: LIMITS });
    const topics = [GROUP_LOG, TRANSACTION_LOG, TABLE];
    this.#shard = await this.settled(ShardScenario.start({ store, time: clock, leaderEpoch, topics }));
  }

  async stop(): Promise<void> {
    this.passes += this.shard.shard.status().compaction.passes;
    await this.settled(this.shard.shard.close());
  }

  async step(index: number): Promise<void> {
    const random = this.#random;
    const producer = random.integer(PRODUCERS);
    const dice = random.float();
    if (dice < 0.6) await this.#publish(random.chance(0.2) ? null : producer);
    else if (dice < 0.8) await this.#end(producer, random.chance(0.5));
    else if (dice < 0.84) await this.#init(producer);
    else if (dice < 0.93) await this.#passTime();
    else if (dice < 0.96) await this.#crash(index);
    else await this.check();
  }

  /** Every key has the value that was committed last, and nothing that was aborted is seen. */
  async check(): Promise<void> {
    const [status] = await this.settled(this.shard.ask({ type: 'describe-partitions', partitions: [P] }));
    const lastStableOffset = status?.lastStableOffset ?? 0;
    const open = this.#published.find(({ outcome }) => outcome === 'open');
    if (open !== undefined) expect(lastStableOffset).toBe(open.offset);
    for (const view of ['committed', 'stable'] as const) {
      const from = this.#random.chance(0.5) ? 0 : this.#random.integer(lastStableOffset + 1);
      const found = await this.#read(view, from);
      const committed = this.#published.filter(
        ({ offset, outcome }) => outcome === 'committed' && offset >= from && offset < lastStableOffset,
      );
      expect(tableOf(found), `${view} from ${from}`).toEqual(tableOf(committed));
      for (const { offset, value } of found) {
        const known = this.#published.find((published) => published.offset === offset);
        expect([known?.value, known?.outcome], `${view} at ${offset}`).toEqual([value, 'committed']);
      }
      this.superseded += committed.length - found.length;
    }
  }

  async #read(view: FetchView, from: number): Promise<Pick<Published, 'offset' | 'key' | 'value'>[]> {
    const found: Pick<Published, 'offset' | 'key' | 'value'>[] = [];
    for (let offset = from; ;) {
      const maxBytes = 1 + this.#random.integer(3_000);
      const fetch = this.shard.fetch({}, { view, maxBytes, partitions: [{ partition: P, offset, maxBytes }] });
      const [read] = (await this.settled(fetch)).partitions;
      if (read === undefined || read.nextOffset === offset) return found;
      const aborted = new AbortedRecords(read.aborted ?? []);
      for (const batch of read.batches) {
        const { isControl, isTransactional, producerId, baseOffset } = readBatchHeader(batch);
        if (isControl || (isTransactional && aborted.has(producerId, baseOffset))) continue;
        for (const { offset: at, key, value } of decodeRecords(batch, nodeCompressionCodecs)) {
          if (at >= from) found.push({ offset: at, key: textOf(key), value: textOf(value) });
        }
      }
      offset = read.nextOffset;
    }
  }

  async #publish(producer: number | null): Promise<void> {
    const records = Array.from({ length: 1 + this.#random.integer(3) }, () => ({
      key: `k${this.#random.integer(KEYS)}`,
      value: `${this.#fresh++}`.padEnd(4 + this.#random.integer(120), '.'),
    }));
    const identity = producer === null ? null : (this.#identities.get(producer) ?? (await this.#init(producer)));
    const baseSequence = this.#sequences.get(producer ?? -1) ?? 0;
    const batch = encodeBatch(
      records.map(({ key, value }) => ({
        key: TEXT.encode(key),
        value: TEXT.encode(value),
        timestampMs: this.#clock.nowMs(),
      })),
      identity === null ? {} : { ...identity, baseSequence, isTransactional: true },
    );
    const { baseOffset } = await this.settled(this.shard.ask({ type: 'append', partition: P, batch }));
    if (producer !== null) this.#sequences.set(producer, baseSequence + records.length);
    const outcome = producer === null ? 'committed' : 'open';
    records.forEach((record, index) =>
      this.#published.push({ ...record, offset: baseOffset + index, producer, outcome }),
    );
  }

  async #init(producer: number): Promise<ProducerIdentity> {
    const command = { type: 'init', transactionalId: `p${producer}`, timeoutMs: 900_000, expected: null } as const;
    const init = this.shard.ask({ type: 'transaction', command: { ...command, freshProducerId: this.#fresh++ } });
    return this.#ended(producer, false, await this.settled(init));
  }

  async #end(producer: number, commit: boolean): Promise<void> {
    const identity = this.#identities.get(producer);
    if (identity === undefined) return;
    const transaction = { transactionalId: `p${producer}`, ...identity };
    const rest = { flow: 2, freshProducerId: this.#fresh++, groupCommit: null } as const;
    const end = this.shard.ask({ type: 'end-transaction', transaction, commit, ...rest });
    this.#ended(producer, commit, (await this.settled(end)).next as ProducerIdentity);
  }

  #ended(producer: number, isCommitted: boolean, next: ProducerIdentity): ProducerIdentity {
    this.#identities.set(producer, next);
    this.#sequences.set(producer, 0);
    for (const published of this.#published) {
      if (published.producer !== producer || published.outcome !== 'open') continue;
      published.outcome = isCommitted ? 'committed' : 'aborted';
    }
    return next;
  }

  async #passTime(): Promise<void> {
    for (let second = 0; second < 30; second++) {
      this.#clock.advance(1_000);
      await turns(8);
    }
  }

  async #crash(leaderEpoch: number): Promise<void> {
    if (this.#random.chance(0.5)) await this.stop();
    const random = this.#random.fork();
    this.#disk = this.#random.chance(0.5) ? this.#disk.powerCut(random) : this.#disk.processKill(random);
    await this.start(leaderEpoch + 1);
  }
}

function textOf(bytes: Uint8Array | null): string {
  return FROM_TEXT.decode(bytes ?? new Uint8Array());
}

function tableOf(events: readonly Pick<Published, 'key' | 'value'>[]): Map<string, string> {
  return new Map(events.map(({ key, value }) => [key, value]));
}

it('readers of committed events end with the same table, wherever they begin', { timeout: 600_000 }, async () => {
  let [passes, superseded] = [0, 0];
  for (let seed = 1; seed <= SEEDS; seed++) {
    const run = new Run(seed);
    try {
      await run.start(0);
      for (let index = 0; index < STEPS; index++) await run.step(index);
      await run.check();
      await run.stop();
    } catch (error) {
      throw new Error(`seed ${seed}: ${String(error)}`, { cause: error });
    }
    passes += run.passes;
    superseded += run.superseded;
  }
  expect(passes).toBeGreaterThan(SEEDS);
  expect(superseded).toBeGreaterThan(SEEDS * 20);
});
