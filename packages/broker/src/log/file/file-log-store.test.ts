import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock, systemRandom, systemTimers } from '@naru/base';
import { SeededRandom, SimDisk, logStoreConformance } from '@naru/testkit';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openFileLogStore } from './file-log-store.ts';
import type { FileLogLimits } from './limits.ts';
import { nodeDisk } from './node-disk.ts';

const vitest = { describe, it, expect, beforeEach, afterEach };
/** So small that every mechanism takes part. */
const TINY: Partial<FileLogLimits> = {
  journalFileBytes: 64 * 1024,
  journalBytes: 64 * 1024 * 64,
  maxAppendBytes: 8 * 1024,
  mergedFrameBytes: 8 * 1024,
  segmentBytes: 2_000,
  cacheBytes: 3_000,
  indexIntervalBytes: 300,
  loadedIndexes: 2,
  openFiles: 3,
  writeBehindDelayMs: 0,
};

const system = { clock: systemClock, timers: systemTimers, random: systemRandom };

const LARGE: Partial<FileLogLimits> = { journalFileBytes: 32 * 1024 * 1024 };

for (const [name, limits] of Object.entries({ TINY, LARGE })) {
  logStoreConformance(vitest, `file on a real disk, ${name} limits`, async () => {
    const path = await mkdtemp(join(tmpdir(), 'naru-log-'));
    return {
      open: () => openFileLogStore({ ...system, disk: nodeDisk, path: `${path}/data`, limits }),
      persistent: true,
      dispose: () => rm(path, { recursive: true, force: true }),
    };
  });
}

logStoreConformance(vitest, 'file on a simulated disk', async () => {
  const disk = new SimDisk(new SeededRandom(1));
  return {
    open: () => openFileLogStore({ ...system, disk, path: '/data', limits: TINY }),
    persistent: true,
    dispose: async () => undefined,
  };
});
