import { expect, test } from 'vitest';
import { parsePeerOptions } from './peer-options.ts';

test('a quick run is one short round, unless told otherwise', () => {
  expect(parsePeerOptions(['--quick'])).toMatchObject({ rounds: 1, isQuick: true, settings: { seconds: 1 } });
  expect(parsePeerOptions(['--quick', '--rounds', '2'])).toMatchObject({ rounds: 2, isQuick: true });
});

test('names that nothing has are refused', () => {
  expect(parsePeerOptions(['--only', 'produce-1kb', '--servers', 'naru,kafka'])?.servers).toEqual(['naru', 'kafka']);
  expect(() => parsePeerOptions(['--only', 'prodce'])).toThrow('there is no scenario prodce');
  expect(() => parsePeerOptions(['--servers', 'naru,pulsar'])).toThrow('there is no server pulsar');
  expect(() => parsePeerOptions(['--durability', 'some'])).toThrow('expected fsync or no-fsync, got some');
  expect(() => parsePeerOptions(['--rounds', '0'])).toThrow('--rounds: expected a number above 0');
});
