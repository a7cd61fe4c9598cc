import { spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { lockDataDirectory, shareDataDirectory } from './data-dir-lock.ts';

describe('lockDataDirectory', () => {
  let directory: string;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'naru-lock-'));
  });
  afterEach(() => rmSync(directory, { recursive: true, force: true }));

  it('keeps a second broker of this process out until it is released', () => {
    const first = lockDataDirectory(`${directory}/data`);
    expect(() => lockDataDirectory(`${directory}/data`)).toThrow(
      expect.objectContaining({ code: 'DATA_DIRECTORY_IN_USE' }),
    );
    first.release();
    lockDataDirectory(`${directory}/data`).release();
  });

  it('keeps another process out', () => {
    const held = lockDataDirectory(directory);
    const script = `import { lockDataDirectory } from ${JSON.stringify(new URL('data-dir-lock.ts', import.meta.url).href)};
      try { lockDataDirectory(${JSON.stringify(directory)}); console.log('taken'); } catch (error) { console.log(error.code); }`;
    const run = (): string =>
      spawnSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' }).stdout.trim();
    expect(run()).toBe('DATA_DIRECTORY_IN_USE');
    held.release();
    expect(run()).toBe('taken');
    // That process ended without releasing it.
    lockDataDirectory(directory).release();
  });

  it('says when the directory cannot be written', () => {
    writeFileSync(`${directory}/file`, '');
    chmodSync(`${directory}/file`, 0o400);
    expect(() => lockDataDirectory(`${directory}/file/data`)).toThrow(
      expect.objectContaining({ code: 'DATA_DIRECTORY_NOT_WRITABLE' }),
    );
  });
});

describe('shareDataDirectory', () => {
  let directory: string;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'naru-lock-'));
  });
  afterEach(() => rmSync(directory, { recursive: true, force: true }));

  it('lets any number of readers in, keeps brokers out, and is kept out by one', () => {
    lockDataDirectory(directory).release();
    const readers = [shareDataDirectory(directory), shareDataDirectory(directory)];
    const inUse = expect.objectContaining({ code: 'DATA_DIRECTORY_IN_USE' });
    expect(() => lockDataDirectory(directory)).toThrow(inUse);
    for (const reader of readers) reader?.release();
    const broker = lockDataDirectory(directory);
    expect(() => shareDataDirectory(directory)).toThrow(inUse);
    broker.release();
    shareDataDirectory(directory)?.release();
  });

  it('creates nothing where no broker was', () => {
    expect(shareDataDirectory(directory)).toBeNull();
    expect(shareDataDirectory(`${directory}/nowhere`)).toBeNull();
    expect(readdirSync(directory)).toEqual([]);
    writeFileSync(`${directory}/lock.db`, 'no database at all'.repeat(100));
    expect(() => shareDataDirectory(directory)).toThrow(expect.objectContaining({ code: 'STORAGE_ERROR' }));
  });
});
