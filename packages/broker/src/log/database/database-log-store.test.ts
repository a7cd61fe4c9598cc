/** What every database engine has in common, on SQLite in a temporary directory. */
import { copyFileSync, mkdirSync, readdirSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { partitionKey, systemClock, systemTimers } from '@naru/base';
import type { PartitionKey, TopicId } from '@naru/base';
import { NaruError } from '@naru/protocol';
import type { ErrorCode } from '@naru/protocol';
import {
  LogRewrites,
  LogWorkload,
  readAll,
  RecordingVisitor,
  sampleBatch,
  SeededRandom,
  VirtualClock,
} from '@naru/testkit';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Snapshot } from '../log-store.ts';
import { DatabaseLogStore } from './database-log-store.ts';
import type { DatabaseLogLimits } from './limits.ts';
import type { Cycle } from './log-database.ts';
import { SqliteLogDatabase } from './sqlite/sqlite-log-database.ts';

const TOPIC = '0190f2a4-7c1e-7d3a-9b5f-001122334455' as TopicId;
const P0 = partitionKey(TOPIC, 0);
const P1 = partitionKey(TOPIC, 1);
const SEEDS = Array.from({ length: 10 }, (_, i) => 1 + i);
const SNAPSHOT: Snapshot = { version: 1, data: new Uint8Array([1]) };
/** So small that every mechanism takes part. */
const TINY: Partial<DatabaseLogLimits> = {
  maxAppendBytes: 8 * 1024,
  cycleBytes: 2 * 1024,
  cacheBytes: 1_000,
  pageRows: 5,
  pageBytes: 500,
  pauseMs: 0,
};

let directory: string;
let path: string;
const opened: DatabaseLogStore[] = [];

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'naru-database-'));
  path = join(directory, 'naru.db');
});

afterEach(async () => {
  for (const store of opened.splice(0)) await store.close();
  await rm(directory, { recursive: true, force: true });
});

async function open(
  database = new SqliteLogDatabase({ path, clock: systemClock }),
  clock?: VirtualClock,
  limits: Partial<DatabaseLogLimits> = TINY,
): Promise<DatabaseLogStore> {
  const system = { clock: clock ?? systemClock, timers: clock ?? systemTimers };
  const store = new DatabaseLogStore({ ...system, limits, database });
  opened.push(store);
  await store.recover(new RecordingVisitor());
  return store;
}

async function fill(store: DatabaseLogStore, key: PartitionKey, count: number): Promise<void> {
  await store.create(key);
  for (let i = 0; i < count; i++) await store.append([sampleBatch(key, i, { valueBytes: 100 })]);
}

/** Asks the file itself; the store goes on. */
function query(sql: string): Record<string, unknown>[] {
  const database = new DatabaseSync(path);
  try {
    return database.prepare(sql).all();
  } finally {
    database.close();
  }
}

function changeFile(sql: string): void {
  const database = new DatabaseSync(path);
  database.exec(sql);
  database.close();
}

/** Machines that are busy take their time. */
const eventually = (check: () => void): Promise<void> => vi.waitFor(check, { timeout: 8_000, interval: 5 });

const baseOffsets = (batches: readonly { baseOffset: number }[]): number[] => batches.map((batch) => batch.baseOffset);

describe('a database log', () => {
  it.each(SEEDS)('holds what the operations make, also when it is cut off anywhere: seed %i', async (seed) => {
    const random = new SeededRandom(seed);
    const workload = new LogWorkload(random.fork());
    const rewrites = new LogRewrites();
    const limits = seed % 2 === 0 ? TINY : {};
    let store = await open(undefined, undefined, limits);
    for (let round = 0; round < 4; round++) {
      const pending: Promise<void>[] = [];
      for (let i = 0; i < 30; i++) {
        pending.push(workload.step(store));
        if (random.chance(0.1)) pending.push(store.checkpoint({ version: 1, data: new Uint8Array([i]) }));
        if (random.chance(0.1)) pending.push(rewrites.begin(store, random.fork()) ?? Promise.resolve());
        if (random.chance(0.4)) await new Promise((resolve) => setImmediate(resolve));
      }
      // As a crash leaves it: while operations are under way.
      const crashed = join(directory, `crash-${round}`);
      copyFiles(crashed);
      const possible = workload.possible();
      await Promise.all(pending);
      expect(await workload.latest.differenceFromStore(store, 700, rewrites.forms(store))).toBeNull();
      for (const { partition, sizeBytes, logStartOffset } of store.partitions()) {
        const batches = await readAll(store, partition, logStartOffset);
        expect(sizeBytes).toBe(batches.reduce((sum, batch) => sum + batch.records.length, 0));
      }
      const copy = await open(new SqliteLogDatabase({ path: join(crashed, 'naru.db'), clock: systemClock }));
      const differences = await Promise.all(
        possible.map((model) => model.differenceFromStore(copy, 700, rewrites.forms(copy))),
      );
      expect(differences).toContain(null);
      await copy.close();
      if (random.chance(0.5)) {
        await store.close(random.chance(0.5) ? SNAPSHOT : undefined);
        store = await open(undefined, undefined, limits);
        expect(await workload.latest.differenceFromStore(store, 700, rewrites.forms(store))).toBeNull();
      }
    }
  });

  it('erases what nobody reads any more once a snapshot covers it, and nothing else', async () => {
    const store = await open();
    await fill(store, P0, 20);
    await fill(store, P1, 10);
    await store.truncate(P0, 18);
    await store.deleteBefore(P0, 7);
    await store.delete(P1);
    expect(query('SELECT count(*) AS rows FROM log_batches')).toEqual([{ rows: 30 }]);
    await store.checkpoint(SNAPSHOT);
    await eventually(() => expect(query('SELECT id FROM log_operations')).toEqual([]));
    const left = query('SELECT base_offset FROM log_batches ORDER BY base_offset');
    expect(left.map((row) => row['base_offset'])).toEqual(Array.from({ length: 11 }, (_, i) => 7 + i));
    // Of what the snapshot covers already, at once.
    await store.deleteBefore(P0, 15);
    await eventually(() => expect(query('SELECT base_offset FROM log_batches')).toHaveLength(3));
    expect(baseOffsets(await readAll(store, P0, 15))).toEqual([15, 16, 17]);
  });

  it('goes on erasing after a start', async () => {
    const first = await open();
    await fill(first, P0, 40);
    await first.deleteBefore(P0, 35);
    await first.close(SNAPSHOT);
    await open();
    await eventually(() => expect(query('SELECT id FROM log_operations')).toEqual([]));
    expect(query('SELECT base_offset FROM log_batches')).toHaveLength(5);
  });

  it('shows nothing of a deleted partition in the one that comes next, also before it is erased', async () => {
    const first = await open();
    await fill(first, P0, 40);
    await first.delete(P0);
    await first.close(SNAPSHOT);
    expect(query('SELECT id FROM log_batches')).toHaveLength(40);
    const second = await open();
    await second.create(P1);
    await second.append([sampleBatch(P1, 0), sampleBatch(P1, 1)]);
    await second.close(SNAPSHOT);
    expect(baseOffsets(await readAll(await open(), P1, 0))).toEqual([0, 1]);
  });

  it('waits while there is no space, refuses meanwhile, and goes on in order', async () => {
    const clock = new VirtualClock();
    const database = new FaultyDatabase({ path, clock });
    const store = await open(database, clock);
    await fill(store, P0, 2);
    database.code = 'STORAGE_FULL';
    const done: number[] = [];
    const appends = [2, 3].map((offset) => store.append([sampleBatch(P0, offset)]).then(() => done.push(offset)));
    await eventually(() => expect(store.capacity()).toMatchObject({ state: 'full', exhausted: true }));
    expect(baseOffsets(await store.read(P0, 0, 10_000, 100))).toEqual([0, 1]);
    expect(done).toEqual([]);
    database.code = null;
    await eventually(() => {
      clock.advance(100);
      expect(done).toEqual([2, 3]);
    });
    await Promise.all(appends);
    expect(store.capacity()).toEqual({ state: 'open' });
  });

  it('takes no part of a cycle that failed, and nothing after it', async () => {
    const clock = new VirtualClock();
    const database = new FaultyDatabase({ path, clock });
    const store = await open(database, clock);
    await fill(store, P0, 2);
    database.code = 'STORAGE_ERROR';
    const results = await Promise.allSettled([2, 3].map((offset) => store.append([sampleBatch(P0, offset)])));
    database.code = null;
    expect(results.map((result) => result.status)).toEqual(['rejected', 'rejected']);
    expect(store.capacity().state).toBe('offline');
    await expect(store.append([sampleBatch(P0, 2)])).rejects.toMatchObject({ code: 'STORAGE_ERROR' });
    expect(baseOffsets(await store.read(P0, 0, 10_000, 100))).toEqual([0, 1]);
    await store.close();
    expect((await open()).info(P0)?.endOffset).toBe(2);
  });

  it('is full before the file has its largest size, and open again when something was deleted', async () => {
    const clock = new VirtualClock();
    const store = await open(new SqliteLogDatabase({ path, clock, maxBytes: 1024 * 1024 }), clock);
    await store.create(P0);
    let end = 0;
    while (store.capacity().state === 'open') {
      await store.append([sampleBatch(P0, end++, { valueBytes: 7_000 })]);
      clock.advance(1_000);
    }
    expect(store.capacity().state).toBe('full');
    expect(end).toBeGreaterThan(50);
    await store.checkpoint(SNAPSHOT);
    await store.deleteBefore(P0, end - 1);
    await eventually(() => {
      clock.advance(1_000);
      expect(store.capacity().state).toBe('open');
    });
    await store.append([sampleBatch(P0, end)]);
  });

  it('answers DATA_CORRUPT for a damaged batch, serves the rest, and compacts nothing', async () => {
    const store = await open();
    await fill(store, P0, 30);
    changeFile('UPDATE log_batches SET records = zeroblob(size) WHERE base_offset = 4');
    expect(baseOffsets(await store.read(P0, 0, 700, 100))).toEqual([0, 1, 2, 3]);
    await expect(Promise.resolve(store.read(P0, 4, 700, 100))).rejects.toMatchObject({ code: 'DATA_CORRUPT' });
    expect(baseOffsets(await store.read(P0, 5, 1, 100))).toEqual([5]);
    const before = query('SELECT id, dead FROM log_batches');
    const { endOffset } = store.compactionStatus(P0);
    await expect(store.rewrite(P0, endOffset, () => null)).rejects.toMatchObject({ code: 'DATA_CORRUPT' });
    expect(query('SELECT id, dead FROM log_batches')).toEqual(before);
    await store.close();
    await expect(open()).rejects.toMatchObject({ code: 'DATA_CORRUPT' });
  });

  it('does not start on a log with a hole', async () => {
    const store = await open();
    await fill(store, P0, 30);
    await store.close();
    changeFile('DELETE FROM log_batches WHERE base_offset = 12');
    await expect(open()).rejects.toMatchObject({ code: 'DATA_CORRUPT' });
    changeFile('DELETE FROM log_batches WHERE base_offset > 12');
    await expect(open()).rejects.toMatchObject({ code: 'DATA_CORRUPT' });
  });

  it('does not open what is no database, nor one of another version', async () => {
    await writeFile(path, Buffer.alloc(8_192, 'x'));
    await expect(open()).rejects.toMatchObject({ code: 'DATA_CORRUPT' });
    await rm(path);
    await (await open()).close();
    changeFile('UPDATE log_state SET format_version = 99');
    await expect(open()).rejects.toMatchObject({ code: 'DATA_DIRECTORY_VERSION' });
    path = join(directory, 'no', 'where.db');
    await expect(open()).rejects.toMatchObject({ code: 'DATA_DIRECTORY_NOT_WRITABLE' });
  });
});

/** In one turn, so that no statement comes in between. */
function copyFiles(target: string): void {
  mkdirSync(target);
  for (const name of readdirSync(directory)) {
    if (name.startsWith('naru.db') && !name.endsWith('-shm')) copyFileSync(join(directory, name), join(target, name));
  }
}

class FaultyDatabase extends SqliteLogDatabase {
  /** What every cycle fails with. */
  code: ErrorCode | null = null;

  override commit(cycle: Cycle): Promise<void> {
    if (this.code !== null) return Promise.reject(new NaruError(this.code, 'as the test says'));
    return super.commit(cycle);
  }
}
