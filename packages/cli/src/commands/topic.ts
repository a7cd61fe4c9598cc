/** `naru topic`: create, list, describe, configure, delete and grow topics. */
import { formatByteSize } from '@naru/base';
import type { Topic, TopicDescription, TopicType } from '@naru/client';
import { Option, type Command } from 'commander';
import { withNaru } from '../connection.ts';
import { collectSetting, readPartitionCount, withSharedOptions, type SharedOptions } from '../options.ts';
import { DataOutput } from '../output/data-output.ts';
import { jsonDocument } from '../output/json.ts';
import { table } from '../output/table.ts';
import { say, type Terminal } from '../terminal.ts';
import { addDeleteRecordsCommand } from './delete-records.ts';
import { addTopicConfigCommand } from './topic-config.ts';

interface CreateOptions extends SharedOptions {
  readonly partitions?: number;
  readonly type: TopicType;
  readonly config?: Readonly<Record<string, string>>;
}

interface ListOptions extends SharedOptions {
  readonly internal?: true;
}

interface AddPartitionsOptions extends SharedOptions {
  readonly to: number;
  readonly allowKeyReorder?: true;
}

export function addTopicCommand(program: Command, terminal: Terminal): void {
  const topic = program.command('topic').description('Create, list, describe, configure, delete and grow topics.');
  withSharedOptions(topic.command('create'))
    .description('Create a topic.')
    .argument('<name>', 'a-z, A-Z, 0-9, ".", "_" and "-"')
    .option(
      '--partitions <number>',
      'how many members of a group can share the work (default: the broker’s, 6)',
      readPartitionCount,
    )
    .addOption(
      new Option('--type <type>', 'ordered: order by key; parallel: single events to any member')
        .choices(['ordered', 'parallel'])
        .default('ordered'),
    )
    .option(
      '--config <setting=value>',
      'such as retention.ms=7d; may be repeated (see "naru topic config")',
      collectSetting,
    )
    .action((name: string, options: CreateOptions) => create(name, options, terminal));
  withSharedOptions(topic.command('list'))
    .description('List topics.')
    .option('--internal', 'the broker’s own too')
    .action((options: ListOptions) => list(options, terminal));
  withSharedOptions(topic.command('describe'))
    .description('Show a topic and its partitions.')
    .argument('<name>')
    .action((name: string, options: SharedOptions) => describe(name, options, terminal));
  withSharedOptions(topic.command('delete'))
    .description('Delete a topic and all its events.')
    .argument('<name>')
    .action((name: string, options: SharedOptions) => remove(name, options, terminal));
  withSharedOptions(topic.command('add-partitions'))
    .description('Give a topic more partitions.')
    .argument('<name>')
    .requiredOption('--to <number>', 'how many it will have', readPartitionCount)
    .option(
      '--allow-key-reorder',
      'ordered topics: accept that keys move, so that order between old and new events is lost',
    )
    .action((name: string, options: AddPartitionsOptions) => addPartitions(name, options, terminal));
  addTopicConfigCommand(topic, terminal);
  addDeleteRecordsCommand(topic, terminal);
}

async function create(name: string, options: CreateOptions, terminal: Terminal): Promise<void> {
  const { partitions, type, config } = options;
  const created = await withNaru(terminal, options, (naru) =>
    naru.admin.createTopic(name, { partitions, type, config }),
  );
  await told(created, `created topic ${name} (${created.type}, ${partitionsText(created)})`, options, terminal);
}

async function list(options: ListOptions, terminal: Terminal): Promise<void> {
  const internal = options.internal === true;
  const topics = await withNaru(terminal, options, (naru) => naru.admin.listTopics({ internal }));
  const sorted = [...topics].sort((a, b) => (a.name < b.name ? -1 : 1));
  const output = new DataOutput(terminal);
  if (options.output === 'json') {
    await output.write(jsonDocument(sorted.map(topicJson)));
    return;
  }
  if (sorted.length === 0) say(terminal, 'there are no topics; "naru topic create NAME" makes one');
  const columns = [
    { title: 'TOPIC', value: ({ name }: Topic) => name },
    { title: 'TYPE', value: ({ type }: Topic) => type },
    { title: 'PARTITIONS', value: ({ partitions }: Topic) => partitions },
    { title: 'CREATED', value: ({ createdAtMs }: Topic) => new Date(createdAtMs).toISOString() },
  ];
  await output.write(await table(columns, sorted, terminal.stdout));
}

async function describe(name: string, options: SharedOptions, terminal: Terminal): Promise<void> {
  const topic = await withNaru(terminal, options, (naru) => naru.admin.describeTopic(name));
  const output = new DataOutput(terminal);
  if (options.output === 'json') {
    await output.write(jsonDocument(descriptionJson(topic)));
    return;
  }
  const { topicId, type, createdAtMs, partitionDetails } = topic;
  const facts = [
    `topic    ${name}`,
    `id       ${topicId}`,
    `type     ${type}`,
    `created  ${new Date(createdAtMs).toISOString()}`,
    ...Object.entries(topic.config).map(([key, value]) => `${key}  ${value}`),
  ];
  type Details = TopicDescription['partitionDetails'][number];
  const columns = [
    { title: 'PARTITION', value: ({ partition }: Details) => partition },
    { title: 'START', value: ({ logStartOffset }: Details) => logStartOffset },
    { title: 'END', value: ({ highWatermark }: Details) => highWatermark },
    { title: 'STABLE', value: ({ lastStableOffset }: Details) => lastStableOffset },
    { title: 'EVENTS', value: ({ highWatermark, logStartOffset }: Details) => highWatermark - logStartOffset },
    { title: 'SIZE', value: ({ sizeBytes }: Details) => formatByteSize(Number(sizeBytes)) },
  ];
  await output.write(`${facts.join('\n')}\n\n${await table(columns, partitionDetails, terminal.stdout)}`);
}

async function remove(name: string, options: SharedOptions, terminal: Terminal): Promise<void> {
  await withNaru(terminal, options, (naru) => naru.admin.deleteTopic(name));
  say(terminal, `deleted topic ${name}`);
}

async function addPartitions(name: string, options: AddPartitionsOptions, terminal: Terminal): Promise<void> {
  const allowKeyReorder = options.allowKeyReorder === true;
  const grown = await withNaru(terminal, options, (naru) =>
    naru.admin.addPartitions(name, options.to, { allowKeyReorder }),
  );
  await told(grown, `topic ${name} has ${partitionsText(grown)} now`, options, terminal);
}

/** What was done: a sentence for people, the topic for programs. */
async function told(topic: Topic, sentence: string, { output }: SharedOptions, terminal: Terminal): Promise<void> {
  if (output === 'json') await new DataOutput(terminal).write(jsonDocument(topicJson(topic)));
  else say(terminal, sentence);
}

function partitionsText({ partitions }: Topic): string {
  return partitions === 1 ? '1 partition' : `${partitions} partitions`;
}

function topicJson({ name, topicId, type, partitions, config, createdAtMs }: Topic): Record<string, unknown> {
  return { name, topicId, type, partitions, config, createdAt: new Date(createdAtMs).toISOString() };
}

function descriptionJson(topic: TopicDescription): Record<string, unknown> {
  return { ...topicJson(topic), partitionDetails: topic.partitionDetails };
}
