/** `naru doctor`: verifies a data directory that no broker is using, and changes nothing. */
import { resolve } from 'node:path';
import { formatByteSize } from '@naru/base';
import type { BrokerConfig, DoctorFinding, DoctorReport } from '@naru/broker';
import { isNaruError, NaruError } from '@naru/protocol';
import type { Command } from 'commander';
import { CommandFailure } from '../command-failure.ts';
import { INTERRUPTED_EXIT_CODE, listenForInterruption } from '../interruption.ts';
import { withOutputOption, type OutputFormat } from '../options.ts';
import { DataOutput } from '../output/data-output.ts';
import { jsonDocument } from '../output/json.ts';
import { printable } from '../output/printable.ts';
import { Progress } from '../output/progress.ts';
import { table } from '../output/table.ts';
import { say, type Terminal } from '../terminal.ts';

const EXIT_PROBLEMS = 1;
/** Storage engines. */
const KEPT_IN_DIRECTORY: ReadonlySet<string> = new Set(['file', 'sqlite']);

interface DoctorCommandOptions {
  readonly data?: string;
  readonly deep?: true;
  readonly output: OutputFormat;
}

export function addDoctorCommand(program: Command, terminal: Terminal): void {
  const command = program
    .command('doctor')
    .description('Verify a data directory, read-only; the broker must be stopped.')
    .option('--data <directory>', 'what to verify (default: as naru start has it, else naru-data)')
    .option('--deep', 'decode every record too, not only checksums')
    .addHelpText('after', '\nExit codes: 0 sound, 1 problems found or not verified, 2 not understood.')
    .action((options: DoctorCommandOptions) => examine(options, terminal));
  withOutputOption(command);
}

async function examine(options: DoctorCommandOptions, terminal: Terminal): Promise<void> {
  const { loadBrokerConfig, verifyDataDirectory } = await import('@naru/broker');
  // Settings that are wrong elsewhere do not matter when the directory is named.
  const path = resolve(options.data ?? directoryOf(await loadBrokerConfig(undefined, {}, terminal.environment)));
  using interruption = listenForInterruption();
  const progress = new Progress(terminal, true);
  let report: DoctorReport;
  try {
    report = await verifyDataDirectory(path, {
      signal: interruption.signal,
      deep: options.deep,
      onProgress: ({ doneBytes, totalBytes }) =>
        progress.update(() => `verified ${formatByteSize(doneBytes)} of ${formatByteSize(totalBytes)}`),
    });
  } catch (error) {
    progress.clear();
    if (!isNaruError(error, 'ABORTED')) throw error;
    say(terminal, 'interrupted: not everything was verified');
    throw new CommandFailure(INTERRUPTED_EXIT_CODE);
  }
  progress.clear();
  const output = new DataOutput(terminal);
  if (options.output === 'json') await output.write(jsonDocument(report));
  else await print(report, terminal, output);
  if (!report.isSound) throw new CommandFailure(EXIT_PROBLEMS);
}

/** @throws NaruError UNSUPPORTED when the broker that the settings describe keeps nothing in a directory */
function directoryOf({ storage, data }: BrokerConfig): string {
  if (KEPT_IN_DIRECTORY.has(storage)) return data;
  const message = `the settings say storage ${storage}, which keeps nothing in a directory; name one with --data`;
  throw new NaruError('UNSUPPORTED', message);
}

async function print(report: DoctorReport, terminal: Terminal, output: DataOutput): Promise<void> {
  const { findings, found, checked, path } = report;
  if (findings.length > 0) {
    const columns = [
      { title: 'SEVERITY', value: ({ severity }: DoctorFinding) => severity },
      { title: 'FILE', value: ({ file }: DoctorFinding) => (file === '' ? '.' : file) },
      { title: 'BYTE', value: ({ position }: DoctorFinding) => position },
      { title: 'PARTITION', value: partitionText },
      { title: 'OFFSETS', value: offsetsText },
      { title: 'CAUSE', value: ({ cause }: DoctorFinding) => cause },
    ];
    await output.write(await table(columns, findings, terminal.stdout));
    for (const advice of new Set(findings.map((one) => one.advice))) await output.write(adviceText(findings, advice));
  }
  const unlisted = found.problem + found.warning + found.info - findings.length;
  if (unlisted > 0) say(terminal, `${unlisted} more findings are not listed`);
  const { partitions, segments, batches, bytes } = checked;
  const what = [counted(partitions, 'partition'), counted(segments, 'segment'), counted(batches, 'batch', 'batches')];
  say(terminal, `${path}: verified ${what.join(', ')}, ${formatByteSize(bytes)}`);
  const verdict = report.isSound ? 'sound' : counted(found.problem, 'problem');
  say(terminal, `${verdict}; ${counted(found.warning, 'warning')}, ${counted(found.info, 'note')}`);
}

function counted(count: number, one: string, several = `${one}s`): string {
  return `${count} ${count === 1 ? one : several}`;
}

/** What to do, once for all findings that say the same. */
function adviceText(findings: readonly DoctorFinding[], advice: string): string {
  const files = new Set(findings.filter((one) => one.advice === advice).map(({ file }) => (file === '' ? '.' : file)));
  const [first] = files;
  const others = files.size > 1 ? ` and ${files.size - 1} more` : '';
  return `\n${printable(first ?? '.')}${others}: ${printable(advice)}.\n`;
}

function partitionText({ partition }: DoctorFinding): string | null {
  return partition === null ? null : `${partition.topic ?? partition.topicId}/${partition.partition}`;
}

function offsetsText({ offsets }: DoctorFinding): string | null {
  if (offsets === null) return null;
  return offsets.first === offsets.last ? String(offsets.first) : `${offsets.first}-${offsets.last}`;
}
