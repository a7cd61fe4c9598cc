/** An operation on its way: from the call to the cycle that makes it durable, and what it does to the state then. */
import type { PartitionKey } from '@naru/base';
import { assert } from '@naru/base';
import type { AppendEntry, StoredBatch } from '../log-store.ts';
import type { BatchCache } from './batch-cache.ts';
import { ROW_BYTES } from './limits.ts';
import type { BatchRow, Cycle, LogDatabase, OperationRow, OperationType } from './log-database.ts';
import { OPERATION } from './log-database.ts';
import type { CutDetail, DatabasePartition, NewestBatch, RewriteDetail } from './partition-state.ts';

/** JSON in the row of a create. */
export interface CreateDetail {
  readonly key: PartitionKey;
}

/** What compaction makes of some batches of a partition. */
export interface RewritePiece {
  readonly replaced: readonly number[];
  readonly replacements: readonly StoredBatch[];
  readonly freedBytes: number;
  /** Whether everything below its offset is clean now. */
  readonly isLast: boolean;
}

interface Settling {
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

export type Operation = Settling &
  (
    | {
        readonly type: 'append';
        readonly entries: readonly AppendEntry[];
        /** The partition of each entry. */
        readonly partitions: readonly DatabasePartition[];
        readonly recordBytes: number;
      }
    | {
        readonly type: Exclude<OperationType, typeof OPERATION.rewrite>;
        readonly partition: DatabasePartition;
        readonly offset: number;
      }
    | {
        readonly type: typeof OPERATION.rewrite;
        readonly partition: DatabasePartition;
        readonly offset: number;
        readonly piece: RewritePiece;
      }
  );

/** A cycle and what it does to the state, as {@link prepareCycle} found it. */
export interface PreparedCycle {
  readonly cycle: Cycle;
  /** In the order of the operations. */
  readonly effects: readonly (() => void)[];
  readonly footprintBytes: number;
}

export function recordBytesOf(operation: Operation): number {
  if (operation.type === 'append') return operation.recordBytes;
  if (operation.type !== OPERATION.rewrite) return 0;
  return operation.piece.replacements.reduce((sum, batch) => sum + batch.records.length, 0);
}

export function rowCountOf(operation: Operation): number {
  if (operation.type === 'append') return operation.entries.length;
  return operation.type === OPERATION.rewrite ? 1 + operation.piece.replacements.length : 1;
}

/** Whether the database is asked what the operation does. */
function measures(operation: Operation): boolean {
  if (operation.type === OPERATION.rewrite) return operation.piece.isLast;
  return operation.type === OPERATION.truncate || operation.type === OPERATION.deleteBefore;
}

/**
 * The first operations of `queue` that go into one cycle. A cut measures what the database holds of its partition, so
 * nothing of that partition may come before it in the same cycle.
 */
export function gather(
  queue: Iterable<Operation>,
  limits: { readonly cycleBytes: number; readonly cycleRows: number },
): Operation[] {
  const seen = new Set<DatabasePartition>();
  const gathered: Operation[] = [];
  let bytes = 0;
  let rows = 0;
  for (const operation of queue) {
    bytes += recordBytesOf(operation);
    rows += rowCountOf(operation);
    if (gathered.length > 0 && (bytes > limits.cycleBytes || rows > limits.cycleRows)) break;
    if (operation.type === 'append') for (const partition of operation.partitions) seen.add(partition);
    else if (measures(operation) && seen.has(operation.partition)) break;
    else seen.add(operation.partition);
    gathered.push(operation);
  }
  return gathered;
}

/** What a cycle is made with. */
export interface CycleContext {
  readonly database: Pick<LogDatabase, 'measure' | 'places'>;
  readonly applier: OperationApplier;
}

/** Gives ids, and looks up what cuts need to know. Nothing is changed, so that it can be called again after an error. */
export async function prepareCycle(
  operations: readonly Operation[],
  previousId: number,
  { database, applier }: CycleContext,
): Promise<PreparedCycle> {
  let id = previousId;
  let recordBytes = 0;
  const truncates: { partitionId: number; endOffset: number }[] = [];
  const replaced: number[] = [];
  const batches: BatchRow[] = [];
  const rows: OperationRow[] = [];
  const effects: (() => void)[] = [];
  const addRow = (type: OperationType, partition: DatabasePartition, offset: number, detail: object): OperationRow => {
    const row = { id: ++id, type, partitionId: partition.id, offset, detail: JSON.stringify(detail) };
    rows.push(row);
    return row;
  };
  for (const operation of operations) {
    recordBytes += recordBytesOf(operation);
    if (operation.type === 'append') {
      const { entries, partitions } = operation;
      for (const [i, entry] of entries.entries()) {
        const { baseOffset, lastOffset, maxTimestampMs, records } = entry;
        const batch = { baseOffset, lastOffset, maxTimestampMs, records };
        const partition = partitions[i] as DatabasePartition;
        batches.push({ id: ++id, partitionId: partition.id, isReplacement: false, ...batch });
        effects.push(() => applier.append(partition, batch));
      }
      continue;
    }
    const { type, partition, offset } = operation;
    if (type === OPERATION.rewrite) {
      replaced.push(...operation.piece.replaced);
      for (const batch of operation.piece.replacements)
        batches.push({ id: ++id, partitionId: partition.id, isReplacement: true, ...batch });
    } else if (type === OPERATION.truncate) truncates.push({ partitionId: partition.id, endOffset: offset });
    const row = addRow(type, partition, offset, await detailOf(operation, database));
    effects.push(() => applier.apply(partition, row));
  }
  const cycle = { previousId, lastId: id, truncates, replaced, batches, operations: rows };
  return { cycle, effects, footprintBytes: recordBytes + (id - previousId) * ROW_BYTES };
}

async function detailOf(
  operation: Exclude<Operation, { type: 'append' }>,
  database: CycleContext['database'],
): Promise<CreateDetail | CutDetail | RewriteDetail | Record<string, never>> {
  const { partition, offset } = operation;
  const { id: partitionId, key, logStartOffset, endOffset } = partition;
  if (operation.type === OPERATION.create) return { key };
  if (operation.type === OPERATION.delete) return {};
  if (operation.type === OPERATION.truncate) {
    const bytes = await database.measure({ partitionId, from: offset, below: Math.max(offset, endOffset) });
    const [place] = await database.places({ partitionId, from: logStartOffset, below: offset }, 'down', 1);
    return { bytes, newest: place === undefined ? null : newestOf(place) };
  }
  const below = { partitionId, from: logStartOffset, below: offset };
  if (operation.type !== OPERATION.rewrite) return { bytes: await database.measure(below), newest: null };
  const { freedBytes, isLast } = operation.piece;
  return { freedBytes, cleanBytes: isLast ? await database.measure(below) : null };
}

function newestOf({ baseOffset, lastOffset, sizeBytes }: NewestBatch): NewestBatch {
  return { baseOffset, lastOffset, sizeBytes };
}

/** Cuts and deletes whose batches can be erased. */
export interface Garbage {
  readonly partitionId: number;
  readonly below: number;
}

/** Applies what is durable: the one place for it, for the running store and for recovery. */
export class OperationApplier {
  readonly partitions = new Map<PartitionKey, DatabasePartition>();
  /** Changed since the last checkpoint. */
  readonly touched = new Set<DatabasePartition>();
  readonly #cache: BatchCache;
  readonly #onGarbage: (garbage: Garbage) => void;

  constructor(cache: BatchCache, onGarbage: (garbage: Garbage) => void) {
    this.#cache = cache;
    this.#onGarbage = onGarbage;
  }

  append(partition: DatabasePartition, batch: StoredBatch): void {
    this.touched.add(partition);
    this.#cache.during(partition, () => partition.append(batch));
  }

  apply(partition: DatabasePartition, { type, offset, detail }: OperationRow): void {
    this.touched.add(partition);
    this.#cache.during(partition, () => {
      if (type === OPERATION.create) {
        assert(!this.partitions.has(partition.key), `partition ${partition.key} exists`);
        this.partitions.set(partition.key, partition);
      } else if (type === OPERATION.delete) {
        this.partitions.delete(partition.key);
        partition.delete();
        this.#onGarbage({ partitionId: partition.id, below: Number.MAX_SAFE_INTEGER });
      } else if (type === OPERATION.truncate) {
        partition.truncate(offset, JSON.parse(detail) as CutDetail);
      } else if (type === OPERATION.deleteBefore) {
        partition.deleteBefore(offset, JSON.parse(detail) as CutDetail);
        this.#onGarbage({ partitionId: partition.id, below: offset });
      } else {
        partition.rewrite(offset, JSON.parse(detail) as RewriteDetail);
      }
    });
  }
}
