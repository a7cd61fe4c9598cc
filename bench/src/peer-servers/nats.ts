/** NATS with JetStream. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { LOOPBACK, freePorts } from './free-ports.ts';
import { HOW_TO_FETCH, cached, output } from './peer-cache.ts';
import type { PlanOptions, ServerKind, ServerPlan } from './server-kind.ts';

export const nats: ServerKind = {
  name: 'nats',
  durabilities: ['fsync', 'no-fsync'],
  missing: () => (output(command(), ['--version']) === null ? `nats-server is not there: ${HOW_TO_FETCH}` : null),
  version: () => output(command(), ['--version']) ?? '',
  plan,
};

function command(): string {
  const found = cached('nats');
  return found === null ? 'nats-server' : join(found.path, 'nats-server');
}

async function plan({ durability, directory }: PlanOptions): Promise<ServerPlan> {
  const [port = 0] = await freePorts(1);
  // Its default is to sync every two minutes.
  const sync = durability === 'fsync' ? '  sync_interval: always\n' : '';
  const store = `  store_dir: ${JSON.stringify(join(directory, 'store'))}\n  max_file_store: 256GB\n${sync}`;
  const configuration = `listen: "${LOOPBACK}:${port}"\njetstream {\n${store}}\n`;
  const file = join(directory, 'nats.conf');
  return {
    address: { host: LOOPBACK, port },
    launch: { command: command(), args: ['-c', file], env: {} },
    configuration,
    prepare: () => writeFile(file, configuration),
  };
}
