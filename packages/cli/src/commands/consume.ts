/**
 * `naru consume`: prints events as they come.
 *
 * Invariant: what is committed was handed to the reader of stdout before.
 */
import type { Isolation, Naru, PollOptions } from '@naru/client';
import { Option, type Command } from 'commander';
import { withNaru } from '../connection.ts';
import { commitOnDemand } from '../consuming/commit-on-demand.ts';
import { listenForInterruption } from '../interruption.ts';
import {
  readCount,
  readDuration,
  readPosition,
  withSharedOptions,
  type ReadingPosition,
  type SharedOptions,
} from '../options.ts';
import { DataOutput } from '../output/data-output.ts';
import { eventJsonLine, eventTextLine } from '../output/event-line.ts';
import { Progress } from '../output/progress.ts';
import { say, type Terminal } from '../terminal.ts';

interface ConsumeOptions extends SharedOptions {
  readonly group?: string;
  readonly from?: ReadingPosition;
  readonly max?: number;
  readonly commit?: 'auto' | 'manual' | 'none';
  readonly idleExit?: number;
  readonly isolation?: Isolation;
}

export function addConsumeCommand(program: Command, terminal: Terminal): void {
  withSharedOptions(program.command('consume'), 'json')
    .description('Print events, one a line. Without --group it only looks on, and commits nothing.')
    .argument('<topics...>')
    .option('--group <name>', 'read as a member of this consumer group')
    .option(
      '--from <position>',
      'where to begin without a committed offset: beginning, end, an offset or an ISO 8601 time (default: beginning with --group, else end)',
      readPosition,
    )
    .option('--max <number>', 'end after so many events', readCount)
    .addOption(
      new Option(
        '--commit <mode>',
        'auto: what was printed, every second and at the end; manual: what was printed, at each line on stdin; none (default: auto)',
      ).choices(['auto', 'manual', 'none']),
    )
    .addOption(
      new Option(
        '--isolation <level>',
        'of transactions: committed gives what is committed; uncommitted, without --group, all that is stored (default: committed)',
      ).choices(['committed', 'uncommitted']),
    )
    .option('--idle-exit <duration>', 'end when nothing has come for so long, such as 5s', readDuration)
    .action((topics: string[], options: ConsumeOptions, command: Command) => {
      if (options.commit !== undefined && options.group === undefined) command.error('error: --commit needs --group');
      if (options.isolation === 'uncommitted' && options.group !== undefined)
        command.error('error: --isolation uncommitted is for reading without --group');
      return consume(topics, options, terminal);
    });
}

async function consume(topics: readonly string[], options: ConsumeOptions, terminal: Terminal): Promise<void> {
  using interruption = listenForInterruption();
  const count = await withNaru(terminal, options, async (naru) => {
    if (terminal.stderr.isTTY === true) say(terminal, introduction(topics, options));
    const { serdes } = await import('@naru/client');
    const batches = naru.poll<Uint8Array | null>({
      ...pollOptions(topics, options, interruption.signal),
      serde: serdes.bytes,
    });
    return print(batches, options, terminal);
  });
  if (terminal.stderr.isTTY === true) say(terminal, `${count} ${count === 1 ? 'event' : 'events'}`);
}

function pollOptions(topics: readonly string[], options: ConsumeOptions, signal: AbortSignal): PollOptions {
  const { group, from, max, commit, idleExit, isolation } = options;
  return {
    group,
    topics,
    signal,
    from: from ?? (group === undefined ? 'end' : 'beginning'),
    idleTimeoutMs: idleExit,
    isolation,
    autoCommit: group !== undefined && (commit ?? 'auto') === 'auto',
    // A batch is committed as a whole: with a limit, none may reach beyond it.
    ...(max === undefined ? {} : { maxBatchEvents: 1 }),
  };
}

async function print(batches: ReturnType<Naru['poll']>, options: ConsumeOptions, terminal: Terminal): Promise<number> {
  const { max = Number.POSITIVE_INFINITY, commit = 'auto', group } = options;
  const lineOf = options.output === 'json' ? eventJsonLine : eventTextLine;
  const output = new DataOutput(terminal);
  const progress = new Progress(terminal, terminal.stdout.isTTY !== true);
  using demand = commit === 'manual' ? commitOnDemand(terminal) : null;
  let count = 0;
  try {
    for await (const batch of batches) {
      let text = '';
      for (const event of batch) text += lineOf(event);
      if (!(await output.write(text))) break;
      count += batch.events.length;
      progress.update(() => `${count} events`);
      demand?.printed(batch);
      if (count < max) continue;
      // Coming back for more would say that this one is done.
      if (group !== undefined && commit === 'auto') await batch.commit();
      break;
    }
  } finally {
    progress.clear();
  }
  await demand?.idle();
  return count;
}

function introduction(topics: readonly string[], { group, commit }: ConsumeOptions): string {
  const who = group === undefined ? 'looking on, nothing is committed' : `as a member of ${group}`;
  const how = commit === 'manual' ? '; Enter commits what was printed' : '';
  return `waiting for events of ${topics.join(', ')}: ${who}${how}; Ctrl-C ends`;
}
