/**
 * The log: record batches by partition and offset, nothing else. It knows no groups, producers or transactions.
 *
 * One conformance suite (testkit/log-store-conformance) states what every engine does.
 *
 * Invariants of every engine:
 * - Operations take effect, and become durable, in the order in which they are called. The promise of an operation
 *   settles when it and everything called before it is durable.
 * - Until then nothing of it is visible after a crash, or all of it.
 * - After a failed write the store is *offline*: everything pending and everything later rejects with STORAGE_ERROR.
 *   Reads of durable data go on. Only opening the store again recovers it. A failed sync is never tried again.
 */
import type { PartitionKey } from '@naru/base';

/**
 * One batch to append. `records` is owned by the store from the call on: nobody writes to it again. It may be a part of larger
 * memory, a request's: an engine that keeps it counts all of that, or copies it (`ownMemory`).
 */
export interface AppendEntry {
  readonly partition: PartitionKey;
  /** The batch's base offset: the partition's end offset at this point, or beyond it (a gap that compaction left). */
  readonly baseOffset: number;
  /** Offset of the batch's last record. */
  readonly lastOffset: number;
  /** Largest timestamp in the batch, milliseconds since the Unix epoch. */
  readonly maxTimestampMs: number;
  /** One whole record batch v2, base offset and leader epoch filled in. */
  readonly records: Uint8Array;
}

/** A batch as stored. `records` is shared with the store's cache: read, never write. */
export interface StoredBatch {
  readonly baseOffset: number;
  readonly lastOffset: number;
  readonly maxTimestampMs: number;
  readonly records: Uint8Array;
}

export interface PartitionInfo {
  readonly partition: PartitionKey;
  /** First offset that can be read. */
  readonly logStartOffset: number;
  /** Offset after the last durable record. */
  readonly endOffset: number;
  /** Bytes of the batches between the two; engines with segment files count whole segments. */
  readonly sizeBytes: number;
}

/** How far a partition is compacted, and what compacting it now could look at. Engines answer from memory. */
export interface CompactionStatus {
  /** Everything below was compacted by an earlier {@link LogStore.rewrite}. The log start offset when nothing was. */
  readonly cleanEndOffset: number;
  /** Bytes below {@link cleanEndOffset}. */
  readonly cleanBytes: number;
  /** Where the part ends that can be rewritten now: closed segments; every batch but the newest in other engines. */
  readonly endOffset: number;
  /** Bytes from {@link cleanEndOffset} up to {@link endOffset}. */
  readonly dirtyBytes: number;
  /** Bytes from {@link endOffset} on: an open segment, which {@link LogStore.seal} would make part of it. */
  readonly openBytes: number;
  /**
   * When the oldest data from {@link cleanEndOffset} on was written, milliseconds since the Unix epoch by the broker's
   * clock, or the earliest timestamp of its batches, whichever the engine knows; null when there is none.
   */
  readonly dirtySinceMs: number | null;
}

/**
 * Decides what becomes of a batch: itself (kept as it is), other bytes (a batch with the same base offset and last offset
 * and no more records, though a few bytes larger at times), or null (removed).
 */
export type Rewriter = (batch: StoredBatch) => Uint8Array | null;

/** State of the layers above, kept with a checkpoint so that recovery need not read the whole log. Opaque here. */
export interface Snapshot {
  /** Distinguishes layouts; the layer above ignores a snapshot of a version that it does not know. */
  readonly version: number;
  readonly data: Uint8Array;
}

export interface RecoveryVisitor {
  /** Called once, first: the newest usable snapshot, or null when there is none (then every batch is visited). */
  snapshot(snapshot: Snapshot | null): void;
  /** Partitions as they were at the snapshot; without a snapshot, as they begin (end offset = log start offset). */
  partition(info: PartitionInfo): void;
  /** Then, in order, everything that happened since. */
  created(partition: PartitionKey, logStartOffset: number): void;
  batch(partition: PartitionKey, batch: StoredBatch): void;
  truncated(partition: PartitionKey, endOffset: number): void;
  deletedBefore(partition: PartitionKey, offset: number): void;
  deleted(partition: PartitionKey): void;
}

/** How much more the store takes now. */
export type Capacity =
  /** Go on. */
  | { readonly state: 'open' }
  /** Writing behind is late: wait for {@link LogStore.whenOpen}, it will come. */
  | { readonly state: 'busy' }
  /**
   * No space: refuse with STORAGE_FULL until it returns. The broker's own few appends (groups, topics) go on in room that is
   * kept for them, until that is `exhausted`: then they would wait, so what can be repeated is refused too.
   */
  | { readonly state: 'full'; readonly reason: string; readonly exhausted?: boolean | undefined }
  /** The storage cannot be reached now: refuse with STORAGE_UNAVAILABLE. Pending operations wait; it heals by itself. */
  | { readonly state: 'unavailable'; readonly reason: string }
  /** A write failed: refuse with STORAGE_ERROR until the store is opened again. */
  | { readonly state: 'offline'; readonly reason: string };

export interface LogStore {
  /** Opens the storage and tells `visitor` what is in it. Called once, before anything else. */
  recover(visitor: RecoveryVisitor): Promise<void>;

  /** Adds a partition that begins at `logStartOffset` (default 0). */
  create(partition: PartitionKey, logStartOffset?: number): Promise<void>;
  /** Removes a partition and its data. */
  delete(partition: PartitionKey): Promise<void>;
  /** Appends batches of any number of partitions, as one atomic write. At most {@link maxAppendBytes} in all. */
  append(entries: readonly AppendEntry[]): Promise<void>;
  /** Removes every batch at `endOffset` and beyond it; a batch that holds `endOffset` inside must not exist. */
  truncate(partition: PartitionKey, endOffset: number): Promise<void>;
  /** Moves the log start offset up to `offset`; whole segments below it are freed. */
  deleteBefore(partition: PartitionKey, offset: number): Promise<void>;

  /**
   * Whole batches from the one that contains `offset` on (or the next one, where compaction left a gap), in order, until
   * `maxBytes` is reached or a segment ends; at least one when there is one below `limitOffset`. Only durable batches with
   * lastOffset below `limitOffset`. Synchronous when the batches are in memory: subscribers that keep up never wait.
   *
   * Rejects with OFFSET_OUT_OF_RANGE below the log start or above the end, DATA_CORRUPT where the stored bytes are bad,
   * STORAGE_UNAVAILABLE while the storage cannot be reached.
   */
  read(
    partition: PartitionKey,
    offset: number,
    maxBytes: number,
    limitOffset: number,
  ): StoredBatch[] | Promise<StoredBatch[]>;
  /**
   * The first batch whose maxTimestampMs is `timestampMs` or later (its records may begin before it), or null.
   */
  findByTimestamp(partition: PartitionKey, timestampMs: number): Promise<StoredBatch | null>;
  /**
   * The lowest offset, at a batch boundary, from which on at most `maxBytes` are stored, as exactly as the engine can tell
   * cheaply (an index interval, say); the end offset when even the newest batch is larger. Retention by size goes by it.
   */
  findBySize(partition: PartitionKey, maxBytes: number): Promise<number>;
  /**
   * Closes what is being written of a partition, so that it counts as compactable; nothing when that is empty. Engines
   * without segments do nothing. Resolves when {@link compactionStatus} shows it.
   */
  seal(partition: PartitionKey): Promise<void>;
  /**
   * How far a partition is compacted. The compactable part ends before the first piece that holds a timestamp of
   * `beforeMs` or later, or something at `beforeOffset` or beyond (default: no such bounds).
   */
  compactionStatus(partition: PartitionKey, beforeMs?: number, beforeOffset?: number): CompactionStatus;
  /**
   * Compacts: replaces the batches from the log start offset up to `endOffset`, which is one that {@link compactionStatus}
   * gave, by what `rewriter` makes of them, called once for each in order. Readers see the old batches until the new ones
   * take their place; no offset is given a second time, the end offset stays, and the newest batch of the partition is kept
   * as it is where the rewriter removes it. Everything below `endOffset` counts as clean from then on.
   *
   * Not in the order of the other operations, and no part of what recovery tells: a crash leaves all of it, some whole pieces
   * from the oldest on (never a newer one without the older: tombstones rely on it), or nothing. Of what a truncate,
   * deleteBefore or delete removes meanwhile, nothing comes back. One at a time in a store; the work is paced, so that appends
   * and reads go on. Resolves when readers see the result. Rejects with DATA_CORRUPT where a batch cannot be read (nothing is
   * changed then); and with what the rewriter threw, or when the store is closed or the partition deleted meanwhile: then what
   * was done stays or not, as in a crash.
   */
  rewrite(partition: PartitionKey, endOffset: number, rewriter: Rewriter): Promise<void>;
  /** Undefined for a partition that does not exist. */
  info(partition: PartitionKey): PartitionInfo | undefined;
  /** Every partition. */
  partitions(): PartitionInfo[];

  /** Bytes that one {@link append} takes at most. */
  readonly maxAppendBytes: number;
  capacity(): Capacity;
  /** Settles when {@link capacity} is no longer 'busy'. */
  whenOpen(): Promise<void>;

  /**
   * True when enough was written since the last checkpoint that the caller should take a snapshot now.
   * False for engines that need none.
   */
  checkpointDue(): boolean;
  /**
   * Takes `snapshot` as the state after every operation called so far, and writes a checkpoint once they are durable.
   * Resolves when it is on disk. A second call while one is being written waits its turn.
   */
  checkpoint(snapshot: Snapshot): Promise<void>;

  /** Waits for what is pending, writes a last checkpoint when `snapshot` is given, and lets the storage go. */
  close(snapshot?: Snapshot): Promise<void>;

  /** Counters for /metrics; cheap. */
  metrics(): LogStoreMetrics;
}

/** All totals since the store was opened, except those called current. */
export interface LogStoreMetrics {
  readonly appends: number;
  readonly appendedBytes: number;
  readonly commitCycles: number;
  readonly commitMs: number;
  readonly checkpoints: number;
  /** Current: bytes acknowledged but not yet written to where they stay. */
  readonly unwrittenBytes: number;
  /** Current. */
  readonly cacheBytes: number;
  readonly cacheHits: number;
  readonly cacheMisses: number;
}
