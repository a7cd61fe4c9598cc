import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { SqliteMetadataStore } from './sqlite-metadata-store.ts';

let directory: string;
let path: string;
let store: SqliteMetadataStore;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'naru-metadata-'));
  path = join(directory, 'metadata.db');
  store = new SqliteMetadataStore(path);
});

afterEach(async () => {
  await store.close();
  await rm(directory, { recursive: true });
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
  await store.close();
  store = new SqliteMetadataStore(path);
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
  await store.close();
  store = new SqliteMetadataStore(path);
  const watch = store.watch(0, new AbortController().signal)[Symbol.asyncIterator]().next();
  await expect(watch).rejects.toMatchObject({ code: 'OFFSET_OUT_OF_RANGE' });
});

it('does not open what is no database, nor one of a later version', async () => {
  const other = join(directory, 'other.db');
  await writeFile(other, Buffer.alloc(4096, 'x'));
  expect(() => new SqliteMetadataStore(other)).toThrowError(expect.objectContaining({ code: 'DATA_CORRUPT' }));
  expect(() => new SqliteMetadataStore(join(directory, 'no', 'where.db'))).toThrowError(
    expect.objectContaining({ code: 'DATA_DIRECTORY_NOT_WRITABLE' }),
  );
  await store.close();
  const database = new DatabaseSync(path);
  database.exec('PRAGMA user_version = 99');
  database.close();
  expect(() => new SqliteMetadataStore(path)).toThrowError(expect.objectContaining({ code: 'DATA_DIRECTORY_VERSION' }));
});
