/** `naru schema`: list, get, register and check schemas of the broker's schema registry, by its REST API. */
import { readFile } from 'node:fs/promises';
import { extname } from 'node:path';
import { NaruError } from '@naru/protocol';
import { InvalidArgumentError, Option, type Command } from 'commander';
import { CommandFailure } from '../command-failure.ts';
import { integerReader, withSharedOptions, type SharedOptions } from '../options.ts';
import { DataOutput } from '../output/data-output.ts';
import { jsonDocument } from '../output/json.ts';
import { table } from '../output/table.ts';
import { RegistryConnection } from '../registry-connection.ts';
import { say, type Terminal } from '../terminal.ts';

const TYPES = ['avro', 'json', 'protobuf'] as const;
const TYPE_OF_EXTENSION: Readonly<Record<string, (typeof TYPES)[number]>> = {
  '.avsc': 'avro',
  '.json': 'json',
  '.proto': 'protobuf',
};
const MAX_NUMBER = 2 ** 31 - 1;
const readNumber = integerReader(1, MAX_NUMBER);

interface Reference {
  readonly name: string;
  readonly subject: string;
  readonly version: number;
}

interface Version {
  readonly subject: string;
  readonly version: number;
  readonly id: number;
  /** Avro when it is missing. */
  readonly schemaType?: string;
  readonly schema: string;
  readonly references?: readonly Reference[];
}

interface ListOptions extends SharedOptions {
  readonly prefix?: string;
  readonly deleted?: true;
}

interface GetOptions extends SharedOptions {
  /** Not `--version`, which is the program's. */
  readonly schemaVersion: string;
  readonly id?: number;
}

interface SchemaOptions extends SharedOptions {
  readonly file: string;
  readonly type?: (typeof TYPES)[number];
  readonly reference?: readonly Reference[];
  readonly normalize?: true;
}

interface CheckOptions extends SchemaOptions {
  readonly schemaVersion?: string;
}

export function addSchemaCommand(program: Command, terminal: Terminal): void {
  const schema = program.command('schema').description('List, get, register and check schemas in the schema registry.');
  withSharedOptions(schema.command('list'))
    .description('List subjects with their latest versions.')
    .option('--prefix <text>', 'only subjects that begin with this')
    .option('--deleted', 'also what was deleted and can still be read')
    .action((options: ListOptions) => list(options, terminal));
  const getCommand = withSharedOptions(schema.command('get'))
    .description('Print a schema: by subject and version, or by its id.')
    .argument('[subject]')
    .option('--schema-version <number>', 'a number or "latest"', readVersion, 'latest')
    .option('--id <number>', 'the id that is in the events', readNumber)
    .action((subject: string | undefined, options: GetOptions) => {
      if ((subject === undefined) === (options.id === undefined))
        getCommand.error('error: say which: a subject or --id');
      return get(subject, options, terminal);
    });
  withSchemaOptions(withSharedOptions(schema.command('register')))
    .description('Register a schema as the next version of a subject, unless the subject has it.')
    .action((subject: string, options: SchemaOptions) => register(subject, options, terminal));
  withSchemaOptions(withSharedOptions(schema.command('check')))
    .description('Tell whether a schema could be registered: ends with 0 when it is compatible, else with 1.')
    .option('--schema-version <number>', 'only with this version, a number or "latest"', readVersion)
    .action((subject: string, options: CheckOptions) => check(subject, options, terminal));
}

function withSchemaOptions(command: Command): Command {
  return command
    .argument('<subject>', 'such as orders-value')
    .requiredOption('--file <path>', 'the schema; - for stdin')
    .addOption(new Option('--type <type>', 'default: by the file’s ending .avsc, .json or .proto').choices([...TYPES]))
    .option('--reference <name=subject:version>', 'another schema that it uses; may be repeated', collectReference)
    .option('--normalize', 'put in order what has none before comparing');
}

async function list(options: ListOptions, terminal: Terminal): Promise<void> {
  const registry = await RegistryConnection.open(terminal, options);
  const query = new URLSearchParams({ latestOnly: 'true', subjectPrefix: options.prefix ?? '' });
  if (options.deleted === true) query.set('deleted', 'true');
  const versions = await registry.call<readonly Version[]>('GET', `/schemas?${query.toString()}`);
  const output = new DataOutput(terminal);
  if (options.output === 'json') {
    await output.write(jsonDocument(versions.map(versionJson)));
    return;
  }
  if (versions.length === 0) say(terminal, 'there are no schemas; "naru schema register SUBJECT --file F" makes one');
  const columns = [
    { title: 'SUBJECT', value: ({ subject }: Version) => subject },
    { title: 'VERSION', value: ({ version }: Version) => version },
    { title: 'ID', value: ({ id }: Version) => id },
    { title: 'TYPE', value: ({ schemaType }: Version) => schemaType ?? 'AVRO' },
  ];
  await output.write(await table(columns, versions, terminal.stdout));
}

async function get(subject: string | undefined, options: GetOptions, terminal: Terminal): Promise<void> {
  const registry = await RegistryConnection.open(terminal, options);
  const path =
    subject === undefined
      ? `/schemas/ids/${options.id}`
      : `/subjects/${encodeURIComponent(subject)}/versions/${options.schemaVersion}`;
  const found = await registry.call<Partial<Version> & Pick<Version, 'schema'>>('GET', path);
  const output = new DataOutput(terminal);
  if (options.output === 'json') await output.write(jsonDocument({ id: options.id, ...versionJson(found) }));
  else await output.write(found.schema.endsWith('\n') ? found.schema : `${found.schema}\n`);
}

async function register(subject: string, options: SchemaOptions, terminal: Terminal): Promise<void> {
  const body = await schemaBody(options, terminal);
  const registry = await RegistryConnection.open(terminal, options);
  const at = `/subjects/${encodeURIComponent(subject)}`;
  const { id } = await registry.call<{ readonly id: number }>('POST', `${at}/versions`, body);
  const { version } = await registry.call<Version>('POST', at, body);
  if (options.output === 'json') await new DataOutput(terminal).write(jsonDocument({ subject, version, id }));
  else say(terminal, `${subject} has the schema as version ${version}, with id ${id}`);
}

async function check(subject: string, options: CheckOptions, terminal: Terminal): Promise<void> {
  const body = await schemaBody(options, terminal);
  const registry = await RegistryConnection.open(terminal, options);
  const version = options.schemaVersion === undefined ? '' : `/${options.schemaVersion}`;
  const path = `/compatibility/subjects/${encodeURIComponent(subject)}/versions${version}?verbose=true`;
  const report = await registry.call<{ readonly is_compatible: boolean; readonly messages: readonly string[] }>(
    'POST',
    path,
    body,
  );
  const { is_compatible: isCompatible, messages } = report;
  if (options.output === 'json')
    await new DataOutput(terminal).write(jsonDocument({ subject, isCompatible, messages }));
  else {
    say(terminal, `the schema is ${isCompatible ? '' : 'not '}compatible with ${subject}`);
    for (const message of messages) say(terminal, `  ${message}`);
  }
  if (!isCompatible) throw new CommandFailure(1);
}

async function schemaBody(options: SchemaOptions, terminal: Terminal): Promise<Record<string, unknown>> {
  const { file, reference: references, normalize = false } = options;
  const type = options.type ?? TYPE_OF_EXTENSION[extname(file).toLowerCase()];
  if (type === undefined)
    throw new NaruError(
      'INVALID_REQUEST',
      `${file} does not end with .avsc, .json or .proto: say what it is with --type`,
    );
  const schema = file === '-' ? await readAll(terminal) : await readSchemaFile(file);
  return { schema, schemaType: type.toUpperCase(), references, normalize };
}

async function readSchemaFile(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    throw new NaruError('INVALID_REQUEST', `cannot read ${file}: ${(error as Error).message}`, { cause: error });
  }
}

async function readAll({ stdin }: Terminal): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of stdin as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks).toString('utf8');
}

function versionJson({ schemaType = 'AVRO', references = [], ...version }: Partial<Version>): Record<string, unknown> {
  return { ...version, schemaType, references };
}

function readVersion(text: string): string {
  return text === 'latest' ? text : String(readNumber(text));
}

/** Names may have `=` and `:` in them, as URIs do: subjects begin after the last `=`. */
function collectReference(text: string, before: readonly Reference[] = []): Reference[] {
  const match = /^(.+)=([^=]+):(\d+)$/.exec(text);
  if (match === null) throw new InvalidArgumentError('Expected NAME=SUBJECT:VERSION.');
  const [, name = '', subject = '', version = ''] = match;
  return [...before, { name, subject, version: readNumber(version) }];
}
