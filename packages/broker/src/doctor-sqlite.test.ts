/** Verifying a data directory whose log and metadata are in one SQLite database. */
import { createHash } from 'node:crypto';
import { cp, mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import type { TopicId } from '@naru/base';
import { partitionKey, systemClock, systemTimers } from '@naru/base';
import { RecordingVisitor, sampleBatch } from '@naru/testkit';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { newTopic } from './service/topics.ts';
import type { DoctorReport } from './doctor.ts';
import { verifyDataDirectory } from './doctor.ts';
import { DatabaseLogStore } from './log/database/database-log-store.ts';
import { SqliteLogDatabase } from './log/database/sqlite/sqlite-log-database.ts';
import { SqliteMetadataStore } from './metadata/sqlite-metadata-store.ts';
import { encodeCoreSnapshot } from './runtime/core-snapshot.ts';

const TOPIC = '0190f2a4-7c1e-7d3a-9b5f-001122334455' as TopicId;
const P0 = partitionKey(TOPIC, 0);
const SNAPSHOT = encodeCoreSnapshot([], []);
const BATCHES = 10;

let directory: string;
let data: string;
let store: DatabaseLogStore;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'naru-doctor-sqlite-'));
  data = join(directory, 'data');
  await mkdir(data);
  const path = join(data, 'naru.db');
  const metadata = new SqliteMetadataStore(path);
  const shape = { name: 'orders', type: 'ordered', partitionCount: 1, config: {} } as const;
  await metadata.commit([], [{ key: 'topic/orders', value: newTopic(shape, TOPIC, 0) }]);
  await metadata.close();
  const database = new SqliteLogDatabase({ path, clock: systemClock });
  store = new DatabaseLogStore({ clock: systemClock, timers: systemTimers, database });
  await store.recover(new RecordingVisitor());
  await store.create(P0);
  for (let i = 0; i < BATCHES; i++) await store.append([sampleBatch(P0, i)]);
});

afterEach(async () => {
  await store.close();
  await rm(directory, { recursive: true });
});

/** What is found; and that the directory is what it was. */
async function examine(): Promise<DoctorReport> {
  const digests = async (): Promise<string[]> => {
    const names = await readdir(data);
    return Promise.all(
      names.map(
        async (name) =>
          name +
          createHash('sha256')
            .update(await readFile(join(data, name)))
            .digest('hex'),
      ),
    );
  };
  const before = await digests();
  const report = await verifyDataDirectory(data, { deep: true });
  expect(await digests()).toEqual(before);
  return report;
}

function change(sql: string): void {
  const database = new DatabaseSync(join(data, 'naru.db'));
  database.exec(sql);
  database.close();
}

describe('a database', () => {
  it('is sound after it was closed, and after a kill that left a write-ahead log', async () => {
    const copy = join(directory, 'copy');
    await cp(data, copy, { recursive: true });
    await store.close(SNAPSHOT);
    const closed = await examine();
    expect(closed.findings).toEqual([]);
    expect(closed.checked).toMatchObject({ partitions: 1, batches: BATCHES, records: BATCHES });
    data = copy;
    expect(await readdir(data)).toContain('naru.db-wal');
    const killed = await examine();
    expect(killed.findings).toEqual([]);
    expect(killed.checked).toMatchObject({ partitions: 1, batches: BATCHES });
    // Without it, nothing says what of the write-ahead log counts.
    await rm(join(data, 'naru.db-shm'));
    expect(await examine()).toMatchObject({ isSound: false, found: { problem: 1 } });
  });

  it('has its damaged batches named', async () => {
    await store.close(SNAPSHOT);
    change(
      "UPDATE log_batches SET records = CAST(substr(records, 1, 70) || x'00' || substr(records, 72) AS BLOB) WHERE base_offset = 4",
    );
    const { findings } = await examine();
    expect(findings).toEqual([
      expect.objectContaining({
        severity: 'problem',
        file: 'naru.db',
        partition: { topicId: TOPIC, topic: 'orders', partition: 0 },
        offsets: { first: 4, last: 4 },
        cause: expect.stringContaining('checksum'),
      }),
    ]);
  });

  it('has holes of its history named, and what the metadata does not know', async () => {
    await store.close();
    change("DELETE FROM log_batches WHERE base_offset = 4; DELETE FROM entries WHERE key = 'topic/orders'");
    const causes = (await examine()).findings.map(({ cause }) => cause);
    expect(causes).toEqual([
      expect.stringMatching(/^history from row \d+ to \d+ lacks 1 rows$/),
      expect.stringContaining('the metadata does not know'),
    ]);
  });

  it('is named when it is none', async () => {
    await store.close();
    change('DROP TABLE log_state');
    expect((await examine()).findings).toEqual([expect.objectContaining({ cause: 'there is no log in it' })]);
  });
});
