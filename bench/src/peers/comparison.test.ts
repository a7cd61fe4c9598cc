import { expect, test } from 'vitest';
import { comparisons, verdicts } from './comparison.ts';
import { eventsPerSecond, p99Ms } from './figures.ts';
import type { PeerMeasurement, PeerScenario, PeerTarget, Subject } from './peer-scenario.ts';
import type { ScenarioResult } from './peer-runner.ts';

const target = { subject: 'naru', peer: 'nats', figure: p99Ms.name, what: 'quick' };

function measured(events: number, p99: number): PeerMeasurement {
  const latency = { count: events, p50: p99, p99, p999: p99, max: p99 };
  const server = { cpuSeconds: 0, rssBytes: 0, peakRssBytes: 0 };
  return { events, bytes: 0, seconds: 1, latency, server, clients: [] };
}

function result(
  subjects: readonly [Subject, name: string, run: PeerMeasurement][],
  targets: readonly PeerTarget[] = [],
) {
  const scenario: PeerScenario = {
    name: 'test',
    title: 'Test',
    what: '',
    subjects: [],
    figures: [eventsPerSecond, p99Ms],
    targets,
    run: () => Promise.reject(new Error('not run')),
  };
  const all = subjects.map(([subject, name, run]) => ({
    subject,
    name,
    runs: [run],
    configuration: '',
    commandLine: '',
  }));
  return { scenario, subjects: all, failures: [] } satisfies ScenarioResult;
}

test('Naru is compared in its own class and, synced, with those that are not; never unsynced with those that are', () => {
  const subject = (server: Subject['server'], durability: Subject['durability']): Subject => ({
    server,
    durability,
    client: 'none',
  });
  const found = comparisons(
    result([
      [subject('naru', 'fsync'), 'naru', measured(10, 1)],
      [subject('naru', 'no-fsync'), 'naru unsynced', measured(40, 1)],
      [subject('nats', 'fsync'), 'nats', measured(5, 1)],
      [subject('nats', 'no-fsync'), 'nats unsynced', measured(20, 1)],
    ]),
  ).filter(({ figure }) => figure === eventsPerSecond.name);
  expect(found.map(({ subject, peer, durability, ratio }) => [subject, peer, durability, ratio])).toEqual([
    ['naru', 'nats', 'equal', 2],
    ['naru', 'nats unsynced', 'ours synced', 0.5],
    ['naru unsynced', 'nats unsynced', 'equal', 2],
  ]);
});

test.each([
  { p99: 5, atLeast: 1, allowance: undefined, isReached: false },
  { p99: 5, atLeast: 0.5, allowance: undefined, isReached: false },
  { p99: 5, atLeast: 0.5, allowance: 1, isReached: true },
  { p99: 6, atLeast: 0.5, allowance: 1, isReached: false },
  { p99: 2, atLeast: 1, allowance: undefined, isReached: true },
])(
  '$p99 ms beside 2 ms, wanted $atLeast with $allowance more: $isReached',
  ({ p99, atLeast, allowance, isReached }) => {
    const subjects: [Subject, string, PeerMeasurement][] = [
      [{ server: 'naru', durability: 'fsync', client: 'none' }, 'naru', measured(1, p99)],
      [{ server: 'nats', durability: 'fsync', client: 'none' }, 'nats', measured(1, 2)],
    ];
    const [verdict] = verdicts(result(subjects, [{ ...target, atLeast, allowance }]));
    expect(verdict?.isReached).toBe(isReached);
  },
);
