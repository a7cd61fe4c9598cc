import { describe, expect, it } from 'vitest';
import { openSegments } from './storage.ts';

describe('openSegments', () => {
  it.each([
    ['leaves room for connections and others', 20_000, 2_000, 17_000],
    ['has an end', 1_048_576, 2_000, 32_768],
    ['is never less than what always worked', 1_024, 2_000, 512],
    ['is that, too, where nobody tells what may be open', null, 2_000, 512],
  ])('%s', (_what, openable, connections, expected) => {
    expect(openSegments(openable, connections)).toBe(expected);
  });
});
