/** `naru dlq`: the events that a group could not handle: list, show, redrive and purge them. */
import { DeadLetterService, RecordFormat, type DeadLetter } from '@naru/protocol/proto';
import { InvalidArgumentError, Option, type Command } from 'commander';
import { withBroker } from '../connection.ts';
import { readCursor, type BulkCursor } from '../dead-letters/bulk-run.ts';
import { purge, redrive, type BulkCommandOptions } from '../dead-letters/bulk-commands.ts';
import {
  DEAD_LETTER_COLUMNS,
  deadLetterFacts,
  deadLetterJson,
  printedEvent,
} from '../dead-letters/dead-letter-output.ts';
import { hasFilter, wireFilter, withFilterOptions, type FilterOptions } from '../dead-letters/filter-options.ts';
import { integerReader, readCount, withSharedOptions, type SharedOptions } from '../options.ts';
import { DataOutput } from '../output/data-output.ts';
import { eventJsonLine, shown, type ValueFormat } from '../output/event-line.ts';
import { jsonDocument, jsonLine } from '../output/json.ts';
import { printable } from '../output/printable.ts';
import { table } from '../output/table.ts';
import { say, type Terminal } from '../terminal.ts';

interface ListOptions extends SharedOptions, FilterOptions {
  readonly limit: number;
  readonly cursor?: string;
}

interface ShowOptions extends SharedOptions {
  readonly format: ValueFormat;
}

const DEFAULT_LIST_LIMIT = 100;
/** Of one answer of the broker. */
const MAX_PAGE = 1_000;
const DEFAULT_RATE = 100;
const MAX_RATE = 100_000;

export function addDlqCommand(program: Command, terminal: Terminal): void {
  const dlq = program
    .command('dlq')
    .description('The dead letters of a group: events that it could not handle. List, show, redrive and purge them.');
  withSharedOptions(withFilterOptions(dlq.command('list')))
    .description('List dead letters, by place.')
    .argument('<group>')
    .addOption(new Option('--limit <number>', 'at most so many').argParser(readCount).default(DEFAULT_LIST_LIMIT))
    .option('--cursor <text>', 'go on where an earlier list ended')
    .action((group: string, options: ListOptions) => list(group, options, terminal));
  withSharedOptions(dlq.command('show'))
    .description('Show one dead letter with the whole event.')
    .argument('<group>')
    .argument('<id>', 'as list prints it; also the event’s request id')
    .addOption(
      new Option('--format <format>', 'how to print the event’s value')
        .choices(['json', 'text', 'bytes'])
        .default('json'),
    )
    .action((group: string, id: string, options: ShowOptions) => show(group, id, options, terminal));
  withBulkOptions(dlq.command('redrive'))
    .description(
      'Give dead letters to their group again, those of a key in order; other groups do not see them. Only what is there when it begins.',
    )
    .addOption(
      new Option('--rate <number>', 'at most so many a second, such as 100 or 100/s')
        .argParser(readRate)
        .default(DEFAULT_RATE),
    )
    .option('--dry-run', 'only say what it would do')
    .action((group: string, ids: string[], options: BulkCommandOptions, command: Command) => {
      checkChoice(ids, options, command);
      return redrive(group, ids, options, terminal);
    });
  withBulkOptions(dlq.command('purge'))
    .description(
      'Forget dead letters for good; what waits behind a parked one follows. Shows what it would do until --execute.',
    )
    .option('--execute', 'do it')
    .action((group: string, ids: string[], options: BulkCommandOptions, command: Command) => {
      checkChoice(ids, options, command);
      return purge(group, ids, options, terminal);
    });
}

function withBulkOptions(command: Command): Command {
  return withSharedOptions(withFilterOptions(command))
    .argument('<group>')
    .argument('[ids...]', 'which ones; or name them by options')
    .option('--all', 'every dead letter of the group')
    .addOption(new Option('--limit <number>', 'at most so many').argParser(readCount))
    .addOption(
      new Option('--resume <cursor>', 'go on where an earlier run ended: it prints this').argParser(readResumption),
    );
}

/** One of these says which: so that nobody redrives or purges everything by mistake. */
function checkChoice(ids: readonly string[], options: BulkCommandOptions, command: Command): void {
  const isSome = ids.length > 0 || hasFilter(options);
  if (!isSome && options.all !== true)
    command.error('error: say which: ids, --all, or options such as --topic or --key');
  if (isSome && options.all === true) command.error('error: choose --all, or ids and options, not both');
}

const readWholeRate = integerReader(1, MAX_RATE);

function readRate(text: string): number {
  return readWholeRate(text.replace(/\/s$/, ''));
}

function readResumption(text: string): BulkCursor {
  const cursor = readCursor(text);
  if (cursor === null) throw new InvalidArgumentError('Expected a cursor as an interrupted run prints it.');
  return cursor;
}

async function list(group: string, options: ListOptions, terminal: Terminal): Promise<void> {
  const filter = wireFilter(group, [], options);
  const letters: DeadLetter[] = [];
  let cursor = options.cursor ?? '';
  let total = 0n;
  await withBroker(terminal, options, async ({ call, limit: timeLimit }) => {
    do {
      const limit = Math.min(MAX_PAGE, options.limit - letters.length);
      const page = await call(DeadLetterService.method.listDeadLetters, { filter, limit, cursor }, timeLimit());
      letters.push(...page.deadLetters);
      ({ nextCursor: cursor, total } = page);
    } while (cursor !== '' && letters.length < options.limit);
  });
  const output = new DataOutput(terminal);
  if (options.output === 'json') {
    const nextCursor = cursor === '' ? null : cursor;
    await output.write(jsonDocument({ total, deadLetters: letters.map(deadLetterJson), nextCursor }));
    return;
  }
  await output.write(await table(DEAD_LETTER_COLUMNS, letters, terminal.stdout));
  if (cursor !== '') say(terminal, `there are more: go on with --cursor ${cursor}`);
  else if (letters.length === 0) {
    const others = total === 0n ? '' : `; ${total} in all`;
    say(terminal, `group ${printable(group)} has no such dead letters${others}`);
  }
}

async function show(group: string, id: string, options: ShowOptions, terminal: Terminal): Promise<void> {
  const { deadLetter, record } = await withBroker(terminal, options, ({ call, limit }) =>
    call(DeadLetterService.method.getDeadLetter, { groupId: group, id, format: RecordFormat.BYTES }, limit()),
  );
  if (deadLetter === undefined) throw new Error('the broker answered without the dead letter');
  const event = record === undefined ? null : printedEvent(record);
  const output = new DataOutput(terminal);
  if (options.output === 'json') {
    const letter = jsonLine(deadLetterJson(deadLetter)).trimEnd();
    const eventJson = event === null ? 'null' : eventJsonLine(event, options.format).trimEnd();
    await output.write(`{"deadLetter":${letter},"event":${eventJson}}\n`);
    return;
  }
  const headers = Array.from(event?.headers ?? [], ({ key, value }) => {
    return `  ${printable(key)}: ${value === null ? '(none)' : shown(value)}\n`;
  });
  const headerText = headers.length === 0 ? '' : `\nheaders\n${headers.join('')}`;
  const value = event === null ? '' : `\n${valueText(event.valueBytes, options.format)}\n`;
  await output.write(`${deadLetterFacts(deadLetter)}${headerText}${value}`);
  const error = record?.error;
  if (error !== undefined)
    say(terminal, `the event itself cannot be shown: ${printable(error.message)} (${error.code})`);
}

function valueText(bytes: Uint8Array | null, format: ValueFormat): string {
  if (bytes === null) return '(no value)';
  if (format === 'bytes') return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64');
  if (format === 'text') return shown(bytes);
  try {
    // Laid out anew only when no digit changes by it.
    const text = Buffer.from(bytes).toString('utf8');
    const value: unknown = JSON.parse(text);
    if (JSON.stringify(value) !== text) return shown(bytes);
    return JSON.stringify(value, null, 2).split('\n').map(printable).join('\n');
  } catch {
    return shown(bytes);
  }
}
