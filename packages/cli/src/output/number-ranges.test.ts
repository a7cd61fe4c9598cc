import { describe, expect, it } from 'vitest';
import { NumberRanges, numberRanges } from './number-ranges.ts';

describe('number ranges', () => {
  it('joins what follows one another', () => {
    expect(numberRanges([5, 0, 1, 2, 8, 7])).toBe('0-2,5,7-8');
    expect(numberRanges([])).toBe('');
  });

  it('keeps no more ranges than its limit, and says so', () => {
    const ranges = new NumberRanges(2);
    for (const number of [1, 2, 4, 9, 10]) ranges.add(number);
    expect(ranges.toString()).toBe('1-2,4,…');
  });
});
