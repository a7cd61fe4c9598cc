import { expect, test } from 'vitest';
import { ratioOf, summary } from './statistics.ts';

test('the median of an even number of values is between the two in the middle', () => {
  expect(summary([4, 1, 3, 2])).toEqual({ median: 2.5, min: 1, max: 4 });
  expect(summary([5, 1, 3])).toEqual({ median: 3, min: 1, max: 5 });
});

test('a ratio is above 1 where the subject is better, whether more or less is better', () => {
  expect(ratioOf([20], [10], 'more')).toEqual({ ratio: 2, interval: null });
  expect(ratioOf([20], [10], 'less')).toEqual({ ratio: 0.5, interval: null });
});

test('rounds that slow both alike leave the interval of the ratio narrow', () => {
  const { ratio, interval } = ratioOf([20, 10, 40], [10, 5, 20], 'more');
  expect(ratio).toBe(2);
  expect(interval?.[0]).toBeCloseTo(2);
  expect(interval?.[1]).toBeCloseTo(2);
});

test('the interval is that of Student: known values', () => {
  // Logarithms 0, 1, 2: mean 1, deviation 1, t = 4.303 with two degrees of freedom.
  const subject = [1, Math.E, Math.E ** 2];
  const margin = 4.303 / Math.sqrt(3);
  const { interval } = ratioOf(subject, [1, 1, 1], 'more');
  expect(Math.log(interval?.[0] ?? 0)).toBeCloseTo(1 - margin);
  expect(Math.log(interval?.[1] ?? 0)).toBeCloseTo(1 + margin);
});
