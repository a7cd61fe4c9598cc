/**
 * What the file engine does about each fault of storage, one test a row of the table in the research on reliability.
 *
 * Rows that need more than a test here: *CRC error below the durable point* (bit-rot.test.ts), *new file, rename* and
 * *compaction crash* (also crash-points.simulation.test.ts: a crash at every point, and the directory sync left out on purpose), *unknown
 * or empty metadata* and *second process* (broker.test.ts, data-dir-lock.test.ts). More of each is in faults.test.ts.
 */
import type { Disk, DiskFile, TopicId } from '@naru/base';
import { partitionKey } from '@naru/base';
import { RecordingVisitor, SeededRandom, SimDisk, VirtualClock, readAll, sampleBatch } from '@naru/testkit';
import { beforeEach, expect, it } from 'vitest';
import type { LogStore } from '../log-store.ts';
import { openFileLogStore } from './file-log-store.ts';
import type { FileLogLimits } from './limits.ts';
import { writeFully } from './node-disk.ts';

const LIMITS: Partial<FileLogLimits> = {
  journalFileBytes: 64 * 1024,
  journalBytes: 3 * 64 * 1024,
  maxAppendBytes: 10 * 1024,
  mergedFrameBytes: 10 * 1024,
  cacheBytes: 0,
  segmentBytes: 1_500,
  indexIntervalBytes: 300,
};
const TOPIC = '0190f2a4-7c1e-7d3a-9b5f-001122334455' as TopicId;
const P0 = partitionKey(TOPIC, 0);
const SNAPSHOT = { version: 1, data: new Uint8Array([9]) };

let disk: SimDisk;
let clock: VirtualClock;
let store: LogStore;

async function open(through: Disk = disk): Promise<RecordingVisitor> {
  clock = new VirtualClock();
  const random = new SeededRandom(3);
  store = openFileLogStore({ disk: through, path: '/data', clock, timers: clock, random, limits: LIMITS });
  const visitor = new RecordingVisitor();
  await store.recover(visitor);
  return visitor;
}

async function settle(ms = 0): Promise<void> {
  for (let at = 0; at <= ms; at += 20) {
    clock.advance(at === 0 ? 0 : 20);
    await new Promise<void>((resolve) => setImmediate(resolve));
  }
}

async function appendMany(from: number, to: number): Promise<void> {
  for (let i = from; i < to; i++) await store.append([sampleBatch(P0, i, { valueBytes: 200 })]);
}

async function offsets(): Promise<number[]> {
  return (await readAll(store, P0, 0)).map((batch) => batch.baseOffset);
}

const upTo = (end: number): number[] => Array.from({ length: end }, (_, i) => i);

/** Notes what changes the disk, in order, as `operation path`. */
function recording(notes: string[]): Disk {
  const note = <T>(what: string, done: Promise<T>): Promise<T> => {
    notes.push(what);
    return done;
  };
  return {
    open: async (path, mode) => {
      const file = await disk.open(path, mode);
      const recorded: DiskFile = {
        ...file,
        write: (buffers, position) => note(`write ${path}`, file.write(buffers, position)),
        sync: () => note(`sync ${path}`, file.sync()),
      };
      return recorded;
    },
    makeDirectory: (path) => disk.makeDirectory(path),
    list: (path) => disk.list(path),
    rename: (from, to) => note(`rename ${to}`, disk.rename(from, to)),
    remove: (path) => note(`remove ${path}`, disk.remove(path)),
    removeDirectory: (path) => note(`removeDirectory ${path}`, disk.removeDirectory(path)),
    syncDirectory: (path) => note(`syncDirectory ${path}`, disk.syncDirectory(path)),
  };
}

beforeEach(async () => {
  disk = new SimDisk(new SeededRandom(1));
  await open();
  await store.create(P0);
});

it('fsync EIO: it is not tried again, nothing is acknowledged on top of it, the store is offline, and opening it again recovers', async () => {
  await store.close();
  const notes: string[] = [];
  await open(recording(notes));
  await appendMany(0, 8);
  // As Linux does: what could not be synced is dropped, and the next sync says that all is well.
  disk.addFault({ operation: 'sync', path: /segments/, code: 'EIO', times: 1, discards: true });
  await expect(store.checkpoint(SNAPSHOT)).rejects.toMatchObject({ code: 'STORAGE_ERROR' });
  const { length } = notes;
  expect(store.capacity()).toMatchObject({ state: 'offline', reason: expect.stringContaining('EIO') });
  await expect(store.append([sampleBatch(P0, 8)])).rejects.toMatchObject({ code: 'STORAGE_ERROR' });
  await expect(store.checkpoint(SNAPSHOT)).rejects.toMatchObject({ code: 'STORAGE_ERROR' });
  expect(await offsets()).toEqual(upTo(8));
  await store.close(SNAPSHOT);
  expect(notes.slice(length)).toEqual([]);
  disk = disk.powerCut(new SeededRandom(2));
  await open();
  expect(await offsets()).toEqual(upTo(8));
});

it.each([
  ['EIO', 'write'],
  ['ENOSPC', 'write'],
  ['EIO', 'sync'],
] as const)(
  'fsync EIO: a journal that cannot be written (%s of a %s) is the end until it is opened again',
  async (code, operation) => {
    await appendMany(0, 2);
    // A sync of the journal is that of a new file; a write of it is one with O_DSYNC.
    disk.addFault({ operation, path: /journal\//, code, times: 1, partialBytes: 700 });
    const results = await Promise.allSettled(
      upTo(20).map((i) => store.append([sampleBatch(P0, 2 + i, { valueBytes: 4_000 })])),
    );
    if (operation === 'write')
      expect(results[0]).toMatchObject({ status: 'rejected', reason: { code: 'STORAGE_ERROR' } });
    expect(store.capacity()).toMatchObject({ state: 'offline' });
    const acknowledged = 2 + results.filter(({ status }) => status === 'fulfilled').length;
    await store.close(SNAPSHOT);
    disk = disk.powerCut(new SeededRandom(2));
    await open();
    expect((await offsets()).slice(0, acknowledged)).toEqual(upTo(acknowledged));
  },
);

it('short write: the disk goes on where it ended, and one that then fails leaves the file at the batch before', async () => {
  const taken: number[] = [];
  const limited = async (buffers: readonly Uint8Array[], position: number): Promise<number> => {
    const length = buffers.reduce((sum, { length: bytes }) => sum + bytes, 0);
    const room = Math.min(5, Math.max(0, 12 - position), length);
    taken.push(room);
    return room;
  };
  await writeFully(limited, [new Uint8Array(7), new Uint8Array(4)], 0);
  expect(taken).toEqual([5, 5, 1]);
  await expect(writeFully(limited, [new Uint8Array(7)], 8)).rejects.toMatchObject({ code: 'ENOSPC' });
  expect(taken.slice(3)).toEqual([4, 0]);

  disk.addFault({ operation: 'write', path: /segments/, code: 'ENOSPC', times: 3, partialBytes: 77 });
  await appendMany(0, 6);
  await settle(160);
  expect(store.capacity()).toMatchObject({ state: 'full' });
  await settle(2_000);
  await store.checkpoint(SNAPSHOT);
  disk = disk.powerCut(new SeededRandom(5));
  await open();
  expect(await offsets()).toEqual(upTo(6));
});

it('ENOSPC, for a directory entry too: publishers are told, reads go on, and it heals by itself', async () => {
  await appendMany(0, 3);
  disk.maxEntries = 0;
  await settle(200);
  expect(store.capacity()).toMatchObject({ state: 'full', exhausted: false });
  expect(await offsets()).toEqual(upTo(3));
  await appendMany(3, 4);
  disk.maxEntries = Infinity;
  await settle(6_000);
  expect(store.capacity()).toEqual({ state: 'open' });
  // A rename that finds no room for the new name.
  disk.addFault({ operation: 'rename', path: /ckpt/, code: 'ENOSPC', times: 1 });
  await expect(store.checkpoint(SNAPSHOT)).rejects.toMatchObject({ code: 'STORAGE_FULL' });
  expect(store.capacity()).toEqual({ state: 'open' });
  await store.checkpoint(SNAPSHOT);
  disk = disk.powerCut(new SeededRandom(5));
  await open();
  expect(await offsets()).toEqual(upTo(4));
});

it('torn tail: the journal ends at its first bad frame, and everything acknowledged is there', async () => {
  let torn = 0;
  for (let seed = 1; seed <= 30; seed++) {
    disk = new SimDisk(new SeededRandom(seed));
    await open();
    await store.create(P0);
    await appendMany(0, 4);
    disk.cutAfter(1);
    void store.append([sampleBatch(P0, 4, { valueBytes: 9_000 })]);
    await settle();
    disk = disk.powerCut(new SeededRandom(seed));
    await open();
    const found = await offsets();
    expect(found.slice(0, 4)).toEqual(upTo(4));
    if (found.length === 4) torn += 1;
    // The next frame takes the place of the torn one.
    await store.append([sampleBatch(P0, found.length, { mark: 7 })]);
    await store.close();
    await open();
    expect(await offsets()).toEqual(upTo(found.length + 1));
  }
  expect(torn).toBeGreaterThan(10);
});

it('new file: it is in its directory, durably, before anything relies on it', async () => {
  const notes: string[] = [];
  disk = new SimDisk(new SeededRandom(1));
  await open(recording(notes));
  const journal = '/data/journal/00000000.journal';
  const prepared = notes.length;
  await store.create(P0);
  // Zeros, synced; the directory, synced; and only then frames.
  const order = [`write ${journal}`, `sync ${journal}`, 'syncDirectory /data/journal'];
  expect(notes.slice(prepared - 3, prepared)).toEqual(order);
  expect(notes[prepared]).toBe(`write ${journal}`);
  await appendMany(0, 20);
  notes.length = 0;
  await store.checkpoint(SNAPSHOT);
  const renamed = notes.findIndex((note) => note.startsWith('rename /data/checkpoint/'));
  const directories = [`/data/segments/${TOPIC}-0`, '/data/segments'];
  for (const directory of directories) {
    expect(notes.indexOf(`syncDirectory ${directory}`)).toBeGreaterThanOrEqual(0);
    expect(notes.indexOf(`syncDirectory ${directory}`)).toBeLessThan(renamed);
  }
});

it('checkpoint: written beside, synced, renamed, the directory synced, and only then is the older one removed', async () => {
  await store.close();
  const notes: string[] = [];
  await open(recording(notes));
  await appendMany(0, 3);
  notes.length = 0;
  await store.checkpoint(SNAPSHOT);
  const steps = notes.filter((note) => note.includes('/checkpoint')).map((note) => note.replace(/\d{20}/, 'N'));
  expect(steps).toEqual([
    'write /data/checkpoint/N.ckpt.tmp',
    'sync /data/checkpoint/N.ckpt.tmp',
    'rename /data/checkpoint/N.ckpt',
    'syncDirectory /data/checkpoint',
    'remove /data/checkpoint/N.ckpt',
  ]);
});

it('checkpoint: a damaged one is never used; the one before it is, or the start is refused and nothing is changed', async () => {
  await appendMany(0, 3);
  disk.addFault({ operation: 'remove', path: /checkpoint/, code: 'EIO', times: 1 });
  await expect(store.checkpoint(SNAPSHOT)).rejects.toMatchObject({ code: 'STORAGE_ERROR' });
  const [older, newer] = disk.paths().filter((path) => path.endsWith('.ckpt')) as [string, string];
  disk = disk.processKill(new SeededRandom(1));
  disk.damage(newer, 30, new Uint8Array([1, 2, 3]));
  expect((await open()).calls[0]).toBe('snapshot none');
  expect(await offsets()).toEqual(upTo(3));
  await store.close();
  disk.damage(older, 30, new Uint8Array([1, 2, 3]));
  const before = disk.paths();
  await expect(open()).rejects.toMatchObject({ code: 'DATA_CORRUPT' });
  expect(disk.paths()).toEqual(before);
});

it('clean-shutdown mark: written last, and removed, durably, before anything else is written', async () => {
  await store.close();
  let notes: string[] = [];
  await open(recording(notes));
  await appendMany(0, 3);
  await store.close(SNAPSHOT);
  expect(notes.slice(-2)).toEqual(['rename /data/clean', 'syncDirectory /data']);
  notes = [];
  await open(recording(notes));
  const removed = notes.indexOf('remove /data/clean');
  expect(notes[removed + 1]).toBe('syncDirectory /data');
  expect(notes.slice(0, removed).filter((note) => note.startsWith('write'))).toEqual([]);
  notes.length = 0;
  await appendMany(3, 4);
  expect(notes[0]).toMatch(/^write \/data\/journal/);
  disk = disk.powerCut(new SeededRandom(2));
  await open();
  expect(await offsets()).toEqual(upTo(4));
});

it('index lost, stale or damaged: it is rebuilt, and never trusted over the log', async () => {
  await appendMany(0, 30);
  await store.close(SNAPSHOT);
  const [lost, stale, damaged] = disk.paths().filter((path) => path.endsWith('.index')) as [string, string, string];
  // The index of another segment, whole and of the right format.
  const other = await disk.open(stale, 'write');
  await other.truncate(0);
  await other.write([disk.contents(damaged).map((byte, i) => (i === 11 ? byte ^ 1 : byte))], 0);
  disk.lose(lost);
  disk.damage(damaged, 25, new Uint8Array([1, 2, 3]));
  await open();
  expect(await offsets()).toEqual(upTo(30));
  for (const offset of upTo(30)) {
    expect((await store.read(P0, offset, 1, 1e9))[0]?.baseOffset).toBe(offset);
    expect((await store.findByTimestamp(P0, 1_000 + offset))?.baseOffset).toBe(offset);
  }
});

it('slow fsync: appends and reads go on while a checkpoint waits for one', async () => {
  await store.close();
  const stuck: (() => void)[] = [];
  let isSlow = false;
  await open({
    ...recording([]),
    open: async (path, mode) => {
      const file = await disk.open(path, mode);
      const sync = async (): Promise<void> => {
        if (isSlow && path.includes('/segments/')) await new Promise<void>((resolve) => stuck.push(resolve));
        await file.sync();
      };
      return { ...file, sync };
    },
  });
  await appendMany(0, 3);
  isSlow = true;
  let isDone = false;
  const checkpointed = store.checkpoint(SNAPSHOT).then(() => (isDone = true));
  await settle(200);
  expect(stuck.length).toBeGreaterThan(0);
  await appendMany(3, 12);
  expect(await offsets()).toEqual(upTo(12));
  expect([isDone, store.capacity()]).toEqual([false, { state: 'open' }]);
  isSlow = false;
  for (const go of stuck) go();
  await checkpointed;
});
