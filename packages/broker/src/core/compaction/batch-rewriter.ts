/**
 * What compaction does to batches, record by record. The rules are Kafka's, but that a record without a key stays, and that markers
 * stay.
 *
 * Records of committed transactions count as any others; batches of aborted ones are removed, and supersede nothing. So nothing
 * may be looked at of which it is not decided: the end of a pass lies at or below the last stable offset. Kept as they are: control
 * batches, and batches that cannot be decoded or written again. What is in them supersedes nothing.
 *
 * Invariants:
 * - The newest record of a key stays, unless it is a tombstone whose time has passed.
 * - A tombstone stays as long as an older record of its key may be left: it is removed only by a pass that removes them all,
 *   or after one that did. So what a pass wrote must become durable in order, oldest first; and keys of batches that are kept
 *   as they are hold on to their tombstones.
 */
import { isNaruError } from '@naru/protocol';
import {
  decodeRecords,
  isTombstone,
  readBatchHeader,
  rewriteBatch,
  type BatchHeader,
  type BatchRecord,
  type CompressionCodecs,
} from '@naru/protocol/batch';
import { KeyOffsets } from './key-offsets.ts';

/** A batch as stored. */
export interface CompactableBatch {
  readonly baseOffset: number;
  readonly records: Uint8Array;
}

/** Knows what was aborted, of all that a pass looks at. */
export interface AbortedBatches {
  /** Whether a transactional batch of the producer that begins there was aborted. */
  has(producerId: number, baseOffset: number): boolean;
}

/** Knows where keys came again. */
export interface Supersession {
  /** Whether a later record of the key exists than the one at `offset`. */
  isSuperseded(key: Uint8Array, offset: number): boolean;
}

export interface RewriterOptions {
  /** Milliseconds since the Unix epoch. */
  readonly nowMs: number;
  /** Of tombstones, after the first pass that met them; Infinity: for ever. */
  readonly deleteRetentionMs: number;
  readonly codecs: CompressionCodecs;
  /** Bytes of keys in batches that are kept as they are; beyond it every tombstone stays. Default 16 MiB. */
  readonly maxHeldKeyBytes?: number | undefined;
}

const DEFAULT_MAX_HELD_KEY_BYTES = 16 * 1024 * 1024;

/** The records of a batch that compaction may be ruled by; null for a batch of which nothing counts. */
export function compactableRecords(
  batch: Uint8Array,
  codecs: CompressionCodecs,
  aborted: AbortedBatches,
): BatchRecord[] | null {
  try {
    const header = readBatchHeader(batch);
    return header.isControl || isAborted(header, aborted) ? null : decodeRecords(batch, codecs);
  } catch (error) {
    if (isNaruError(error)) return null;
    throw error;
  }
}

function isAborted({ isTransactional, producerId, baseOffset }: BatchHeader, aborted: AbortedBatches): boolean {
  return isTransactional && aborted.has(producerId, baseOffset);
}

/**
 * The rewriter of one pass, for LogStore.rewrite: to be called for every batch from the log start on, in order.
 *
 * @param supersession made of all records from the end of the clean part up to `endOffset`
 * @param endOffset what is there or beyond stays
 * @param aborted as it was told of when the supersession was made
 */
export function makeRewriter(
  supersession: Supersession,
  endOffset: number,
  aborted: AbortedBatches,
  options: RewriterOptions,
): (batch: CompactableBatch) => Uint8Array | null {
  const { nowMs, codecs } = options;
  const horizonMs = nowMs + options.deleteRetentionMs;
  const deleteHorizonMs = Number.isSafeInteger(horizonMs) ? horizonMs : undefined;
  const held = new HeldKeys(options.maxHeldKeyBytes ?? DEFAULT_MAX_HELD_KEY_BYTES, codecs);

  const rewrite = (batch: Uint8Array): Uint8Array | null => {
    const header = readBatchHeader(batch);
    if (header.isControl) return batch;
    if (isAborted(header, aborted)) return null;
    const areTombstonesOver = header.deleteHorizonMs !== null && nowMs >= header.deleteHorizonMs;
    const retain = (record: BatchRecord): boolean => {
      if (record.key === null || record.offset >= endOffset) return true;
      if (supersession.isSuperseded(record.key, record.offset)) return false;
      return !isTombstone(record) || !areTombstonesOver || held.has(record.key);
    };
    return rewriteBatch(batch, { retain, deleteHorizonMs }, codecs);
  };

  return ({ baseOffset, records }) => {
    if (baseOffset >= endOffset) return records;
    try {
      return rewrite(records);
    } catch (error) {
      if (!isNaruError(error)) throw error;
      held.add(records);
      return records;
    }
  };
}

/** Keys of batches that are kept as they are. */
class HeldKeys {
  readonly #keys: KeyOffsets;
  readonly #codecs: CompressionCodecs;
  #areAllHeld = false;

  constructor(maxBytes: number, codecs: CompressionCodecs) {
    this.#keys = new KeyOffsets({ maxBytes });
    this.#codecs = codecs;
  }

  has(key: Uint8Array): boolean {
    return this.#areAllHeld || this.#keys.get(key) >= 0;
  }

  add(batch: Uint8Array): void {
    if (this.#areAllHeld) return;
    try {
      for (const { key } of decodeRecords(batch, this.#codecs)) if (key !== null) this.#keys.put(key, 0);
    } catch (error) {
      if (!isNaruError(error)) throw error;
      this.#areAllHeld = true; // Whose keys are in it, nobody knows.
    }
    if (this.#keys.isFull) this.#areAllHeld = true;
  }
}
