/** Results as text for people. */
import type { Measurement } from '../measurement.ts';
import { figure, ratios, verdicts } from '../results.ts';
import type { ComparisonResult, ScenarioResult } from '../results.ts';

const GIB = 1024 ** 3;
const MIB = 1024 ** 2;

/** Rows of the comparison's table, the head first. */
export function table(result: ComparisonResult): string[][] {
  const { kind } = result.comparison;
  const all = [...result.subjects, ...result.limits];
  if (kind === 'throughput') {
    const head = ['', 'MB/s', 'spread', 'events/s', 'CPU-s/GiB', 'CPU use', 'peak MiB'];
    return [head, ...all.map(throughputRow)];
  }
  if (kind === 'recovery') {
    const head = [
      '',
      'to serving ms',
      'spread',
      'to first ack ms',
      'after a clean stop ms',
      'first ack ms',
      'GiB stored',
    ];
    return [head, ...all.map(recoveryRow)];
  }
  const head = ['', 'p50 ms', 'spread', 'p99 ms', 'p99.9 ms', 'max ms', 'events', 'CPU use'];
  return [head, ...all.map(latencyRow)];
}

/** A line for each ratio and target. */
export function ratioLines(result: ComparisonResult): string[] {
  const lines = ratios(result).map(({ subject, limit, ratio, interval, p99Ratio }) => {
    const between = interval === null ? '' : ` (95 %: ${interval.map(ratioText).join('–')})`;
    const p99 = p99Ratio === undefined ? '' : ` (p99: ${ratioText(p99Ratio)})`;
    return `${subject} / ${limit} = ${ratioText(ratio)}${between}${p99}`;
  });
  for (const { target, isReached } of verdicts(result))
    lines.push(`${isReached ? 'reached' : 'NOT reached'}: ${target}`);
  return lines;
}

function throughputRow({ scenario, runs, median }: ScenarioResult): string[] {
  const cpu = median.processes.map(({ cpuSeconds }) => (cpuSeconds / (median.bytes / GIB)).toFixed(2)).join(' + ');
  return [
    scenario.name,
    (figure('throughput', median) / 1e6).toFixed(1),
    spread(
      runs.map((run) => figure('throughput', run) / 1e6),
      1,
    ),
    Math.round(median.events / median.seconds).toLocaleString('en'),
    cpu,
    cpuUse(median),
    median.processes.map(({ peakRssBytes }) => Math.round(peakRssBytes / MIB)).join(' + '),
  ];
}

function recoveryRow({ scenario, runs, median }: ScenarioResult): string[] {
  const ms = (name: string): string => Math.round(median.notes?.[name] ?? 0).toLocaleString('en');
  return [
    scenario.name,
    Math.round(figure('recovery', median)).toLocaleString('en'),
    spread(
      runs.map((run) => figure('recovery', run)),
      0,
    ),
    ms('firstAckMs'),
    ms('cleanServingMs'),
    ms('cleanFirstAckMs'),
    (median.bytes / GIB).toFixed(2),
  ];
}

function latencyRow({ scenario, runs, median }: ScenarioResult): string[] {
  const { p50 = 0, p99 = 0, p999 = 0, max = 0, count = 0 } = median.latency ?? {};
  return [
    scenario.name,
    p50.toFixed(3),
    spread(
      runs.map((run) => figure('latency', run)),
      3,
    ),
    p99.toFixed(3),
    p999.toFixed(3),
    max.toFixed(1),
    count.toLocaleString('en'),
    cpuUse(median),
  ];
}

/** Which process kept how much of one core busy. */
function cpuUse({ processes, seconds }: Measurement): string {
  return processes
    .map(({ process, cpuSeconds }) => `${process} ${Math.round((cpuSeconds / seconds) * 100)}%`)
    .join(', ');
}

function spread(figures: readonly number[], digits: number): string {
  return `${Math.min(...figures).toFixed(digits)}–${Math.max(...figures).toFixed(digits)}`;
}

function ratioText(ratio: number): string {
  return ratio.toFixed(2);
}
