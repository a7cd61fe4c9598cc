/**
 * Kafka's partitioner for keyed records, so that every client puts a key into the same partition: MurmurHash2 (32 bits)
 * with Kafka's seed, made positive by clearing the sign bit.
 */
import { assert } from '@naru/base';

const SEED = 0x9747b28c;
const MULTIPLIER = 0x5bd1e995;
const SHIFT = 24;

/** The hash as a signed 32-bit integer, as in Java. */
export function murmur2(bytes: Uint8Array): number {
  const length = bytes.length;
  const wholeWords = length - (length % 4);
  let hash = SEED ^ length;
  for (let i = 0; i < wholeWords; i += 4) {
    let word =
      (bytes[i] as number) |
      ((bytes[i + 1] as number) << 8) |
      ((bytes[i + 2] as number) << 16) |
      ((bytes[i + 3] as number) << 24);
    word = Math.imul(word, MULTIPLIER);
    word = Math.imul(word ^ (word >>> SHIFT), MULTIPLIER);
    hash = Math.imul(hash, MULTIPLIER) ^ word;
  }
  if (wholeWords < length) {
    for (let i = length - 1; i >= wholeWords; i--) hash ^= (bytes[i] as number) << ((i - wholeWords) * 8);
    hash = Math.imul(hash, MULTIPLIER);
  }
  hash = Math.imul(hash ^ (hash >>> 13), MULTIPLIER);
  return hash ^ (hash >>> 15);
}

/** The partition, from 0, that Kafka's default partitioner picks for `key`. */
export function partitionForKey(key: Uint8Array, partitionCount: number): number {
  assert(partitionCount > 0, 'a topic has partitions');
  return (murmur2(key) & 0x7fff_ffff) % partitionCount;
}
