/**
 * The disk as the log store sees it. Injected: production is node:fs, tests are a simulated disk that loses what was
 * not synced, tears writes and fails on demand.
 *
 * Errors keep the platform's codes (`ENOENT`, `ENOSPC`, `EIO`, `EEXIST`, `EACCES`) in `error.code`.
 * A path is absolute or relative to the process; its parts are joined with `/`.
 */
export interface Disk {
  /**
   * - `read`: existing file, reads only.
   * - `write`: created when missing, reads and writes. Data is durable after {@link DiskFile.sync} only.
   * - `write-dsync`: as `write`, and each write returns only when its data is durable (O_DSYNC). File metadata that is
   *   needed to reach the data (size, allocation) is durable with it.
   */
  open(path: string, mode: DiskOpenMode): Promise<DiskFile>;
  /** Creates the directory and its missing parents. The entry is durable after {@link syncDirectory} of its parent. */
  makeDirectory(path: string): Promise<void>;
  /** Names of the entries, sorted; an empty list when the directory does not exist. */
  list(path: string): Promise<string[]>;
  /** Replaces `to` atomically. Durable after {@link syncDirectory}. */
  rename(from: string, to: string): Promise<void>;
  /** Removes a file; one that does not exist is no error. Durable after {@link syncDirectory}. */
  remove(path: string): Promise<void>;
  /** Removes a directory and everything in it; one that does not exist is no error. */
  removeDirectory(path: string): Promise<void>;
  /** Makes creations, renames and removals in the directory durable. */
  syncDirectory(path: string): Promise<void>;
}

export type DiskOpenMode = 'read' | 'write' | 'write-dsync';

export interface DiskFile {
  /**
   * Writes all buffers one after the other at `position`, or rejects. A short write is continued, and reported as
   * an error with code `ENOSPC` or `EIO` when it cannot be. The buffers belong to the disk until the promise settles.
   */
  write(buffers: readonly Uint8Array[], position: number): Promise<void>;
  /** Reads into `buffer` from `position`; resolves to the bytes read, fewer only at the end of the file. */
  read(buffer: Uint8Array, position: number): Promise<number>;
  size(): Promise<number>;
  truncate(size: number): Promise<void>;
  /** fdatasync: data, and the metadata needed to reach it, is durable. After an error the file's state is unknown. */
  sync(): Promise<void>;
  close(): Promise<void>;
}

/** The platform's error code of `error`, if it has one. */
export function diskErrorCode(error: unknown): string | undefined {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === 'string' ? code : undefined;
}
