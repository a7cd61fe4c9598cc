/** The file engine when its disk fails, fills up, or has rotted. */
import type { PartitionKey, TopicId } from '@naru/base';
import { partitionKey } from '@naru/base';
import { RecordingVisitor, SeededRandom, SimDisk, VirtualClock, readAll, sampleBatch } from '@naru/testkit';
import { beforeEach, describe, expect, it } from 'vitest';
import type { AppendEntry, LogStore } from '../log-store.ts';
import { openFileLogStore } from './file-log-store.ts';
import type { FileLogLimits } from './limits.ts';

const LIMITS: Partial<FileLogLimits> = {
  journalFileBytes: 48 * 1024,
  journalBytes: 3 * 48 * 1024,
  maxAppendBytes: 10 * 1024,
  mergedFrameBytes: 10 * 1024,
  checkpointBytes: 40 * 1024,
  cacheBytes: 0,
  segmentBytes: 2_000,
  indexIntervalBytes: 300,
  loadedIndexes: 1,
};
const TOPIC = '0190f2a4-7c1e-7d3a-9b5f-001122334455' as TopicId;
const P0 = partitionKey(TOPIC, 0);
const SEGMENTS = `/data/segments/${TOPIC}-0`;
const SNAPSHOT = { version: 1, data: new Uint8Array([9]) };

let disk: SimDisk;
let clock: VirtualClock;
let store: LogStore;

function create(limits: Partial<FileLogLimits> = {}): LogStore {
  clock = new VirtualClock();
  const random = new SeededRandom(3);
  return openFileLogStore({ disk, path: '/data', clock, timers: clock, random, limits: { ...LIMITS, ...limits } });
}

/** Opens a store on what is on the disk. */
async function open(limits?: Partial<FileLogLimits>): Promise<RecordingVisitor> {
  store = create(limits);
  const visitor = new RecordingVisitor();
  await store.recover(visitor);
  return visitor;
}

/** Lets everything happen that can happen within `ms`. */
async function settle(ms = 0): Promise<void> {
  for (let at = 0; at <= ms; at += 20) {
    clock.advance(at === 0 ? 0 : 20);
    await new Promise<void>((resolve) => setImmediate(resolve));
  }
}

async function appendMany(from: number, to: number, partition: PartitionKey = P0): Promise<void> {
  for (let i = from; i < to; i++) await store.append([sampleBatch(partition, i, { valueBytes: 200 })]);
}

async function checkpoint(): Promise<void> {
  await store.checkpoint(SNAPSHOT);
}

/** The only journal file that was written to. */
const JOURNAL = '/data/journal/00000000.journal';

beforeEach(async () => {
  disk = new SimDisk(new SeededRandom(1));
  await open();
  await store.create(P0);
});

describe('the journal after a crash', () => {
  it('ends at a torn frame, and the next one takes its place', async () => {
    await appendMany(0, 3);
    disk = disk.processKill(new SeededRandom(1));
    // Frames: create, three appends; the last one loses a sector.
    disk.damage(JOURNAL, 3 * 4096, new Uint8Array(512));
    expect((await open()).calls.slice(1)).toEqual(['created p0', 'batch p0 0-0', 'batch p0 1-1']);
    await store.append([sampleBatch(P0, 2, { mark: 5 })]);
    await store.close();
    expect((await open()).calls.slice(1)).toEqual(['created p0', 'batch p0 0-0', 'batch p0 1-1', 'batch p0 2-2']);
  });

  it.each([
    ['header', 0],
    ['payload', 200],
  ])('is refused when a frame has rotted (%s) that was acknowledged, and nothing is changed', async (_what, at) => {
    await appendMany(0, 3);
    disk = disk.processKill(new SeededRandom(1));
    disk.damage(JOURNAL, 2 * 4096 + at, new Uint8Array([1, 2, 3, 4]));
    const before = disk.paths().map((path) => [path, Buffer.from(disk.contents(path)).toString('base64')]);
    await expect(open()).rejects.toMatchObject({
      code: 'DATA_CORRUPT',
      message: expect.stringContaining(`${JOURNAL}, byte 8192`),
    });
    expect(disk.paths().map((path) => [path, Buffer.from(disk.contents(path)).toString('base64')])).toEqual(before);
  });

  it('is refused when its rotten frame is the first of a file that others follow', async () => {
    await appendMany(0, 14);
    disk = disk.processKill(new SeededRandom(1));
    expect(disk.paths()).toContain('/data/journal/00000001.journal');
    disk.damage('/data/journal/00000001.journal', 30, new Uint8Array([255]));
    await expect(open()).rejects.toMatchObject({ code: 'DATA_CORRUPT' });
  });

  it('does not take stale frames of a recycled file for new ones', async () => {
    // Three rounds through the files.
    for (let i = 0; i < 100; i++) {
      await appendMany(i, i + 1);
      if (store.checkpointDue()) await checkpoint();
    }
    const files = disk.paths().filter((path) => path.startsWith('/data/journal/'));
    expect(files.length).toBeLessThanOrEqual(3);
    disk = disk.powerCut(new SeededRandom(2));
    const visitor = await open();
    expect(store.info(P0)).toMatchObject({ logStartOffset: 0, endOffset: 100 });
    const told = visitor.calls.filter((call) => call.startsWith('batch')).length;
    expect(visitor.infos[0]?.endOffset).toBe(100 - told);
    expect((await readAll(store, P0, 0)).length).toBe(100);
  });

  it('is not read after a clean stop', async () => {
    await appendMany(0, 3);
    await store.close(SNAPSHOT);
    disk.addFault({ operation: 'read', path: /journal\//, code: 'EIO' });
    expect((await open()).calls).toEqual(['snapshot v1 9', 'partition p0 0-3']);
    disk.clearFaults();
    await appendMany(3, 4);
    disk = disk.powerCut(new SeededRandom(4));
    expect((await open()).calls).toEqual(['snapshot v1 9', 'partition p0 0-3', 'batch p0 3-3']);
  });

  it('keeps a frame that was on its way when the process was killed, once recovery has told of it', async () => {
    let kept = 0;
    for (let seed = 1; seed <= 12; seed++) {
      disk = new SimDisk(new SeededRandom(seed));
      await open();
      await store.create(P0);
      disk.cutAfter(1);
      void store.append([sampleBatch(P0, 0, { valueBytes: 5_000 })]);
      await settle();
      disk = disk.processKill(new SeededRandom(seed));
      const { calls } = await open();
      if (!calls.includes('batch p0 0-0')) continue;
      kept += 1;
      disk = disk.powerCut(new SeededRandom(seed));
      expect((await open()).calls).toContain('batch p0 0-0');
    }
    expect(kept).toBeGreaterThan(5);
  });

  it('makes what it goes by durable before it changes files', async () => {
    for (let seed = 1; seed <= 12; seed++) {
      disk = new SimDisk(new SeededRandom(seed));
      await open();
      await store.create(P0);
      await appendMany(0, 3);
      await checkpoint();
      disk.cutAfter(1);
      void store.delete(P0);
      await settle();
      // Killed with the delete in the page cache only; then the power goes, right after recovery's first change.
      disk = disk.processKill(new SeededRandom(seed));
      void open().catch(() => undefined);
      const erased = (): boolean => !disk.paths().some((path) => path.startsWith(SEGMENTS));
      for (let turn = 0; turn < 5_000 && !erased(); turn++) await Promise.resolve();
      expect(erased()).toBe(true);
      disk = disk.powerCut(new SeededRandom(seed));
      await open();
    }
  });

  it('rejects, rather than ending early, when it cannot be read', async () => {
    await appendMany(0, 3);
    disk = disk.processKill(new SeededRandom(1));
    disk.addFault({ operation: 'read', path: /journal\//, code: 'EIO', times: 1 });
    await expect(open()).rejects.toMatchObject({ code: 'STORAGE_ERROR' });
  });
});

describe('checkpoints', () => {
  it('falls back to the one before when the newest is damaged and the journal reaches it', async () => {
    await appendMany(0, 2);
    disk.addFault({ operation: 'remove', path: /checkpoint/, code: 'EIO', times: 1 });
    await expect(checkpoint()).rejects.toMatchObject({ code: 'STORAGE_ERROR' });
    const names = disk.paths().filter((path) => path.endsWith('.ckpt'));
    expect(names.length).toBe(2);
    disk = disk.processKill(new SeededRandom(1));
    disk.damage(names[1] ?? '', 20, new Uint8Array([77]));
    expect((await open()).calls).toEqual(['snapshot none', 'created p0', 'batch p0 0-0', 'batch p0 1-1']);
  });

  it('refuses to open when none can be read, or all are gone', async () => {
    await appendMany(0, 2);
    await checkpoint();
    await store.close();
    const name = disk.paths().find((path) => path.endsWith('.ckpt')) ?? '';
    disk.damage(name, 20, new Uint8Array([77]));
    await expect(open()).rejects.toMatchObject({ code: 'DATA_CORRUPT' });
    disk.lose(name);
    await expect(open()).rejects.toMatchObject({ code: 'DATA_CORRUPT' });
  });

  it('refuses a segment that is shorter than the checkpoint says, or missing', async () => {
    await appendMany(0, 3);
    await checkpoint();
    await store.close();
    const path = `${SEGMENTS}/${'0'.repeat(20)}.log`;
    const file = await disk.open(path, 'write');
    await file.truncate(100);
    await expect(open()).rejects.toMatchObject({ code: 'DATA_CORRUPT', message: expect.stringContaining(path) });
    disk.lose(path);
    await expect(open()).rejects.toMatchObject({ code: 'DATA_CORRUPT', message: expect.stringContaining('missing') });
  });
});

describe('a full disk', () => {
  it('is reported while segments cannot be written, loses nothing, and heals by itself', async () => {
    disk.capacityBytes = disk.usedBytes;
    await appendMany(0, 5);
    await settle(100);
    expect(store.capacity()).toMatchObject({ state: 'full' });
    await appendMany(5, 6);
    expect((await readAll(store, P0, 0)).length).toBe(6);
    await expect(store.whenOpen()).resolves.toBeUndefined();
    disk.capacityBytes = Infinity;
    await settle(6_000);
    expect(store.capacity()).toEqual({ state: 'open' });
    expect(store.metrics().unwrittenBytes).toBe(0);
    await checkpoint();
    disk = disk.powerCut(new SeededRandom(1));
    await open();
    expect((await readAll(store, P0, 0)).length).toBe(6);
  });

  it('continues a segment where a partial write broke off', async () => {
    disk.addFault({ operation: 'write', path: /segments/, code: 'ENOSPC', times: 2, partialBytes: 33 });
    await appendMany(0, 3);
    await settle(1_000);
    expect(store.metrics().unwrittenBytes).toBe(0);
    expect((await readAll(store, P0, 0)).map((batch) => batch.baseOffset)).toEqual([0, 1, 2]);
  });

  it('is reported when the journal needs another file, and appends wait', async () => {
    disk.capacityBytes = disk.usedBytes + 8_000;
    const appends = appendMany(0, 40);
    let done = false;
    void appends.then(() => {
      done = true;
    });
    await settle(300);
    expect(store.capacity()).toMatchObject({ state: 'full' });
    expect(done).toBe(false);
    disk.capacityBytes = Infinity;
    await settle(6_000);
    const checkpointed = checkpoint();
    await settle(200);
    await checkpointed;
    await settle(200);
    await appends;
    expect(store.info(P0)?.endOffset).toBe(40);
  });

  it('fails a checkpoint, which can be taken again', async () => {
    await appendMany(0, 3);
    disk.addFault({ operation: 'write', path: /checkpoint/, code: 'ENOSPC', times: 1 });
    await expect(checkpoint()).rejects.toMatchObject({ code: 'STORAGE_FULL' });
    expect(store.capacity()).toEqual({ state: 'open' });
    await checkpoint();
    expect(store.metrics().checkpoints).toBe(1);
  });
});

describe('a failing disk', () => {
  it('takes the store offline when the journal cannot be written; reads go on, and opening again recovers', async () => {
    await appendMany(0, 3);
    await settle(100);
    disk.addFault({ operation: 'write', path: /journal\//, code: 'EIO', times: 1 });
    const results = await Promise.allSettled([
      store.append([sampleBatch(P0, 3)]),
      store.append([sampleBatch(P0, 4)]),
      store.truncate(P0, 4),
      checkpoint(),
    ]);
    for (const result of results)
      expect(result).toMatchObject({ status: 'rejected', reason: { code: 'STORAGE_ERROR' } });
    expect(store.capacity()).toMatchObject({ state: 'offline' });
    await expect(store.append([sampleBatch(P0, 3)])).rejects.toMatchObject({ code: 'STORAGE_ERROR' });
    await expect(checkpoint()).rejects.toMatchObject({ code: 'STORAGE_ERROR' });
    expect((await readAll(store, P0, 0)).length).toBe(3);
    await store.close(SNAPSHOT);
    disk = disk.powerCut(new SeededRandom(1));
    await open();
    expect(store.info(P0)?.endOffset).toBeGreaterThanOrEqual(3);
    expect((await readAll(store, P0, 0)).slice(0, 3).map((batch) => batch.baseOffset)).toEqual([0, 1, 2]);
  });

  it('takes the store offline when a segment cannot be written or synced', async () => {
    for (const operation of ['write', 'sync'] as const) {
      disk = new SimDisk(new SeededRandom(1));
      await open();
      await store.create(P0);
      disk.addFault({ operation, path: /segments/, code: 'EIO', times: 1 });
      await appendMany(0, 2);
      await expect(checkpoint()).rejects.toMatchObject({ code: 'STORAGE_ERROR' });
      expect(store.capacity()).toMatchObject({ state: 'offline' });
      expect((await readAll(store, P0, 0)).length).toBe(2);
      await store.close();
      await open();
      expect((await readAll(store, P0, 0)).length).toBe(2);
    }
  });
});

describe('damaged segments', () => {
  beforeEach(async () => {
    await appendMany(0, 30);
    await checkpoint();
    await store.close(SNAPSHOT);
  });

  it('rebuilds an index that is missing or damaged', async () => {
    const indexes = disk.paths().filter((path) => path.endsWith('.index'));
    expect(indexes.length).toBeGreaterThan(2);
    disk.damage(indexes[0] ?? '', 25, new Uint8Array([1, 2, 3]));
    disk.lose(indexes[1] ?? '');
    await open();
    expect((await readAll(store, P0, 0)).map((batch) => batch.baseOffset)).toEqual(
      Array.from({ length: 30 }, (_, i) => i),
    );
    for (const offset of [0, 5, 8, 13, 29]) {
      const [first] = await store.read(P0, offset, 1, 1e9);
      expect(first?.baseOffset).toBe(offset);
      expect((await store.findByTimestamp(P0, 1_000 + offset))?.baseOffset).toBe(offset);
    }
  });

  it.each([
    ['records', 100],
    ['header', 16],
  ])('refuses a batch whose %s have rotted, and reads what is before it', async (_what, at) => {
    const path = `${SEGMENTS}/${'0'.repeat(20)}.log`;
    const batchBytes = sampleBatch(P0, 0, { valueBytes: 200 }).records.length;
    disk.damage(path, batchBytes * 2 + at, new Uint8Array([99]));
    await open();
    const first = await store.read(P0, 0, batchBytes * 2, 1e9);
    expect(first.map((batch) => batch.baseOffset)).toEqual([0, 1]);
    const bad = Promise.resolve(store.read(P0, 2, 1_000, 1e9));
    await expect(bad).rejects.toMatchObject({ code: 'DATA_CORRUPT', message: expect.stringContaining(path) });
    expect(store.capacity()).toEqual({ state: 'open' });
  });
});

describe('the data directory', () => {
  it('of another version is refused', async () => {
    await store.close();
    disk.damage('/data/naru-data.json', 0, new TextEncoder().encode('{ "formatVersion": 2 }  '));
    await expect(open()).rejects.toMatchObject({ code: 'DATA_DIRECTORY_VERSION' });
  });

  it('with data and no version file is refused, and not touched', async () => {
    await store.close();
    disk.lose('/data/naru-data.json');
    const before = disk.paths();
    await expect(open()).rejects.toMatchObject({ code: 'DATA_DIRECTORY_VERSION' });
    expect(disk.paths()).toEqual(before);
  });

  it('that cannot be written is refused', async () => {
    disk = new SimDisk(new SeededRandom(1));
    disk.addFault({ operation: 'makeDirectory', code: 'EACCES' });
    await expect(open()).rejects.toMatchObject({ code: 'DATA_DIRECTORY_NOT_WRITABLE' });
    await store.close();
    expect(store.capacity()).toMatchObject({ state: 'offline' });
  });
});

describe('pressure', () => {
  it('is busy when the journal has no room until a checkpoint, and open after it', async () => {
    let offset = 0;
    while (store.capacity().state === 'open') {
      await appendMany(offset, ++offset);
      // It is busy for a moment, too, while a journal file is made ready.
      await settle();
    }
    expect(store.capacity()).toEqual({ state: 'busy' });
    expect(store.checkpointDue()).toBe(true);
    let opened = false;
    void store.whenOpen().then(() => {
      opened = true;
    });
    await settle(100);
    expect(opened).toBe(false);
    await checkpoint();
    await settle();
    expect(opened).toBe(true);
    expect(store.capacity()).toEqual({ state: 'open' });
  });

  it('does not lock up when appends were submitted beyond the budget before the checkpoint', async () => {
    const appends = Promise.all(
      Array.from({ length: 60 }, (_, i) => store.append([sampleBatch(P0, i, { valueBytes: 9_000 })])),
    );
    const done = checkpoint();
    await settle(500);
    await done;
    await appends;
    disk = disk.powerCut(new SeededRandom(1));
    await open();
    expect((await readAll(store, P0, 0)).length).toBe(60);
  });

  it('keeps the cache within its bound once batches are written', async () => {
    await store.close();
    await open({ cacheBytes: 1_000, writeBehindDelayMs: 10 });
    await appendMany(0, 20);
    await settle(200);
    expect(store.metrics().cacheBytes).toBeLessThanOrEqual(1_000);
    expect(store.metrics().cacheBytes).toBeGreaterThan(0);
  });

  it('takes nothing more while small unwritten batches keep the memory of large requests, until they are written', async () => {
    disk = new SimDisk(new SeededRandom(1));
    const journal = { journalFileBytes: 256 * 1024, journalBytes: 3 * 256 * 1024 };
    await open({ ...journal, cacheBytes: 1_000, unwrittenBytes: 50_000, writeBehindDelayMs: 1_000 });
    await store.create(P0);
    await settle();
    for (let i = 0; i < 5; i++) {
      expect(store.capacity().state).toBe('open');
      await store.append([within(170_000, sampleBatch(P0, i))]);
    }
    expect(store.capacity().state).toBe('busy');
    const opened = store.whenOpen();
    await settle(1_200);
    await opened;
    expect(store.metrics().cacheBytes).toBe(0);
    expect((await readAll(store, P0, 0)).length).toBe(5);
  });
});

/** `entry`, with its batch in memory of `bytes`, as a part of a request is. */
function within(bytes: number, entry: AppendEntry): AppendEntry {
  const records = new Uint8Array(new ArrayBuffer(bytes), 7, entry.records.length);
  records.set(entry.records);
  return { ...entry, records };
}
