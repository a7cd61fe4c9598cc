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
