/** A shard on a disk that is full: what publishers, readers and groups see, and that it heals by itself. */
import { SeededRandom, SimDisk, VirtualClock } from '@naru/testkit';
import { isNaruError } from '@naru/protocol';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { openFileLogStore } from '../log/file/file-log-store.ts';
import { ShardScenario } from './shard-scenario.ts';
import { finished } from './settling.ts';

const KIB = 1024;
const LIMITS = {
  journalFileBytes: 256 * KIB,
  journalBytes: 4 * 256 * KIB,
  maxAppendBytes: 16 * KIB,
  mergedFrameBytes: 16 * KIB,
  checkpointBytes: 512 * KIB,
  cacheBytes: 0,
  segmentBytes: 64 * KIB,
};
/** Of one batch. */
const VALUE = 'x'.repeat(4 * KIB);
/** Longer than any wait between two attempts to write. */
const HEALED_MS = 11_000;

let clock: VirtualClock;
let disk: SimDisk;
let scenario: ShardScenario;
let memberEpoch: number;
let published: number;

function settled<T>(promise: Promise<T>): Promise<T> {
  return finished(promise, clock);
}

async function start(): Promise<void> {
  const random = new SeededRandom(1);
  const store = openFileLogStore({ disk, path: '/data', clock, timers: clock, random, limits: LIMITS });
  scenario = await settled(ShardScenario.start({ store, time: clock }));
  memberEpoch = (await settled(scenario.join('member'))).memberEpoch;
}

beforeEach(async () => {
  clock = new VirtualClock();
  disk = new SimDisk(new SeededRandom(3));
  published = 0;
  await start();
});

afterEach(() => settled(scenario.shard.close()));

async function publish(): Promise<void> {
  await settled(scenario.append(0, [`${published}${VALUE}`]));
  published += 1;
}

async function publishUntilRefused(): Promise<unknown> {
  for (let i = 0; i < 1_000; i++) {
    try {
      await publish();
    } catch (error) {
      return error;
    }
  }
  throw new Error('the disk never was full');
}

async function pass(ms: number): Promise<void> {
  for (let at = 0; at < ms; at += 50) {
    clock.advance(50);
    await new Promise<void>((resolve) => setImmediate(resolve));
  }
}

it.each([
  ['the journal', () => disk.addFault({ operation: 'write', path: /journal\/0000000[^0]/, code: 'ENOSPC' })],
  ['the segments', () => disk.addFault({ operation: 'write', path: /segments/, code: 'ENOSPC' })],
  ['anything', () => (disk.capacityBytes = disk.usedBytes + 32 * KIB)],
])('refuses publishers when there is no space for %s, serves readers and commits, and heals', async (_what, fill) => {
  for (let i = 0; i < 5; i++) await publish();
  fill();
  expect(await publishUntilRefused()).toMatchObject({ code: 'STORAGE_FULL', retriable: true });
  // A frame of the journal for each, of 4 KiB: commits have room when publishers have none.
  for (let i = 0; i < 15; i++) {
    const { results } = await settled(scenario.commit('member', memberEpoch, 0, i % 5));
    expect(results[0]?.refusal).toBeNull();
    await expect(publish()).rejects.toMatchObject({ code: 'STORAGE_FULL' });
  }
  expect(await settled(scenario.contents(0))).toHaveLength(published);
  disk.clearFaults();
  disk.capacityBytes = Infinity;
  await pass(HEALED_MS);
  const before = published;
  for (let i = 0; i < 100; i++) await publish();
  expect(await settled(scenario.contents(0))).toHaveLength(before + 100);
  disk = disk.powerCut(new SeededRandom(9));
  await start();
  expect(await settled(scenario.contents(0))).toHaveLength(before + 100);
  const [offset] = await settled(scenario.ask({ type: 'group-offsets', groupId: 'payment', partitions: null }));
  expect(offset?.committed?.offset).toBe(4);
});

it('refuses commits too when the room that is kept for them is used up, in place of keeping them waiting', async () => {
  disk.capacityBytes = disk.usedBytes;
  expect(await publishUntilRefused()).toMatchObject({ code: 'STORAGE_FULL' });
  let committed = 0;
  let refusal: unknown;
  for (let i = 0; refusal === undefined && i < 1_000; i++) {
    try {
      const { results } = await settled(scenario.commit('member', memberEpoch, 0, i % Math.max(1, published)));
      expect(results[0]?.refusal).toBeNull();
      committed += 1;
    } catch (error) {
      refusal = error;
    }
  }
  expect(isNaruError(refusal, 'STORAGE_FULL')).toBe(true);
  // At least a quarter of a journal file.
  expect(committed).toBeGreaterThanOrEqual(16);
  expect(await settled(scenario.contents(0))).toHaveLength(published);
  disk.capacityBytes = Infinity;
  await pass(HEALED_MS);
  await publish();
  const { results } = await settled(scenario.commit('member', memberEpoch, 0, 0));
  expect(results[0]?.refusal).toBeNull();
});
