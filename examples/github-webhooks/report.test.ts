import { expect, it } from 'vitest';
import { problems, report } from './report.ts';
import type { GroupOutcome, Outcome } from './report.ts';

const group: GroupOutcome = {
  group: 'auditor',
  handled: 100,
  repeated: 3,
  violations: new Map(),
  mostMembers: 1,
  lag: 0n,
  summary: 'counted',
};

const good: Outcome = {
  published: 100,
  keys: 4,
  acknowledged: 100,
  failed: 0,
  firstFailure: undefined,
  stored: 100n,
  storedBytes: 1_000_000n,
  duplicates: 0,
  groups: [group],
  restartMs: 900,
  publishMs: 1_000,
  totalMs: 1_100,
};

it('finds nothing wrong with a good outcome, and says so', () => {
  expect(problems(good)).toEqual([]);
  expect(report(good)).toContain('All is well');
});

it.each<[string, Partial<Outcome>, string]>([
  ['a lost event', { groups: [{ ...group, handled: 99 }] }, 'auditor lost 1 events'],
  [
    'a violation of the order',
    { groups: [{ ...group, violations: new Map([['a/b', 2]]) }] },
    'out of order, by key: a/b (2)',
  ],
  ['a missing commit', { groups: [{ ...group, lag: 5n }] }, 'left 5 events uncommitted'],
  ['a duplicate that a group has seen', { duplicates: 1 }, '1 events are in the log more than once'],
  ['a duplicate that nobody has seen', { stored: 101n }, '1 events are in the log more than once'],
  ['an acknowledged event that is not stored', { stored: 99n }, 'the log holds 99'],
  [
    'an event that was given up',
    { acknowledged: 99, failed: 1, stored: 99n, firstFailure: 'why' },
    'could not be published: why',
  ],
  ['an event that nobody knows of', { acknowledged: 99, stored: 99n }, 'neither acknowledged nor given up'],
])('finds %s', (_name, change, problem) => {
  const found = problems({ ...good, ...change });
  expect(found).toHaveLength(1);
  expect(found[0]).toContain(problem);
  expect(report({ ...good, ...change })).toContain('WRONG');
});
