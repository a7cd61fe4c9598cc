/**
 * LogStore.rewrite: reads a partition page by page, asks the rewriter, and submits what it says as operations in the order of
 * all others, so that cuts and compaction cannot cross.
 *
 * Everything is read and checked once before anything is changed: damage stops it while there is nothing to undo. A
 * truncate into the part that is being compacted ends it: those offsets may be given to other batches.
 */
import { isNaruError, NaruError } from '@naru/protocol';
import { rewrittenBatch, unknownPartition } from '../append-entry.ts';
import type { Rewriter, StoredBatch } from '../log-store.ts';
import type { Backoff } from './backoff.ts';
import type { DatabaseLogLimits } from './limits.ts';
import { ROW_BYTES } from './limits.ts';
import type { BatchRow, LogDatabase } from './log-database.ts';
import type { RewritePiece } from './operation.ts';
import type { DatabasePartition } from './partition-state.ts';
import { batchDamage } from './stored-batch.ts';

export interface CompactionOptions {
  readonly database: LogDatabase;
  readonly limits: DatabaseLogLimits;
  readonly backoff: Backoff;
  /** Submits what becomes of batches below `offset`; settles when it is durable and visible. */
  readonly submit: (partition: DatabasePartition, offset: number, piece: RewritePiece) => Promise<void>;
}

/** What the rewriter said of a batch, when it is another than before. */
interface Decision {
  readonly id: number;
  readonly lastOffset: number;
  readonly sizeBytes: number;
  readonly result: StoredBatch | null;
}

/** Called with everything that was submitted before applied, and `truncateSubmitted` beginning anew. */
export async function compactPartition(
  partition: DatabasePartition,
  wantedEnd: number,
  rewriter: Rewriter,
  options: CompactionOptions,
): Promise<void> {
  const endOffset = Math.min(wantedEnd, partition.compactionStatus(Infinity).endOffset);
  for await (const page of pages(partition, endOffset, options)) {
    for (const batch of page) {
      const damage = batchDamage(partition.key, batch);
      if (damage !== null) throw damage;
    }
  }
  const submission = new Submission(partition, endOffset, options);
  for await (const page of pages(partition, endOffset, options)) {
    for (const { id, baseOffset, lastOffset, maxTimestampMs, records } of page) {
      const batch = { baseOffset, lastOffset, maxTimestampMs, records };
      const result = rewrittenBatch(batch, rewriter(batch));
      if (result !== batch) submission.add({ id, lastOffset, sizeBytes: records.length, result });
    }
    if (submission.isLarge && !(await submission.flush())) return;
  }
  if (!(await submission.flush()) || partition.submittedStart >= endOffset) return;
  await options.submit(partition, endOffset, { replaced: [], replacements: [], freedBytes: 0, isLast: true });
}

/** Gathers decisions, so that a rewriter that fails soon has changed nothing, and submits them in pieces of a page. */
class Submission {
  readonly #partition: DatabasePartition;
  readonly #endOffset: number;
  readonly #options: CompactionOptions;
  #decisions: Decision[] = [];
  #bytes = 0;

  constructor(partition: DatabasePartition, endOffset: number, options: CompactionOptions) {
    this.#partition = partition;
    this.#endOffset = endOffset;
    this.#options = options;
  }

  get isLarge(): boolean {
    return this.#bytes > this.#options.limits.rewriteBytes;
  }

  add(decision: Decision): void {
    this.#decisions.push(decision);
    this.#bytes += costOf(decision);
  }

  /** False when a truncate has ended the compaction. */
  async flush(): Promise<boolean> {
    const { limits, submit, backoff } = this.#options;
    const partition = this.#partition;
    const decisions = this.#decisions;
    this.#decisions = [];
    this.#bytes = 0;
    for (let next = 0; next < decisions.length;) {
      if (next > 0) await backoff.waitFor(limits.pauseMs);
      if (partition.truncateSubmitted < this.#endOffset) return false;
      const page: Decision[] = [];
      for (let bytes = 0; next < decisions.length && page.length < limits.pageRows; next++) {
        const decision = decisions[next] as Decision;
        bytes += costOf(decision);
        if (page.length > 0 && bytes > limits.pageBytes) break;
        page.push(decision);
      }
      const offset = (page.at(-1) as Decision).lastOffset + 1;
      const piece = pieceOf(page, partition.submittedStart);
      if (piece.replaced.length > 0) await submit(partition, offset, piece);
    }
    return partition.truncateSubmitted >= this.#endOffset;
  }
}

function costOf({ result }: Decision): number {
  return ROW_BYTES + (result?.records.length ?? 0);
}

/** Without the batches that a deleteBefore has passed since they were read. */
function pieceOf(page: readonly Decision[], startOffset: number): RewritePiece {
  const decisions = page.filter(({ lastOffset }) => lastOffset >= startOffset);
  let freedBytes = 0;
  const replacements: StoredBatch[] = [];
  for (const { sizeBytes, result } of decisions) {
    freedBytes += sizeBytes - (result?.records.length ?? 0);
    if (result !== null) replacements.push(result);
  }
  return { replaced: decisions.map(({ id }) => id), replacements, freedBytes, isLast: false };
}

/** Live batches from the log start up to `endOffset`, a page at a time, with a pause between. */
async function* pages(
  partition: DatabasePartition,
  endOffset: number,
  { database, limits, backoff }: CompactionOptions,
): AsyncIterable<BatchRow[]> {
  for (let from = partition.logStartOffset; from < endOffset;) {
    if (backoff.stopped) throw new NaruError('STORAGE_ERROR', 'the log is closed');
    if (partition.deleteSubmitted) throw unknownPartition(partition.key);
    let page: BatchRow[];
    try {
      const range = { partitionId: partition.id, from, below: endOffset };
      page = await database.read(range, limits.pageBytes, limits.pageRows);
      backoff.reset();
    } catch (error) {
      if (!isNaruError(error, 'STORAGE_UNAVAILABLE')) throw error;
      await backoff.wait();
      continue;
    }
    const last = page.at(-1);
    if (last === undefined) return;
    if (partition.deleteSubmitted) throw unknownPartition(partition.key);
    if (partition.truncateSubmitted < endOffset) return;
    yield page;
    from = last.lastOffset + 1;
    await backoff.waitFor(limits.pauseMs);
  }
}
