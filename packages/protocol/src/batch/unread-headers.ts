/**
 * The headers of a record as they lie in its batch, read when somebody asks. Values are views of the batch.
 *
 * Invariant: every length in the bytes was checked by whoever made this (record-reader.ts).
 */
import type { RecordHeader } from './batch-builder.ts';
import { readUtf8, utf8Length, writeUtf8 } from './utf8.ts';

/** Encoded keys that are looked for: a handful of names that readers know. */
const MAX_KNOWN_KEYS = 100;
const knownKeys = new Map<string, Uint8Array>();

export class UnreadHeaders {
  readonly #bytes: Uint8Array;
  readonly #start: number;
  readonly #count: number;
  #position = 0;
  #all: readonly RecordHeader[] | null = null;

  constructor(bytes: Uint8Array, start: number, count: number) {
    this.#bytes = bytes;
    this.#start = start;
    this.#count = count;
  }

  get all(): readonly RecordHeader[] {
    this.#all ??= this.#read();
    return this.#all;
  }

  /** The value of the last header of that key; undefined without one. */
  last(key: string): Uint8Array | null | undefined {
    const wanted = encodedKey(key);
    let found: Uint8Array | null | undefined;
    this.#position = this.#start;
    for (let i = 0; i < this.#count; i++) {
      const keyBytes = this.#readLength();
      const at = this.#position;
      this.#position += keyBytes;
      const value = this.#readLength();
      if (keyBytes === wanted.length && this.#holds(wanted, at)) found = this.#view(value);
      if (value > 0) this.#position += value;
    }
    return found;
  }

  #read(): readonly RecordHeader[] {
    const headers: RecordHeader[] = [];
    this.#position = this.#start;
    for (let i = 0; i < this.#count; i++) {
      const keyBytes = this.#readLength();
      const key = readUtf8(this.#bytes, this.#position, keyBytes);
      this.#position += keyBytes;
      const length = this.#readLength();
      headers.push({ key, value: this.#view(length) });
      if (length > 0) this.#position += length;
    }
    return headers;
  }

  #view(length: number): Uint8Array | null {
    return length < 0 ? null : this.#bytes.subarray(this.#position, this.#position + length);
  }

  #holds(wanted: Uint8Array, at: number): boolean {
    for (let i = 0; i < wanted.length; i++) if (this.#bytes[at + i] !== wanted[i]) return false;
    return true;
  }

  /** A varint of at most 32 bits, which may be written with more bytes than it needs. */
  #readLength(): number {
    let zigzag = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = this.#bytes[this.#position++] as number;
      if (shift < 32) zigzag |= (byte & 0x7f) << shift;
      if (byte < 0x80) return (zigzag >>> 1) ^ -(zigzag & 1);
    }
  }
}

/** Malformed keys of records become U+FFFD when they are read, and are not found by it. */
function encodedKey(key: string): Uint8Array {
  let bytes = knownKeys.get(key);
  if (bytes === undefined) {
    const length = utf8Length(key);
    bytes = new Uint8Array(length);
    writeUtf8(bytes, 0, key, length);
    if (knownKeys.size >= MAX_KNOWN_KEYS) knownKeys.clear();
    knownKeys.set(key, bytes);
  }
  return bytes;
}
