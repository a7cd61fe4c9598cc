/**
 * `npm run bench:peers`: Naru beside Kafka, NATS, Redis and RabbitMQ, on the same work, in one run.
 *
 * Servers are started here, on free ports of the loopback interface, and end with this process, also when it is interrupted. One that
 * is not on this machine is said and left out. Ends with code 1 when something failed, 2 for a wrong command line; a target that was
 * missed is said and fails nothing.
 */
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { columns } from '../report/columns.ts';
import { machine, memoryFileSystem } from '../report/machine.ts';
import { clientPackages } from '../peer-clients/clients.ts';
import { librdkafkaMissing } from '../peer-clients/kafkajs-client.ts';
import { PEER_USAGE, parsePeerOptions } from './peer-options.ts';
import type { PeerOptions } from './peer-options.ts';
import { PeerRunner } from './peer-runner.ts';
import { subjectName } from './peer-scenario.ts';
import type { PeerScenario, Subject } from './peer-scenario.ts';
import { writeScenario } from './report/peer-files.ts';
import { ratioTable, recordOf, tableOf, verdictLines } from './report/peer-report.ts';
import { peerScenarios } from './scenarios/peer-scenarios.ts';
import { endAll } from '../peer-servers/peer-server.ts';
import { cached } from '../peer-servers/peer-cache.ts';
import { serverKinds } from '../peer-servers/server-kinds.ts';

const RESULTS = fileURLToPath(new URL('../../results/', import.meta.url));
const INTERRUPTED = 130;

/** By server, why it is not here. */
function missingServers(): Map<string, string> {
  const found = new Map<string, string>();
  for (const kind of Object.values(serverKinds)) {
    const missing = kind.missing();
    if (missing !== null) found.set(kind.name, missing);
  }
  return found;
}

function wanted(options: PeerOptions, missing: ReadonlyMap<string, string>): (subject: Subject) => boolean {
  const hasLibrdkafka = librdkafkaMissing() === null;
  const hasTools = !missing.has('kafka');
  return ({ server, client, durability }) => {
    if (client === 'librdkafka' && !hasLibrdkafka) return false;
    if (client === 'kafka-tools' && !hasTools) return false;
    if (options.durability !== undefined && durability !== options.durability) return false;
    if (options.clients.length > 0 && !options.clients.includes(client)) return false;
    return server === 'bare' || (options.servers.includes(server) && !missing.has(server));
  };
}

function versions(missing: ReadonlyMap<string, string>): Record<string, string> {
  const servers = Object.values(serverKinds).filter(({ name }) => !missing.has(name));
  const found: Record<string, string> = {};
  for (const kind of servers) found[kind.name] = kind.version();
  for (const name of clientPackages) found[name] = packageVersion(name);
  const librdkafka = cached('librdkafka', `-node-${process.version}`);
  if (librdkafka !== null) found['@confluentinc/kafka-javascript'] = librdkafka.version;
  return found;
}

function packageVersion(name: string): string {
  for (const folder of createRequire(import.meta.url).resolve.paths(name) ?? []) {
    try {
      const { version } = JSON.parse(readFileSync(join(folder, name, 'package.json'), 'utf8')) as { version: string };
      return version;
    } catch {
      // Perhaps in the next one.
    }
  }
  return 'not installed';
}

function progress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\u001B[K${text}`);
  else if (text !== '') process.stderr.write(`${text}\n`);
}

function say(text: string): void {
  progress('');
  console.log(text);
}

async function bench(options: PeerOptions): Promise<number> {
  const missing = missingServers();
  for (const [name, why] of missing) console.log(`without ${name}: ${why}`);
  if (librdkafkaMissing() !== null) console.log(`without librdkafka: ${librdkafkaMissing()}`);
  const wants = wanted(options, missing);
  const chosen = peerScenarios.filter(
    ({ name, subjects }) =>
      (options.only.length === 0 || options.only.some((one) => name.startsWith(one))) && subjects.some(wants),
  );
  if (options.list) {
    for (const { name, title, subjects } of chosen) {
      console.log(`${name}: ${title}\n    ${subjects.filter(wants).map(subjectName).join('\n    ')}`);
    }
    return 0;
  }
  const { platform, cores, cpu } = machine();
  console.log(`${platform}, ${cores} × ${cpu}`);
  const known = versions(missing);
  for (const [name, version] of Object.entries(known)) console.log(`${name}: ${version}`);
  const directory = options.dataDirectory ?? join(RESULTS, 'local');
  await mkdir(directory, { recursive: true });
  const inMemory = await memoryFileSystem(directory);
  if (inMemory !== null) console.log(`${directory} is on ${inMemory}: what is said of fsync means nothing`);
  let failures = 0;
  for (const scenario of chosen) failures += await runScenario(scenario, options, { directory, wants, known });
  return failures === 0 ? 0 : 1;
}

interface RunContext {
  readonly directory: string;
  readonly wants: (subject: Subject) => boolean;
  readonly known: Readonly<Record<string, string>>;
}

/** Returns how many subjects failed. */
async function runScenario(scenario: PeerScenario, options: PeerOptions, context: RunContext): Promise<number> {
  const { directory, wants, known } = context;
  const { rounds, isQuick } = options;
  const startedAt = new Date();
  say(`\n${scenario.title}`);
  const settings = { ...options.settings, directory };
  const result = await new PeerRunner(scenario, { settings, rounds, isQuick, wants, progress, say }).run();
  progress('');
  const command = ['npm run bench:peers --', ...process.argv.slice(2)].join(' ');
  const seconds = (Date.now() - startedAt.getTime()) / 1_000;
  const recorded = recordOf(result, { startedAt, seconds, command, rounds, versions: known });
  for (const line of columns(tableOf(recorded))) console.log(`  ${line}`);
  console.log();
  for (const line of columns(ratioTable(recorded))) console.log(`  ${line}`);
  for (const line of verdictLines(recorded)) console.log(`  ${line}`);
  const target = join(RESULTS, options.record ? 'peers' : 'local/peers');
  const order = peerScenarios.map(({ name }) => name);
  console.log(`  ${Math.round(seconds)} s; written: ${await writeScenario(target, recorded, order)}`);
  return result.failures.length;
}

process.on('exit', endAll);
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => process.exit(INTERRUPTED));

let options: PeerOptions | null;
try {
  options = parsePeerOptions(process.argv.slice(2));
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exit(2);
}
if (options === null) console.log(PEER_USAGE);
// Clients may keep connections and timers.
else process.exit(await bench(options));
