import { describe, expect, it } from 'vitest';
import { SeededRandom } from './seeded-random.ts';
import { SimDisk } from './sim-disk.ts';

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const text = (disk: SimDisk, path: string): string => new TextDecoder().decode(disk.contents(path));

async function prepared(): Promise<SimDisk> {
  const disk = new SimDisk(new SeededRandom(1));
  await disk.makeDirectory('/d');
  await disk.syncDirectory('/');
  const file = await disk.open('/d/a', 'write');
  await file.write([bytes('old'), bytes('!')], 0);
  await file.sync();
  await disk.syncDirectory('/d');
  return disk;
}

/** What is left after a power cut, over many seeds. */
async function outcomes(work: (disk: SimDisk) => Promise<void>, look: (disk: SimDisk) => string): Promise<Set<string>> {
  const seen = new Set<string>();
  for (let seed = 1; seed <= 40; seed++) {
    const disk = await prepared();
    await work(disk);
    seen.add(look(disk.powerCut(new SeededRandom(seed))));
  }
  return seen;
}

describe('SimDisk', () => {
  it('keeps or drops what was not synced', async () => {
    const work = async (disk: SimDisk): Promise<void> => (await disk.open('/d/a', 'write')).write([bytes('new!')], 0);
    expect(await outcomes(work, (disk) => text(disk, '/d/a'))).toEqual(new Set(['old!', 'new!']));
  });

  it('tears a large write at sectors', async () => {
    const work = async (disk: SimDisk): Promise<void> =>
      (await disk.open('/d/a', 'write')).write([new Uint8Array(2_048).fill(120)], 0);
    const kinds = await outcomes(work, (disk) => {
      const sectors = text(disk, '/d/a').match(/x{512}/g)?.length ?? 0;
      return sectors > 0 && sectors < 4 ? 'torn' : 'whole or nothing';
    });
    expect(kinds).toEqual(new Set(['torn', 'whole or nothing']));
  });

  it('keeps what was written through write-dsync or synced', async () => {
    const work = async (disk: SimDisk): Promise<void> => {
      await (await disk.open('/d/a', 'write-dsync')).write([bytes('new')], 0);
      const file = await disk.open('/d/a', 'write');
      await file.write([bytes('?')], 3);
      await file.sync();
    };
    expect(await outcomes(work, (disk) => text(disk, '/d/a'))).toEqual(new Set(['new?']));
  });

  it('does not keep it when it ignores dsync', async () => {
    const work = async (disk: SimDisk): Promise<void> => {
      disk.honoursDsync = false;
      await (await disk.open('/d/a', 'write-dsync')).write([bytes('new')], 0);
    };
    expect(await outcomes(work, (disk) => text(disk, '/d/a'))).toContain('old!');
  });

  it('forgets or keeps directory entries until the directory is synced', async () => {
    const look = (disk: SimDisk): string => disk.paths().join(' ');
    const rename = async (disk: SimDisk): Promise<void> => disk.rename('/d/a', '/d/b');
    expect(await outcomes(rename, look)).toEqual(new Set(['/d/a', '/d/b']));
    const synced = async (disk: SimDisk): Promise<void> => {
      await disk.rename('/d/a', '/d/b');
      await disk.syncDirectory('/d');
    };
    expect(await outcomes(synced, look)).toEqual(new Set(['/d/b']));
    const removed = async (disk: SimDisk): Promise<void> => disk.removeDirectory('/d');
    expect(await outcomes(removed, look)).toEqual(new Set(['/d/a', '']));
  });

  it('keeps everything visible when the process is killed', async () => {
    const disk = await prepared();
    await (await disk.open('/d/a', 'write')).write([bytes('new')], 0);
    const next = disk.processKill(new SeededRandom(1));
    expect(text(next, '/d/a')).toBe('new!');
    expect(text(next.powerCut(new SeededRandom(7)), '/d/a')).toMatch(/^(old|new)!$/);
  });

  it('completes nothing after the cut', async () => {
    const disk = await prepared();
    const file = await disk.open('/d/a', 'write');
    disk.cutAfter(1);
    let completed = false;
    void file.write([bytes('new')], 0).then(() => {
      completed = true;
    });
    await disk.whenCut;
    await new Promise<void>((resolve) => setImmediate(resolve));
    expect([completed, disk.isCut]).toEqual([false, true]);
  });

  it('fails on demand, and when it is full', async () => {
    const disk = await prepared();
    disk.addFault({ operation: 'write', path: /a$/, code: 'EIO', skip: 1, times: 1, partialBytes: 2 });
    const file = await disk.open('/d/a', 'write');
    await file.write([bytes('one')], 0);
    await expect(file.write([bytes('TWO')], 0)).rejects.toMatchObject({ code: 'EIO' });
    expect(text(disk, '/d/a')).toBe('TWe!');
    disk.capacityBytes = 6;
    await expect(file.write([bytes('123')], 4)).rejects.toMatchObject({ code: 'ENOSPC' });
    expect(text(disk, '/d/a')).toBe('TWe!12');
    await expect(disk.open('/d/missing', 'read')).rejects.toMatchObject({ code: 'ENOENT' });
    await expect(disk.open('/e/x', 'write')).rejects.toMatchObject({ code: 'ENOENT' });
  });

  it('drops what a failed sync should have made durable, when it is told to, and the next sync says that all is well', async () => {
    const work = async (disk: SimDisk): Promise<void> => {
      const file = await disk.open('/d/a', 'write');
      await file.write([bytes('new')], 0);
      disk.addFault({ operation: 'sync', code: 'EIO', times: 1, discards: true });
      await expect(file.sync()).rejects.toMatchObject({ code: 'EIO' });
      await file.sync();
      expect(text(disk, '/d/a')).toBe('new!');
    };
    expect(await outcomes(work, (disk) => text(disk, '/d/a'))).toEqual(new Set(['old!']));
  });

  it('has no room for more entries when it is told so', async () => {
    const disk = await prepared();
    disk.maxEntries = 4;
    const file = await disk.open('/d/b', 'write').catch((error: unknown) => error);
    expect(file).toMatchObject({ code: 'ENOSPC' });
    await expect(disk.makeDirectory('/d/e')).rejects.toMatchObject({ code: 'ENOSPC' });
    await expect(disk.rename('/d/a', '/d/c')).rejects.toMatchObject({ code: 'ENOSPC' });
    expect(disk.paths()).toEqual(['/d/a']);
    await disk.open('/d/a', 'write');
  });

  it('tears and forgets alike in runs of one seed, and says so', async () => {
    const run = async (seed: number, value: string): Promise<string[]> => {
      let disk = new SimDisk(new SeededRandom(seed));
      await disk.makeDirectory('/d');
      const file = await disk.open('/d/a', 'write');
      await file.write([bytes(value)], 0);
      disk = disk.powerCut(new SeededRandom(seed));
      await disk.open('/d/a', 'read').catch(() => undefined);
      return [disk.trace, `${disk.mutations}`];
    };
    expect(await run(1, 'x')).toEqual(await run(1, 'x'));
    expect(await run(1, 'x')).not.toEqual(await run(1, 'y'));
  });

  it('counts what changes it, and cuts the power at one of them', async () => {
    const disk = await prepared();
    const { mutations, operations } = disk;
    await disk.list('/d');
    const file = await disk.open('/d/a', 'write');
    await file.size();
    expect([disk.mutations, disk.operations]).toEqual([mutations, operations + 3]);
    disk.cutAfterMutations(2);
    await file.write([bytes('1')], 0);
    await file.read(new Uint8Array(1), 0);
    void file.sync();
    await disk.whenCut;
    expect(disk.mutations).toBe(mutations + 2);
  });
});
