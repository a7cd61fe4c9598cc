/**
 * One journal frame: everything that one commit cycle writes.
 *
 * ```
 *  0 magic         uint32  "NJF1"
 *  4 journalId     8 bytes random, one for each data directory
 * 12 sequence      int64   one more than the frame before
 * 20 fileNumber    uint32  where the frame stands: a copy of it elsewhere (inside someone's payload, or a
 * 24 block         uint32  misdirected write) is not taken for a frame; position / 4096
 * 28 payloadBytes  uint32  entry table and batches
 * 32 entryCount    uint32
 * 36 crc           uint32  CRC-32C of bytes 0–35 and the payload
 * 40 entries       52 bytes each
 *      0 type uint8, 3 zero bytes · 4 topic id 16 bytes · 20 partition int32 · 24 offset int64
 *     32 lastOffset int64 · 40 maxTimestampMs int64 · 48 batchBytes uint32
 *    batches       of the append entries, in order
 *    zeros         up to the next multiple of 4096
 * ```
 *
 * Batches are not copied when they are written: {@link encodeFrameHead} makes what stands before them.
 */
import type { PartitionKey } from '@naru/base';
import { crc32c } from '@naru/protocol/batch';
import type { AppendEntry, StoredBatch } from '../log-store.ts';
import { keyFromBytes, readInt64, readUint32, writeInt64, writeUint32 } from './byte-fields.ts';

/** Frames begin on multiples of this, so that a torn write can never damage an earlier, acknowledged frame. */
export const FRAME_ALIGNMENT = 4096;
export const FRAME_HEADER_BYTES = 40;
export const FRAME_ENTRY_BYTES = 52;

const MAGIC = 0x4e4a4631;
const CRC_AT = 36;

export const ENTRY = { append: 1, create: 2, truncate: 3, deleteBefore: 4, delete: 5 } as const;
export type EntryType = (typeof ENTRY)[keyof typeof ENTRY];

/** One call to the store, as the journal sees it. */
export interface JournalOperation {
  readonly type: EntryType;
  /** Batches of an append; empty for other types. */
  readonly entries: readonly AppendEntry[];
  /** 20-byte keys: of each batch, or of the one partition. */
  readonly keys: readonly Uint8Array[];
  /** Offset of a create (log start), truncate (end) or deleteBefore. */
  readonly offset: number;
  /** Bytes of the batches. */
  readonly recordBytes: number;
}

/** One entry of a frame that was read. */
export interface FrameEntry {
  readonly type: number;
  readonly partition: PartitionKey;
  readonly offset: number;
  /** Of an append only. */
  readonly batch: StoredBatch | null;
}

export interface FrameHeader {
  readonly sequence: number;
  readonly payloadBytes: number;
  readonly entryCount: number;
  readonly crc: number;
}

export function alignUp(bytes: number): number {
  return Math.ceil(bytes / FRAME_ALIGNMENT) * FRAME_ALIGNMENT;
}

export function entryCountOf(operation: JournalOperation): number {
  return operation.type === ENTRY.append ? operation.entries.length : 1;
}

/** Bytes that an operation adds to a frame. */
export function operationBytes(operation: JournalOperation): number {
  return entryCountOf(operation) * FRAME_ENTRY_BYTES + operation.recordBytes;
}

export interface FramePlace {
  readonly journalId: Uint8Array;
  readonly sequence: number;
  readonly fileNumber: number;
  readonly position: number;
}

/**
 * Writes header and entry table of a frame to the beginning of `head`, which has room for both.
 *
 * @returns bytes written
 */
export function encodeFrameHead(head: Uint8Array, place: FramePlace, operations: readonly JournalOperation[]): number {
  let at = FRAME_HEADER_BYTES;
  let count = 0;
  let recordBytes = 0;
  for (const operation of operations) {
    if (operation.type === ENTRY.append) {
      const { entries, keys } = operation;
      for (let i = 0; i < entries.length; i++) {
        const entry = entries[i] as AppendEntry;
        writeEntry(head, at, ENTRY.append, keys[i] as Uint8Array, entry.baseOffset);
        writeInt64(head, at + 32, entry.lastOffset);
        writeInt64(head, at + 40, entry.maxTimestampMs);
        writeUint32(head, at + 48, entry.records.length);
        at += FRAME_ENTRY_BYTES;
      }
      count += entries.length;
      recordBytes += operation.recordBytes;
    } else {
      writeEntry(head, at, operation.type, operation.keys[0] as Uint8Array, operation.offset);
      head.fill(0, at + 32, at + FRAME_ENTRY_BYTES);
      at += FRAME_ENTRY_BYTES;
      count += 1;
    }
  }
  writeUint32(head, 0, MAGIC);
  head.set(place.journalId, 4);
  writeInt64(head, 12, place.sequence);
  writeUint32(head, 20, place.fileNumber);
  writeUint32(head, 24, place.position / FRAME_ALIGNMENT);
  writeUint32(head, 28, at - FRAME_HEADER_BYTES + recordBytes);
  writeUint32(head, 32, count);
  writeUint32(head, CRC_AT, frameCrc(head, at, operations));
  return at;
}

function writeEntry(head: Uint8Array, at: number, type: EntryType, key: Uint8Array, offset: number): void {
  head[at] = type;
  head[at + 1] = 0;
  head[at + 2] = 0;
  head[at + 3] = 0;
  head.set(key, at + 4);
  writeInt64(head, at + 24, offset);
}

function frameCrc(head: Uint8Array, headBytes: number, operations: readonly JournalOperation[]): number {
  let crc = crc32c(head.subarray(0, CRC_AT));
  crc = crc32c(head.subarray(FRAME_HEADER_BYTES, headBytes), crc);
  for (const operation of operations) {
    for (const entry of operation.entries) crc = crc32c(entry.records, crc);
  }
  return crc;
}

/** The header of a frame that claims to stand at this place, or null. Its CRC is not checked. */
export function decodeFrameHeader(
  bytes: Uint8Array,
  journalId: Uint8Array,
  fileNumber: number,
  position: number,
): FrameHeader | null {
  if (bytes.length < FRAME_HEADER_BYTES || readUint32(bytes, 0) !== MAGIC) return null;
  for (let i = 0; i < journalId.length; i++) if (bytes[4 + i] !== journalId[i]) return null;
  if (readUint32(bytes, 20) !== fileNumber || readUint32(bytes, 24) * FRAME_ALIGNMENT !== position) return null;
  const sequence = readInt64(bytes, 12);
  if (!Number.isSafeInteger(sequence)) return null;
  return {
    sequence,
    payloadBytes: readUint32(bytes, 28),
    entryCount: readUint32(bytes, 32),
    crc: readUint32(bytes, CRC_AT),
  };
}

/** Whether `frame` (header and payload, without padding) is what its checksum says. */
export function frameIntact(frame: Uint8Array, header: FrameHeader): boolean {
  const crc = crc32c(frame.subarray(FRAME_HEADER_BYTES), crc32c(frame.subarray(0, CRC_AT)));
  return crc === header.crc && header.entryCount * FRAME_ENTRY_BYTES <= header.payloadBytes;
}

/** Entries of an intact frame. Batches are views of `frame`. Null when the entries do not add up to the payload. */
export function decodeEntries(frame: Uint8Array, header: FrameHeader): FrameEntry[] | null {
  const entries: FrameEntry[] = [];
  let batchAt = FRAME_HEADER_BYTES + header.entryCount * FRAME_ENTRY_BYTES;
  for (let i = 0; i < header.entryCount; i++) {
    const at = FRAME_HEADER_BYTES + i * FRAME_ENTRY_BYTES;
    const type = frame[at] as number;
    const offset = readInt64(frame, at + 24);
    let batch: StoredBatch | null = null;
    if (type === ENTRY.append) {
      const end = batchAt + readUint32(frame, at + 48);
      if (end > frame.length) return null;
      batch = {
        baseOffset: offset,
        lastOffset: readInt64(frame, at + 32),
        maxTimestampMs: readInt64(frame, at + 40),
        records: frame.subarray(batchAt, end),
      };
      batchAt = end;
    }
    entries.push({ type, partition: keyFromBytes(frame, at + 4), offset, batch });
  }
  return batchAt === frame.length ? entries : null;
}
