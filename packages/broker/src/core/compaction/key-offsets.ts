/**
 * The latest offset of each key, for compaction: millions of keys in a few typed arrays, which the garbage collector does
 * not look into.
 *
 * Invariant: keys are compared whole, so that two keys of one hash are two keys.
 */
import { assert } from '@naru/base';

export interface KeyOffsetsOptions {
  /** Bytes in use from which on {@link KeyOffsets.isFull}; memory is at most about twice that, since arrays double. */
  readonly maxBytes: number;
  /** Makes the hash one that nobody outside can foresee. An integer. Default 0. */
  readonly seed?: number | undefined;
  /** Takes only one share of the keys, of `2 ** bits` shares that are about as large. Default: all keys. */
  readonly share?: KeyShare | undefined;
}

export interface KeyShare {
  /** 0 to {@link MAX_SHARE_BITS}. */
  readonly bits: number;
  /** 0 to `2 ** bits - 1`. */
  readonly index: number;
}

export const MAX_SHARE_BITS = 8;
/** Key positions are 32 bits; keys of a last batch come on top of the limit. */
const MAX_BYTES = 2 ** 30;
const FIRST_SLOTS = 1024;
const FIRST_KEY_BYTES = 16 * 1024;
/** Offset, end of the key, hash, and two slots or so. */
const ENTRY_BYTES = 8 + 4 + 4 + 8;

export class KeyOffsets {
  readonly #maxBytes: number;
  readonly #seed: number;
  /** Odd, hence no bit of a key is lost in multiplying. */
  readonly #multiplier: number;
  readonly #share: KeyShare;
  /** Entry number + 1 at the place that the hash says, or at the next free one; 0 where there is none. */
  #slots = new Int32Array(FIRST_SLOTS);
  #count = 0;
  #offsets = new Float64Array(FIRST_SLOTS);
  #hashes = new Int32Array(FIRST_SLOTS);
  /** Where the key of each entry ends in {@link #keys}; it begins where the one before ends. */
  #ends = new Uint32Array(FIRST_SLOTS);
  #keys = new Uint8Array(FIRST_KEY_BYTES);
  #keyBytes = 0;

  constructor({ maxBytes, seed = 0, share = { bits: 0, index: 0 } }: KeyOffsetsOptions) {
    assert(maxBytes > 0 && maxBytes <= MAX_BYTES, 'the limit lies between 1 byte and 1 GiB');
    assert(share.bits >= 0 && share.bits <= MAX_SHARE_BITS && share.index < 2 ** share.bits, 'a share that exists');
    this.#maxBytes = maxBytes;
    this.#seed = seed | 0;
    this.#multiplier = Math.imul(seed + 0x2545f491, 0x9e3779b1) | 1;
    this.#share = share;
  }

  /** Keys. */
  get size(): number {
    return this.#count;
  }

  /** Bytes in use. */
  get sizeBytes(): number {
    return this.#count * ENTRY_BYTES + this.#keyBytes;
  }

  /**
   * Whether the limit is reached. Keys are still taken: whoever asks between batches overshoots by the keys of one, and
   * always gets on.
   */
  get isFull(): boolean {
    return this.sizeBytes >= this.#maxBytes;
  }

  /** Notes that `key`, which is copied, is at `offset`; the largest counts. Does nothing for keys of another share. */
  put(key: Uint8Array, offset: number): void {
    const hash = this.#hash(key);
    if (!this.#isOwn(hash)) return;
    const slot = this.#find(key, hash);
    const entry = this.#slots[slot] as number;
    if (entry > 0) {
      if ((this.#offsets[entry - 1] as number) < offset) this.#offsets[entry - 1] = offset;
      return;
    }
    this.#add(key, hash, offset, slot);
    // Above two thirds looking for a free place takes long.
    if (this.#count * 3 > this.#slots.length * 2) this.#growSlots();
  }

  /** The largest offset of `key`, or −1 for one that is not known. */
  get(key: Uint8Array): number {
    const entry = this.#slots[this.#find(key, this.#hash(key))] as number;
    return entry === 0 ? -1 : (this.#offsets[entry - 1] as number);
  }

  isSuperseded(key: Uint8Array, offset: number): boolean {
    return offset < this.get(key);
  }

  /** The slot of the key, or the free one where it belongs. */
  #find(key: Uint8Array, hash: number): number {
    const mask = this.#slots.length - 1;
    for (let slot = hash & mask; ; slot = (slot + 1) & mask) {
      const entry = this.#slots[slot] as number;
      if (entry === 0 || (this.#hashes[entry - 1] === hash && this.#isKeyOf(entry - 1, key))) return slot;
    }
  }

  #isKeyOf(entry: number, key: Uint8Array): boolean {
    const start = entry === 0 ? 0 : (this.#ends[entry - 1] as number);
    if ((this.#ends[entry] as number) - start !== key.length) return false;
    for (let i = 0; i < key.length; i++) if (this.#keys[start + i] !== key[i]) return false;
    return true;
  }

  #add(key: Uint8Array, hash: number, offset: number, slot: number): void {
    const end = this.#keyBytes + key.length;
    if (end > this.#keys.length) {
      const larger = new Uint8Array(Math.max(end, this.#keys.length * 2));
      larger.set(this.#keys.subarray(0, this.#keyBytes));
      this.#keys = larger;
    }
    if (this.#count === this.#offsets.length) this.#growEntries();
    this.#keys.set(key, this.#keyBytes);
    this.#keyBytes = end;
    this.#offsets[this.#count] = offset;
    this.#hashes[this.#count] = hash;
    this.#ends[this.#count] = end;
    this.#count += 1;
    this.#slots[slot] = this.#count;
  }

  #growEntries(): void {
    const length = this.#offsets.length * 2;
    const offsets = new Float64Array(length);
    offsets.set(this.#offsets);
    const hashes = new Int32Array(length);
    hashes.set(this.#hashes);
    const ends = new Uint32Array(length);
    ends.set(this.#ends);
    this.#offsets = offsets;
    this.#hashes = hashes;
    this.#ends = ends;
  }

  #growSlots(): void {
    const slots = new Int32Array(this.#slots.length * 2);
    const mask = slots.length - 1;
    for (let entry = 0; entry < this.#count; entry++) {
      let slot = (this.#hashes[entry] as number) & mask;
      while (slots[slot] !== 0) slot = (slot + 1) & mask;
      slots[slot] = entry + 1;
    }
    this.#slots = slots;
  }

  #hash(key: Uint8Array): number {
    let hash = this.#seed ^ key.length;
    for (let i = 0; i < key.length; i++) hash = Math.imul(hash ^ (key[i] as number), this.#multiplier) ^ (hash >>> 15);
    hash = Math.imul(hash ^ (hash >>> 16), 0x21f0aaad);
    hash = Math.imul(hash ^ (hash >>> 15), 0x735a2d97);
    return hash ^ (hash >>> 15);
  }

  /** By the upper bits; slots go by the lower ones. */
  #isOwn(hash: number): boolean {
    const { bits, index } = this.#share;
    return bits === 0 || hash >>> (32 - bits) === index;
  }
}
