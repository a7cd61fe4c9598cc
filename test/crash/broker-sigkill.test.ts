/**
 * A broker process is killed with SIGKILL again and again while publishers and subscribers go on, and in the end every
 * partition's history is checked: what was acknowledged is there, once, in order, and every group has had it.
 *
 * Segments and checkpoints are so small that most kills hit the one or the other. `NARU_TEST_SEED` repeats a run's plan of
 * kills; what they hit is the machine's doing.
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
import { KillableBroker } from './killable-broker.ts';

const KILLS = process.env['NARU_TEST_LONG'] === '1' ? 300 : 30;
const PARTITIONS = 4;
const GROUPS = { alone: 1, shared: 2 };
/** Acknowledgements between a start and the next kill, at most. */
const MAX_ACKNOWLEDGEMENTS = 600;
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

type Moment = 'while starting' | 'at once' | 'under load';

interface Evidence {
  readonly kills: Record<Moment, number>;
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
  const history = new HistoryChecker();
  const conditions = new Conditions();
  const load = new CrashLoad({ address: broker.address, history, conditions, random: random.fork() });
  undo.push(() => load.close());
  for (const [group, members] of Object.entries(GROUPS)) {
    for (let i = 1; i <= members; i++) await load.addMember(group, `${group}-${i}`);
  }
  for (const name of ['publisher-1', 'publisher-2', 'publisher-3']) await load.addPublisher(name);

  const evidence = await killRepeatedly(broker, load, conditions, random, dataDirectory);
  await load.stopPublishing();
  const ends = await endOffsets(naru);
  await conditions.until(() => load.failures.length > 0 || hasCaughtUp(load, ends));
  expect(load.failures).toEqual([]);
  await drain(naru, history, ends);

  const report = history.check(['drain', ...Object.keys(GROUPS)]);
  const segments = await segmentCount(dataDirectory);
  // oxlint-disable-next-line no-console
  console.log(JSON.stringify({ seed, ...evidence, segments, ...report, violations: report.violations.length }));
  expect(report.violations).toEqual([]);
  expect(report.acknowledged).toBe(report.sent);
  expect(report.stored).toBe(report.sent);
  expect(ends.reduce((sum, end) => sum + end, 0)).toBe(report.sent);
  expect(report.sent).toBeGreaterThan(KILLS * 100);
  // The kills came where they were meant to come.
  expect(evidence.newCheckpoint).toBeGreaterThan(KILLS / 3);
  expect(segments).toBeGreaterThan(PARTITIONS * (KILLS / 10));
  await broker.stop();
});

async function killRepeatedly(
  broker: KillableBroker,
  load: CrashLoad,
  conditions: Conditions,
  random: SeededRandom,
  dataDirectory: string,
): Promise<Evidence> {
  const evidence: Evidence = {
    kills: { 'while starting': 0, 'at once': 0, 'under load': 0 },
    duringCheckpoint: 0,
    newCheckpoint: 0,
  };
  let checkpoint = '';
  let moment: Moment = 'under load';
  for (let kill = 0; kill < KILLS; kill++) {
    if (moment === 'under load') {
      const wanted = load.acknowledged + 1 + random.integer(MAX_ACKNOWLEDGEMENTS);
      await conditions.until(() => load.acknowledged >= wanted || load.failures.length > 0);
      expect(load.failures).toEqual([]);
    }
    if (moment !== 'while starting') await broker.kill();
    evidence.kills[moment] += 1;
    const names = await readdir(join(dataDirectory, 'checkpoint'));
    if (names.some((name) => name.endsWith('.tmp'))) evidence.duringCheckpoint += 1;
    const newest = names.filter((name) => !name.endsWith('.tmp')).at(-1) ?? '';
    if (newest !== checkpoint) evidence.newCheckpoint += 1;
    checkpoint = newest;

    const isLast = kill === KILLS - 1;
    const dice = isLast ? 1 : random.float();
    moment = dice < 0.15 ? 'while starting' : dice < 0.3 ? 'at once' : 'under load';
    if (moment === 'while starting') await killWhileStarting(broker, random);
    else await broker.start();
  }
  return evidence;
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
