/** The file engine against crashes: random work and compaction, power cuts and kills at random points, also during recovery. */
import type { LogFields } from '@naru/base';
import { silentLogger } from '@naru/base';
import { describe, expect, it } from 'vitest';
import type { CrashRunOptions, CrashRunReport } from '@naru/testkit';
import { crashRun } from '@naru/testkit';
import { openFileLogStore } from './file-log-store.ts';
import type { FileLogLimits } from './limits.ts';

/** Every mechanism takes part: files roll and are recycled, indexes are dropped, handles closed, checkpoints due. */
const TINY: Partial<FileLogLimits> = {
  journalFileBytes: 24 * 1024,
  journalBytes: 4 * 24 * 1024,
  maxAppendBytes: 4 * 1024,
  mergedFrameBytes: 4 * 1024,
  checkpointBytes: 28 * 1024,
  unwrittenBytes: 8 * 1024,
  cacheBytes: 4 * 1024,
  segmentBytes: 1_500,
  segmentAgeMs: 400,
  segmentWriteBytes: 1_024,
  indexIntervalBytes: 300,
  loadedIndexes: 2,
  openFiles: 3,
  readBytes: 2_000,
  rewriteChunkBytes: 500,
  rewriteSyncBytes: 700,
  supersededBytes: 4_000,
};

const SEEDS = process.env['NARU_TEST_LONG'] === undefined ? 150 : 5_000;
/** Another range for each run finds more; a failure prints its seed, to be set here. */
const FIRST_SEED = Number(process.env['NARU_TEST_SEED'] ?? 1);

function run(seed: number, options: Partial<CrashRunOptions> = {}): Promise<CrashRunReport> {
  const openStore: CrashRunOptions['openStore'] = (surroundings) =>
    openFileLogStore({ ...surroundings, path: '/data', limits: TINY, logger: noOrphans });
  return crashRun({ seed, crashes: 4, crashWithin: [100, 500, 2_500], openStore, ...options });
}

/** Recovery warns of directories that it cannot explain: there must be none. */
const noOrphans = {
  ...silentLogger,
  warn: (fields: LogFields, message: string): never => {
    throw new Error(`${message}: ${JSON.stringify(fields)}`);
  },
};

describe('a power cut or a kill', () => {
  it('loses nothing that was acknowledged, and leaves nothing but a prefix of what was submitted', async () => {
    const total = {
      submitted: 0,
      acknowledged: 0,
      checkpoints: 0,
      recoveries: 0,
      crashesInRecovery: 0,
      powerCuts: 0,
      closes: 0,
      rewrites: 0,
      takenBack: 0,
    };
    for (let seed = FIRST_SEED; seed < FIRST_SEED + SEEDS; seed++) {
      const report = await run(seed);
      for (const key of Object.keys(total) as (keyof CrashRunReport)[]) total[key] += report[key];
    }
    // The run is worth something only if all of this happened.
    expect(total.acknowledged).toBeGreaterThan(SEEDS * 50);
    expect(total.acknowledged).toBeLessThan(total.submitted);
    expect(total.checkpoints).toBeGreaterThan(SEEDS * 2);
    expect(total.crashesInRecovery).toBeGreaterThan(SEEDS / 10);
    expect(total.powerCuts).toBeGreaterThan(SEEDS);
    expect(total.closes).toBeGreaterThan(SEEDS / 10);
    expect(total.takenBack).toBe(0);
    expect(total.rewrites).toBeGreaterThan(SEEDS * 2);
  }, 600_000);

  it('is found out when the disk does not keep what the journal syncs', async () => {
    let found = 0;
    for (let seed = 1; seed <= 20; seed++) {
      await run(seed, { honoursDsync: false }).catch((error: unknown) => {
        expect(String(error)).toMatch(
          /acknowledged operations are lost|damaged|recovery tells of|belongs to no partition/,
        );
        found += 1;
      });
    }
    expect(found).toBeGreaterThan(5);
  }, 60_000);

  it('takes the same course again with the same seed', async () => {
    expect(await run(7)).toEqual(await run(7));
  });
});
