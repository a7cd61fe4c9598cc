/**
 * Known bugs, put back on purpose: tests show that the crash tests find each of them. Nothing but tests imports this.
 *
 * They are planted around the store, in the disk that it is given or in the calls that it gets, so that the store itself has no
 * switch for being wrong. Each is what a broken store would do: a write that is acknowledged early reaches the disk as late
 * as if nobody had waited for it; a journal read without its sequence numbers shows stale frames as the next ones.
 */
import type { Disk, DiskFile } from '@naru/base';
import { crc32c } from '@naru/protocol/batch';
import type { LogStore } from '../log-store.ts';
import { writeInt64, writeUint32 } from './byte-fields.ts';
import { openFileLogStore, type FileLogStoreOptions } from './file-log-store.ts';
import { journalFileNumber } from './journal-files.ts';
import { FRAME_HEADER_BYTES, alignUp, decodeFrameHeader, frameIntact } from './journal-frame.ts';

export type PlantedBug =
  /** New and renamed files are not made durable in their directories. */
  | 'no-directory-sync'
  /** The journal's writes are acknowledged before they are durable. */
  | 'ack-before-sync'
  /** A checkpoint is written although the segments that it lists are not synced. */
  | 'checkpoint-before-sync'
  /** An index file that is there is used, whatever its segment became. */
  | 'index-trusted'
  /** The journal ends at the first frame that does not match its checksum, whatever follows. */
  | 'truncate-at-rot'
  /** A checkpoint's snapshot holds operations that come after it in the journal. */
  | 'snapshot-ahead'
  /** A journal file is read on past its end into frames from before it was recycled. */
  | 'stale-frames';

/** As {@link openFileLogStore}, with the bug; without one for null. */
export function openPlanted(bug: PlantedBug | null, options: FileLogStoreOptions): LogStore {
  const store = openFileLogStore({ ...options, disk: bug === null ? options.disk : brokenDisk(bug, options.disk) });
  return bug === 'snapshot-ahead' ? overtaking(store) : store;
}

function brokenDisk(bug: PlantedBug, disk: Disk): Disk {
  switch (bug) {
    case 'no-directory-sync':
      return { ...through(disk), syncDirectory: () => Promise.resolve() };
    case 'ack-before-sync':
      return { ...through(disk), open: (path, mode) => disk.open(path, mode === 'write-dsync' ? 'write' : mode) };
    case 'checkpoint-before-sync':
      return changed(disk, /segments\/.*\.log$/, (file) => ({ ...file, sync: () => Promise.resolve() }));
    case 'index-trusted':
      return trustingIndexes(disk);
    case 'truncate-at-rot':
      return changed(disk, /\.journal$/, (file, path) => viewed(file, (bytes) => endAtRot(bytes, path)));
    case 'stale-frames':
      return changed(disk, /\.journal$/, (file, path) => viewed(file, (bytes) => renumber(bytes, path)));
    case 'snapshot-ahead':
      return disk;
  }
}

function through(disk: Disk): Disk {
  return {
    open: (path, mode) => disk.open(path, mode),
    makeDirectory: (path) => disk.makeDirectory(path),
    list: (path) => disk.list(path),
    rename: (from, to) => disk.rename(from, to),
    remove: (path) => disk.remove(path),
    removeDirectory: (path) => disk.removeDirectory(path),
    syncDirectory: (path) => disk.syncDirectory(path),
  };
}

function changed(disk: Disk, paths: RegExp, change: (file: DiskFile, path: string) => DiskFile): Disk {
  return {
    ...through(disk),
    open: async (path, mode) => {
      const file = await disk.open(path, mode);
      return paths.test(path) ? change(file, path) : file;
    },
  };
}

/** Index files are never removed nor written again, and cover whatever their segment is. */
function trustingIndexes(disk: Disk): Disk {
  const isIndex = (path: string): boolean => path.endsWith('.index');
  const exists = async (path: string): Promise<boolean> => {
    const slash = path.lastIndexOf('/');
    return (await disk.list(path.slice(0, slash))).includes(path.slice(slash + 1));
  };
  const segmentBytes = async (path: string): Promise<number> => {
    const segment = await disk.open(path.replace(/index$/, 'log'), 'read');
    const size = await segment.size();
    await segment.close();
    return size;
  };
  return {
    ...through(disk),
    remove: (path) => (isIndex(path) ? Promise.resolve() : disk.remove(path)),
    open: async (path, mode) => {
      const isKept = isIndex(path) && mode === 'write' && (await exists(path));
      const file = await disk.open(path, mode);
      if (isKept) return { ...file, truncate: () => Promise.resolve(), write: () => Promise.resolve() };
      if (!isIndex(path) || mode !== 'read') return file;
      const size = await segmentBytes(path);
      return viewed(file, (bytes) => {
        writeInt64(bytes, 4, size);
        writeUint32(bytes, bytes.length - 4, crc32c(bytes.subarray(0, -4)));
      });
    },
  };
}

/** `file`, whose readers see its bytes as `change` leaves them. */
function viewed(file: DiskFile, change: (bytes: Uint8Array) => void): DiskFile {
  return {
    ...file,
    read: async (buffer, position) => {
      const bytes = new Uint8Array(await file.size());
      await file.read(bytes, 0);
      change(bytes);
      const part = bytes.subarray(position, position + buffer.length);
      buffer.set(part);
      return part.length;
    },
  };
}

function endAtRot(bytes: Uint8Array, path: string): void {
  const at = walkFrames(bytes, path, () => undefined);
  bytes.fill(0, at);
}

function renumber(bytes: Uint8Array, path: string): void {
  let last = 0;
  walkFrames(bytes, path, (frame, sequence) => {
    last = Math.max(sequence, last + 1);
    if (last === sequence) return;
    writeInt64(frame, 12, last);
    writeUint32(frame, 36, crc32c(frame.subarray(FRAME_HEADER_BYTES), crc32c(frame.subarray(0, 36))));
  });
}

/** Visits the frames from the beginning of a journal file on; returns where the first one is that is not intact. */
function walkFrames(bytes: Uint8Array, path: string, visit: (frame: Uint8Array, sequence: number) => void): number {
  const number = journalFileNumber(path.slice(path.lastIndexOf('/') + 1)) as number;
  for (let at = 0; ;) {
    const header = decodeFrameHeader(bytes.subarray(at), bytes.subarray(at + 4, at + 12), number, at);
    if (header === null) return at;
    const frame = bytes.subarray(at, at + FRAME_HEADER_BYTES + header.payloadBytes);
    if (!frameIntact(frame, header)) return at;
    visit(frame, header.sequence);
    at += alignUp(frame.length);
  }
}

/** Operations reach the store a little later than they are called, checkpoints at once. */
function overtaking(store: LogStore): LogStore {
  const late = new Set<keyof LogStore>(['append', 'create', 'delete', 'truncate', 'deleteBefore', 'close']);
  return new Proxy(store, {
    get: (target, name: keyof LogStore) => {
      const value: unknown = target[name];
      if (typeof value !== 'function') return value;
      if (!late.has(name)) return value.bind(target) as unknown;
      return async (...values: unknown[]) => {
        for (let turn = 0; turn < LATE_TURNS; turn++) await Promise.resolve();
        return value.apply(target, values) as unknown;
      };
    },
  });
}

const LATE_TURNS = 3;
