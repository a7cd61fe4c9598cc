/** Compaction of the file engine: what is on the disk at each moment, power cuts at every one of them, and failures. */
import type { PartitionKey, TopicId } from '@naru/base';
import { partitionKey } from '@naru/base';
import { LogModel, RecordingVisitor, SeededRandom, SimDisk, VirtualClock, readAll, sampleBatch } from '@naru/testkit';
import type { ModelOperation } from '@naru/testkit';
import { crc32c } from '@naru/protocol/batch';
import { beforeEach, describe, expect, it } from 'vitest';
import type { LogStore, Rewriter, StoredBatch } from '../log-store.ts';
import { KEY_BYTES, keyToBytes, writeInt64, writeUint32 } from './byte-fields.ts';
import type { Checkpoint } from './checkpoint.ts';
import { decodeCheckpoint } from './checkpoint.ts';
import { openFileLogStore } from './file-log-store.ts';
import type { FileLogLimits } from './limits.ts';

const LIMITS: Partial<FileLogLimits> = {
  journalFileBytes: 48 * 1024,
  journalBytes: 4 * 48 * 1024,
  maxAppendBytes: 10 * 1024,
  mergedFrameBytes: 10 * 1024,
  cacheBytes: 1_000,
  segmentBytes: 1_500,
  indexIntervalBytes: 300,
  rewriteChunkBytes: 500,
  rewriteSyncBytes: 700,
};
const TOPIC = '0190f2a4-7c1e-7d3a-9b5f-001122334455' as TopicId;
const P0 = partitionKey(TOPIC, 0);
const SEGMENTS = `/data/segments/${TOPIC}-0`;
const SNAPSHOT = { version: 1, data: new Uint8Array([9]) };

let disk: SimDisk;
let clock: VirtualClock;
let store: LogStore;

async function open(limits: Partial<FileLogLimits> = {}): Promise<RecordingVisitor> {
  clock = new VirtualClock();
  const random = new SeededRandom(3);
  store = openFileLogStore({ disk, path: '/data', clock, timers: clock, random, limits: { ...LIMITS, ...limits } });
  const visitor = new RecordingVisitor();
  await store.recover(visitor);
  return visitor;
}

/** Lets time pass until `work` is done. */
async function done<T>(work: Promise<T>): Promise<T> {
  let isDone = false;
  const settled = (): void => {
    isDone = true;
  };
  work.then(settled, settled);
  while (!isDone) {
    clock.advance(20);
    await new Promise<void>((resolve) => setImmediate(resolve));
  }
  return work;
}

async function appendMany(from: number, to: number, partition: PartitionKey = P0): Promise<void> {
  for (let i = from; i < to; i++) await store.append([sampleBatch(partition, i, { valueBytes: 150 })]);
}

/** Keeps every third batch, and the newest. */
const thin: Rewriter = (batch) => (batch.baseOffset % 3 === 0 ? batch.records : null);

async function compact(rewriter: Rewriter = thin): Promise<number> {
  await done(store.seal(P0));
  const { endOffset } = store.compactionStatus(P0);
  await done(store.rewrite(P0, endOffset, rewriter));
  return endOffset;
}

async function offsets(from = 0): Promise<number[]> {
  return (await readAll(store, P0, from)).map((batch) => batch.baseOffset);
}

function logFiles(): string[] {
  return disk.paths().filter((path) => path.startsWith(SEGMENTS) && path.endsWith('.log'));
}

/** As the broker wrote checkpoints before it could compact. */
function encodeVersion1({ journalId, sequence, journalPlace, partitions, snapshot }: Checkpoint): Uint8Array {
  const data = snapshot?.data ?? new Uint8Array(0);
  const perPartition = partitions.reduce((sum, { segments }) => sum + KEY_BYTES + 28 + segments.length * 32, 0);
  const bytes = new Uint8Array(40 + perPartition + 12 + data.length + 4);
  writeUint32(bytes, 0, 0x4e434b50);
  writeUint32(bytes, 4, 1);
  bytes.set(journalId, 8);
  writeInt64(bytes, 16, sequence);
  writeUint32(bytes, 24, journalPlace.fileNumber);
  writeInt64(bytes, 28, journalPlace.position);
  writeUint32(bytes, 36, partitions.length);
  let at = 40;
  for (const { key, logStartOffset, endOffset, fileEndOffset, segments } of partitions) {
    bytes.set(keyToBytes(key), at);
    for (const [i, value] of [logStartOffset, endOffset, fileEndOffset].entries())
      writeInt64(bytes, at + 20 + i * 8, value);
    writeUint32(bytes, at + 44, segments.length);
    at += KEY_BYTES + 28;
    for (const { baseOffset, sizeBytes, maxTimestampMs, createdMs } of segments) {
      for (const [i, value] of [baseOffset, sizeBytes, maxTimestampMs, createdMs].entries())
        writeInt64(bytes, at + i * 8, value);
      at += 32;
    }
  }
  writeUint32(bytes, at, 1);
  writeUint32(bytes, at + 4, snapshot?.version ?? 0);
  writeUint32(bytes, at + 8, data.length);
  bytes.set(data, at + 12);
  writeUint32(bytes, bytes.length - 4, crc32c(bytes.subarray(0, -4)));
  return bytes;
}

beforeEach(async () => {
  disk = new SimDisk(new SeededRandom(1));
  await open();
  await store.create(P0);
});

describe('files', () => {
  it('are replaced by ones of another generation, and go when a checkpoint lists those', async () => {
    await appendMany(0, 30);
    await done(store.checkpoint(SNAPSHOT));
    const before = logFiles();
    const sizeBefore = store.info(P0)?.sizeBytes ?? 0;
    await compact();
    expect(await offsets()).toEqual([0, 3, 6, 9, 12, 15, 18, 21, 24, 27, 29]);
    expect(store.info(P0)?.sizeBytes).toBeLessThan(sizeBefore / 2);
    expect(logFiles()).toEqual(expect.arrayContaining(before));
    await done(store.checkpoint(SNAPSHOT));
    const after = logFiles();
    expect(after.every((path) => /-\d+\.log$/.test(path))).toBe(true);
    const bytes = after.reduce((sum, path) => sum + disk.contents(path).length, 0);
    expect(store.info(P0)?.sizeBytes).toBe(bytes);
    expect(disk.paths().filter((path) => path.startsWith('/data/rewrite/'))).toEqual([]);
    disk = disk.powerCut(new SeededRandom(1));
    await open();
    expect(await offsets()).toEqual([0, 3, 6, 9, 12, 15, 18, 21, 24, 27, 29]);
    await appendMany(30, 32);
    expect((await offsets()).slice(-3)).toEqual([29, 30, 31]);
  });

  it('that need no change are left alone', async () => {
    await appendMany(0, 30);
    await compact();
    await done(store.checkpoint(SNAPSHOT));
    const before = logFiles();
    await compact((batch) => batch.records);
    await compact((batch) => batch.records);
    await done(store.checkpoint(SNAPSHOT));
    // Small neighbours are merged, and then there is nothing to do.
    const merged = logFiles();
    expect(merged.length).toBeLessThan(before.length);
    await compact((batch) => batch.records);
    expect(logFiles()).toEqual(merged);
  });

  it('of a name that an old file still has get another one', async () => {
    await appendMany(0, 30);
    await done(store.checkpoint(SNAPSHOT));
    const second = Number(logFiles()[1]?.slice(SEGMENTS.length + 1, -4));
    await compact((batch) => (batch.baseOffset === 1 ? null : batch.records));
    await store.truncate(P0, second);
    await store.append([sampleBatch(P0, second, { mark: 5 })]);
    await done(store.seal(P0));
    disk = disk.powerCut(new SeededRandom(1));
    await open();
    expect((await offsets()).filter((offset) => offset !== 1)).toEqual([
      0,
      ...Array.from({ length: second - 1 }, (_, i) => i + 2),
    ]);
  });

  it('make a checkpoint due when they wait for it and are large', async () => {
    await done(store.close());
    await open({ supersededBytes: 2_000 });
    await appendMany(0, 30);
    expect(store.checkpointDue()).toBe(false);
    await compact();
    expect(store.checkpointDue()).toBe(true);
    await done(store.checkpoint(SNAPSHOT));
    expect(store.checkpointDue()).toBe(false);
  });

  it('of a checkpoint before compaction are read', async () => {
    await appendMany(0, 12);
    await done(store.close(SNAPSHOT));
    const path = disk.paths().find((name) => name.endsWith('.ckpt')) ?? '';
    const checkpoint = decodeCheckpoint(disk.contents(path));
    const file = await disk.open(path, 'write');
    await file.truncate(0);
    await file.write([encodeVersion1(checkpoint as Checkpoint)], 0);
    await open();
    expect(await offsets()).toEqual(Array.from({ length: 12 }, (_, i) => i));
    expect(store.compactionStatus(P0)).toMatchObject({ cleanEndOffset: 0, cleanBytes: 0 });
    await compact();
    await done(store.close(SNAPSHOT));
    await open();
    expect(await offsets()).toEqual([0, 3, 6, 9, 11]);
  });
});

describe('a power cut', () => {
  /** Runs until the disk is cut, or to the end; tells what was acknowledged. */
  type Workload = (step: (operation: ModelOperation) => Promise<void>) => Promise<void>;

  const append = (from: number, to: number, mark = 0): ModelOperation => ({
    type: 'append',
    entries: Array.from({ length: to - from }, (_, i) => sampleBatch(P0, from + i, { valueBytes: 150, mark })),
  });

  const workloads: Readonly<Record<string, Workload>> = {
    'and nothing else': async (step) => {
      await step(append(0, 16));
      await done(store.checkpoint(SNAPSHOT));
      await compact();
      await done(store.checkpoint(SNAPSHOT));
      await step(append(16, 18));
    },
    'and a truncate into what was removed': async (step) => {
      await step(append(0, 16));
      await done(store.checkpoint(SNAPSHOT));
      await compact();
      await step({ type: 'truncate', partition: P0, offset: 8 });
      await step(append(8, 14, 1));
      await done(store.seal(P0));
      await compact();
      await done(store.checkpoint(SNAPSHOT));
    },
    'and retention': async (step) => {
      await step(append(0, 16));
      await done(store.checkpoint(SNAPSHOT));
      await compact();
      await step({ type: 'deleteBefore', partition: P0, offset: 11 });
      await step(append(16, 20));
      await compact();
      await done(store.checkpoint(SNAPSHOT));
    },
    'and deletion': async (step) => {
      await step(append(0, 16));
      await done(store.checkpoint(SNAPSHOT));
      await compact();
      await step({ type: 'delete', partition: P0 });
      await step({ type: 'create', partition: P0, offset: 0 });
      await step(append(0, 5, 1));
      await compact();
      await done(store.checkpoint(SNAPSHOT));
    },
  };

  const perform = (operation: ModelOperation): Promise<void> => {
    if (operation.type === 'append') return store.append(operation.entries);
    if (operation.type === 'create') return store.create(operation.partition, operation.offset);
    return operation.type === 'delete'
      ? store.delete(operation.partition)
      : store[operation.type](operation.partition, operation.offset);
  };

  /** A batch is there, or, when it was up to the rewriter to remove it, perhaps not. */
  const forms = (_partition: PartitionKey, batch: StoredBatch): (StoredBatch | null)[] =>
    batch.baseOffset % 3 === 0 ? [batch] : [batch, null];

  it.each(Object.entries(workloads))(
    'at any moment of compaction %s leaves old files or new ones',
    async (_name, run) => {
      let cuts = 0;
      for (let at = 1; ; at++, cuts++) {
        disk = new SimDisk(new SeededRandom(at));
        await open();
        await store.create(P0);
        disk.cutAfter(at);
        const created: ModelOperation = { type: 'create', partition: P0, offset: 0 };
        const models = [new LogModel().with(created)];
        let acknowledged = 0;
        let finished = false;
        const work = run(async (operation) => {
          models.push((models.at(-1) as LogModel).with(operation));
          await perform(operation);
          acknowledged += 1;
        }).then(() => {
          finished = true;
        });
        while (!finished && !disk.isCut) {
          clock.advance(20);
          await new Promise<void>((resolve) => setImmediate(resolve));
        }
        if (finished) await work;
        if (finished && !disk.isCut) break;
        disk = disk.powerCut(new SeededRandom(at * 7));
        await open();
        const differences = [];
        for (const model of models.slice(acknowledged))
          differences.push(await model.differenceFromStore(store, 700, forms));
        expect(differences, `cut after ${at} operations`).toContain(null);
        // And the log goes on.
        if (store.info(P0) === undefined) await store.create(P0);
        const end = store.info(P0)?.endOffset ?? 0;
        await appendMany(end, end + 12);
        await compact();
        await done(store.close(SNAPSHOT));
        await open();
        expect((await offsets(end)).every((offset) => offset % 3 === 0 || offset === end + 11)).toBe(true);
        await done(store.close());
      }
      expect(cuts).toBeGreaterThan(60);
    },
  );

  it('after a truncate into a gap does not take torn new bytes for damage', async () => {
    for (let seed = 1; seed <= 40; seed++) {
      disk = new SimDisk(new SeededRandom(seed));
      await open({ segmentBytes: 100_000 });
      await store.create(P0);
      await store.append([sampleBatch(P0, 0), sampleBatch(P0, 10, { count: 5, valueBytes: 400 })]);
      await done(store.checkpoint(SNAPSHOT));
      await store.truncate(P0, 5);
      for (const offset of [5, 6, 7]) {
        await store.append([sampleBatch(P0, offset, { valueBytes: 3_000, mark: 2 })]);
        clock.advance(500);
        for (let turn = 0; turn < 20; turn++) await new Promise<void>((resolve) => setImmediate(resolve));
        disk = disk.powerCut(new SeededRandom(seed));
        await open({ segmentBytes: 100_000 });
        expect((await offsets()).at(-1)).toEqual(offset);
      }
      expect(await offsets()).toEqual([0, 5, 6, 7]);
    }
  });
});

describe('compaction that fails', () => {
  let before: string[];

  beforeEach(async () => {
    await appendMany(0, 30);
    await done(store.checkpoint(SNAPSHOT));
    await done(store.seal(P0));
    before = disk.paths();
  });

  const all = Array.from({ length: 30 }, (_, i) => i);
  const thinned = [0, 3, 6, 9, 12, 15, 18, 21, 24, 27, 29];

  it.each([
    ['for lack of space', { operation: 'write', path: /rewrite/, code: 'ENOSPC', partialBytes: 40 }, 'STORAGE_FULL'],
    ['for lack of space for a name', { operation: 'rename', path: /rewrite/, code: 'ENOSPC', skip: 3 }, 'STORAGE_FULL'],
    [
      'because output cannot be written',
      { operation: 'write', path: /rewrite/, code: 'EIO', skip: 5 },
      'STORAGE_ERROR',
    ],
    ['because output cannot be synced', { operation: 'sync', path: /rewrite/, code: 'EIO', skip: 2 }, 'STORAGE_ERROR'],
    ['because input cannot be read', { operation: 'read', path: /segments/, code: 'EIO', skip: 4 }, 'STORAGE_ERROR'],
  ] as const)('%s changes nothing, and can be tried again', async (_name, fault, code) => {
    disk.addFault(fault);
    await expect(compact()).rejects.toMatchObject({ code });
    expect(store.capacity()).toEqual({ state: 'open' });
    expect(disk.paths()).toEqual(before);
    expect(store.compactionStatus(P0).cleanEndOffset).toBe(0);
    disk.clearFaults();
    expect(await offsets()).toEqual(all);
    await compact();
    expect(await offsets()).toEqual(thinned);
    await done(store.checkpoint(SNAPSHOT));
    disk = disk.powerCut(new SeededRandom(5));
    await open();
    expect(await offsets()).toEqual(thinned);
  });

  it('because a batch has rotted names it, and changes nothing', async () => {
    const last = logFiles().at(-1) ?? '';
    disk.damage(last, 100, new Uint8Array([99, 98, 97]));
    await expect(compact()).rejects.toMatchObject({ code: 'DATA_CORRUPT', message: expect.stringContaining(last) });
    expect(disk.paths()).toEqual(before);
    expect(store.compactionStatus(P0).cleanEndOffset).toBe(0);
    expect((await store.read(P0, 1, 1, 100)).map((batch) => batch.baseOffset)).toEqual([1]);
  });
});

describe('a full disk', () => {
  it('gets space back from retention while a segment waits for it', async () => {
    await appendMany(0, 40);
    await done(store.checkpoint(SNAPSHOT));
    disk.capacityBytes = disk.usedBytes;
    const other = partitionKey(TOPIC, 1);
    await store.create(other);
    await appendMany(0, 3, other);
    await done(new Promise<void>((resolve) => clock.after(300, resolve)));
    expect(store.capacity()).toMatchObject({ state: 'full' });
    await store.deleteBefore(P0, 38);
    await done(new Promise<void>((resolve) => clock.after(10_000, resolve)));
    expect(store.capacity()).toEqual({ state: 'open' });
  });

  it('does not keep the store from closing, and takes nothing that was acknowledged', async () => {
    disk.capacityBytes = disk.usedBytes;
    await appendMany(0, 5);
    await done(store.close(SNAPSHOT));
    disk.capacityBytes = Infinity;
    await open();
    expect(await offsets()).toEqual([0, 1, 2, 3, 4]);
  });

  it('rejects what it never had room for in the journal when the store is closed', async () => {
    disk.capacityBytes = disk.usedBytes;
    let acknowledged = 0;
    const appends = Array.from({ length: 40 }, (_, i) =>
      store.append([sampleBatch(P0, i, { valueBytes: 4_000 })]).then(() => {
        acknowledged += 1;
      }),
    );
    const results = Promise.allSettled(appends);
    await done(store.close());
    const rejected = (await results).filter((result) => result.status === 'rejected');
    expect(rejected.length + acknowledged).toBe(40);
    expect(rejected.length).toBeGreaterThan(0);
    for (const { reason } of rejected) expect(reason).toMatchObject({ code: 'STORAGE_ERROR' });
    disk.capacityBytes = Infinity;
    await open();
    expect((await offsets()).length).toBe(acknowledged);
  });
});
