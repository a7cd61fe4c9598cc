/** `naru trace`: what became of one event, in each group. */
import { TraceService, type TraceResponse } from '@naru/protocol/proto';
import type { Command } from 'commander';
import { withBroker } from '../connection.ts';
import { readDuration, withSharedOptions, type SharedOptions } from '../options.ts';
import { DataOutput } from '../output/data-output.ts';
import { jsonDocument } from '../output/json.ts';
import { printable } from '../output/printable.ts';
import { say, type Terminal } from '../terminal.ts';
import { readEventArgument, type EventArgument } from '../tracing/event-argument.ts';
import { traceJson, traceText } from '../tracing/trace-text.ts';

interface TraceOptions extends SharedOptions {
  readonly ceId?: string;
  readonly topic?: string;
  readonly tolerance?: number;
  readonly group?: readonly string[];
}

export function addTraceCommand(program: Command, terminal: Terminal): void {
  withSharedOptions(program.command('trace'))
    .description('Show where an event is stored, and what each group made of it.')
    .argument('[event]', 'its request id, or TOPIC/PARTITION/OFFSET', readEventArgument)
    .option('--ce-id <id>', 'look for the event with this CloudEvents id, a UUIDv7, around the time that is in it')
    .option('--topic <name>', 'with --ce-id: look in this topic only')
    .option(
      '--tolerance <duration>',
      'with --ce-id: how far from its time to look (default: 5m, at most 1h)',
      readDuration,
    )
    .option('--group <name...>', 'only these groups')
    .action((event: EventArgument | undefined, options: TraceOptions, command: Command) => {
      const { ceId, topic, tolerance } = options;
      if ((event === undefined) === (ceId === undefined))
        command.error('error: name one event: its request id, TOPIC/PARTITION/OFFSET, or --ce-id');
      if (ceId === undefined && (topic !== undefined || tolerance !== undefined))
        command.error('error: --topic and --tolerance need --ce-id');
      return trace(event, options, terminal);
    });
}

async function trace(event: EventArgument | undefined, options: TraceOptions, terminal: Terminal): Promise<void> {
  const found = await withBroker(terminal, options, ({ call, limit }) =>
    call(TraceService.method.trace, { event: query(event, options), groups: [...(options.group ?? [])] }, limit()),
  );
  const output = new DataOutput(terminal);
  if (options.output === 'json') {
    await output.write(jsonDocument(traceJson(found)));
    return;
  }
  await output.write(traceText(found));
  tell(found, terminal);
}

function query(event: EventArgument | undefined, { ceId = '', topic = '', tolerance = 0 }: TraceOptions) {
  if (event === undefined) {
    const value = { id: ceId, topic, toleranceMs: BigInt(tolerance) };
    return { case: 'cloudEvent', value } as const;
  }
  if (event.by === 'request-id') return { case: 'requestId', value: event.requestId } as const;
  const { topic: name, partition, offset } = event;
  return { case: 'place', value: { topic: name, partition, offset } } as const;
}

function tell({ groups, remark }: TraceResponse, terminal: Terminal): void {
  if (groups.length === 0) say(terminal, 'no group has anything to do with it');
  if (remark !== '') say(terminal, printable(remark));
}
