/** The part of the log store conformance that is about compaction, and about sizes. */
import type { PartitionKey, TopicId } from '@naru/base';
import { partitionKey } from '@naru/base';
import type { Rewriter, StoredBatch } from '@naru/broker';
import type { Context, TestFunctions } from './log-store-conformance.ts';
import { offsetsOf, readAll } from './log-store-conformance.ts';
import { sampleBatch } from './sample-batch.ts';

const TOPIC = '0190f2a4-7c1e-7d3a-9b5f-001122334455' as TopicId;
const P0 = partitionKey(TOPIC, 0);
const P1 = partitionKey(TOPIC, 1);
const SNAPSHOT = { version: 3, data: new Uint8Array([1, 2, 3]) };

const keep: Rewriter = (batch) => batch.records;
const drop: Rewriter = () => null;

/** Another, smaller batch of the same offsets and time. */
function smaller(batch: StoredBatch): Uint8Array {
  const { baseOffset, lastOffset, maxTimestampMs } = batch;
  const count = lastOffset - baseOffset + 1;
  return sampleBatch(P0, baseOffset, { count, timestampMs: maxTimestampMs, valueBytes: 1, mark: 99 }).records;
}

/** Of each four batches: keeps two, drops one, makes one smaller. */
const mixed: Rewriter = (batch) => {
  if (batch.baseOffset % 4 === 1) return null;
  return batch.baseOffset % 4 === 2 ? smaller(batch) : batch.records;
};

async function appendMany(c: Context, from: number, to: number, partition: PartitionKey = P0): Promise<void> {
  for (let i = from; i < to; i++) await c.append(partition, i, { valueBytes: 100 });
}

/** Compacts everything that can be, and tells up to where. */
async function compact(c: Context, rewriter: Rewriter, partition: PartitionKey = P0): Promise<number> {
  await c.store.seal(partition);
  const { endOffset } = c.store.compactionStatus(partition);
  await c.store.rewrite(partition, endOffset, rewriter);
  return endOffset;
}

async function contents(c: Context, from = 0): Promise<string[]> {
  const batches = await readAll(c.store, P0, from);
  return batches.map(({ baseOffset, records }) => `${baseOffset} ${Buffer.from(records).toString('base64')}`);
}

/** What {@link contents} tells when batches 0 to `count` were compacted by {@link mixed} up to `end`. */
function mixedContents(count: number, end: number): string[] {
  const lines: string[] = [];
  for (let i = 0; i < count; i++) {
    const batch = sampleBatch(P0, i, { valueBytes: 100 });
    const records = i < end ? mixed(batch) : batch.records;
    if (records !== null || i === count - 1)
      lines.push(`${i} ${Buffer.from(records ?? batch.records).toString('base64')}`);
  }
  return lines;
}

export function compacting(test: TestFunctions, c: Context): void {
  status(test, c);
  rewriting(test, c);
  rewritingAgain(test, c);
  meanwhile(test, c);
  reopening(test, c);
}

function status({ it, expect }: TestFunctions, c: Context): void {
  it('tells what can be compacted: everything, or everything but the newest batch', async () => {
    await c.store.create(P0, 3);
    expect(c.store.compactionStatus(P0)).toEqual({
      cleanEndOffset: 3,
      cleanBytes: 0,
      endOffset: 3,
      dirtyBytes: 0,
      openBytes: 0,
      dirtySinceMs: null,
    });
    await appendMany(c, 3, 9);
    const unsealed = c.store.compactionStatus(P0);
    await c.store.seal(P0);
    const sealed = c.store.compactionStatus(P0);
    for (const { cleanEndOffset, cleanBytes, dirtyBytes, openBytes, dirtySinceMs } of [unsealed, sealed]) {
      expect([cleanEndOffset, cleanBytes]).toEqual([3, 0]);
      expect(dirtyBytes + openBytes).toBe(c.store.info(P0)?.sizeBytes);
      expect(typeof dirtySinceMs).toBe('number');
    }
    expect(sealed.endOffset >= 8 && sealed.endOffset <= 9).toBe(true);
    expect(sealed.dirtyBytes > 0 && sealed.endOffset >= unsealed.endOffset).toBe(true);
    await expect(c.store.seal(P1)).rejects.toMatchObject({ code: 'UNKNOWN_TOPIC_OR_PARTITION' });
  });

  it('tells where the part ends that is older than a time', async () => {
    await c.store.create(P0);
    for (const timestampMs of [10, 20, 100, 30]) {
      await c.append(P0, c.store.info(P0)?.endOffset ?? 0, { timestampMs });
      await c.store.seal(P0);
    }
    const endOf = (beforeMs: number): number => c.store.compactionStatus(P0, beforeMs).endOffset;
    expect([endOf(5), endOf(20), endOf(50)]).toEqual([0, 1, 2]);
    const { dirtyBytes, openBytes } = c.store.compactionStatus(P0, 50);
    expect(dirtyBytes + openBytes).toBe(c.store.info(P0)?.sizeBytes);
  });

  it('tells where the part ends of which everything lies below an offset', async () => {
    await c.store.create(P0);
    for (let offset = 0; offset < 8; offset += 2) {
      await c.append(P0, offset, { count: 2 });
      await c.store.seal(P0);
    }
    const endOf = (beforeOffset: number): number => c.store.compactionStatus(P0, Infinity, beforeOffset).endOffset;
    expect([endOf(0), endOf(1), endOf(2), endOf(5)]).toEqual([0, 0, 2, 4]);
    const { dirtyBytes, openBytes } = c.store.compactionStatus(P0, Infinity, 5);
    expect(dirtyBytes + openBytes).toBe(c.store.info(P0)?.sizeBytes);
  });
}

function rewriting({ it, expect }: TestFunctions, c: Context): void {
  it('replaces batches by what the rewriter makes of them, asking once for each, in order', async () => {
    await c.store.create(P0);
    await appendMany(c, 0, 41);
    const before = c.store.info(P0);
    const asked: number[] = [];
    const end = await compact(c, (batch) => {
      asked.push(batch.baseOffset);
      return mixed(batch);
    });
    expect(asked).toEqual(Array.from({ length: end }, (_, i) => i));
    expect(await contents(c)).toEqual(mixedContents(41, end));
    expect(c.store.info(P0)).toMatchObject({ logStartOffset: 0, endOffset: 41 });
    const after = c.store.info(P0)?.sizeBytes ?? 0;
    expect(after < (before?.sizeBytes ?? 0)).toBe(true);
    const { cleanEndOffset, cleanBytes, dirtyBytes, openBytes } = c.store.compactionStatus(P0);
    expect([cleanEndOffset, dirtyBytes, cleanBytes + openBytes]).toEqual([end, 0, after]);
    // A reader in a gap gets what follows it.
    expect(await c.read(P0, 5, 1)).toEqual(['6-6']);
    expect((await c.store.findByTimestamp(P0, 1_005))?.baseOffset).toBe(6);
  });

  it('changes nothing for those who read when the rewriter keeps everything', async () => {
    await c.store.create(P0);
    await appendMany(c, 0, 30);
    const before = await contents(c);
    const end = await compact(c, keep);
    expect(await contents(c)).toEqual(before);
    expect(c.store.compactionStatus(P0).cleanEndOffset).toBe(end);
  });

  it('keeps the newest batch whatever the rewriter says, and goes on at the end offset', async () => {
    await c.store.create(P0);
    await appendMany(c, 0, 20);
    await compact(c, drop);
    expect(offsetsOf(await readAll(c.store, P0, 0))).toEqual(['19-19']);
    expect(c.store.info(P0)).toMatchObject({ logStartOffset: 0, endOffset: 20 });
    await appendMany(c, 20, 23);
    await compact(c, drop);
    expect(offsetsOf(await readAll(c.store, P0, 0))).toEqual(['22-22']);
    expect(await c.read(P0, 7)).toEqual(['22-22']);
    expect(await c.read(P0, 23)).toEqual([]);
  });
}

function rewritingAgain({ it, expect }: TestFunctions, c: Context): void {
  it('compacts what came since, together with what was compacted before', async () => {
    await c.store.create(P0);
    await appendMany(c, 0, 24);
    const first = await compact(c, mixed);
    await appendMany(c, 24, 49);
    await c.store.seal(P0);
    const { cleanEndOffset, dirtyBytes } = c.store.compactionStatus(P0);
    expect([cleanEndOffset, dirtyBytes > 0]).toEqual([first, true]);
    const end = await compact(c, mixed);
    expect(end > first).toBe(true);
    expect(await contents(c)).toEqual(mixedContents(49, end));
  });

  it('does not ask about what lies below the log start offset', async () => {
    await c.store.create(P0);
    for (let i = 0; i < 20; i++) await c.append(P0, i * 2, { count: 2, valueBytes: 60 });
    await c.store.deleteBefore(P0, 9);
    const asked: number[] = [];
    const end = await compact(c, (batch) => {
      asked.push(batch.baseOffset);
      return batch.records;
    });
    expect(asked).toEqual(Array.from({ length: Math.ceil(end / 2) - 4 }, (_, i) => 8 + i * 2));
    expect((await c.read(P0, 9, 1))[0]).toBe('8-9');
    expect(c.store.info(P0)?.logStartOffset).toBe(9);
  });

  it('leaves everything as it was when the rewriter fails', async () => {
    await c.store.create(P0);
    await appendMany(c, 0, 30);
    const before = await contents(c);
    let left = 17;
    const failing: Rewriter = () => {
      if (left-- > 0) return null;
      throw new Error('no more');
    };
    await expect(compact(c, failing)).rejects.toThrow('no more');
    expect(await contents(c)).toEqual(before);
    expect(c.store.compactionStatus(P0).cleanEndOffset).toBe(0);
    const end = await compact(c, mixed);
    expect(await contents(c)).toEqual(mixedContents(30, end));
  });

  it('truncates inside a gap that it left', async () => {
    await c.store.create(P0);
    for (let i = 0; i < 6; i++) await c.append(P0, i * 5, { count: 5, valueBytes: 200 });
    await c.store.checkpoint(SNAPSHOT);
    await compact(c, (batch) => (batch.baseOffset === 10 || batch.baseOffset === 15 ? null : batch.records));
    await c.store.truncate(P0, 17);
    const offsets = async (from: number): Promise<string[]> => offsetsOf(await readAll(c.store, P0, from));
    expect(await offsets(0)).toEqual(['0-4', '5-9']);
    expect(c.store.info(P0)).toMatchObject({ logStartOffset: 0, endOffset: 17 });
    await c.append(P0, 17, { count: 2, mark: 1 });
    expect(await c.read(P0, 12)).toEqual(['17-18']);
    if (!c.fixture.persistent) return;
    await c.store.close();
    await c.open();
    // The first of the removed batches may be back, the one that holds the new end may not.
    const after = (await offsets(0)).filter((batch) => batch !== '10-14');
    expect(after).toEqual(['0-4', '5-9', '17-18']);
    expect((await c.read(P0, 15))[0]).toBe('17-18');
    for (let i = 19; i < 30; i++) await c.append(P0, i, { valueBytes: 900 });
    await c.store.checkpoint(SNAPSHOT);
    expect((await offsets(16)).slice(0, 2)).toEqual(['17-18', '19-19']);
    expect((await c.read(P0, 18))[0]).toBe('17-18');
  });
}

/** What else is called while a rewrite is under way: from within the rewriter, so that it surely is. */
function meanwhile({ it, expect }: TestFunctions, c: Context): void {
  const during = async (action: () => Promise<void>): Promise<unknown> => {
    await c.store.create(P0);
    await appendMany(c, 0, 40);
    const actions: Promise<void>[] = [];
    const result = await compact(c, (batch) => {
      if (batch.baseOffset === 20) actions.push(action());
      return mixed(batch);
    }).then(
      () => 'resolved',
      (error: unknown) => error,
    );
    await Promise.all(actions);
    return result;
  };

  it('brings nothing back that is truncated meanwhile', async () => {
    expect(await during(() => c.store.truncate(P0, 10))).toBe('resolved');
    expect((await readAll(c.store, P0, 0)).every((batch) => batch.baseOffset < 10)).toBe(true);
    expect(c.store.info(P0)).toMatchObject({ logStartOffset: 0, endOffset: 10 });
    expect(c.store.compactionStatus(P0).cleanEndOffset <= 10).toBe(true);
    await c.append(P0, 10, { count: 3, mark: 7 });
    expect(await c.read(P0, 10)).toEqual(['10-12']);
  });

  it('brings nothing back that deleteBefore removes meanwhile', async () => {
    expect(await during(() => c.store.deleteBefore(P0, 30))).toBe('resolved');
    expect(c.store.info(P0)).toMatchObject({ logStartOffset: 30, endOffset: 40 });
    expect((await c.read(P0, 30, 1))[0]).toBe('30-30');
    await expect(Promise.resolve(c.store.read(P0, 29, 1, 100))).rejects.toMatchObject({ code: 'OFFSET_OUT_OF_RANGE' });
  });

  it('ends when the partition is deleted meanwhile, also when it is created anew', async () => {
    const action = async (): Promise<void> => {
      await Promise.all([c.store.delete(P0), c.store.create(P0), c.append(P0, 0, { count: 2, mark: 3 })]);
    };
    // It may have come to its end before the deletion was durable.
    const result = await during(action);
    if (result !== 'resolved') expect(result).toMatchObject({ code: 'UNKNOWN_TOPIC_OR_PARTITION' });
    expect(await c.read(P0, 0)).toEqual(['0-1']);
    expect(c.store.compactionStatus(P0)).toMatchObject({ cleanEndOffset: 0, cleanBytes: 0 });
  });

  it('lets appends and reads go on', async () => {
    const read: string[] = [];
    const action = async (): Promise<void> => {
      await c.append(P0, 40, { count: 3 });
      read.push(...(await c.read(P0, 39)));
    };
    expect(await during(action)).toBe('resolved');
    expect(read).toEqual(['39-39', '40-42']);
    expect((await c.read(P0, 38)).at(-1)).toBe('40-42');
    expect(offsetsOf(await readAll(c.store, P0, 0)).slice(0, 4)).toEqual(['0-0', '2-2', '3-3', '4-4']);
  });

  it('ends when the store is closed meanwhile', async () => {
    expect(await during(() => c.store.close())).toMatchObject({ code: 'STORAGE_ERROR' });
  });
}

function reopening({ it, expect }: TestFunctions, c: Context): void {
  it('is there after a clean stop, with how far it came', async () => {
    if (!c.fixture.persistent) return;
    await c.store.create(P0);
    await c.store.create(P1);
    await appendMany(c, 0, 40);
    await appendMany(c, 0, 5, P1);
    const end = await compact(c, mixed);
    await appendMany(c, 40, 43);
    const expected = [...mixedContents(40, end), ...mixedContents(43, 0).slice(40)];
    expect(await contents(c)).toEqual(expected);
    const { cleanBytes } = c.store.compactionStatus(P0);
    await c.store.close(SNAPSHOT);
    expect([...(await c.open()).calls].sort()).toEqual(['partition p0 0-43', 'partition p1 0-5', 'snapshot v3 1,2,3']);
    expect(await contents(c)).toEqual(expected);
    expect(c.store.compactionStatus(P0)).toMatchObject({ cleanEndOffset: end, cleanBytes });
    await appendMany(c, 43, 46);
    const again = await compact(c, mixed);
    await c.store.close(SNAPSHOT);
    await c.open();
    expect(await contents(c)).toEqual(mixedContents(46, again));
  });

  it('is there or not after any other stop, and recovery tells of the batches as they were appended', async () => {
    if (!c.fixture.persistent) return;
    await c.store.create(P0);
    await appendMany(c, 0, 20);
    await compact(c, drop);
    await appendMany(c, 20, 22);
    await c.store.close();
    const { calls } = await c.open();
    expect(calls.filter((call) => call.startsWith('batch')).length).toBe(22);
    const left = offsetsOf(await readAll(c.store, P0, 0));
    expect(left.slice(-3)).toEqual(['19-19', '20-20', '21-21']);
    expect(c.store.info(P0)).toMatchObject({ logStartOffset: 0, endOffset: 22 });
  });
}

export function findingBySize({ it, expect }: TestFunctions, c: Context): void {
  it('tells from where on so many bytes are stored at most', async () => {
    await c.store.create(P0, 2);
    expect(await c.store.findBySize(P0, 100)).toBe(2);
    for (let i = 0; i < 60; i++) await c.append(P0, 2 + i * 2, { count: 2, valueBytes: 1_000 });
    const size = (c.store.info(P0)?.sizeBytes ?? 0) / 60;
    expect(await c.store.findBySize(P0, size - 1)).toBe(122);
    expect(await c.store.findBySize(P0, size * 60)).toBe(2);
    for (const bytes of [size, size * 29.5, size * 41]) {
      const offset = await c.store.findBySize(P0, bytes);
      const batches = await readAll(c.store, P0, offset);
      const found = batches.length * size;
      expect(batches[0]?.baseOffset).toBe(offset);
      // An index interval or so less is all right.
      expect(found <= bytes && found > bytes - 24 * 1_024).toBe(true);
    }
    await c.store.deleteBefore(P0, 51);
    expect(await c.store.findBySize(P0, size * 60)).toBe(51);
    await expect(c.store.findBySize(P1, 1)).rejects.toMatchObject({ code: 'UNKNOWN_TOPIC_OR_PARTITION' });
  });
}
