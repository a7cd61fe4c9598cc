/** What compaction may look at in a partition, from what is in memory of it. */
import type { CompactionStatus } from '../log-store.ts';
import type { PartitionLog } from './partition-log.ts';
import type { Segment } from './segment.ts';

export interface ClosedSegment {
  readonly segment: Segment;
  /** Offset after it. */
  readonly end: number;
}

/** As LogStore.compactionStatus. A segment counts whole, on the side of its end. */
export function compactionStatusOf(log: PartitionLog, beforeMs: number, beforeOffset: number): CompactionStatus {
  const cleanEndOffset = Math.max(log.cleanEnd, log.logStartOffset);
  let endOffset: number | null = null;
  let cleanBytes = 0;
  let dirtyBytes = 0;
  let openBytes = log.unwrittenBytes;
  let dirtySinceMs = Infinity;
  for (const [i, segment] of log.segments.entries()) {
    const end = log.segmentEnd(i);
    if (end <= log.logStartOffset) continue;
    const isBeyond = !segment.closed || segment.maxTimestampMs >= beforeMs || end > beforeOffset;
    if (endOffset === null && isBeyond) endOffset = segment.baseOffset;
    if (end <= cleanEndOffset) cleanBytes += segment.sizeBytes;
    else {
      if (endOffset === null) dirtyBytes += segment.sizeBytes;
      else openBytes += segment.sizeBytes;
      dirtySinceMs = Math.min(dirtySinceMs, segment.createdMs);
    }
  }
  if (dirtySinceMs === Infinity && log.unwrittenBytes > 0) {
    dirtySinceMs = log.tail.at(log.firstUnwritten()).maxTimestampMs;
  }
  const closedEnd = log.segments.length === 0 ? log.logStartOffset : log.segmentEnd(log.segments.length - 1);
  return {
    cleanEndOffset,
    cleanBytes,
    endOffset: Math.max(Math.min(endOffset ?? closedEnd, log.endOffset), log.logStartOffset),
    dirtyBytes,
    openBytes,
    dirtySinceMs: dirtySinceMs === Infinity ? null : dirtySinceMs,
  };
}

/** The segments that {@link LogStore.rewrite} up to `endOffset` reads, with where each ends. */
export function rewritableSegments(log: PartitionLog, endOffset: number): ClosedSegment[] {
  const found: ClosedSegment[] = [];
  for (const [i, segment] of log.segments.entries()) {
    const end = log.segmentEnd(i);
    if (!segment.closed || end > endOffset) break;
    if (end > log.logStartOffset) found.push({ segment, end });
  }
  return found;
}
