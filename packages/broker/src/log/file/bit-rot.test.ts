/** Bit rot below the durable point: what is damaged answers with an error, everything else is served, nothing is cut off. */
import type { TopicId } from '@naru/base';
import { partitionKey } from '@naru/base';
import { RecordingVisitor, SeededRandom, SimDisk, VirtualClock, readAll, sampleBatch } from '@naru/testkit';
import { beforeEach, describe, expect, it } from 'vitest';
import type { LogStore, StoredBatch } from '../log-store.ts';
import { openFileLogStore } from './file-log-store.ts';

const LIMITS = {
  journalFileBytes: 64 * 1024,
  journalBytes: 3 * 64 * 1024,
  maxAppendBytes: 10 * 1024,
  mergedFrameBytes: 10 * 1024,
  cacheBytes: 0,
  segmentBytes: 4_000,
  indexIntervalBytes: 700,
  loadedIndexes: 2,
};
const TOPIC = '0190f2a4-7c1e-7d3a-9b5f-001122334455' as TopicId;
const P0 = partitionKey(TOPIC, 0);
const P1 = partitionKey(TOPIC, 1);
const COUNT = 40;
/** The batch that rots, in the middle of the first segment and between two entries of its index. */
const ROTTEN = 6;
const BATCH_BYTES = sampleBatch(P0, 0, { valueBytes: 200 }).records.length;
const SEGMENT = `/data/segments/${TOPIC}-0/${'0'.repeat(20)}.log`;

let disk: SimDisk;
let store: LogStore;

async function open(): Promise<void> {
  const clock = new VirtualClock();
  const random = new SeededRandom(3);
  store = openFileLogStore({ disk, path: '/data', clock, timers: clock, random, limits: LIMITS });
  await store.recover(new RecordingVisitor());
}

async function read(offset: number, maxBytes = 1): Promise<StoredBatch[]> {
  return store.read(P0, offset, maxBytes, 1e9);
}

beforeEach(async () => {
  disk = new SimDisk(new SeededRandom(1));
  await open();
  await store.create(P0);
  await store.create(P1);
  for (let i = 0; i < COUNT; i++) {
    await store.append([sampleBatch(P0, i, { valueBytes: 200 }), sampleBatch(P1, i, { valueBytes: 200 })]);
  }
  await store.close({ version: 1, data: new Uint8Array([9]) });
});

/** Where in the batch, and what stands there then. */
const rots: readonly (readonly [string, number, readonly number[]])[] = [
  ['records', 100, [99, 98]],
  ['format', 16, [7]],
  ['size, which is too large', 8, [0x7f, 0xff]],
  ['size, which is another one', 11, [0xf0]],
  ['size, which is nothing', 8, [0, 0, 0, 0]],
  ['last offset, which is far beyond', 23, [0, 0, 3, 0]],
  ['whole', 0, Array.from({ length: BATCH_BYTES }, () => 0)],
];

describe.each(rots)('a batch whose %s has rotted', (_what, at, bytes) => {
  describe.each([
    ['with its index', false],
    ['without', true],
  ])('%s', (_which, losesIndex) => {
    beforeEach(async () => {
      disk.damage(SEGMENT, ROTTEN * BATCH_BYTES + at, new Uint8Array(bytes));
      if (losesIndex) for (const path of disk.paths()) if (path.endsWith('.index')) disk.lose(path);
      await open();
    });

    it('cannot be read; everything before it, behind it and beside it can, and is found by its time', async () => {
      for (let offset = 0; offset < COUNT; offset++) {
        if (offset === ROTTEN) continue;
        expect((await read(offset))[0]?.baseOffset).toBe(offset);
        // The time right behind what has rotted may be that of what has rotted.
        if (offset !== ROTTEN + 1)
          expect((await store.findByTimestamp(P0, 1_000 + offset))?.baseOffset, `time of ${offset}`).toBe(offset);
      }
      await expect(read(ROTTEN)).rejects.toMatchObject({
        code: 'DATA_CORRUPT',
        message: expect.stringContaining(`${SEGMENT}, byte ${ROTTEN * BATCH_BYTES}`),
      });
      await expect(store.findByTimestamp(P0, 1_000 + ROTTEN)).rejects.toMatchObject({ code: 'DATA_CORRUPT' });
      expect(await readAll(store, P1, 0)).toHaveLength(COUNT);
    });

    it('does not keep a large read from giving what is before it', async () => {
      const batches = await read(0, 1e6);
      expect(batches.map(({ baseOffset }) => baseOffset)).toEqual([0, 1, 2, 3, 4, 5]);
    });

    it('is still there, as it is, after writing, a checkpoint and a restart', async () => {
      const before = disk.contents(SEGMENT);
      expect(store.capacity()).toEqual({ state: 'open' });
      await store.append([sampleBatch(P0, COUNT, { valueBytes: 200 })]);
      await store.checkpoint({ version: 1, data: new Uint8Array([9]) });
      await store.close({ version: 1, data: new Uint8Array([9]) });
      await open();
      expect(Buffer.compare(disk.contents(SEGMENT), before)).toBe(0);
      expect(store.info(P0)).toMatchObject({ logStartOffset: 0, endOffset: COUNT + 1 });
      expect((await read(COUNT))[0]?.baseOffset).toBe(COUNT);
      await expect(read(ROTTEN)).rejects.toMatchObject({ code: 'DATA_CORRUPT' });
    });
  });
});

it('a sector that cannot be read is an error of that range only', async () => {
  await open();
  disk.addFault({ operation: 'read', path: /-0\/0{20}\.log$/, code: 'EIO' });
  await expect(read(0)).rejects.toMatchObject({ code: 'STORAGE_ERROR' });
  expect((await read(30))[0]?.baseOffset).toBe(30);
  expect(store.capacity()).toEqual({ state: 'open' });
  disk.clearFaults();
  expect((await read(0))[0]?.baseOffset).toBe(0);
});
