/**
 * Open segment files, the least recently used closed first.
 *
 * Invariant: a file is not closed while it is lent out; so at most `limit` files are open, and those in use. Should the process
 * be able to open no more before, as others open files too, half of what is open is the limit from then on.
 */
import type { Disk, DiskFile, DiskOpenMode } from '@naru/base';
import { diskErrorCode } from '@naru/base';

interface Handle {
  readonly path: string;
  readonly opening: Promise<DiskFile>;
  users: number;
  discarded: boolean;
}

export class HandleCache {
  readonly #disk: Disk;
  #limit: number;
  /** In order of use, oldest first. Keyed by mode and path. */
  readonly #handles = new Map<string, Handle>();

  constructor(disk: Disk, limit: number) {
    this.#disk = disk;
    this.#limit = limit;
  }

  /** Calls `use` with the open file, which stays open until its promise settles. */
  async withFile<T>(path: string, mode: 'read' | 'write', use: (file: DiskFile) => Promise<T>): Promise<T> {
    const key = `${mode}:${path}`;
    let handle = this.#handles.get(key);
    if (handle === undefined) handle = { path, opening: this.#open(path, mode), users: 0, discarded: false };
    else this.#handles.delete(key);
    this.#handles.set(key, handle);
    handle.users += 1;
    try {
      return await use(await handle.opening);
    } catch (error) {
      // A file that could not be opened, or failed, is opened anew by the next user.
      this.#forget(key, handle);
      throw error;
    } finally {
      handle.users -= 1;
      if (handle.discarded && handle.users === 0) await closeQuietly(handle);
      else if (this.#handles.size > this.#limit) await this.#evict();
    }
  }

  /** Closes the file, as soon as nobody uses it: it is about to be removed. */
  async discard(path: string): Promise<void> {
    for (const key of [`read:${path}`, `write:${path}`]) {
      const handle = this.#handles.get(key);
      if (handle === undefined) continue;
      this.#forget(key, handle);
      if (handle.users === 0) await closeQuietly(handle);
    }
  }

  async closeAll(): Promise<void> {
    const all = [...this.#handles];
    for (const [key, handle] of all) {
      this.#forget(key, handle);
      if (handle.users === 0) await closeQuietly(handle);
    }
  }

  async #open(path: string, mode: DiskOpenMode): Promise<DiskFile> {
    try {
      return await this.#disk.open(path, mode);
    } catch (error) {
      const code = diskErrorCode(error);
      if (code !== 'EMFILE' && code !== 'ENFILE') throw error;
      this.#limit = Math.floor(this.#handles.size / 2);
      await this.#evict();
      return this.#disk.open(path, mode);
    }
  }

  #forget(key: string, handle: Handle): void {
    handle.discarded = true;
    if (this.#handles.get(key) === handle) this.#handles.delete(key);
  }

  async #evict(): Promise<void> {
    for (const [key, handle] of this.#handles) {
      if (this.#handles.size <= this.#limit) return;
      if (handle.users > 0) continue;
      this.#forget(key, handle);
      await closeQuietly(handle);
    }
  }
}

/** Nothing depends on a close: what has to be durable was synced. */
async function closeQuietly(handle: Handle): Promise<void> {
  try {
    await (await handle.opening).close();
  } catch {
    // It was never open, or the descriptor is gone all the same.
  }
}
