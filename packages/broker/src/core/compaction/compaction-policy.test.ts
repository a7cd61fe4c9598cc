import { describe, expect, test } from 'vitest';
import { isCompactionDue, isSealDue, uncompactedFromMs, type CompactionConfig } from './compaction-policy.ts';

const NOW = 1_000_000;
const MIB = 1024 * 1024;
const config: CompactionConfig = {
  minCompactionLagMs: 0,
  maxCompactionLagMs: Infinity,
  minDirtyRatio: 0.5,
  deleteRetentionMs: 86_400_000,
  segmentMs: 10_000,
};
const none = { cleanBytes: 0, dirtyBytes: 0, openBytes: 0, dirtySinceMs: null };

describe('compaction is due', () => {
  test.each([
    ['at the dirty ratio', { cleanBytes: 100, dirtyBytes: 100 }, {}, true],
    ['not below it', { cleanBytes: 101, dirtyBytes: 100 }, {}, false],
    ['when all is dirty', { dirtyBytes: 1 }, {}, true],
    ['never when nothing is dirty', { cleanBytes: 100, openBytes: 100 }, { minDirtyRatio: 0 }, false],
    ['with a ratio of 0 as soon as something is', { cleanBytes: 1e9, dirtyBytes: 1 }, { minDirtyRatio: 0 }, true],
    ['at the largest lag', { cleanBytes: 1e9, dirtyBytes: 1 }, { maxCompactionLagMs: 500 }, true],
    ['not before it', { cleanBytes: 1e9, dirtyBytes: 1 }, { maxCompactionLagMs: 501 }, false],
  ])('%s', (_, status, settings, due) => {
    const dirtySinceMs = NOW - 500;
    expect(isCompactionDue({ ...none, dirtySinceMs, ...status }, { ...config, ...settings }, NOW)).toBe(due);
  });

  test('for events older than the smallest lag only; without one, also for those of the future', () => {
    expect(uncompactedFromMs(config, NOW)).toBeUndefined();
    expect(uncompactedFromMs({ ...config, minCompactionLagMs: 400 }, NOW)).toBe(NOW - 400);
  });
});

describe('closing the open segment is due', () => {
  test.each([
    ['at its age', { openBytes: 1, ageMs: 10_000 }, {}, true],
    ['not before', { openBytes: 1, ageMs: 9_999 }, {}, false],
    ['at the largest lag', { openBytes: 1, ageMs: 700 }, { maxCompactionLagMs: 700 }, true],
    ['never when it is empty', { cleanBytes: 5, ageMs: 1e9 }, {}, false],
    ['not by age while closed ones are dirty', { openBytes: 1, dirtyBytes: 1, ageMs: 1e9 }, {}, false],
    ['when large and above the ratio', { openBytes: MIB, cleanBytes: MIB, ageMs: 0 }, {}, true],
    ['not when small', { openBytes: MIB - 1, ageMs: 0 }, {}, false],
    ['not when large beside a larger clean part', { openBytes: MIB, cleanBytes: MIB + 1, ageMs: 0 }, {}, false],
    ['not while it is too young to be compacted', { openBytes: MIB, ageMs: 5 }, { minCompactionLagMs: 6 }, false],
  ])('%s', (_, { ageMs, ...status }, settings, due) => {
    expect(isSealDue({ ...none, ...status, dirtySinceMs: NOW - ageMs }, { ...config, ...settings }, NOW)).toBe(due);
  });
});
