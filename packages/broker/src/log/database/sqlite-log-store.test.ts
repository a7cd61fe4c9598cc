import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock, systemTimers } from '@naru/base';
import { logStoreConformance } from '@naru/testkit';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { DatabaseLogStore } from './database-log-store.ts';
import type { DatabaseLogLimits } from './limits.ts';
import { SqliteLogDatabase } from './sqlite/sqlite-log-database.ts';

const vitest = { describe, it, expect, beforeEach, afterEach };
const system = { clock: systemClock, timers: systemTimers };
/** So small that every mechanism takes part. */
const TINY: Partial<DatabaseLogLimits> = {
  maxAppendBytes: 8 * 1024,
  cycleBytes: 8 * 1024,
  cacheBytes: 3_000,
  readBytes: 4 * 1024,
  pageRows: 7,
  pageBytes: 500,
  pauseMs: 0,
};

logStoreConformance(vitest, 'sqlite', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'naru-sqlite-'));
  const path = join(directory, 'naru.db');
  return {
    open: () =>
      new DatabaseLogStore({ ...system, limits: TINY, database: new SqliteLogDatabase({ path, clock: systemClock }) }),
    persistent: true,
    dispose: () => rm(directory, { recursive: true, force: true }),
  };
});
