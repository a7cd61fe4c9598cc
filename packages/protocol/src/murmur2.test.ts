import { createRequire } from 'node:module';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { murmur2, partitionForKey } from './murmur2.ts';

/** Not exported by kafkajs, hence from inside its package. Kafka's own partitioner since kafkajs 2. */
const kafkajsMurmur2 = createRequire(import.meta.url)('kafkajs/src/producer/partitioners/default/murmur2') as (
  key: Buffer,
) => number;

describe('murmur2', () => {
  // From Apache Kafka's own UtilsTest.
  test.each([
    ['21', -973932308],
    ['foobar', -790332482],
    ['a-little-bit-long-string', -985981536],
    ['a-little-bit-longer-string', -1486304829],
    ['lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8', -58897971],
    ['abc', 479470107],
  ])('of %j is what Kafka says', (text, expected) => {
    expect(murmur2(new TextEncoder().encode(text))).toBe(expected);
  });

  test('is that of kafkajs for any bytes, and so is the partition', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), fc.integer({ min: 1, max: 10_000 }), (key, partitionCount) => {
        const theirs = kafkajsMurmur2(Buffer.from(key));
        expect(murmur2(key)).toBe(theirs);
        expect(partitionForKey(key, partitionCount)).toBe((theirs & 0x7fffffff) % partitionCount);
      }),
    );
  });

  test('a topic without partitions is a bug of the caller', () => {
    expect(() => partitionForKey(new Uint8Array(1), 0)).toThrow('partitions');
  });
});
