import { expect, test } from 'vitest';
import { parseOptions } from './options.ts';

test('a smoke run is short and once, unless told otherwise', () => {
  expect(parseOptions(['--smoke'])).toMatchObject({ seconds: 0.5, repetitions: 1 });
  expect(parseOptions(['--smoke', '--seconds', '2'])).toMatchObject({ seconds: 2, repetitions: 1 });
});

test('--only takes comparisons and scenarios, and refuses other names', () => {
  expect(parseOptions(['--only', 'consume', '--only', 'publish-file'])?.only).toEqual(['consume', 'publish-file']);
  expect(() => parseOptions(['--only', 'publsh'])).toThrow('no comparison or scenario publsh');
});

test('numbers that make no sense are refused by name', () => {
  expect(() => parseOptions(['--seconds', '0'])).toThrow('--seconds: expected a number above 0, got 0');
  expect(() => parseOptions(['--repetitions', 'many'])).toThrow('--repetitions');
});

test('--help is no options', () => {
  expect(parseOptions(['--help'])).toBeNull();
});
