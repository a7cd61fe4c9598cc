/** Every limit of the database engines, with its default, in one table. */
const KIB = 1024;
const MIB = 1024 * KIB;

export interface DatabaseLogLimits {
  /** Record bytes that one append takes at most. */
  readonly maxAppendBytes: number;
  /** Operations that wait while a cycle is committed are merged into the next one up to this many record bytes. */
  readonly cycleBytes: number;
  /** The same, in operations and batches. */
  readonly cycleRows: number;
  /** Bytes submitted and not yet committed, beyond which the store is `busy`. */
  readonly pendingBytes: number;
  /** Bytes after the last checkpoint, {@link ROW_BYTES} for each row included, from which another one is due. */
  readonly checkpointBytes: number;
  /** Recent batches kept in memory over all partitions. */
  readonly cacheBytes: number;
  /** Bytes that one read from the database returns at most (one larger batch is still returned). */
  readonly readBytes: number;
  /** Rows and bytes that recovery, compaction and removal take at a time. */
  readonly pageRows: number;
  readonly pageBytes: number;
  /** What compaction gathers before it changes anything. */
  readonly rewriteBytes: number;
  /** Between two pages of compaction or removal. */
  readonly pauseMs: number;
  /** First and longest wait after an outage or a full disk. */
  readonly retryMs: number;
  readonly retryMaxMs: number;
}

/** What a row costs beside its records. */
export const ROW_BYTES = 200;

export const DEFAULT_DATABASE_LOG_LIMITS: DatabaseLogLimits = {
  maxAppendBytes: 8 * MIB,
  cycleBytes: 8 * MIB,
  cycleRows: 2_000,
  pendingBytes: 64 * MIB,
  checkpointBytes: 32 * MIB,
  cacheBytes: 128 * MIB,
  readBytes: 16 * MIB,
  pageRows: 500,
  pageBytes: 2 * MIB,
  rewriteBytes: 8 * MIB,
  pauseMs: 5,
  retryMs: 100,
  retryMaxMs: 5_000,
};

export function resolveDatabaseLogLimits(limits: Partial<DatabaseLogLimits> = {}): DatabaseLogLimits {
  return { ...DEFAULT_DATABASE_LOG_LIMITS, ...limits };
}
