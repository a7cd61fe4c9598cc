import type { GroupTrace } from '@naru/client';
import { expect, it } from 'vitest';
import type { PoisonOutcome } from './poison.ts';
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

const handled: GroupTrace = {
  group: 'notifier',
  state: 'processed',
  attempts: 1,
  atMs: 1_000,
  memberId: 'm',
  durationMs: 1,
  note: '',
  reason: '',
  error: '',
  nextAttemptMs: undefined,
  waitingFor: '',
  deadLetterId: '',
  behind: '',
  history: [{ atMs: 500, what: 'dead-lettered', memberId: 'm', attempts: 3, detail: 'no issue' }],
};

const poison: PoisonOutcome = {
  requestId: 'r-1',
  reason: 'attempts-exhausted',
  error: 'TypeError: no issue',
  attempts: 3,
  parkedBehind: 1,
  trace: {
    requestId: 'r-1',
    topic: 'hooks',
    topicId: '00000000-0000-4000-8000-000000000000',
    partition: 0,
    offset: 7n,
    timestampMs: 1,
    sizeBytes: 1,
    type: 'hooks',
    id: 'e-1',
    key: 'a/b',
    isGone: false,
    transaction: null,
    groups: [handled],
  },
};

const good: Outcome = {
  poison,
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
  expect(report(good)).toContain('naru trace r-1\n  hooks/0/7 of a/b\n  notifier: processed at 00:00:01.000\n');
  expect(report(good)).toContain('dead-lettered   attempt 3  no issue');
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
  ['a dead letter that was not redriven', { poison: null }, 'was not redriven'],
  [
    'a redriven dead letter that was not handled',
    { poison: { ...poison, trace: { ...poison.trace, groups: [{ ...handled, state: 'dead-lettered' }] } } },
    'is dead-lettered in notifier',
  ],
  ['an event that nobody knows of', { acknowledged: 99, stored: 99n }, 'neither acknowledged nor given up'],
])('finds %s', (_name, change, problem) => {
  const found = problems({ ...good, ...change });
  expect(found).toHaveLength(1);
  expect(found[0]).toContain(problem);
  expect(report({ ...good, ...change })).toContain('WRONG');
});
