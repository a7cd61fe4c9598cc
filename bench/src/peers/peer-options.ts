/** The command line of the bench with peers. */
import { parseArgs } from 'node:util';
import { peerScenarios } from './scenarios/peer-scenarios.ts';
import { SERVER_NAMES } from '../peer-servers/server-kind.ts';
import type { ServerName } from '../peer-servers/server-kind.ts';
import type { PeerSettings } from './subject-run.ts';

const MIB = 1024 ** 2;
const GIB = 1024 ** 3;

export const PEER_USAGE = `Usage: npm run bench:peers [-- OPTIONS]

  --only NAME        a scenario, or the beginning of some; may be given more than once
  --servers A,B      of ${SERVER_NAMES.join(', ')}; default: all that are here
  --clients A,B      only subjects with these clients
  --durability D     fsync or no-fsync: only subjects of this class
  --rounds N         of each scenario, in turn (default 5)
  --seconds N        about how long one measurement takes (default 6)
  --stored-gib N     stored before consuming and before a recovery (default 1)
  --quick            one round of a second: shows that everything runs
  --data DIRECTORY   where servers keep their data (default bench/results/local)
  --record           writes to bench/results/peers instead of bench/results/local/peers
  --list             scenarios and their subjects, and which servers are here

Scenarios: ${peerScenarios.map(({ name }) => name).join(', ')}
What servers it needs and how to get them: bench/README.md.
`;

export interface PeerOptions {
  readonly only: readonly string[];
  readonly servers: readonly ServerName[];
  readonly clients: readonly string[];
  readonly durability: string | undefined;
  readonly rounds: number;
  readonly isQuick: boolean;
  readonly settings: Omit<PeerSettings, 'directory'>;
  readonly dataDirectory: string | undefined;
  readonly record: boolean;
  readonly list: boolean;
}

/** @throws Error that says what is wrong with `argv`; null when help is wanted */
export function parsePeerOptions(argv: readonly string[]): PeerOptions | null {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      only: { type: 'string', multiple: true, default: [] },
      servers: { type: 'string' },
      clients: { type: 'string', default: '' },
      durability: { type: 'string' },
      rounds: { type: 'string' },
      seconds: { type: 'string' },
      'stored-gib': { type: 'string' },
      quick: { type: 'boolean', default: false },
      data: { type: 'string' },
      record: { type: 'boolean', default: false },
      list: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help) return null;
  const { quick, only, durability } = values;
  for (const name of only) {
    if (!peerScenarios.some((scenario) => scenario.name.startsWith(name)))
      throw new Error(`--only: there is no scenario ${name}`);
  }
  if (durability !== undefined && durability !== 'fsync' && durability !== 'no-fsync') {
    throw new Error(`--durability: expected fsync or no-fsync, got ${durability}`);
  }
  return {
    only,
    servers: serverNames(values.servers),
    clients: list(values.clients),
    durability,
    rounds: Math.ceil(positive('rounds', values.rounds, quick ? 1 : 5)),
    isQuick: quick,
    settings: {
      seconds: positive('seconds', values.seconds, quick ? 1 : 6),
      maxBytes: quick ? 64 * MIB : 2 * GIB,
      storedBytes: positive('stored-gib', values['stored-gib'], quick ? 1 / 32 : 1) * GIB,
      warmUpEvents: quick ? 2_000 : 20_000,
    },
    dataDirectory: values.data,
    record: values.record,
    list: values.list,
  };
}

function serverNames(text: string | undefined): ServerName[] {
  if (text === undefined) return [...SERVER_NAMES];
  return list(text).map((name) => {
    const known = SERVER_NAMES.find((one) => one === name);
    if (known === undefined)
      throw new Error(`--servers: there is no server ${name}; there are ${SERVER_NAMES.join(', ')}`);
    return known;
  });
}

function list(text: string): string[] {
  return text.split(',').filter((one) => one !== '');
}

function positive(name: string, text: string | undefined, otherwise: number): number {
  const value = text === undefined ? otherwise : Number(text);
  if (value > 0 && Number.isFinite(value)) return value;
  throw new Error(`--${name}: expected a number above 0, got ${String(text)}`);
}
