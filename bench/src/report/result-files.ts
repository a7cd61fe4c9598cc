/** Results as files: JSON with every run, and Markdown for people. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ratios, verdicts } from '../results.ts';
import type { ComparisonResult, ScenarioResult } from '../results.ts';
import { markdownTable } from './columns.ts';
import { machine } from './machine.ts';
import { ratioLines, table } from './report.ts';

export interface ResultFile {
  readonly json: string;
  readonly markdown: string;
}

/** @param command how it was run */
export function render(results: readonly ComparisonResult[], startedAt: Date, command: string): ResultFile {
  const runs = ({ scenario: { name, what }, runs: all }: ScenarioResult) => ({ name, what, runs: all });
  const content = {
    startedAt: startedAt.toISOString(),
    command,
    machine: machine(),
    comparisons: results.map((result) => ({
      name: result.comparison.name,
      subjects: result.subjects.map(runs),
      limits: result.limits.map(runs),
      ratios: ratios(result),
      targets: verdicts(result),
    })),
  };
  return { json: `${JSON.stringify(content, null, 2)}\n`, markdown: markdown(results, startedAt, command) };
}

function markdown(results: readonly ComparisonResult[], startedAt: Date, command: string): string {
  const { node, platform, cpu, cores, memoryGiB } = machine();
  const lines = [
    '# Bench results',
    '',
    `${startedAt.toISOString()}, \`${command}\`, Node ${node}, ${platform}, ${cores} × ${cpu}, ${memoryGiB} GiB.`,
    'Medians; every run is in the JSON beside this file. Only ratios mean something on another machine.',
  ];
  for (const result of results) {
    lines.push('', `## ${result.comparison.title}`, '', ...markdownTable(table(result)), '');
    for (const { scenario } of [...result.subjects, ...result.limits])
      lines.push(`- ${scenario.name}: ${scenario.what}`);
    lines.push('', ...ratioLines(result).map((line) => `- ${line}`));
  }
  return `${lines.join('\n')}\n`;
}

export async function write(directory: string, name: string, { json, markdown }: ResultFile): Promise<string> {
  await mkdir(directory, { recursive: true });
  await writeFile(join(directory, `${name}.md`), markdown);
  const path = join(directory, `${name}.json`);
  await writeFile(path, json);
  return path;
}
