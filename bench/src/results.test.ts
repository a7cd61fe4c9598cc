import { describe, expect, test } from 'vitest';
import type { Measurement } from './measurement.ts';
import { ratios, scenarioResult, verdicts } from './results.ts';
import type { ComparisonResult } from './results.ts';
import type { Comparison, Scenario } from './scenario.ts';

const scenario = (name: string): Scenario => ({ name, what: name, run: () => Promise.reject(new Error('not run')) });
const moved = (bytes: number): Measurement => ({ events: 1, bytes, seconds: 2, processes: [] });
const took = (p50: number, p99: number): Measurement => ({
  ...moved(1),
  latency: { count: 1, p50, p99, p999: p99, max: p99 },
});

function result(kind: Comparison['kind'], subject: Measurement[], limit: Measurement[]): ComparisonResult {
  const comparison: Comparison = {
    name: 'c',
    title: 'c',
    kind,
    subjects: [scenario('ours')],
    limits: [scenario('bare')],
    targets: [
      {
        subject: 'ours',
        limits: ['bare'],
        what: 'half of it',
        isReached: (ours, bare) => ours.bytes / ours.seconds >= 0.5 * (bare.bytes / bare.seconds),
      },
    ],
  };
  const results = (name: string, runs: Measurement[]) =>
    runs.length === 0 ? [] : [scenarioResult(scenario(name), kind, runs)];
  return { comparison, subjects: results('ours', subject), limits: results('bare', limit) };
}

describe('results', () => {
  test('the median is the run in the middle, whatever the order of the runs', () => {
    expect(scenarioResult(scenario('ours'), 'throughput', [moved(30), moved(10), moved(20)]).median).toEqual(moved(20));
    expect(scenarioResult(scenario('ours'), 'latency', [took(3, 9), took(1, 9), took(2, 9)]).median).toEqual(
      took(2, 9),
    );
  });

  test('a ratio of throughputs is that of the medians', () => {
    const found = ratios(result('throughput', [moved(40), moved(60), moved(50)], [moved(100), moved(90), moved(900)]));
    expect(found).toMatchObject([{ subject: 'ours', limit: 'bare', ratio: 0.5 }]);
    expect(found[0]?.interval?.[0]).toBeLessThan(0.5);
  });

  test('a ratio of latencies has one for p99 beside it', () => {
    expect(ratios(result('latency', [took(2, 9)], [took(1, 3)]))).toEqual([
      { subject: 'ours', limit: 'bare', ratio: 2, interval: null, p99Ratio: 3 },
    ]);
  });

  test('a target is judged where both sides were measured, and left out otherwise', () => {
    expect(verdicts(result('throughput', [moved(50)], [moved(100)]))[0]?.isReached).toBe(true);
    expect(verdicts(result('throughput', [moved(49)], [moved(100)]))[0]?.isReached).toBe(false);
    expect(verdicts(result('throughput', [moved(50)], []))).toEqual([]);
  });

  test('of several limits a target is judged by the lowest', () => {
    const { comparison, subjects, limits } = result('throughput', [moved(50)], [moved(100)]);
    const targets = comparison.targets.map((target) => ({ ...target, limits: ['bare', 'other'] }));
    const judged = (other: Measurement) =>
      verdicts({
        comparison: { ...comparison, targets },
        subjects,
        limits: [...limits, scenarioResult(scenario('other'), 'throughput', [other])],
      });
    expect(judged(moved(80))).toEqual([{ target: 'ours against other: half of it', isReached: true }]);
    expect(judged(moved(120))).toEqual([{ target: 'ours against bare: half of it', isReached: true }]);
    expect(verdicts({ comparison: { ...comparison, targets }, subjects, limits })).toEqual([]);
  });
});
