/**
 * A broker process is killed with SIGKILL again and again while publishers and subscribers go on, and in the end every
 * partition's history is checked: what was acknowledged is there, once, in order, and every group has had it.
 *
 * Segments and checkpoints are small, and a part of the kills waits until one is being written. `NARU_TEST_SEED` repeats a
 * run's plan of kills; what they hit is the machine's doing.
 */
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { delay, systemTimers } from '@naru/base';
import { connect, serdes } from '@naru/client';
import type { Naru } from '@naru/client';
import { HistoryChecker, SeededRandom } from '@naru/testkit';
import { Conditions } from './condition.ts';
import { CrashLoad, TOPIC, partitionName, polledEvent } from './crash-load.ts';
import { FileEvents } from './file-events.ts';
import { KillableBroker } from './killable-broker.ts';

const KILLS = process.env['NARU_TEST_LONG'] === '1' ? 300 : 30;
const PARTITIONS = 4;
const GROUPS = { alone: 1, shared: 2 };
/** Acknowledgements between a start and the next kill, at most. */
const MAX_ACKNOWLEDGEMENTS = 600;
/** As many are waited for at most for a roll or a checkpoint. */
const MAX_WAITING_ACKNOWLEDGEMENTS = 4_000;
/** Longest wait of a kill during start. */
const MAX_START_DELAY_MS = 600;

const SETTINGS = `
broker:
  logLevel: warn
  log:
    maxBatchBytes: 64KiB
    journalFileBytes: 20MiB
    journalBytes: 60MiB
    checkpointBytes: 256KiB
    segmentBytes: 128KiB
`;

/** When to kill, and in how many of ten kills. */
const MOMENTS = {
  /** After any number of acknowledgements. */
  underLoad: 4,
  /** When a segment was begun. */
  atRoll: 2,
  /** When a checkpoint is being written. */
  atCheckpoint: 2,
  /** As soon as the broker serves. */
  atOnce: 1,
  /** Before it serves. */
  whileStarting: 1,
} as const;

type Moment = keyof typeof MOMENTS;

interface Evidence {
  readonly kills: Readonly<Record<Moment, number>>;
  /** Kills that got tired of waiting for what they were to hit. */
  missed: number;
  /** Kills that left a checkpoint half written. */
  duringCheckpoint: number;
  /** Kills before which another checkpoint had been taken than before the kill before. */
  newCheckpoint: number;
}

let undo: (() => Promise<void>)[] = [];

afterEach(async () => {
  for (const step of undo.reverse()) await step();
  undo = [];
});

test(`what was acknowledged survives ${KILLS} kills under load, once and in order`, async () => {
  const seed = Number(process.env['NARU_TEST_SEED'] ?? Date.now() % 1_000_000);
  const random = new SeededRandom(seed);
  const root = await mkdtemp(join(tmpdir(), 'naru-crash-'));
  undo.push(() => rm(root, { recursive: true, force: true }));
  const configFile = join(root, 'naru.yaml');
  const dataDirectory = join(root, 'data');
  await writeFile(configFile, SETTINGS);
  const broker = new KillableBroker({ configFile, dataDirectory, compileCache: join(root, 'cache') });
  undo.push(() => broker.abandon());
  await broker.start();

  const naru = await connect({ brokers: [broker.address], clientId: 'observer' });
  undo.push(() => naru.close({ timeoutMs: 0 }));
  await naru.admin.createTopic(TOPIC, { partitions: PARTITIONS });
  const history = new HistoryChecker(['drain', ...Object.keys(GROUPS)]);
  const conditions = new Conditions();
  const load = new CrashLoad({ address: broker.address, history, conditions, random: random.fork() });
  undo.push(() => load.close());
  for (const [group, members] of Object.entries(GROUPS)) {
    for (let i = 1; i <= members; i++) await load.addMember(group, `${group}-${i}`);
  }
  for (const name of ['publisher-1', 'publisher-2', 'publisher-3']) await load.addPublisher(name);

  const evidence = await killRepeatedly({ broker, load, conditions, random, dataDirectory });
  await load.stopPublishing();
  const ends = await endOffsets(naru);
  await conditions.until(() => load.failures.length > 0 || hasCaughtUp(load, ends));
  expect(load.failures).toEqual([]);
  await drain(naru, history, ends);

  const report = history.check();
  const segments = await segmentCount(dataDirectory);
  // oxlint-disable-next-line no-console -- what the kills hit is chance: the run says what it was
  console.log(JSON.stringify({ seed, ...evidence, segments, ...report, violations: report.violations.length }));
  expect(report.violations).toEqual([]);
  expect(report.acknowledged).toBe(report.sent);
  expect(report.stored).toBe(report.sent);
  expect(ends.reduce((sum, end) => sum + end, 0)).toBe(report.sent);
  expect(report.sent).toBeGreaterThan(KILLS * 100);
  // The kills came where they were meant to come; not all of them: that depends on the machine.
  expect(evidence.missed).toBeLessThan(KILLS / 5);
  expect(evidence.newCheckpoint).toBeGreaterThan(0);
  expect(segments).toBeGreaterThan(PARTITIONS * (KILLS / 10));
  await broker.stop();
});

interface Scene {
  readonly broker: KillableBroker;
  readonly load: CrashLoad;
  readonly conditions: Conditions;
  readonly random: SeededRandom;
  readonly dataDirectory: string;
}

/** The broker serves before and after. */
async function killRepeatedly(scene: Scene): Promise<Evidence> {
  const { broker, random, dataDirectory } = scene;
  const kills = { underLoad: 0, atRoll: 0, atCheckpoint: 0, atOnce: 0, whileStarting: 0 };
  const evidence = { kills, missed: 0, duringCheckpoint: 0, newCheckpoint: 0 };
  let checkpoint = '';
  let serves = true;
  for (const moment of plan(random)) {
    if (moment === 'whileStarting') {
      if (serves) await broker.kill();
      await killWhileStarting(broker, random);
    } else {
      if (!serves) await broker.start();
      if (!(await theMoment(moment, scene))) evidence.missed += 1;
      await broker.kill();
    }
    serves = false;
    kills[moment] += 1;
    const names = (await readdir(join(dataDirectory, 'checkpoint'))).sort();
    if (names.some((name) => name.endsWith('.tmp'))) evidence.duringCheckpoint += 1;
    const newest = names.findLast((name) => !name.endsWith('.tmp')) ?? '';
    if (newest !== checkpoint) evidence.newCheckpoint += 1;
    checkpoint = newest;
  }
  await broker.start();
  return evidence;
}

/** The moments in the shares that {@link MOMENTS} says, in any order. */
function plan(random: SeededRandom): Moment[] {
  const ten = Object.entries(MOMENTS).flatMap(([moment, share]) => Array<Moment>(share).fill(moment as Moment));
  const moments = Array.from({ length: KILLS }, (_, index) => ten[index % ten.length] as Moment);
  for (let i = moments.length - 1; i > 0; i--) {
    const j = random.integer(i + 1);
    [moments[i], moments[j]] = [moments[j] as Moment, moments[i] as Moment];
  }
  return moments;
}

/** @returns false when what was waited for did not happen within {@link MAX_WAITING_ACKNOWLEDGEMENTS} */
async function theMoment(moment: Exclude<Moment, 'whileStarting'>, scene: Scene): Promise<boolean> {
  const { load, conditions, random, dataDirectory } = scene;
  // Anew each time: recovery may have put other directories in the place of those that were watched.
  using files = await FileEvents.watch(dataDirectory, conditions);
  const wanted = load.acknowledged + 1 + random.integer(MAX_ACKNOWLEDGEMENTS);
  // It is created, then renamed; the third is the next one's creation.
  const steps = 1 + random.integer(3);
  const moments = {
    underLoad: () => load.acknowledged >= wanted,
    atRoll: () => files.segments > 0,
    atCheckpoint: () => files.checkpoints >= steps,
    atOnce: () => true,
  };
  const limit = load.acknowledged + MAX_WAITING_ACKNOWLEDGEMENTS;
  await conditions.until(() => moments[moment]() || load.acknowledged > limit || load.failures.length > 0);
  expect(load.failures).toEqual([]);
  return moments[moment]();
}

/** The broker may be quicker: then it is killed when it serves. */
async function killWhileStarting(broker: KillableBroker, random: SeededRandom): Promise<void> {
  const starting = broker.start();
  await Promise.race([delay(systemTimers, random.integer(MAX_START_DELAY_MS)), starting]);
  await broker.kill();
  await starting;
}

async function endOffsets(naru: Naru): Promise<number[]> {
  const { partitionDetails } = await naru.admin.describeTopic(TOPIC);
  return partitionDetails.map(({ highWatermark }) => Number(highWatermark));
}

function hasCaughtUp(load: CrashLoad, ends: readonly number[]): boolean {
  return Object.keys(GROUPS).every((group) => ends.every((end, partition) => load.position(group, partition) >= end));
}

/** Reads every partition from its beginning to its end. */
async function drain(naru: Naru, history: HistoryChecker, ends: readonly number[]): Promise<void> {
  const left = new Set([...ends.keys()].filter((partition) => (ends[partition] ?? 0) > 0));
  for await (const { partition, events } of naru.poll<Uint8Array>({ topics: [TOPIC], serde: serdes.bytes })) {
    history.polled('drain', 'drain', partitionName(partition), events.map(polledEvent));
    if (Number(events.at(-1)?.offset) + 1 >= (ends[partition] ?? 0)) left.delete(partition);
    if (left.size === 0) break;
  }
}

async function segmentCount(dataDirectory: string): Promise<number> {
  const names = await readdir(join(dataDirectory, 'segments'), { recursive: true });
  return names.filter((name) => name.endsWith('.log')).length;
}
