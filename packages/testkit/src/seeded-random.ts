/** Random numbers that a seed determines: the same seed gives the same stream, on every machine. */
import type { Random } from '@naru/base';
import { assert } from '@naru/base';

/** 2^32 / golden ratio: Weyl sequence of the generator (SplitMix32). */
const STEP = 0x9e3779b9;

export class SeededRandom implements Random {
  readonly seed: number;
  #state: number;

  /** @param seed any integer; 32 bits of it count */
  constructor(seed: number) {
    this.seed = seed;
    this.#state = seed | 0;
  }

  float(): number {
    return this.#next() / 2 ** 32;
  }

  integer(bound: number): number {
    assert(bound > 0, 'a bound above 0');
    return Math.floor(this.float() * bound);
  }

  bytes(length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    for (let i = 0; i < length; i++) bytes[i] = this.#next();
    return bytes;
  }

  /** True with the given probability, 0 to 1. */
  chance(probability: number): boolean {
    return this.float() < probability;
  }

  pick<T>(values: readonly T[]): T {
    assert(values.length > 0, 'something to pick from');
    return values[this.integer(values.length)] as T;
  }

  /** A generator of its own stream, so that what one part draws does not shift another's. */
  fork(): SeededRandom {
    return new SeededRandom(this.#next());
  }

  #next(): number {
    this.#state = (this.#state + STEP) | 0;
    let mixed = this.#state ^ (this.#state >>> 16);
    mixed = Math.imul(mixed, 0x21f0aaad);
    mixed ^= mixed >>> 15;
    mixed = Math.imul(mixed, 0x735a2d97);
    return (mixed ^ (mixed >>> 15)) >>> 0;
  }
}
