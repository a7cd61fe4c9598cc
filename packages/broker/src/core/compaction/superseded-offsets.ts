/**
 * Offsets of records whose keys came again later: one bit for each offset of a range. What compaction goes by when there are
 * too many keys to hold them all at once: it looks for the superseded records of one share of the keys after another.
 */
import { assert } from '@naru/base';

export class SupersededOffsets {
  readonly #from: number;
  readonly #bits: Uint8Array;

  /** Offsets in [from, to). */
  constructor(from: number, to: number) {
    assert(to >= from, 'a range of offsets');
    this.#from = from;
    this.#bits = new Uint8Array(SupersededOffsets.sizeBytes(from, to));
  }

  /** Bytes that a range takes. */
  static sizeBytes(from: number, to: number): number {
    return Math.ceil((to - from) / 8);
  }

  /** Offsets outside the range count as not superseded. */
  add(offset: number): void {
    const bit = offset - this.#from;
    const byte = Math.floor(bit / 8);
    if (byte >= 0 && byte < this.#bits.length) this.#bits[byte] = (this.#bits[byte] as number) | (1 << (bit % 8));
  }

  isSuperseded(_key: Uint8Array, offset: number): boolean {
    const bit = offset - this.#from;
    return (((this.#bits[Math.floor(bit / 8)] ?? 0) >> (bit % 8)) & 1) === 1;
  }
}
