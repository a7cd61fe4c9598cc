/** Redis with an append-only file. */
import { relative } from 'node:path';
import { LOOPBACK, freePorts } from './free-ports.ts';
import { HOW_TO_FETCH, debianRoot, output } from './peer-cache.ts';
import type { PlanOptions, ServerKind, ServerPlan } from './server-kind.ts';

export const redis: ServerKind = {
  name: 'redis',
  durabilities: ['fsync', 'no-fsync'],
  directories: inDebian,
  missing: () => (version() === null ? `redis-server is not there: ${HOW_TO_FETCH}, or install Debian's` : null),
  version: () => version() ?? '',
  plan,
};

/** Where a server in a chroot can have a directory; of one without, in this machine's. */
export function inDebian(): string {
  return `${debianRoot() ?? ''}/var/tmp`;
}

/** The command that runs `command` where it is installed, with its arguments. */
export function whereInstalled(command: string, args: readonly string[]): { command: string; args: readonly string[] } {
  const root = debianRoot();
  return root === null ? { command, args } : { command: 'chroot', args: [root, command, ...args] };
}

/** `directory` as a program that is run by {@link whereInstalled} sees it. */
export function asSeenThere(directory: string): string {
  const root = debianRoot();
  return root === null ? directory : `/${relative(root, directory)}`;
}

function version(): string | null {
  const { command, args } = whereInstalled('redis-server', ['--version']);
  return output(command, args);
}

async function plan({ durability, directory }: PlanOptions): Promise<ServerPlan> {
  const [port = 0] = await freePorts(1);
  // Snapshots are off, since the append-only file is there; they would cost it time.
  const settings = {
    bind: LOOPBACK,
    port: String(port),
    dir: asSeenThere(directory),
    appendonly: 'yes',
    appendfsync: durability === 'fsync' ? 'always' : 'everysec',
    save: '',
    'maxmemory-policy': 'noeviction',
  };
  const args = Object.entries(settings).flatMap(([name, value]) => [`--${name}`, value]);
  return {
    address: { host: LOOPBACK, port },
    launch: { ...whereInstalled('redis-server', args), env: {} },
    configuration: Object.entries(settings)
      .map(([name, value]) => `${name} ${value === '' ? '""' : value}`)
      .join('\n'),
    prepare: () => Promise.resolve(),
  };
}
