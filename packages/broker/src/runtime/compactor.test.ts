import { describe, expect, onTestFinished, test } from 'vitest';
import { NaruError, type ErrorCode } from '@naru/protocol';
import { COMPRESSION_TYPES, decodeRecords } from '@naru/protocol/batch';
import { nodeCompressionCodecs as codecs } from '@naru/protocol/compression-node';
import { SeededRandom, VirtualClock } from '@naru/testkit';
import { silentLogger, type LogFields, type PartitionKey } from '@naru/base';
import type { RecoveryVisitor, Rewriter } from '../log/log-store.ts';
import { MemoryLogStore } from '../log/memory/memory-log-store.ts';
import { Compactor, type CompactionTarget, type CompactorOptions } from './compactor.ts';
import {
  EAGER,
  FIRST,
  HOUR_MS,
  readTable,
  SECOND,
  TableReader,
  TableWriter,
  type Change,
} from './compactor-scenario.ts';

const INTERVAL_MS = 15_000;

/** Notes what is asked of it, and fails when told to. */
class WatchedStore extends MemoryLogStore {
  readonly rewrites: PartitionKey[] = [];
  readonly seals: PartitionKey[] = [];
  failRewrite: ErrorCode | null = null;
  onRewrite: () => void = () => {};

  override rewrite(partition: PartitionKey, endOffset: number, rewriter: Rewriter): Promise<void> {
    this.rewrites.push(partition);
    this.onRewrite();
    if (this.failRewrite !== null) return Promise.reject(new NaruError(this.failRewrite, 'as the test wants'));
    return super.rewrite(partition, endOffset, rewriter);
  }

  override seal(partition: PartitionKey): Promise<void> {
    this.seals.push(partition);
    return super.seal(partition);
  }
}

async function setUp(options: Partial<CompactorOptions> = {}) {
  const clock = new VirtualClock();
  const store = new WatchedStore();
  await store.recover({ snapshot: () => {} } as unknown as RecoveryVisitor);
  const targets = new Map<PartitionKey, CompactionTarget>();
  const add = async (partition: PartitionKey, config = EAGER): Promise<TableWriter> => {
    await store.create(partition);
    targets.set(partition, {
      partition,
      config,
      get lastStableOffset() {
        return store.info(partition)?.endOffset ?? 0;
      },
    });
    return new TableWriter(store, partition);
  };
  const errors: LogFields[] = [];
  const logger = { ...silentLogger, error: (fields: LogFields) => errors.push(fields) };
  const compactor = new Compactor({
    store,
    clock,
    timers: clock,
    codecs,
    logger,
    intervalMs: INTERVAL_MS,
    random: new SeededRandom(1),
    partitions: () => targets.values(),
    ...options,
  });
  onTestFinished(() => compactor.stop());
  return { clock, store, targets, add, compactor, errors, first: await add(FIRST) };
}

type Setup = Awaited<ReturnType<typeof setUp>>;

/** `count` values of one key, a batch each. */
async function writeValues(writer: TableWriter, setup: Setup, count: number): Promise<void> {
  for (let i = 0; i < count; i++) await writer.write([['k', String(i)]], setup.clock.nowMs());
}

describe('whatever was published, and however often it was compacted meanwhile,', () => {
  const seeds = Array.from({ length: 30 }, (_, i) => i + 1);

  /** Random publishing, passes, and readers that are never later than tombstones stay. */
  async function expectSameTables(seed: number, keyCount: number, maxMapBytes?: number): Promise<void> {
    const random = new SeededRandom(seed);
    const setup = await setUp({ maxMapBytes, random: random.fork() });
    const { clock, store, compactor, first: writer } = setup;
    const readers: { reader: TableReader; caughtUpMs: number }[] = [];
    const change = (): Change => {
      const key = `key-${random.integer(keyCount)}`;
      return [key, random.chance(0.3) ? null : `value ${random.integer(1000)} ${'x'.repeat(random.integer(60))}`];
    };
    for (let step = 0; step < 120; step++) {
      const chosen = random.float();
      if (chosen < 0.5) {
        const changes = Array.from({ length: 1 + random.integer(12) }, change);
        await writer.write(changes, clock.nowMs(), random.pick(COMPRESSION_TYPES));
      } else if (chosen < 0.65) clock.advance(random.integer(HOUR_MS / 2));
      else if (chosen < 0.75) await compactor.tick();
      else if (chosen < 0.8) readers.push({ reader: new TableReader(store, FIRST), caughtUpMs: clock.nowMs() });
      else for (const { reader } of readers) if (random.chance(0.5)) await reader.read(1 + random.integer(600));
      for (const entry of readers) {
        if (clock.nowMs() - entry.caughtUpMs < HOUR_MS / 2) continue;
        await entry.reader.readAll();
        entry.caughtUpMs = clock.nowMs();
      }
    }
    for (const { reader } of readers) expect((await reader.readAll()).table).toEqual(writer.table);
    for (let pass = 0; pass < 3; pass++) {
      expect((await readTable(store, FIRST)).table).toEqual(writer.table);
      await writer.write([[`last ${pass}`, 'x']], clock.nowMs());
      clock.advance(HOUR_MS);
      await compactor.tick();
    }
    await expectCompacted(setup);
    expect(compactor.metrics()).toMatchObject({ failures: 0, skippedPartitions: 0 });
  }

  async function expectCompacted({ store, first }: Setup): Promise<void> {
    const { cleanEndOffset } = store.compactionStatus(FIRST);
    const seen = new Set<string>();
    for (const { records } of await store.read(FIRST, 0, Infinity, cleanEndOffset)) {
      for (const { key, value } of decodeRecords(records, codecs)) {
        const name = Buffer.from(key as Uint8Array).toString();
        expect(seen.has(name), `${name} is there once`).toBe(false);
        expect(value === null ? 'a tombstone' : 'a value').toBe('a value');
        seen.add(name);
      }
    }
    expect(seen.size).toBe(first.table.size - 1); // The newest batch is not clean yet.
  }

  test.each(seeds)('every reader ends with the same table (seed %i)', async (seed) => {
    await expectSameTables(seed, 12);
  });

  test.each(seeds.slice(0, 10))('also when the keys do not fit into memory at once (seed %i)', async (seed) => {
    await expectSameTables(seed, 400, 600);
  });
});

describe('a tombstone', () => {
  test('is seen for delete.retention.ms after it was first cleaned, then no more', async () => {
    const { clock, store, compactor, first } = await setUp();
    await first.write([['a', '1']], clock.nowMs());
    await first.write([['a', null]], clock.nowMs());
    await first.write([['b', '1']], clock.nowMs());
    clock.advance(10 * HOUR_MS);
    await compactor.tick();
    expect((await readTable(store, FIRST)).offsets).toEqual([1, 2]);
    clock.advance(HOUR_MS - 1);
    await first.write([['b', '2']], clock.nowMs());
    await compactor.tick();
    expect((await readTable(store, FIRST)).tombstones).toEqual(['a']);
    clock.advance(1);
    await first.write([['b', '3']], clock.nowMs());
    await compactor.tick();
    expect((await readTable(store, FIRST)).tombstones).toEqual([]);
    expect((await readTable(store, FIRST)).table).toEqual(new Map([['b', '3']]));
  });
});

describe('what is compacted', () => {
  test('is the dirtiest first, each due partition once a tick', async () => {
    const setup = await setUp();
    const { store, add, compactor, first } = setup;
    const second = await add(SECOND);
    await writeValues(first, setup, 4);
    await writeValues(second, setup, 4);
    await compactor.tick();
    store.rewrites.length = 0;
    await writeValues(first, setup, 2);
    await writeValues(second, setup, 6);
    await compactor.tick();
    expect(store.rewrites).toEqual([SECOND, FIRST]);
    await compactor.tick();
    expect(store.rewrites).toHaveLength(2);
    expect(compactor.metrics()).toMatchObject({ passes: 4, failures: 0 });
  });

  test('is nothing at or above the last stable offset', async () => {
    const setup = await setUp();
    const { store, targets, compactor, first } = setup;
    await writeValues(first, setup, 5);
    targets.set(FIRST, { partition: FIRST, config: EAGER, lastStableOffset: 0 });
    await compactor.tick();
    expect(store.rewrites).toEqual([]);
    targets.set(FIRST, { partition: FIRST, config: EAGER, lastStableOffset: 3 });
    await compactor.tick();
    expect((await readTable(store, FIRST)).offsets).toEqual([2, 3, 4]);
  });

  test('is nothing younger than min.compaction.lag.ms', async () => {
    const setup = await setUp();
    const { clock, store, targets, compactor, first } = setup;
    const config = { ...EAGER, minCompactionLagMs: HOUR_MS };
    targets.set(FIRST, { partition: FIRST, config, lastStableOffset: 100 });
    await writeValues(first, setup, 3);
    clock.advance(HOUR_MS / 2);
    await writeValues(first, setup, 3);
    await compactor.tick();
    expect(store.rewrites).toEqual([]);
    clock.advance(HOUR_MS / 2 + 1);
    await compactor.tick();
    expect((await readTable(store, FIRST)).offsets).toEqual([2, 3, 4, 5]);
  });

  test('is not what stopped being compacted while another partition was', async () => {
    const setup = await setUp();
    const { store, targets, add, compactor, first } = setup;
    const second = await add(SECOND);
    await writeValues(first, setup, 3);
    await writeValues(second, setup, 3);
    store.onRewrite = () => void targets.delete(SECOND);
    await compactor.tick();
    expect(store.rewrites).toEqual([FIRST]);
    expect((await readTable(store, SECOND)).offsets).toEqual([0, 1, 2]);
  });

  test('is closed first when it is old enough', async () => {
    const setup = await setUp();
    const { clock, store, targets, compactor, first } = setup;
    targets.set(FIRST, { partition: FIRST, config: { ...EAGER, segmentMs: HOUR_MS }, lastStableOffset: 100 });
    await writeValues(first, setup, 1);
    await compactor.tick();
    expect(store.seals).toEqual([]);
    clock.advance(HOUR_MS);
    await compactor.tick();
    expect(store.seals).toEqual([FIRST]);
  });

  test('is counted', async () => {
    const setup = await setUp();
    await writeValues(setup.first, setup, 5);
    const before = setup.store.compactionStatus(FIRST).dirtyBytes;
    await setup.compactor.tick();
    const { bytesBefore, bytesAfter, passes } = setup.compactor.metrics();
    expect([passes, bytesBefore, bytesAfter]).toEqual([1, before, before / 4]);
  });
});

describe('a pass that fails', () => {
  test.each<ErrorCode>(['DATA_CORRUPT', 'UNSUPPORTED', 'INTERNAL'])(
    'with %s is logged once, and the partition left alone until its log changes',
    async (code) => {
      const setup = await setUp();
      const { store, compactor, errors, first } = setup;
      await writeValues(first, setup, 5);
      store.failRewrite = code;
      for (let i = 0; i < 3; i++) await compactor.tick();
      expect(store.rewrites).toHaveLength(1);
      expect(errors).toEqual([expect.objectContaining({ partition: FIRST, fromOffset: 0, toOffset: 4 })]);
      expect(compactor.metrics()).toMatchObject({ failures: 1, skippedPartitions: 1, passes: 0 });
      expect((await readTable(store, FIRST)).offsets).toEqual([0, 1, 2, 3, 4]);
      store.failRewrite = null;
      await store.deleteBefore(FIRST, 1);
      await compactor.tick();
      expect(compactor.metrics()).toMatchObject({ passes: 1, skippedPartitions: 0 });
    },
  );

  test.each<[ErrorCode, number]>([
    ['STORAGE_FULL', 2],
    ['STORAGE_UNAVAILABLE', 1],
    ['STORAGE_ERROR', 1],
  ])('with %s is tried again at the next tick; in this one %i partitions are tried', async (code, tried) => {
    const setup = await setUp();
    const { store, add, compactor, first } = setup;
    const second = await add(SECOND);
    await writeValues(first, setup, 4);
    await writeValues(second, setup, 4);
    store.failRewrite = code;
    await compactor.tick();
    expect(store.rewrites).toHaveLength(tried);
    store.failRewrite = null;
    await compactor.tick();
    expect(compactor.metrics()).toMatchObject({ passes: 2, failures: tried, skippedPartitions: 0 });
  });

  test('because the partition was deleted meanwhile is no failure', async () => {
    const setup = await setUp();
    const { store, compactor, errors, first } = setup;
    await writeValues(first, setup, 4);
    store.onRewrite = () => void store.delete(FIRST);
    await compactor.tick();
    expect(errors).toEqual([]);
    expect(compactor.metrics()).toMatchObject({ failures: 0, skippedPartitions: 0 });
  });

  test('because there are more keys than any number of rounds can hold says so', async () => {
    const setup = await setUp({ maxMapBytes: 1 });
    const { clock, compactor, errors, first } = setup;
    for (let i = 0; i < 100; i++)
      await first.write(
        [
          [`k${i}`, '1'],
          [`l${i}`, '1'],
        ],
        clock.nowMs(),
      );
    await compactor.tick();
    expect(errors).toEqual([expect.objectContaining({ err: expect.objectContaining({ code: 'UNSUPPORTED' }) })]);
  });
});

describe('the compactor', () => {
  const settled = async (): Promise<void> => {
    for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve));
  };

  test('works every interval, once it was started', async () => {
    const setup = await setUp();
    const { clock, store, compactor, first } = setup;
    compactor.start();
    for (let round = 1; round <= 3; round++) {
      await writeValues(first, setup, 3);
      clock.advance(INTERVAL_MS - 1);
      await settled();
      expect(store.rewrites).toHaveLength(round - 1);
      clock.advance(1);
      await settled();
      expect(store.rewrites).toHaveLength(round);
    }
    await compactor.stop();
    expect(clock.pendingTimers).toBe(0);
  });

  test.each([
    ['reads', 1],
    ['rewrites', 2],
  ])('stops promptly while it %s, and nothing has changed', async (_, turn) => {
    let turns = 0;
    const stopping: Promise<void>[] = [];
    const stopAt = (now: number): void => {
      if (now === turn) stopping.push(setup.compactor.stop());
    };
    const setup = await setUp({
      yieldTurn: (callback) => {
        stopAt(++turns);
        setImmediate(callback);
      },
    });
    const { store, compactor, first } = setup;
    store.onRewrite = () => stopAt(++turns);
    await writeValues(first, setup, 5);
    await compactor.tick();
    await Promise.all(stopping);
    expect((await readTable(store, FIRST)).offsets).toEqual([0, 1, 2, 3, 4]);
    expect(store.compactionStatus(FIRST).cleanEndOffset).toBe(0);
    await compactor.tick();
    expect(store.rewrites).toHaveLength(turn - 1);
    expect(compactor.metrics()).toMatchObject({ passes: 0, failures: 0 });
  });
});
