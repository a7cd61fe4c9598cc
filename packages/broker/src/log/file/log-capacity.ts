/**
 * How much more the file engine takes now: computed from journal, files and segment writer; owns nothing.
 *
 * Publishers are refused, or wait, before the journal's last room is used: what is left is for the broker's own appends, which
 * go on while the disk is full (commits of what is there), and end with `exhausted`.
 */
import type { Capacity } from '../log-store.ts';
import type { JournalFiles } from './journal-files.ts';
import type { FileLogLimits } from './limits.ts';
import type { SegmentWriter } from './segment-writer.ts';
import type { TailCache } from './tail-cache.ts';

/** The part of a journal file that publishers may not use while it is not known whether there is space for the next one. */
const KEPT_FRACTION = 4;
const OPEN: Capacity = { state: 'open' };
const BUSY: Capacity = { state: 'busy' };

/**
 * @param queuedBytes journal bytes that what was submitted will take
 * @param maxFrameBytes size of the largest frame
 */
export function logCapacity(
  files: JournalFiles,
  writer: SegmentWriter,
  cache: TailCache,
  queuedBytes: number,
  limits: FileLogLimits,
  maxFrameBytes: number,
): Capacity {
  const usableBytes = limits.journalFileBytes - maxFrameBytes;
  const readyBytes = files.readyBytes(maxFrameBytes) - queuedBytes;
  const exhausted = readyBytes < maxFrameBytes;
  if (writer.stalled) return { state: 'full', reason: 'no disk space to write segments', exhausted };
  if (files.stalled && readyBytes < usableBytes)
    return { state: 'full', reason: 'no disk space for the journal', exhausted };
  if (files.headroomBytes(maxFrameBytes) - queuedBytes < maxFrameBytes) return BUSY;
  if (files.preparing && readyBytes < usableBytes / KEPT_FRACTION) return BUSY;
  if (writer.unwrittenBytes > limits.unwrittenBytes || queuedBytes > limits.pendingBytes) return BUSY;
  // Little that is unwritten can keep much memory: whole requests, of which most was refused, or what recovery read of the journal.
  return cache.bytes > limits.cacheBytes + limits.unwrittenBytes + limits.journalBytes ? BUSY : OPEN;
}
