/** `naru start`: a broker in this process, until a signal ends it or it fails. */
import { resolve } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import type { Broker, BrokerConfig, BrokerConfigInput } from '@naru/broker';
import { Option, type Command } from 'commander';
import { CommandFailure } from '../command-failure.ts';
import { listenForInterruption } from '../interruption.ts';
import { readPort, withOutputOption, type OutputFormat } from '../options.ts';
import { DataOutput } from '../output/data-output.ts';
import { reportError } from '../output/error-report.ts';
import { jsonDocument, jsonLine } from '../output/json.ts';
import { yamlDocument } from '../output/yaml.ts';
import { say, type Terminal } from '../terminal.ts';

/**
 * Of a broker that serves. A whole collection comes when memory has doubled: batches lie outside V8's heap, and for those V8 would
 * collect twice as often, which took a seventh of the CPU of a broker that is published to.
 */
const V8_SERVES = ['--heap-growing-percent=100'];
/**
 * The same of Node 24 alone: other versions of V8 do not know it, and say so. Without it every 64 MiB of batches set off a collection
 * of the whole heap, which takes up to half of the time of a busy broker.
 */
const V8_13_SERVES = ['--external-memory-accounted-in-global-limit'];
/** By when the first requests have loaded and compiled what the others need, too. */
const SETTLED_MS = 3_000;

interface StartOptions {
  readonly config?: string;
  readonly host?: string;
  readonly port?: number;
  readonly data?: string;
  readonly storage?: BrokerConfig['storage'];
  readonly allowRemote?: true;
  readonly logLevel?: BrokerConfig['logLevel'];
  readonly env?: string;
  readonly printConfig?: true;
  readonly output: OutputFormat;
}

export function addStartCommand(program: Command, terminal: Terminal): void {
  const command = program
    .command('start')
    .description('Start a broker; Ctrl-C stops it.')
    .option('--config <file>', 'settings file, with a broker: section (default: naru.yaml if there is one)')
    .option('--host <address>', 'address to listen on (default: 127.0.0.1)')
    .option('--port <number>', 'port to listen on, 0 for any free one (default: 9092)', readPort)
    .option('--data <directory>', 'where everything is kept (default: naru-data)')
    .addOption(
      new Option('--storage <engine>', 'where events are kept; memory keeps nothing (default: file)').choices([
        'file',
        'memory',
        'sqlite',
        'postgres',
      ]),
    )
    .option('--allow-remote', 'listen beyond this machine although there is no authentication')
    .addOption(
      new Option('--log-level <level>', 'how much to say on stderr (default: info)').choices([
        'silent',
        'error',
        'warn',
        'info',
        'debug',
      ]),
    )
    .option('--env <name>', 'which of the file’s environments is laid over it (default: NARU_ENV, else none)')
    .option('--print-config', 'print the settings that would be used and where each is from, and end')
    .action((options: StartOptions) => start(options, terminal));
  withOutputOption(command);
}

async function start(options: StartOptions, terminal: Terminal): Promise<void> {
  const { Broker, explainBrokerConfig, pinoLogger } = await import('@naru/broker');
  const environment =
    options.env === undefined ? terminal.environment : { ...terminal.environment, NARU_ENV: options.env };
  const { settings: config, origins } = await explainBrokerConfig(options.config, flagsOf(options), environment);
  const output = new DataOutput(terminal);
  if (options.printConfig === true) {
    await output.write(printedConfig(config, origins, options.output));
    return;
  }
  using interruption = listenForInterruption();
  const logger = await pinoLogger({ level: config.logLevel, isForPeople: terminal.stderr.isTTY === true });
  const broker = await Broker.start(config, { logger });
  await announce(broker, options.output, terminal, output);
  const settling = setTimeout(() => settle(terminal), SETTLED_MS);
  const failure = await Promise.race([broker.failed, whenAborted(interruption.signal)]);
  if (failure !== null) reportError(terminal, failure, options.output === 'json');
  else say(terminal, `stopping (${String(interruption.signal.reason)})`);
  clearTimeout(settling);
  await broker.close();
  if (failure !== null) throw new CommandFailure(1);
}

/**
 * Not before: V8 refuses code that was compiled by other flags, that of Node's own modules too, and compiling those takes as long as
 * all of ours. Code is kept here, so that a broker that is killed has left its own for the next one.
 */
function settle(terminal: Terminal): void {
  terminal.keepCode();
  const isV813 = process.versions.v8.startsWith('13.');
  for (const flag of isV813 ? [...V8_SERVES, ...V8_13_SERVES] : V8_SERVES) setFlagsFromString(flag);
}

function flagsOf(options: StartOptions): BrokerConfigInput {
  const { host, port, data, storage, allowRemote, logLevel } = options;
  const flags = { host, port, data, storage, allowRemote, logLevel };
  return Object.fromEntries(Object.entries(flags).filter(([, value]) => value !== undefined));
}

/** What is in force, secrets masked, with where each setting is from: as comments, or beside it for programs. */
function printedConfig(config: BrokerConfig, origins: ReadonlyMap<string, string>, format: OutputFormat): string {
  const broker = { ...config, postgres: { ...config.postgres, url: masked(config.postgres.url) } };
  const from = new Map(
    [...origins].map(([name, origin]) => [`broker.${name}`, origin === 'given' ? flagName(name) : origin]),
  );
  if (format === 'json') return jsonDocument({ broker, origins: Object.fromEntries(from) });
  return yamlDocument({ broker }, (path) => from.get(path));
}

function flagName(setting: string): string {
  return `--${setting.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}

/** Says that the broker serves, and where: to people on stderr, to programs (`-o json`) on stdout. */
async function announce(broker: Broker, format: OutputFormat, terminal: Terminal, output: DataOutput): Promise<void> {
  const { storage } = broker.config;
  const data = placeOf(broker.config);
  const where = data === null ? `${storage} storage, nothing is kept` : `${storage} storage in ${data}`;
  say(terminal, `naru serves on ${broker.bootstrap} (${where})`);
  if (format !== 'json') return;
  await output.write(jsonLine({ ...broker.address, storage, data }));
}

/** Where the storage keeps everything; null when it keeps nothing. */
function placeOf({ storage, data, postgres }: BrokerConfig): string | null {
  if (storage === 'memory') return null;
  return storage === 'postgres' ? masked(postgres.url) : resolve(data);
}

/** The URL of a database without its password. */
function masked(url: string): string {
  if (!URL.canParse(url)) return '***';
  const shown = new URL(url);
  if (shown.password !== '') shown.password = '***';
  return shown.href;
}

function whenAborted(signal: AbortSignal): Promise<null> {
  return new Promise((done) => {
    if (signal.aborted) done(null);
    else signal.addEventListener('abort', () => done(null), { once: true });
  });
}
