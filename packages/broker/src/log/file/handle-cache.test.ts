import type { Disk } from '@naru/base';
import { SeededRandom, SimDisk } from '@naru/testkit';
import { describe, expect, it } from 'vitest';
import { HandleCache } from './handle-cache.ts';

/** A disk that counts open files, and opens `limit` of them at most. */
function limitedDisk(limit: number): { disk: Disk; readonly open: number; readonly opened: number } {
  const counts = { open: 0, opened: 0 };
  const real = new SimDisk(new SeededRandom(1));
  const disk: Disk = Object.create(real, {
    open: {
      value: async (...args: Parameters<Disk['open']>) => {
        if (counts.open >= limit) throw Object.assign(new Error('too many open files'), { code: 'EMFILE' });
        counts.open += 1;
        counts.opened += 1;
        const file = await real.open(...args);
        return {
          size: () => file.size(),
          close: () => {
            counts.open -= 1;
            return file.close();
          },
        };
      },
    },
  }) as Disk;
  return Object.assign(counts, { disk });
}

async function use(cache: HandleCache, numbers: readonly number[]): Promise<void> {
  for (const number of numbers) await cache.withFile(`/${number}`, 'write', (file) => file.size());
}

const numbers = (count: number): number[] => Array.from({ length: count }, (_, i) => i);

describe('HandleCache', () => {
  it('keeps as many files open as it may, and opens no file twice that is open', async () => {
    const counts = limitedDisk(100);
    const cache = new HandleCache(counts.disk, 8);
    await use(cache, [...numbers(8), ...numbers(8)]);
    expect(counts).toMatchObject({ open: 8, opened: 8 });
    await use(cache, [8, 1]);
    expect(counts).toMatchObject({ open: 8, opened: 9 });
  });

  it('closes half of them when the process may open no more, and keeps to that', async () => {
    const counts = limitedDisk(8);
    const cache = new HandleCache(counts.disk, 1_000);
    await use(cache, numbers(9));
    expect(counts.open).toBeLessThanOrEqual(5);
    await use(cache, numbers(50));
    expect(counts.open).toBeLessThanOrEqual(5);
  });

  it('fails when all that are open are in use, and goes on when they are not any more', async () => {
    const counts = limitedDisk(1);
    const cache = new HandleCache(counts.disk, 1_000);
    await cache.withFile('/a', 'write', async () => {
      await expect(use(cache, [1])).rejects.toThrow('too many open files');
    });
    await use(cache, [1, 2]);
  });
});
