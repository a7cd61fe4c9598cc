/**
 * The values of a history: integers that name a writer and a counter of its own, so that whatever is known of them fits into
 * arrays of bytes.
 */
import { assert } from '@naru/base';

/** Counters of one writer. */
const COUNTERS = 2 ** 32;
/** Writers of one history: a value is a safe integer. */
export const MAX_WRITERS = 2 ** 20;

export function valueOf(writer: number, counter: number): number {
  assert(counter < COUNTERS, 'a counter of 32 bits');
  return writer * COUNTERS + counter;
}

export function writerOf(value: number): number {
  return Math.floor(value / COUNTERS);
}

export function counterOf(value: number): number {
  return value % COUNTERS;
}

/** Whether it is a value of any writer at all. */
export function isValue(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0 && writerOf(value) < MAX_WRITERS;
}

/** For people. */
export function describeValue(value: number): string {
  return isValue(value) ? `${writerOf(value)}:${counterOf(value)}` : String(value);
}

/** 32 bits of a value, never 0: where a value was checked once, it is known again by them. */
export function fingerprint(value: number): number {
  let mixed = Math.imul(counterOf(value) ^ 0x9e3779b9, 0x85ebca6b) ^ Math.imul(writerOf(value) + 1, 0xc2b2ae35);
  mixed = Math.imul(mixed ^ (mixed >>> 15), 0x2c1b3c6d);
  mixed = (mixed ^ (mixed >>> 13)) >>> 0;
  return mixed === 0 ? 1 : mixed;
}

/** Bytes by index, all 0 at first, that grow as they are set. */
export class GrowingBytes {
  #bytes = new Uint8Array(1_024);

  get(index: number): number {
    return this.#bytes[index] ?? 0;
  }

  /** Sets bits beside those that are set. */
  add(index: number, bits: number): void {
    if (index >= this.#bytes.length) {
      const grown = new Uint8Array(Math.max(index + 1, 2 * this.#bytes.length));
      grown.set(this.#bytes);
      this.#bytes = grown;
    }
    this.#bytes[index] = this.get(index) | bits;
  }

  /** Everything behind it is 0. */
  get length(): number {
    return this.#bytes.length;
  }
}
