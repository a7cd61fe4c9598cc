/** What happens between the broker and PostgreSQL: cuts at any byte, stalls, two owners. On a real server only. */
import { inspect } from 'node:util';
import { silentLogger, systemClock, systemRandom, systemTimers, partitionKey } from '@naru/base';
import type { Logger, TopicId } from '@naru/base';
import { isNaruError } from '@naru/protocol';
import type { PostgresTestServer } from '@naru/testkit';
import {
  findPostgres,
  LogRewrites,
  LogWorkload,
  RecordingVisitor,
  sampleBatch,
  SeededRandom,
  startPostgres,
  TcpProxy,
} from '@naru/testkit';
import { Client } from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { Postgres } from '../../postgres/postgres.ts';
import type { PostgresSettings } from '../../postgres/postgres-settings.ts';
import { DatabaseLogStore } from './database-log-store.ts';
import type { DatabaseLogLimits } from './limits.ts';
import { PostgresLogDatabase } from './postgres/postgres-log-database.ts';

const P0 = partitionKey('0190f2a4-7c1e-7d3a-9b5f-001122334455' as TopicId, 0);
const SEEDS = Array.from({ length: 6 }, (_, i) => 1 + i);
const OPERATIONS = 60;
const PASSWORD = 'open-sesame';

const LIMITS: Partial<DatabaseLogLimits> = {
  maxAppendBytes: 8 * 1024,
  cycleBytes: 2 * 1024,
  cacheBytes: 2_000,
  pageRows: 7,
  pageBytes: 500,
  pauseMs: 0,
  retryMs: 2,
  retryMaxMs: 20,
};

/** Machines that are busy take their time. */
const eventually = (check: () => void): Promise<void> => vi.waitFor(check, { timeout: 8_000, interval: 5 });

/** A cut that is not noticed before the next use makes that use fail, once for each connection. */
async function whenReachable<T>(work: () => Promise<T>): Promise<T> {
  for (let left = 5; ; left--) {
    try {
      return await work();
    } catch (error) {
      if (left === 0 || !isNaruError(error, 'STORAGE_UNAVAILABLE')) throw error;
    }
  }
}

/** What it resolves with or what it rejects with, so that nothing rejects unobserved. */
const outcome = (work: Promise<unknown>): Promise<unknown> => work.catch((error: unknown) => error);

const real = findPostgres();
const directory = 'directory' in real ? real.directory : '';

if ('missing' in real && process.env['CI'] === undefined)
  process.stderr.write(`tests on a real PostgreSQL are skipped: ${real.missing}\n`);

describe.skipIf('missing' in real && process.env['CI'] === undefined)('PostgreSQL that cannot be reached', () => {
  let server: PostgresTestServer;
  let proxy: TcpProxy;
  let schema = '';
  let schemas = 0;
  const opened: DatabaseLogStore[] = [];

  beforeAll(async () => {
    if ('missing' in real) throw new Error(real.missing);
    server = await startPostgres(directory);
  }, 60_000);
  afterAll(() => server.stop());
  beforeEach(async () => {
    schema = `outage_${schemas++}`;
    proxy = new TcpProxy(server.address);
    await proxy.listen();
  });
  afterEach(async () => {
    proxy.heal();
    for (const store of opened.splice(0)) await store.close();
    await proxy.close();
  });

  function make(settings: Partial<PostgresSettings> = {}, logger: Logger = silentLogger): DatabaseLogStore {
    const system = { clock: systemClock, timers: systemTimers, random: systemRandom, logger };
    const url = `postgres://postgres:${PASSWORD}@127.0.0.1:${proxy.port}/postgres?sslmode=disable`;
    const postgres = new Postgres({ ...system, ownerName: 'a test', settings: { url, schema, ...settings } });
    const store = new DatabaseLogStore({
      ...system,
      limits: LIMITS,
      database: new PostgresLogDatabase(postgres, true),
    });
    opened.push(store);
    return store;
  }

  async function open(settings?: Partial<PostgresSettings>): Promise<DatabaseLogStore> {
    const store = make(settings);
    await store.recover(new RecordingVisitor());
    return store;
  }

  it.each(SEEDS)('stores everything once and in order, wherever connections are cut: seed %i', async (seed) => {
    const random = new SeededRandom(seed);
    const workload = new LogWorkload(random.fork());
    const rewrites = new LogRewrites();
    const store = await open();
    let untilCut = 5 + random.integer(30);
    let cuts = 0;
    const onBytes = (direction: string): boolean => {
      if (--untilCut > 0) return true;
      cuts += 1;
      untilCut = 1 + random.integer(60);
      // What was asked goes on sometimes, so that the server has done it and nobody hears of it.
      if (direction === 'requests' && random.chance(0.5)) {
        setImmediate(() => proxy.cut());
        return true;
      }
      proxy.cut();
      return false;
    };
    proxy.hooks = { onBytes };
    const pending: Promise<void>[] = [];
    for (let i = 0; i < OPERATIONS; i++) {
      pending.push(workload.step(store));
      if (random.chance(0.1)) {
        const data = new TextEncoder().encode(String(i));
        pending.push(store.checkpoint({ version: 1, data }).catch(() => {}));
      }
      if (random.chance(0.1)) pending.push(rewrites.begin(store, random.fork()) ?? Promise.resolve());
      if (random.chance(0.4)) await Promise.race([pending.at(-1), new Promise((resolve) => setTimeout(resolve, 5))]);
    }
    await Promise.all(pending);
    expect(cuts).toBeGreaterThan(2);
    proxy.hooks = {};
    const compare = (target: DatabaseLogStore): Promise<string | null> =>
      whenReachable(() => workload.latest.differenceFromStore(target, 700, rewrites.forms(target)));
    expect(await compare(store)).toBeNull();
    await store.close();
    expect(await compare(await open())).toBeNull();
  });

  it('waits through an outage, says so, and goes on by itself', async () => {
    const store = await open();
    await store.create(P0);
    for (let i = 0; i < 30; i++) await store.append([sampleBatch(P0, i, { valueBytes: 200 })]);
    proxy.refuse();
    let isStored = false;
    const append = store.append([sampleBatch(P0, 30)]).then(() => {
      isStored = true;
    });
    await eventually(() => expect(store.capacity().state).toBe('unavailable'));
    // From memory as before; what is in the database only, cannot be read now.
    expect((await store.read(P0, 29, 1_000, 100)).map((batch) => batch.baseOffset)).toEqual([29]);
    await expect(Promise.resolve(store.read(P0, 0, 1_000, 100))).rejects.toMatchObject({ code: 'STORAGE_UNAVAILABLE' });
    expect(isStored).toBe(false);
    proxy.heal();
    await append;
    expect(store.capacity()).toEqual({ state: 'open' });
    expect((await store.read(P0, 0, 1, 100))[0]?.baseOffset).toBe(0);
    expect(store.info(P0)?.endOffset).toBe(31);
  });

  it('notices a connection that answers nothing any more', async () => {
    const store = await open({ statementTimeoutMs: 500, connectTimeoutMs: 500 });
    await store.create(P0);
    proxy.stall();
    const append = store.append([sampleBatch(P0, 0)]);
    await eventually(() => expect(store.capacity().state).toBe('unavailable'));
    proxy.heal();
    await append;
    expect(store.info(P0)?.endOffset).toBe(1);
  });

  it('closes during an outage: what is pending is rejected, what was acknowledged is there', async () => {
    const store = await open({ leaseMs: 300 });
    await store.create(P0);
    await store.append([sampleBatch(P0, 0)]);
    proxy.refuse();
    const append = outcome(store.append([sampleBatch(P0, 1)]));
    await store.close({ version: 1, data: new Uint8Array(1) });
    expect(await append).toMatchObject({ code: 'STORAGE_UNAVAILABLE' });
    proxy.heal();
    const again = await open();
    expect((await again.read(P0, 0, 1_000, 100)).map((batch) => batch.baseOffset)).toEqual([0]);
  });

  it('fences an owner that has stalled: what it had under way never appears', async () => {
    const first = await open({ leaseMs: 300, statementTimeoutMs: 60_000 });
    await first.create(P0);
    await first.append([sampleBatch(P0, 0)]);
    proxy.stall();
    const late = outcome(first.append([sampleBatch(P0, 1, { mark: 1 }), sampleBatch(P0, 2, { mark: 1 })]));
    const second = await open({ url: server.url, leaseMs: 300 });
    // Nothing else has changed: only the epoch can keep it out.
    proxy.heal();
    expect(await late).toMatchObject({ code: 'STORAGE_ERROR' });
    await second.append([sampleBatch(P0, 1, { mark: 2 })]);
    expect(first.capacity()).toMatchObject({ state: 'offline', reason: expect.stringContaining('took over') });
    await expect(first.append([sampleBatch(P0, 1)])).rejects.toMatchObject({ code: 'STORAGE_ERROR' });
    await second.append([sampleBatch(P0, 2, { mark: 2 })]);
    await first.close();
    await second.close();
    const third = await open({ url: server.url });
    const batches = await third.read(P0, 0, 10_000, 100);
    const expected = [sampleBatch(P0, 0), sampleBatch(P0, 1, { mark: 2 }), sampleBatch(P0, 2, { mark: 2 })];
    const text = ({ records }: { records: Uint8Array }): string => Buffer.from(records).toString('base64');
    expect(batches.map(text)).toEqual(expected.map(text));
  });

  it('tells an owner that does nothing that another took over', async () => {
    const first = await open({ leaseMs: 150, statementTimeoutMs: 60_000 });
    proxy.stall();
    await open({ url: server.url, leaseMs: 150 });
    proxy.heal();
    await eventually(() => expect(first.capacity().state).toBe('offline'));
  });

  it('refuses a second broker as long as the first one lives', async () => {
    const first = await open({ leaseMs: 2_000 });
    await first.create(P0);
    const second = make({ leaseMs: 2_000 });
    await expect(second.recover(new RecordingVisitor())).rejects.toMatchObject({ code: 'DATA_DIRECTORY_IN_USE' });
    await first.append([sampleBatch(P0, 0)]);
  });

  it('changes nothing in a schema of another version or of somebody else', async () => {
    await (await open()).close();
    const client = new Client({ connectionString: server.url });
    await client.connect();
    await client.query(`UPDATE ${schema}.broker SET format_version = 99`);
    await expect(open()).rejects.toMatchObject({ code: 'DATA_DIRECTORY_VERSION' });
    schema = 'somebody_else';
    await client.query('CREATE SCHEMA somebody_else; CREATE TABLE somebody_else.orders (id integer)');
    await expect(open()).rejects.toMatchObject({ code: 'DATA_DIRECTORY_VERSION' });
    const { rows } = await client.query(
      "SELECT relname FROM pg_class WHERE relnamespace = 'somebody_else'::regnamespace",
    );
    expect(rows).toEqual([{ relname: 'orders' }]);
    await client.end();
  });

  it('says what the database refuses', async () => {
    const client = new Client({ connectionString: server.url });
    await client.connect();
    await client.query('CREATE ROLE guest LOGIN');
    await client.end();
    const url = server.url.replace('postgres@', 'guest@');
    await expect(open({ url })).rejects.toMatchObject({ code: 'INVALID_CONFIGURATION' });
    const nowhere = server.url.replace('/postgres?', '/nowhere?');
    await expect(open({ url: nowhere })).rejects.toMatchObject({ code: 'INVALID_CONFIGURATION' });
  });

  it('never shows the password', async () => {
    const said: unknown[] = [];
    const note = (fields: unknown, message: string): void => void said.push(fields, message);
    const logger = { debug: note, info: note, warn: note, error: note };
    proxy.refuse();
    const store = make({ startTimeoutMs: 0 }, logger);
    const error: unknown = await store.recover(new RecordingVisitor()).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: 'STORAGE_UNAVAILABLE' });
    expect(inspect([error, said], { depth: 20, showHidden: true })).not.toContain(PASSWORD);
    const broken = (): DatabaseLogStore => make({ url: `postgres://me:${PASSWORD}@[` });
    expect(broken).toThrowError(expect.objectContaining({ code: 'INVALID_CONFIGURATION' }));
    expect(broken).not.toThrowError(PASSWORD);
  });
});
