/** `naru publish`: one event from the command line, or one for each line of a file or of stdin. */
import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import type { Serde } from '@naru/client';
import { NaruError } from '@naru/protocol';
import { Option, type Command } from 'commander';
import { CommandFailure } from '../command-failure.ts';
import { withNaru } from '../connection.ts';
import { readEventInput } from '../input/event-input.ts';
import { readPointer, type JsonPointer } from '../input/json-pointer.ts';
import { INTERRUPTED_EXIT_CODE, listenForInterruption } from '../interruption.ts';
import { collectHeader, readPartition, withSharedOptions, type HeaderOption, type SharedOptions } from '../options.ts';
import { DataOutput } from '../output/data-output.ts';
import { jsonLine } from '../output/json.ts';
import { LinePublisher, type PublishSummary } from '../publishing/line-publisher.ts';
import { publishResultJson } from '../publishing/publish-result-json.ts';
import { say, type Terminal } from '../terminal.ts';

interface PublishOptions extends SharedOptions {
  readonly key?: string;
  readonly keyField?: JsonPointer;
  readonly header?: readonly HeaderOption[];
  readonly value?: string;
  readonly file?: string;
  readonly raw?: true;
  readonly partition?: number;
}

export function addPublishCommand(program: Command, terminal: Terminal): void {
  withSharedOptions(program.command('publish'))
    .description('Publish events: one with --value, else one for each line of a file or of stdin, JSON unless --raw.')
    .argument('<topic>')
    .argument('[input]', '- for stdin, which is the default')
    .addOption(new Option('--key <text>', 'key of every event: what is kept in order').conflicts('keyField'))
    .addOption(
      new Option('--key-field <pointer>', 'where in each value its key is, such as /order/id')
        .argParser(readPointer)
        .conflicts('raw'),
    )
    .option('--header <name=value>', 'header of every event; can be repeated', collectHeader)
    .addOption(new Option('--value <json>', 'publish this one').conflicts('file'))
    .option('--file <file>', 'read lines from a file; - is stdin')
    .option('--raw', 'publish text as it is, also when it is not JSON')
    .option('--partition <number>', 'partition, in place of the one that the key decides', readPartition)
    .action((topic: string, input: string | undefined, options: PublishOptions, command: Command) => {
      if (input !== undefined && input !== '-')
        command.error(`error: expected - for stdin, not "${input}"; text goes to --value`);
      if (input === '-' && options.value !== undefined) command.error('error: choose --value or -, not both');
      if (input === '-' && options.file !== undefined) command.error('error: choose --file or -, not both');
      return options.value === undefined
        ? publishLines(topic, options, terminal)
        : publishOne(topic, options.value, options, terminal);
    });
}

async function publishOne(topic: string, text: string, options: PublishOptions, terminal: Terminal): Promise<void> {
  const { key, value } = readEventInput(Buffer.from(text, 'utf8'), inputOptions(options));
  const { header: headers, partition } = options;
  const result = await withNaru(terminal, options, async (naru) => {
    return naru.publish(topic, value, { key, headers, partition, serde: await bytesSerde() });
  });
  const line = options.output === 'json' ? jsonLine(publishResultJson(result)) : `${result.requestId}\n`;
  await new DataOutput(terminal).write(line);
  if (options.output !== 'json') say(terminal, `published to ${topic}/${result.partition} at offset ${result.offset}`);
}

async function publishLines(topic: string, options: PublishOptions, terminal: Terminal): Promise<void> {
  const source = await openSource(options.file, terminal);
  using interruption = listenForInterruption();
  const summary = await withNaru(terminal, options, async (naru) => {
    const serde = await bytesSerde();
    if (source === terminal.stdin && terminal.stdin.isTTY === true) {
      say(terminal, `one event a line${options.raw === true ? '' : ', in JSON'}; Ctrl-D ends`);
    }
    const { header: headers, partition } = options;
    const publisher = new LinePublisher({
      terminal,
      isJson: options.output === 'json',
      input: inputOptions(options),
      publish: ({ key, value }) => naru.publish(topic, value, { key, headers, partition, serde }),
    });
    return publisher.run(source, interruption.signal);
  });
  say(terminal, summaryText(summary, topic));
  if (interruption.signal.aborted) throw new CommandFailure(INTERRUPTED_EXIT_CODE);
  if (summary.failed > 0) throw new CommandFailure(1);
}

/** What is published is bytes already. */
async function bytesSerde(): Promise<Serde<Uint8Array | null>> {
  const { serdes } = await import('@naru/client');
  return serdes.bytes;
}

function inputOptions({ key, keyField, raw }: PublishOptions) {
  return { key, keyField, raw: raw === true };
}

async function openSource(file: string | undefined, terminal: Terminal): Promise<Readable> {
  if (file === undefined || file === '-') return terminal.stdin;
  try {
    const handle = await open(file);
    if ((await handle.stat()).isDirectory()) {
      await handle.close();
      throw new NaruError('INVALID_REQUEST', 'it is a directory');
    }
    return createReadStream('', { fd: handle });
  } catch (error) {
    throw new NaruError('INVALID_REQUEST', `cannot read ${file}: ${(error as Error).message}`, { cause: error });
  }
}

function summaryText({ published, failed, failedLines, unreadFrom }: PublishSummary, topic: string): string {
  const parts = [`published ${published} ${published === 1 ? 'event' : 'events'} to ${topic}`];
  if (failed > 0) parts.push(`${failed} failed (${failed === 1 ? 'line' : 'lines'} ${failedLines})`);
  if (unreadFrom !== null) parts.push(`stopped before line ${unreadFrom}`);
  return parts.join('; ');
}
