/** `naru transaction`: what transactional producers have open, what waits for it, and how to end it for them. */
import type { TransactionDescription, TransactionPartition, TransactionState, TransactionSummary } from '@naru/client';
import { Option, type Command } from 'commander';
import { withNaru } from '../connection.ts';
import { readDuration, withSharedOptions, type SharedOptions } from '../options.ts';
import { DataOutput } from '../output/data-output.ts';
import { jsonDocument } from '../output/json.ts';
import { printable } from '../output/printable.ts';
import { table } from '../output/table.ts';
import { say, type Terminal } from '../terminal.ts';

interface ListOptions extends SharedOptions {
  readonly state?: readonly TransactionState[];
  readonly openFor?: number;
}

interface AbortOptions extends SharedOptions {
  readonly execute?: true;
}

export function addTransactionCommand(program: Command, terminal: Terminal): void {
  const transaction = program
    .command('transaction')
    .description('Transactional producers: list them, show what they have open and what waits for it, abort it.');
  withSharedOptions(transaction.command('list'))
    .description('List transactional ids and what they are at.')
    .addOption(new Option('--state <state...>', 'only these').choices(['empty', 'ongoing', 'committed', 'aborted']))
    .option('--open-for <duration>', 'only those that are open, and for so long, such as 30s', readDuration)
    .action((options: ListOptions) => list(options, terminal));
  withSharedOptions(transaction.command('describe'))
    .description('Show what a transactional id has open: partitions with first offsets, and what readers wait for.')
    .argument('<id>')
    .action((id: string, options: SharedOptions) => describe(id, options, terminal));
  withSharedOptions(transaction.command('abort'))
    .description(
      'Abort what a transactional id has open; its producer can do nothing more with it. Shows what it would do until --execute.',
    )
    .argument('<id>')
    .option('--execute', 'do it')
    .action((id: string, options: AbortOptions) => abort(id, options, terminal));
}

async function list(options: ListOptions, terminal: Terminal): Promise<void> {
  const { state: states, openFor: openForMs } = options;
  const found = await withNaru(terminal, options, (naru) => naru.admin.listTransactions({ states, openForMs }));
  const output = new DataOutput(terminal);
  const nowMs = terminal.clock.nowMs();
  if (options.output === 'json') {
    await output.write(jsonDocument(found.map((one) => summaryJson(one, nowMs))));
    return;
  }
  if (found.length === 0) say(terminal, 'there are no such transactional ids');
  const columns = [
    { title: 'ID', value: ({ transactionalId }: TransactionSummary) => transactionalId },
    { title: 'STATE', value: ({ state }: TransactionSummary) => state },
    { title: 'OPEN FOR', value: (one: TransactionSummary) => openText(one, nowMs) },
    { title: 'TIME-OUT', value: ({ timeoutMs }: TransactionSummary) => durationText(timeoutMs) },
    { title: 'PARTITIONS', value: ({ partitions }: TransactionSummary) => partitions },
    { title: 'PRODUCER', value: ({ producerId }: TransactionSummary) => producerId },
    { title: 'EPOCH', value: ({ producerEpoch }: TransactionSummary) => producerEpoch },
    { title: 'UPDATED', value: ({ updatedMs }: TransactionSummary) => new Date(updatedMs).toISOString() },
  ];
  await output.write(await table(columns, found, terminal.stdout));
}

async function describe(id: string, options: SharedOptions, terminal: Terminal): Promise<void> {
  const found = await withNaru(terminal, options, (naru) => naru.admin.describeTransaction(id));
  const output = new DataOutput(terminal);
  const nowMs = terminal.clock.nowMs();
  if (options.output === 'json') {
    await output.write(jsonDocument(descriptionJson(found, nowMs)));
    return;
  }
  const open = openMs(found, nowMs);
  const facts = [
    `id        ${printable(found.transactionalId)}`,
    `state     ${found.state}`,
    ...(open === null ? [] : [`open for  ${durationText(open)}`]),
    `time-out  ${durationText(found.timeoutMs)}`,
    `producer  ${found.producerId}, epoch ${found.producerEpoch}`,
    `updated   ${new Date(found.updatedMs).toISOString()}`,
    ...(found.groups.length === 0 ? [] : [`groups    ${found.groups.map(printable).join(', ')}`]),
  ];
  const columns = [
    { title: 'TOPIC', value: ({ topic }: TransactionPartition) => topic },
    { title: 'PARTITION', value: ({ partition }: TransactionPartition) => partition },
    { title: 'FIRST OFFSET', value: ({ firstOffset }: TransactionPartition) => firstOffset },
    { title: 'READ TO', value: ({ lastStableOffset }: TransactionPartition) => lastStableOffset },
    { title: 'END', value: ({ highWatermark }: TransactionPartition) => highWatermark },
    { title: 'WAITING', value: waitingBehind },
  ];
  const partitions = found.partitionDetails;
  const rest = partitions.length === 0 ? '' : `\n${await table(columns, partitions, terminal.stdout)}`;
  await output.write(`${facts.join('\n')}\n${rest}`);
}

async function abort(id: string, options: AbortOptions, terminal: Terminal): Promise<void> {
  const execute = options.execute === true;
  const { found, aborted } = await withNaru(terminal, options, async ({ admin }) => ({
    found: await admin.describeTransaction(id),
    aborted: execute && (await admin.abortTransaction(id)),
  }));
  const open = openMs(found, terminal.clock.nowMs());
  if (options.output === 'json') {
    const result = { transactionalId: id, executed: execute, aborted, open: open !== null };
    await new DataOutput(terminal).write(jsonDocument(result));
    return;
  }
  const what = open === null ? 'nothing open' : `a transaction open for ${durationText(open)}`;
  if (!execute) say(terminal, `${printable(id)} has ${what}; nothing was changed: --execute aborts and fences it`);
  else if (aborted) say(terminal, `aborted the transaction of ${printable(id)}, and fenced its producer`);
  else say(terminal, `${printable(id)} had nothing open; fenced its producer`);
}

/** From the transaction's first event on, its own among them: readers of committed events are given none of these. */
function waitingBehind({ firstOffset, highWatermark }: TransactionPartition): bigint | null {
  return firstOffset === undefined ? null : highWatermark - firstOffset;
}

/** Milliseconds; null when nothing is open. */
function openMs({ startedMs }: TransactionSummary, nowMs: number): number | null {
  return startedMs === undefined ? null : Math.max(0, nowMs - startedMs);
}

function openText(summary: TransactionSummary, nowMs: number): string | null {
  const open = openMs(summary, nowMs);
  return open === null ? null : durationText(open);
}

/** `250ms`, `12s`, `3m5s`, `2h4m`. */
function durationText(durationMs: number): string {
  if (durationMs < 1_000) return `${Math.round(durationMs)}ms`;
  const seconds = Math.floor(durationMs / 1_000);
  if (seconds < 60) return `${seconds}s`;
  const minutes = Math.floor(seconds / 60);
  const [large, small] =
    minutes < 60 ? [`${minutes}m`, `${seconds % 60}s`] : [`${Math.floor(minutes / 60)}h`, `${minutes % 60}m`];
  return small.startsWith('0') ? large : `${large}${small}`;
}

function summaryJson(summary: TransactionSummary, nowMs: number): Record<string, unknown> {
  const { startedMs, updatedMs, ...rest } = summary;
  const started = startedMs === undefined ? null : new Date(startedMs).toISOString();
  return { ...rest, started, openMs: openMs(summary, nowMs), updated: new Date(updatedMs).toISOString() };
}

function descriptionJson(found: TransactionDescription, nowMs: number): Record<string, unknown> {
  const { partitionDetails, groups, ...summary } = found;
  const details = partitionDetails.map((partition) => ({ ...partition, waiting: waitingBehind(partition) }));
  return { ...summaryJson(summary, nowMs), groups, partitionDetails: details };
}
