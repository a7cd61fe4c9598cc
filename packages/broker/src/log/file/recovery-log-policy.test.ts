/** The recovery log as an operator may have it: not synced, or kept for longer than it is needed. */
import type { LogFields, PartitionKey, TopicId } from '@naru/base';
import { partitionKey, silentLogger, systemTimers } from '@naru/base';
import { RecordingVisitor, SeededRandom, SimDisk, VirtualClock, crashRun, sampleBatch } from '@naru/testkit';
import { describe, expect, it } from 'vitest';
import type { FileLogStoreOptions } from './file-log-options.ts';
import { openFileLogStore } from './file-log-store.ts';
import type { FileLogLimits } from './limits.ts';

const P0: PartitionKey = partitionKey('0190f2a4-7c1e-7d3a-9b5f-001122334455' as TopicId, 0);
const SNAPSHOT = { version: 1, data: new Uint8Array([7]) };

const TINY: Partial<FileLogLimits> = {
  journalFileBytes: 24 * 1024,
  journalBytes: 4 * 24 * 1024,
  maxAppendBytes: 4 * 1024,
  mergedFrameBytes: 4 * 1024,
  checkpointBytes: 28 * 1024,
  unwrittenBytes: 8 * 1024,
  cacheBytes: 4 * 1024,
  segmentBytes: 1_500,
  segmentWriteBytes: 1_024,
  indexIntervalBytes: 300,
  writeBehindDelayMs: 0,
};

/** The same, with room for what is written without a checkpoint. */
const ROOMY: Partial<FileLogLimits> = { ...TINY, journalFileBytes: 64 * 1024, journalBytes: 32 * 64 * 1024 };

const SEEDS = process.env['NARU_TEST_LONG'] === undefined ? 60 : 3_000;
const FIRST_SEED = Number(process.env['NARU_TEST_SEED'] ?? 1);

describe('a recovery log that is not synced', () => {
  /** Orphans would be files that nothing explains; a hole is what may be. */
  const noOrphans = {
    ...silentLogger,
    warn: (fields: LogFields, message: string): void => {
      if (!message.includes('hole')) throw new Error(`${message}: ${JSON.stringify(fields)}`);
    },
  };

  it('loses nothing by a kill, and by a power cut only the newest; what is left is whole and starts', async () => {
    let takenBack = 0;
    for (let seed = FIRST_SEED; seed < FIRST_SEED + SEEDS; seed++) {
      const report = await crashRun({
        seed,
        crashes: 4,
        crashWithin: [100, 500, 2_500],
        mayLoseInPowerCut: true,
        openStore: (surroundings) =>
          openFileLogStore({ ...surroundings, path: '/data', limits: TINY, logger: noOrphans, syncJournal: false }),
      });
      takenBack += report.takenBack;
    }
    expect(takenBack).toBeGreaterThan(SEEDS / 3);
  }, 600_000);

  it('may be synced from the next start on, and the other way round', async () => {
    const random = new SeededRandom(3);
    let disk = new SimDisk(random);
    for (let round = 0; round < 12; round++) {
      const clock = new VirtualClock();
      const syncJournal = round % 2 === 0;
      const store = openFileLogStore({
        disk,
        clock,
        timers: systemTimers,
        random,
        path: '/data',
        limits: ROOMY,
        syncJournal,
      });
      await store.recover(new RecordingVisitor());
      if (round === 0) await store.create(P0);
      const from = store.info(P0)?.endOffset ?? 0;
      for (let i = 0; i < 20; i++) await store.append([sampleBatch(P0, from + i)]);
      disk = disk.powerCut(random);
      if (!syncJournal) continue;
      // Everything of this round was synced.
      const again = openFileLogStore({ disk, clock, timers: systemTimers, random, path: '/data', limits: ROOMY });
      await again.recover(new RecordingVisitor());
      expect(again.info(P0)?.endOffset).toBe(from + 20);
      await again.close();
    }
  });
});

describe('a recovery log that is kept', () => {
  const HOUR = 3_600_000;

  async function open(disk: SimDisk, clock: VirtualClock, options: Partial<FileLogStoreOptions> = {}) {
    const limits = { ...ROOMY, journalBytes: 8 * 64 * 1024, journalKeepMs: HOUR };
    const store = openFileLogStore({
      disk,
      clock,
      timers: systemTimers,
      random: new SeededRandom(1),
      path: '/data',
      limits,
      ...options,
    });
    const visitor = new RecordingVisitor();
    await store.recover(visitor);
    return { store, visitor };
  }

  const filesOf = (disk: SimDisk, directory: string): string[] =>
    disk.paths().filter((path) => path.startsWith(`/data/${directory}/`));

  async function filled(disk: SimDisk, clock: VirtualClock): Promise<number> {
    const { store } = await open(disk, clock);
    await store.create(P0);
    let offset = 0;
    for (let round = 0; round < 8; round++) {
      for (let i = 0; i < 40; i++) await store.append([sampleBatch(P0, offset++, { valueBytes: 200 })]);
      await store.checkpoint(SNAPSHOT);
      clock.advance(1_000);
    }
    disk.processKill(new SeededRandom(2));
    return offset;
  }

  it('starts from an older checkpoint when the newest is damaged, and has everything', async () => {
    const disk = new SimDisk(new SeededRandom(1));
    const clock = new VirtualClock();
    const end = await filled(disk, clock);
    const after = disk.powerCut(new SeededRandom(3));
    const checkpoints = filesOf(after, 'checkpoint');
    expect(checkpoints.length).toBeGreaterThan(3);
    expect(filesOf(after, 'journal').length).toBeGreaterThan(4);
    for (const path of checkpoints.slice(-2)) after.damage(path, 100, new Uint8Array([1, 2, 3, 4]));
    const { store } = await open(after, clock);
    expect(store.info(P0)).toMatchObject({ logStartOffset: 0, endOffset: end });
    let next = 0;
    while (next < end) {
      const batches = await store.read(P0, next, 10_000, end);
      next = (batches.at(-1)?.lastOffset ?? end) + 1;
    }
    await store.append([sampleBatch(P0, end)]);
    await store.close(SNAPSHOT);
    const again = await open(after, clock);
    expect(again.store.info(P0)?.endOffset).toBe(end + 1);
    await again.store.close();
  });

  it('is recycled when its time has passed', async () => {
    const disk = new SimDisk(new SeededRandom(1));
    const clock = new VirtualClock();
    await filled(disk, clock);
    const after = disk.powerCut(new SeededRandom(3));
    const { store } = await open(after, clock);
    const kept = filesOf(after, 'journal').length;
    clock.advance(2 * HOUR);
    await store.checkpoint(SNAPSHOT);
    await store.checkpoint(SNAPSHOT);
    await store.close();
    expect(filesOf(after, 'journal').length).toBeLessThan(kept);
    expect(filesOf(after, 'checkpoint').length).toBeLessThanOrEqual(2);
  });
});
