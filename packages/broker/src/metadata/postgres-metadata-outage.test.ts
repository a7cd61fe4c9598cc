/** Metadata in PostgreSQL while the way there breaks. On a real server only; log/database/postgres-outage.test.ts says why. */
import { silentLogger, systemClock, systemRandom, systemTimers } from '@naru/base';
import type { PostgresTestServer } from '@naru/testkit';
import { findPostgres, SeededRandom, startPostgres, TcpProxy } from '@naru/testkit';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Postgres } from '../postgres/postgres.ts';
import type { MetadataChange } from './metadata-store.ts';
import { PostgresMetadataStore } from './postgres-metadata-store.ts';

const SEEDS = [1, 2, 3];
const COMMITS = 25;

const real = findPostgres();
const directory = 'directory' in real ? real.directory : '';

describe.skipIf('missing' in real && process.env['CI'] === undefined)('metadata in PostgreSQL', () => {
  let server: PostgresTestServer;
  let proxy: TcpProxy;
  let postgres: Postgres;
  let store: PostgresMetadataStore;
  let schemas = 0;

  const open = async (url: string, schema: string): Promise<void> => {
    const settings = { url, schema, connections: 2, leaseMs: 300, statementTimeoutMs: 60_000 };
    const system = { clock: systemClock, timers: systemTimers, random: systemRandom, logger: silentLogger };
    postgres = new Postgres({ ...system, ownerName: 'a test', settings });
    await postgres.start();
    store = await PostgresMetadataStore.open(postgres, systemTimers);
  };
  const close = async (): Promise<void> => {
    await store.close();
    await postgres.close();
  };
  const throughProxy = (): string => `postgres://postgres@127.0.0.1:${proxy.port}/postgres?sslmode=disable`;

  beforeAll(async () => {
    if ('missing' in real) throw new Error(real.missing);
    server = await startPostgres(directory);
  }, 60_000);
  afterAll(() => server.stop());
  beforeEach(async () => {
    proxy = new TcpProxy(server.address);
    await proxy.listen();
    await open(throughProxy(), `metadata_${schemas}`);
  });
  afterEach(async () => {
    proxy.heal();
    await close();
    await proxy.close();
    schemas += 1;
  });

  it.each(SEEDS)('commits once, and tells watchers once, wherever connections are cut: seed %i', async (seed) => {
    const random = new SeededRandom(seed);
    let untilCut = 20;
    let cuts = 0;
    const onBytes = (): boolean => {
      if (--untilCut > 0) return true;
      cuts += 1;
      untilCut = 20 + random.integer(60);
      proxy.cut();
      return false;
    };
    proxy.hooks = { onBytes };
    const committed: number[] = [];
    for (let i = 0; i < COMMITS;) {
      const result = await store
        .commit([{ key: `key ${i}`, revision: 0 }], [{ key: `key ${i}`, value: i }])
        .catch((error: unknown) => error);
      // Refused before anything was tried: asked again.
      if (result instanceof Error) expect(result).toMatchObject({ code: 'STORAGE_UNAVAILABLE' });
      else {
        committed.push(i);
        i += 1;
        expect(result).toEqual({ ok: true, revision: i });
      }
    }
    proxy.hooks = {};
    expect(cuts).toBeGreaterThan(2);
    // A cut that nobody has noticed yet makes the next use fail.
    await store.get('').catch(() => {});
    await store.get('').catch(() => {});
    const { revision, entries } = await store.snapshot();
    expect(revision).toBe(COMMITS);
    expect(entries.map(({ value }) => Number(value)).sort((a, b) => a - b)).toEqual(committed);
    const watched: MetadataChange[] = [];
    for await (const commit of store.watch(0, new AbortController().signal)) {
      watched.push(...commit.changes);
      if (commit.revision === COMMITS) break;
    }
    expect(watched).toEqual(committed.map((i) => ({ key: `key ${i}`, value: i })));
  });

  it('refuses at once during an outage that is known, and goes on after it', async () => {
    await store.commit([], [{ key: 'a', value: 1 }]);
    proxy.refuse();
    await expect(store.commit([], [{ key: 'a', value: 2 }])).rejects.toMatchObject({ code: 'STORAGE_UNAVAILABLE' });
    await expect(store.get('a')).rejects.toMatchObject({ code: 'STORAGE_UNAVAILABLE' });
    await expect(store.snapshot()).rejects.toMatchObject({ code: 'STORAGE_UNAVAILABLE' });
    proxy.heal();
    expect(await store.get('a')).toEqual({ key: 'a', value: 1, revision: 1 });
    expect(await store.commit([], [{ key: 'a', value: 3 }])).toEqual({ ok: true, revision: 2 });
  });

  it('commits nothing after another broker took over', async () => {
    await store.commit([], [{ key: 'a', value: 1 }]);
    proxy.stall();
    const late = store.commit([], [{ key: 'a', value: 2 }]).catch((error: unknown) => error);
    const [stalled, stalledPostgres] = [store, postgres];
    await open(server.url, `metadata_${schemas}`);
    proxy.heal();
    expect(await late).toMatchObject({ code: 'STORAGE_ERROR', message: expect.stringContaining('took over') });
    expect(await store.get('a')).toEqual({ key: 'a', value: 1, revision: 1 });
    await stalled.close();
    await stalledPostgres.close();
  });
});
