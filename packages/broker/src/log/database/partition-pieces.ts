/**
 * How many bytes of a partition lie where, from memory: an exponential histogram of its batches.
 *
 * The clean part is one piece; after it the newest {@link PIECES_PER_LEVEL} batches have a piece each, the next as many pieces
 * hold two batches, then four, and so on. So a partition of any length takes a few dozen pieces, and a boundary near a
 * moment or a size is off by a small part of its distance from the end.
 *
 * Invariants: pieces are in offset order; `bytes` over all is exact, of each piece nearly (a cut inside one is); levels
 * never grow towards the end.
 */
import { assert } from '@naru/base';
import type { StoredBatch } from '../log-store.ts';

const PIECES_PER_LEVEL = 8;

export interface Piece {
  /** Offset after its last batch. */
  endOffset: number;
  bytes: number;
  minTimestampMs: number;
  maxTimestampMs: number;
  level: number;
}

/** As JSON in the partition's row. */
export interface PiecesState {
  readonly cleanEnd: number;
  readonly cleanBytes: number;
  readonly cleanMaxTimestampMs: number;
  /** The fields of each piece, in the order in which {@link Piece} has them. */
  readonly pieces: readonly (readonly [number, number, number, number, number])[];
}

export class PartitionPieces {
  cleanEnd: number;
  cleanBytes = 0;
  #cleanMaxTimestampMs = -1;
  #pieces: Piece[] = [];
  #bytes = 0;

  constructor(startOffset: number, state?: PiecesState) {
    this.cleanEnd = startOffset;
    if (state === undefined) return;
    this.cleanEnd = state.cleanEnd;
    this.cleanBytes = state.cleanBytes;
    this.#cleanMaxTimestampMs = state.cleanMaxTimestampMs;
    this.#pieces = state.pieces.map(([endOffset, bytes, minTimestampMs, maxTimestampMs, level]) => {
      return { endOffset, bytes, minTimestampMs, maxTimestampMs, level };
    });
    this.#bytes = this.#pieces.reduce((sum, piece) => sum + piece.bytes, state.cleanBytes);
  }

  state(): PiecesState {
    const { cleanEnd, cleanBytes } = this;
    const pieces = this.#pieces.map(
      (piece) => [piece.endOffset, piece.bytes, piece.minTimestampMs, piece.maxTimestampMs, piece.level] as const,
    );
    return { cleanEnd, cleanBytes, cleanMaxTimestampMs: this.#cleanMaxTimestampMs, pieces };
  }

  /** Of everything. */
  get bytes(): number {
    return this.#bytes;
  }

  /** After the clean part. */
  get dirty(): readonly Piece[] {
    return this.#pieces;
  }

  append({ lastOffset, maxTimestampMs, records }: StoredBatch): void {
    const pieces = this.#pieces;
    const times = { minTimestampMs: maxTimestampMs, maxTimestampMs };
    pieces.push({ endOffset: lastOffset + 1, bytes: records.length, ...times, level: 0 });
    this.#bytes += records.length;
    // The oldest two of a level that has grown too long become one of the next.
    let end = pieces.length;
    for (let level = 0; ; level++) {
      const first = end - PIECES_PER_LEVEL - 1;
      if (first < 0 || pieces[first]?.level !== level) return;
      const [older, newer] = [pieces[first], pieces[first + 1] as Piece];
      older.endOffset = newer.endOffset;
      older.bytes += newer.bytes;
      older.minTimestampMs = Math.min(older.minTimestampMs, newer.minTimestampMs);
      older.maxTimestampMs = Math.max(older.maxTimestampMs, newer.maxTimestampMs);
      older.level = level + 1;
      pieces.splice(first + 1, 1);
      end = first + 1;
    }
  }

  /** The log begins at `offset` now, and `removedBytes` were before it. */
  cutStart(offset: number, removedBytes: number): void {
    this.#bytes -= removedBytes;
    if (offset < this.cleanEnd) return this.#take(undefined, removedBytes);
    let left = removedBytes - this.cleanBytes;
    this.cleanBytes = 0;
    this.cleanEnd = offset;
    const kept = this.#pieces.findIndex((piece) => piece.endOffset > offset);
    const gone = this.#pieces.splice(0, kept < 0 ? this.#pieces.length : kept);
    for (const piece of gone) left -= piece.bytes;
    this.#take(this.#pieces[0], left);
  }

  /** The log ends at `offset` now, and `removedBytes` were after it. */
  cutEnd(offset: number, removedBytes: number): void {
    this.#bytes -= removedBytes;
    let left = removedBytes;
    const pieces = this.#pieces;
    const startOf = (index: number): number => pieces[index - 1]?.endOffset ?? this.cleanEnd;
    while (pieces.length > 0 && startOf(pieces.length - 1) >= offset) left -= (pieces.pop() as Piece).bytes;
    const last = pieces.at(-1);
    if (last !== undefined) last.endOffset = Math.min(last.endOffset, offset);
    else this.cleanEnd = Math.min(this.cleanEnd, offset);
    this.#take(last, left);
  }

  /** Compaction freed `freedBytes` below `endOffset` and is not done yet. Where exactly, nobody remembers until it is. */
  shrink(endOffset: number, freedBytes: number): void {
    this.#bytes -= freedBytes;
    this.#take(
      this.#pieces.find((piece) => piece.endOffset >= endOffset),
      freedBytes,
    );
  }

  /** Everything below `endOffset`, `cleanBytes` in all, is clean now. */
  clean(endOffset: number, cleanBytes: number): void {
    assert(cleanBytes <= this.#bytes, `${cleanBytes} bytes are clean of ${this.#bytes}`);
    const gone = this.#pieces.filter((piece) => piece.endOffset <= endOffset);
    this.#pieces = this.#pieces.slice(gone.length);
    for (const piece of [...gone, ...this.#pieces.slice(0, 1)]) {
      this.#cleanMaxTimestampMs = Math.max(this.#cleanMaxTimestampMs, piece.maxTimestampMs);
    }
    this.cleanEnd = Math.max(this.cleanEnd, endOffset);
    const before = this.cleanBytes + gone.reduce((sum, piece) => sum + piece.bytes, 0);
    this.cleanBytes = cleanBytes;
    const [first] = this.#pieces;
    if (first === undefined) this.cleanBytes = this.#bytes;
    else this.#takeFromPieces(first, cleanBytes - before);
  }

  /** The offset at which the first piece begins that may hold a timestamp of `timestampMs` or later; null when none does. */
  firstWith(timestampMs: number, logStartOffset: number): number | null {
    if (this.cleanEnd > logStartOffset && this.#cleanMaxTimestampMs >= timestampMs) return logStartOffset;
    let start = this.cleanEnd;
    for (const piece of this.#pieces) {
      if (piece.maxTimestampMs >= timestampMs) return start;
      start = piece.endOffset;
    }
    return null;
  }

  /**
   * Takes bytes from a piece, or from the clean part; below zero, gives them. What it has not, estimates were wrong about: the
   * others have it.
   */
  #take(wanted: Piece | undefined, bytes: number): void {
    const clean = { bytes: this.cleanBytes };
    const left = takeFrom(clean, wanted === undefined ? bytes : takeFrom(wanted, bytes));
    this.cleanBytes = clean.bytes;
    this.#takeFromPieces(undefined, left);
  }

  #takeFromPieces(wanted: Piece | undefined, bytes: number): void {
    let left = wanted === undefined ? bytes : takeFrom(wanted, bytes);
    for (const piece of this.#pieces) left = takeFrom(piece, left);
    assert(left === 0, `${left} bytes more went than there were`);
  }
}

/** What is left to take. */
function takeFrom(part: { bytes: number }, bytes: number): number {
  const taken = Math.min(bytes, part.bytes);
  part.bytes -= taken;
  return bytes - taken;
}
