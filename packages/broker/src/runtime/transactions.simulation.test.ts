/** Transactions on a disk that loses what was not synced: power cuts and kills at random points, in recovery too. */
import { SeededRandom, SimDisk, VirtualClock } from '@naru/testkit';
import { describe, expect, it } from 'vitest';
import { openFileLogStore } from '../log/file/file-log-store.ts';
import { plantedClient, plantedStore, type PlantedTransactionBug } from './planted-transaction-bugs.ts';
import { GROUP_LOG, ORDERS, ShardScenario, TRANSACTION_LOG } from './shard-scenario.ts';
import { TransactionRun } from './transaction-run.ts';

/** So small that files roll and checkpoints are taken between two crashes. */
const LIMITS = {
  journalFileBytes: 48 * 1024,
  journalBytes: 4 * 48 * 1024,
  maxAppendBytes: 10 * 1024,
  mergedFrameBytes: 6 * 1024,
  checkpointBytes: 64 * 1024,
  unwrittenBytes: 16 * 1024,
  cacheBytes: 16 * 1024,
  segmentBytes: 8 * 1024,
  segmentAgeMs: 2_000,
};

const LONG = process.env['NARU_TEST_LONG'] !== undefined;
const SEEDS = LONG ? 3_000 : 15;
/** Another range finds more; a failure prints its seed, to be set here. */
const FIRST_SEED = Number(process.env['NARU_TEST_SEED'] ?? 1);
const BUG_SEEDS = 40;
const CRASHES = 4;
/** Beyond the time-out of every transaction. */
const ALL_TIMES_MS = 61_000;

interface Report {
  commits: number;
  repeatedEnds: number;
  repeatedBatches: number;
  late: number;
  reads: number;
  crashesInRecovery: number;
  checkpoints: number;
}

async function run(seed: number, report: Report, bug: PlantedTransactionBug | null = null): Promise<void> {
  const random = new SeededRandom(seed);
  const workload = new TransactionRun(random.fork());
  let disk = new SimDisk(random.fork());
  for (let crash = 0; crash <= CRASHES; crash++) {
    const isLast = crash === CRASHES;
    if (!isLast) disk.cutAfter(1 + random.integer(400));
    const clock = new VirtualClock();
    const store = openFileLogStore({
      disk,
      path: '/data',
      clock,
      timers: clock,
      random: random.fork(),
      limits: LIMITS,
    });
    const starting = ShardScenario.start({
      store: plantedStore(bug, store),
      time: clock,
      leaderEpoch: crash,
      topics: [GROUP_LOG, TRANSACTION_LOG, ORDERS],
      through: (shard) => plantedClient(bug, shard),
    }).then(async (shard) => {
      await workload.resume(shard);
      return shard;
    });
    const shard = await untilCut(starting, disk, clock);
    if (shard === null) report.crashesInRecovery += 1;
    for (let step = 0; shard !== null && step < 150 && !disk.isCut && workload.failure === null; step++) {
      workload.step();
      if (random.chance(0.7)) await turn(clock, random.integer(4));
    }
    if (workload.failure !== null) throw workload.failure as Error;
    report.checkpoints += store.metrics().checkpoints;
    if (isLast && shard !== null) {
      await finish(workload, shard, disk, clock);
      break;
    }
    disk = random.chance(0.7) ? disk.powerCut(random.fork()) : disk.processKill(random.fork());
  }
  report.commits += workload.commits;
  report.repeatedEnds += workload.repeatedEnds;
  report.repeatedBatches += workload.repeatedBatches;
  report.late += workload.lateCommands;
  report.reads += workload.reads;
}

async function finish(
  workload: TransactionRun,
  shard: ShardScenario,
  disk: SimDisk,
  clock: VirtualClock,
): Promise<void> {
  workload.stop();
  for (let wait = 0; wait < 2_000 && !workload.isQuiet && workload.failure === null; wait++) await turn(clock, 1);
  if (workload.failure !== null) throw workload.failure as Error;
  expect(workload.isQuiet, 'everything is answered in the end').toBe(true);
  await turn(clock, ALL_TIMES_MS);
  for (let wait = 0; wait < 50; wait++) await turn(clock, 1);
  await untilCut(workload.check(), disk, clock);
  await untilCut(workload.checkEnded(), disk, clock);
  await untilCut(shard.shard.close(), disk, clock);
}

async function turn(clock: VirtualClock, advanceMs: number): Promise<void> {
  await new Promise<void>((resolve) => setImmediate(resolve));
  clock.advance(advanceMs);
}

/** Null when the disk was cut first. */
async function untilCut<T>(promise: Promise<T>, disk: SimDisk, clock: VirtualClock): Promise<T | null> {
  let isDone = false;
  const done = promise.finally(() => (isDone = true));
  done.catch(() => {});
  for (let turns = 0; !isDone && !disk.isCut; turns++) {
    if (turns > 20_000) throw new Error('nothing happens any more');
    await turn(clock, 1);
  }
  return isDone ? done : null;
}

function newReport(): Report {
  return { commits: 0, repeatedEnds: 0, repeatedBatches: 0, late: 0, reads: 0, crashesInRecovery: 0, checkpoints: 0 };
}

describe('after a crash', () => {
  it(
    'every transaction is there as a whole or not at all, with its offsets, and none hangs',
    async () => {
      const report = newReport();
      for (let seed = FIRST_SEED; seed < FIRST_SEED + SEEDS; seed++) {
        try {
          await run(seed, report);
        } catch (error) {
          throw new Error(`NARU_TEST_SEED=${seed}: ${String(error)}`, { cause: error });
        }
      }
      // The run is worth something only if all of this happened.
      expect(report.commits).toBeGreaterThan(SEEDS * 20);
      expect(report.repeatedEnds, 'transactions that went on after a crash').toBeGreaterThan(SEEDS / 3);
      expect(report.repeatedBatches).toBeGreaterThan(SEEDS / 6);
      expect(report.late).toBeGreaterThan(SEEDS * 20);
      expect(report.reads).toBeGreaterThan(SEEDS * 20);
      expect(report.checkpoints).toBeGreaterThan(SEEDS / 4);
      expect(report.crashesInRecovery).toBeGreaterThan(SEEDS / 20);
    },
    LONG ? 1_800_000 : 120_000,
  );

  // A number: the first seed that finds it, where that takes many.
  it.each<[PlantedTransactionBug, RegExp, number?]>([
    ['end-in-parts', /has committed offset|hangs at|still open|was acknowledged/],
    ['begin-after-data', /hangs at|has committed offset|was acknowledged|shows/, 24],
    [
      'end-before-durable',
      /was acknowledged|was seen as committed|was given epoch|FENCED|was committed already|was aborted already/,
    ],
    [
      'late-end-taken',
      /has committed offset|was acknowledged|INVALID_TXN_STATE|INVALID_PRODUCER_EPOCH|FENCED|was given epoch/,
    ],
    ['sequences-lost', /sequence|has committed offset|not known here/],
  ])(
    'a planted bug is noticed: %s',
    async (bug, promise, from = 1) => {
      const noticed: string[] = [];
      for (let seed = from; seed < from + BUG_SEEDS && noticed.length === 0; seed++) {
        await run(seed, newReport(), bug).catch((error: unknown) => noticed.push(`seed ${seed}: ${String(error)}`));
      }
      expect(noticed).toHaveLength(1);
      // Broken promises, not some failure of the harness.
      for (const message of noticed) expect(message).toMatch(promise);
    },
    60_000,
  );
});
