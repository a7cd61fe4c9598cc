/** `naru catalog`: check, plan, apply, drift, types and asyncapi, from events.yaml. */
import { writeFile } from 'node:fs/promises';
import type { Catalog, Naru } from '@naru/client';
import { NaruError } from '@naru/protocol';
import type { Command } from 'commander';
import type { Consents, PlannedChange } from '../catalog/catalog-plan.ts';
import { CommandFailure } from '../command-failure.ts';
import { withNaru } from '../connection.ts';
import { withOutputOption, withSharedOptions, type OutputFormat, type SharedOptions } from '../options.ts';
import { DataOutput } from '../output/data-output.ts';
import { jsonDocument } from '../output/json.ts';
import { table } from '../output/table.ts';
import { RegistryConnection } from '../registry-connection.ts';
import { say, type Terminal } from '../terminal.ts';

interface FileOptions {
  readonly file?: string;
  readonly env?: string;
}

interface CheckOptions extends FileOptions {
  readonly output: OutputFormat;
}

interface PlanOptions extends FileOptions, SharedOptions {
  readonly allowKeyReorder?: readonly string[];
  readonly allowDeleteData?: readonly string[];
}

interface OutOptions extends FileOptions {
  readonly out?: string;
}

export function addCatalogCommand(program: Command, terminal: Terminal): void {
  const catalog = program
    .command('catalog')
    .description('Check the event catalog, and bring the broker and code in line with it.');
  withFile(withOutputOption(catalog.command('check')))
    .description('Read the catalog, every environment and every schema; say what is wrong. Needs no broker.')
    .action((options: CheckOptions) => check(options, terminal));
  withConsents(withFile(withSharedOptions(catalog.command('plan'))))
    .description('Show what apply would do.')
    .action((options: PlanOptions) => plan(options, terminal));
  withConsents(withFile(withSharedOptions(catalog.command('apply'))))
    .description('Make topics, groups and schemas as the catalog says. Deletes nothing; may be repeated.')
    .action((options: PlanOptions) => apply(options, terminal));
  withFile(withSharedOptions(catalog.command('drift')))
    .description('Compare the broker with the catalog: ends with 0 when nothing differs, else with 1.')
    .action((options: PlanOptions) => drift(options, terminal));
  withFile(catalog.command('types'))
    .description('Write TypeScript types of the events; with them the compiler checks publish and handle.')
    .option('--out <file>', 'such as src/events.d.ts (default: stdout)')
    .action((options: OutOptions) => types(options, terminal));
  withFile(catalog.command('asyncapi'))
    .description('Write the catalog as an AsyncAPI 3 document (JSON).')
    .option('--out <file>', 'default: stdout')
    .action((options: OutOptions) => asyncapi(options, terminal));
}

function withFile(command: Command): Command {
  return command
    .option('--file <path>', 'the catalog (default: that of naru.yaml, NARU_CATALOG, else events.yaml)')
    .option('--env <name>', 'which of its environments (default: NARU_ENV, else none)');
}

function withConsents(command: Command): Command {
  return command
    .option('--allow-key-reorder <topic...>', 'topics that may get more partitions although keys move then')
    .option('--allow-delete-data <topic...>', 'topics that may keep their events for a shorter time');
}

async function load({ file, env }: FileOptions, { environment }: Terminal): Promise<Catalog> {
  const { Catalog: loaded, DEFAULT_CATALOG_FILE, loadSettings } = await import('@naru/client');
  const overlay = env === undefined ? environment : { ...environment, NARU_ENV: env };
  const settings = await loadSettings(undefined, overlay);
  return loaded.load(file ?? settings.catalog ?? DEFAULT_CATALOG_FILE, { environment: settings.environment });
}

async function check(options: CheckOptions, terminal: Terminal): Promise<void> {
  const catalog = await load(options, terminal);
  const { checkTopicSettings } = await import('../catalog/topic-settings-check.ts');
  await catalog.check();
  await checkTopicSettings(catalog);
  if (options.env === undefined) {
    for (const environment of catalog.environments) {
      const inside = await load({ file: catalog.file, env: environment }, terminal);
      await inside.check();
      await checkTopicSettings(inside);
    }
  }
  const events = catalog.events.size;
  const topics = catalog.topics.size;
  if (options.output === 'json') {
    const { file, environments } = catalog;
    await new DataOutput(terminal).write(jsonDocument({ file, environments, events, topics }));
  } else say(terminal, `${catalog.file} is right: ${counted(events, 'event')} in ${counted(topics, 'topic')}`);
}

async function plan(options: PlanOptions, terminal: Terminal): Promise<void> {
  const catalog = await load(options, terminal);
  const changes = await withNaru(terminal, options, (naru) => planned(naru, catalog, options, terminal));
  await show(changes, options, terminal);
}

async function apply(options: PlanOptions, terminal: Terminal): Promise<void> {
  const catalog = await load(options, terminal);
  const { checkTopicSettings } = await import('../catalog/topic-settings-check.ts');
  await catalog.check();
  await checkTopicSettings(catalog);
  await withNaru(terminal, options, async (naru) => {
    const changes = await planned(naru, catalog, options, terminal);
    const refused = changes.filter((change) => change.refused !== null);
    if (refused.length > 0) {
      const lines = refused.map(({ target, what, refused: why }) => `  ${target}: ${what}: ${why}`);
      throw new NaruError('INVALID_REQUEST', `nothing was changed, since this is refused:\n${lines.join('\n')}`);
    }
    const { applyChanges } = await import('../catalog/catalog-state.ts');
    await applyChanges(naru, () => RegistryConnection.open(terminal, options), catalog, changes);
    if (options.output === 'json') await new DataOutput(terminal).write(jsonDocument(changes.map(changeJson)));
    else for (const { target, what } of changes) say(terminal, `${target}: ${what}`);
    say(terminal, changes.length === 0 ? 'nothing to do' : `made ${counted(changes.length, 'change')}`);
  });
}

async function drift(options: PlanOptions, terminal: Terminal): Promise<void> {
  const catalog = await load(options, terminal);
  const changes = await withNaru(terminal, options, (naru) => planned(naru, catalog, options, terminal));
  await show(changes, options, terminal);
  if (changes.length > 0) throw new CommandFailure(1);
}

async function planned(
  naru: Naru,
  catalog: Catalog,
  options: PlanOptions,
  terminal: Terminal,
): Promise<PlannedChange[]> {
  const [{ planCatalog }, { readSchemas, readTopics }] = await Promise.all([
    import('../catalog/catalog-plan.ts'),
    import('../catalog/catalog-state.ts'),
  ]);
  const consents = consentsOf(options, catalog);
  const topics = await readTopics(naru, catalog);
  const schemas = await readSchemas(() => RegistryConnection.open(terminal, options), catalog);
  return planCatalog(catalog, topics, schemas, consents);
}

/** @throws NaruError INVALID_REQUEST for a topic that the catalog does not have: a slip of the pen must not allow nothing */
function consentsOf({ allowKeyReorder = [], allowDeleteData = [] }: PlanOptions, catalog: Catalog): Consents {
  const unknown = [...allowKeyReorder, ...allowDeleteData].find((topic) => !catalog.topics.has(topic));
  if (unknown === undefined) return { keyReorder: allowKeyReorder, deleteData: allowDeleteData };
  throw new NaruError('INVALID_REQUEST', `the catalog has no topic ${JSON.stringify(unknown)}`);
}

async function show(
  changes: readonly PlannedChange[],
  { output: format }: SharedOptions,
  terminal: Terminal,
): Promise<void> {
  const output = new DataOutput(terminal);
  if (format === 'json') {
    await output.write(jsonDocument(changes.map(changeJson)));
    return;
  }
  if (changes.length === 0) {
    say(terminal, 'the broker is as the catalog says');
    return;
  }
  const columns = [
    { title: 'WHAT', value: ({ target }: PlannedChange) => target },
    { title: 'CHANGE', value: ({ what }: PlannedChange) => what },
    { title: 'REFUSED', value: ({ refused }: PlannedChange) => refused ?? '' },
  ];
  await output.write(await table(columns, changes, terminal.stdout));
}

function changeJson({ kind, target, what, refused }: PlannedChange): Record<string, unknown> {
  return { kind, target, what, refused };
}

async function types(options: OutOptions, terminal: Terminal): Promise<void> {
  const catalog = await load(options, terminal);
  const { catalogTypes } = await import('../catalog/types/catalog-types.ts');
  await put(await catalogTypes(catalog), options, terminal);
}

async function asyncapi(options: OutOptions, terminal: Terminal): Promise<void> {
  const catalog = await load(options, terminal);
  const { asyncApiDocument } = await import('../catalog/asyncapi.ts');
  await put(jsonDocument(await asyncApiDocument(catalog)), options, terminal);
}

async function put(text: string, { out }: OutOptions, terminal: Terminal): Promise<void> {
  if (out === undefined) {
    await new DataOutput(terminal).write(text);
    return;
  }
  try {
    await writeFile(out, text);
  } catch (error) {
    throw new NaruError('INVALID_REQUEST', `cannot write ${out}: ${(error as Error).message}`, { cause: error });
  }
  say(terminal, `wrote ${out}`);
}

function counted(count: number, what: string): string {
  return count === 1 ? `1 ${what}` : `${count} ${what}s`;
}
