/**
 * Sparse index of one segment: where about an offset or a time is. Never trusted over the segment itself, which is walked
 * from the place that the index gives.
 *
 * Entry i stands for the batch that begins at `positions[i]`: its base offset, and the largest timestamp of all batches of
 * the segment before it. The first entry, when the index is complete, has position 0.
 *
 * On disk (`<base>.index`, written when a segment is closed): magic uint32 · segment bytes int64 · entry count uint32 ·
 * entries {offset, position, maxTimestampBefore: int64 each} · CRC-32C uint32.
 */
import { crc32c } from '@naru/protocol/batch';
import { readInt64, readUint32, writeInt64, writeUint32 } from './byte-fields.ts';

const MAGIC = 0x4e495831;
const HEAD_BYTES = 16;
const ENTRY_BYTES = 24;
/** Smaller than any timestamp. */
export const NO_TIMESTAMP = -(2 ** 52);

export class SparseIndex {
  readonly #intervalBytes: number;
  #offsets: number[] = [];
  #positions: number[] = [];
  #maxTimestampsBefore: number[] = [];

  constructor(intervalBytes: number) {
    this.#intervalBytes = intervalBytes;
  }

  get length(): number {
    return this.#offsets.length;
  }

  /** Notes a batch, if the last entry is far enough back. Batches come in order. */
  note(offset: number, position: number, maxTimestampBefore: number): void {
    const last = this.#positions.at(-1);
    if (last !== undefined && position - last < this.#intervalBytes) return;
    this.#offsets.push(offset);
    this.#positions.push(position);
    this.#maxTimestampsBefore.push(maxTimestampBefore);
  }

  /** Position of a batch at or before the one that holds `offset`. */
  positionOfOffset(offset: number): number {
    return this.#positions[lastAtMost(this.#offsets, offset)] ?? 0;
  }

  /** Position of a batch at `position` or before it. */
  positionBefore(position: number): number {
    return this.#positions[lastAtMost(this.#positions, position)] ?? 0;
  }

  /** Position of a batch at or before the first whose timestamp is `timestampMs` or later. */
  positionOfTimestamp(timestampMs: number): number {
    let low = 0;
    let high = this.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#maxTimestampsBefore[middle] as number) < timestampMs) low = middle + 1;
      else high = middle;
    }
    return this.#positions[low - 1] ?? 0;
  }

  /** Forgets entries at `sizeBytes` and beyond. */
  truncate(sizeBytes: number): void {
    let length = this.length;
    while (length > 0 && (this.#positions[length - 1] as number) >= sizeBytes) length -= 1;
    this.#offsets.length = length;
    this.#positions.length = length;
    this.#maxTimestampsBefore.length = length;
  }

  /** Puts the entries of the part of the segment before this index in front; its largest timestamp holds from then on. */
  prepend(before: SparseIndex, maxTimestampMs: number): void {
    this.#offsets = [...before.#offsets, ...this.#offsets];
    this.#positions = [...before.#positions, ...this.#positions];
    const own = this.#maxTimestampsBefore.map((timestamp) => Math.max(timestamp, maxTimestampMs));
    this.#maxTimestampsBefore = [...before.#maxTimestampsBefore, ...own];
  }

  /** @param segmentBytes size of the segment that it covers whole */
  encode(segmentBytes: number): Uint8Array {
    const bytes = new Uint8Array(HEAD_BYTES + this.length * ENTRY_BYTES + 4);
    writeUint32(bytes, 0, MAGIC);
    writeInt64(bytes, 4, segmentBytes);
    writeUint32(bytes, 12, this.length);
    for (let i = 0; i < this.length; i++) {
      const at = HEAD_BYTES + i * ENTRY_BYTES;
      writeInt64(bytes, at, this.#offsets[i] as number);
      writeInt64(bytes, at + 8, this.#positions[i] as number);
      writeInt64(bytes, at + 16, this.#maxTimestampsBefore[i] as number);
    }
    writeUint32(bytes, bytes.length - 4, crc32c(bytes.subarray(0, -4)));
    return bytes;
  }

  /** Null when the bytes are damaged or cover another size than `segmentBytes`. */
  static decode(bytes: Uint8Array, segmentBytes: number, intervalBytes: number): SparseIndex | null {
    if (bytes.length < HEAD_BYTES + 4 || readUint32(bytes, 0) !== MAGIC) return null;
    const count = readUint32(bytes, 12);
    if (bytes.length !== HEAD_BYTES + count * ENTRY_BYTES + 4 || readInt64(bytes, 4) !== segmentBytes) return null;
    if (crc32c(bytes.subarray(0, -4)) !== readUint32(bytes, bytes.length - 4)) return null;
    const index = new SparseIndex(intervalBytes);
    for (let i = 0; i < count; i++) {
      const at = HEAD_BYTES + i * ENTRY_BYTES;
      index.#offsets.push(readInt64(bytes, at));
      index.#positions.push(readInt64(bytes, at + 8));
      index.#maxTimestampsBefore.push(readInt64(bytes, at + 16));
    }
    return index;
  }
}

/** Index of the last of the ascending `values` that is at most `value`; −1 when none is. */
function lastAtMost(values: readonly number[], value: number): number {
  let low = 0;
  let high = values.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((values[middle] as number) <= value) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}
