/** A scenario's results as JSON, as text for people, and as a plot. */
import { markdownTable } from '../../report/columns.ts';
import { machine } from '../../report/machine.ts';
import type { Machine } from '../../report/machine.ts';
import { withPortablePaths } from '../../report/portable-paths.ts';
import { comparisons, values, verdicts } from '../comparison.ts';
import type { Comparison, Verdict } from '../comparison.ts';
import type { ScenarioResult, SubjectResult } from '../peer-runner.ts';
import type { Figure, PeerMeasurement, Subject } from '../peer-scenario.ts';
import type { ServerName } from '../../peer-servers/server-kind.ts';
import { summary } from '../../statistics.ts';
import type { Summary } from '../../statistics.ts';
import { barChart, number } from './bar-chart.ts';

const COLORS: Readonly<Record<ServerName | 'bare', readonly [fsync: string, noFsync: string]>> = {
  naru: ['#0b7285', '#66d9e8'],
  kafka: ['#343a40', '#adb5bd'],
  nats: ['#2b8a3e', '#8ce99a'],
  redis: ['#c92a2a', '#ffa8a8'],
  rabbitmq: ['#e8590c', '#ffc078'],
  bare: ['#5f3dc4', '#b197fc'],
};

/** One scenario as it is written to a file, and read again for the page of all. */
export interface RecordedScenario {
  readonly name: string;
  readonly title: string;
  readonly what: string;
  readonly startedAt: string;
  readonly seconds: number;
  readonly command: string;
  readonly machine: Machine;
  readonly versions: Readonly<Record<string, string>>;
  readonly rounds: number;
  readonly subjects: readonly RecordedSubject[];
  readonly comparisons: readonly Comparison[];
  readonly targets: readonly Verdict[];
  readonly failures: ScenarioResult['failures'];
}

export interface RecordedSubject extends Subject {
  readonly name: string;
  readonly commandLine: string;
  readonly configuration: string;
  readonly figures: readonly ({ readonly name: string; readonly digits: number } & Summary)[];
  readonly runs: readonly PeerMeasurement[];
}

export interface RecordContext {
  readonly startedAt: Date;
  readonly seconds: number;
  readonly command: string;
  readonly rounds: number;
  readonly versions: Readonly<Record<string, string>>;
}

export function recordOf(result: ScenarioResult, { startedAt, seconds, ...context }: RecordContext): RecordedScenario {
  const { name, title, what, figures } = result.scenario;
  return {
    name,
    title,
    what,
    startedAt: startedAt.toISOString(),
    seconds: Math.round(seconds),
    ...context,
    machine: machine(),
    subjects: result.subjects.map((subject) => recordedSubject(subject, figures)),
    comparisons: comparisons(result),
    targets: verdicts(result),
    failures: result.failures.map((failure) => ({ ...failure, error: withPortablePaths(failure.error) })),
  };
}

function recordedSubject(result: SubjectResult, figures: readonly Figure[]): RecordedSubject {
  const { subject, name, commandLine, configuration, runs } = result;
  const summaries = figures.flatMap((figure) => {
    const all = values(result, figure);
    return all.length === 0 ? [] : [{ name: figure.name, digits: figure.digits, ...summary(all) }];
  });
  const started = {
    commandLine: withPortablePaths(commandLine),
    configuration: withPortablePaths(configuration),
  };
  return { ...subject, name, ...started, figures: summaries, runs };
}

/** The head first. */
export function tableOf({ subjects }: RecordedScenario): string[][] {
  const names = [...new Set(subjects.flatMap(({ figures }) => figures.map(({ name }) => name)))];
  const rows = subjects.map(({ name, figures }) => [
    name,
    ...names.map((column) => {
      const figure = figures.find((one) => one.name === column);
      if (figure === undefined) return '';
      const { median, min, max, digits } = figure;
      return `${number(median, digits)} (${number(min, digits)}–${number(max, digits)})`;
    }),
  ]);
  return [['', ...names], ...rows];
}

export function ratioTable({ comparisons }: RecordedScenario): string[][] {
  const [main] = comparisons;
  const cpu = 'server CPU-s/GiB';
  const shown = comparisons.filter(({ figure }) => figure === main?.figure || figure === cpu);
  const rows = shown.map(({ figure, subject, peer, durability, ratio, interval }) => [
    `${subject} / ${peer}`,
    figure,
    durability,
    ratio.toFixed(2),
    interval === null ? '' : interval.map((one) => one.toFixed(2)).join('–'),
  ]);
  return [['', 'figure', 'durability', 'times better', '95 % interval'], ...rows];
}

export function verdictLines({ targets }: RecordedScenario): string[] {
  return targets.map(
    ({ target, ratio, isReached }) =>
      `${isReached ? 'reached' : 'NOT reached'}: ${target.subject} / ${target.peer}, ${target.figure}: ${ratio.toFixed(2)}, wanted ${target.atLeast} (${target.what})`,
  );
}

export function chartOf({ title, subjects }: RecordedScenario): string {
  const bars = subjects.flatMap(({ server, durability, name, figures: [main] }) =>
    main === undefined ? [] : [{ ...main, name, color: COLORS[server][durability === 'fsync' ? 0 : 1] }],
  );
  const [first] = subjects[0]?.figures ?? [];
  return barChart(title, first?.name ?? '', bars, first?.digits ?? 0);
}

/** The page of all scenarios that were recorded, beside their plots. */
export function pageOf(all: readonly RecordedScenario[]): string {
  const lines = [
    '# Naru beside its peers',
    '',
    'Medians (lowest–highest) of rounds in turn. In ratios more than 1 is better for Naru; `equal` compares servers that both sync before they acknowledge, or both do not, and `ours synced` Naru with fsync to a peer without. Only ratios mean something on another machine. Every run, and every server’s whole configuration, is in the JSON beside this file.',
  ];
  for (const scenario of all) lines.push('', ...sectionOf(scenario));
  return `${lines.join('\n')}\n`;
}

function sectionOf(scenario: RecordedScenario): string[] {
  const { name, title, what, startedAt, command, machine: on, versions, rounds, seconds, failures } = scenario;
  const used = Object.entries(versions).map(([server, version]) => `${server} ${version}`);
  return [
    `## ${title}`,
    '',
    what,
    '',
    `![${title}](${name}.svg)`,
    '',
    ...markdownTable(tableOf(scenario)),
    '',
    ...markdownTable(ratioTable(scenario)),
    '',
    ...verdictLines(scenario).map((line) => `- ${line}`),
    ...failures.map(({ subject, error }) => `- failed: ${subject}: ${error.split('\n')[0]}`),
    '',
    `${startedAt}, \`${command}\`, ${rounds} rounds in ${seconds} s, ${on.platform}, ${on.cores} × ${on.cpu}, ${on.memoryGiB} GiB. ${used.join('; ')}.`,
  ];
}
