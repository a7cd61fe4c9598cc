import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PGlite } from '@electric-sql/pglite';
import { PGLiteSocketServer } from '@electric-sql/pglite-socket';
import { silentLogger, systemClock, systemRandom, systemTimers } from '@naru/base';
import type { PostgresTestServer } from '@naru/testkit';
import { startPglite } from '@naru/testkit';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Postgres } from '../postgres/postgres.ts';
import type { MetadataStore } from './metadata-store.ts';
import { PostgresMetadataStore } from './postgres-metadata-store.ts';
import { SqliteMetadataStore } from './sqlite-metadata-store.ts';

interface Opened {
  readonly store: MetadataStore;
  close(): Promise<void>;
}

/** What stores are opened on, one after the other. */
interface Storage {
  open(): Promise<Opened>;
  dispose(): Promise<void>;
}

interface Engine {
  createStorage(): Promise<Storage>;
  stop(): Promise<void>;
}

const sqlite = async (sharesFile: boolean): Promise<Engine> => ({
  stop: async () => {},
  createStorage: async () => {
    const directory = await mkdtemp(join(tmpdir(), 'naru-metadata-'));
    const path = join(directory, 'naru.db');
    return {
      open: async () => {
        const store = new SqliteMetadataStore(path, { sharesFile });
        return { store, close: () => store.close() };
      },
      dispose: () => rm(directory, { recursive: true, force: true }),
    };
  },
});

const pglite = (): Promise<PostgresTestServer> =>
  startPglite({
    createDatabase: () => PGlite.create(),
    createServer: (db) => new PGLiteSocketServer({ db, host: '127.0.0.1', port: 0, maxConnections: 10 }),
  });

async function postgresEngine(start: () => Promise<PostgresTestServer>): Promise<Engine> {
  const server = await start();
  let schemas = 0;
  return {
    stop: () => server.stop(),
    createStorage: async () => {
      const schema = `metadata_${schemas++}`;
      const system = { clock: systemClock, timers: systemTimers, random: systemRandom, logger: silentLogger };
      return {
        open: async () => {
          const settings = { url: server.url, schema, connections: 1 };
          const postgres = new Postgres({ ...system, ownerName: 'a test', settings });
          await postgres.start();
          const store = await PostgresMetadataStore.open(postgres, systemTimers);
          const close = async (): Promise<void> => {
            await store.close();
            await postgres.close();
          };
          return { store, close };
        },
        dispose: async () => {},
      };
    },
  };
}

// On a real server: postgres-metadata-outage.test.ts.
const engines: Record<string, () => Promise<Engine>> = {
  sqlite: () => sqlite(false),
  'sqlite, in one file with the log': () => sqlite(true),
  PGlite: () => postgresEngine(pglite),
};

describe.each(Object.entries(engines))('metadata store on %s', (_name, start) => {
  let engine: Engine;
  let storage: Storage;
  let store: MetadataStore;
  let opened: Opened;
  const open = async (): Promise<void> => {
    opened = await storage.open();
    store = opened.store;
  };

  beforeAll(async () => {
    engine = await start();
  }, 60_000);
  afterAll(async () => {
    await engine.stop();
  });
  beforeEach(async () => {
    storage = await engine.createStorage();
    await open();
  });
  afterEach(async () => {
    await opened.close();
    await storage.dispose();
  });

  it('keeps what was committed, with the revision that wrote it', async () => {
    expect(
      await store.commit(
        [],
        [
          { key: 'b', value: { deep: [1] } },
          { key: 'a', value: 1 },
        ],
      ),
    ).toEqual({ ok: true, revision: 1 });
    expect(
      await store.commit(
        [],
        [
          { key: 'a', deleted: true },
          { key: 'c', value: null },
        ],
      ),
    ).toEqual({ ok: true, revision: 2 });
    await opened.close();
    await open();
    expect(await store.snapshot()).toEqual({
      revision: 2,
      entries: [
        { key: 'b', value: { deep: [1] }, revision: 1 },
        { key: 'c', value: null, revision: 2 },
      ],
    });
  });

  it('changes nothing when a condition does not hold, and names it', async () => {
    await store.commit([], [{ key: 'a', value: 1 }]);
    expect(
      await store.commit(
        [
          { key: 'a', revision: 1 },
          { key: 'b', revision: 1 },
        ],
        [{ key: 'a', value: 2 }],
      ),
    ).toEqual({ ok: false, key: 'b' });
    expect(await store.commit([{ key: 'a', revision: 0 }], [{ key: 'a', value: 2 }])).toEqual({ ok: false, key: 'a' });
    expect((await store.snapshot()).entries).toEqual([{ key: 'a', value: 1, revision: 1 }]);
    expect(
      await store.commit(
        [
          { key: 'a', revision: 1 },
          { key: 'b', revision: 0 },
        ],
        [{ key: 'a', value: 2 }],
      ),
    ).toEqual({ ok: true, revision: 2 });
  });

  it('changes nothing when it cannot write all of it', async () => {
    await store.commit([], [{ key: 'a', value: 1 }]);
    const endless: Record<string, unknown> = {};
    endless['itself'] = endless;
    await expect(
      store.commit(
        [],
        [
          { key: 'a', value: 2 },
          { key: 'b', value: endless },
        ],
      ),
    ).rejects.toMatchObject({ code: 'STORAGE_ERROR' });
    expect(await store.snapshot()).toEqual({ revision: 1, entries: [{ key: 'a', value: 1, revision: 1 }] });
    expect(await store.commit([], [{ key: 'a', value: 3 }])).toEqual({ ok: true, revision: 2 });
  });

  it('tells a watcher every commit once, those before it began too, until it stops', async () => {
    const abort = new AbortController();
    await store.commit([], [{ key: 'a', value: 1 }]);
    const watch = store.watch(0, abort.signal)[Symbol.asyncIterator]();
    expect((await watch.next()).value).toEqual({ revision: 1, changes: [{ key: 'a', value: 1 }] });
    const next = watch.next();
    await store.commit([], [{ key: 'b', value: 2 }]);
    await store.commit([], [{ key: 'b', deleted: true }]);
    expect((await next).value.revision).toBe(2);
    expect((await watch.next()).value).toEqual({ revision: 3, changes: [{ key: 'b', deleted: true }] });
    const last = watch.next();
    abort.abort();
    expect(await last).toEqual({ done: true, value: undefined });
  });

  it('ends watches when it is closed', async () => {
    const watch = store.watch(0, new AbortController().signal)[Symbol.asyncIterator]().next();
    await store.close();
    expect((await watch).done).toBe(true);
  });

  it('tells a watcher that asks for too long ago to begin anew', async () => {
    await store.commit([], [{ key: 'a', value: 1 }]);
    await opened.close();
    await open();
    const watch = store.watch(0, new AbortController().signal)[Symbol.asyncIterator]().next();
    await expect(watch).rejects.toMatchObject({ code: 'OFFSET_OUT_OF_RANGE' });
  });

  it('gets one entry', async () => {
    await store.commit(
      [],
      [
        { key: 'a', value: { deep: [1] } },
        { key: 'b', value: 2 },
      ],
    );
    expect(await store.get('a')).toEqual({ key: 'a', value: { deep: [1] }, revision: 1 });
    expect(await store.get('c')).toBeUndefined();
  });

  it('applies commits that are called together one after the other', async () => {
    const results = await Promise.all(
      [1, 2, 3].map((value) => store.commit([{ key: 'a', revision: 0 }], [{ key: 'a', value }])),
    );
    expect(results).toEqual([
      { ok: true, revision: 1 },
      { ok: false, key: 'a' },
      { ok: false, key: 'a' },
    ]);
    expect(await store.get('a')).toEqual({ key: 'a', value: 1, revision: 1 });
  });
});
