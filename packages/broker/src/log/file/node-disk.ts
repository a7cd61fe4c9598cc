/**
 * The real disk: node:fs behind the Disk interface.
 *
 * Node reports a short write without an error, so each write is compared with what was asked and continued; when it makes
 * no headway, that is `ENOSPC`. Callback APIs are used on the hot path: they cost less than FileHandle promises.
 */
import fs from 'node:fs';
import fsp from 'node:fs/promises';
import type { Disk, DiskFile, DiskOpenMode } from '@naru/base';

/** Buffers of one system call; Linux takes 1024 at most. */
const MAX_VECTORS = 512;

const OPEN_FLAGS: Readonly<Record<DiskOpenMode, number>> = {
  read: fs.constants.O_RDONLY,
  write: fs.constants.O_RDWR | fs.constants.O_CREAT,
  // O_DSYNC is missing on Windows, where a sync follows each write instead.
  'write-dsync': fs.constants.O_RDWR | fs.constants.O_CREAT | ((fs.constants.O_DSYNC as number | undefined) ?? 0),
};
const HAS_DSYNC = (fs.constants.O_DSYNC as number | undefined) !== undefined;

class NodeDiskFile implements DiskFile {
  readonly #descriptor: number;
  readonly #syncEachWrite: boolean;

  constructor(descriptor: number, syncEachWrite: boolean) {
    this.#descriptor = descriptor;
    this.#syncEachWrite = syncEachWrite;
  }

  async write(buffers: readonly Uint8Array[], position: number): Promise<void> {
    await writeFully((part, at) => this.#writeOnce(part, at), buffers, position);
    if (this.#syncEachWrite) await this.sync();
  }

  #writeOnce(buffers: readonly Uint8Array[], position: number): Promise<number> {
    const [only] = buffers;
    return new Promise((resolve, reject) => {
      const done = (error: NodeJS.ErrnoException | null, written: number): void => {
        if (error === null) resolve(written);
        else reject(error);
      };
      if (buffers.length === 1 && only !== undefined) {
        fs.write(this.#descriptor, only, 0, only.length, position, done);
      } else {
        fs.writev(this.#descriptor, buffers, position, done);
      }
    });
  }

  async read(buffer: Uint8Array, position: number): Promise<number> {
    let total = 0;
    while (total < buffer.length) {
      const read = await this.#readOnce(buffer, total, position + total);
      if (read === 0) break;
      total += read;
    }
    return total;
  }

  #readOnce(buffer: Uint8Array, offset: number, position: number): Promise<number> {
    return new Promise((resolve, reject) => {
      fs.read(this.#descriptor, buffer, offset, buffer.length - offset, position, (error, read) => {
        if (error === null) resolve(read);
        else reject(error);
      });
    });
  }

  size(): Promise<number> {
    return settle((done) => fs.fstat(this.#descriptor, (error, stats) => done(error, error === null ? stats.size : 0)));
  }

  truncate(size: number): Promise<void> {
    return settle((done) => fs.ftruncate(this.#descriptor, size, (error) => done(error, undefined)));
  }

  sync(): Promise<void> {
    return settle((done) => fs.fdatasync(this.#descriptor, (error) => done(error, undefined)));
  }

  close(): Promise<void> {
    return settle((done) => fs.close(this.#descriptor, (error) => done(error ?? null, undefined)));
  }
}

/**
 * Writes all of `buffers`, however little each call takes.
 *
 * @param writeOnce one system call; resolves to the bytes that it wrote
 * @throws an error with code ENOSPC when a call takes nothing
 */
export async function writeFully(
  writeOnce: (buffers: readonly Uint8Array[], position: number) => Promise<number>,
  buffers: readonly Uint8Array[],
  position: number,
): Promise<void> {
  let at = position;
  for (let i = 0; i < buffers.length; i += MAX_VECTORS) {
    let rest = buffers.length <= MAX_VECTORS ? buffers : buffers.slice(i, i + MAX_VECTORS);
    for (let left = totalLength(rest); left > 0;) {
      const written = await writeOnce(rest, at);
      if (written <= 0)
        throw Object.assign(new Error(`a write at ${at} took none of ${left} bytes`), { code: 'ENOSPC' });
      left -= written;
      at += written;
      if (left > 0) rest = dropBytes(rest, written);
    }
  }
}

function settle<T>(run: (done: (error: Error | null, value: T) => void) => void): Promise<T> {
  return new Promise((resolve, reject) => run((error, value) => (error === null ? resolve(value) : reject(error))));
}

function totalLength(buffers: readonly Uint8Array[]): number {
  let total = 0;
  for (const buffer of buffers) total += buffer.length;
  return total;
}

/** What is left of `buffers` after its first `count` bytes. */
function dropBytes(buffers: readonly Uint8Array[], count: number): Uint8Array[] {
  const rest: Uint8Array[] = [];
  let skip = count;
  for (const buffer of buffers) {
    if (skip >= buffer.length) skip -= buffer.length;
    else {
      rest.push(skip === 0 ? buffer : buffer.subarray(skip));
      skip = 0;
    }
  }
  return rest;
}

/** How many files and connections this process may have open; null where the system does not tell (only Linux does). */
export function openFilesLimit(): number | null {
  try {
    const limits = fs.readFileSync('/proc/self/limits', 'utf8');
    const [, soft] = /^Max open files +(\d+)/m.exec(limits) ?? [];
    return soft === undefined ? null : Number(soft);
  } catch {
    return null;
  }
}

export const nodeDisk: Disk = {
  async open(path: string, mode: DiskOpenMode): Promise<DiskFile> {
    const descriptor = await settle<number>((done) => fs.open(path, OPEN_FLAGS[mode], 0o640, done));
    return new NodeDiskFile(descriptor, mode === 'write-dsync' && !HAS_DSYNC);
  },
  async makeDirectory(path) {
    await fsp.mkdir(path, { recursive: true, mode: 0o750 });
  },
  async list(path) {
    try {
      return (await fsp.readdir(path)).sort();
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
      throw error;
    }
  },
  rename: (from, to) => fsp.rename(from, to),
  remove: (path) => fsp.rm(path, { force: true }),
  removeDirectory: (path) => fsp.rm(path, { force: true, recursive: true }),
  async syncDirectory(path) {
    // Windows cannot open directories; its file systems journal their entries.
    if (process.platform === 'win32') return;
    const descriptor = await settle<number>((done) => fs.open(path, fs.constants.O_RDONLY, 0, done));
    try {
      await settle<undefined>((done) => fs.fsync(descriptor, (error) => done(error, undefined)));
    } finally {
      await settle<undefined>((done) => fs.close(descriptor, (error) => done(error ?? null, undefined)));
    }
  },
};
