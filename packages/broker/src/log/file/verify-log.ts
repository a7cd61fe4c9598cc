/**
 * Verifies the log's part of a data directory, and changes nothing: version file, checkpoints, clean mark, journal,
 * partitions, and what else lies about. Goes by what recovery goes by: the same readers and the same plan.
 *
 * Nobody may write to the directory meanwhile.
 */
import type { PartitionKey } from '@naru/base';
import { diskErrorCode, silentLogger } from '@naru/base';
import { isNaruError } from '@naru/protocol';
import { finding } from '../finding.ts';
import type { Checkpoint, CheckpointPartition } from './checkpoint.ts';
import { checkpointFileName, checkpointFileSequence, decodeCheckpoint, readWholeFile } from './checkpoint.ts';
import { DamagedFileError } from './damaged-file-error.ts';
import type { DataPaths } from './data-directory.ts';
import { checkDataDirectory, dataPaths, readCleanMark } from './data-directory.ts';
import { journalFileNumber } from './journal-files.ts';
import { resolveFileLogLimits } from './limits.ts';
import { partitionDirectoryName } from './partition-log.ts';
import type { JournalHistory, PlannedPartition } from './recovery-plan.ts';
import { RecoveryPlan } from './recovery-plan.ts';
import type { VerifyContext } from '../verify-context.ts';
import { reportStranger, reportUnreadable } from '../verify-context.ts';
import type { VerifiedJournal } from './verify-journal.ts';
import { verifyJournal } from './verify-journal.ts';
import { partitionOfDirectory, verifyPartition } from './verify-partition.ts';

export interface VerifiedLog {
  /** The checkpoint that recovery begins from; null when there is none that can be read. */
  readonly checkpoint: Checkpoint | null;
  /** Whether the store was closed properly: then recovery does not read the journal. */
  readonly isClean: boolean;
  /** As they are after the journal's last frame; null when it cannot be told. */
  readonly partitions: ReadonlyMap<
    PartitionKey,
    { readonly logStartOffset: number; readonly endOffset: number }
  > | null;
}

/** @param root of the data directory. @throws NaruError ABORTED */
export async function verifyLog(context: VerifyContext, root: string): Promise<VerifiedLog> {
  const paths = dataPaths(root);
  await verifyVersion(context, paths);
  const found = await verifyCheckpoints(context, paths);
  if (found === null) {
    await verifyNames(context, paths, null, null);
    return { checkpoint: null, isClean: false, partitions: null };
  }
  const { checkpoint, mustReach } = found;
  context.totalBytes = segmentBytesOf(checkpoint);
  const journal = await verifyJournal(context, paths, checkpoint);
  if (journal.isWhole && journal.reached < mustReach) {
    const cause = `checkpoint ${mustReach} is damaged, and the journal does not reach to it: it ends with frame ${journal.reached}`;
    const path = `${paths.checkpoint}/${checkpointFileName(mustReach)}`;
    context.report(finding('problem', path, cause, RESTORE_ALL));
  }
  const isClean = await verifyCleanMark(context, paths, checkpoint, mustReach, journal);
  await verifyPartitions(context, paths, checkpoint, journal);
  await verifyNames(context, paths, checkpoint, journal.history);
  return { checkpoint, isClean, partitions: journal.partitions };
}

const RESTORE_ALL =
  'A broker refuses to start. Restore the whole data directory from a backup; keep a copy of this one';

async function verifyVersion(context: VerifyContext, paths: DataPaths): Promise<void> {
  try {
    await checkDataDirectory(context.disk, paths);
  } catch (error) {
    if (!isNaruError(error)) return reportUnreadable(context, paths.root, error);
    const advice =
      'A broker refuses to start. Start the version of Naru that wrote it, or put the file back from a backup';
    context.report(finding('problem', `${paths.root}/naru-data.json`, error.message, advice));
  }
}

/** Every checkpoint; answers with the newest that can be read, and the highest sequence that a newer one names. */
async function verifyCheckpoints(
  context: VerifyContext,
  paths: DataPaths,
): Promise<{ checkpoint: Checkpoint; mustReach: number } | null> {
  const names = (await context.disk.list(paths.checkpoint)).filter((name) => checkpointFileSequence(name) !== null);
  let newest: Checkpoint | null = null;
  let mustReach = 0;
  const damagedNames: string[] = [];
  for (const name of names.reverse()) {
    const checkpoint = await readCheckpoint(context, `${paths.checkpoint}/${name}`);
    const sequence = checkpointFileSequence(name) as number;
    if (checkpoint?.sequence === sequence) {
      newest ??= checkpoint;
      continue;
    }
    damagedNames.push(name);
    if (newest === null) mustReach = Math.max(mustReach, sequence);
  }
  for (const name of damagedNames) {
    const cause = 'the checkpoint is damaged, or of another version of Naru';
    const advice = newest === null ? RESTORE_ALL : `Nothing: the broker starts from checkpoint ${newest.sequence}`;
    context.report(finding(newest === null ? 'problem' : 'warning', `${paths.checkpoint}/${name}`, cause, advice));
  }
  if (newest !== null) return { checkpoint: newest, mustReach };
  if (names.length === 0) await verifyNothingIsThere(context, paths);
  return null;
}

async function readCheckpoint(context: VerifyContext, path: string): Promise<Checkpoint | null> {
  try {
    return decodeCheckpoint(await readWholeFile(context.disk, path));
  } catch (error) {
    reportUnreadable(context, path, error);
    return null;
  }
}

/** Without a checkpoint there may be no data: then the broker was killed at its first start. */
async function verifyNothingIsThere(context: VerifyContext, paths: DataPaths): Promise<void> {
  for (const directory of [paths.journal, paths.segments]) {
    if ((await context.disk.list(directory)).length === 0) continue;
    const cause = `there is no checkpoint, although ${directory} holds data`;
    context.report(finding('problem', paths.checkpoint, cause, RESTORE_ALL));
    return;
  }
}

async function verifyCleanMark(
  context: VerifyContext,
  paths: DataPaths,
  checkpoint: Checkpoint,
  mustReach: number,
  journal: VerifiedJournal,
): Promise<boolean> {
  const path = `${paths.root}/clean`;
  const mark = await readCleanMark(context.disk, paths);
  if (mark === null) return false;
  const { sequence } = checkpoint;
  if (mark > sequence && mustReach < mark && journal.reached < mark) {
    const cause = `the log was closed with checkpoint ${mark}; the newest here is ${sequence}, and the journal ends with frame ${journal.reached}`;
    context.report(finding('problem', path, cause, `A broker would start without what is missing. ${RESTORE_ALL}`));
  } else if (mark !== sequence) {
    const cause = `the mark of a clean stop names checkpoint ${mark}; the newest is ${sequence}`;
    context.report(finding('warning', path, cause, 'Nothing: the next start does not go by it'));
  } else if (journal.reached > sequence) {
    const cause = `the mark says that nothing was written after checkpoint ${sequence}, but the journal goes on to frame ${journal.reached}`;
    const advice = 'Do not start a broker, it would not read these frames. Move the file away first, and keep a copy';
    context.report(finding('problem', path, cause, advice));
  } else return mustReach === 0;
  return false;
}

async function verifyPartitions(
  context: VerifyContext,
  paths: DataPaths,
  checkpoint: Checkpoint,
  { history }: VerifiedJournal,
): Promise<void> {
  const plan = async (partitions: readonly CheckpointPartition[]): Promise<readonly PlannedPartition[]> => {
    const made = new RecoveryPlan(context.disk, paths.segments, resolveFileLogLimits(), history);
    await made.make(partitions, silentLogger);
    return made.partitions;
  };
  const whole = await planned(() => plan(checkpoint.partitions));
  for (const [i, partition] of checkpoint.partitions.entries()) {
    context.counts.partitions += 1;
    context.checkSignal();
    if (history.of(partition.key).deleted) continue;
    // When one of them is refused, each is asked for alone.
    const { plans, refusal } = whole.plans === null ? await planned(() => plan([partition])) : whole;
    const log = plans?.[whole.plans === null ? 0 : i]?.log ?? null;
    const problems = context.problems;
    await verifyPartition(context, paths.segments, partition, log, history);
    if (log !== null || refusal === null || context.problems > problems) continue;
    const place = { partition: partition.key, position: refusal.position };
    context.report(finding('problem', refusal.path, refusal.what, RESTORE_ALL, place));
  }
}

interface Planned {
  readonly plans: readonly PlannedPartition[] | null;
  /** Why recovery would refuse; null when the disk fails, which whoever reads the files reports. */
  readonly refusal: DamagedFileError | null;
}

async function planned(make: () => Promise<readonly PlannedPartition[]>): Promise<Planned> {
  try {
    return { plans: await make(), refusal: null };
  } catch (error) {
    if (error instanceof DamagedFileError) return { plans: null, refusal: error };
    if (diskErrorCode(error) === undefined) throw error;
    return { plans: null, refusal: null };
  }
}

function segmentBytesOf({ partitions }: Checkpoint): number {
  let total = 0;
  for (const { segments } of partitions) for (const { sizeBytes } of segments) total += sizeBytes;
  return total;
}

/** What lies about and belongs to nothing. */
async function verifyNames(
  context: VerifyContext,
  paths: DataPaths,
  checkpoint: Checkpoint | null,
  history: JournalHistory | null,
): Promise<void> {
  const { disk } = context;
  for (const name of await disk.list(paths.journal)) {
    if (journalFileNumber(name) === null) reportStranger(context, `${paths.journal}/${name}`);
  }
  for (const name of await disk.list(paths.checkpoint)) {
    const isPart = /^\d{20}\.ckpt(?:\.tmp)?$/.test(name);
    if (!isPart) reportStranger(context, `${paths.checkpoint}/${name}`);
  }
  if (checkpoint === null || history === null) return;
  const keys = [...checkpoint.partitions.map(({ key }) => key), ...history.created];
  const known = new Set(keys.map(partitionDirectoryName));
  for (const name of await disk.list(paths.segments)) {
    if (known.has(name)) continue;
    const path = `${paths.segments}/${name}`;
    const key = partitionOfDirectory(name);
    if (key === null) reportStranger(context, path);
    else {
      const cause = 'the directory is one of a partition, and neither checkpoint nor journal knows that partition';
      const advice =
        'The broker neither reads nor removes it. If it is not yours to miss, find out which backup or copy it came from ' +
        'before you move it away';
      context.report(finding('problem', path, cause, advice, { partition: key }));
    }
  }
}
