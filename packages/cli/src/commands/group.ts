/** `naru group`: list, describe, reset and delete consumer groups. */
import type {
  GroupDescription,
  GroupGate,
  GroupQueue,
  GroupListing,
  GroupMember,
  GroupOffset,
  OffsetReset,
  WithheldEvent,
} from '@naru/client';
import { Option, type Command } from 'commander';
import { withNaru } from '../connection.ts';
import { readOffset, readTime, withSharedOptions, type ReadingPosition, type SharedOptions } from '../options.ts';
import { DataOutput } from '../output/data-output.ts';
import { jsonDocument } from '../output/json.ts';
import { numberRanges } from '../output/number-ranges.ts';
import { printable } from '../output/printable.ts';
import { table } from '../output/table.ts';
import { say, type Terminal } from '../terminal.ts';

interface ResetOptions extends SharedOptions {
  readonly topic?: readonly string[];
  readonly toBeginning?: true;
  readonly toEnd?: true;
  readonly toOffset?: bigint;
  readonly toTime?: Date;
  readonly execute?: true;
}

export function addGroupCommand(program: Command, terminal: Terminal): void {
  const group = program.command('group').description('List, describe, reset and delete consumer groups.');
  withSharedOptions(group.command('list'))
    .description('List groups.')
    .action((options: SharedOptions) => list(options, terminal));
  withSharedOptions(group.command('describe'))
    .description('Show a group’s members, what they read, and how far behind they are.')
    .argument('<group>')
    .action((id: string, options: SharedOptions) => describe(id, options, terminal));
  withSharedOptions(group.command('reset-offsets'))
    .description(
      'Move what a group has committed. Shows what it would do until --execute; refuses a group with live members.',
    )
    .argument('<group>')
    .option('--topic <name...>', 'only these topics (default: all that the group has committed)')
    .addOption(new Option('--to-beginning', 'everything again').conflicts(['toEnd', 'toOffset', 'toTime']))
    .addOption(new Option('--to-end', 'only what comes after now').conflicts(['toOffset', 'toTime']))
    .addOption(
      new Option('--to-offset <number>', 'an offset, within what each partition has')
        .argParser(readOffset)
        .conflicts(['toTime']),
    )
    .addOption(new Option('--to-time <time>', 'the first events of that time or later, ISO 8601').argParser(readTime))
    .option('--execute', 'do it')
    .action((id: string, options: ResetOptions, command: Command) => resetOffsets(id, options, command, terminal));
  withSharedOptions(group.command('delete'))
    .description('Forget a group and what it has committed. Refuses a group with live members.')
    .argument('<group>')
    .action((id: string, options: SharedOptions) => remove(id, options, terminal));
}

async function list(options: SharedOptions, terminal: Terminal): Promise<void> {
  const groups = await withNaru(terminal, options, (naru) => naru.admin.listGroups());
  const sorted = [...groups].sort((a, b) => (a.groupId < b.groupId ? -1 : 1));
  const output = new DataOutput(terminal);
  if (options.output === 'json') {
    await output.write(jsonDocument(sorted));
    return;
  }
  if (sorted.length === 0) say(terminal, 'there are no groups; "naru consume TOPIC --group NAME" makes one');
  const columns = [
    { title: 'GROUP', value: ({ groupId }: GroupListing) => groupId },
    { title: 'STATE', value: ({ state }: GroupListing) => state },
    { title: 'MEMBERS', value: ({ members }: GroupListing) => members },
    { title: 'TOPICS', value: ({ topics }: GroupListing) => topics.join(', ') },
  ];
  await output.write(await table(columns, sorted, terminal.stdout));
}

async function describe(id: string, options: SharedOptions, terminal: Terminal): Promise<void> {
  const group = await withNaru(terminal, options, (naru) => naru.admin.describeGroup(id));
  const lag = group.offsets.reduce((sum, offset) => sum + offset.lag, 0n);
  const output = new DataOutput(terminal);
  if (options.output === 'json') await output.write(jsonDocument({ ...group, lag }));
  else await output.write(await describedText(group, lag, terminal));
}

async function describedText(group: GroupDescription, lag: bigint, terminal: Terminal): Promise<string> {
  const facts = [
    `group    ${printable(group.groupId)}`,
    `state    ${group.state}`,
    `epoch    ${group.groupEpoch}`,
    `members  ${group.members.length}`,
    `lag      ${lag}`,
  ];
  const memberColumns = [
    { title: 'MEMBER', value: ({ memberId }: GroupMember) => memberId },
    { title: 'INSTANCE', value: ({ instanceId }: GroupMember) => instanceId },
    { title: 'CLIENT', value: ({ clientId }: GroupMember) => clientId },
    { title: 'HOST', value: ({ clientHost }: GroupMember) => clientHost },
    { title: 'EPOCH', value: ({ memberEpoch }: GroupMember) => memberEpoch },
    { title: 'ASSIGNED', value: ({ assigned }: GroupMember) => partitionsText(assigned) },
    { title: 'REVOKING', value: ({ revoking }: GroupMember) => partitionsText(revoking) },
  ];
  const offsetColumns = [
    { title: 'TOPIC', value: ({ topic }: GroupOffset) => topic },
    { title: 'PARTITION', value: ({ partition }: GroupOffset) => partition },
    { title: 'COMMITTED', value: ({ committedOffset }: GroupOffset) => committedOffset },
    { title: 'END', value: ({ highWatermark }: GroupOffset) => highWatermark },
    { title: 'LAG', value: ({ lag: behind }: GroupOffset) => behind },
    { title: 'FINISHED BEYOND', value: ({ finished }: GroupOffset) => finished.map(rangeText).join(',') },
    { title: 'MEMBER', value: ({ memberId }: GroupOffset) => memberId },
  ];
  const sections = [facts.map((fact) => `${fact}\n`).join('')];
  if (group.members.length > 0) sections.push(await table(memberColumns, group.members, terminal.stdout));
  if (group.offsets.length > 0) sections.push(await table(offsetColumns, group.offsets, terminal.stdout));
  const gated = group.offsets.filter(isGated);
  if (gated.length > 0) sections.push(await table(gateColumns, gated, terminal.stdout));
  const queued = group.offsets.filter(isQueued);
  if (queued.length > 0) sections.push(await table(queueColumns, queued, terminal.stdout));
  return sections.join('\n');
}

type QueuedOffset = GroupOffset & { readonly queue: GroupQueue };

function isQueued(offset: GroupOffset): offset is QueuedOffset {
  return offset.queue !== undefined;
}

const queueColumns = [
  { title: 'TOPIC', value: ({ topic }: QueuedOffset) => topic },
  { title: 'PARTITION', value: ({ partition }: QueuedOffset) => partition },
  { title: 'AVAILABLE', value: ({ queue }: QueuedOffset) => queue.available },
  { title: 'ACQUIRED', value: ({ queue }: QueuedOffset) => queue.acquired },
  { title: 'BY MEMBERS', value: ({ queue }: QueuedOffset) => queue.holders },
  { title: 'FINISHED BEYOND', value: ({ queue }: QueuedOffset) => queue.finished },
  { title: 'DYING', value: ({ queue }: QueuedOffset) => queue.dying },
  { title: 'OLDEST', value: ({ queue }: QueuedOffset) => queue.oldest },
];

type GatedOffset = GroupOffset & { readonly gate: GroupGate };

function isGated(offset: GroupOffset): offset is GatedOffset {
  return offset.gate !== undefined;
}

const gateColumns = [
  { title: 'TOPIC', value: ({ topic }: GatedOffset) => topic },
  { title: 'PARTITION', value: ({ partition }: GatedOffset) => partition },
  { title: 'WAITS FOR', value: ({ gate }: GatedOffset) => gate.waitsFor.join(', ') },
  { title: 'RELEASED TO', value: ({ gate }: GatedOffset) => gate.gateOffset },
  { title: 'WITHHELD', value: ({ gate }: GatedOffset) => gate.withheld },
  { title: 'PASSED OVER', value: ({ gate }: GatedOffset) => passedOverText(gate) },
  { title: 'OLDEST', value: ({ gate }: GatedOffset) => gate.oldest.map(withheldText).join('; ') },
];

function passedOverText({ passedOver, behindKey, stalled }: GroupGate): string {
  const behind = behindKey === 0 ? '' : ` (${behindKey} behind their key)`;
  return `${passedOver}${behind}${stalled ? ', stalled' : ''}`;
}

function withheldText({ offset, reason, groupId = '', deadLetterId = '' }: WithheldEvent): string {
  const group = printable(groupId);
  switch (reason) {
    case 'lag':
      return `${offset}: ${group} has not finished it`;
    case 'retry':
      return `${offset}: failed in ${group}, which will handle it again`;
    case 'dead-letter':
      return `${offset}: dead letter ${deadLetterId} of ${group}`;
    case 'behind-key':
      return `${offset}: behind an earlier event of its key`;
  }
}

async function resetOffsets(id: string, options: ResetOptions, command: Command, terminal: Terminal): Promise<void> {
  const to = positionOf(options);
  if (to === undefined) command.error('error: say where to: --to-beginning, --to-end, --to-offset or --to-time');
  const execute = options.execute === true;
  const reset = await withNaru(terminal, options, (naru) =>
    naru.admin.resetOffsets(id, { topics: options.topic, to, execute }),
  );
  const output = new DataOutput(terminal);
  if (options.output === 'json') {
    await output.write(jsonDocument(reset));
    return;
  }
  type Change = OffsetReset['changes'][number];
  const columns = [
    { title: 'TOPIC', value: ({ topic }: Change) => topic },
    { title: 'PARTITION', value: ({ partition }: Change) => partition },
    { title: 'FROM', value: ({ from }: Change) => from },
    { title: 'TO', value: ({ to: target }: Change) => target },
  ];
  await output.write(await table(columns, reset.changes, terminal.stdout));
  if (reset.changes.length === 0)
    say(terminal, 'nothing to change: the group has committed nothing; name topics with --topic');
  else if (reset.executed) say(terminal, `reset ${reset.changes.length} offsets of group ${printable(id)}`);
  else say(terminal, 'nothing was changed: --execute does it');
}

/** Commander has seen to it that there is one at most. */
function positionOf({ toBeginning, toEnd, toOffset, toTime }: ResetOptions): ReadingPosition | undefined {
  if (toBeginning === true) return 'beginning';
  if (toEnd === true) return 'end';
  return toOffset ?? toTime;
}

async function remove(id: string, options: SharedOptions, terminal: Terminal): Promise<void> {
  await withNaru(terminal, options, (naru) => naru.admin.deleteGroup(id));
  say(terminal, `deleted group ${printable(id)}`);
}

function partitionsText(partitions: GroupMember['assigned']): string {
  return partitions.map(({ topic, partitions: numbers }) => `${topic}:${numberRanges(numbers)}`).join(' ');
}

function rangeText({ from, to }: GroupOffset['finished'][number]): string {
  return to - from === 1n ? `${from}` : `${from}-${to - 1n}`;
}
