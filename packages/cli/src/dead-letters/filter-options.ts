/** Which dead letters a command is about: options, and the filter that they make. */
import { Option, type Command } from 'commander';
import { readTime } from '../options.ts';

export interface FilterOptions {
  readonly topic?: string;
  readonly key?: string;
  readonly reason?: string;
  readonly since?: Date;
  readonly before?: Date;
}

export function withFilterOptions(command: Command): Command {
  return command
    .option('--topic <name>', 'only of this topic')
    .option('--key <text>', 'only of events with this key')
    .option('--reason <reason>', 'only with this reason, such as attempts-exhausted')
    .addOption(new Option('--since <time>', 'dead-lettered at this time or later, ISO 8601').argParser(readTime))
    .addOption(new Option('--before <time>', 'dead-lettered before this time, ISO 8601').argParser(readTime));
}

export function hasFilter({ topic, key, reason, since, before }: FilterOptions): boolean {
  return [topic, key, reason, since, before].some((value) => value !== undefined);
}

/** As the broker's calls take it. */
export function wireFilter(groupId: string, ids: readonly string[], options: FilterOptions) {
  const { topic = '', key, reason = '', since, before } = options;
  return {
    groupId,
    ids: [...ids],
    topic,
    reason,
    sinceMs: BigInt(since?.getTime() ?? 0),
    beforeMs: BigInt(before?.getTime() ?? 0),
    ...(key === undefined ? {} : { keyText: key }),
  };
}
