/** `naru topic delete-records`: deletes the oldest events of a topic, for good. */
import type { Naru } from '@naru/client';
import type { Command } from 'commander';
import { withNaru } from '../connection.ts';
import {
  readPartition,
  readPosition,
  withSharedOptions,
  type ReadingPosition,
  type SharedOptions,
} from '../options.ts';
import { DataOutput } from '../output/data-output.ts';
import { jsonDocument } from '../output/json.ts';
import { table } from '../output/table.ts';
import { say, type Terminal } from '../terminal.ts';

interface DeleteRecordsOptions extends SharedOptions {
  readonly before: ReadingPosition;
  readonly partition?: readonly number[];
  readonly execute?: true;
}

interface Deletion {
  readonly partition: number;
  /** Log start offset before and after. */
  readonly from: bigint;
  readonly to: bigint;
}

export function addDeleteRecordsCommand(topic: Command, terminal: Terminal): void {
  withSharedOptions(topic.command('delete-records'))
    .description('Delete a topic’s oldest events for good, for every group. Shows what it would do until --execute.')
    .argument('<name>')
    .requiredOption('--before <position>', 'end, an offset, or a time (ISO 8601): what comes before goes', readPosition)
    .option('--partition <number>', 'only this partition; may be repeated', collectPartition)
    .option('--execute', 'do it')
    .action((name: string, options: DeleteRecordsOptions) => deleteRecords(name, options, terminal));
}

function collectPartition(text: string, before: readonly number[] = []): number[] {
  return [...before, readPartition(text)];
}

async function deleteRecords(name: string, options: DeleteRecordsOptions, terminal: Terminal): Promise<void> {
  const executed = options.execute === true;
  const deletions = await withNaru(terminal, options, async (naru) => {
    const planned = await plan(naru, name, options);
    if (!executed || planned.length === 0) return planned;
    const before = planned.map(({ partition, to }) => ({ partition, before: to }));
    const done = new Map(
      (await naru.admin.deleteRecords(name, before)).map((start) => [start.partition, start.offset]),
    );
    return planned.map((deletion) => ({ ...deletion, to: done.get(deletion.partition) ?? deletion.to }));
  });
  const output = new DataOutput(terminal);
  if (options.output === 'json') {
    await output.write(jsonDocument({ executed, deletions }));
    return;
  }
  const columns = [
    { title: 'PARTITION', value: ({ partition }: Deletion) => partition },
    { title: 'START', value: ({ from }: Deletion) => from },
    { title: 'NEW START', value: ({ to }: Deletion) => to },
    { title: 'OFFSETS', value: ({ from, to }: Deletion) => to - from },
  ];
  await output.write(await table(columns, deletions, terminal.stdout));
  if (deletions.length === 0) say(terminal, 'nothing to delete');
  else if (executed) say(terminal, `deleted the oldest events of topic ${name}`);
  else say(terminal, 'nothing was changed: --execute does it');
}

/** Partitions that have something to delete. */
async function plan(
  naru: Naru,
  name: string,
  { before, partition: partitions }: DeleteRecordsOptions,
): Promise<Deletion[]> {
  const [starts, targets] = await Promise.all([
    naru.admin.listOffsets(name, 'beginning', { partitions: partitions ?? [] }),
    naru.admin.listOffsets(name, before, { partitions: partitions ?? [] }),
  ]);
  return targets.flatMap(({ partition, offset: to }, index) => {
    const from = starts[index]?.offset ?? 0n;
    return to > from ? [{ partition, from, to }] : [];
  });
}
