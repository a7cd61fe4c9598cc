/** The compactor on the file engine, through power cuts and kills at random points: a table survives, key by key. */
import { expect, test } from 'vitest';
import { silentLogger } from '@naru/base';
import { COMPRESSION_TYPES } from '@naru/protocol/batch';
import { nodeCompressionCodecs as codecs } from '@naru/protocol/compression-node';
import { SeededRandom, SimDisk, VirtualClock } from '@naru/testkit';
import { openFileLogStore } from '../log/file/file-log-store.ts';
import type { LogStore, RecoveryVisitor } from '../log/log-store.ts';
import { Compactor } from './compactor.ts';
import { EAGER, FIRST, HOUR_MS, readTable, TableWriter, type Change } from './compactor-scenario.ts';
import { finished } from './settling.ts';

const FIRST_SEED = Number(process.env['NARU_TEST_SEED'] ?? 1);
const SEEDS = Array.from({ length: process.env['NARU_TEST_LONG'] === undefined ? 15 : 300 }, (_, i) => FIRST_SEED + i);
const LIVES = 6;
const STEPS = 60;

/** Segments roll and checkpoints come every few batches. */
const TINY = {
  journalFileBytes: 24 * 1024,
  journalBytes: 4 * 24 * 1024,
  maxAppendBytes: 4 * 1024,
  mergedFrameBytes: 4 * 1024,
  checkpointBytes: 16 * 1024,
  unwrittenBytes: 8 * 1024,
  cacheBytes: 2 * 1024,
  segmentBytes: 1_500,
  segmentWriteBytes: 512,
  indexIntervalBytes: 300,
  openFiles: 3,
};

const SNAPSHOT = { version: 1, data: new Uint8Array() };

const ignoreAll: RecoveryVisitor = {
  snapshot: () => {},
  partition: () => {},
  created: () => {},
  batch: () => {},
  truncated: () => {},
  deletedBefore: () => {},
  deleted: () => {},
};

/** One process on one disk, until the power is cut. */
class Life {
  readonly #random: SeededRandom;
  readonly #disk: SimDisk;
  readonly #clock: VirtualClock;
  readonly #table: Map<string, string>;
  /** Written and not acknowledged: it may be there after a crash, or not. */
  pending: readonly Change[] = [];
  passes = 0;
  failures = 0;

  constructor(random: SeededRandom, disk: SimDisk, clock: VirtualClock, table: Map<string, string>) {
    this.#random = random;
    this.#disk = disk;
    this.#clock = clock;
    this.#table = table;
  }

  /** Works until that is enough or the power is gone; tells what is in the log before and after. */
  async run(onTable: (table: Map<string, string>) => void): Promise<void> {
    const clock = this.#clock;
    const surroundings = { disk: this.#disk, clock, timers: clock, random: this.#random.fork() };
    const store = openFileLogStore({ ...surroundings, path: '/data', limits: TINY });
    await store.recover(ignoreAll);
    if (store.info(FIRST) === undefined) await store.create(FIRST);
    onTable((await readTable(store, FIRST)).table);
    const compactor = new Compactor({
      store,
      clock,
      timers: clock,
      codecs,
      logger: silentLogger,
      intervalMs: 1_000,
      random: this.#random.fork(),
      partitions: () => [{ partition: FIRST, config: EAGER, lastStableOffset: store.info(FIRST)?.endOffset ?? 0 }],
    });
    for (let step = 0; step < STEPS; step++) await this.#step(store, compactor);
    onTable((await readTable(store, FIRST)).table);
  }

  async #step(store: LogStore, compactor: Compactor): Promise<void> {
    const random = this.#random;
    if (store.checkpointDue() || random.chance(0.05)) await store.checkpoint(SNAPSHOT);
    const chosen = random.float();
    if (chosen < 0.7) await this.#write(store);
    else if (chosen < 0.8) await store.seal(FIRST);
    else if (chosen < 0.9) {
      await compactor.tick();
      const { passes, failures } = compactor.metrics();
      this.passes = passes;
      this.failures = failures;
    } else this.#clock.advance(random.integer(3 * HOUR_MS));
  }

  async #write(store: LogStore): Promise<void> {
    const random = this.#random;
    const changes = Array.from({ length: 1 + random.integer(10) }, (): Change => {
      const value = random.chance(0.35) ? null : `value ${random.integer(1000)} ${'x'.repeat(random.integer(80))}`;
      return [`key-${random.integer(random.pick([8, 80]))}`, value];
    });
    this.pending = changes;
    const writer = new TableWriter(store, FIRST);
    await writer.write(changes, this.#clock.nowMs(), random.pick(COMPRESSION_TYPES));
    applyAll(this.#table, changes);
    this.pending = [];
  }
}

function applyAll(table: Map<string, string>, changes: readonly Change[]): void {
  for (const [key, value] of changes) {
    if (value === null) table.delete(key);
    else table.set(key, value);
  }
}

async function expectTableToSurvive(seed: number): Promise<{ passes: number; cuts: number }> {
  const random = new SeededRandom(seed);
  const clock = new VirtualClock();
  let disk = new SimDisk(random.fork());
  let acknowledged = new Map<string, string>();
  let pending: readonly Change[] = [];
  const total = { passes: 0, cuts: 0 };
  for (let life = 0; life < LIVES; life++) {
    if (life < LIVES - 1) disk.cutAfter(20 + random.integer(900));
    const running = new Life(random.fork(), disk, clock, acknowledged);
    const work = running.run((table) => {
      const withPending = new Map(acknowledged);
      applyAll(withPending, pending);
      expect([acknowledged, withPending], `life ${life} of seed ${seed}`).toContainEqual(table);
      acknowledged.clear();
      for (const [key, value] of table) acknowledged.set(key, value);
      pending = [];
    });
    await finished(Promise.race([work, disk.whenCut]), clock);
    // A cut before the log was read leaves open what was open.
    if (running.pending.length > 0) pending = running.pending;
    acknowledged = new Map(acknowledged);
    expect(running.failures, `life ${life} of seed ${seed}`).toBe(0);
    total.passes += running.passes;
    if (disk.isCut) total.cuts += 1;
    disk = random.chance(0.5) ? disk.powerCut(random.fork()) : disk.processKill(random.fork());
  }
  return total;
}

test('compaction brings no key back and loses none, whenever the power is cut', async () => {
  const total = { passes: 0, cuts: 0 };
  for (const seed of SEEDS) {
    const { passes, cuts } = await expectTableToSurvive(seed);
    total.passes += passes;
    total.cuts += cuts;
  }
  expect(total.passes).toBeGreaterThan(SEEDS.length);
  expect(total.cuts).toBeGreaterThan(SEEDS.length);
});
