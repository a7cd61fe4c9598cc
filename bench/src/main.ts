/**
 * `npm run bench`: what Naru moves and how long it takes, each beside what the machine could do at best, in the same run.
 *
 * Load, broker and bare servers are processes of their own. Ends with code 1 when a scenario failed, 2 for a wrong command
 * line; a target that was missed is said and fails nothing.
 */
import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { USAGE, parseOptions } from './options.ts';
import type { BenchOptions } from './options.ts';
import { columns } from './report/columns.ts';
import { machine, memoryFileSystem } from './report/machine.ts';
import { summarizeProfile } from './report/profile-summary.ts';
import { ratioLines, table } from './report/report.ts';
import { render, write } from './report/result-files.ts';
import type { ComparisonResult } from './results.ts';
import { runComparison } from './runner.ts';
import type { Failure } from './runner.ts';
import type { Comparison, Scenario } from './scenario.ts';
import { comparisons } from './scenarios/comparisons.ts';

const RESULTS = fileURLToPath(new URL('../results', import.meta.url));
const LOCAL_RESULTS = join(RESULTS, 'local');
/** Functions of a profile that are shown. */
const PROFILE_LINES = 25;
const PROFILE_PACKAGES = 12;

function wants({ only }: BenchOptions, comparison: Comparison, scenario: Scenario): boolean {
  if (only.length === 0) return scenario.isLong !== true;
  return only.includes(comparison.name) || only.includes(scenario.name);
}

function progress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\u001B[K${text}`);
}

async function bench(options: BenchOptions): Promise<number> {
  const startedAt = new Date();
  const dataDirectory = options.dataDirectory ?? LOCAL_RESULTS;
  const profileDirectory = options.profile ? join(LOCAL_RESULTS, 'profiles') : undefined;
  await mkdir(dataDirectory, { recursive: true });
  if (profileDirectory !== undefined) {
    await rm(profileDirectory, { recursive: true, force: true });
    await mkdir(profileDirectory, { recursive: true });
  }
  const { node, platform, cores, cpu } = machine();
  console.log(`Node ${node}, ${platform}, ${cores} × ${cpu}`);
  const inMemory = await memoryFileSystem(dataDirectory);
  if (inMemory !== null) console.log(`${dataDirectory} is on ${inMemory}: what is said of fsync means nothing`);
  const { seconds, warmUpSeconds, storedBytes, consumedEvents, repetitions, sdkSettings } = options;
  const settings = {
    seconds,
    warmUpSeconds,
    storedBytes,
    consumedEvents,
    dataDirectory,
    profileDirectory,
    sdkSettings,
  };
  const results: ComparisonResult[] = [];
  const failures: Failure[] = [];
  for (const comparison of comparisons) {
    const isWanted = [...comparison.subjects, ...comparison.limits].some((one) => wants(options, comparison, one));
    if (!isWanted) continue;
    const wanted = (group: Comparison, scenario: Scenario): boolean => wants(options, group, scenario);
    const result = await runComparison(comparison, { settings, repetitions, wants: wanted, progress }, failures);
    progress('');
    show(result);
    results.push(result);
  }
  await save(options, results, startedAt);
  if (profileDirectory !== undefined) await showProfiles(profileDirectory);
  for (const { scenario, error } of failures) {
    console.error(`\n${scenario} failed: ${error instanceof Error ? error.message : String(error)}`);
  }
  return failures.length === 0 ? 0 : 1;
}

function show(result: ComparisonResult): void {
  console.log(`\n${result.comparison.title}`);
  for (const line of columns(table(result))) console.log(`  ${line}`);
  for (const line of ratioLines(result)) console.log(`  ${line}`);
}

async function save(options: BenchOptions, results: readonly ComparisonResult[], startedAt: Date): Promise<void> {
  const command = ['npm run bench --', ...process.argv.slice(2)].join(' ');
  const file = render(results, startedAt, command);
  const stamp = startedAt.toISOString().slice(0, 19).replaceAll(':', '');
  const name = `${stamp}-${options.smoke ? 'smoke' : options.only.length === 0 ? 'all' : options.only.join('-')}`;
  console.log(`\nwritten: ${await write(LOCAL_RESULTS, name, file)}`);
  const recorded = options.only.length === 0 ? 'latest' : options.only.join('-');
  if (options.record) console.log(`written: ${await write(RESULTS, recorded, file)}`);
}

async function showProfiles(directory: string): Promise<void> {
  for (const file of (await readdir(directory)).sort()) {
    console.log(`\n${file}`);
    const { functions, packages } = await summarizeProfile(join(directory, file), PROFILE_LINES);
    for (const times of [packages.slice(0, PROFILE_PACKAGES), functions]) {
      const rows = times.map(({ where, share, milliseconds }) => [
        where,
        `${(share * 100).toFixed(1)}%`,
        `${Math.round(milliseconds)} ms`,
      ]);
      for (const line of columns(rows)) console.log(`  ${line}`);
      console.log();
    }
  }
}

let options: BenchOptions | null;
try {
  options = parseOptions(process.argv.slice(2));
  if (options === null) console.log(USAGE);
  else process.exitCode = await bench(options);
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 2;
}
