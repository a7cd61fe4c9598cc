/**
 * When a partition is compacted, and when what is being written of it is closed for that. Rules are Kafka's
 * (`min.cleanable.dirty.ratio`, `min.compaction.lag.ms`, `max.compaction.lag.ms`).
 */

/** Of one topic. Durations are milliseconds; Infinity where there is no bound. */
export interface CompactionConfig {
  /** Events stay as they are at least this long. 0: no such bound. */
  readonly minCompactionLagMs: number;
  /** What is older is compacted whatever the dirty ratio. */
  readonly maxCompactionLagMs: number;
  /** Share of dirty bytes, 0 to 1, from which on a partition is compacted. */
  readonly minDirtyRatio: number;
  /** How long a tombstone stays after the first pass that met it. */
  readonly deleteRetentionMs: number;
  /** Age at which an open segment is closed. */
  readonly segmentMs: number;
}

/** What the log store says of a partition: its CompactionStatus. */
export interface DirtyStatus {
  readonly cleanBytes: number;
  readonly dirtyBytes: number;
  readonly openBytes: number;
  readonly dirtySinceMs: number | null;
}

/** Bytes of an open segment from which on its size is a reason to close it: smaller ones are not worth a file each. */
export const MIN_SEAL_BYTES = 1024 * 1024;

/** The share of dirty bytes in what can be rewritten; 0 when there is nothing. */
export function dirtyRatio(status: DirtyStatus): number {
  return ratio(status.dirtyBytes, status.cleanBytes);
}

function ratio(dirtyBytes: number, cleanBytes: number): number {
  return dirtyBytes === 0 ? 0 : dirtyBytes / (cleanBytes + dirtyBytes);
}

/**
 * Events with this timestamp or a later one are not compacted yet; undefined when there is no such bound (a bound of "now"
 * would also exclude events whose timestamps lie in the future).
 */
export function uncompactedFromMs(config: CompactionConfig, nowMs: number): number | undefined {
  return config.minCompactionLagMs > 0 ? nowMs - config.minCompactionLagMs : undefined;
}

/** @param status bounded by {@link uncompactedFromMs} */
export function isCompactionDue(status: DirtyStatus, config: CompactionConfig, nowMs: number): boolean {
  if (status.dirtyBytes === 0) return false;
  return dirtyRatio(status) >= config.minDirtyRatio || ageMs(status, nowMs) >= config.maxCompactionLagMs;
}

/**
 * Whether the open segment should be closed, so that compaction can take it in. While closed segments wait to be compacted
 * its own age is not known; it is asked again once they are clean.
 *
 * @param status without a bound of time, so that only the open segment counts as open
 */
export function isSealDue(status: DirtyStatus, config: CompactionConfig, nowMs: number): boolean {
  if (status.openBytes === 0) return false;
  const ageOfDirtyMs = ageMs(status, nowMs);
  if (ageOfDirtyMs < config.minCompactionLagMs) return false;
  if (status.dirtyBytes === 0 && ageOfDirtyMs >= Math.min(config.maxCompactionLagMs, config.segmentMs)) return true;
  return (
    status.openBytes >= MIN_SEAL_BYTES &&
    ratio(status.dirtyBytes + status.openBytes, status.cleanBytes) >= config.minDirtyRatio
  );
}

function ageMs(status: DirtyStatus, nowMs: number): number {
  return status.dirtySinceMs === null ? 0 : nowMs - status.dirtySinceMs;
}
