/**
 * Verifies one partition's directory: every segment that is part of it, and what else lies there.
 *
 * Which segments are part of it, and how long they are, is recovery's to say; where recovery refuses the partition, the
 * checkpoint's own list is gone through, so that the report is of everything that is wrong.
 */
import type { PartitionKey } from '@naru/base';
import { isTopicId, partitionKey } from '@naru/base';
import { finding } from '../finding.ts';
import type { CheckpointPartition } from './checkpoint.ts';
import { DEFAULT_FILE_LOG_LIMITS } from './limits.ts';
import type { PartitionLog } from './partition-log.ts';
import { partitionDirectoryName } from './partition-log.ts';
import type { JournalHistory } from './recovery-plan.ts';
import { Segment, segmentBaseOffset } from './segment.ts';
import type { VerifyContext } from '../verify-context.ts';
import { reportStranger, reportUnreadable } from '../verify-context.ts';
import type { ExpectedSegment } from './verify-segment.ts';
import { verifySegment } from './verify-segment.ts';

/** @param log as recovery plans it; null when it refuses */
export async function verifyPartition(
  context: VerifyContext,
  segmentsDirectory: string,
  partition: CheckpointPartition,
  log: PartitionLog | null,
  history: JournalHistory,
): Promise<void> {
  const { highestDeleteBefore, lowestTruncate } = history.of(partition.key);
  const directory = `${segmentsDirectory}/${partitionDirectoryName(partition.key)}`;
  const logStartOffset = Math.max(partition.logStartOffset, highestDeleteBefore);
  const cut = Math.min(partition.fileEndOffset, lowestTruncate);
  const segments = log?.segments ?? listedSegments(directory, partition, cut);
  for (const [i, segment] of segments.entries()) {
    const endOffset = segments[i + 1]?.baseOffset ?? cut;
    // It is being removed, or is gone already.
    if (endOffset <= logStartOffset) continue;
    const endsInside = log === null && i === segments.length - 1 && cut < partition.fileEndOffset;
    const expected: ExpectedSegment = { partition: partition.key, segment, endOffset, logStartOffset, endsInside };
    await verifySegment(context, expected);
  }
  const known = new Set(segments.flatMap(({ logPath, indexPath }) => [logPath, indexPath]));
  await verifyLeftovers(context, directory, partition.key, known, { from: logStartOffset, to: cut });
}

function listedSegments(directory: string, partition: CheckpointPartition, cut: number): Segment[] {
  const kept = partition.segments.filter(({ baseOffset }) => baseOffset < cut);
  return kept.map((state, i) => {
    const segment = new Segment(directory, state, DEFAULT_FILE_LOG_LIMITS.indexIntervalBytes);
    segment.sealed = i < kept.length - 1;
    return segment;
  });
}

/** @param range of offsets that the checkpoint's files cover: what is beyond, the journal has */
async function verifyLeftovers(
  context: VerifyContext,
  directory: string,
  partition: PartitionKey,
  known: ReadonlySet<string>,
  range: { readonly from: number; readonly to: number },
): Promise<void> {
  let names: readonly string[];
  try {
    names = await context.disk.list(directory);
  } catch (error) {
    return reportUnreadable(context, directory, error);
  }
  for (const name of names) {
    const path = `${directory}/${name}`;
    if (known.has(path)) continue;
    const base = segmentBaseOffset(name);
    if (base === null) reportStranger(context, path);
    else if (base >= range.from && base < range.to) {
      const cause = 'it is no part of the partition any more';
      context.report(finding('info', path, cause, 'Nothing: the next start removes it', { partition }));
    }
  }
}

/** The partition that a directory's name stands for, or null. */
export function partitionOfDirectory(name: string): PartitionKey | null {
  const topicId = name.slice(0, 36);
  const rest = /^-(\d{1,10})$/.exec(name.slice(36));
  return rest !== null && isTopicId(topicId) ? partitionKey(topicId, Number(rest[1])) : null;
}
