/**
 * Reads Kafka's primitive types from one frame, and never beyond it.
 *
 * Owns the position and all checks of lengths: nothing is allocated for a length that the remaining bytes cannot hold.
 * Every fault is a {@link MalformedMessageError}.
 */
import type { TopicId } from '@naru/base';
import { readInt16, readInt32, readInt64 } from '../../batch/bytes.ts';
import { readUtf8, utf8Length } from '../../batch/utf8.ts';
import { MalformedMessageError } from './malformed-message-error.ts';

/**
 * Elements of all arrays of one request together. An element of a few bytes becomes an object of a hundred, so that the size
 * of the frame alone would not bound what it takes. More than any cluster has partitions.
 */
export const MAX_REQUEST_ELEMENTS = 250_000;
/** The same for responses, which a client has asked for. */
export const MAX_RESPONSE_ELEMENTS = 4_000_000;

/** Longer strings cannot be written in every version, so that what came in could not go out. Kafka has the same limit. */
export const MAX_STRING_BYTES = 0x7fff;

const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'));
/** Bytes of a UUID before which a dash stands. */
const DASHES = new Set([4, 6, 8, 10]);

export class WireReader {
  readonly #bytes: Uint8Array;
  #at: number;
  #end: number;
  readonly #maxElements: number;
  #elementsLeft: number;

  constructor(bytes: Uint8Array, at = 0, maxElements = MAX_REQUEST_ELEMENTS) {
    this.#bytes = bytes;
    this.#at = at;
    this.#end = bytes.length;
    this.#maxElements = maxElements;
    this.#elementsLeft = maxElements;
  }

  get position(): number {
    return this.#at;
  }

  fail(what: string, at = this.#at): never {
    throw new MalformedMessageError(what, at);
  }

  /** Moves on by `size` bytes and returns where they begin. */
  #take(size: number): number {
    const at = this.#at;
    if (size > this.#end - at) this.fail(`${size} bytes expected, ${this.#end - at} left`);
    this.#at = at + size;
    return at;
  }

  int8(): number {
    return ((this.#bytes[this.#take(1)] as number) << 24) >> 24;
  }

  int16(): number {
    return readInt16(this.#bytes, this.#take(2));
  }

  int32(): number {
    return readInt32(this.#bytes, this.#take(4));
  }

  int64(): number {
    const at = this.#take(8);
    const value = readInt64(this.#bytes, at);
    if (!Number.isSafeInteger(value)) this.fail(`${value} is beyond the integers that are supported (2^53 - 1)`, at);
    return value;
  }

  int64Clamped(): number {
    const value = readInt64(this.#bytes, this.#take(8));
    return Math.min(Math.max(value, Number.MIN_SAFE_INTEGER), Number.MAX_SAFE_INTEGER);
  }

  /** At most 32 bits, in at most five bytes. */
  unsignedVarint(): number {
    let value = 0;
    for (let shift = 0; shift < 35; shift += 7) {
      const byte = this.#bytes[this.#take(1)] as number;
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) {
        if (value > 0xffff_ffff) break;
        return value;
      }
    }
    return this.fail('a varint of more than 32 bits');
  }

  uuid(): TopicId {
    const at = this.#take(16);
    let text = '';
    for (let i = 0; i < 16; i++) {
      if (DASHES.has(i)) text += '-';
      text += HEX[this.#bytes[at + i] as number] as string;
    }
    return text as TopicId;
  }

  /** A length in front of something; −1 for null. */
  #length(compact: boolean, wide: boolean): number {
    if (compact) return this.unsignedVarint() - 1;
    const length = wide ? this.int32() : this.int16();
    if (length < -1) this.fail(`a length of ${length}`);
    return length;
  }

  string(compact: boolean): string | null {
    const length = this.#length(compact, false);
    if (length < 0) return null;
    if (length > MAX_STRING_BYTES) this.fail(`a string of ${length} bytes, the limit is ${MAX_STRING_BYTES}`);
    const text = readUtf8(this.#bytes, this.#take(length), length);
    // A malformed byte becomes three, and an answer that repeats the string has to hold them.
    if (length > MAX_STRING_BYTES / 3 && utf8Length(text) > MAX_STRING_BYTES)
      this.fail('a long string of malformed UTF-8');
    return text;
  }

  /** A view. */
  bytes(compact: boolean): Uint8Array | null {
    const length = this.#length(compact, true);
    if (length < 0) return null;
    const at = this.#take(length);
    return this.#bytes.subarray(at, at + length);
  }

  /** The length of an array whose elements take at least `minBytes` each; −1 for null. */
  arrayLength(compact: boolean, minBytes: number): number {
    const count = this.#length(compact, true);
    const left = this.#end - this.#at;
    if (count * minBytes > left) this.fail(`${count} elements of at least ${minBytes} bytes announced, ${left} left`);
    if (count > this.#elementsLeft) this.fail(`more than ${this.#maxElements} elements in one message`);
    if (count > 0) this.#elementsLeft -= count;
    return count;
  }

  /** Lets the frame end after `size` bytes, and returns where it ended before: hand that to {@link leave}. */
  enter(size: number): number {
    const end = this.#end;
    this.#end = this.#take(size) + size;
    this.#at = this.#end - size;
    return end;
  }

  /** The counterpart of {@link enter}: everything must have been read. */
  leave(end: number): void {
    if (this.#at !== this.#end) this.fail(`${this.#end - this.#at} bytes that nobody expects`);
    this.#end = end;
  }

  skip(size: number): void {
    this.#take(size);
  }
}
