import { PGlite } from '@electric-sql/pglite';
import { PGLiteSocketServer } from '@electric-sql/pglite-socket';
import { silentLogger, systemClock, systemRandom, systemTimers } from '@naru/base';
import type { PostgresTestServer } from '@naru/testkit';
import { findPostgres, logStoreConformance, startPglite, startPostgres } from '@naru/testkit';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Postgres } from '../../postgres/postgres.ts';
import type { LogStore } from '../log-store.ts';
import { DatabaseLogStore } from './database-log-store.ts';
import { PostgresLogDatabase } from './postgres/postgres-log-database.ts';
import type { DatabaseLogLimits } from './limits.ts';

const vitest = { describe, it, expect, beforeEach, afterEach };
const system = { clock: systemClock, timers: systemTimers, random: systemRandom, logger: silentLogger };
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
/** Long enough that no heartbeat comes: PGlite cannot have two connections speak at the same time. */
const LEASE_MS = 3_600_000;

const real = findPostgres();

const pglite = (): Promise<PostgresTestServer> =>
  startPglite({
    createDatabase: () => PGlite.create(),
    createServer: (db) => new PGLiteSocketServer({ db, host: '127.0.0.1', port: 0, maxConnections: 10 }),
  });

let schemas = 0;

function openStore(url: string, schema: string, connections: number): LogStore {
  const settings = { url, schema, connections, leaseMs: LEASE_MS };
  const postgres = new Postgres({ ...system, ownerName: 'a test', settings });
  return new DatabaseLogStore({ ...system, limits: TINY, database: new PostgresLogDatabase(postgres, true) });
}

function conformance(name: string, connections: number, start: () => Promise<PostgresTestServer>): void {
  describe('on a server', () => {
    let server: PostgresTestServer;
    beforeAll(async () => {
      server = await start();
    }, 60_000);
    afterAll(() => server.stop());

    logStoreConformance(vitest, name, async () => {
      const schema = `naru_${schemas++}`;
      return { open: () => openStore(server.url, schema, connections), persistent: true, dispose: async () => {} };
    });
  });
}

conformance('postgres, PGlite', 1, pglite);

// The tests of outages say why when there is none.
if ('directory' in real) conformance('postgres, a real server', 3, () => startPostgres(real.directory));
