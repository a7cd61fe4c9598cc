/** `naru topic config`: shows a topic's settings, and changes them. */
import type { Naru, TopicConfigEntry } from '@naru/client';
import type { Command } from 'commander';
import { withNaru } from '../connection.ts';
import { collectSetting, withSharedOptions, type SharedOptions } from '../options.ts';
import { DataOutput } from '../output/data-output.ts';
import { jsonDocument } from '../output/json.ts';
import { table } from '../output/table.ts';
import { say, type Terminal } from '../terminal.ts';

interface ConfigOptions extends SharedOptions {
  readonly set?: Readonly<Record<string, string>>;
  readonly unset?: readonly string[];
}

export function addTopicConfigCommand(topic: Command, terminal: Terminal): void {
  withSharedOptions(topic.command('config'))
    .description('Show a topic’s settings, and change them: how long events are kept, compaction, segments.')
    .argument('<name>')
    .option('--set <setting=value>', 'such as retention.ms=7d; may be repeated', collectSetting)
    .option('--unset <setting...>', 'back to the broker’s default')
    .action((name: string, options: ConfigOptions) => config(name, options, terminal));
}

async function config(name: string, options: ConfigOptions, terminal: Terminal): Promise<void> {
  const { set = {}, unset = [] } = options;
  const changes = Object.keys(set).length + unset.length;
  const entries = await withNaru(terminal, options, async (naru: Naru) => {
    if (changes > 0) await naru.admin.changeTopicConfig(name, { set, unset });
    return naru.admin.describeTopicConfig(name);
  });
  if (changes > 0) say(terminal, `changed ${changes} ${changes === 1 ? 'setting' : 'settings'} of topic ${name}`);
  const output = new DataOutput(terminal);
  if (options.output === 'json') {
    await output.write(jsonDocument(entries));
    return;
  }
  const columns = [
    { title: 'SETTING', value: (entry: TopicConfigEntry) => entry.name },
    { title: 'VALUE', value: ({ value }: TopicConfigEntry) => value },
    { title: 'FROM', value: ({ isSet }: TopicConfigEntry) => (isSet ? 'topic' : 'default') },
    { title: 'MEANING', value: ({ help }: TopicConfigEntry) => help },
  ];
  await output.write(await table(columns, entries, terminal.stdout));
}
