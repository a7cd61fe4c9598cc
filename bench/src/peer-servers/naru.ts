/** Naru, as `naru start` runs it. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { LOOPBACK, freePorts } from './free-ports.ts';
import type { PlanOptions, ServerKind, ServerPlan } from './server-kind.ts';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
const CLI = join(ROOT, 'packages/cli/src/main.mjs');
const BUILD = join(ROOT, 'scripts/build.mjs');
/** At 1,000 events of 1 KiB a second, one every four seconds. */
const FREQUENT_CHECKPOINT_BYTES = '4MiB';

export const naru: ServerKind = {
  name: 'naru',
  durabilities: ['fsync', 'no-fsync'],
  missing: () => null,
  version: () => {
    const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string };
    return `${version} (${commit()}), Node ${process.version}`;
  },
  plan,
};

let isBuilt = false;

/** As `npm run build`. */
function build(): void {
  if (!isBuilt) execFileSync(process.execPath, [BUILD]);
  isBuilt = true;
}

async function plan({ durability, directory, frequentCheckpoints }: PlanOptions): Promise<ServerPlan> {
  build();
  const [port = 0] = await freePorts(1);
  const broker = {
    port,
    data: join(directory, 'data'),
    logLevel: 'warn',
    ...(durability === 'fsync' ? {} : { logging: { recoveryLog: { use: false } } }),
    ...(frequentCheckpoints ? { log: { checkpointBytes: FREQUENT_CHECKPOINT_BYTES } } : {}),
  };
  const file = join(directory, 'naru.yaml');
  const configuration = JSON.stringify({ broker });
  return {
    address: { host: LOOPBACK, port },
    launch: {
      command: process.execPath,
      // As scripts/run.mjs has it.
      args: ['--disable-warning=ExperimentalWarning', CLI, 'start', '--config', file],
      // Its own cache of compiled code, as everybody's `naru start`, not the one of the bench.
      env: { NODE_COMPILE_CACHE: '' },
    },
    configuration,
    prepare: () => writeFile(file, configuration),
  };
}

function commit(): string {
  try {
    return execFileSync('git', ['describe', '--always', '--dirty'], { cwd: ROOT, encoding: 'utf8' }).trim();
  } catch {
    return 'no commit';
  }
}
