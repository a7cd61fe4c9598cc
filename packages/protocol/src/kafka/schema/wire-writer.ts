/**
 * Writes Kafka's primitive types into a list of buffers that together are the bytes.
 *
 * Owns the memory of what it writes; buffers that are spliced in stay the caller's and must not change before they are
 * sent. Values that do not fit their type are bugs of the caller and assert.
 */
import { assert } from '@naru/base';
import type { TopicId } from '@naru/base';
import { allocate } from '../../allocate.ts';
import { writeInt16, writeInt32, writeInt64 } from '../../batch/bytes.ts';
import { utf8Length, writeUtf8 } from '../../batch/utf8.ts';
import { MAX_STRING_BYTES } from './wire-reader.ts';

/** First piece of memory; most answers are smaller. */
const FIRST_BYTES = 256;
/** Pieces double up to here. */
const LARGEST_BYTES = 65_536;
/** Smaller buffers are copied: a piece of its own costs the socket more than that. */
const SPLICE_FROM_BYTES = 512;
const MAX_FRAME_BYTES = 0x7fff_ffff;
const HEX_DIGITS = '0123456789abcdef';
const DASH = 0x2d;

export class WireWriter {
  readonly #parts: Uint8Array[] = [];
  #partBytes = 0;
  #bytes = allocate(FIRST_BYTES);
  /** What is written from here to `#at` is not in a part yet. */
  #start = 0;
  #at = 0;

  /** Bytes written. */
  get size(): number {
    return this.#partBytes + this.#at - this.#start;
  }

  /** Room for `size` bytes in one piece of memory: returns where they begin, and moves on. */
  #take(size: number): number {
    if (size > this.#bytes.length - this.#at) {
      this.#closePart();
      this.#bytes = allocate(Math.max(size, Math.min(this.#bytes.length * 2, LARGEST_BYTES)));
      this.#start = 0;
      this.#at = 0;
    }
    const at = this.#at;
    this.#at = at + size;
    return at;
  }

  #closePart(): void {
    if (this.#at > this.#start) this.#push(this.#bytes.subarray(this.#start, this.#at));
    this.#start = this.#at;
  }

  #push(part: Uint8Array): void {
    this.#parts.push(part);
    this.#partBytes += part.length;
  }

  int8(value: number): void {
    assert((value << 24) >> 24 === value, 'the value is an int8');
    const at = this.#take(1);
    this.#bytes[at] = value;
  }

  int16(value: number): void {
    assert((value << 16) >> 16 === value, 'the value is an int16');
    const at = this.#take(2);
    writeInt16(this.#bytes, at, value);
  }

  int32(value: number): void {
    assert((value | 0) === value, 'the value is an int32');
    const at = this.#take(4);
    writeInt32(this.#bytes, at, value);
  }

  int64(value: number): void {
    assert(Number.isSafeInteger(value), 'the value is a safe integer');
    const at = this.#take(8);
    writeInt64(this.#bytes, at, value);
  }

  /** @param value up to 32 bits */
  unsignedVarint(value: number): void {
    let rest = value;
    for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) {
      const at = this.#take(1);
      this.#bytes[at] = rest | 0x80;
    }
    const at = this.#take(1);
    this.#bytes[at] = rest;
  }

  uuid(value: TopicId): void {
    const at = this.#take(16);
    let digits = 0;
    for (let i = 0; i < value.length; i++) {
      const code = value.charCodeAt(i);
      if (code === DASH) continue;
      const digit = HEX_DIGITS.indexOf(value[i] as string);
      assert(digit >= 0 && digits < 32, 'the value is a UUID in lower case');
      if (digits % 2 === 0) this.#bytes[at + digits / 2] = digit << 4;
      else this.#bytes[at + (digits - 1) / 2] = (this.#bytes[at + (digits - 1) / 2] as number) | digit;
      digits += 1;
    }
    assert(digits === 32, 'the value is a UUID in lower case');
  }

  /** The length in front of something; −1 for null. */
  length(length: number, compact: boolean): void {
    if (compact) this.unsignedVarint(length + 1);
    else this.int32(length);
  }

  string(value: string | null, compact: boolean): void {
    const length = value === null ? -1 : utf8Length(value);
    assert(length <= MAX_STRING_BYTES, 'the string is not longer than a string may be');
    if (compact) this.unsignedVarint(length + 1);
    else this.int16(length);
    if (value === null) return;
    const at = this.#take(length);
    writeUtf8(this.#bytes, at, value, length);
  }

  /** Copies. */
  bytes(value: Uint8Array): void {
    const at = this.#take(value.length);
    this.#bytes.set(value, at);
  }

  /** Takes the buffer itself, unless it is small. */
  splice(value: Uint8Array): void {
    if (value.length < SPLICE_FROM_BYTES) {
      this.bytes(value);
      return;
    }
    this.#closePart();
    this.#push(value);
  }

  /** Everything that another writer has; that one must not be used any more. */
  append(other: WireWriter): void {
    for (const part of other.finish()) this.splice(part);
  }

  /** All that was written. The writer must not be used any more. */
  finish(): Uint8Array[] {
    this.#closePart();
    return this.#parts;
  }

  /** As {@link finish}, with the number of bytes behind the first four in these four. The first write was an int32. */
  finishFrame(): Uint8Array[] {
    const parts = this.finish();
    const bytes = this.#partBytes - 4;
    assert(bytes >= 0 && bytes <= MAX_FRAME_BYTES, 'the frame fits its size field');
    writeInt32(parts[0] as Uint8Array, 0, bytes);
    return parts;
  }
}
