/** All runs of a comparison, and what they say together. */
import type { Latency, Measurement } from './measurement.ts';
import { ratioOf } from './statistics.ts';
import type { Comparison, Scenario } from './scenario.ts';

export interface ScenarioResult {
  readonly scenario: Scenario;
  readonly runs: readonly Measurement[];
  /** The run in the middle: by throughput, or by p50. */
  readonly median: Measurement;
}

export interface ComparisonResult {
  readonly comparison: Comparison;
  readonly subjects: readonly ScenarioResult[];
  readonly limits: readonly ScenarioResult[];
}

export function scenarioResult(
  scenario: Scenario,
  kind: Comparison['kind'],
  runs: readonly Measurement[],
): ScenarioResult {
  const sorted = [...runs].sort((a, b) => figure(kind, a) - figure(kind, b));
  const median = sorted[Math.floor(sorted.length / 2)] as Measurement;
  return { scenario, runs, median };
}

/** What a kind of scenario is about: bytes a second, or milliseconds. */
export function figure(kind: Comparison['kind'], { bytes, seconds, latency }: Measurement): number {
  if (kind === 'recovery') return seconds * 1_000;
  return kind === 'throughput' ? bytes / seconds : (latency?.p50 ?? 0);
}

/** How the medians of subject and limit relate, above 1 where the subject moves more or takes longer. */
export interface Ratio {
  readonly subject: string;
  readonly limit: string;
  readonly ratio: number;
  /** 95 %, of the pairs that were measured one after the other; null with fewer than three of them. */
  readonly interval: readonly [low: number, high: number] | null;
  /** Of latencies only. */
  readonly p99Ratio?: number | undefined;
}

export function ratios({ comparison: { kind }, subjects, limits }: ComparisonResult): Ratio[] {
  return subjects.flatMap((subject) =>
    limits.map((limit) => ({
      subject: subject.scenario.name,
      limit: limit.scenario.name,
      ratio: figure(kind, subject.median) / figure(kind, limit.median),
      interval: ratioOf(figures(kind, subject), figures(kind, limit), 'more').interval,
      ...(kind === 'latency' ? { p99Ratio: part(subject, 'p99') / part(limit, 'p99') } : {}),
    })),
  );
}

function figures(kind: Comparison['kind'], { runs }: ScenarioResult): number[] {
  return runs.map((run) => figure(kind, run));
}

export interface Verdict {
  readonly target: string;
  readonly isReached: boolean;
}

export function verdicts({ comparison, subjects, limits }: ComparisonResult): Verdict[] {
  return comparison.targets.flatMap(({ subject, limits: names, what, isReached }) => {
    const measured = subjects.find(({ scenario }) => scenario.name === subject);
    const bare = limits.filter(({ scenario }) => names.includes(scenario.name));
    if (measured === undefined || bare.length < names.length) return [];
    const lowest = bare.reduce((low, limit) =>
      figure(comparison.kind, limit.median) < figure(comparison.kind, low.median) ? limit : low,
    );
    const target = `${subject} against ${lowest.scenario.name}: ${what}`;
    return { target, isReached: isReached(measured.median, lowest.median) };
  });
}

function part({ median }: ScenarioResult, percentile: keyof Latency): number {
  return median.latency?.[percentile] ?? 0;
}
