/** Compaction and transactions: whoever reads what is committed ends with the same table, however often was compacted meanwhile. */
import { silentLogger } from '@naru/base';
import {
  decodeRecords,
  encodeBatch,
  encodeControlMarker,
  readBatchHeader,
  setBatchOffsets,
} from '@naru/protocol/batch';
import { nodeCompressionCodecs as codecs } from '@naru/protocol/compression-node';
import { SeededRandom, VirtualClock } from '@naru/testkit';
import { expect, test } from 'vitest';
import { AbortedRecords, TransactionIndex } from '../core/partition/transaction-index.ts';
import type { RecoveryVisitor } from '../log/log-store.ts';
import { MemoryLogStore } from '../log/memory/memory-log-store.ts';
import { Compactor } from './compactor.ts';
import { EAGER, FIRST, HOUR_MS, type Table } from './compactor-scenario.ts';

const TEXT = new TextEncoder();
const FROM_TEXT = new TextDecoder();
const PRODUCERS = 4;

interface Published {
  readonly offset: number;
  readonly key: string;
  readonly value: string | null;
  /** 0 for nobody's. */
  readonly producerId: number;
  outcome: 'open' | 'committed' | 'aborted';
}

class Scenario {
  readonly clock = new VirtualClock();
  readonly store = new MemoryLogStore();
  readonly index = new TransactionIndex();
  readonly published: Published[] = [];
  readonly markers: number[] = [];
  readonly compactor: Compactor;
  end = 0;
  passes = 0;

  constructor(random: SeededRandom, maxMapBytes: number | undefined) {
    const { store, clock, index } = this;
    this.compactor = new Compactor({
      store,
      clock,
      timers: clock,
      codecs,
      logger: silentLogger,
      intervalMs: 1_000,
      random,
      maxMapBytes,
      partitions: () => [{ partition: FIRST, config: EAGER, lastStableOffset: this.stable, abortedIn: index.lookup() }],
      onCompacted: (_partition, endOffset) => {
        this.passes += 1;
        index.deletedBefore(endOffset);
      },
    });
  }

  get stable(): number {
    return this.index.lastStableOffset(this.end);
  }

  async start(): Promise<void> {
    await this.store.recover({ snapshot: () => {} } as unknown as RecoveryVisitor);
    await this.store.create(FIRST);
  }

  async write(producerId: number, changes: readonly (readonly [string, string | null])[]): Promise<void> {
    const isTransactional = producerId > 0;
    const records = changes.map(([key, value]) => ({
      key: TEXT.encode(key),
      value: value === null ? null : TEXT.encode(value),
      timestampMs: this.clock.nowMs(),
    }));
    const producer = { producerId, producerEpoch: 0, baseSequence: 0, isTransactional };
    const batch = encodeBatch(records, isTransactional ? producer : {});
    if (isTransactional) this.index.written(producerId, this.end);
    for (const [i, [key, value]] of changes.entries()) {
      const outcome = isTransactional ? 'open' : 'committed';
      this.published.push({ offset: this.end + i, key, value, producerId, outcome });
    }
    await this.#append(batch, changes.length);
  }

  async finish(producerId: number, isCommit: boolean): Promise<void> {
    const marker = { coordinatorEpoch: 1, producerEpoch: 0, timestampMs: this.clock.nowMs(), producerId };
    this.index.ended(producerId, isCommit, this.end);
    this.markers.push(this.end);
    for (const one of this.published) {
      if (one.producerId === producerId && one.outcome === 'open') one.outcome = isCommit ? 'committed' : 'aborted';
    }
    await this.#append(encodeControlMarker({ type: isCommit ? 'commit' : 'abort', ...marker }), 1);
  }

  async #append(records: Uint8Array, count: number): Promise<void> {
    const baseOffset = this.end;
    setBatchOffsets(records, baseOffset, 1);
    this.end += count;
    const lastOffset = this.end - 1;
    await this.store.append([
      { partition: FIRST, baseOffset, lastOffset, maxTimestampMs: this.clock.nowMs(), records },
    ]);
  }
}

/** Reads as a fetch of what is committed does. */
class CommittedReader {
  readonly table: Table = new Map();
  position = 0;
  readonly #scenario: Scenario;

  constructor(scenario: Scenario) {
    this.#scenario = scenario;
  }

  async read(maxBytes: number): Promise<void> {
    const { store, stable, index } = this.#scenario;
    if (this.position >= stable) return;
    const abortedIn = index.lookup();
    const batches = await store.read(FIRST, this.position, maxBytes, stable);
    const aborted = new AbortedRecords(abortedIn(0, this.#scenario.end));
    for (const { records, baseOffset, lastOffset } of batches) {
      const { isControl, isTransactional, producerId } = readBatchHeader(records);
      const isLeftOut = isControl || (isTransactional && aborted.has(producerId, baseOffset));
      for (const { key, value, offset } of isLeftOut ? [] : decodeRecords(records, codecs)) {
        if (offset < this.position || key === null) continue;
        if (value === null) this.table.delete(FROM_TEXT.decode(key));
        else this.table.set(FROM_TEXT.decode(key), FROM_TEXT.decode(value));
      }
      this.position = lastOffset + 1;
    }
    if (batches.length === 0) this.position = stable;
  }

  async readAll(): Promise<Table> {
    while (this.position < this.#scenario.stable) await this.read(1_000);
    return this.table;
  }
}

function tableOf(published: readonly Published[], before: number): Table {
  const table: Table = new Map();
  for (const { offset, key, value, outcome } of published) {
    if (offset >= before || outcome !== 'committed') continue;
    if (value === null) table.delete(key);
    else table.set(key, value);
  }
  return table;
}

async function expectSameTables(seed: number, maxMapBytes?: number): Promise<void> {
  const random = new SeededRandom(seed);
  const scenario = new Scenario(random.fork(), maxMapBytes);
  const { clock, compactor, index, store } = scenario;
  await scenario.start();
  const keys = maxMapBytes === undefined ? 10 : 200;
  const slow = { reader: new CommittedReader(scenario), caughtUpMs: clock.nowMs() };
  for (let step = 0; step < 200; step++) {
    const chosen = random.float();
    const producerId = random.integer(PRODUCERS);
    if (chosen < 0.55) {
      const count = 1 + random.integer(4);
      const change = () => [`k${random.integer(keys)}`, random.chance(0.3) ? null : `${step}`] as const;
      await scenario.write(producerId, Array.from({ length: count }, change));
    } else if (chosen < 0.75) {
      if (index.openSince(producerId) !== undefined) await scenario.finish(producerId, random.chance(0.5));
    } else if (chosen < 0.85) clock.advance(random.integer(HOUR_MS / 2));
    else if (chosen < 0.93) {
      await compactor.tick();
      expect(await new CommittedReader(scenario).readAll()).toEqual(tableOf(scenario.published, scenario.stable));
    } else await slow.reader.read(1 + random.integer(400));
    if (clock.nowMs() - slow.caughtUpMs < HOUR_MS / 2) continue;
    await slow.reader.readAll();
    slow.caughtUpMs = clock.nowMs();
  }
  for (const { producerId } of index.open) await scenario.finish(producerId, random.chance(0.5));
  await scenario.write(0, [['last', '1']]);
  await slow.reader.readAll();
  await compactor.tick();
  const expected = tableOf(scenario.published, scenario.end);
  expect(slow.reader.position).toBeLessThanOrEqual(scenario.end);
  expect(await slow.reader.readAll()).toEqual(expected);
  expect(await new CommittedReader(scenario).readAll()).toEqual(expected);
  expect(compactor.metrics()).toMatchObject({ failures: 0, passes: scenario.passes });
  // Nothing of what was aborted is left, every marker is, and each key is there once.
  const batches = await store.read(FIRST, 0, 10_000_000, scenario.end);
  const left = batches.flatMap(({ records }) => decodeRecords(records, codecs).map(({ offset }) => offset));
  const aborted = new Set(
    scenario.published.filter(({ outcome }) => outcome === 'aborted').map(({ offset }) => offset),
  );
  expect(left.filter((offset) => aborted.has(offset))).toEqual([]);
  expect(left.filter((offset) => scenario.markers.includes(offset))).toEqual(scenario.markers);
  const newest = new Map(
    scenario.published.filter(({ outcome }) => outcome === 'committed').map((one) => [one.key, one.offset]),
  );
  const data = left.filter((offset) => !scenario.markers.includes(offset));
  expect(data.filter((offset) => ![...newest.values()].includes(offset))).toEqual([]);
  expect(index.size).toBe(0);
}

const seeds = Array.from({ length: 20 }, (_, i) => i + 1);

test.each(seeds)('readers of what is committed end with the same table (seed %i)', async (seed) => {
  await expectSameTables(seed);
});

test.each(seeds.slice(0, 6))('also when the keys do not fit into memory at once (seed %i)', async (seed) => {
  await expectSameTables(seed, 600);
});
