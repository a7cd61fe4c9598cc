/** Verifying the log's files on the simulated disk: damage of every kind is named, and nothing else is. */
import type { PartitionKey, TopicId } from '@naru/base';
import { partitionKey } from '@naru/base';
import { crc32c, decodeRecords } from '@naru/protocol/batch';
import { RecordingVisitor, SeededRandom, SimDisk, VirtualClock, sampleBatch } from '@naru/testkit';
import { beforeEach, describe, expect, it } from 'vitest';
import type { Finding } from '../finding.ts';
import type { LogStore, StoredBatch } from '../log-store.ts';
import { writeUint32 } from './byte-fields.ts';
import { decodeCheckpoint, writeCheckpoint } from './checkpoint.ts';
import type { Checkpoint } from './checkpoint.ts';
import { openFileLogStore } from './file-log-store.ts';
import type { FileLogLimits } from './limits.ts';
import { VerifyContext } from '../verify-context.ts';
import { SparseIndex } from './sparse-index.ts';
import type { VerifiedLog } from './verify-log.ts';
import { verifyLog } from './verify-log.ts';

const LIMITS: Partial<FileLogLimits> = {
  journalFileBytes: 48 * 1024,
  journalBytes: 3 * 48 * 1024,
  maxAppendBytes: 10 * 1024,
  mergedFrameBytes: 10 * 1024,
  checkpointBytes: 40 * 1024,
  cacheBytes: 0,
  segmentBytes: 2_000,
  indexIntervalBytes: 300,
};
const TOPIC = '0190f2a4-7c1e-7d3a-9b5f-001122334455' as TopicId;
const P0 = partitionKey(TOPIC, 0);
const P1 = partitionKey(TOPIC, 1);
const SEGMENTS = `/data/segments/${TOPIC}-0`;
const FIRST_LOG = `${SEGMENTS}/${'0'.repeat(20)}.log`;
const JOURNAL = '/data/journal/00000000.journal';
const SNAPSHOT = { version: 1, data: new Uint8Array([9]) };
const BATCH_BYTES = sampleBatch(P0, 0, { valueBytes: 200 }).records.length;

let disk: SimDisk;
let clock: VirtualClock;
let store: LogStore;
let counts: VerifyContext['counts'];
let verified: VerifiedLog;

async function open(): Promise<void> {
  clock = new VirtualClock();
  store = openFileLogStore({ disk, path: '/data', clock, timers: clock, random: new SeededRandom(3), limits: LIMITS });
  await store.recover(new RecordingVisitor());
}

async function appendMany(from: number, to: number, partition: PartitionKey = P0): Promise<void> {
  for (let i = from; i < to; i++) await store.append([sampleBatch(partition, i, { valueBytes: 200 })]);
}

function everything(): string {
  return JSON.stringify(disk.paths().map((path) => [path, Buffer.from(disk.contents(path)).toString('base64')]));
}

/** What is found; and that nothing on the disk changes by it. */
async function verify(decode?: (batch: Uint8Array) => number): Promise<Finding[]> {
  const before = everything();
  const findings: Finding[] = [];
  const context = new VerifyContext({ disk, report: (finding) => findings.push(finding), decode });
  verified = await verifyLog(context, '/data');
  counts = context.counts;
  expect(everything()).toBe(before);
  return findings;
}

function problems(findings: readonly Finding[]): Finding[] {
  return findings.filter(({ severity }) => severity === 'problem');
}

beforeEach(async () => {
  disk = new SimDisk(new SeededRandom(1));
  await open();
  await store.create(P0);
});

describe('a sound log', () => {
  it('has no findings after a clean stop, and every batch was looked at', async () => {
    await appendMany(0, 30);
    await store.close(SNAPSHOT);
    expect(await verify((batch) => decodeRecords(batch).length)).toEqual([]);
    expect(counts).toMatchObject({ partitions: 1, batches: 30, records: 30, journalFrames: 0 });
    expect(counts.segments).toBeGreaterThan(3);
    expect(verified.isClean).toBe(true);
  });

  it('has no findings when it was compacted: gaps are no damage', async () => {
    await appendMany(0, 30);
    await settle();
    const compacted = compact();
    await settle();
    await compacted;
    await store.close(SNAPSHOT);
    expect(disk.paths().filter((path) => /-\d+\.log$/.test(path)).length).toBeGreaterThan(0);
    expect(await verify()).toEqual([]);
    expect(counts.batches).toBeLessThan(25);
    // And a batch that is damaged is still one.
    const rewritten = disk.paths().find((path) => /-\d+\.log$/.test(path)) ?? '';
    disk.damage(rewritten, 100, new Uint8Array([1, 2, 3]));
    expect(problems(await verify())).toEqual([expect.objectContaining({ file: rewritten, position: 0 })]);
  });

  it('has a note, no more, about the torn frame of a broker that was killed', async () => {
    await appendMany(0, 6);
    await store.checkpoint(SNAPSHOT);
    await appendMany(6, 9);
    disk = disk.processKill(new SeededRandom(1));
    // Frames: create, nine appends; the last one loses what stands after its header.
    disk.damage(JOURNAL, 9 * 4096 + 64, new Uint8Array(448));
    const findings = await verify();
    expect(findings).toEqual([expect.objectContaining({ severity: 'info', file: JOURNAL, position: 9 * 4096 })]);
    expect(verified.partitions?.get(P0)).toEqual({ logStartOffset: 0, endOffset: 8 });
  });

  it('has no problems wherever the power is cut or the process killed', async () => {
    for (let seed = 1; seed <= 60; seed++) {
      const random = new SeededRandom(seed);
      disk = new SimDisk(random);
      await open();
      await store.create(P0);
      disk.cutAfter(5 + random.integer(500));
      await Promise.race([randomWork(random), disk.whenCut]);
      disk = random.chance(0.5) ? disk.powerCut(random) : disk.processKill(random);
      expect(problems(await verify()), `seed ${seed}`).toEqual([]);
      // And recovery agrees.
      await open();
      expect(store.info(P0)?.endOffset, `seed ${seed}`).toBe(verified.partitions?.get(P0)?.endOffset);
    }
  });
});

/** Lets the writer behind, and compaction, do what there is to do. */
async function settle(): Promise<void> {
  for (let i = 0; i < 100; i++) {
    clock.advance(50);
    await new Promise<void>((resolve) => setImmediate(resolve));
  }
}

/** Removes every third batch. A truncate or delete may end it. */
async function compact(): Promise<void> {
  const { endOffset } = store.compactionStatus(P0);
  const keep = (batch: StoredBatch): Uint8Array | null => (batch.baseOffset % 3 === 1 ? null : batch.records);
  await store.rewrite(P0, endOffset, keep).catch(() => undefined);
}

/** Appends, truncates, deletes, compacts and checkpoints until the power goes. */
async function randomWork(random: SeededRandom): Promise<void> {
  let isThere = false;
  let isRewriting = false;
  for (;;) {
    if (!isRewriting && random.chance(0.1)) {
      isRewriting = true;
      void compact().finally(() => (isRewriting = false));
    }
    const start = store.info(P0)?.logStartOffset ?? 0;
    const end = store.info(P0)?.endOffset ?? 0;
    const choice = random.integer(12);
    if (store.checkpointDue()) await store.checkpoint(SNAPSHOT);
    if (choice < 7) await appendMany(end, end + 1 + random.integer(4));
    else if (choice < 8) await store.truncate(P0, start + random.integer(end - start + 1));
    else if (choice < 9) await store.deleteBefore(P0, start + random.integer(end - start + 1));
    else if (choice < 10) await store.checkpoint(SNAPSHOT);
    else if (isThere) await store.delete(P1).then(() => (isThere = false));
    else await store.create(P1).then(() => (isThere = true));
    if (isThere && choice === 11)
      await appendMany(store.info(P1)?.endOffset ?? 0, (store.info(P1)?.endOffset ?? 0) + 1, P1);
    clock.advance(random.integer(200));
  }
}

describe('a damaged segment', () => {
  beforeEach(async () => {
    await appendMany(0, 30);
    await store.close(SNAPSHOT);
  });

  it('is named with the place and the event, whichever byte of a batch has changed, and the rest is verified', async () => {
    const at = 3 * BATCH_BYTES;
    const original = disk.contents(FIRST_LOG);
    for (let i = 0; i < BATCH_BYTES; i++) {
      // The leader epoch is covered by no checksum, and means nothing to those who read events.
      if (i >= 12 && i < 16) continue;
      disk.damage(FIRST_LOG, at + i, new Uint8Array([(original[at + i] as number) ^ (1 << (i % 8))]));
      const found = problems(await verify());
      expect(found.length, `byte ${i}`).toBe(1);
      const [one] = found;
      expect(one).toMatchObject({ file: FIRST_LOG, partition: P0 });
      // A wrong base offset may as well be the neighbour's.
      if (i < 8) expect([at, at - BATCH_BYTES], `byte ${i}`).toContain(one?.position);
      else expect(one, `byte ${i}`).toMatchObject({ position: at, offsets: { first: 3, last: 3 } });
      expect(counts.batches, `byte ${i}`).toBeGreaterThanOrEqual(29);
      disk.damage(FIRST_LOG, at + i, original.subarray(at + i, at + i + 1));
    }
    expect(await verify()).toEqual([]);
  });

  it('is named by ranges when several batches in a row cannot be read', async () => {
    disk.damage(FIRST_LOG, BATCH_BYTES + 5, new Uint8Array(BATCH_BYTES * 2).fill(2));
    expect(problems(await verify())).toEqual([
      expect.objectContaining({ file: FIRST_LOG, position: BATCH_BYTES, offsets: { first: 1, last: 3 } }),
    ]);
    disk.damage(FIRST_LOG, 5 * BATCH_BYTES + 100, new Uint8Array([1, 2, 3]));
    expect(problems(await verify()).map(({ offsets }) => offsets)).toEqual([
      { first: 1, last: 3 },
      { first: 5, last: 5 },
    ]);
  });

  it('is named when it ends early, and when it is missing', async () => {
    const file = await disk.open(FIRST_LOG, 'write');
    await file.truncate(2 * BATCH_BYTES + 7);
    const [short] = problems(await verify());
    expect(short).toMatchObject({ file: FIRST_LOG, position: 2 * BATCH_BYTES, partition: P0 });
    expect(short?.cause).toContain('the file ends');
    const lastOffset = short?.offsets?.last as number;
    expect(short?.offsets).toEqual({ first: 2, last: lastOffset });
    disk.lose(FIRST_LOG);
    const [missing, ...others] = problems(await verify());
    expect(missing).toMatchObject({
      file: FIRST_LOG,
      cause: 'the file is missing',
      offsets: { first: 0, last: lastOffset },
    });
    expect(others).toEqual([]);
    expect(counts.batches).toBe(29 - lastOffset);
  });

  it('is a warning below the log start offset', async () => {
    await open();
    await store.deleteBefore(P0, 2);
    await store.close(SNAPSHOT);
    disk.damage(FIRST_LOG, 100, new Uint8Array([1, 2, 3]));
    expect(await verify()).toEqual([expect.objectContaining({ severity: 'warning', position: 0 })]);
  });

  it('is told from an index that is damaged, missing or of other bytes: warnings', async () => {
    const indexes = disk.paths().filter((path) => path.endsWith('.index'));
    disk.damage(indexes[0] ?? '', 20, new Uint8Array([7]));
    disk.lose(indexes[1] ?? '');
    const findings = await verify();
    expect(findings.map(({ severity, file }) => [severity, file])).toEqual([
      ['warning', indexes[0]],
      ['warning', indexes[1]],
    ]);
  });

  it('is told from an intact index that leads elsewhere: a problem, for readers would miss events', async () => {
    const path = FIRST_LOG.replace('.log', '.index');
    const index = new SparseIndex(1);
    // The second entry is one event late.
    index.note(0, 0, 0);
    index.note(1, 2 * BATCH_BYTES, 0);
    const file = await disk.open(path, 'write');
    await file.truncate(0);
    await file.write([index.encode(disk.contents(FIRST_LOG).length)], 0);
    expect(await verify()).toEqual([expect.objectContaining({ severity: 'problem', file: path })]);
  });

  it('is warned of when the checkpoint says less of its times than its batches', async () => {
    const [name = ''] = await disk.list('/data/checkpoint');
    const checkpoint = decodeCheckpoint(disk.contents(`/data/checkpoint/${name}`)) as Checkpoint;
    const partitions = checkpoint.partitions.map((partition) => ({
      ...partition,
      segments: partition.segments.map((segment, i) => (i === 1 ? { ...segment, maxTimestampMs: 1 } : segment)),
    }));
    await writeCheckpoint(disk, '/data/checkpoint', { ...checkpoint, partitions });
    const findings = await verify();
    expect(findings).toEqual([expect.objectContaining({ severity: 'warning', position: 0 })]);
    expect(findings[0]?.cause).toContain('timestamp');
  });

  it('is named when records cannot be decoded although the checksum fits, if that is asked for', async () => {
    const batch = disk.contents(FIRST_LOG).slice(BATCH_BYTES, 2 * BATCH_BYTES);
    batch[61] = 2;
    writeUint32(batch, 17, crc32c(batch.subarray(21)));
    disk.damage(FIRST_LOG, BATCH_BYTES, batch);
    expect(await verify()).toEqual([]);
    const found = problems(await verify((bytes) => decodeRecords(bytes).length));
    expect(found).toEqual([expect.objectContaining({ position: BATCH_BYTES, offsets: { first: 1, last: 1 } })]);
    expect(found[0]?.cause).toContain('cannot be decoded');
  });

  it('is named when the disk cannot read it', async () => {
    disk.addFault({ operation: 'read', path: /0\.log$/, code: 'EIO' });
    const found = problems(await verify());
    expect(found.map(({ file }) => file)).toContain(FIRST_LOG);
    for (const one of found) expect(one.cause).toContain('EIO');
  });
});

describe('a damaged journal', () => {
  it('is named with the frame and the events that are lost with it', async () => {
    await store.create(P1);
    await appendMany(0, 2, P1);
    await appendMany(0, 5);
    disk = disk.processKill(new SeededRandom(1));
    // Frames of 4096 bytes: two creates, two appends to P1, five to P0.
    disk.damage(JOURNAL, 5 * 4096 + 200, new Uint8Array([1, 2, 3, 4]));
    const found = problems(await verify());
    expect(found).toEqual([
      expect.objectContaining({ file: JOURNAL, position: 5 * 4096, partition: null }),
      expect.objectContaining({ file: JOURNAL, position: 5 * 4096, partition: P0, offsets: { first: 1, last: 1 } }),
    ]);
    expect(counts.journalFrames).toBe(8);
    await expect(open()).rejects.toMatchObject({ code: 'DATA_CORRUPT' });
  });
});

describe('checkpoints and the clean mark', () => {
  function checkpoints(): string[] {
    return disk.paths().filter((path) => path.endsWith('.ckpt'));
  }

  it('are a problem when none can be read', async () => {
    await appendMany(0, 3);
    await store.close(SNAPSHOT);
    const [path = ''] = checkpoints();
    disk.damage(path, 20, new Uint8Array([77]));
    expect(await verify()).toEqual([expect.objectContaining({ severity: 'problem', file: path })]);
    expect(verified.checkpoint).toBeNull();
    disk.lose(path);
    expect(problems(await verify())).toEqual([expect.objectContaining({ file: '/data/checkpoint' })]);
  });

  it('are a warning when an older one and the journal say as much', async () => {
    await appendMany(0, 2);
    disk.addFault({ operation: 'remove', path: /checkpoint/, code: 'EIO', times: 1 });
    await store.checkpoint(SNAPSHOT).catch(() => undefined);
    disk = disk.processKill(new SeededRandom(1));
    const newest = checkpoints()[1] ?? '';
    disk.damage(newest, 20, new Uint8Array([77]));
    expect(await verify()).toEqual([expect.objectContaining({ severity: 'warning', file: newest })]);
    disk.damage(JOURNAL, 4096, new Uint8Array(3 * 4096));
    expect(problems(await verify())).toEqual([expect.objectContaining({ file: newest })]);
  });

  it('are a problem when the mark names a checkpoint that is gone', async () => {
    await appendMany(0, 3);
    await store.close(SNAPSHOT);
    disk.damage('/data/clean', 0, new TextEncoder().encode('{"sequence":99}'));
    expect(problems(await verify())).toEqual([expect.objectContaining({ file: '/data/clean' })]);
  });

  it('are a problem when the mark denies frames of the journal', async () => {
    await appendMany(0, 3);
    await store.close(SNAPSHOT);
    const mark = disk.contents('/data/clean');
    await open();
    await appendMany(3, 4);
    disk = disk.processKill(new SeededRandom(1));
    const file = await disk.open('/data/clean', 'write');
    await file.write([mark], 0);
    expect(problems(await verify())).toEqual([expect.objectContaining({ file: '/data/clean' })]);
  });
});

describe('what belongs to nothing', () => {
  it('is a problem when it is a partition, otherwise a note', async () => {
    await appendMany(0, 3);
    await store.close(SNAPSHOT);
    const strange = `/data/segments/${TOPIC}-7`;
    await disk.makeDirectory(strange);
    await disk.makeDirectory('/data/segments/lost+found');
    for (const path of ['/data/journal/notes', '/data/checkpoint/old', `${SEGMENTS}/copy.log`, `${strange}/0.log`])
      await disk.open(path, 'write');
    const findings = await verify();
    expect(problems(findings)).toEqual([expect.objectContaining({ file: strange, partition: partitionKey(TOPIC, 7) })]);
    const notes = findings.filter(({ severity }) => severity === 'info').map(({ file }) => file);
    expect(notes.sort()).toEqual([
      '/data/checkpoint/old',
      '/data/journal/notes',
      `${SEGMENTS}/copy.log`,
      '/data/segments/lost+found',
    ]);
  });

  it('is the whole log when it is of another version, or the version is missing', async () => {
    await store.close(SNAPSHOT);
    const path = '/data/naru-data.json';
    disk.damage(path, 0, new TextEncoder().encode('{ "formatVersion": 2 }  '));
    expect(problems(await verify())).toEqual([expect.objectContaining({ file: path })]);
    disk.lose(path);
    expect(problems(await verify())).toEqual([expect.objectContaining({ file: path })]);
  });
});

it('tells how far it is, and stops when it is asked to', async () => {
  await appendMany(0, 30);
  await store.close(SNAPSHOT);
  const stop = new AbortController();
  let last = { doneBytes: 0, totalBytes: 0 };
  const options = { disk, report: () => undefined, signal: stop.signal };
  const told = (progress: typeof last): void => {
    expect(progress.doneBytes).toBeGreaterThanOrEqual(last.doneBytes);
    expect(progress.totalBytes).toBeGreaterThanOrEqual(progress.doneBytes);
    last = progress;
  };
  await verifyLog(new VerifyContext({ ...options, onProgress: told }), '/data');
  expect(last.doneBytes).toBeGreaterThan(30 * BATCH_BYTES);
  const stopped = verifyLog(new VerifyContext({ ...options, onProgress: () => stop.abort() }), '/data');
  await expect(stopped).rejects.toMatchObject({ code: 'ABORTED' });
});
