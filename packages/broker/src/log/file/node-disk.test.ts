import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { DiskFile } from '@naru/base';
import { SeededRandom } from '@naru/testkit';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { nodeDisk, writeFully } from './node-disk.ts';

describe('writeFully', () => {
  it('continues short writes where they ended, over any number of buffers', async () => {
    const random = new SeededRandom(5);
    const buffers = Array.from({ length: 1_300 }, () => random.bytes(random.integer(20)));
    const whole = Buffer.concat(buffers);
    const written = Buffer.alloc(whole.length + 7);
    let largest = 0;
    await writeFully(
      async (part, at) => {
        largest = Math.max(largest, part.length);
        const bytes = Buffer.concat(part);
        const count = 1 + random.integer(bytes.length);
        bytes.copy(written, at, 0, count);
        return count;
      },
      buffers,
      7,
    );
    expect(written.subarray(7).equals(whole)).toBe(true);
    expect(largest).toBeLessThanOrEqual(512);
  });

  it('is out of space when a write takes nothing', async () => {
    let calls = 0;
    const stuck = writeFully(async () => (calls++ === 0 ? 3 : 0), [Buffer.alloc(10)], 0);
    await expect(stuck).rejects.toMatchObject({ code: 'ENOSPC' });
  });
});

describe('nodeDisk', () => {
  let directory: string;
  let file: DiskFile | undefined;

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'naru-disk-'));
  });
  afterEach(async () => {
    await file?.close();
    file = undefined;
    await rm(directory, { recursive: true, force: true });
  });

  it.each(['write', 'write-dsync'] as const)(
    'writes many buffers at a position and reads them back (%s)',
    async (mode) => {
      file = await nodeDisk.open(`${directory}/a`, mode);
      const buffers = Array.from({ length: 2_000 }, (_, i) => Buffer.from([i, i >> 8, 1]));
      await file.write(buffers, 10);
      await file.sync();
      expect(await file.size()).toBe(6_010);
      const into = Buffer.alloc(100);
      expect(await file.read(into, 5_990)).toBe(20);
      expect(into.subarray(0, 20).equals(Buffer.concat(buffers).subarray(5_980))).toBe(true);
      await file.truncate(12);
      expect([...(await readFile(`${directory}/a`))]).toEqual([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    },
  );

  it('lists, renames and removes', async () => {
    await nodeDisk.makeDirectory(`${directory}/x/y`);
    expect(await nodeDisk.list(`${directory}/missing`)).toEqual([]);
    file = await nodeDisk.open(`${directory}/x/b`, 'write');
    await nodeDisk.rename(`${directory}/x/b`, `${directory}/x/a`);
    await nodeDisk.syncDirectory(`${directory}/x`);
    expect(await nodeDisk.list(`${directory}/x`)).toEqual(['a', 'y']);
    await nodeDisk.remove(`${directory}/x/a`);
    await nodeDisk.remove(`${directory}/x/a`);
    await nodeDisk.removeDirectory(`${directory}/x`);
    expect(await nodeDisk.list(`${directory}/x`)).toEqual([]);
  });

  it('keeps the platform codes of errors', async () => {
    await expect(nodeDisk.open(`${directory}/missing`, 'read')).rejects.toMatchObject({ code: 'ENOENT' });
  });
});
