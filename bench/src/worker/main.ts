/**
 * Entry of every worker process: opens the role that the command line names, and does what it is told until `stop`, or until
 * the process that started it is gone.
 */
import { writeFile } from 'node:fs/promises';
import { Session } from 'node:inspector/promises';
import { roles } from './roles.ts';
import type { RoleName } from './roles.ts';
import { READY_ID } from './worker-messages.ts';
import type { Role, Usage, WorkerReply, WorkerRequest } from './worker-messages.ts';

function usage(): Usage {
  const { user, system } = process.cpuUsage();
  return { cpuSeconds: (user + system) / 1e6, peakRssBytes: process.resourceUsage().maxRSS * 1024 };
}

/** A CPU profile of what is measured, and of nothing else. */
const profiler = {
  session: new Session(),
  async start(): Promise<void> {
    this.session.connect();
    await this.session.post('Profiler.enable');
    await this.session.post('Profiler.start');
  },
  async write(path: string): Promise<void> {
    const { profile } = await this.session.post('Profiler.stop');
    await writeFile(path, JSON.stringify(profile));
    this.session.disconnect();
  },
};

const builtIn: Role['commands'] = {
  usage,
  'start-profile': () => profiler.start(),
  'write-profile': (path: string) => profiler.write(path),
};

function reply(message: WorkerReply): void {
  process.send?.(message);
}

async function answer({ id, command, argument }: WorkerRequest, role: Role): Promise<void> {
  try {
    const run = builtIn[command] ?? role.commands[command];
    if (run === undefined) throw new Error(`this worker has no command ${command}`);
    reply({ id, ok: true, value: await run(argument as never) });
  } catch (error) {
    reply({ id, ok: false, error: error instanceof Error ? (error.stack ?? error.message) : String(error) });
  }
}

const [, , name, options = 'null'] = process.argv;
try {
  const open = (await roles[name as RoleName]()) as (options: unknown) => Promise<Role> | Role;
  const role = await open(JSON.parse(options));
  const stop = async (): Promise<void> => {
    await role.close();
    // With an exit rather than an end, since connections may linger; profiles are written all the same.
    process.exit();
  };
  process.on('message', (request: WorkerRequest) => void (request.command === 'stop' ? stop() : answer(request, role)));
  process.on('disconnect', () => void stop());
  reply({ id: READY_ID, ok: true, value: role.ready });
} catch (error) {
  reply({ id: READY_ID, ok: false, error: error instanceof Error ? (error.stack ?? error.message) : String(error) });
  process.exitCode = 1;
  process.disconnect();
}
