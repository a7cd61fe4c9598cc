/**
 * Ids of events: UUIDv7 (RFC 9562 §5.7) as text, in the order in which they were made within a millisecond.
 *
 * ```
 * 48 bits of milliseconds, version, 12 bits that count up within the millisecond, variant, 62 bits random for the millisecond
 * ```
 */
import type { Random } from '@naru/base';

/** Of the text. */
export const ID_BYTES = 36;

/** Random bytes for a millisecond, and for how many they are asked for at a time: the call costs more than the bytes. */
const RANDOM_BYTES = 10;
const RANDOM_AT_A_TIME = 64;
const MAX_COUNT = 0xfff;
const COUNT_AT = 15;
const HEX = new TextEncoder().encode('0123456789abcdef');
const FORM = new TextEncoder().encode('00000000-0000-7000-8000-000000000000');

export class EventIds {
  readonly #random: Random;
  readonly #id = FORM.slice();
  #lastMs = -1;
  #count = 0;
  #pool: Uint8Array = new Uint8Array(0);
  #poolAt = 0;

  constructor(random: Random) {
    this.#random = random;
  }

  /**
   * @param nowMs milliseconds since the Unix epoch, from 0
   * @returns valid until the next call
   */
  next(nowMs: number): Uint8Array {
    if (nowMs !== this.#lastMs || this.#count === MAX_COUNT) this.#begin(nowMs);
    else this.#count += 1;
    const id = this.#id;
    const count = this.#count;
    id[COUNT_AT] = HEX[count >>> 8] as number;
    id[COUNT_AT + 1] = HEX[(count >>> 4) & 15] as number;
    id[COUNT_AT + 2] = HEX[count & 15] as number;
    return id;
  }

  #begin(nowMs: number): void {
    this.#lastMs = nowMs;
    const random = this.#randomBytes();
    // Half of the range is left to count in.
    this.#count = (((random[8] as number) << 8) | (random[9] as number)) & (MAX_COUNT >>> 1);
    const high = Math.floor(nowMs / 2 ** 16);
    for (let i = 0; i < 4; i++) this.#hex(i * 2, high >>> (24 - 8 * i));
    this.#hex(9, nowMs >>> 8);
    this.#hex(11, nowMs);
    this.#hex(19, 0x80 | ((random[0] as number) & 0x3f));
    this.#hex(21, random[1] as number);
    for (let i = 2; i < 8; i++) this.#hex(20 + i * 2, random[i] as number);
  }

  #randomBytes(): Uint8Array {
    if (this.#poolAt === this.#pool.length) {
      this.#pool = this.#random.bytes(RANDOM_BYTES * RANDOM_AT_A_TIME);
      this.#poolAt = 0;
    }
    const from = this.#poolAt;
    this.#poolAt += RANDOM_BYTES;
    return this.#pool.subarray(from, this.#poolAt);
  }

  #hex(at: number, byte: number): void {
    this.#id[at] = HEX[(byte >>> 4) & 15] as number;
    this.#id[at + 1] = HEX[byte & 15] as number;
  }
}
