/**
 * The data directory: its layout, its version file, and the mark of a clean stop.
 *
 * ```
 * naru-data.json    { "formatVersion": 1 }, written first, once
 * unsynced          empty: frames may have been written to the journal without being durable, so that it may have holes
 * clean             { "sequence": n }: the store was closed with checkpoint n; removed before anything is written
 * journal/  segments/<topic id>-<partition>/  checkpoint/
 * rewrite/          compaction's output until it is whole; nothing that is in it counts
 * ```
 *
 * Data without a version file, or of another version, is refused and never touched.
 */
import type { Disk } from '@naru/base';
import { diskErrorCode } from '@naru/base';
import { NaruError, isNaruError } from '@naru/protocol';
import { readWholeFile, writeFileAtomically } from './checkpoint.ts';

const FORMAT_VERSION = 1;
const VERSION_FILE = 'naru-data.json';
const CLEAN_FILE = 'clean';
const UNSYNCED_FILE = 'unsynced';

export interface DataPaths {
  readonly root: string;
  readonly journal: string;
  readonly segments: string;
  readonly checkpoint: string;
  readonly rewrite: string;
}

export function dataPaths(root: string): DataPaths {
  return {
    root,
    journal: `${root}/journal`,
    segments: `${root}/segments`,
    checkpoint: `${root}/checkpoint`,
    rewrite: `${root}/rewrite`,
  };
}

/**
 * Makes the directory ready, or checks what is there.
 *
 * @throws NaruError DATA_DIRECTORY_VERSION
 */
export async function prepareDataDirectory(disk: Disk, paths: DataPaths): Promise<void> {
  await disk.makeDirectory(paths.root);
  if (!(await checkDataDirectory(disk, paths))) {
    const text = `${JSON.stringify({ formatVersion: FORMAT_VERSION }, null, 2)}\n`;
    await writeFileAtomically(disk, paths.root, VERSION_FILE, [new TextEncoder().encode(text)]);
  }
  for (const directory of [paths.journal, paths.segments, paths.checkpoint, paths.rewrite]) {
    await disk.makeDirectory(directory);
  }
  // Each time: whoever created them may have been killed before it came to this.
  await disk.syncDirectory(paths.root);
  await syncParent(disk, paths.root);
}

/**
 * Checks what is there, and changes nothing. False when there is no log yet.
 *
 * @throws NaruError DATA_DIRECTORY_VERSION
 */
export async function checkDataDirectory(disk: Disk, paths: DataPaths): Promise<boolean> {
  if ((await disk.list(paths.root)).includes(VERSION_FILE)) {
    checkVersion(await readWholeFile(disk, `${paths.root}/${VERSION_FILE}`), paths.root);
    return true;
  }
  for (const directory of [paths.journal, paths.segments, paths.checkpoint]) {
    if ((await disk.list(directory)).length === 0) continue;
    const message = `${directory} holds data, but ${paths.root}/${VERSION_FILE}, which says its version, is missing`;
    throw new NaruError('DATA_DIRECTORY_VERSION', `${message}; nothing was changed`);
  }
  return false;
}

function checkVersion(bytes: Uint8Array, root: string): void {
  let version: unknown;
  try {
    version = (JSON.parse(new TextDecoder().decode(bytes)) as { formatVersion?: unknown } | null)?.formatVersion;
  } catch {
    version = undefined;
  }
  if (version === FORMAT_VERSION) return;
  const found = version === undefined ? 'says no format version' : `says format version ${JSON.stringify(version)}`;
  const message = `${root}/${VERSION_FILE} ${found}; this broker reads version ${FORMAT_VERSION}`;
  throw new NaruError('DATA_DIRECTORY_VERSION', `${message}; nothing was changed`);
}

/** The directory's own entry; best effort, for the parent may not be ours to open. */
async function syncParent(disk: Disk, root: string): Promise<void> {
  const slash = root.replace(/\/+$/, '').lastIndexOf('/');
  const parent = slash < 0 ? '.' : root.slice(0, Math.max(slash, 1));
  try {
    await disk.syncDirectory(parent);
  } catch (error) {
    if (diskErrorCode(error) === undefined) throw error;
  }
}

/** Sequence of the checkpoint that the store was closed with, or null after anything but a clean stop. */
export async function readCleanMark(disk: Disk, paths: DataPaths): Promise<number | null> {
  if (!(await disk.list(paths.root)).includes(CLEAN_FILE)) return null;
  try {
    const text = new TextDecoder().decode(await readWholeFile(disk, `${paths.root}/${CLEAN_FILE}`));
    const sequence = (JSON.parse(text) as { sequence?: unknown }).sequence;
    return typeof sequence === 'number' ? sequence : null;
  } catch (error) {
    if (error instanceof SyntaxError) return null;
    throw error;
  }
}

export async function writeCleanMark(disk: Disk, paths: DataPaths, sequence: number): Promise<void> {
  await writeFileAtomically(disk, paths.root, CLEAN_FILE, [new TextEncoder().encode(JSON.stringify({ sequence }))]);
}

export async function removeCleanMark(disk: Disk, paths: DataPaths): Promise<void> {
  await disk.remove(`${paths.root}/${CLEAN_FILE}`);
  await disk.syncDirectory(paths.root);
}

/** Whether the journal may have holes; see {@link markUnsynced}. */
export async function readUnsyncedMark(disk: Disk, paths: DataPaths): Promise<boolean> {
  return (await disk.list(paths.root)).includes(UNSYNCED_FILE);
}

/** Before the first frame that is not durable at once; and taken away before the first that is, when none is left. */
export async function markUnsynced(disk: Disk, paths: DataPaths, unsynced: boolean): Promise<void> {
  if (unsynced) {
    await writeFileAtomically(disk, paths.root, UNSYNCED_FILE, []);
  } else {
    await disk.remove(`${paths.root}/${UNSYNCED_FILE}`);
    await disk.syncDirectory(paths.root);
  }
}

/** An error of the disk, as the error that the store's caller sees. */
export function storageError(error: unknown, doing: string): NaruError {
  if (isNaruError(error)) return error;
  const code = diskErrorCode(error);
  const text = error instanceof Error ? error.message : String(error);
  if (code === 'ENOSPC' || code === 'EDQUOT')
    return new NaruError('STORAGE_FULL', `${doing}: no space (${text})`, { cause: error });
  return new NaruError('STORAGE_ERROR', `${doing}: ${text}`, { cause: error });
}

const NOT_WRITABLE = new Set(['EACCES', 'EPERM', 'EROFS', 'ENOTDIR', 'EEXIST']);

/** The same, for errors while the store is opened. */
export function openError(error: unknown, root: string): NaruError {
  if (isNaruError(error, 'DATA_CORRUPT')) {
    const message = `${error.message}. Run naru doctor --data ${root}: it says all that is wrong, and what to do`;
    return new NaruError('DATA_CORRUPT', message, { cause: error });
  }
  const code = diskErrorCode(error);
  if (isNaruError(error) || code === undefined || !NOT_WRITABLE.has(code))
    return storageError(error, `opening ${root}`);
  return new NaruError('DATA_DIRECTORY_NOT_WRITABLE', `the data directory ${root} is not writable (${code})`, {
    cause: error,
  });
}
