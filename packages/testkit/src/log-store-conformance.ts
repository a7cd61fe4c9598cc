/**
 * What every log store does, whatever its engine. Run by each engine's tests:
 * `logStoreConformance({ describe, it, expect, beforeEach, afterEach }, 'memory', async () => ({ ... }))`.
 */
import type { PartitionKey, TopicId } from '@naru/base';
import { partitionKey } from '@naru/base';
import type { LogStore, PartitionInfo, RecoveryVisitor, Snapshot, StoredBatch } from '@naru/broker';
import { compacting, findingBySize } from './log-store-compaction.ts';
import { sampleBatch } from './sample-batch.ts';
import type { SampleBatchOptions } from './sample-batch.ts';

/** What the suite needs of vitest; handed in, so that this package loads without it. */
export interface TestFunctions {
  readonly describe: (name: string, body: () => void) => unknown;
  readonly it: (name: string, body: () => Promise<void>) => unknown;
  readonly expect: (value: unknown) => Expectation;
  readonly beforeEach: (body: () => Promise<void>) => unknown;
  readonly afterEach: (body: () => Promise<void>) => unknown;
}

interface Expectation {
  toBe(expected: unknown): void;
  toEqual(expected: unknown): void;
  toBeUndefined(): void;
  toMatchObject(expected: object): void;
  readonly rejects: { toMatchObject(expected: object): Promise<void>; toThrow(message: string): Promise<void> };
}

/** One storage, which stores can be opened on one after the other. */
export interface LogStoreFixture {
  /** A store that recover() was not called on. */
  open(): LogStore;
  /** Whether a store finds what an earlier one on the same storage wrote. */
  readonly persistent: boolean;
  dispose(): Promise<void>;
}

const TOPIC = '0190f2a4-7c1e-7d3a-9b5f-001122334455' as TopicId;
const P0 = partitionKey(TOPIC, 0);
const P1 = partitionKey(TOPIC, 1);
const NO_LIMIT = Number.MAX_SAFE_INTEGER;
const SNAPSHOT: Snapshot = { version: 3, data: new Uint8Array([1, 2, 3]) };

/** Notes every call, as text that a test compares. */
export class RecordingVisitor implements RecoveryVisitor {
  readonly calls: string[] = [];
  readonly infos: PartitionInfo[] = [];
  lastSnapshot: Snapshot | null = null;

  snapshot(snapshot: Snapshot | null): void {
    this.lastSnapshot = snapshot;
    this.calls.push(snapshot === null ? 'snapshot none' : `snapshot v${snapshot.version} ${snapshot.data.join(',')}`);
  }
  partition(info: PartitionInfo): void {
    this.infos.push(info);
    this.calls.push(`partition ${short(info.partition)} ${info.logStartOffset}-${info.endOffset}`);
  }
  created(partition: PartitionKey): void {
    this.calls.push(`created ${short(partition)}`);
  }
  batch(partition: PartitionKey, batch: StoredBatch): void {
    this.calls.push(`batch ${short(partition)} ${batch.baseOffset}-${batch.lastOffset}`);
  }
  truncated(partition: PartitionKey, endOffset: number): void {
    this.calls.push(`truncated ${short(partition)} ${endOffset}`);
  }
  deletedBefore(partition: PartitionKey, offset: number): void {
    this.calls.push(`deletedBefore ${short(partition)} ${offset}`);
  }
  deleted(partition: PartitionKey): void {
    this.calls.push(`deleted ${short(partition)}`);
  }
}

function short(partition: PartitionKey): string {
  return `p${partition.slice(37)}`;
}

/** Reads a partition from `from` to its end, batch by batch. */
export async function readAll(
  store: LogStore,
  partition: PartitionKey,
  from: number,
  maxBytes = 1_000,
): Promise<StoredBatch[]> {
  const all: StoredBatch[] = [];
  for (let offset = from; ;) {
    const batches = await store.read(partition, offset, maxBytes, NO_LIMIT);
    const last = batches.at(-1);
    if (last === undefined) return all;
    all.push(...batches);
    offset = last.lastOffset + 1;
  }
}

/** One test's store, with short forms of what tests do most. */
export class Context {
  readonly createFixture: () => Promise<LogStoreFixture>;
  fixture!: LogStoreFixture;
  store!: LogStore;

  constructor(createFixture: () => Promise<LogStoreFixture>) {
    this.createFixture = createFixture;
  }

  /** Opens a store on the fixture, and tells what recovery told. */
  async open(): Promise<RecordingVisitor> {
    const visitor = new RecordingVisitor();
    this.store = this.fixture.open();
    await this.store.recover(visitor);
    return visitor;
  }

  append(partition: PartitionKey, baseOffset: number, options?: SampleBatchOptions): Promise<void> {
    return this.store.append([sampleBatch(partition, baseOffset, options)]);
  }

  async read(partition: PartitionKey, offset: number, maxBytes = 100_000, limit = NO_LIMIT): Promise<string[]> {
    return offsetsOf(await this.store.read(partition, offset, maxBytes, limit));
  }
}

export function offsetsOf(batches: readonly StoredBatch[]): string[] {
  return batches.map((batch) => `${batch.baseOffset}-${batch.lastOffset}`);
}

export function logStoreConformance(
  test: TestFunctions,
  name: string,
  createFixture: () => Promise<LogStoreFixture>,
): void {
  const { describe, beforeEach, afterEach } = test;
  describe(`log store ${name}`, () => {
    const context = new Context(createFixture);

    beforeEach(async () => {
      context.fixture = await createFixture();
      await context.open();
    });
    afterEach(async () => {
      await context.store.close();
      await context.fixture.dispose();
    });

    describe('reading', () => {
      reading(test, context);
    });
    describe('appending', () => {
      appending(test, context);
    });
    describe('truncating and deleting', () => {
      truncating(test, context);
    });
    describe('a long log', () => {
      longLog(test, context);
    });
    describe('compacting', () => {
      compacting(test, context);
    });
    describe('finding a place by size', () => {
      findingBySize(test, context);
    });
    describe('closing', () => {
      closing(test, context);
    });
    describe('opening again after a checkpoint', () => {
      openingAgain(test, context);
    });
  });
}

function reading({ it, expect }: TestFunctions, c: Context): void {
  it('returns the bytes that were appended, in order', async () => {
    await c.store.create(P0);
    const batches = [sampleBatch(P0, 0, { count: 3 }), sampleBatch(P0, 3), sampleBatch(P0, 4, { count: 2 })];
    for (const batch of batches) await c.store.append([batch]);
    const stored = await c.store.read(P0, 0, 100_000, NO_LIMIT);
    expect(stored.map((batch) => Buffer.from(batch.records).toString('hex'))).toEqual(
      batches.map((batch) => Buffer.from(batch.records).toString('hex')),
    );
    expect(stored.map((batch) => batch.maxTimestampMs)).toEqual([1_000, 1_003, 1_004]);
  });

  it('begins with the whole batch that holds the offset', async () => {
    await c.store.create(P0);
    await c.append(P0, 0, { count: 3 });
    await c.append(P0, 3, { count: 3 });
    expect(await c.read(P0, 2)).toEqual(['0-2', '3-5']);
    expect(await c.read(P0, 3)).toEqual(['3-5']);
  });

  it('returns nothing at the end, and refuses offsets outside', async () => {
    await c.store.create(P0, 5);
    await c.append(P0, 5, { count: 2 });
    expect(await c.read(P0, 7)).toEqual([]);
    await expect(Promise.resolve(c.store.read(P0, 8, 100, NO_LIMIT))).rejects.toMatchObject({
      code: 'OFFSET_OUT_OF_RANGE',
    });
    await expect(Promise.resolve(c.store.read(P0, 4, 100, NO_LIMIT))).rejects.toMatchObject({
      code: 'OFFSET_OUT_OF_RANGE',
    });
  });

  it('keeps to maxBytes, but always returns one batch', async () => {
    await c.store.create(P0);
    for (let i = 0; i < 4; i++) await c.append(P0, i, { valueBytes: 500 });
    expect(await c.read(P0, 0, 1)).toEqual(['0-0']);
    const [first] = await c.store.read(P0, 0, 1, NO_LIMIT);
    const size = first?.records.length ?? 0;
    expect(await c.read(P0, 0, size * 2 + 1)).toEqual(['0-0', '1-1']);
  });

  it('returns only batches that end below the limit offset', async () => {
    await c.store.create(P0);
    await c.append(P0, 0, { count: 2 });
    await c.append(P0, 2, { count: 2 });
    expect(await c.read(P0, 0, 100_000, 4)).toEqual(['0-1', '2-3']);
    expect(await c.read(P0, 0, 100_000, 3)).toEqual(['0-1']);
    expect(await c.read(P0, 0, 100_000, 1)).toEqual([]);
  });

  it('reads across a gap that compaction left', async () => {
    await c.store.create(P0);
    await c.append(P0, 0);
    await c.append(P0, 10, { count: 2 });
    expect(await c.read(P0, 0)).toEqual(['0-0', '10-11']);
    expect(await c.read(P0, 5)).toEqual(['10-11']);
    expect(c.store.info(P0)?.endOffset).toBe(12);
  });
}

function appending({ it, expect }: TestFunctions, c: Context): void {
  it('appends to several partitions at once, and twice to one', async () => {
    await c.store.create(P0);
    await c.store.create(P1);
    await c.store.append([sampleBatch(P0, 0), sampleBatch(P1, 0, { count: 2 }), sampleBatch(P0, 1)]);
    expect(await c.read(P0, 0)).toEqual(['0-0', '1-1']);
    expect(await c.read(P1, 0)).toEqual(['0-1']);
  });

  it('takes operations in the order of the calls, without waiting between them', async () => {
    const done: string[] = [];
    const note = (what: string) => (): void => void done.push(what);
    await Promise.all([
      c.store.create(P0).then(note('create')),
      c.append(P0, 0, { count: 4 }).then(note('append 0')),
      c.append(P0, 4).then(note('append 4')),
      c.store.truncate(P0, 4).then(note('truncate')),
      c.append(P0, 4, { count: 2, mark: 1 }).then(note('append 4 again')),
      c.store.deleteBefore(P0, 4).then(note('deleteBefore')),
    ]);
    expect(done).toEqual(['create', 'append 0', 'append 4', 'truncate', 'append 4 again', 'deleteBefore']);
    expect(await c.read(P0, 4)).toEqual(['4-5']);
  });

  it('refuses a batch below the end offset and leaves nothing of that append behind', async () => {
    await c.store.create(P0);
    await c.append(P0, 0, { count: 3 });
    await expect(c.store.append([sampleBatch(P0, 3), sampleBatch(P0, 2)])).rejects.toThrow('before the end offset');
    await c.append(P0, 3, { count: 2, mark: 7 });
    expect(await c.read(P0, 0)).toEqual(['0-2', '3-4']);
  });

  it('knows no partition that was not created', async () => {
    await expect(c.append(P0, 0)).rejects.toMatchObject({ code: 'UNKNOWN_TOPIC_OR_PARTITION' });
    await expect(Promise.resolve(c.store.read(P0, 0, 1, 1))).rejects.toMatchObject({
      code: 'UNKNOWN_TOPIC_OR_PARTITION',
    });
    expect(c.store.info(P0)).toBeUndefined();
  });

  it('reports what it holds', async () => {
    await c.store.create(P0, 7);
    await c.store.create(P1);
    const batch = sampleBatch(P0, 7, { count: 2 });
    await c.store.append([batch]);
    expect(c.store.info(P0)).toEqual({
      partition: P0,
      logStartOffset: 7,
      endOffset: 9,
      sizeBytes: batch.records.length,
    });
    expect(c.store.partitions().map((info) => info.partition)).toEqual([P0, P1]);
    expect(c.store.capacity()).toEqual({ state: 'open' });
  });

  it('finds the first batch of a time, also when times go back', async () => {
    await c.store.create(P0);
    for (const [offset, timestampMs] of [10, 30, 20, 40].entries()) await c.append(P0, offset, { timestampMs });
    const find = async (timestampMs: number): Promise<number | null> =>
      (await c.store.findByTimestamp(P0, timestampMs))?.baseOffset ?? null;
    expect([await find(0), await find(11), await find(30), await find(31), await find(41)]).toEqual([0, 1, 1, 3, null]);
    await c.store.deleteBefore(P0, 2);
    expect([await find(0), await find(30)]).toEqual([2, 3]);
  });
}

function truncating({ it, expect }: TestFunctions, c: Context): void {
  it('truncates, and goes on at the new end', async () => {
    await c.store.create(P0);
    for (let i = 0; i < 5; i++) await c.append(P0, i);
    await c.store.truncate(P0, 2);
    expect(await c.read(P0, 0)).toEqual(['0-0', '1-1']);
    expect(c.store.info(P0)?.endOffset).toBe(2);
    await c.append(P0, 2, { count: 4, mark: 1 });
    expect(await c.read(P0, 0)).toEqual(['0-0', '1-1', '2-5']);
  });

  it('keeps everything when truncated at the end', async () => {
    await c.store.create(P0);
    await c.append(P0, 0, { count: 2 });
    await c.store.truncate(P0, 2);
    await c.store.truncate(P0, 9);
    expect(c.store.info(P0)).toMatchObject({ logStartOffset: 0, endOffset: 2 });
  });

  it('moves the log start, inside a batch too', async () => {
    await c.store.create(P0);
    await c.append(P0, 0, { count: 4 });
    await c.append(P0, 4);
    await c.store.deleteBefore(P0, 2);
    expect(await c.read(P0, 2)).toEqual(['0-3', '4-4']);
    await expect(Promise.resolve(c.store.read(P0, 1, 100, NO_LIMIT))).rejects.toMatchObject({
      code: 'OFFSET_OUT_OF_RANGE',
    });
    await c.store.deleteBefore(P0, 1);
    expect(c.store.info(P0)?.logStartOffset).toBe(2);
    await c.store.deleteBefore(P0, 5);
    expect(await c.read(P0, 5)).toEqual([]);
    await c.append(P0, 5);
    expect(await c.read(P0, 5)).toEqual(['5-5']);
  });

  it('deletes a partition, which can be created anew, empty', async () => {
    await c.store.create(P0);
    await c.append(P0, 0, { count: 3 });
    await c.store.delete(P0);
    expect(c.store.info(P0)).toBeUndefined();
    await expect(c.append(P0, 3)).rejects.toMatchObject({ code: 'UNKNOWN_TOPIC_OR_PARTITION' });
    await c.store.create(P0);
    await c.append(P0, 0, { mark: 1 });
    expect(await c.read(P0, 0)).toEqual(['0-0']);
  });

  it('creates a partition anew while its deletion is on its way', async () => {
    await c.store.create(P0);
    await c.append(P0, 0, { count: 3 });
    const done = [c.store.delete(P0), c.store.create(P0, 7), c.append(P0, 7, { mark: 1 })];
    await Promise.all(done);
    expect(c.store.info(P0)).toMatchObject({ logStartOffset: 7, endOffset: 8 });
    expect(await c.read(P0, 7)).toEqual(['7-7']);
  });
}

function longLog({ it, expect }: TestFunctions, c: Context): void {
  it('reads every batch, whatever of it is still in memory', async () => {
    await c.store.create(P0);
    await c.store.create(P1);
    for (let i = 0; i < 300; i++)
      await c.store.append([sampleBatch(P0, i * 2, { count: 2, valueBytes: 90 }), sampleBatch(P1, i)]);
    await c.store.checkpoint(SNAPSHOT);
    for (let i = 300; i < 400; i++) await c.store.append([sampleBatch(P0, i * 2, { count: 2, valueBytes: 90 })]);
    expect((await readAll(c.store, P0, 0)).map((batch) => batch.baseOffset)).toEqual(
      Array.from({ length: 400 }, (_, i) => i * 2),
    );
    expect((await readAll(c.store, P0, 333)).map((batch) => batch.baseOffset)[0]).toBe(332);
    expect((await readAll(c.store, P1, 0)).length).toBe(300);
    expect((await c.store.findByTimestamp(P0, 1_100))?.baseOffset).toBe(100);
  });

  it('truncates and deletes deep in it', async () => {
    await c.store.create(P0);
    for (let i = 0; i < 200; i++) await c.append(P0, i, { valueBytes: 100 });
    await c.store.checkpoint(SNAPSHOT);
    await c.store.truncate(P0, 50);
    for (let i = 50; i < 120; i++) await c.append(P0, i, { valueBytes: 100, mark: 1 });
    await c.store.deleteBefore(P0, 30);
    expect(offsetsOf(await readAll(c.store, P0, 30))).toEqual(
      Array.from({ length: 90 }, (_, i) => `${i + 30}-${i + 30}`),
    );
    await c.store.checkpoint(SNAPSHOT);
    expect(offsetsOf(await readAll(c.store, P0, 30))).toEqual(
      Array.from({ length: 90 }, (_, i) => `${i + 30}-${i + 30}`),
    );
  });
}

function closing({ it, expect }: TestFunctions, c: Context): void {
  it('refuses everything after close', async () => {
    await c.store.create(P0);
    await c.store.close();
    await expect(c.append(P0, 0)).rejects.toMatchObject({ code: 'STORAGE_ERROR' });
    expect(c.store.capacity().state).toBe('offline');
  });

  it('recovers nothing from storage that was never used', async () => {
    const other = await c.createFixture();
    const empty = other.open();
    const visitor = new RecordingVisitor();
    await empty.recover(visitor);
    expect(visitor.calls).toEqual(['snapshot none']);
    await empty.close();
    await other.dispose();
  });

  it('tells everything since the beginning when there was no checkpoint', async () => {
    if (!c.fixture.persistent) return;
    await c.store.create(P0);
    await c.append(P0, 0, { count: 3 });
    await c.store.create(P1);
    await c.append(P1, 0);
    await c.store.truncate(P1, 0);
    await c.append(P0, 3);
    await c.store.deleteBefore(P0, 3);
    await c.store.delete(P1);
    await c.store.close();
    const visitor = await c.open();
    expect(visitor.calls).toEqual([
      'snapshot none',
      'created p0',
      'batch p0 0-2',
      'created p1',
      'batch p1 0-0',
      'truncated p1 0',
      'batch p0 3-3',
      'deletedBefore p0 3',
      'deleted p1',
    ]);
    expect(await c.read(P0, 3)).toEqual(['3-3']);
    expect(c.store.info(P1)).toBeUndefined();
  });
}

function openingAgain({ it, expect }: TestFunctions, c: Context): void {
  it('tells the snapshot and what came after it', async () => {
    if (!c.fixture.persistent) return;
    await c.store.create(P0);
    await c.append(P0, 0, { count: 3 });
    const checkpoint = c.store.checkpoint(SNAPSHOT);
    const after = c.append(P0, 3);
    await checkpoint;
    await after;
    await c.store.truncate(P0, 3);
    await c.append(P0, 3, { count: 2 });
    await c.store.close();
    const visitor = await c.open();
    expect(visitor.calls).toEqual([
      'snapshot v3 1,2,3',
      'partition p0 0-3',
      'batch p0 3-3',
      'truncated p0 3',
      'batch p0 3-4',
    ]);
    expect(await c.read(P0, 0)).toEqual(['0-2', '3-4']);
  });

  it('tells only the snapshot after a close with one, and goes on', async () => {
    if (!c.fixture.persistent) return;
    await c.store.create(P0);
    await c.append(P0, 0, { count: 3 });
    await c.store.close(SNAPSHOT);
    expect((await c.open()).calls).toEqual(['snapshot v3 1,2,3', 'partition p0 0-3']);
    await c.append(P0, 3);
    await c.store.close();
    expect((await c.open()).calls).toEqual(['snapshot v3 1,2,3', 'partition p0 0-3', 'batch p0 3-3']);
    expect(offsetsOf(await readAll(c.store, P0, 0))).toEqual(['0-2', '3-3']);
  });

  it('keeps a long log over several openings', async () => {
    if (!c.fixture.persistent) return;
    await c.store.create(P0);
    for (let round = 0; round < 4; round++) {
      for (let i = 0; i < 60; i++) await c.append(P0, round * 60 + i, { valueBytes: 100 });
      if (round === 1) await c.store.checkpoint(SNAPSHOT);
      await c.store.close(round === 2 ? SNAPSHOT : undefined);
      await c.open();
    }
    expect((await readAll(c.store, P0, 0)).map((batch) => batch.baseOffset)).toEqual(
      Array.from({ length: 240 }, (_, i) => i),
    );
  });
}
