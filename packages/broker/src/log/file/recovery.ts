/**
 * Opening a data directory: from files to a store that goes on where the last one stopped.
 *
 * Order: version file · newest checkpoint · journal after it (pass 1: which frames, and what they did to files) · plan, or
 * refusal with nothing changed · checkpoint and journal made durable, for a killed process may have left them in the page
 * cache, and the next step relies on them · files cut to the plan · visitor: snapshot and partitions · pass 2: replay.
 *
 * It reads the checkpoint, the journal and file sizes, not the segments' data: its time does not grow with the log.
 */
import type { Disk, Logger } from '@naru/base';
import { NaruError } from '@naru/protocol';
import type { RecoveryVisitor } from '../log-store.ts';
import type { Checkpoint } from './checkpoint.ts';
import { findCheckpoint, writeCheckpoint } from './checkpoint.ts';
import type { DataPaths } from './data-directory.ts';
import { prepareDataDirectory, readCleanMark, readUnsyncedMark } from './data-directory.ts';
import type { AdoptedJournalFiles, JournalFile } from './journal-files.ts';
import { journalFileName } from './journal-files.ts';
import type { FrameEntry } from './journal-frame.ts';
import { ENTRY, FRAME_HEADER_BYTES, alignUp } from './journal-frame.ts';
import type { JournalScan } from './journal-recovery.ts';
import { JournalReader } from './journal-recovery.ts';
import type { FileLogLimits } from './limits.ts';
import type { LogState } from './log-state.ts';
import { JournalHistory, RecoveryPlan, corruptReplay } from './recovery-plan.ts';
import type { SegmentWriter } from './segment-writer.ts';

const JOURNAL_ID_BYTES = 8;
/** In place of a frame's header. */
const BLANK = new Uint8Array(FRAME_HEADER_BYTES);

export interface RecoveryContext {
  readonly disk: Disk;
  readonly paths: DataPaths;
  readonly limits: FileLogLimits;
  /** How journal files are opened for frames. */
  readonly journalMode: 'write' | 'write-dsync';
  readonly logger: Logger;
  readonly randomBytes: (length: number) => Uint8Array;
}

/** What was found on the disk; nothing is changed yet. */
export interface FoundLog {
  readonly checkpoint: Checkpoint;
  readonly reader: JournalReader;
  readonly scan: JournalScan;
  readonly plan: RecoveryPlan;
  /** Whether it is true or not: it is removed before anything is written. */
  readonly hasCleanMark: boolean;
  /** The journal was written without being durable at once. */
  readonly isUnsynced: boolean;
}

/** @throws NaruError DATA_CORRUPT, DATA_DIRECTORY_VERSION; nothing was changed then */
export async function findLog(context: RecoveryContext): Promise<FoundLog> {
  const { disk, paths, limits, logger } = context;
  await prepareDataDirectory(disk, paths);
  const { checkpoint, mustReach } = await findOrBegin(context);
  const cleanMark = await readCleanMark(disk, paths);
  const clean = mustReach === 0 && cleanMark === checkpoint.sequence;
  const isUnsynced = await readUnsyncedMark(disk, paths);
  const reader = await JournalReader.open(disk, paths.journal, checkpoint.journalId);
  try {
    const history = new JournalHistory();
    const scan = clean
      ? { frames: [], end: checkpoint.journalPlace }
      : await reader.scan(
          checkpoint.sequence,
          checkpoint.journalPlace,
          (entries) => history.visit(entries),
          isUnsynced,
        );
    if (checkpoint.sequence + scan.frames.length < mustReach) throw newestDamaged(paths, mustReach);
    const plan = new RecoveryPlan(disk, paths.segments, limits, history);
    await plan.make(checkpoint.partitions, logger);
    return { checkpoint, reader, scan, plan, hasCleanMark: cleanMark !== null, isUnsynced };
  } catch (error) {
    await reader.close();
    throw error;
  }
}

async function findOrBegin(context: RecoveryContext): Promise<{ checkpoint: Checkpoint; mustReach: number }> {
  const { disk, paths } = context;
  const found = await findCheckpoint(disk, paths.checkpoint);
  if (found === 'damaged')
    throw new NaruError('DATA_CORRUPT', `no checkpoint in ${paths.checkpoint} can be read; nothing was changed`);
  if (found !== null) return found;
  for (const directory of [paths.journal, paths.segments]) {
    if ((await disk.list(directory)).length === 0) continue;
    const message = `${directory} holds data, but ${paths.checkpoint} has no checkpoint; nothing was changed`;
    throw new NaruError('DATA_CORRUPT', message);
  }
  const checkpoint: Checkpoint = {
    journalId: context.randomBytes(JOURNAL_ID_BYTES),
    sequence: 0,
    journalPlace: { fileNumber: 0, position: 0 },
    partitions: [],
    snapshot: null,
  };
  await writeCheckpoint(disk, paths.checkpoint, checkpoint);
  return { checkpoint, mustReach: 0 };
}

function newestDamaged(paths: DataPaths, sequence: number): NaruError {
  const message = `the newest checkpoint in ${paths.checkpoint} (${sequence}) is damaged, and the journal does not reach to it`;
  return new NaruError('DATA_CORRUPT', `${message}; nothing was changed`);
}

/** Sorts the journal's files by what can be done with them, and makes sure that what recovery goes by is durable. */
export async function adoptJournalFiles(
  context: RecoveryContext,
  { reader, scan, checkpoint, isUnsynced }: FoundLog,
): Promise<AdoptedJournalFiles> {
  const { disk, paths, limits } = context;
  await disk.syncDirectory(paths.checkpoint);
  if (isUnsynced) await forgetBeyondHole(context, reader, checkpoint.sequence + scan.frames.length);
  const lastSequences = new Map<number, number>();
  for (const frame of scan.frames) lastSequences.set(frame.fileNumber, frame.sequence);
  const files = new Map<number, JournalFile>();
  let nextNumber = 0;
  const free: JournalFile[] = [];
  for (const { number, sizeBytes } of reader.files) {
    nextNumber = Math.max(nextNumber, number + 1);
    const path = `${paths.journal}/${journalFileName(number)}`;
    const lastSequence = lastSequences.get(number);
    const isCurrent = number === scan.end.fileNumber && scan.end.position < sizeBytes;
    if (lastSequence === undefined && !isCurrent && sizeBytes !== limits.journalFileBytes) {
      // Being prepared when the process ended, or of another size than is set now.
      await disk.remove(path);
      continue;
    }
    const file = await disk.open(path, context.journalMode);
    // A killed process leaves frames and zeros in the page cache that no power cut would spare.
    await file.sync();
    const state = { number, file, sizeBytes, position: isCurrent ? scan.end.position : sizeBytes, lastSequence: 0 };
    state.lastSequence = lastSequence ?? (isCurrent ? checkpoint.sequence : 0);
    if (isCurrent || lastSequence !== undefined) files.set(number, state);
    else free.push(state);
  }
  await disk.syncDirectory(paths.journal);
  const current = files.get(scan.end.fileNumber) ?? null;
  const full: JournalFile[] = [];
  for (const number of lastSequences.keys()) {
    if (number !== scan.end.fileNumber) full.push(files.get(number) as JournalFile);
  }
  return { current, full, free, nextNumber, checkpointSequence: checkpoint.sequence };
}

/**
 * Blanks what is left of frames after the last that counts: their sequences are given again, and one of them could happen to
 * stand where the new ones end.
 */
async function forgetBeyondHole(
  { disk, paths, logger }: RecoveryContext,
  reader: JournalReader,
  lastSequence: number,
): Promise<void> {
  const lost = await reader.allFrom(lastSequence + 1);
  if (lost.length > 0) {
    logger.warn(
      { frames: lost.length },
      'the journal has a hole: what was stored after it is lost, as it was not synced',
    );
  }
  for (const { fileNumber, position } of lost) {
    const file = await disk.open(`${paths.journal}/${journalFileName(fileNumber)}`, 'write');
    try {
      await file.write([BLANK], position);
      await file.sync();
    } finally {
      await file.close();
    }
  }
}

/** Journal bytes after the checkpoint. */
export function recoveredBytes({ scan }: FoundLog): number {
  return scan.frames.reduce((sum, frame) => sum + alignUp(frame.frameBytes), 0);
}

/** Tells `visitor` everything, and applies the journal to `state`. */
export async function replay(
  found: FoundLog,
  state: LogState,
  writer: SegmentWriter,
  limits: FileLogLimits,
  visitor: RecoveryVisitor,
): Promise<void> {
  visitor.snapshot(found.checkpoint.snapshot);
  const heldUntil = new Map<string, number>();
  for (const { log, heldUntil: offset } of found.plan.partitions) {
    state.create(log);
    if (log.held) heldUntil.set(log.key, offset);
    visitor.partition(log.info());
  }
  // What a killed process created or removed may not be durable, and a checkpoint relies on what it finds.
  writer.segmentsDirectoryDirty = true;
  for (const log of found.plan.cleaned) writer.dirtyDirectories.add(log);
  for (const location of found.scan.frames) {
    for (const entry of await found.reader.entries(location)) replayEntry(entry, state, writer, heldUntil, visitor);
    // Bounds memory; a stalled or idle writer has nothing that it could do about it.
    await writer.waitFor(() => writer.unwrittenBytes < limits.unwrittenBytes || writer.idle || writer.stalled);
  }
}

function replayEntry(
  entry: FrameEntry,
  state: LogState,
  writer: SegmentWriter,
  heldUntil: Map<string, number>,
  visitor: RecoveryVisitor,
): void {
  const { type, partition, offset, batch } = entry;
  const log = state.logs.get(partition);
  if (type === ENTRY.create) {
    if (log !== undefined) corruptReplay(partition, 'it is created twice');
    state.create(state.prepare(partition, offset));
    visitor.created(partition, offset);
    return;
  }
  if (log === undefined) corruptReplay(partition, 'it does not exist');
  if (type === ENTRY.append && batch !== null) {
    if (batch.baseOffset < log.endOffset) corruptReplay(partition, `offset ${batch.baseOffset} is written twice`);
    state.append(log, batch);
    visitor.batch(partition, batch);
  } else if (type === ENTRY.truncate) {
    state.truncate(log, offset);
    if (log.held && offset <= (heldUntil.get(partition) ?? Infinity)) release(log, writer);
    visitor.truncated(partition, offset);
  } else if (type === ENTRY.deleteBefore) {
    state.deleteBefore(log, offset);
    visitor.deletedBefore(partition, offset);
  } else if (type === ENTRY.delete) {
    log.held = false;
    state.delete(log);
    visitor.deleted(partition);
  } else corruptReplay(partition, `entry type ${type} is unknown`);
}

function release(log: Parameters<SegmentWriter['enqueue']>[0], writer: SegmentWriter): void {
  log.held = false;
  writer.enqueue(log);
}
