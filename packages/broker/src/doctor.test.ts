/** Verifying the data directory of a real broker on the real disk. */
import { createHash } from 'node:crypto';
import { copyFile, cp, mkdir, mkdtemp, readdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Broker } from './broker.ts';
import type { DoctorFinding, DoctorReport } from './doctor.ts';
import { verifyDataDirectory } from './doctor.ts';
import { RawClient } from './doors/grpc/raw-client.ts';

const EVENTS = 20;
/** Quick to make, copy and hash. */
const SMALL = { journalFileBytes: '20MiB', journalBytes: '60MiB', checkpointBytes: '20MiB' };

let directory: string;
let data: string;
/** What a broker left. */
let left: string;
let running: Broker | null = null;
let client: RawClient | null = null;

beforeAll(async () => {
  left = await mkdtemp(join(tmpdir(), 'naru-doctor-left-'));
  data = left;
  await use();
  await stop();
});

afterAll(async () => {
  await rm(left, { recursive: true });
});

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'naru-doctor-'));
  data = join(directory, 'data');
});

afterEach(async () => {
  await stop();
  await rm(directory, { recursive: true });
});

async function start(): Promise<RawClient> {
  running = await Broker.start({ port: 0, data, storage: 'file', log: SMALL });
  client = new RawClient(running.bootstrap);
  return client;
}

async function stop(): Promise<void> {
  client?.destroy();
  client = null;
  await running?.close();
  running = null;
}

/** A broker that was used; it still runs. */
async function use(): Promise<void> {
  const { createTopic, publish } = bound(await start());
  await createTopic('orders');
  for (let i = 0; i < EVENTS; i++) await publish('orders', 0, [`event ${i}`]);
}

function bound(raw: RawClient): Pick<RawClient, 'createTopic' | 'publish'> {
  return { createTopic: raw.createTopic.bind(raw), publish: raw.publish.bind(raw) };
}

/** The same, closed properly. */
async function leaveData(): Promise<void> {
  await cp(left, data, { recursive: true });
}

/** Path and digest of every file. */
async function digests(): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for (const entry of await readdir(data, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    const { mtimeMs, size } = await stat(path);
    const digest = entry.isFile()
      ? createHash('sha256')
          .update(await readFile(path))
          .digest('hex')
      : '';
    found[path] = `${size} ${mtimeMs} ${digest}`;
  }
  return found;
}

/** What is found; and that the directory is what it was. */
async function examine(deep = false): Promise<DoctorReport> {
  const before = await digests();
  const report = await verifyDataDirectory(data, { deep });
  expect(await digests()).toEqual(before);
  return report;
}

function problems({ findings }: DoctorReport): DoctorFinding[] {
  return findings.filter(({ severity }) => severity === 'problem');
}

/** The only file that holds the events of orders/0. */
async function segmentPath(): Promise<string> {
  const segments = join(data, 'segments');
  const paths: string[] = [];
  for (const name of await readdir(segments)) {
    const path = join(segments, name, `${'0'.repeat(20)}.log`);
    if ((await readFile(path)).includes('event 0')) paths.push(path);
  }
  expect(paths.length).toBe(1);
  return paths[0] as string;
}

async function flip(path: string, position: number): Promise<void> {
  const bytes = await readFile(path);
  bytes[position] = (bytes[position] as number) ^ 0x10;
  await writeFile(path, bytes);
}

describe('a sound directory', () => {
  it('has no findings after a clean stop, and every record is looked at', async () => {
    await leaveData();
    const report = await examine(true);
    expect(report.findings).toEqual([]);
    expect(report).toMatchObject({ isSound: true, isCleanStop: true, found: { problem: 0, warning: 0, info: 0 } });
    expect(report.checked.records).toBeGreaterThanOrEqual(EVENTS);
  });

  it('has no problems when the broker was killed, before a checkpoint and inside a change of metadata', async () => {
    await use();
    // What a process leaves that is killed now: the running one holds the original.
    const copy = join(directory, 'copy');
    await cp(data, copy, { recursive: true });
    await stop();
    data = copy;
    const report = await examine(true);
    expect(problems(report)).toEqual([]);
    expect(report).toMatchObject({ isSound: true, isCleanStop: false });
    expect(report.checked.records).toBeGreaterThanOrEqual(EVENTS);

    const half = new DatabaseSync(join(data, 'metadata.db'));
    half.exec("PRAGMA cache_size = 1; BEGIN IMMEDIATE; UPDATE entries SET value = 'not JSON'");
    half.exec(`INSERT INTO entries SELECT key || 'x', '"${'x'.repeat(5_000)}"', 99 FROM entries`);
    const killed = join(directory, 'killed');
    await cp(data, killed, { recursive: true });
    half.exec('ROLLBACK');
    half.close();
    data = killed;
    expect((await stat(join(data, 'metadata.db-journal'))).size).toBeGreaterThan(0);
    expect(problems(await examine())).toEqual([]);
  });

  it('is refused while a broker runs on it, and keeps a broker off while it is verified', async () => {
    await use();
    await expect(verifyDataDirectory(data)).rejects.toMatchObject({ code: 'DATA_DIRECTORY_IN_USE' });
    await stop();
    const starts: Promise<unknown>[] = [];
    const tryToStart = async (): Promise<unknown> => start().catch((error: unknown) => error);
    await verifyDataDirectory(data, {
      onProgress: () => {
        if (starts.length === 0) starts.push(tryToStart());
      },
    });
    expect(await Promise.all(starts)).toEqual([expect.objectContaining({ code: 'DATA_DIRECTORY_IN_USE' })]);
    await start();
  });
});

describe('a damaged directory', () => {
  beforeEach(leaveData);

  it('names topic, place and events of a batch that has rotted', async () => {
    const path = await segmentPath();
    const at = (await readFile(path)).indexOf('event 3');
    await flip(path, at);
    const report = await examine();
    expect(report.isSound).toBe(false);
    const [one, ...others] = problems(report);
    expect(others).toEqual([]);
    expect(one).toMatchObject({
      file: path.slice(data.length + 1),
      partition: { topic: 'orders', partition: 0 },
      offsets: { first: 3, last: 3 },
      cause: expect.stringContaining('checksum'),
    });
    expect(one?.position).toBeLessThan(at);
    expect(at - (one?.position as number)).toBeLessThan(100);
  });

  it('names a segment that is missing or cut', async () => {
    const path = await segmentPath();
    await truncate(path, 100);
    const [short] = problems(await examine());
    expect(short).toMatchObject({ file: path.slice(data.length + 1), partition: { topic: 'orders', partition: 0 } });
    await rm(path);
    const [missing] = problems(await examine());
    expect(missing).toMatchObject({ cause: 'the file is missing', offsets: { first: 0, last: EVENTS - 1 } });
  });

  it('names a checkpoint that cannot be read', async () => {
    const [name = ''] = await readdir(join(data, 'checkpoint'));
    await flip(join(data, 'checkpoint', name), 70);
    expect(problems(await examine())).toEqual([expect.objectContaining({ file: `checkpoint/${name}` })]);
  });

  it('names metadata that is missing, damaged, or of another log', async () => {
    const path = join(data, 'metadata.db');
    const original = join(directory, 'metadata.db');
    await copyFile(path, original);
    await rm(path);
    expect(problems(await examine())).toEqual([
      expect.objectContaining({ file: 'metadata.db', cause: 'the file is missing' }),
    ]);
    await writeFile(path, 'x'.repeat(5_000));
    expect(problems(await examine())).toEqual([expect.objectContaining({ file: 'metadata.db' })]);

    await copyFile(original, path);
    const database = new DatabaseSync(path);
    database.exec("UPDATE entries SET value = 'no JSON' WHERE key = 'topic/orders'");
    database.close();
    const causes = problems(await examine()).map(({ cause }) => cause);
    expect(causes[0]).toBe('the entry "topic/orders" is not JSON');
    expect(causes.slice(1).every((cause) => cause.includes('the metadata does not know'))).toBe(true);
    expect(causes.length).toBe(2);
  });

  it('names partitions that the log should hold and does not', async () => {
    const database = new DatabaseSync(join(data, 'metadata.db'));
    database.exec("UPDATE entries SET value = json_set(value, '$.partitionCount', 2) WHERE key = 'topic/orders'");
    database.close();
    expect(problems(await examine())).toEqual([
      expect.objectContaining({ partition: expect.objectContaining({ topic: 'orders', partition: 1 }) }),
    ]);
  });

  it('names a log that is missing although the metadata knows topics', async () => {
    for (const name of ['naru-data.json', 'clean', 'journal', 'segments', 'checkpoint'])
      await rm(join(data, name), { recursive: true });
    expect(problems(await examine())).toEqual([expect.objectContaining({ file: '' })]);
  });

  it('notes a file that is not a broker’s', async () => {
    await writeFile(join(data, 'notes.txt'), 'mine');
    const report = await examine();
    expect(report.isSound).toBe(true);
    expect(report.findings).toEqual([expect.objectContaining({ severity: 'info', file: 'notes.txt' })]);
  });
});

it('says when the directory is none of a broker, is empty, or is not there', async () => {
  await expect(verifyDataDirectory(data)).resolves.toMatchObject({ isSound: false, found: { problem: 1 } });
  await mkdir(data);
  expect((await examine()).isSound).toBe(false);
  await writeFile(join(data, 'report.docx'), 'x');
  expect(problems(await examine())).toEqual([
    expect.objectContaining({ file: '', cause: 'it is no data directory of a broker' }),
  ]);
  await expect(verifyDataDirectory(join(data, 'report.docx'))).rejects.toMatchObject({ code: 'STORAGE_ERROR' });
});
