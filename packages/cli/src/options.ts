/** Options that several commands have, and how option values are read. A value that cannot be read is a usage error. */
import { parseDuration } from '@naru/base';
import { InvalidArgumentError, Option, type Command } from 'commander';

export type OutputFormat = 'table' | 'json';

export interface SharedOptions {
  readonly broker?: string;
  readonly output: OutputFormat;
}

const DEFAULT_PORT = 9092;
const MAX_PARTITIONS = 10_000;

/** Adds what every command has that talks to a broker. */
export function withSharedOptions(command: Command, defaultFormat: OutputFormat = 'table'): Command {
  return withOutputOption(command, defaultFormat).addOption(
    new Option(
      '--broker <host:port>',
      'broker to talk to (default: naru.yaml, NARU_BROKERS, else localhost:9092)',
    ).argParser(readBrokers),
  );
}

export function withOutputOption(command: Command, defaultFormat: OutputFormat = 'table'): Command {
  const option = new Option('-o, --output <format>', 'how to print').choices(['table', 'json']).default(defaultFormat);
  return command.addOption(option);
}

/** `host:port`, several with commas; a missing port is 9092. */
export function readBrokers(text: string): string {
  const brokers = text.split(',').map((part) => {
    const match = /^([^\s:/[\]]+|\[[0-9a-f:.]+\])(?::(\d{1,5}))?$/i.exec(part.trim());
    const port = match?.[2] === undefined ? DEFAULT_PORT : Number(match[2]);
    if (match === null || port < 1 || port > 65_535) throw new InvalidArgumentError('Expected HOST:PORT.');
    return `${match[1]}:${port}`;
  });
  return brokers.join(',');
}

/** A whole number within bounds, both included. */
export function integerReader(minimum: number, maximum: number): (text: string) => number {
  return (text) => {
    const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
    if (value >= minimum && value <= maximum) return value;
    throw new InvalidArgumentError(`Expected a whole number from ${minimum} to ${maximum}.`);
  };
}

export const readPartitionCount = integerReader(1, MAX_PARTITIONS);
export const readPartition = integerReader(0, MAX_PARTITIONS - 1);
export const readPort = integerReader(0, 65_535);
export const readCount = integerReader(1, Number.MAX_SAFE_INTEGER);

/** `500ms`, `5s`, `2m`; in milliseconds. */
export function readDuration(text: string): number {
  const value = parseDuration(text);
  if (typeof value === 'number') return value;
  throw new InvalidArgumentError('Expected a duration such as 500ms, 5s or 2m.');
}

export function readOffset(text: string): bigint {
  return BigInt(integerReader(0, Number.MAX_SAFE_INTEGER)(text));
}

const ISO_PATTERN = /^\d{4}-\d{2}-\d{2}(?:T\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:Z|[+-]\d{2}:\d{2})?)?$/i;

/** ISO 8601. A date alone is midnight UTC; a time without a zone is local. */
export function readTime(text: string): Date {
  const time = new Date(ISO_PATTERN.test(text) ? text : Number.NaN);
  if (!Number.isNaN(time.getTime())) return time;
  throw new InvalidArgumentError('Expected a time such as 2026-01-31T08:00:00Z.');
}

export type ReadingPosition = 'beginning' | 'end' | bigint | Date;

/** `beginning`, `end`, an offset or a time. */
export function readPosition(text: string): ReadingPosition {
  if (text === 'beginning' || text === 'end') return text;
  if (/^\d+$/.test(text)) return readOffset(text);
  if (ISO_PATTERN.test(text)) return readTime(text);
  throw new InvalidArgumentError('Expected beginning, end, an offset, or a time such as 2026-01-31T08:00:00Z.');
}

/** Collects `setting=value`; the last of a name counts. */
export function collectSetting(
  text: string,
  before: Readonly<Record<string, string>> = {},
): Readonly<Record<string, string>> {
  const at = text.indexOf('=');
  if (at < 1) throw new InvalidArgumentError('Expected SETTING=VALUE.');
  return { ...before, [text.slice(0, at).trim()]: text.slice(at + 1).trim() };
}

export interface HeaderOption {
  readonly key: string;
  readonly value: Uint8Array;
}

/** Collects `key=value`, in order; a key may repeat. */
export function collectHeader(text: string, before: readonly HeaderOption[] = []): HeaderOption[] {
  const at = text.indexOf('=');
  if (at < 1) throw new InvalidArgumentError('Expected NAME=VALUE.');
  return [...before, { key: text.slice(0, at), value: Buffer.from(text.slice(at + 1), 'utf8') }];
}
