/**
 * One random workload, crashed at every point: first it runs whole, which counts the disk operations that change something
 * or make it durable; then once for each of them, crashed there, recovered, compared with the model, worked on, closed,
 * opened again and compared again.
 *
 * Knows nothing of the engine. Everything derives from the seed: the same seed has the same points and the same trace.
 */
import { crc32c } from '@naru/protocol/batch';
import type { CrashRunReport, CrashingStoreOptions, RoundOptions } from './log-store-crash-run.ts';
import { CrashingStore } from './log-store-crash-run.ts';
import { SeededRandom } from './seeded-random.ts';

export interface CrashPointsOptions extends CrashingStoreOptions {
  /** Points that the workload has at most; it takes steps for about a third of them, and the rest follows. Default 300. */
  readonly maxPoints?: number | undefined;
  /** Crashes at this point only, counted from 1: what a failure prints. Default: at all of them. */
  readonly onlyPoint?: number | undefined;
}

export interface CrashPointsReport {
  /** Points at which the workload was crashed. */
  points: number;
  powerCuts: number;
  /** Crashes while the store was being opened for the first time. */
  beforeOpen: number;
  /** Checksum of every disk operation of every run, and of its outcome. */
  trace: string;
  /** What the workload did when nobody crashed it. */
  readonly whole: CrashRunReport;
  /** Operations of it, by type. */
  readonly submitted: ReadonlyMap<string, number>;
}

const MAX_POINTS = 300;
/** Of the workload; it ends earlier by the number of its points. */
const STEPS = 200;
/** Of the work after the crash. */
const STEPS_AFTER = 6;
const TEXT = new TextEncoder();

/** @throws Error naming the seed and the point, when something is lost, wrong or refused */
export async function crashPoints(options: CrashPointsOptions): Promise<CrashPointsReport> {
  const { whole, workload } = await named(options.seed, 0, () => wholeRun(options));
  const report: CrashPointsReport = {
    points: 0,
    powerCuts: 0,
    beforeOpen: 0,
    trace: whole.disk.trace,
    whole: { ...whole.report },
    submitted: whole.submitted,
  };
  for (let point = 1; point <= whole.disk.mutations; point++) {
    if (options.onlyPoint !== undefined && options.onlyPoint !== point) continue;
    await named(options.seed, point, () => crashAt(point, options, workload, report));
  }
  return report;
}

/** The workload without a crash, cut short until it has no more points than it may. */
async function wholeRun(options: CrashPointsOptions): Promise<{ whole: CrashingStore; workload: RoundOptions }> {
  const maxPoints = options.maxPoints ?? MAX_POINTS;
  for (let maxMutations = Math.ceil(maxPoints / 3); ; maxMutations = Math.floor(maxMutations * 0.75)) {
    const workload = { steps: STEPS, maxMutations, closes: true };
    const whole = new CrashingStore(options);
    await whole.round(workload);
    // What is under way when the last step is taken goes on.
    if (whole.disk.mutations <= maxPoints || maxMutations === 0) return { whole, workload };
  }
}

async function named<T>(seed: number, point: number, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    throw new Error(`seed ${seed}, crash point ${point}: ${message}`, { cause: error });
  }
}

async function crashAt(
  point: number,
  options: CrashPointsOptions,
  workload: RoundOptions,
  report: CrashPointsReport,
): Promise<void> {
  const store = new CrashingStore(options);
  store.disk.cutAfterMutations(point);
  await store.round(workload);
  // Its own stream: which crash it is may not depend on what the workload drew.
  const isPowerCut = new SeededRandom(options.seed * 1_009 + point).chance(0.7);
  report.points += 1;
  report.powerCuts += isPowerCut ? 1 : 0;
  report.beforeOpen += store.report.recoveries === 0 ? 1 : 0;
  store.crash(isPowerCut);
  // Nothing is going to crash it again, so that there is nothing to learn from operations that overtake each other.
  store.disk.slowness = 0;
  await store.round({ steps: STEPS_AFTER, closes: true });
  // Nothing crashed that one: this opens what was closed, and compares.
  await store.round({ steps: 0, closes: true });
  if (store.report.closes < 2) throw new Error('the store was not closed again');
  const trace = TEXT.encode(`${report.trace} ${store.disk.trace}`);
  report.trace = crc32c(trace).toString(16).padStart(8, '0');
}
